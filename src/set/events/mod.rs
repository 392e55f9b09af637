//! Event types: their URIs, the short names that people write for them, and which of them a partner may send.
//! A short name is `caep:`, `risc:`, `ssf:`, `scim:` or `bench:` and the last part of the type's URI.

mod conformance;
mod filter;

use std::borrow::Cow;

pub use conformance::{conformance, subject_conformance};
pub use filter::Filter;

use super::nearest::nearest;

const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";
const SSF: &str = "https://schemas.openid.net/secevent/ssf/event-type/";
const SCIM: &str = "urn:ietf:params:scim:event:";
/// Of `pushpull bench`: events that tell of nothing.
const BENCH: &str = "urn:pushpull:bench:";

/// The prefixes of short names and what they stand for.
const PREFIXES: [(&str, &str); 5] =
    [("caep:", CAEP), ("risc:", RISC), ("ssf:", SSF), ("scim:", SCIM), ("bench:", BENCH)];

/// The event with which a stream is verified (SSF §8.1.4.1).
pub const VERIFICATION: &str = "https://schemas.openid.net/secevent/ssf/event-type/verification";

/// The event that tells of a stream's new status (SSF §8.1.5).
pub const STREAM_UPDATED: &str = "https://schemas.openid.net/secevent/ssf/event-type/stream-updated";

macro_rules! known {
    ($($prefix:literal $base:literal [$($name:literal),+ $(,)?])+) => {
        /// Every event type of CAEP 1.0, RISC 1.0, SSF 1.0 and the SCIM events (RFC 9967): short name and URI.
        pub const KNOWN: &[(&str, &str)] = &[$($((concat!($prefix, $name), concat!($base, $name))),+),+];
    };
}

known! {
    "caep:" "https://schemas.openid.net/secevent/caep/event-type/" [
        "session-revoked",
        "token-claims-change",
        "credential-change",
        "assurance-level-change",
        "device-compliance-change",
        "session-established",
        "session-presented",
        "risk-level-change",
    ]
    "risc:" "https://schemas.openid.net/secevent/risc/event-type/" [
        "account-credential-change-required",
        "account-purged",
        "account-disabled",
        "account-enabled",
        "identifier-changed",
        "identifier-recycled",
        "credential-compromise",
        "opt-in",
        "opt-out-initiated",
        "opt-out-cancelled",
        "opt-out-effective",
        "recovery-activated",
        "recovery-information-changed",
        "sessions-revoked",
    ]
    "ssf:" "https://schemas.openid.net/secevent/ssf/event-type/" ["verification", "stream-updated"]
    "scim:" "urn:ietf:params:scim:event:" [
        "feed:add",
        "feed:remove",
        "prov:create:notice",
        "prov:create:full",
        "prov:patch:notice",
        "prov:patch:full",
        "prov:put:notice",
        "prov:put:full",
        "prov:delete",
        "prov:activate",
        "prov:deactivate",
        "misc:asyncresp",
    ]
}

/// The URI of an event type that is given by its short name or by its URI; `None` if the text is neither.
///
/// A short name need not be a known one: profiles grow. A URI is one with `://` in it, a `urn:` or a `tag:`, so that a
/// misspelt prefix is not taken for a scheme.
pub fn expand(name: &str) -> Option<String> {
    full(name).map(Cow::into_owned)
}

/// The same, made only if nobody knows it yet.
pub(super) fn full(name: &str) -> Option<Cow<'_, str>> {
    if !name.bytes().all(is_uri_byte) {
        return None;
    }
    match split_short(name) {
        Some((_, "")) => None,
        Some((base, last)) => {
            let known = KNOWN.iter().find(|(short, _)| *short == name);
            Some(known.map_or_else(|| Cow::Owned(format!("{base}{last}")), |(_, uri)| Cow::Borrowed(*uri)))
        }
        None => is_full(name).then_some(Cow::Borrowed(name)),
    }
}

/// Short name and URI of a type that is one of [`KNOWN`] by either.
pub(super) fn known(name: &str) -> Option<(&'static str, &'static str)> {
    KNOWN.iter().find(|(short, uri)| *uri == name || *short == name).copied()
}

/// Whether a full URI is one of [`KNOWN`].
pub fn is_known(uri: &str) -> bool {
    KNOWN.iter().any(|(_, known)| *known == uri)
}

/// The word by which an event type is counted: its short name if it is one of [`KNOWN`], else `other`. Of several the
/// first counts.
pub fn label<'a>(mut types: impl Iterator<Item = &'a str>) -> &'static str {
    let known = types.next().and_then(|uri| KNOWN.iter().find(|(_, known)| *known == uri));
    known.map_or("other", |(short, _)| short)
}

/// The short name of an event type's URI, or the URI itself where there is none.
pub fn shorten(uri: &str) -> Cow<'_, str> {
    for (prefix, base) in PREFIXES {
        if let Some(last) = uri.strip_prefix(base)
            && !last.is_empty()
        {
            return Cow::Owned(format!("{prefix}{last}"));
        }
    }
    Cow::Borrowed(uri)
}

/// The short name of the known event type that was probably meant, if this is not one already.
pub fn suggest(name: &str) -> Option<&'static str> {
    let short = shorten(name);
    if KNOWN.iter().any(|(known, _)| *known == short) {
        return None;
    }
    // Who leaves the prefix or the last part out has still named the event, whatever else is spelt alike.
    KNOWN
        .iter()
        .find(|(known, _)| {
            known.split_once(':').is_some_and(|(_, last)| last == short)
                || short.contains(':') && known.strip_prefix(&*short).is_some_and(|rest| rest.starts_with(':'))
        })
        .map(|(known, _)| *known)
        .or_else(|| nearest(&short, KNOWN.iter().map(|(known, _)| *known)))
}

/// The base that a short name's prefix stands for, and the rest of the name.
fn split_short(name: &str) -> Option<(&'static str, &str)> {
    PREFIXES.iter().find_map(|(prefix, base)| name.strip_prefix(prefix).map(|last| (*base, last)))
}

/// Whether this is a URI and not a short name.
fn is_full(name: &str) -> bool {
    let Some((scheme, rest)) = name.split_once(':') else { return false };
    let scheme_is_one = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    let rest_says_so = match rest.strip_prefix("//") {
        Some(authority) => !authority.is_empty(),
        None => ["urn", "tag"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) && !rest.is_empty(),
    };
    scheme_is_one && rest_says_so
}

/// The characters of a URI (RFC 3986 §2), without the `*` that would make it a pattern.
fn is_uri_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()+,;=%".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_and_uris_stand_for_each_other() {
        for (short, uri) in KNOWN {
            assert_eq!(expand(short).as_deref(), Some(*uri));
            assert_eq!(expand(uri).as_deref(), Some(*uri));
            assert_eq!(shorten(uri), *short);
            assert_eq!(suggest(short), None);
            assert_eq!(suggest(uri), None);
        }
        assert_eq!(KNOWN.len(), 8 + 14 + 2 + 12);
        assert_eq!(expand("ssf:verification").as_deref(), Some(VERIFICATION));
        assert_eq!(expand("ssf:stream-updated").as_deref(), Some(STREAM_UPDATED));
    }

    #[test]
    fn names_that_nobody_knows_yet_expand_all_the_same() {
        assert_eq!(expand("caep:brand-new").as_deref(), Some(&*format!("{CAEP}brand-new")));
        assert_eq!(expand("bench:load").as_deref(), Some("urn:pushpull:bench:load"));
        for uri in ["https://events.example/types/x", "urn:example:event", "tag:example.com,2026:event"] {
            assert_eq!(expand(uri).as_deref(), Some(uri));
            assert_eq!(shorten(uri), uri);
        }
        assert_eq!(shorten(CAEP), CAEP);
    }

    #[test]
    fn what_is_neither_a_short_name_nor_a_uri_does_not_expand() {
        for name in [
            "",
            "session-revoked",
            "cape:session-revoked",
            "CAEP:session-revoked",
            "caep:",
            "caep:*",
            "caep:session revoked",
            "https://",
            "urn:",
            "://x",
            "caep:séance",
            "https://events.example/\n",
        ] {
            assert_eq!(expand(name), None, "{name:?}");
        }
    }

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        for (name, meant) in [
            ("cape:session-revoked", "caep:session-revoked"),
            ("caep:session-revokd", "caep:session-revoked"),
            ("session-revoked", "caep:session-revoked"),
            ("account-purged", "risc:account-purged"),
            ("caep:sessions-revoked", "caep:session-revoked"),
            ("https://schemas.openid.net/secevent/caep/event-type/session_revoked", "caep:session-revoked"),
            ("scim:prov:create", "scim:prov:create:notice"),
        ] {
            assert_eq!(suggest(name), Some(meant), "{name}");
        }
        assert_eq!(suggest("caep:something-entirely-different"), None);
        assert_eq!(suggest("https://events.example/types/x"), None);
        assert_eq!(suggest(&"x".repeat(100_000)), None);
    }
}

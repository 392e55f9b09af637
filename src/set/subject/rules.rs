//! The formats with string members, and the syntax that their values have to follow when we are the one who sends.

use std::net::IpAddr;

/// The formats whose members are all required strings. `aliases`, `ip-addresses` and `complex` are built otherwise.
pub(super) const FORMATS: &[(&str, &[&str])] = &[
    ("account", &["uri"]),
    ("email", &["email"]),
    ("iss_sub", &["iss", "sub"]),
    ("opaque", &["id"]),
    ("phone_number", &["phone_number"]),
    ("did", &["url"]),
    ("uri", &["uri"]),
    ("jwt_id", &["iss", "jti"]),
    ("saml_assertion_id", &["issuer", "assertion_id"]),
];

/// What this value should have been, if it is not.
pub(super) fn syntax_fault(format: &str, member: &str, text: &str) -> Option<&'static str> {
    let (fits, fault) = match (format, member) {
        ("account", _) => (is_acct(text), "an `acct:` URI (RFC 7565) such as acct:user@example.com"),
        ("email", _) => (is_addr_spec(text), "a bare address (RFC 5322 addr-spec) such as user@example.com"),
        ("iss_sub", _) | ("jwt_id", "iss") => {
            (is_string_or_uri(text), "a URI if it has a colon in it (RFC 7519 StringOrURI)")
        }
        ("phone_number", _) => (is_e164(text), "E.164: a plus sign and up to 15 digits, with nothing between them"),
        ("did", _) => (is_did_url(text), "a DID URL such as did:example:123456"),
        ("uri", _) => (is_uri(text), "a URI (RFC 3986)"),
        ("ip-addresses", _) => (text.parse::<IpAddr>().is_ok(), "an IPv4 or IPv6 address"),
        _ => (true, ""),
    };
    (!fits).then_some(fault)
}

/// The known format that this unknown one is a spelling of; specifications themselves have `phone` and `iss-sub`.
pub(super) fn misspelt(format: &str) -> Option<&'static str> {
    let plain = |name: &str| name.to_ascii_lowercase().replace('-', "_");
    let written = plain(format);
    if written == "phone" {
        return Some("phone_number");
    }
    let known = FORMATS.iter().map(|(name, _)| *name).chain(["aliases", "ip-addresses", "complex"]);
    known.into_iter().find(|name| plain(name) == written && *name != format)
}

/// A name for use in an error text. One that is not made like a name might be a value that strayed there.
pub(super) fn named(name: &str) -> &str {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let looks_it =
        name.len() <= 32 && name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.bytes().all(is_plain);
    if looks_it { name } else { "…" }
}

/// RFC 7565 §7: `acct:` userpart `@` host.
fn is_acct(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let Some((user, host)) = rest.rsplit_once('@') else { return false };
    let part = |part: &str| !part.is_empty() && is_made_of(part, &ACCT);
    scheme.eq_ignore_ascii_case("acct")
        && part(user)
        && part(host.split(':').next().unwrap_or_default())
        && host.split_once(':').is_none_or(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The shape of RFC 5322 §3.4.1 addr-spec, without comments and folding, with the UTF-8 of RFC 6532.
fn is_addr_spec(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let is_atom = |atom: &str| {
        !atom.is_empty()
            && atom.chars().all(|c| {
                c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || (!c.is_ascii() && !c.is_control())
            })
    };
    let is_dot_atom = |text: &str| text.split('.').all(is_atom);
    let is_quoted = |text: &str| {
        text.len() > 2 && text.starts_with('"') && text.ends_with('"') && text.chars().all(|c| !c.is_control())
    };
    let is_literal = |text: &str| text.len() > 2 && text.starts_with('[') && text.ends_with(']') && !text.contains(' ');
    (is_dot_atom(local) || is_quoted(local)) && (is_dot_atom(domain) || is_literal(domain))
}

/// RFC 7519 §2 StringOrURI.
fn is_string_or_uri(text: &str) -> bool {
    !text.contains(':') || is_uri(text)
}

/// E.164 with a plus sign; fifteen digits at most, the first of them not nought.
fn is_e164(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        (2..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0')
    })
}

/// The DID syntax of DID Core §3.1 and whatever path, query and fragment follow (§3.2).
fn is_did_url(text: &str) -> bool {
    let Some((method, rest)) = text.strip_prefix("did:").and_then(|rest| rest.split_once(':')) else { return false };
    let id = rest.split(['/', '?', '#']).next().unwrap_or_default();
    !method.is_empty()
        && method.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        && !id.is_empty()
        && !id.ends_with(':')
        && is_made_of(id, &DID)
        && is_uri(text)
}

/// The shape of RFC 3986 §3: a scheme, a colon, and none but the characters of URIs.
fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
        && rest.matches('#').count() <= 1
        && is_made_of(rest, &URI)
}

/// Which bytes are letters, digits or some marks.
type Bytes = [bool; 256];

static ACCT: Bytes = bytes(b"-._~!$&'()*+,;=");
static DID: Bytes = bytes(b".-_:");
static URI: Bytes = bytes(b"-._~:/?#[]@!$&'()*+,;=");

const fn bytes(marks: &[u8]) -> Bytes {
    let mut table = [false; 256];
    let mut byte: u8 = 0;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut n = 0;
    while n < marks.len() {
        table[marks[n] as usize] = true;
        n += 1;
    }
    table
}

/// Whether all of the text is bytes of the table and whole percent-encodings.
fn is_made_of(text: &str, table: &Bytes) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let fits = match byte {
            b'%' => (0..2).all(|_| bytes.next().is_some_and(|digit| digit.is_ascii_hexdigit())),
            _ => table[usize::from(byte)],
        };
        if !fits {
            return false;
        }
    }
    true
}

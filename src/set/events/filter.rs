//! Which event types pass, by the patterns of a partner's `send` and `accept`.

use super::{expand, is_uri_byte, split_short, suggest};

/// A choice of event types: short names, URIs, and globs over either in which `*` stands for any run of characters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Filter {
    /// Patterns over whole URIs; `None` lets everything pass.
    patterns: Option<Vec<String>>,
}

impl Filter {
    /// The filter that everything passes, for when no list is given at all.
    pub fn all() -> Self {
        Self { patterns: None }
    }

    /// A filter that passes what any of the patterns matches; with an empty list, nothing.
    ///
    /// # Errors
    ///
    /// A text that names the pattern that is neither a short name nor a URI nor a glob over them, and what may have
    /// been meant.
    pub fn new(patterns: &[String]) -> Result<Self, String> {
        if patterns.iter().any(|pattern| pattern == "*") {
            return Ok(Self::all());
        }
        let patterns = patterns.iter().map(|pattern| over_uris(pattern)).collect::<Result<_, _>>()?;
        Ok(Self { patterns: Some(patterns) })
    }

    /// Whether events of this type pass.
    pub fn allows(&self, uri: &str) -> bool {
        match &self.patterns {
            None => true,
            Some(patterns) => patterns.iter().any(|pattern| matches(pattern.as_bytes(), uri.as_bytes())),
        }
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self::all()
    }
}

/// The pattern with a short name's prefix written out.
fn over_uris(pattern: &str) -> Result<String, String> {
    let written_out = if pattern.contains('*') { expand_glob(pattern) } else { expand(pattern) };
    written_out.ok_or_else(|| {
        let mut text = format!(
            "{pattern:?} is no event type: write a short name such as \"caep:session-revoked\", a URI, or a pattern \
             such as \"caep:*\""
        );
        if let Some(meant) = suggest(pattern) {
            text.push_str(&format!("; did you mean \"{meant}\"?"));
        }
        text
    })
}

fn expand_glob(pattern: &str) -> Option<String> {
    if !pattern.bytes().all(|byte| byte == b'*' || is_uri_byte(byte)) {
        return None;
    }
    if let Some((base, last)) = split_short(pattern) {
        return Some(format!("{base}{last}"));
    }
    // Only what could begin a URI, lest `cape:*` pass for a pattern that happens to match nothing.
    let open = pattern.starts_with('*') || pattern.contains("://") || pattern.starts_with("urn:");
    open.then(|| pattern.to_owned())
}

/// Glob matching without recursion: after a mismatch only the last `*` needs to be tried anew.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p, t));
                p += 1;
            }
            Some(expected) if expected == byte => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((star, from)) = retry else { return false };
                retry = Some((star, from + 1));
                p = star + 1;
                t = from + 1;
            }
        }
    }
    pattern.iter().skip(p).all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::super::KNOWN;
    use super::*;

    fn filter(patterns: &[&str]) -> Result<Filter, String> {
        Filter::new(&patterns.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    fn passes(patterns: &[&str], name: &str) -> bool {
        filter(patterns).unwrap().allows(&expand(name).unwrap())
    }

    #[test]
    fn without_a_list_everything_passes_and_with_an_empty_one_nothing() {
        for (_, uri) in KNOWN {
            assert!(Filter::all().allows(uri) && Filter::default().allows(uri));
            assert!(filter(&["*"]).unwrap().allows(uri));
            assert!(!filter(&[]).unwrap().allows(uri));
        }
    }

    #[test]
    fn names_uris_and_globs_choose() {
        assert!(passes(&["caep:session-revoked"], "caep:session-revoked"));
        assert!(!passes(&["caep:session-revoked"], "caep:session-presented"));
        assert!(passes(
            &["https://schemas.openid.net/secevent/caep/event-type/session-revoked"],
            "caep:session-revoked"
        ));
        assert!(passes(&["risc:*", "caep:*"], "caep:anything"));
        assert!(!passes(&["caep:*"], "risc:account-purged"));
        assert!(passes(&["caep:session-*"], "caep:session-presented"));
        assert!(passes(&["scim:prov:*:full"], "scim:prov:create:full"));
        assert!(!passes(&["scim:prov:*:full"], "scim:prov:create:notice"));
        assert!(passes(&["*revoked"], "risc:sessions-revoked"));
        assert!(passes(&["https://events.example/*"], "https://events.example/a/b"));
        assert!(!passes(&["https://events.example/*"], "https://events.example.evil/a"));
    }

    #[test]
    fn a_pattern_that_could_never_match_is_refused_with_what_was_meant() {
        for pattern in ["", "session-revoked", "cape:*", "cape:session-revoked", "caep: *", "account"] {
            let text = filter(&["caep:*", pattern]).unwrap_err();
            assert!(text.starts_with(&format!("{pattern:?} is no event type")), "{text}");
        }
        let text = filter(&["cape:session-revoked"]).unwrap_err();
        assert!(text.ends_with("did you mean \"caep:session-revoked\"?"), "{text}");
    }

    #[test]
    fn globs_match_as_a_whole() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("**", "abc", true),
            ("a*c", "abc", true),
            ("a*c", "abcd", false),
            ("a*b*c", "aXbYbZc", true),
            ("*ab", "aab", true),
            ("a*", "ba", false),
            ("*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }
}

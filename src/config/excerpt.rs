//! The line a fault stands on, with the place marked, as far as it can be shown: errors end up in logs and tickets, so
//! a value that may hold a secret is left out.

use std::ops::Range;

use crate::set::acts_on_display;

use super::problem::Excerpt;
use super::sections;

/// Longer lines are cut: they would only wrap.
const CHARS_MAX: usize = 120;

/// Keys whose values may hold a secret, be it by mistake: a token, or a password in a URL.
const DISCREET: [&str; 6] = ["token", "endpoint", "jwks_uri", "issuer", "url", "audience"];

/// The line of the text in which this span begins.
pub(super) fn of(text: &str, span: &Range<usize>) -> Option<Excerpt> {
    let before = text.get(..span.start)?;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[start..].lines().next().unwrap_or_default();
    let indent = before[start..].chars().count();
    let width = text.get(span.clone()).and_then(|meant| meant.lines().next()).unwrap_or_default().chars().count();
    let shown: String = match line.split_once('=') {
        None if is_heading(line) => line.to_owned(),
        Some((key, value)) if is_harmless(key) && !value.contains('{') => line.to_owned(),
        Some((key, _)) => format!("{key}= …"),
        None => return None,
    };
    let shown: String = shown.chars().map(|c| if acts_on_display(c) { ' ' } else { c }).take(CHARS_MAX).collect();
    // What is marked may have been left out: then the ellipsis stands for it.
    let last = shown.chars().count().saturating_sub(1);
    let indent = indent.min(last);
    Some(Excerpt { width: width.clamp(1, last - indent + 1), indent, text: shown })
}

fn is_heading(line: &str) -> bool {
    let line = line.trim();
    line.starts_with('[') && line.chars().all(|c| c.is_ascii_alphanumeric() || "[]._- ".contains(c))
}

fn is_harmless(key: &str) -> bool {
    let key = key.trim();
    !DISCREET.contains(&key) && sections::all().iter().any(|(_, keys)| keys.contains(&key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, meant: &str) -> Option<(String, String)> {
        let start = text.find(meant).expect("it is in the text");
        let excerpt = of(text, &(start..start + meant.len()))?;
        Some((excerpt.text, format!("{:indent$}{}", "", "^".repeat(excerpt.width), indent = excerpt.indent)))
    }

    #[test]
    fn the_place_is_marked_in_its_line() {
        let text = "[log]\n\tlevel = 5\n";
        assert_eq!(shown(text, "5"), Some((" level = 5".to_owned(), "         ^".to_owned())));
        assert_eq!(shown(text, "level"), Some((" level = 5".to_owned(), " ^^^^^".to_owned())));
        assert_eq!(shown(text, "[log]"), Some(("[log]".to_owned(), "^^^^^".to_owned())));
    }

    #[test]
    fn what_may_be_a_secret_is_left_out() {
        for line in [
            "token = \"s3cret\"",
            "tokken = \"s3cret\"",
            "endpoint = \"wss://a:s3cret@b.example\"",
            "peer = [{ name = \"s3cret\" }]",
            "name = { x = \"s3cret\" }",
        ] {
            let (text, marks) = shown(line, "s3cret").expect("the key is shown");
            assert!(!text.contains("s3cret") && text.ends_with("= …"), "{text}");
            assert_eq!(marks.trim(), "^", "{text}");
        }
        for line in ["s3cret", "[\"s3cret\"]", "  \"s3cret\","] {
            assert_eq!(shown(line, "s3cret"), None, "{line}");
        }
    }

    #[test]
    fn what_would_steer_a_terminal_is_not_shown() {
        let (text, _) = shown("name = \"\u{1b}[2Jx\"", "x").expect("it is shown");
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}

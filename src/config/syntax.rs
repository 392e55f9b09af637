//! Which of the reader's complaints about the syntax are worth telling: one slip makes it stumble again and again.

use std::ops::Range;

/// So many at most: what has more of them is no configuration.
const FAULTS_MAX: usize = 100;

/// How the reader says that a key or section stands there twice.
const DUPLICATE: &str = "duplicate key";

/// The faults and where they stand, one a line. A list that is never closed takes all that follows for its items, so of it
/// only the beginning is told; below a heading that is none, keys may meet others of their name in the section before.
pub(super) fn told(text: &str, errors: &[toml::de::Error]) -> Vec<(Range<usize>, String)> {
    let one = |error: &toml::de::Error| (error.span().unwrap_or_default(), error.message().to_owned());
    let mut told: Vec<_> = errors.iter().take(FAULTS_MAX).map(one).collect();
    told.sort_by_key(|(span, _)| span.start);
    if let Some((end, message)) = told.iter().find(|(_, message)| is_unclosed_list(message)).cloned() {
        let first = told.iter().find(|(_, message)| message.contains("array"));
        let first = first.map_or(end.start, |(span, _)| span.start);
        let before = text.get(..first).unwrap_or(text);
        let is_value = |at: &usize| before[..*at].trim_end().ends_with('=');
        let opens = before.rmatch_indices('[').map(|(at, _)| at).find(is_value).unwrap_or(first);
        told.retain(|(span, _)| span.start < opens);
        told.push((opens..opens + 1, message));
    }
    let on_heading = |(span, message): &(Range<usize>, String)| {
        let start = line_start(text, span.start);
        (message != DUPLICATE && text[start..].starts_with('[')).then_some(start)
    };
    let torn: Vec<usize> = told.iter().filter_map(on_heading).collect();
    told.retain(|(span, message)| {
        message != DUPLICATE || heading(text, span.start).is_none_or(|at| !torn.contains(&at))
    });
    told.dedup_by_key(|(span, _)| line_start(text, span.start));
    told
}

/// Whether the reader says that a list has no end; of a heading it says "unclosed array table".
pub(super) fn is_unclosed_list(message: &str) -> bool {
    message.split(", expected ").next() == Some("unclosed array")
}

/// Where the line around a position begins.
pub(super) fn line_start(text: &str, offset: usize) -> usize {
    text.get(..offset).unwrap_or(text).rfind('\n').map_or(0, |newline| newline + 1)
}

/// Where the heading begins that a position belongs to.
fn heading(text: &str, offset: usize) -> Option<usize> {
    let start = line_start(text, offset);
    if text[start..].starts_with('[') {
        return Some(start);
    }
    text[..start].rfind("\n[").map(|newline| newline + 1).or_else(|| text.starts_with('[').then_some(0))
}

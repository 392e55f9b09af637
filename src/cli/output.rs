//! Results on stdout: a JSON document, a line, or a table for people. Everything else goes to stderr.

use std::io::{Write as _, stdout};

use serde::Serialize;

use super::Error;
use crate::set::acts_on_display;

/// Prints one line, and has it out before it returns.
pub(super) fn line(text: &str) -> Result<(), Error> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// Prints one JSON document on a line of its own.
pub(super) fn json(value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string(value).map_err(|error| Error::failed(format!("cannot write JSON: {error}")))?;
    line(&clean_json(text))
}

/// JSON that says the same and does nothing to a terminal. JSON alone escapes only some control characters.
pub(super) fn clean_json(text: String) -> String {
    // Line breaks and tabs stand between the members of a document for people.
    let acts = |c: char| acts_on_display(c) && !matches!(c, '\n' | '\t');
    if !text.contains(acts) {
        return text;
    }
    // The others stand in strings alone, where an escape means the same, and none is beyond U+FFFF.
    let one = |c: char| if acts(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    text.chars().map(one).collect()
}

/// Says something that is not the result. A terminal that is gone is no error.
pub(super) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Lines up columns under their heads, two spaces apart; numbers to the right.
pub(super) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let is_number = |cell: &str| !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit());
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([heads[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let numeric: Vec<bool> = (0..heads.len())
        .map(|column| rows.iter().any(|row| row.get(column).is_some_and(|cell| is_number(cell))))
        .collect();
    let write = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for ((cell, width), numeric) in cells.zip(&widths).zip(&numeric) {
            let padded = if *numeric { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
            line.push_str(&padded);
            line.push_str("  ");
        }
        line.trim_end().to_owned()
    };
    let head = write(&mut heads.iter().copied());
    let body = rows.iter().map(|row| write(&mut row.iter().map(String::as_str)));
    std::iter::once(head).chain(body).collect::<Vec<_>>().join("\n")
}

/// A text that came from elsewhere, safe for a terminal: what would steer it is written out.
pub(super) fn clean(text: &str) -> String {
    let one = |c: char| if acts_on_display(c) { c.escape_default().collect::<String>() } else { c.to_string() };
    text.chars().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_up_and_numbers_stand_to_the_right() {
        let rows = vec![
            vec!["globex".to_owned(), "up".to_owned(), "5".to_owned()],
            vec!["a".to_owned(), "connecting".to_owned(), "1200".to_owned()],
        ];
        let text = table(&["PEER", "LINK", "QUEUED"], &rows);
        assert_eq!(text, "PEER    LINK        QUEUED\nglobex  up               5\na       connecting    1200");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(clean("a\u{9b}2J\u{202e}b"), "a\\u{9b}2J\\u{202e}b");
    }

    #[test]
    fn json_for_a_terminal_has_no_raw_control_characters_and_means_the_same() {
        let value = serde_json::json!({"a\u{9b}": "\u{1b}[2J\u{7f}\u{9b}2J\u{202e}\u{2028}é😀\n"});
        let text = clean_json(value.to_string());
        assert!(!text.contains(acts_on_display), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("still JSON"), value);
    }
}

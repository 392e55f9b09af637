//! Which characters of a partner's text do something instead of being seen.

/// Whether a character acts on whoever displays it: a control character, C1 included (U+009B begins terminal commands
/// just as ESC does), a line separator, or one that turns the direction of the text around it.
///
/// None of these may reach a terminal or a line of the log as it is.
pub fn acts_on_display(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_is_told_from_what_is_seen() {
        for c in "\0\n\u{1b}\u{7f}\u{9b}\u{2028}\u{202e}\u{2066}\u{200f}".chars() {
            assert!(acts_on_display(c), "{c:?}");
        }
        for c in "aß中😀 \u{a0}\u{301}\u{200d}".chars() {
            assert!(!acts_on_display(c), "{c:?}");
        }
    }
}

//! The stable codes of what can go wrong: the same on the command line, in the admin API and in the log.
//!
//! A code is for programs, tickets and searches, and never changes its meaning; the text beside it may. `pushpull explain
//! CODE` and `docs/codes.md` tell what a code means, who has to act, and what to do. It knows nothing of errors' details:
//! those name the thing, what was expected and what was found, and stand where the error arises.

mod answers;
mod table;

use std::fmt;

pub use answers::{ANSWERS, Answer, answer};
pub use table::Code;

/// Who has to act on an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Who {
    /// Whoever reads it: the operator, or the application that called.
    You,
    /// The other organisation.
    Partner,
    /// Both, by talking to each other.
    Both,
    /// Nobody: it passes, or is only told.
    Nobody,
}

impl Who {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::You => "you",
            Self::Partner => "the partner",
            Self::Both => "you and the partner",
            Self::Nobody => "nobody",
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is told of a code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry {
    /// What it means.
    pub meaning: &'static str,
    /// Who has to act.
    pub who: Who,
    /// What to do, where the error itself says nothing better.
    pub remedy: &'static str,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_by_its_name_and_no_name_is_taken_twice() {
        for code in Code::ALL {
            assert_eq!(Code::find(code.as_str()), Some(*code));
        }
        assert_eq!(Code::find("no_such_code"), None);
    }

    #[test]
    fn codes_are_words_and_their_texts_are_sentences() {
        for code in Code::ALL {
            let (name, entry) = (code.as_str(), code.entry());
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            for text in [entry.meaning, entry.remedy] {
                assert!(
                    text.ends_with('.') && text.starts_with(|c: char| c.is_uppercase() || c == '`'),
                    "{name}: {text}"
                );
                assert!(!text.contains('|'), "{name}: it stands in a table: {text}");
            }
        }
    }

    #[test]
    fn the_answers_of_partners_are_the_registered_ones() {
        let registered = [
            "invalid_request",
            "invalid_key",
            "invalid_issuer",
            "invalid_audience",
            "authentication_failed",
            "access_denied",
            "invalid_state",
        ];
        assert_eq!(ANSWERS.each_ref().map(|answer| answer.err), registered);
        assert_eq!(answer("invalid_key").who, Who::You);
        assert_eq!(answer("an_answer_of_their_own").who, Who::Both);
    }
}

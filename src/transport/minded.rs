//! SETs that came to nothing although the partner is there: a few of them are minded for what they are, many show that it
//! is the partner.

use std::collections::HashSet;

use crate::set::Jti;

/// Those that left alone and came to nothing since something last went well.
#[derive(Debug, Default)]
pub(super) struct Minded(HashSet<Jti>);

/// From so many on it is not the SETs.
const MANY: usize = 8;

impl Minded {
    /// Notes one more. False if it says nothing new of the partner: the same SET again has its own pauses, and whatever else
    /// waits is none the worse for it.
    pub(super) fn note(&mut self, jti: Jti) -> bool {
        self.are_many() || self.0.insert(jti)
    }

    pub(super) fn are_many(&self) -> bool {
        self.0.len() >= MANY
    }

    /// Something went well.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_few_are_news_once_each_and_many_are_news_each_time() {
        let mut minded = Minded::default();
        for round in 0..3 {
            for number in 0..MANY - 1 {
                assert_eq!(minded.note(Jti::from(number.to_string().as_str())), round == 0);
                assert!(!minded.are_many());
            }
        }
        for _ in 0..3 {
            assert!(minded.note(Jti::from("one more")));
            assert!(minded.are_many());
        }
        minded.forget();
        assert!(!minded.are_many() && minded.note(Jti::from("0")));
    }
}

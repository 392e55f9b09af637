//! What is kept of SETs after they have left their queue, so that they can be said again.

use std::fmt;
use std::str::FromStr;

use crate::clock::Wall;
use crate::peer::OutboxRow;

/// Bytes of tokens in a leaf, about.
pub(crate) const LEAF_BYTES: usize = 4 << 20;

/// A SET that has left its queue, as it was sent.
pub type Archived = OutboxRow;

/// How much is kept of what has left its queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Keep {
    /// What left before is not.
    pub since: Wall,
    /// Bytes of it, about. With zero nothing is kept.
    pub bytes_max: u64,
    /// The disk is full: some of the oldest goes in any case.
    pub makes_room: bool,
}

/// Where to go on reading what has left its queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bookmark {
    /// Behind this `seq` of those whose row lies in the outbox still, because others of it wait. They come first: what moves
    /// on meanwhile is met again, and nothing is missed.
    Outbox(u64),
    /// In this row of the archive, behind this `seq`.
    Archive(u64, u64),
}

impl Default for Bookmark {
    fn default() -> Self {
        Self::Outbox(0)
    }
}

impl fmt::Display for Bookmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outbox(after) => write!(f, "o{after}"),
            Self::Archive(row, after) => write!(f, "a{row}-{after}"),
        }
    }
}

impl FromStr for Bookmark {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |text: &str| text.parse().map_err(|_| ());
        match text.split_at_checked(1) {
            Some(("o", after)) => Ok(Self::Outbox(number(after)?)),
            Some(("a", place)) => {
                let (row, after) = place.split_once('-').ok_or(())?;
                Ok(Self::Archive(number(row)?, number(after)?))
            }
            _ => Err(()),
        }
    }
}

/// Some of what has left its queue.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Leaf {
    /// The SETs.
    pub sets: Vec<Archived>,
    /// How many more were met that are damaged.
    pub damaged: u64,
    /// When the last one left that is not kept, or not any more; zero if all are.
    pub unkept: Wall,
    /// Where to go on; none at the end.
    pub next: Option<Bookmark>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bookmark_comes_back_from_its_text() {
        for bookmark in [Bookmark::default(), Bookmark::Outbox(7), Bookmark::Archive(u64::MAX, 3)] {
            assert_eq!(bookmark.to_string().parse(), Ok(bookmark));
        }
        for wrong in ["", "o", "a-1", "a1", "a1-", "x1", "o1 ", "7", "\u{e9}1"] {
            assert_eq!(wrong.parse::<Bookmark>(), Err(()), "{wrong:?}");
        }
    }
}

//! The newest rows of the inbox, in RAM as well as in the file: whoever reads right behind the writer need not wait for the
//! file, nor for a thread that may block on it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::peer::{InboxRow, PeerId};
use crate::store::INBOX_PAGE_BYTES_MAX;

/// Of all that is kept: as much as one reading gives, so that no bounds of its own are needed for that.
const BYTES_MAX: usize = INBOX_PAGE_BYTES_MAX;
/// What a row takes besides its texts, about.
const ROW_BYTES: usize = 200;

/// A row with its `seq`, and who sent it.
pub(super) type Received = (u64, PeerId, InboxRow);

/// Rows without a gap, up to the newest that is durable.
#[derive(Debug, Default)]
pub(super) struct Newest(Mutex<Rows>);

#[derive(Debug, Default)]
struct Rows {
    rows: VecDeque<Received>,
    bytes: usize,
}

impl Newest {
    /// Takes in what has become durable, right behind what is there.
    pub(super) fn add(&self, received: Vec<Received>) {
        let mut rows = self.lock();
        for row in received {
            rows.bytes += size(&row);
            rows.rows.push_back(row);
        }
        while rows.bytes > BYTES_MAX {
            rows.pop();
        }
    }

    /// Lets go of everything up to here: nobody is going to read it.
    pub(super) fn forget(&self, upto: u64) {
        let mut rows = self.lock();
        while rows.rows.front().is_some_and(|(seq, ..)| *seq <= upto) {
            rows.pop();
        }
        if rows.rows.is_empty() {
            // Not what a burst needed, for ever.
            *rows = Rows::default();
        }
    }

    /// Up to so many rows right behind `after`; `None` if the file has to be asked.
    pub(super) fn behind(&self, after: u64, rows_max: usize) -> Option<Vec<Received>> {
        let rows = self.lock();
        let (first, ..) = rows.rows.front()?;
        let from = usize::try_from(after.checked_add(1)?.checked_sub(*first)?).ok()?;
        let found: Vec<Received> = rows.rows.range(from.min(rows.rows.len())..).take(rows_max).cloned().collect();
        (!found.is_empty()).then_some(found)
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows {
    fn pop(&mut self) {
        if let Some(row) = self.rows.pop_front() {
            self.bytes -= size(&row);
        }
    }
}

fn size((_, _, row): &Received) -> usize {
    ROW_BYTES + row.jti.as_str().len() + row.compact.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Wall;
    use crate::set::Digest;

    fn row(seq: u64, bytes: usize) -> Received {
        let (jti, compact) = (seq.to_string().into(), "x".repeat(bytes).into());
        (seq, PeerId(1), InboxRow { jti, compact, digest: Digest::default(), received_at: Wall(1) })
    }

    fn seqs(newest: &Newest, after: u64, rows_max: usize) -> Option<Vec<u64>> {
        newest.behind(after, rows_max).map(|rows| rows.iter().map(|(seq, ..)| *seq).collect())
    }

    #[test]
    fn only_what_is_there_without_a_gap_is_given() {
        let newest = Newest::default();
        assert_eq!(seqs(&newest, 0, 9), None);
        newest.add((11..=20).map(|seq| row(seq, 10)).collect());
        assert_eq!(seqs(&newest, 9, 9), None, "the file knows of one more");
        assert_eq!(seqs(&newest, 10, 3), Some(vec![11, 12, 13]));
        assert_eq!(seqs(&newest, 18, 9), Some(vec![19, 20]));
        assert_eq!(seqs(&newest, 20, 9), None);
        assert_eq!((seqs(&newest, 99, 9), seqs(&newest, u64::MAX, 9)), (None, None));
        newest.forget(15);
        assert_eq!((seqs(&newest, 14, 9), seqs(&newest, 15, 1)), (None, Some(vec![16])));
        newest.forget(99);
        let left = newest.lock();
        assert_eq!((left.rows.capacity(), left.bytes), (0, 0));
    }

    #[test]
    fn it_keeps_no_more_than_its_share() {
        let newest = Newest::default();
        newest.add((1..=10).map(|seq| row(seq, BYTES_MAX / 4)).collect());
        assert!(newest.lock().bytes <= BYTES_MAX);
        assert_eq!(seqs(&newest, 6, 9), None);
        assert_eq!(seqs(&newest, 7, 9), Some(vec![8, 9, 10]));
    }
}

//! Several SETs in one row: each as it would lie in a row of its own, one behind the other, and then where each ends. Its key is
//! that of its last SET; the others' are the numbers before it, without a gap. So whoever reads on behind a place meets the
//! bundle in which that place is.

use super::rows::{Table, checksum};

/// SETs in a bundle at most.
pub(super) const SETS_MAX: usize = 256;
/// Bytes of their rows at most. A larger SET lies alone. With what stands behind them it is less than 64 KiB: to give back
/// more at once has the allocator of glibc tidy up each time.
const BYTES_MAX: usize = 60 << 10;
/// Bytes behind the rows at most.
const ENDS_BYTES_MAX: usize = 4 * SETS_MAX + 6;

/// A bundle in the making.
#[derive(Debug, Default)]
pub(super) struct Bundle {
    rows: Vec<u8>,
    ends: Vec<u8>,
    last: i64,
}

impl Bundle {
    /// The SET of this key can be added, with a row of about so many bytes: it is next in line, and there is room.
    pub(super) fn takes(&self, key: i64, bytes: usize) -> bool {
        let has_room = self.len() < SETS_MAX && self.rows.len() + bytes <= BYTES_MAX;
        self.len() == 0 || (key == self.last + 1 && has_room)
    }

    /// Adds the SET of this key, which has to be next in line.
    pub(super) fn push(&mut self, key: i64, put: impl FnOnce(&mut Vec<u8>)) {
        if self.len() == 0 {
            // All that may come, so that nothing is copied as it grows.
            self.rows.reserve_exact(BYTES_MAX + ENDS_BYTES_MAX);
        }
        put(&mut self.rows);
        let end = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        self.ends.extend_from_slice(&end.to_le_bytes());
        self.last = key;
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len() / 4
    }

    /// The SET of this key is in it.
    pub(super) fn covers(&self, key: i64) -> bool {
        covers(self.last, self.len(), key)
    }

    /// Its key, how many SETs are in it, and its row: that of a lone SET if there is but one. `None` if it is empty.
    pub(super) fn close(&mut self, table: Table) -> Option<(i64, usize, Vec<u8>)> {
        let Self { rows: mut row, ends, last } = std::mem::take(self);
        let size = ends.len() / 4;
        if size > 1 {
            let count = u16::try_from(size).unwrap_or(u16::MAX).to_le_bytes();
            let sum = checksum(table, last, &[&ends, &count]);
            row.extend_from_slice(&ends);
            row.extend_from_slice(&count);
            row.extend_from_slice(&sum.to_le_bytes());
        }
        (size > 0).then_some((last, size, row))
    }
}

/// A bundle of this key and so many SETs has the SET of that key.
pub(super) fn covers(last: i64, size: usize, key: i64) -> bool {
    key <= last && last - key < i64::try_from(size).unwrap_or(0)
}

/// The rows in a bundle. They have checksums of their own; here it is only made sure of where each one is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Members<'a> {
    rows: &'a [u8],
    ends: &'a [[u8; 4]],
}

impl<'a> Members<'a> {
    /// `None` if this is no bundle, or one of which nobody knows any more what is where.
    pub(super) fn open(table: Table, key: i64, row: &'a [u8]) -> Option<Self> {
        let (members, count, sum) = Self::divide(row)?;
        let is_whole = checksum(table, key, &[members.ends.as_flattened(), count]).to_le_bytes() == *sum;
        is_whole.then_some(members)
    }

    /// How many there would be, if the checksum were right; `None` if it makes no sense either.
    pub(super) fn guess(row: &'a [u8]) -> Option<usize> {
        let (members, ..) = Self::divide(row)?;
        let mut ends = members.ends.iter().map(|end| u32::from_le_bytes(*end) as usize);
        (ends.clone().is_sorted() && ends.next_back() == Some(members.rows.len())).then_some(members.len())
    }

    fn divide(row: &'a [u8]) -> Option<(Self, &'a [u8; 2], &'a [u8; 4])> {
        let (row, sum) = row.split_last_chunk::<4>()?;
        let (row, count) = row.split_last_chunk::<2>()?;
        let size = usize::from(u16::from_le_bytes(*count));
        let (rows, ends) = row.split_at_checked(row.len().checked_sub(4 * size)?)?;
        (2..=SETS_MAX).contains(&size).then_some((Self { rows, ends: ends.as_chunks().0 }, count, sum))
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The row of this one, counted from zero. Empty, and so a damaged one, if the bundle makes no sense.
    pub(super) fn row(&self, index: usize) -> &'a [u8] {
        let end = |index: usize| self.ends.get(index).map(|end| u32::from_le_bytes(*end) as usize);
        let begin = index.checked_sub(1).map_or(Some(0), end);
        begin.zip(end(index)).and_then(|(begin, end)| self.rows.get(begin..end)).unwrap_or_default()
    }
}

/// Which SETs of a bundle are not in it any more, by their places, counted from zero.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Gone([u64; SETS_MAX / 64]);

impl Gone {
    pub(super) fn has(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    pub(super) fn add(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(super) fn to_bytes(self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let words: [[u8; 8]; SETS_MAX / 64] = words.try_into().ok()?;
        rest.is_empty().then_some(Self(words.map(u64::from_le_bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(sizes: &[usize]) -> (i64, usize, Vec<u8>) {
        let mut bundle = Bundle::default();
        for (key, size) in (100..).zip(sizes) {
            assert!(bundle.takes(key, *size));
            bundle.push(key, |rows| rows.extend(std::iter::repeat_n(b'x', *size)));
        }
        bundle.close(Table::OutboxBundle).unwrap()
    }

    #[test]
    fn members_are_found_where_they_were_put() {
        let sizes = [3, 0, 700, 1];
        let (key, size, row) = bundle(&sizes);
        assert_eq!((key, size), (103, 4));
        let members = Members::open(Table::OutboxBundle, key, &row).unwrap();
        assert_eq!(Vec::from_iter((0..members.len()).map(|index| members.row(index).len())), sizes);
        assert!(members.row(4).is_empty());
        assert!(Members::open(Table::InboxBundle, key, &row).is_none(), "another table");
        assert!(Members::open(Table::OutboxBundle, key + 1, &row).is_none(), "another place");
        assert_eq!((Members::guess(&row), Members::guess(&row[1..])), (Some(4), None));
        assert_eq!(bundle(&[5]), (100, 1, b"xxxxx".to_vec()), "one lies alone");
        assert_eq!(Bundle::default().close(Table::OutboxBundle), None);
    }

    #[test]
    fn a_bundle_takes_what_is_next_in_line_while_there_is_room() {
        let mut bundle = Bundle::default();
        assert!(bundle.takes(7, usize::MAX), "whatever it is");
        bundle.push(7, |rows| rows.push(0));
        assert!(bundle.takes(8, BYTES_MAX - 1) && !bundle.takes(8, BYTES_MAX) && !bundle.takes(9, 1));
        (8..7 + SETS_MAX as i64).for_each(|key| bundle.push(key, |_| ()));
        assert!(!bundle.takes(7 + SETS_MAX as i64, 1));
        assert!(bundle.covers(7) && bundle.covers(6 + SETS_MAX as i64));
        assert!(!bundle.covers(6) && !bundle.covers(7 + SETS_MAX as i64));
    }

    #[test]
    fn a_flipped_bit_or_a_cut_behind_the_rows_is_noticed() {
        let sizes = [30, 40, 50];
        let (key, _, row) = bundle(&sizes);
        let rows: usize = sizes.iter().sum();
        for bit in rows * 8..row.len() * 8 {
            let mut flipped = row.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Members::open(Table::OutboxBundle, key, &flipped).is_none(), "bit {bit}");
        }
        for len in 0..row.len() {
            assert!(Members::open(Table::OutboxBundle, key, &row[..len]).is_none(), "cut to {len}");
        }
    }

    #[test]
    fn what_is_gone_comes_back_as_it_was_written() {
        let mut gone = Gone::default();
        [0, 63, 64, 255, 63].into_iter().for_each(|index| gone.add(index));
        gone.add(256);
        assert_eq!(Gone::from_bytes(&gone.to_bytes()), Some(gone));
        assert_eq!((gone.count(), gone.has(63), gone.has(62), gone.has(256)), (4, true, false, false));
        assert_eq!((Gone::from_bytes(&[0; 31]), Gone::from_bytes(&[0; 33])), (None, None));
    }
}

//! A blocked Bloom filter: one cache line a look-up, so that asking a hundred segments stays cheap.

use super::Key;

/// Words of 64 bits in a line of 512; a key sets one bit in each.
const WORDS: usize = 8;
/// Entries a line, which makes 16 bits for each and about one false "maybe" in a thousand.
const ENTRIES_PER_LINE: usize = 32;

/// One cache line.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(align(64))]
struct Line([u64; WORDS]);

/// Says of a key "certainly not in here" or "maybe". Keys are uniformly random, so their own bits are the hash.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Filter(Vec<Line>);

impl Filter {
    /// An empty filter for so many entries.
    pub(super) fn new(entries: usize) -> Self {
        Self(vec![Line::default(); entries.div_ceil(ENTRIES_PER_LINE).max(1)])
    }

    /// The filter that was saved as these bytes.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let (lines, left) = words.as_chunks::<WORDS>();
        (rest.is_empty() && left.is_empty() && !lines.is_empty()).then_some(())?;
        Some(Self(lines.iter().map(|line| Line(line.map(u64::from_le_bytes))).collect()))
    }

    /// For saving.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|line| line.0).flat_map(u64::to_le_bytes).collect()
    }

    pub(super) fn insert(&mut self, key: Key) {
        let place = self.place(key);
        if let Some(line) = self.0.get_mut(place) {
            for (word, bit) in line.0.iter_mut().zip(bits(key)) {
                *word |= bit;
            }
        }
    }

    /// False: the key was never inserted.
    pub(super) fn may_hold(&self, key: Key) -> bool {
        self.0
            .get(self.place(key))
            .is_some_and(|line| line.0.iter().zip(bits(key)).fold(true, |all, (word, bit)| all & (word & bit != 0)))
    }

    /// Bytes in memory.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.0.len() * size_of::<Line>()
    }

    fn place(&self, key: Key) -> usize {
        let scaled = (u128::from(key.low()) * self.0.len() as u128) >> 64;
        usize::try_from(scaled).unwrap_or(0)
    }
}

/// One bit for each word, from the half of the key that does not choose the line.
fn bits(key: Key) -> impl Iterator<Item = u64> {
    let high = key.high();
    (0..WORDS).map(move |word| 1 << ((high >> (6 * word)) & 63))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::set::Digest;

    fn key(number: u32) -> Key {
        Key(Digest::of(&number.to_le_bytes()).0)
    }

    #[test]
    fn what_was_inserted_is_found_and_little_else_even_after_saving() {
        let mut filter = Filter::new(20_000);
        (0..20_000).for_each(|number| filter.insert(key(number)));
        let filter = Filter::from_bytes(&filter.to_bytes()).unwrap();
        assert!((0..20_000).all(|number| filter.may_hold(key(number))));
        let wrong = (20_000..60_000).filter(|&number| filter.may_hold(key(number))).count();
        assert!(wrong < 120, "{wrong} of 40,000 unknown keys are held for known");
        assert_eq!(filter.size(), 20_000 * 2, "sixteen bits an entry");
    }

    #[test]
    fn bytes_of_the_wrong_length_are_no_filter() {
        assert_eq!(Filter::from_bytes(&[]), None);
        assert_eq!(Filter::from_bytes(&[0; 63]), None);
        assert_eq!(Filter::from_bytes(&[0; 72]), None);
        assert!(Filter::from_bytes(&[0; 128]).is_some());
    }
}

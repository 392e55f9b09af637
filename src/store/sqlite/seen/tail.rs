//! The newest memory of jtis, in RAM: a stream of entries as it also stands in the log, and maps into it. In small pieces,
//! since it is filled and emptied as long as the process lives: the holes that megabytes leave stay with the allocator.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::hint::black_box;

use super::{Hashed, Key, entry};
use crate::peer::Remembered;
use crate::store::sqlite::rows::Cursor;

/// Room of a piece of the stream.
const PIECE: usize = 64 << 10;
/// No entry begins behind this place of a piece, so that nearly all end within its room.
const BEGIN_MAX: usize = PIECE - (1 << 10);
/// With so many bytes it is time to seal whatever the number of entries: refusals may be long.
const BYTES_MAX: usize = 16 << 20;

/// Parts of the map of what is filled by many transactions: one for each first byte of a key.
const PARTS: usize = 256;

/// Entries by key; of several with one key the newest counts.
#[derive(Debug)]
pub(crate) struct Tail {
    /// By key, evenly: where its newest entry begins.
    parts: Vec<Part>,
    pieces: Vec<Vec<u8>>,
    /// In all pieces.
    bytes: usize,
    /// Keys in all parts.
    len: usize,
}

type Part = HashMap<Key, Place, BuildHasherDefault<Hashed>>;

/// The number of a piece in the upper half, and a place in it in the lower one.
pub(super) type Place = u32;

impl Default for Tail {
    fn default() -> Self {
        Self::of_transaction(0)
    }
}

impl Tail {
    /// For the entries of one transaction, about so many.
    pub(crate) fn of_transaction(entries: usize) -> Self {
        let part = Part::with_capacity_and_hasher(entries, BuildHasherDefault::default());
        Self { parts: vec![part], pieces: Vec::new(), bytes: 0, len: 0 }
    }

    /// An empty one with room for so many entries, so that it need not be rebuilt while it fills.
    pub(super) fn with_capacity(entries: usize) -> Self {
        let part = || Part::with_capacity_and_hasher(entries.div_ceil(PARTS), BuildHasherDefault::default());
        Self { parts: std::iter::repeat_with(part).take(PARTS).collect(), pieces: Vec::new(), bytes: 0, len: 0 }
    }

    pub(crate) fn insert(&mut self, key: Key, remembered: &Remembered) {
        self.write(key, |piece| entry::put(piece, key, remembered));
    }

    /// Adds a stream of entries, in their order; `None` if it is malformed.
    pub(crate) fn append(&mut self, stream: &[u8]) -> Option<()> {
        let mut cursor = Cursor(stream);
        while !cursor.0.is_empty() {
            let (key, whole, _) = entry::next(&mut cursor)?;
            self.write(key, |piece| piece.extend_from_slice(whole));
        }
        Some(())
    }

    /// The keys of all entries ever added, in their order.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        self.pieces.iter().flat_map(|piece| {
            let mut cursor = Cursor(piece);
            std::iter::from_fn(move || entry::next(&mut cursor).map(|(key, ..)| key))
        })
    }

    /// All entries ever added, in their order: a stream when they are put together.
    pub(crate) fn pieces(&self) -> &[Vec<u8>] {
        &self.pieces
    }

    pub(crate) fn get(&self, key: Key) -> Option<Remembered> {
        let place = *self.parts.get(self.part(key))?.get(&key)?;
        self.whole(place).and_then(|(_, contents)| entry::decode(contents))
    }

    /// Looks where these keys stand or will stand. That is seldom in the processor's cache: what is done with one key after the
    /// other waits for memory each time, so short a loop as this for many at once.
    pub(super) fn reach(&self, keys: impl Iterator<Item = Key>) {
        let known = keys.filter(|key| self.parts.get(self.part(*key)).is_some_and(|part| part.contains_key(key)));
        black_box(known.count());
    }

    /// The same with entries.
    pub(super) fn reach_entries(&self, places: impl Iterator<Item = Place>) {
        let first = |place: Place| self.pieces.get((place >> 16) as usize)?.get((place & 0xffff) as usize);
        black_box(places.filter_map(first).fold(0, |all, byte| all ^ byte));
    }

    /// The entry at this place: the whole of its bytes, and its contents.
    pub(super) fn whole(&self, place: Place) -> Option<(&[u8], &[u8])> {
        let (piece, begin) = ((place >> 16) as usize, (place & 0xffff) as usize);
        let entries = self.pieces.get(piece)?.get(begin..)?;
        entry::next(&mut Cursor(entries)).map(|(_, whole, contents)| (whole, contents))
    }

    /// The keys that begin with this byte and where their newest entries are, in no order; of one with [`PARTS`] parts.
    pub(super) fn places(&self, first: u8) -> impl Iterator<Item = (Key, Place)> {
        self.parts.get(usize::from(first)).into_iter().flatten().map(|(key, place)| (*key, *place))
    }

    /// How many keys it knows.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// It holds so much that it should be sealed.
    pub(super) fn is_full(&self, entries_max: usize) -> bool {
        self.bytes >= BYTES_MAX || self.len() >= entries_max
    }

    /// Bytes in memory, about.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        let entry = size_of::<(Key, Place)>() + 1;
        let parts: usize = self.parts.iter().map(|part| size_of_val(part) + part.capacity() * 8 / 7 * entry).sum();
        parts + self.pieces.iter().map(|piece| size_of_val(piece) + piece.capacity()).sum::<usize>()
    }

    fn part(&self, key: Key) -> usize {
        usize::from(key.0[0]) * self.parts.len() / PARTS
    }

    /// Writes an entry at the end.
    fn write(&mut self, key: Key, put: impl FnOnce(&mut Vec<u8>)) {
        match self.pieces.last() {
            // Most transactions need less than one piece.
            None => self.pieces.push(Vec::new()),
            Some(last) if last.len() > BEGIN_MAX => self.pieces.push(Vec::with_capacity(PIECE)),
            Some(_) => {}
        }
        let number = self.pieces.len() - 1;
        let Some(piece) = self.pieces.last_mut() else { return };
        // Sealing begins at some 256 pieces and outpaces filling, so 65,536 are never reached.
        let begin = piece.len();
        let place = Place::try_from(number << 16 | begin).unwrap_or(Place::MAX);
        put(piece);
        self.bytes += piece.len() - begin;
        let part = self.part(key);
        if let Some(part) = self.parts.get_mut(part) {
            self.len += usize::from(part.insert(key, place).is_none());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Wall;
    use crate::peer::{Fate, Outcome, Story};
    use crate::set::{Digest, SetErr};

    /// A refusal told with so many characters.
    fn refused(at: u64, characters: usize) -> Remembered {
        let outcome = Outcome::Refused(SetErr { err: "odd".to_owned(), description: "x".repeat(characters) });
        let fate = Fate::Settled { outcome, at: Wall(at), attempts: 1 };
        Remembered { digest: Digest::of(b"x"), seq: at, since: Wall(at), fate, story: Story::default() }
    }

    #[test]
    fn entries_of_all_lengths_are_found_in_whatever_piece_they_stand() {
        let key =
            |number: u32| Key(u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes());
        let length = |number: u32| if number % 50 == 7 { 60_000 } else { (number as usize * 37) % 1_100 };
        let mut fresh = Tail::default();
        let mut kept = Tail::with_capacity(8);
        for number in 0..1_000 {
            // Some again, of which the newest counts.
            let entry = refused(number.into(), length(number));
            fresh.insert(key(number % 900), &entry);
        }
        for piece in fresh.pieces() {
            kept.append(piece).unwrap();
        }
        assert!(fresh.pieces().len() > 10, "{} pieces", fresh.pieces().len());
        assert_eq!(fresh.pieces().concat(), kept.pieces().concat());
        for tail in [&fresh, &kept] {
            assert_eq!(tail.len(), 900);
            for number in 0..900 {
                let newest = if number < 100 { number + 900 } else { number };
                assert_eq!(tail.get(key(number)), Some(refused(newest.into(), length(newest))), "{number}");
            }
            assert_eq!(tail.get(Key([9; 16])), None);
        }
        let mut keys: Vec<_> = (0..=u8::MAX).flat_map(|first| kept.places(first).map(|(key, _)| key)).collect();
        assert!(keys.is_sorted_by_key(|key| key.0[0]));
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 900);
    }

    #[test]
    fn long_entries_fill_it_as_well_as_many() {
        let mut tail = Tail::with_capacity(1_000);
        let mut number = 0_u64;
        while !tail.is_full(1_000) {
            tail.insert(Key(u128::from(number).to_be_bytes()), &refused(number, 60_000));
            number += 1;
        }
        assert!((200..=300).contains(&number), "{number} entries of 60,000 bytes");
    }
}

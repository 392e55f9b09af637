//! The newest memory of jtis, in RAM: a stream of entries as it also stands in the log, and a map into it.

use std::collections::HashMap;

use super::{Key, entry};
use crate::peer::Remembered;
use crate::store::sqlite::rows::Cursor;

/// When the stream grows beyond this, it is time to seal whatever the number of entries: refusals may be long.
const BYTES_MAX: usize = 16 << 20;

/// Entries by key; of several with one key the newest counts.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    places: HashMap<Key, u32>,
    stream: Vec<u8>,
}

impl Tail {
    /// An empty one with room for so many entries, so that it need not be rebuilt while it fills.
    pub(super) fn with_capacity(entries: usize) -> Self {
        Self { places: HashMap::with_capacity(entries), stream: Vec::new() }
    }

    pub(crate) fn insert(&mut self, key: Key, remembered: &Remembered) {
        let place = self.next_place();
        entry::put(&mut self.stream, key, remembered);
        self.places.insert(key, place);
    }

    /// Adds a stream of entries, in their order; `None` if it is malformed.
    pub(crate) fn append(&mut self, stream: &[u8]) -> Option<()> {
        let mut cursor = Cursor(stream);
        while !cursor.0.is_empty() {
            let (key, whole, _) = entry::next(&mut cursor)?;
            let place = self.next_place();
            self.stream.extend_from_slice(whole);
            self.places.insert(key, place);
        }
        Some(())
    }

    /// All entries ever added, in their order.
    pub(crate) fn stream(&self) -> &[u8] {
        &self.stream
    }

    pub(crate) fn get(&self, key: Key) -> Option<Remembered> {
        self.whole(key).and_then(|(_, contents)| entry::decode(contents))
    }

    /// The newest entry of this key: the whole of its bytes, and its contents.
    pub(super) fn whole(&self, key: Key) -> Option<(&[u8], &[u8])> {
        let place = usize::try_from(*self.places.get(&key)?).ok()?;
        entry::next(&mut Cursor(self.stream.get(place..)?)).map(|(_, whole, contents)| (whole, contents))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        self.places.keys().copied()
    }

    /// How many keys it knows.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// It holds so much that it should be sealed.
    pub(super) fn is_full(&self, entries_max: usize) -> bool {
        self.len() >= entries_max || self.stream.len() >= BYTES_MAX
    }

    /// Bytes in memory, about.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.stream.capacity() + self.places.capacity() * 8 / 7 * (size_of::<(Key, u32)>() + 1)
    }

    fn next_place(&self) -> u32 {
        // Sealing begins at 16 MiB and outpaces filling, so four GiB are never reached.
        u32::try_from(self.stream.len()).unwrap_or(u32::MAX)
    }
}

//! The SETs that the core has looked at, by number. They come and go by hundreds, so their places are used again instead of
//! being given back and got anew, and a tree of numbers keeps the order.

use std::collections::BTreeMap;

use super::entry::Entry;

#[derive(Debug, Default)]
pub(in crate::peer) struct Entries {
    /// Where each one is.
    order: BTreeMap<u64, usize>,
    places: Vec<Option<Entry>>,
    /// Places that are empty.
    free: Vec<usize>,
}

/// So many places are kept, however few are taken, as long as one is.
const KEPT_MAX: usize = 64;

impl Entries {
    pub(in crate::peer) fn len(&self) -> usize {
        self.order.len()
    }

    pub(in crate::peer) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(in crate::peer) fn get(&self, seq: &u64) -> Option<&Entry> {
        self.places.get(*self.order.get(seq)?)?.as_ref()
    }

    pub(in crate::peer) fn contains_key(&self, seq: &u64) -> bool {
        self.order.contains_key(seq)
    }

    /// The numbers, rising.
    pub(in crate::peer) fn keys(&self) -> impl Iterator<Item = u64> {
        self.order.keys().copied()
    }

    /// In the order of their numbers.
    pub(in crate::peer) fn values(&self) -> impl Iterator<Item = &Entry> {
        self.order.values().filter_map(|place| self.places.get(*place)?.as_ref())
    }

    pub(super) fn get_mut(&mut self, seq: &u64) -> Option<&mut Entry> {
        self.places.get_mut(*self.order.get(seq)?)?.as_mut()
    }

    /// Takes one in whose number is not there yet.
    pub(super) fn insert(&mut self, seq: u64, entry: Entry) {
        let place = match self.free.pop() {
            Some(place) => {
                if let Some(empty) = self.places.get_mut(place) {
                    *empty = Some(entry);
                }
                place
            }
            None => {
                self.places.push(Some(entry));
                self.places.len() - 1
            }
        };
        let before = self.order.insert(seq, place);
        debug_assert!(before.is_none(), "{seq} is there already");
    }

    pub(super) fn remove(&mut self, seq: &u64) -> Option<Entry> {
        let place = self.order.remove(seq)?;
        let entry = self.places.get_mut(place)?.take();
        self.free.push(place);
        // Neither those that stay nor an idle peer may keep the room that a burst took. Seldom enough to cost little for each.
        if self.is_empty() {
            *self = Self::default();
        } else if self.places.len() > KEPT_MAX && self.len() <= self.places.len() / 4 {
            self.close_up();
        }
        entry
    }

    /// Gives back all places that are empty.
    fn close_up(&mut self) {
        let mut places = Vec::with_capacity(self.len());
        for place in self.order.values_mut() {
            let entry = self.places.get_mut(*place).and_then(Option::take);
            *place = places.len();
            places.push(entry);
        }
        (self.places, self.free) = (places, Vec::new());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Wall;
    use crate::peer::OutboxRow;
    use crate::peer::story::Story;
    use crate::random::Random;
    use crate::set::{Digest, Jti};

    fn entry(seq: u64) -> Entry {
        let (jti, compact) = (Jti::from(seq.to_string()), Arc::from(""));
        let (digest, accepted_at, story) = (Digest::default(), Wall(seq), Story::default());
        Entry::new(OutboxRow { seq, jti, compact, digest, accepted_at, attempts: 0, story })
    }

    #[test]
    fn they_are_where_a_plain_map_has_them_and_take_no_more_than_four_times_their_room() {
        let (mut entries, mut plain, mut random) = (Entries::default(), BTreeMap::new(), Random::new(7));
        let (mut next, mut most) = (0, 0);
        for round in 0..40_u64 {
            for _ in 0..random.next_u64() % 600 {
                entries.insert(next, entry(next));
                plain.insert(next, next);
                next += 1 + random.next_u64() % 3;
            }
            let stay = random.next_u64() % if round % 4 == 3 { 3 } else { 800 };
            while plain.len() as u64 > stay {
                let any = random.next_u64() % next;
                let seq = *plain.range(any..).next().or_else(|| plain.iter().next()).unwrap().0;
                assert_eq!(entries.remove(&seq).map(|entry| entry.accepted_at.0), plain.remove(&seq));
                assert!(entries.remove(&seq).is_none() && entries.get(&seq).is_none());
                let room = entries.places.capacity().max(entries.free.capacity());
                assert!(entries.places.len() <= KEPT_MAX.max(4 * plain.len()), "{room} for {}", plain.len());
                most = most.max(room);
            }
            assert!(!plain.is_empty() || entries.places.capacity() == 0);
            assert!(entries.keys().eq(plain.keys().copied()) && entries.len() == plain.len());
            assert!(entries.values().map(|entry| entry.accepted_at.0).eq(plain.values().copied()));
            for seq in plain.keys() {
                entries.get_mut(seq).unwrap().attempts += 1;
                assert_eq!(entries.get(seq).unwrap().jti.as_str(), seq.to_string());
                assert!(entries.contains_key(seq));
            }
        }
        assert!(most > 100, "there were some");
    }
}

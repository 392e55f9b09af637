//! What lies on the disk: the tables, and what each write changes in them. Plain data; the same writes, the same tables.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use pushpull::clock::Wall;
use pushpull::peer::{
    DeadLetter, DeadPage, Direction, InboxRow, OutboxRow, Outcome, Page, PeerId, Place, Remembered, Saved, Select,
    Stretch, Write,
};
use pushpull::set::{Digest, Jti};
use pushpull::store::Error;

use super::bugs::{Bug, Bugs};
use super::log::{memory_bytes, row_bytes};
use super::memory;

/// A row and whether its checksum holds.
#[derive(Clone, Debug)]
pub(super) struct Row<T> {
    pub(super) value: T,
    pub(super) whole: bool,
    /// Digest of its token, once somebody has asked.
    digest: OnceLock<Digest>,
}

impl<T> Row<T> {
    fn new(value: T) -> Self {
        Self { value, whole: true, digest: OnceLock::new() }
    }

    pub(super) fn digest(&self, compact: &str) -> Digest {
        *self.digest.get_or_init(|| Digest::of(compact.as_bytes()))
    }
}

/// How far a consumer is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Position {
    pub(super) confirmed: u64,
    /// Nothing behind it was ever handed out.
    pub(super) handed: u64,
}

pub(super) type Memories = HashMap<(PeerId, Jti), Row<Remembered>>;

/// All tables.
#[derive(Clone, Debug, Default)]
pub(super) struct Tables {
    /// Names of peers; the number of the first is 1.
    pub(super) names: Vec<String>,
    pub(super) added: BTreeMap<String, String>,
    pub(super) peers: BTreeMap<PeerId, Saved>,
    pub(super) outbox: BTreeMap<(PeerId, u64), Row<OutboxRow>>,
    pub(super) dead: BTreeMap<Place, Row<DeadLetter>>,
    pub(super) inbox: BTreeMap<u64, Row<(PeerId, InboxRow)>>,
    /// The time that was noted last.
    pub(super) last_time: Option<Wall>,
    /// The newest `seq` of the inbox.
    pub(super) tail: u64,
    /// Up to here the inbox was purged.
    pub(super) purged: u64,
    pub(super) consumers: BTreeMap<String, Position>,
    pub(super) sent: Memories,
    pub(super) received: Memories,
    /// Bytes that all of it takes.
    pub(super) bytes: i64,
    pub(super) bugs: Bugs,
}

impl Tables {
    pub(super) fn saved(&self, peer: PeerId) -> Result<&Saved, Error> {
        let unknown = || Error::Invalid(format!("there is no peer of number {}: ask for its number first", peer.0));
        self.peers.get(&peer).ok_or_else(unknown)
    }

    pub(super) fn memories(&self, direction: Direction) -> &Memories {
        match direction {
            Direction::Out => &self.sent,
            Direction::In => &self.received,
        }
    }

    /// Whether this commit makes sense. Asked before anything changes.
    pub(super) fn admits(&self, peer: PeerId, writes: &[Write]) -> Result<(), Error> {
        self.saved(peer)?;
        match writes.iter().any(|write| matches!(write, Write::Enqueue(row) if row.seq == 0)) {
            true => Err(Error::Invalid("seq 0 is not a place in the queue".to_owned())),
            false => Ok(()),
        }
    }

    /// Whether a commit of these would look at a damaged memory, which a store must not do.
    pub(super) fn trusts(&self, peer: PeerId, writes: &[Write]) -> bool {
        writes.iter().all(|write| match write {
            Write::Enqueue(row) => self.is_whole(Direction::Out, peer, &row.jti),
            Write::Receive(row) => self.is_whole(Direction::In, peer, &row.jti),
            Write::Answer { jti, .. } => self.is_whole(Direction::In, peer, jti),
            _ => true,
        })
    }

    pub(super) fn is_whole(&self, direction: Direction, peer: PeerId, jti: &Jti) -> bool {
        self.memories(direction).get(&(peer, jti.clone())).is_none_or(|memory| memory.whole)
    }

    pub(super) fn known(&self, peer: PeerId, direction: Direction, jti: &Jti) -> Option<&Remembered> {
        let known = self.memories(direction).get(&(peer, jti.clone()));
        if known.is_none() && direction == Direction::In && self.bugs.has(Bug::DedupeByJtiAlone) {
            let of_anybody = self.peers.keys().find_map(|peer| self.received.get(&(*peer, jti.clone())));
            return of_anybody.map(|memory| &memory.value);
        }
        known.map(|memory| &memory.value)
    }

    /// Carries out these writes; which of them took effect, in their order.
    pub(super) fn commit(&mut self, peer: PeerId, writes: &[Write]) -> Vec<bool> {
        writes.iter().map(|write| self.write(peer, write)).collect()
    }

    fn write(&mut self, peer: PeerId, write: &Write) -> bool {
        if !self.change(peer, write) {
            return false;
        }
        if let Some(saved) = self.peers.get_mut(&peer) {
            saved.counts.apply(write);
        }
        if let Some((direction, jti, memory)) = memory::left_by(write) {
            self.remember(peer, direction, jti, memory);
        }
        true
    }

    fn remember(&mut self, peer: PeerId, direction: Direction, jti: Jti, memory: Remembered) {
        let memories = match direction {
            Direction::Out => &mut self.sent,
            Direction::In => &mut self.received,
        };
        let bytes = memory_bytes(jti.as_str());
        if memories.insert((peer, jti), Row::new(memory)).is_none() {
            self.bytes += bytes;
        }
    }

    /// The change of rows; false if the write has taken effect before.
    fn change(&mut self, peer: PeerId, write: &Write) -> bool {
        match write {
            Write::Enqueue(row) => self.enqueue(peer, row),
            Write::Attempts { .. } if self.bugs.has(Bug::AttemptsNotWritten) => true,
            Write::Attempts { seq, attempts } => match self.outbox.get_mut(&(peer, *seq)) {
                Some(row) if row.value.attempts < *attempts => {
                    row.value.attempts = *attempts;
                    true
                }
                _ => false,
            },
            Write::Settle { seq, outcome, .. } => self.settle(peer, *seq, outcome, write),
            Write::Lift { seq, .. } => match self.dead.remove(&Place::of(peer, *seq)) {
                Some(Row { value, .. }) => {
                    self.bytes -= row_bytes(&value.compact, value.jti.as_str());
                    true
                }
                None => false,
            },
            Write::Receive(row) => {
                let is_new = self.known(peer, Direction::In, &row.jti).is_none();
                if is_new {
                    self.tail += 1;
                    self.bytes += row_bytes(&row.compact, row.jti.as_str());
                    self.inbox.insert(self.tail, Row::new((peer, row.clone())));
                }
                is_new
            }
            Write::Answer { jti, .. } => self.known(peer, Direction::In, jti).is_none(),
            Write::Paused(paused) => {
                self.peers.get_mut(&peer).is_some_and(|saved| std::mem::replace(&mut saved.paused, *paused) != *paused)
            }
        }
    }

    fn enqueue(&mut self, peer: PeerId, row: &OutboxRow) -> bool {
        let next_seq = self.peers.get(&peer).map_or(1, |saved| saved.next_seq);
        let known = self.known(peer, Direction::Out, &row.jti);
        let has_been = self.outbox.contains_key(&(peer, row.seq))
            || self.dead.contains_key(&Place::of(peer, row.seq))
            || known.is_some_and(|known| known.seq >= row.seq);
        // A place that was never used is used now, in whatever order: a SET must not get lost.
        if row.seq < next_seq && has_been {
            return false;
        }
        self.bytes += row_bytes(&row.compact, row.jti.as_str());
        self.outbox.insert((peer, row.seq), Row::new(row.clone()));
        if let Some(saved) = self.peers.get_mut(&peer) {
            saved.next_seq = next_seq.max(row.seq + 1);
        }
        true
    }

    fn settle(&mut self, peer: PeerId, seq: u64, outcome: &Outcome, write: &Write) -> bool {
        let Some(Row { value, whole, digest }) = self.outbox.remove(&(peer, seq)) else { return false };
        match memory::left_by(write) {
            Some((_, _, memory)) if *outcome != Outcome::Acked => {
                let letter = DeadLetter { jti: value.jti, compact: value.compact, memory };
                self.dead.insert(Place::of(peer, seq), Row { value: letter, whole, digest });
            }
            _ => self.bytes -= row_bytes(&value.compact, value.jti.as_str()),
        }
        true
    }

    pub(super) fn read_outbox(&self, peer: PeerId, select: Select) -> Page {
        let mut page = Page::default();
        match select {
            Select::Seqs(mut seqs) => {
                seqs.sort_unstable();
                seqs.dedup();
                for seq in seqs {
                    if let Some(row) = self.outbox.get(&(peer, seq)) {
                        self.put(&mut page, seq, row);
                    }
                }
            }
            Select::After { after, rows_max, bytes_max } => {
                page.read_to = after;
                let mut bytes = 0;
                for ((_, seq), row) in self.outbox.range((peer, after.saturating_add(1))..=(peer, u64::MAX)) {
                    let count = page.rows.len() + page.damaged.len();
                    bytes += if row.whole { row.value.compact.len() } else { 0 };
                    if count >= rows_max.max(1) || (row.whole && bytes > bytes_max && !page.rows.is_empty()) {
                        break;
                    }
                    self.put(&mut page, *seq, row);
                    page.read_to = *seq;
                }
            }
        }
        page
    }

    fn put(&self, page: &mut Page, seq: u64, row: &Row<OutboxRow>) {
        match row.whole {
            true => page.rows.push(row.value.clone()),
            false if self.bugs.has(Bug::DamageSkipped) => {}
            false => page.damaged.push(seq),
        }
    }

    pub(super) fn read_dead(&self, stretch: Stretch) -> DeadPage {
        let Stretch { after, up_to, rows_max, bytes_max } = stretch;
        let (mut page, mut read_to, mut bytes) = (DeadPage::default(), after, 0);
        let behind = (std::ops::Bound::Excluded(after), std::ops::Bound::Included(up_to));
        if after >= up_to {
            return page;
        }
        for (place, row) in self.dead.range(behind) {
            bytes += if row.whole { row.value.compact.len() } else { 0 };
            let count = page.letters.len() + page.damaged.len();
            if count > 0 && (count >= rows_max || bytes > bytes_max) {
                page.next = Some(read_to);
                break;
            }
            read_to = *place;
            self.put_dead(&mut page, *place, row);
        }
        page
    }

    pub(super) fn dead_at(&self, peer: PeerId, mut seqs: Vec<u64>) -> DeadPage {
        seqs.sort_unstable();
        seqs.dedup();
        let mut page = DeadPage::default();
        for place in seqs.into_iter().map(|seq| Place::of(peer, seq)) {
            if let Some(row) = self.dead.get(&place) {
                self.put_dead(&mut page, place, row);
            }
        }
        page
    }

    fn put_dead(&self, page: &mut DeadPage, place: Place, row: &Row<DeadLetter>) {
        match row.whole {
            true => page.letters.push((place.peer(), row.value.clone())),
            false if self.bugs.has(Bug::DamageSkipped) => {}
            false => page.damaged.push(place),
        }
    }

    /// The number of this name, given if it is new.
    pub(super) fn name_peer(&mut self, name: &str) -> PeerId {
        let number = match self.names.iter().position(|known| known == name) {
            Some(place) => place + 1,
            None => {
                self.names.push(name.to_owned());
                self.names.len()
            }
        };
        let peer = PeerId(u32::try_from(number).unwrap_or(u32::MAX));
        self.peers.entry(peer).or_insert_with(|| Saved { next_seq: 1, ..Saved::default() });
        peer
    }

    pub(super) fn name_of(&self, peer: PeerId) -> Option<&str> {
        self.names.get(usize::try_from(peer.0).ok()?.checked_sub(1)?).map(String::as_str)
    }
}

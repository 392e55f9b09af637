//! The store in RAM: durable for the life of the process. For tests and simulation, and the model for the others.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{
    Bookmark, ConsumerAt, Epoch, Error, Handed, INBOX_PAGE_BYTES_MAX, Journal, Keep, Leaf, Pending, Registry, remember,
};
use crate::clock::Wall;
use crate::peer::{
    DeadLetter, DeadPage, Direction, InboxRow, OutboxRow, Outcome, Page, PeerId, Place, Remembered, Saved, Select,
    Stretch, Write,
};
use crate::planted::{self, Bug};
use crate::set::Jti;

/// Inbox rows removed by one call of [`Journal::purge`].
const ROWS_STEP: usize = 2_000;
/// What a kept SET takes beside its token, about.
const ROW_BYTES: usize = 100;

/// What a kept SET takes.
fn size(row: &OutboxRow) -> u64 {
    (row.compact.len() + ROW_BYTES) as u64
}

/// A store that forgets everything when it is dropped.
#[derive(Debug)]
pub struct Memory {
    state: Mutex<State>,
    inbox_tail: watch::Sender<u64>,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self { state: Mutex::default(), inbox_tail: watch::Sender::new(0) }
    }

    /// It, with SETs kept that have left their queue ([`Journal::read_settled`]). By itself it keeps none of them.
    pub fn keeping_settled(self) -> Self {
        self.state().keeps_settled = true;
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Like the other stores it does nothing before it is awaited.
    fn answer<'a, T, F>(&'a self, work: F) -> Pending<'a, T>
    where
        T: Send + 'a,
        F: FnOnce(&mut State) -> Result<T, Error> + Send + 'a,
    {
        Box::pin(async move { work(&mut self.state()) })
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug, Default)]
struct State {
    /// By number, less one.
    names: Vec<String>,
    peers: BTreeMap<PeerId, Saved>,
    added: BTreeMap<String, String>,
    outbox: BTreeMap<(PeerId, u64), OutboxRow>,
    dead_letters: BTreeMap<Place, DeadLetter>,
    /// Of which peer, the SET, and when it left its queue, by the order in which they left.
    archive: BTreeMap<u64, (PeerId, OutboxRow, Wall)>,
    archived: u64,
    /// What they are, and when they were begun.
    jobs: BTreeMap<(PeerId, String), (String, Wall)>,
    archive_bytes: u64,
    keeps_settled: bool,
    /// When the last one left that is not kept any more.
    unkept: Wall,
    inbox: BTreeMap<u64, (PeerId, InboxRow)>,
    tail: u64,
    /// Everything up to here was purged.
    purged: u64,
    /// Outgoing first.
    remembered: [HashMap<(PeerId, Jti), Remembered>; 2],
    last_time: Option<Wall>,
    consumers: BTreeMap<String, Consumer>,
}

#[derive(Debug, Default)]
struct Consumer {
    confirmed: u64,
    handed: u64,
}

impl Journal for Memory {
    fn recover(&self, peer: PeerId) -> Pending<'_, Saved> {
        self.answer(move |state| state.peer(peer).cloned())
    }

    fn commit(&self, peer: PeerId, _epoch: Epoch, writes: Arc<Vec<Write>>) -> Pending<'_, ()> {
        Box::pin(async move {
            let tail = {
                let mut state = self.state();
                state.commit(peer, &writes)?;
                state.tail
            };
            self.inbox_tail.send_if_modified(|known| std::mem::replace(known, tail) != tail);
            Ok(())
        })
    }

    fn known(&self, peer: PeerId, direction: Direction, jtis: Vec<Jti>) -> Pending<'_, Vec<Option<Remembered>>> {
        self.answer(move |state| {
            let remembered = state.remembered(direction);
            let of = |peer, jti: &Jti| remembered.get(&(peer, jti.clone())).cloned();
            if planted::is(Bug::DedupeWithoutPartner) {
                return Ok(jtis.iter().map(|jti| state.peers.keys().find_map(|peer| of(*peer, jti))).collect());
            }
            Ok(jtis.iter().map(|jti| of(peer, jti)).collect())
        })
    }

    fn read_outbox(&self, peer: PeerId, select: Select) -> Pending<'_, Page> {
        self.answer(move |state| Ok(state.read_outbox(peer, select)))
    }

    fn read_settled(&self, peer: PeerId, since: Wall, from: Bookmark, sets_max: usize) -> Pending<'_, Leaf> {
        self.answer(move |state| Ok(state.read_settled(peer, since, from, sets_max)))
    }

    fn job(&self, peer: PeerId, name: String) -> Pending<'_, Option<String>> {
        self.answer(move |state| Ok(state.jobs.get(&(peer, name)).map(|(definition, _)| definition.clone())))
    }

    fn begin_job(&self, peer: PeerId, name: String, definition: String, at: Wall) -> Pending<'_, String> {
        self.answer(move |state| Ok(state.jobs.entry((peer, name)).or_insert((definition, at)).0.clone()))
    }

    fn forget_settled(&self, keep: Keep) -> Pending<'_, bool> {
        self.answer(move |state| Ok(state.forget_settled(keep)))
    }

    fn read_dead_letters(&self, stretch: Stretch) -> Pending<'_, DeadPage> {
        self.answer(move |state| Ok(state.read_dead_letters(stretch)))
    }

    fn dead_letters_at(&self, peer: PeerId, mut seqs: Vec<u64>) -> Pending<'_, DeadPage> {
        self.answer(move |state| {
            seqs.sort_unstable();
            seqs.dedup();
            let at = |seq| Some((peer, state.dead_letters.get(&Place::of(peer, seq))?.clone()));
            Ok(DeadPage { letters: seqs.into_iter().filter_map(at).collect(), ..DeadPage::default() })
        })
    }

    fn read_inbox(&self, consumer: String, after: Option<u64>, rows_max: usize) -> Pending<'_, Vec<Handed>> {
        self.answer(move |state| Ok(state.hand_out(consumer, after, rows_max)))
    }

    fn peek_inbox(&self, after: Option<u64>, rows_max: usize) -> Pending<'_, Vec<Handed>> {
        self.answer(move |state| Ok(state.read_inbox(after.unwrap_or(0), 0, rows_max)))
    }

    fn confirm(&self, consumer: String, up_to: u64) -> Pending<'_, ()> {
        self.answer(move |state| state.confirm(&consumer, up_to))
    }

    fn consumers(&self) -> Vec<ConsumerAt> {
        let at = |(name, consumer): (&String, &Consumer)| {
            let Consumer { confirmed, handed } = *consumer;
            ConsumerAt { name: name.clone(), confirmed, handed }
        };
        self.state().consumers.iter().map(at).collect()
    }

    fn forget_consumer(&self, consumer: String) -> Pending<'_, bool> {
        self.answer(move |state| Ok(state.consumers.remove(&consumer).is_some()))
    }

    fn history(&self, jti: Jti) -> Pending<'_, Vec<(PeerId, Direction, Remembered)>> {
        self.answer(move |state| {
            let mut history = Vec::new();
            for id in state.peers.keys() {
                for direction in [Direction::Out, Direction::In] {
                    let found = state.remembered(direction).get(&(*id, jti.clone())).cloned();
                    history.extend(found.map(|found| (*id, direction, found)));
                }
            }
            Ok(history)
        })
    }

    fn purge(&self, memory_before: Wall) -> Pending<'_, bool> {
        self.answer(move |state| Ok(state.purge(memory_before)))
    }

    fn last_time(&self) -> Pending<'_, Option<Wall>> {
        self.answer(|state| Ok(state.last_time))
    }

    fn note_time(&self, at: Wall) -> Pending<'_, ()> {
        self.answer(move |state| {
            state.last_time = Some(at);
            Ok(())
        })
    }

    fn probe(&self) -> Pending<'_, ()> {
        self.answer(|_| Ok(()))
    }

    fn inbox_tail(&self) -> watch::Receiver<u64> {
        self.inbox_tail.subscribe()
    }

    fn inbox_len(&self) -> u64 {
        let state = self.state();
        let done = state.consumers.values().map(|consumer| consumer.confirmed).min().unwrap_or(0);
        state.inbox.range(done + 1..).count() as u64
    }

    fn healthy(&self) -> bool {
        true
    }

    fn failed(&self) -> bool {
        false
    }
}

impl Registry for Memory {
    fn peer_id(&self, name: String) -> Pending<'_, PeerId> {
        self.answer(move |state| Ok(state.peer_id(name)))
    }

    fn names(&self) -> Pending<'_, Vec<(PeerId, String)>> {
        self.answer(move |state| Ok(state.peers.keys().copied().zip(state.names.clone()).collect()))
    }

    fn added_peers(&self) -> Pending<'_, Vec<(String, String)>> {
        self.answer(move |state| Ok(state.added.clone().into_iter().collect()))
    }

    fn add_peer(&self, name: String, definition: String) -> Pending<'_, bool> {
        self.answer(move |state| {
            let is_new = !state.added.contains_key(&name);
            if is_new {
                state.added.insert(name, definition);
            }
            Ok(is_new)
        })
    }

    fn remove_peer(&self, name: String) -> Pending<'_, bool> {
        self.answer(move |state| Ok(state.added.remove(&name).is_some()))
    }
}

impl State {
    fn peer_id(&mut self, name: String) -> PeerId {
        let place = self.names.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        });
        let id = PeerId(u32::try_from(place + 1).unwrap_or(u32::MAX));
        self.peers.entry(id).or_insert(Saved { next_seq: 1, ..Saved::default() });
        id
    }

    fn commit(&mut self, id: PeerId, writes: &[Write]) -> Result<(), Error> {
        let mut saved = self.peer(id)?.clone();
        if writes.iter().any(|write| matches!(write, Write::Enqueue(row) if row.seq == 0)) {
            return Err(Error::Invalid("seq 0 is not in 1..".to_owned()));
        }
        for write in writes {
            if !self.apply(id, &mut saved, write) {
                continue;
            }
            saved.counts.apply(write);
            if let Some((direction, jti, remembered)) = remember::remembered(write) {
                self.remembered_mut(direction).insert((id, jti.clone()), remembered);
            }
        }
        self.peers.insert(id, saved);
        Ok(())
    }

    /// Applies one write; false if it had taken effect before.
    fn apply(&mut self, id: PeerId, saved: &mut Saved, write: &Write) -> bool {
        match write {
            Write::Enqueue(row) => {
                let key = (id, row.seq);
                let known = self.remembered(Direction::Out).get(&(id, row.jti.clone()));
                let is_repeated = row.seq < saved.next_seq
                    && (self.outbox.contains_key(&key)
                        || self.dead_letters.contains_key(&Place::of(id, row.seq))
                        || known.is_some_and(|known| known.seq >= row.seq));
                if !is_repeated {
                    self.outbox.insert(key, row.clone());
                    saved.next_seq = saved.next_seq.max(row.seq + 1);
                }
                !is_repeated
            }
            Write::Attempts { seq, attempts } => match self.outbox.get_mut(&(id, *seq)) {
                Some(row) => {
                    row.attempts = row.attempts.max(*attempts);
                    true
                }
                None => false,
            },
            Write::Settle { seq, outcome, at, .. } => {
                let Some(row) = self.outbox.remove(&(id, *seq)) else { return false };
                if *outcome == Outcome::Acked && self.keeps_settled {
                    self.archived += 1;
                    self.archive_bytes += size(&row);
                    self.archive.insert(self.archived, (id, row, *at));
                } else if *outcome == Outcome::Acked {
                    self.unkept = self.unkept.max(*at);
                } else if let Some((_, _, memory)) = remember::remembered(write) {
                    let letter = DeadLetter { jti: row.jti, compact: row.compact, memory };
                    self.dead_letters.insert(Place::of(id, *seq), letter);
                }
                true
            }
            Write::Lift { seq, .. } => self.dead_letters.remove(&Place::of(id, *seq)).is_some(),
            Write::Receive(row) => {
                let is_new = !self.remembered(Direction::In).contains_key(&(id, row.jti.clone()));
                if is_new {
                    self.tail += 1;
                    self.inbox.insert(self.tail, (id, row.clone()));
                }
                is_new
            }
            Write::Answer { jti, .. } => !self.remembered(Direction::In).contains_key(&(id, jti.clone())),
            Write::Paused(paused) => {
                saved.paused = *paused;
                true
            }
        }
    }

    fn read_outbox(&self, peer: PeerId, select: Select) -> Page {
        let (after, rows_max, bytes_max) = match select {
            Select::After { after, rows_max, bytes_max } => (after, rows_max, bytes_max),
            Select::Seqs(mut seqs) => {
                seqs.sort_unstable();
                seqs.dedup();
                let rows = seqs.into_iter().filter_map(|seq| self.outbox.get(&(peer, seq)).cloned()).collect();
                return Page { rows, ..Page::default() };
            }
        };
        let mut page = Page { read_to: after, ..Page::default() };
        let mut bytes = 0;
        for row in self.outbox.range((peer, after.saturating_add(1))..=(peer, u64::MAX)).map(|(_, row)| row) {
            bytes += row.compact.len();
            if !page.rows.is_empty() && (page.rows.len() >= rows_max || bytes > bytes_max) {
                break;
            }
            page.read_to = row.seq;
            page.rows.push(row.clone());
        }
        page
    }

    fn read_settled(&self, peer: PeerId, since: Wall, from: Bookmark, sets_max: usize) -> Leaf {
        let mut after = match from {
            Bookmark::Outbox(_) => 0,
            Bookmark::Archive(after, _) => after,
        };
        let mut leaf = Leaf { unkept: self.unkept, ..Leaf::default() };
        for (id, (of, row, at)) in self.archive.range(after.saturating_add(1)..) {
            if leaf.sets.len() >= sets_max {
                leaf.next = Some(Bookmark::Archive(after, 0));
                break;
            }
            if *of == peer && *at >= since {
                leaf.sets.push(row.clone());
            }
            after = *id;
        }
        leaf
    }

    fn forget_settled(&mut self, keep: Keep) -> bool {
        while let Some(oldest) = self.archive.first_entry()
            && (self.archive_bytes > keep.bytes_max || oldest.get().2 < keep.since)
        {
            let (_, row, at) = oldest.remove();
            self.unkept = self.unkept.max(at);
            self.archive_bytes -= size(&row);
        }
        false
    }

    fn read_dead_letters(&self, stretch: Stretch) -> DeadPage {
        let Stretch { after, up_to, rows_max, bytes_max } = stretch;
        let (mut page, mut bytes) = (DeadPage::default(), 0);
        let mut read_to = after;
        for (place, letter) in self.dead_letters.iter().filter(|(place, _)| **place > after && **place <= up_to) {
            bytes += letter.compact.len();
            if !page.letters.is_empty() && (page.letters.len() >= rows_max || bytes > bytes_max) {
                page.next = Some(read_to);
                break;
            }
            read_to = *place;
            page.letters.push((place.peer(), letter.clone()));
        }
        page
    }

    fn hand_out(&mut self, name: String, after: Option<u64>, rows_max: usize) -> Vec<Handed> {
        let purged = self.purged;
        let consumer = self.consumers.entry(name.clone()).or_insert(Consumer { confirmed: purged, handed: 0 });
        let (from, handed) = (after.unwrap_or(0).max(consumer.confirmed), consumer.handed);
        let rows = self.read_inbox(from, handed, rows_max);
        if let (Some(consumer), Some(last)) = (self.consumers.get_mut(&name), rows.last()) {
            consumer.handed = handed.max(last.seq);
        }
        rows
    }

    fn read_inbox(&self, after: u64, handed: u64, rows_max: usize) -> Vec<Handed> {
        let mut bytes = 0;
        let rows = self.inbox.range(after.saturating_add(1)..).take(rows_max).take_while(|(_, (_, row))| {
            let room = bytes < INBOX_PAGE_BYTES_MAX;
            bytes += row.compact.len();
            room
        });
        rows.map(|(&seq, (peer, row))| Handed { seq, peer: *peer, row: row.clone(), redelivered: seq <= handed })
            .collect()
    }

    fn confirm(&mut self, name: &str, up_to: u64) -> Result<(), Error> {
        let Some(consumer) = self.consumers.get_mut(name) else {
            return Err(Error::Invalid(format!("there is no consumer {name:?}: a consumer is made by its first read")));
        };
        if up_to > self.tail {
            return Err(Error::Invalid(format!("cannot confirm up to {up_to}: the inbox ends at {}", self.tail)));
        }
        consumer.confirmed = consumer.confirmed.max(up_to);
        Ok(())
    }

    fn purge(&mut self, memory_before: Wall) -> bool {
        let is_waiting = |remembered: &Remembered| matches!(remembered.fate, crate::peer::Fate::Queued);
        for memory in &mut self.remembered {
            memory.retain(|_, remembered| is_waiting(remembered) || remember::newest(remembered) >= memory_before);
        }
        self.jobs.retain(|_, (_, at)| *at >= memory_before);
        let confirmed = self.consumers.values().map(|consumer| consumer.confirmed).min().unwrap_or(0);
        let confirmed = if planted::is(Bug::PurgeOfUnsettled) { self.tail } else { confirmed };
        let old: Vec<u64> = self.inbox.range(..=confirmed).map(|(seq, _)| *seq).take(ROWS_STEP).collect();
        for seq in old {
            self.inbox.remove(&seq);
            self.purged = seq;
        }
        self.inbox.range(..=confirmed).next().is_some()
    }

    fn peer(&self, id: PeerId) -> Result<&Saved, Error> {
        self.peers
            .get(&id)
            .ok_or_else(|| Error::Invalid(format!("there is no peer of number {}: ask for its number first", id.0)))
    }

    fn remembered(&self, direction: Direction) -> &HashMap<(PeerId, Jti), Remembered> {
        let [out, inward] = &self.remembered;
        match direction {
            Direction::Out => out,
            Direction::In => inward,
        }
    }

    fn remembered_mut(&mut self, direction: Direction) -> &mut HashMap<(PeerId, Jti), Remembered> {
        let [out, inward] = &mut self.remembered;
        match direction {
            Direction::Out => out,
            Direction::In => inward,
        }
    }
}

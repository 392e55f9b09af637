//! The contract of a store, as plainly as it can be said: lists, gone through from the beginning. Nothing is durable, nothing
//! is fast, and nothing is shared with any store.

use pushpull::clock::Wall;
use pushpull::peer::{
    DeadLetter, DeadPage, Direction, Fate, InboxRow, OutboxRow, Outcome, Page, PeerId, Place, Remembered, Saved,
    Select, Story, Stretch, Verdict, Write,
};
use pushpull::set::{Jti, Refusal, SetErr};
use pushpull::store::{DESCRIPTION_MAX, ERR_MAX, Handed};

use crate::call::{Answer, Call};

#[derive(Clone, Debug)]
struct Memory {
    peer: PeerId,
    direction: Direction,
    jti: Jti,
    remembered: Remembered,
    /// It was purged, and a store may keep it for longer all the same.
    may_be_gone: bool,
}

#[derive(Clone, Debug)]
struct Consumer {
    name: String,
    confirmed: u64,
    handed: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    peers: Vec<(String, Saved)>,
    added: Vec<(String, String)>,
    outbox: Vec<(PeerId, OutboxRow)>,
    dead: Vec<(Place, DeadLetter)>,
    inbox: Vec<(u64, PeerId, InboxRow)>,
    tail: u64,
    purged: u64,
    memories: Vec<Memory>,
    consumers: Vec<Consumer>,
}

impl Model {
    pub(crate) fn answer(&mut self, call: &Call) -> Answer {
        match call {
            Call::Commit(peer, writes) => self.commit(*peer, writes),
            Call::Recover(peer) => self.saved(*peer).map_or(Answer::Invalid, |saved| Answer::Saved(saved.clone())),
            Call::Known(peer, direction, jtis) => {
                Answer::Known(jtis.iter().map(|jti| self.known(*peer, *direction, jti).cloned()).collect())
            }
            Call::ReadOutbox(peer, select) => Answer::Page(self.read_outbox(*peer, select)),
            Call::ReadDead(stretch) => Answer::Dead(self.read_dead(*stretch)),
            Call::DeadAt(peer, seqs) => {
                let asked = |place: &Place| place.peer() == *peer && seqs.contains(&place.seq);
                let letters = self.dead.iter().filter(|(place, _)| asked(place));
                let letters = letters.map(|(place, letter)| (place.peer(), letter.clone())).collect();
                Answer::Dead(DeadPage { letters, ..DeadPage::default() })
            }
            Call::ReadInbox(name, after, rows_max) => Answer::Handed(self.read_inbox(name, *after, *rows_max)),
            Call::Peek(after, rows_max) => Answer::Handed(self.rows_behind(after.unwrap_or(0), *rows_max, 0)),
            Call::Confirm(name, up_to) => self.confirm(name, *up_to),
            Call::Forget(name) => {
                let before = self.consumers.len();
                self.consumers.retain(|consumer| consumer.name != *name);
                Answer::Flag(self.consumers.len() < before)
            }
            Call::History(jti) => Answer::History(self.history(jti)),
            Call::Purge(before) => self.purge(*before),
            Call::Probe => Answer::Done,
            Call::PeerId(name) => Answer::Id(self.number(name)),
            Call::Names => {
                Answer::Names(self.ids().into_iter().zip(self.peers.iter().map(|(name, _)| name.clone())).collect())
            }
            Call::Added => {
                let mut added = self.added.clone();
                added.sort();
                Answer::Added(added)
            }
            Call::AddPeer(name, definition) => {
                let is_new = self.added.iter().all(|(known, _)| known != name);
                if is_new {
                    self.added.push((name.clone(), definition.clone()));
                }
                Answer::Flag(is_new)
            }
            Call::RemovePeer(name) => {
                let before = self.added.len();
                self.added.retain(|(known, _)| known != name);
                Answer::Flag(self.added.len() < before)
            }
            Call::Look => {
                let done = self.done();
                let waiting = self.inbox.iter().filter(|(seq, ..)| *seq > done).count();
                Answer::Look(self.tail, waiting as u64, true)
            }
        }
    }

    pub(crate) fn has_consumer(&self, name: &str) -> bool {
        self.consumers.iter().any(|consumer| consumer.name == name)
    }

    pub(crate) fn saved(&self, peer: PeerId) -> Option<&Saved> {
        let place = usize::try_from(peer.0).ok()?.checked_sub(1)?;
        self.peers.get(place).map(|(_, saved)| saved)
    }

    pub(crate) fn queued(&self, peer: PeerId) -> Vec<OutboxRow> {
        self.outbox.iter().filter(|(of, _)| *of == peer).map(|(_, row)| row.clone()).collect()
    }

    pub(crate) fn dead_letter(&self, peer: PeerId, seq: u64) -> Option<DeadLetter> {
        let found = self.dead.iter().find(|(place, _)| *place == Place::of(peer, seq));
        found.map(|(_, letter)| letter.clone())
    }

    /// A store may have forgotten this one, or not.
    pub(crate) fn may_be_gone(&self, peer: PeerId, direction: Direction, jti: &Jti) -> bool {
        self.memories.iter().any(|memory| {
            memory.may_be_gone && (memory.peer, memory.direction) == (peer, direction) && memory.jti == *jti
        })
    }

    fn ids(&self) -> Vec<PeerId> {
        (1..=u32::try_from(self.peers.len()).unwrap()).map(PeerId).collect()
    }

    fn number(&mut self, name: &str) -> PeerId {
        if self.peers.iter().all(|(known, _)| known != name) {
            self.peers.push((name.to_owned(), Saved { next_seq: 1, ..Saved::default() }));
        }
        let place = self.peers.iter().position(|(known, _)| known == name).unwrap();
        PeerId(u32::try_from(place + 1).unwrap())
    }

    fn known(&self, peer: PeerId, direction: Direction, jti: &Jti) -> Option<&Remembered> {
        let found = self
            .memories
            .iter()
            .find(|memory| (memory.peer, memory.direction) == (peer, direction) && memory.jti == *jti);
        found.map(|memory| &memory.remembered)
    }

    fn commit(&mut self, peer: PeerId, writes: &[Write]) -> Answer {
        let senseless = |write: &Write| matches!(write, Write::Enqueue(row) if row.seq == 0);
        if self.saved(peer).is_none() || writes.iter().any(senseless) {
            return Answer::Invalid;
        }
        for write in writes {
            if self.takes_effect(peer, write) {
                let place = peer.0 as usize - 1;
                self.peers[place].1.counts.apply(write);
                self.remember(peer, write);
            }
        }
        Answer::Done
    }

    fn takes_effect(&mut self, peer: PeerId, write: &Write) -> bool {
        let at = |row: &(PeerId, OutboxRow), seq: u64| row.0 == peer && row.1.seq == seq;
        let place = peer.0 as usize - 1;
        match write {
            Write::Enqueue(row) => {
                let is_there = self.outbox.iter().any(|other| at(other, row.seq));
                let is_dead = self.dead.iter().any(|(place, _)| *place == Place::of(peer, row.seq));
                let known = self.known(peer, Direction::Out, &row.jti);
                let has_ended = known.is_some_and(|known| known.seq >= row.seq);
                let next_seq = self.peers[place].1.next_seq;
                if row.seq < next_seq && (is_there || is_dead || has_ended) {
                    return false;
                }
                self.outbox.push((peer, row.clone()));
                self.outbox.sort_by_key(|(peer, row)| (*peer, row.seq));
                self.peers[place].1.next_seq = next_seq.max(row.seq + 1);
                true
            }
            Write::Attempts { seq, attempts } => {
                let Some((_, row)) = self.outbox.iter_mut().find(|row| at(row, *seq)) else { return false };
                row.attempts = row.attempts.max(*attempts);
                true
            }
            Write::Settle { seq, outcome, .. } => {
                let Some(index) = self.outbox.iter().position(|row| at(row, *seq)) else { return false };
                let (_, row) = self.outbox.remove(index);
                if *outcome != Outcome::Acked {
                    let (_, _, memory) = remembered(write).unwrap();
                    let letter = DeadLetter { jti: row.jti, compact: row.compact, memory };
                    self.dead.push((Place::of(peer, *seq), letter));
                    self.dead.sort_by_key(|(place, _)| *place);
                }
                true
            }
            Write::Lift { seq, .. } => {
                let before = self.dead.len();
                self.dead.retain(|(place, _)| *place != Place::of(peer, *seq));
                self.dead.len() < before
            }
            Write::Receive(row) => {
                let is_new = self.known(peer, Direction::In, &row.jti).is_none();
                if is_new {
                    self.tail += 1;
                    self.inbox.push((self.tail, peer, row.clone()));
                }
                is_new
            }
            Write::Answer { jti, .. } => self.known(peer, Direction::In, jti).is_none(),
            Write::Paused(paused) => {
                self.peers[place].1.paused = *paused;
                true
            }
        }
    }

    fn remember(&mut self, peer: PeerId, write: &Write) {
        let Some((direction, jti, remembered)) = remembered(write) else { return };
        let key = (peer, direction, &jti);
        self.memories.retain(|memory| (memory.peer, memory.direction, &memory.jti) != key);
        self.memories.push(Memory { peer, direction, jti, remembered, may_be_gone: false });
    }

    fn read_outbox(&self, peer: PeerId, select: &Select) -> Page {
        let mut page = Page::default();
        match select {
            Select::Seqs(seqs) => {
                page.rows = self.queued(peer).into_iter().filter(|row| seqs.contains(&row.seq)).collect();
            }
            Select::After { after, rows_max, bytes_max } => {
                page.read_to = *after;
                let mut bytes = 0;
                for row in self.queued(peer).into_iter().filter(|row| row.seq > *after) {
                    bytes += row.compact.len();
                    if !page.rows.is_empty() && (page.rows.len() >= *rows_max || bytes > *bytes_max) {
                        break;
                    }
                    page.read_to = row.seq;
                    page.rows.push(row);
                }
            }
        }
        page
    }

    fn read_dead(&self, stretch: Stretch) -> DeadPage {
        let (mut page, mut bytes, mut read_to) = (DeadPage::default(), 0, stretch.after);
        for (place, letter) in &self.dead {
            if *place <= stretch.after || *place > stretch.up_to {
                continue;
            }
            bytes += letter.compact.len();
            if !page.letters.is_empty() && (page.letters.len() >= stretch.rows_max || bytes > stretch.bytes_max) {
                page.next = Some(read_to);
                break;
            }
            read_to = *place;
            page.letters.push((place.peer(), letter.clone()));
        }
        page
    }

    fn rows_behind(&self, after: u64, rows_max: usize, handed: u64) -> Vec<Handed> {
        let rows = self.inbox.iter().filter(|(seq, ..)| *seq > after).take(rows_max);
        rows.map(|(seq, peer, row)| Handed { seq: *seq, peer: *peer, row: row.clone(), redelivered: *seq <= handed })
            .collect()
    }

    fn read_inbox(&mut self, name: &str, after: Option<u64>, rows_max: usize) -> Vec<Handed> {
        if self.consumers.iter().all(|consumer| consumer.name != name) {
            self.consumers.push(Consumer { name: name.to_owned(), confirmed: self.purged, handed: 0 });
        }
        let place = self.consumers.iter().position(|consumer| consumer.name == name).unwrap();
        let Consumer { confirmed, handed, .. } = self.consumers[place];
        let rows = self.rows_behind(after.unwrap_or(0).max(confirmed), rows_max, handed);
        if let Some(last) = rows.last() {
            self.consumers[place].handed = handed.max(last.seq);
        }
        rows
    }

    fn confirm(&mut self, name: &str, up_to: u64) -> Answer {
        let tail = self.tail;
        match self.consumers.iter_mut().find(|consumer| consumer.name == name) {
            Some(consumer) if up_to <= tail => {
                consumer.confirmed = consumer.confirmed.max(up_to);
                Answer::Done
            }
            _ => Answer::Invalid,
        }
    }

    fn done(&self) -> u64 {
        self.consumers.iter().map(|consumer| consumer.confirmed).min().unwrap_or(0)
    }

    fn history(&self, jti: &Jti) -> Vec<(PeerId, Direction, Remembered)> {
        let mut history = Vec::new();
        for peer in self.ids() {
            for direction in [Direction::Out, Direction::In] {
                let known = self.known(peer, direction, jti);
                history.extend(known.map(|known| (peer, direction, known.clone())));
            }
        }
        history
    }

    fn purge(&mut self, before: Wall) -> Answer {
        let done = self.done();
        self.inbox.retain(|(seq, ..)| *seq > done);
        self.purged = self.purged.max(done);
        for memory in &mut self.memories {
            let waits = memory.direction == Direction::Out
                && self.outbox.iter().any(|(peer, row)| *peer == memory.peer && row.jti == memory.jti);
            memory.may_be_gone |= newest(&memory.remembered) < before && !waits;
        }
        Answer::Flag(false)
    }
}

/// What a write leaves to be remembered.
fn remembered(write: &Write) -> Option<(Direction, Jti, Remembered)> {
    let answered = |digest, since, verdict| {
        let (fate, story) = (Fate::Answered(verdict), Story::default());
        Remembered { digest, seq: 0, since, fate, story }
    };
    Some(match write {
        Write::Enqueue(OutboxRow { seq, jti, digest, accepted_at, story, .. }) => {
            let (digest, seq, since, story) = (*digest, *seq, *accepted_at, story.clone());
            (Direction::Out, jti.clone(), Remembered { digest, seq, since, fate: Fate::Queued, story })
        }
        Write::Settle { seq, jti, digest, accepted_at, outcome, at, attempts, story } => {
            let outcome = match outcome {
                Outcome::Refused(SetErr { err, description }) => {
                    let (err, description) = (cut(err, ERR_MAX), cut(description, DESCRIPTION_MAX));
                    Outcome::Refused(SetErr { err, description })
                }
                other => other.clone(),
            };
            let fate = Fate::Settled { outcome, at: *at, attempts: *attempts };
            let (digest, seq, since, story) = (*digest, *seq, *accepted_at, story.clone());
            (Direction::Out, jti.clone(), Remembered { digest, seq, since, fate, story })
        }
        Write::Lift { jti, memory, .. } => (Direction::Out, jti.clone(), memory.clone()?),
        Write::Receive(InboxRow { jti, digest, received_at, .. }) => {
            (Direction::In, jti.clone(), answered(*digest, *received_at, Verdict::Acked))
        }
        Write::Answer { jti, digest, verdict: Verdict::Acked, at } => {
            (Direction::In, jti.clone(), answered(*digest, *at, Verdict::Acked))
        }
        Write::Answer { jti, digest, verdict: Verdict::Refused(Refusal { code, description }), at } => {
            let refusal = Refusal::new(*code, cut(description, DESCRIPTION_MAX));
            (Direction::In, jti.clone(), answered(*digest, *at, Verdict::Refused(refusal)))
        }
        Write::Attempts { .. } | Write::Paused(_) => return None,
    })
}

fn cut(text: &str, bytes_max: usize) -> String {
    let end = text.char_indices().map(|(start, c)| start + c.len_utf8()).take_while(|end| *end <= bytes_max).last();
    text[..end.unwrap_or(0)].to_owned()
}

fn newest(remembered: &Remembered) -> Wall {
    let settled = match remembered.fate {
        Fate::Settled { at, .. } => at,
        _ => Wall(0),
    };
    remembered.since.max(settled).max(remembered.story.newest().unwrap_or_default())
}

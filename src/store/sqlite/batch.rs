//! One transaction in the making: what every waiting caller asked for, applied in their order.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::Connection;

use super::archive;
use super::bundle::Bundle;
use super::kept::{Ends, Kept, Peer, Position, added, damaged};
use super::newest::Received;
use super::queue::{Queue, Spot};
use super::rows::{PEER_MAX, SEQ_MAX, Table, int, outbox_key, put_inbox, row_bytes, seal, seal_attempts};
use super::seen::{Key, Tail, Upkeep};
use super::shared::Shared;
use crate::clock::Wall;
use crate::peer::{Direction, InboxRow, OutboxRow, Outcome, PeerId, Remembered, Saved, Write};
use crate::set::Jti;
use crate::store::{Error, remember};

/// Sees what is durable and, over it, what the callers before have asked for.
pub(super) struct Batch<'w> {
    pub(super) conn: &'w Connection,
    pub(super) shared: &'w Shared,
    pub(super) kept: &'w Kept,
    pub(super) effects: Effects,
    queue: Queue,
    /// Received, and in no row yet.
    arrived: Bundle,
    /// New memory of jtis, not yet logged.
    fresh: Tail,
}

/// What becomes true when the transaction is durable.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Peers whose row changes: written once a transaction.
    pub(super) peers: BTreeMap<PeerId, Peer>,
    pub(super) new_peers: Vec<(PeerId, Arc<str>)>,
    pub(super) added: BTreeMap<String, Option<String>>,
    pub(super) consumers: BTreeMap<String, Option<Position>>,
    pub(super) ends: Ends,
    pub(super) archive: Option<archive::End>,
    pub(super) drop_segment: Option<i64>,
    /// The file is to be cut.
    pub(super) is_shorter: bool,
    /// New rows of the inbox.
    pub(super) received: Vec<Received>,
}

impl<'w> Batch<'w> {
    /// For about so many writes.
    pub(super) fn new(conn: &'w Connection, shared: &'w Shared, kept: &'w Kept, writes: usize) -> Self {
        let effects = Effects { ends: kept.ends, archive: kept.archive, ..Effects::default() };
        let (queue, arrived, fresh) = (Queue::default(), Bundle::default(), Tail::of_transaction(writes));
        Self { conn, shared, kept, effects, queue, arrived, fresh }
    }

    /// What is kept of this peer.
    pub(super) fn saved(&self, peer: PeerId) -> Result<Saved, Error> {
        Ok(self.peer(peer)?.saved.clone())
    }

    /// Applies a peer's writes. What cannot be applied is found out before anything changes.
    pub(super) fn commit(&mut self, id: PeerId, writes: &[Write]) -> Result<(), Error> {
        let mut peer = self.peer(id)?.clone();
        for write in writes {
            if let Write::Enqueue(OutboxRow { seq, .. }) = write
                && !(1..SEQ_MAX).contains(seq)
            {
                return Err(Error::Invalid(format!("seq {seq} is not in 1..{SEQ_MAX}")));
            }
        }
        let keys: Vec<Key> = writes.iter().map(|write| self.memory_key(id, write)).collect();
        self.shared.seen.reach(&keys);
        for (write, memory) in writes.iter().zip(keys) {
            if self.apply(id, &mut peer, write, memory)? {
                peer.saved.counts.apply(write);
            }
        }
        if self.peer(id)? != &peer {
            self.effects.peers.insert(id, peer);
        }
        Ok(())
    }

    /// The number of a name, made if it is new.
    pub(super) fn peer_id(&mut self, name: &str) -> Result<PeerId, Error> {
        let made = self.effects.new_peers.iter().find(|(_, made)| **made == *name).map(|(id, _)| *id);
        if let Some(id) = made.or_else(|| self.shared.directory().ids.get(name).copied()) {
            return Ok(id);
        }
        let newest = self.kept.peers.keys().chain(self.effects.peers.keys()).max().map_or(0, |id| id.0);
        if newest >= PEER_MAX {
            return Err(Error::Invalid(format!("there are {PEER_MAX} peers already, no more can be numbered")));
        }
        let (id, peer) = (PeerId(newest + 1), Peer::new(name));
        self.effects.new_peers.push((id, Arc::clone(&peer.name)));
        self.effects.peers.insert(id, peer);
        Ok(id)
    }

    /// Stores a definition; false if there is one of that name.
    pub(super) fn add_peer(&mut self, name: &str, definition: &str) -> Result<bool, Error> {
        if self.is_added(name) {
            return Ok(false);
        }
        added::save(self.conn, name, definition)?;
        self.effects.added.insert(name.to_owned(), Some(definition.to_owned()));
        Ok(true)
    }

    /// Removes a definition; false if there is none.
    pub(super) fn remove_peer(&mut self, name: &str) -> Result<bool, Error> {
        if !self.is_added(name) {
            return Ok(false);
        }
        added::remove(self.conn, name)?;
        self.effects.added.insert(name.to_owned(), None);
        Ok(true)
    }

    /// Writes what was gathered besides the rows, all but the end of the transaction.
    pub(super) fn finish(mut self, upkeep: &mut Upkeep) -> Result<(Effects, usize), Error> {
        self.queue.save(self.conn)?;
        self.store_arrived()?;
        self.mark_ahead();
        let Self { conn, effects, fresh, .. } = self;
        for (id, peer) in &effects.peers {
            peer.save(conn, *id)?;
        }
        for (name, position) in &effects.consumers {
            match position {
                Some(position) => position.save(conn, name)?,
                None => Position::remove(conn, name)?,
            }
        }
        if let Some(segment) = effects.drop_segment {
            upkeep.drop_segment(conn, segment)?;
        }
        let remembered = fresh.len();
        upkeep.log(conn, fresh)?;
        Ok((effects, remembered))
    }

    /// Under which key a write may leave something in the memory.
    fn memory_key(&self, id: PeerId, write: &Write) -> Key {
        about(write).map_or(Key::NONE, |(direction, jti)| self.shared.seen.key(id, direction, jti))
    }

    /// Applies one write; false if it had taken effect before.
    fn apply(&mut self, id: PeerId, peer: &mut Peer, write: &Write, memory: Key) -> Result<bool, Error> {
        let effective = match write {
            Write::Attempts { seq, attempts } => return self.attempts(outbox_key(id, *seq), *attempts),
            Write::Paused(paused) => {
                peer.saved.paused = *paused;
                return Ok(true);
            }
            Write::Enqueue(row) => self.enqueue(id, peer, row, memory)?,
            Write::Settle { seq, outcome, at, .. } => self.settle(outbox_key(id, *seq), outcome, *at, write)?,
            Write::Lift { seq, .. } => self.lift(outbox_key(id, *seq))?,
            Write::Receive(row) => self.find(memory)?.is_none() && self.receive(id, row)?,
            Write::Answer { .. } => self.find(memory)?.is_none(),
        };
        if effective && let Some((_, _, remembered)) = remember::remembered(write) {
            self.fresh.insert(memory, &remembered);
        }
        Ok(effective)
    }

    fn enqueue(&mut self, id: PeerId, peer: &mut Peer, row: &OutboxRow, memory: Key) -> Result<bool, Error> {
        let key = outbox_key(id, row.seq);
        // As seqs rise, a lower one is a repetition. That it really is one is made sure of: a SET must not get lost.
        if row.seq < peer.saved.next_seq {
            let spot = self.queue.find(self.conn, key)?;
            if matches!(spot, Spot::Alone | Spot::In(..)) || self.has_ended(key, row, memory)? {
                return Ok(false);
            }
            if let Spot::GoneFrom(bundle) = spot
                && !self.spread(bundle)?
            {
                return Err(damaged("outbox", &bundle.to_string()));
            }
        }
        self.queue.push(self.conn, key, row)?;
        peer.saved.next_seq = peer.saved.next_seq.max(row.seq + 1);
        Ok(true)
    }

    fn has_ended(&self, key: i64, row: &OutboxRow, memory: Key) -> Result<bool, Error> {
        let is_dead = self
            .conn
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM dead_letter WHERE key = ?1)")?
            .query_row([key], |row| row.get(0))?;
        Ok(is_dead || self.find(memory)?.is_some_and(|known| known.seq >= row.seq))
    }

    fn attempts(&mut self, key: i64, attempts: u32) -> Result<bool, Error> {
        match self.queue.find(self.conn, key)? {
            Spot::Nowhere | Spot::GoneFrom(_) => return Ok(false),
            Spot::Alone => {}
            // What has to be said twice may have to be said often. Those of a damaged bundle are tried more, never fewer.
            Spot::In(bundle, _) => {
                if !self.spread(bundle)? {
                    return Ok(false);
                }
            }
        }
        // The lower half is the number; it never goes back.
        let changed = self
            .conn
            .prepare_cached("UPDATE outbox SET attempts = ?2 WHERE key = ?1 AND (attempts & 4294967295) < ?3")?
            .execute((key, seal_attempts(key, attempts), attempts))?;
        Ok(changed > 0)
    }

    fn settle(&mut self, key: i64, outcome: &Outcome, at: Wall, write: &Write) -> Result<bool, Error> {
        let spot = self.queue.find(self.conn, key)?;
        if matches!(spot, Spot::Nowhere | Spot::GoneFrom(_)) {
            return Ok(false);
        }
        if let Some(end) = &mut self.effects.archive {
            end.pass(at);
        }
        if *outcome != Outcome::Acked
            && let Some((_, _, remembered)) = remember::remembered(write)
        {
            let mut fate = Tail::default();
            fate.insert(Key::NONE, &remembered);
            let fate = seal(Table::DeadLetter, key, fate.pieces().concat());
            self.bury(key, spot, fate)?;
        }
        match spot {
            Spot::In(bundle, index) => {
                if self.queue.take(bundle, index) {
                    let is_kept = self.archive(bundle, at)?;
                    self.queue.remove(self.conn, bundle, is_kept)?;
                }
            }
            _ => {
                if *outcome == Outcome::Acked {
                    self.archive(key, at)?;
                }
                self.conn.prepare_cached("DELETE FROM outbox WHERE key = ?1")?.execute([key])?;
            }
        }
        Ok(true)
    }

    /// Gives each SET of a bundle a row of its own; false if nobody knows any more what is where in it.
    fn spread(&mut self, bundle: i64) -> Result<bool, Error> {
        let Some(left) = self.queue.spread(self.conn, bundle)? else { return Ok(false) };
        for row in left {
            match &mut self.effects.archive {
                Some(end) if self.shared.healthy() => end.add_lone(self.conn, row)?,
                Some(end) => end.miss(self.conn)?,
                None => {}
            }
        }
        Ok(true)
    }

    /// Keeps a row of the outbox of which the last SET leaves; false if it is not to be kept. What little room a full disk
    /// has is left to those who wait.
    fn archive(&mut self, key: i64, at: Wall) -> Result<bool, Error> {
        match &mut self.effects.archive {
            Some(end) if self.shared.healthy() => {
                end.add(self.conn, key, at)?;
                return Ok(true);
            }
            Some(end) => end.miss(self.conn)?,
            None => {}
        }
        Ok(false)
    }

    /// Keeps a row of the outbox as it is, damaged or not, as a dead letter.
    fn bury(&mut self, key: i64, spot: Spot, fate: Vec<u8>) -> Result<(), Error> {
        if let Spot::In(bundle, index) = spot {
            let row = self.queue.row(self.conn, bundle, index)?;
            self.conn
                .prepare_cached("INSERT INTO dead_letter (key, attempts, row, outcome) VALUES (?1, ?2, ?3, ?4)")?
                .execute((key, seal_attempts(key, 0), row, fate))?;
        } else {
            self.conn
                .prepare_cached(
                    "INSERT INTO dead_letter (key, attempts, row, outcome)
                     SELECT key, attempts, row, ?2 FROM outbox WHERE key = ?1",
                )?
                .execute((key, fate))?;
        }
        Ok(())
    }

    fn lift(&mut self, key: i64) -> Result<bool, Error> {
        let removed = self.conn.prepare_cached("DELETE FROM dead_letter WHERE key = ?1")?.execute([key])?;
        Ok(removed > 0)
    }

    fn receive(&mut self, id: PeerId, row: &InboxRow) -> Result<bool, Error> {
        let seq = self.effects.ends.tail + 1;
        if !self.arrived.takes(int(seq), row_bytes(&row.jti, &row.compact)) {
            self.store_arrived()?;
        }
        self.arrived.push(int(seq), |rows| put_inbox(rows, int(seq), id, row));
        self.effects.received.push((seq, id, row.clone()));
        self.effects.ends.tail = seq;
        Ok(true)
    }

    /// Writes what was received, of whichever peer.
    pub(super) fn store_arrived(&mut self) -> Result<(), Error> {
        if let Some((seq, _, row)) = self.arrived.close(Table::InboxBundle) {
            self.conn.prepare_cached("INSERT INTO inbox (seq, row) VALUES (?1, ?2)")?.execute((seq, row))?;
        }
        Ok(())
    }

    fn find(&self, key: Key) -> Result<Option<Remembered>, Error> {
        match self.fresh.get(key) {
            Some(remembered) => Ok(Some(remembered)),
            None => self.shared.seen.find(self.conn, key),
        }
    }

    fn peer(&self, id: PeerId) -> Result<&Peer, Error> {
        self.effects
            .peers
            .get(&id)
            .or_else(|| self.kept.peers.get(&id))
            .ok_or_else(|| Error::Invalid(format!("there is no peer of number {}: ask for its number first", id.0)))
    }

    fn is_added(&self, name: &str) -> bool {
        match self.effects.added.get(name) {
            Some(staged) => staged.is_some(),
            None => self.shared.directory().added.contains_key(name),
        }
    }
}

/// Which jti a write may leave in the memory.
fn about(write: &Write) -> Option<(Direction, &Jti)> {
    match write {
        Write::Enqueue(OutboxRow { jti, .. }) | Write::Settle { jti, .. } | Write::Lift { jti, .. } => {
            Some((Direction::Out, jti))
        }
        Write::Receive(InboxRow { jti, .. }) | Write::Answer { jti, .. } => Some((Direction::In, jti)),
        Write::Attempts { .. } | Write::Paused(_) => None,
    }
}

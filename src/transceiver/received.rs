//! Received SETs as the application reads them.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};

use super::{Inner, Transceiver};
use crate::clock::Wall;
use crate::engine;
use crate::peer::PeerId;
use crate::set::{Jti, decode};
use crate::store::{self, ConsumerAt, Handed};

/// The inbox of one named consumer.
pub struct Inbox {
    transceiver: Transceiver,
    engine: engine::Inbox,
    /// Read and not yet returned by [`Inbox::next`].
    ahead: VecDeque<Received>,
    read_to: Option<u64>,
}

/// A received SET: verified, durably stored, and acknowledged to its sender.
#[derive(Clone)]
pub struct Received {
    transceiver: Transceiver,
    consumer: Arc<str>,
    /// Its place in the inbox, over all peers: rises, may skip.
    pub seq: u64,
    /// Who sent it.
    pub peer: Arc<str>,
    /// Its identity in that peer's feed.
    pub jti: Jti,
    /// The compact JWS as it came.
    pub set: Arc<str>,
    /// When it came.
    pub received_at: Wall,
    /// This consumer may have been given it before, without confirming it.
    pub redelivered: bool,
}

/// SETs that [`Inbox::next`] reads at a time.
const AHEAD: usize = 256;

impl Inbox {
    pub(super) fn new(transceiver: Transceiver, consumer: &str) -> Self {
        let engine = transceiver.0.supervisor.inbox(consumer);
        Self { transceiver, engine, ahead: VecDeque::new(), read_to: None }
    }

    /// The next SET, in order; waits for one. It comes again after a restart until it is confirmed.
    ///
    /// Cancel-safe.
    pub async fn next(&mut self) -> Result<Received, store::Error> {
        loop {
            if let Some(received) = self.ahead.pop_front() {
                return Ok(received);
            }
            let batch = self.read(self.read_to, AHEAD, Duration::from_secs(60)).await?;
            self.read_to = batch.last().map(|received| received.seq).or(self.read_to);
            self.ahead.extend(batch);
        }
    }

    /// Up to `max` SETs behind `after` (default: behind the last confirmed), waiting up to `wait` for the first.
    pub async fn read(
        &mut self,
        after: Option<u64>,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Received>, store::Error> {
        let read = self.engine.read(after, max, wait).await;
        let rows = read.inspect_err(|error| self.transceiver.0.supervisor.note_failure(error))?;
        Ok(self.transceiver.received(self.engine.consumer(), rows))
    }

    /// Everything up to and including `seq` has been dealt with. Durable when it returns.
    pub async fn confirm(&self, seq: u64) -> Result<(), store::Error> {
        let confirmed = self.engine.confirm(seq).await;
        confirmed.inspect_err(|error| self.transceiver.0.supervisor.note_failure(error))
    }
}

impl Received {
    /// Its claims, read from the SET: keep them if they are needed again.
    pub fn claims(&self) -> Map<String, Value> {
        // It was verified when it came; that it still decodes is assured by the checksum of its row.
        decode(&self.set).map(|(_, claims)| claims).unwrap_or_default()
    }

    /// This SET, and every one before it, has been dealt with: none of them comes again. Durable when it returns.
    pub async fn confirm(&self) -> Result<(), store::Error> {
        let inner = &self.transceiver.0;
        let confirmed = inner.journal.confirm(self.consumer.to_string(), self.seq).await;
        confirmed.inspect_err(|error| inner.supervisor.note_failure(error))
    }
}

impl Transceiver {
    /// Up to `max` received SETs behind `after` (default: from the oldest kept), for nobody in particular, waiting up
    /// to `wait` for the first: it changes nothing.
    pub async fn peek(&self, after: Option<u64>, max: usize, wait: Duration) -> Result<Vec<Received>, store::Error> {
        let read = self.0.supervisor.peek(after, max, wait).await;
        let rows = read.inspect_err(|error| self.0.supervisor.note_failure(error))?;
        Ok(self.received("", rows))
    }

    fn received(&self, consumer: &str, rows: Vec<Handed>) -> Vec<Received> {
        let consumer: Arc<str> = consumer.into();
        // Those that follow each other are mostly of one peer.
        let mut last: Option<(PeerId, Arc<str>)> = None;
        let received = rows.into_iter().map(|Handed { seq, peer, row, redelivered }| {
            let known = last.take().filter(|(id, _)| *id == peer);
            let (_, name) = known.unwrap_or_else(|| (peer, self.0.name_of(peer)));
            last = Some((peer, Arc::clone(&name)));
            Received {
                transceiver: self.clone(),
                consumer: Arc::clone(&consumer),
                seq,
                peer: name,
                jti: row.jti,
                set: row.compact,
                received_at: row.received_at,
                redelivered,
            }
        });
        received.collect()
    }

    /// All consumers of the inbox and how far they are, and the `seq` of the last SET that was received. Each keeps every SET behind what it has
    /// confirmed.
    pub fn consumers(&self) -> (Vec<ConsumerAt>, u64) {
        let end = *self.0.journal.inbox_tail().borrow();
        (self.0.journal.consumers(), end)
    }

    /// Forgets a consumer, so that it keeps no more rows. False if there is none of that name.
    pub async fn forget_consumer(&self, consumer: &str) -> Result<bool, store::Error> {
        let forgotten = self.0.journal.forget_consumer(consumer.to_owned()).await;
        forgotten.inspect_err(|error| self.0.supervisor.note_failure(error))
    }
}

impl Inner {
    pub(super) fn name_of(&self, peer: PeerId) -> Arc<str> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.get(&peer).cloned().unwrap_or_else(|| format!("peer-{}", peer.0).into())
    }
}

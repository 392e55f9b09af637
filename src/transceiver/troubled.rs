//! A store for tests of what becomes of a call when the store is slow, full or broken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Wall;
use crate::peer::{DeadPage, Direction, Page, PeerId, Remembered, Saved, Select, Stretch, Write};
use crate::set::Jti;
use crate::store::{ConsumerAt, Epoch, Error, Handed, Journal, Memory, Pending, Registry};

/// A store in memory that has every trouble it is told to have.
#[derive(Default)]
pub(super) struct Troubled {
    inner: Memory,
    /// So many milliseconds a commit takes.
    pub(super) commit_takes: AtomicU64,
    /// It does not tell what it keeps of a peer.
    pub(super) broken: AtomicBool,
    /// Its disk is full as long as it is asked for that, and for nothing else.
    pub(super) full_for_recovery: AtomicBool,
    /// There is no room on its disk.
    pub(super) full: AtomicBool,
    /// It does not say so.
    pub(super) healthy_anyway: AtomicBool,
    /// With the next commit its disk is full.
    pub(super) fills_up: AtomicBool,
}

impl Journal for Troubled {
    fn recover(&self, peer: PeerId) -> Pending<'_, Saved> {
        if self.full_for_recovery.load(Ordering::Relaxed) {
            return Box::pin(async { Err(Error::Full) });
        }
        match self.broken.load(Ordering::Relaxed) {
            true => Box::pin(async { Err(Error::Invalid("broken".to_owned())) }),
            false => self.inner.recover(peer),
        }
    }

    fn commit(&self, peer: PeerId, epoch: Epoch, writes: Arc<Vec<Write>>) -> Pending<'_, ()> {
        Box::pin(async move {
            if self.fills_up.load(Ordering::Relaxed) {
                self.full.store(true, Ordering::Relaxed);
            }
            if self.full.load(Ordering::Relaxed) {
                return Err(Error::Full);
            }
            tokio::time::sleep(Duration::from_millis(self.commit_takes.load(Ordering::Relaxed))).await;
            self.inner.commit(peer, epoch, writes).await
        })
    }

    fn known(&self, peer: PeerId, direction: Direction, jtis: Vec<Jti>) -> Pending<'_, Vec<Option<Remembered>>> {
        self.inner.known(peer, direction, jtis)
    }

    fn read_outbox(&self, peer: PeerId, select: Select) -> Pending<'_, Page> {
        self.inner.read_outbox(peer, select)
    }

    fn read_dead_letters(&self, stretch: Stretch) -> Pending<'_, DeadPage> {
        self.inner.read_dead_letters(stretch)
    }

    fn dead_letters_at(&self, peer: PeerId, seqs: Vec<u64>) -> Pending<'_, DeadPage> {
        self.inner.dead_letters_at(peer, seqs)
    }

    fn read_inbox(&self, consumer: String, after: Option<u64>, rows_max: usize) -> Pending<'_, Vec<Handed>> {
        self.inner.read_inbox(consumer, after, rows_max)
    }

    fn peek_inbox(&self, after: Option<u64>, rows_max: usize) -> Pending<'_, Vec<Handed>> {
        self.inner.peek_inbox(after, rows_max)
    }

    fn confirm(&self, consumer: String, up_to: u64) -> Pending<'_, ()> {
        self.inner.confirm(consumer, up_to)
    }

    fn consumers(&self) -> Vec<ConsumerAt> {
        self.inner.consumers()
    }

    fn forget_consumer(&self, consumer: String) -> Pending<'_, bool> {
        self.inner.forget_consumer(consumer)
    }

    fn history(&self, jti: Jti) -> Pending<'_, Vec<(PeerId, Direction, Remembered)>> {
        self.inner.history(jti)
    }

    fn purge(&self, memory_before: Wall) -> Pending<'_, bool> {
        self.inner.purge(memory_before)
    }

    fn last_time(&self) -> Pending<'_, Option<Wall>> {
        self.inner.last_time()
    }

    fn note_time(&self, at: Wall) -> Pending<'_, ()> {
        self.inner.note_time(at)
    }

    fn probe(&self) -> Pending<'_, ()> {
        self.inner.probe()
    }

    fn inbox_tail(&self) -> watch::Receiver<u64> {
        self.inner.inbox_tail()
    }

    fn inbox_len(&self) -> u64 {
        self.inner.inbox_len()
    }

    fn healthy(&self) -> bool {
        let is_full = self.full.load(Ordering::Relaxed) && !self.healthy_anyway.load(Ordering::Relaxed);
        !is_full && self.inner.healthy()
    }

    fn failed(&self) -> bool {
        self.inner.failed()
    }
}

impl Registry for Troubled {
    fn peer_id(&self, name: String) -> Pending<'_, PeerId> {
        self.inner.peer_id(name)
    }

    fn names(&self) -> Pending<'_, Vec<(PeerId, String)>> {
        self.inner.names()
    }

    fn added_peers(&self) -> Pending<'_, Vec<(String, String)>> {
        self.inner.added_peers()
    }

    fn add_peer(&self, name: String, definition: String) -> Pending<'_, bool> {
        self.inner.add_peer(name, definition)
    }

    fn remove_peer(&self, name: String) -> Pending<'_, bool> {
        self.inner.remove_peer(name)
    }
}

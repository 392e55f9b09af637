//! A store that does something wrong on purpose: the comparison must notice.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use pushpull::clock::Wall;
use pushpull::peer::{DeadPage, Direction, Page, PeerId, Remembered, Saved, Select, Stretch, Write};
use pushpull::set::Jti;
use pushpull::store::{ConsumerAt, Epoch, Handed, Journal, Memory, Pending, Registry};
use tokio::sync::watch;

use crate::call::everything;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wrong {
    /// Now and then the last of several writes is not carried out.
    SwallowedWrite,
    /// Rows of the inbox come in the wrong order.
    OutOfOrder,
    /// The outbox is read as it was before the last commit.
    StaleRead,
}

/// The store in memory, and what is wrong with it.
pub(crate) struct Faulty {
    store: Memory,
    wrong: Wrong,
    commits: AtomicU64,
    stale: Mutex<Vec<(PeerId, Page)>>,
}

impl Faulty {
    pub(crate) fn new(wrong: Wrong) -> Self {
        Self { store: Memory::new(), wrong, commits: AtomicU64::new(0), stale: Mutex::default() }
    }

    fn order(&self, mut rows: Vec<Handed>) -> Vec<Handed> {
        if self.wrong == Wrong::OutOfOrder {
            rows.reverse();
        }
        rows
    }
}

impl Journal for Faulty {
    fn recover(&self, peer: PeerId) -> Pending<'_, Saved> {
        self.store.recover(peer)
    }

    fn commit(&self, peer: PeerId, epoch: Epoch, writes: Arc<Vec<Write>>) -> Pending<'_, ()> {
        Box::pin(async move {
            let page = self.store.read_outbox(peer, everything()).await?;
            self.stale.lock().unwrap().push((peer, page));
            let number = self.commits.fetch_add(1, Ordering::Relaxed);
            let swallows = self.wrong == Wrong::SwallowedWrite && writes.len() > 2 && number.is_multiple_of(4);
            let count = writes.len() - usize::from(swallows);
            self.store.commit(peer, epoch, Arc::new(writes[..count].to_vec())).await
        })
    }

    fn known(&self, peer: PeerId, direction: Direction, jtis: Vec<Jti>) -> Pending<'_, Vec<Option<Remembered>>> {
        self.store.known(peer, direction, jtis)
    }

    fn read_outbox(&self, peer: PeerId, select: Select) -> Pending<'_, Page> {
        let stale = self.stale.lock().unwrap().iter().rfind(|(of, _)| *of == peer).map(|(_, page)| page.clone());
        match stale {
            Some(page) if self.wrong == Wrong::StaleRead && select == everything() => Box::pin(async { Ok(page) }),
            _ => self.store.read_outbox(peer, select),
        }
    }

    fn read_dead_letters(&self, stretch: Stretch) -> Pending<'_, DeadPage> {
        self.store.read_dead_letters(stretch)
    }

    fn dead_letters_at(&self, peer: PeerId, seqs: Vec<u64>) -> Pending<'_, DeadPage> {
        self.store.dead_letters_at(peer, seqs)
    }

    fn read_inbox(&self, consumer: String, after: Option<u64>, rows_max: usize) -> Pending<'_, Vec<Handed>> {
        Box::pin(async move { Ok(self.order(self.store.read_inbox(consumer, after, rows_max).await?)) })
    }

    fn peek_inbox(&self, after: Option<u64>, rows_max: usize) -> Pending<'_, Vec<Handed>> {
        self.store.peek_inbox(after, rows_max)
    }

    fn confirm(&self, consumer: String, up_to: u64) -> Pending<'_, ()> {
        self.store.confirm(consumer, up_to)
    }

    fn consumers(&self) -> Vec<ConsumerAt> {
        self.store.consumers()
    }

    fn forget_consumer(&self, consumer: String) -> Pending<'_, bool> {
        self.store.forget_consumer(consumer)
    }

    fn history(&self, jti: Jti) -> Pending<'_, Vec<(PeerId, Direction, Remembered)>> {
        self.store.history(jti)
    }

    fn purge(&self, memory_before: Wall) -> Pending<'_, bool> {
        self.store.purge(memory_before)
    }

    fn last_time(&self) -> Pending<'_, Option<Wall>> {
        self.store.last_time()
    }

    fn note_time(&self, at: Wall) -> Pending<'_, ()> {
        self.store.note_time(at)
    }

    fn probe(&self) -> Pending<'_, ()> {
        self.store.probe()
    }

    fn inbox_tail(&self) -> watch::Receiver<u64> {
        self.store.inbox_tail()
    }

    fn inbox_len(&self) -> u64 {
        self.store.inbox_len()
    }

    fn healthy(&self) -> bool {
        self.store.healthy()
    }

    fn failed(&self) -> bool {
        self.store.failed()
    }
}

impl Registry for Faulty {
    fn peer_id(&self, name: String) -> Pending<'_, PeerId> {
        self.store.peer_id(name)
    }

    fn names(&self) -> Pending<'_, Vec<(PeerId, String)>> {
        self.store.names()
    }

    fn added_peers(&self) -> Pending<'_, Vec<(String, String)>> {
        self.store.added_peers()
    }

    fn add_peer(&self, name: String, definition: String) -> Pending<'_, bool> {
        self.store.add_peer(name, definition)
    }

    fn remove_peer(&self, name: String) -> Pending<'_, bool> {
        self.store.remove_peer(name)
    }
}

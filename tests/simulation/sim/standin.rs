//! A disk that never fails, until there is one that does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use pushpull::clock::Wall;
use pushpull::peer::{DeadPage, Direction, Page, PeerId, Remembered, Saved, Select, Stretch, Write};
use pushpull::set::{Digest, Jti};
use pushpull::store::{Epoch, Error, Handed, Journal, Memory, Pending, Registry};
use tokio::sync::watch;

use super::event::{Contents, Event, Org};

pub trait Witness: Send + Sync + 'static {
    fn org(&self) -> Org;
    fn partner(&self, name: &str) -> Org;
    fn note(&self, event: &Event);
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Bugs;
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults;

#[derive(Clone, Debug)]
pub enum End {
    Hangs,
    Failed(String),
}

#[derive(Clone)]
pub struct Disk {
    memory: Arc<Memory>,
    witness: Arc<dyn Witness>,
    names: Arc<Mutex<BTreeMap<PeerId, Org>>>,
    life: Arc<Mutex<u64>>,
}

pub struct Store {
    disk: Disk,
    life: u64,
}

impl Disk {
    pub fn new(_seed: u64, _bugs: Bugs, witness: Arc<dyn Witness>) -> Self {
        Self { memory: Arc::new(Memory::new()), witness, names: Arc::default(), life: Arc::default() }
    }

    pub fn set_faults(&self, _faults: Faults) {}

    pub async fn open(&self) -> Result<Store, Error> {
        Ok(Store { disk: self.clone(), life: *self.life.lock().expect("no panics") })
    }

    pub fn crash(&self) {
        *self.life.lock().expect("no panics") += 1;
    }

    pub fn wipe(&self) {}

    pub fn contents(&self) -> Contents {
        use futures_util::FutureExt as _;
        let mut contents = Contents::default();
        for (id, org) in self.names.lock().expect("no panics").iter() {
            let page = self
                .memory
                .read_outbox(*id, Select::After { after: 0, rows_max: usize::MAX, bytes_max: usize::MAX })
                .now_or_never();
            if let Some(Ok(page)) = page {
                let rows = page.rows.iter().map(|row| (row.jti.clone(), Digest::of(row.compact.as_bytes())));
                contents.outbox.insert(*org, rows.collect());
            }
        }
        contents
    }
}

impl Store {
    pub async fn ended(&self) -> End {
        std::future::pending().await
    }

    fn lives(&self) -> bool {
        *self.disk.life.lock().expect("no panics") == self.life
    }

    fn ask<'a, T: Send + 'a>(&'a self, answer: Pending<'a, T>) -> Pending<'a, T> {
        Box::pin(async move { if self.lives() { answer.await } else { std::future::pending().await } })
    }
}

impl Journal for Store {
    fn recover(&self, peer: PeerId) -> Pending<'_, Saved> {
        self.ask(self.disk.memory.recover(peer))
    }
    fn commit(&self, peer: PeerId, epoch: Epoch, writes: Arc<Vec<Write>>) -> Pending<'_, ()> {
        Box::pin(async move {
            self.ask(self.disk.memory.commit(peer, epoch, Arc::clone(&writes))).await?;
            let partner = self.disk.names.lock().expect("no panics")[&peer];
            self.disk.witness.note(&Event::Durable { org: self.disk.witness.org(), partner, writes });
            Ok(())
        })
    }
    fn known(&self, peer: PeerId, direction: Direction, jtis: Vec<Jti>) -> Pending<'_, Vec<Option<Remembered>>> {
        self.ask(self.disk.memory.known(peer, direction, jtis))
    }
    fn read_outbox(&self, peer: PeerId, select: Select) -> Pending<'_, Page> {
        self.ask(self.disk.memory.read_outbox(peer, select))
    }
    fn read_dead_letters(&self, stretch: Stretch) -> Pending<'_, DeadPage> {
        self.ask(self.disk.memory.read_dead_letters(stretch))
    }
    fn dead_letters_at(&self, peer: PeerId, seqs: Vec<u64>) -> Pending<'_, DeadPage> {
        self.ask(self.disk.memory.dead_letters_at(peer, seqs))
    }
    fn read_inbox(&self, consumer: String, after: Option<u64>, rows_max: usize) -> Pending<'_, Vec<Handed>> {
        self.ask(self.disk.memory.read_inbox(consumer, after, rows_max))
    }
    fn peek_inbox(&self, after: Option<u64>, rows_max: usize) -> Pending<'_, Vec<Handed>> {
        self.ask(self.disk.memory.peek_inbox(after, rows_max))
    }
    fn confirm(&self, consumer: String, up_to: u64) -> Pending<'_, ()> {
        self.ask(self.disk.memory.confirm(consumer, up_to))
    }
    fn forget_consumer(&self, consumer: String) -> Pending<'_, bool> {
        self.ask(self.disk.memory.forget_consumer(consumer))
    }
    fn history(&self, jti: Jti) -> Pending<'_, Vec<(PeerId, Direction, Remembered)>> {
        self.ask(self.disk.memory.history(jti))
    }
    fn purge(&self, memory_before: Wall) -> Pending<'_, bool> {
        self.ask(self.disk.memory.purge(memory_before))
    }
    fn probe(&self) -> Pending<'_, ()> {
        self.ask(self.disk.memory.probe())
    }
    fn inbox_tail(&self) -> watch::Receiver<u64> {
        self.disk.memory.inbox_tail()
    }
    fn inbox_len(&self) -> u64 {
        self.disk.memory.inbox_len()
    }
    fn healthy(&self) -> bool {
        true
    }
}

impl Registry for Store {
    fn peer_id(&self, name: String) -> Pending<'_, PeerId> {
        Box::pin(async move {
            let org = self.disk.witness.partner(&name);
            let id = self.disk.memory.peer_id(name).await?;
            self.disk.names.lock().expect("no panics").insert(id, org);
            Ok(id)
        })
    }
    fn names(&self) -> Pending<'_, Vec<(PeerId, String)>> {
        self.disk.memory.names()
    }
    fn added_peers(&self) -> Pending<'_, Vec<(String, String)>> {
        self.disk.memory.added_peers()
    }
    fn add_peer(&self, name: String, definition: String) -> Pending<'_, bool> {
        self.disk.memory.add_peer(name, definition)
    }
    fn remove_peer(&self, name: String) -> Pending<'_, bool> {
        self.disk.memory.remove_peer(name)
    }
}

//! The disk and the process that has it open: started, killed at any moment, and started again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pushpull::peer::{PeerId, Write};
use pushpull::store::Error;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;

use super::super::event::{Contents, Event, Org};
use super::bugs::{Bug, Bugs};
use super::faults::{Faults, Luck};
use super::log::{Change, Remains, Transaction};
use super::store::Store;
use super::tables::Tables;
use super::writer;

/// Whose disk it is, and who hears of it. Called in the order in which things happen; must not call back.
pub trait Witness: Send + Sync + 'static {
    /// The organisation.
    fn org(&self) -> Org;
    /// The organisation that is the peer of this name.
    fn partner(&self, name: &str) -> Org;
    /// This happened.
    fn note(&self, event: &Event);
}

/// Why the process can do no more, and must be ended by whoever drives it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum End {
    /// It died within a commit: nothing is answered any more.
    Hangs,
    /// Its store failed: every call says so.
    Failed(String),
}

/// A disk: outlives the processes that have it open, one at a time.
#[derive(Clone)]
pub struct Disk {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    witness: Arc<dyn Witness>,
    platter: Mutex<Platter>,
}

/// The state of it all.
pub(super) struct Platter {
    pub(super) luck: Luck,
    pub(super) faults: Faults,
    pub(super) bugs: Bugs,
    /// What is on the disk for good.
    pub(super) durable: Tables,
    /// What the process sees, where a mistake lets it see more than is on the disk.
    pub(super) ahead: Option<Tables>,
    /// Written, and not synced.
    pub(super) log: Vec<Transaction>,
    pub(super) capacity: i64,
    /// Bytes that are taken by somebody else.
    pub(super) ballast: i64,
    pub(super) transactions: u64,
    pub(super) process: Option<Arc<Process>>,
    writer: Option<JoinHandle<()>>,
    /// What the process knows and nobody else: gone with it.
    pub(super) ram: Ram,
}

#[derive(Default)]
pub(super) struct Ram {
    pub(super) orders: VecDeque<Order>,
    /// Exactly how far each consumer was handed rows.
    pub(super) given: BTreeMap<String, u64>,
    pub(super) full: bool,
    /// That its disk is slow has been told.
    pub(super) slow: bool,
    pub(super) end: Option<End>,
    /// Those who will never be answered.
    pub(super) unanswered: Vec<Order>,
}

/// One running process, as far as its store goes.
pub(super) struct Process {
    pub(super) arrived: Notify,
    pub(super) tail: watch::Sender<u64>,
    pub(super) ended: watch::Sender<Option<End>>,
}

/// What somebody waits for.
pub(super) struct Order {
    pub(super) change: Change,
    pub(super) reply: oneshot::Sender<Result<Answer, Error>>,
}

impl Order {
    pub(super) fn is_commit(&self) -> bool {
        matches!(self.change, Change::Commit { .. })
    }
}

#[derive(Clone, Debug)]
pub(super) enum Answer {
    Done,
    Flag(bool),
    Peer(PeerId),
}

impl Disk {
    /// An empty disk whose luck comes from this seed.
    pub fn new(seed: u64, bugs: Bugs, witness: Arc<dyn Witness>) -> Self {
        let platter = Platter {
            luck: Luck::new(seed),
            faults: Faults::default(),
            bugs,
            durable: Tables { bugs, ..Tables::default() },
            ahead: None,
            log: Vec::new(),
            capacity: 1 << 30,
            ballast: 0,
            transactions: 0,
            process: None,
            writer: None,
            ram: Ram::default(),
        };
        Self { shared: Arc::new(Shared { witness, platter: Mutex::new(platter) }) }
    }

    /// From now on this may go wrong. With [`Faults::default`] the disk is healed: it has room again, too.
    pub fn set_faults(&self, faults: Faults) {
        let mut platter = self.shared.lock();
        platter.faults = faults;
        if faults.fills <= 0.0 {
            platter.ballast = 0;
        }
    }

    /// Starts a process with this store, after recovery. To be called within a runtime.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] while another process has it; [`Error::Fatal`] if the process dies meanwhile ([`Disk::crash`] it
    /// and start another), or if what it knows by heart is damaged.
    pub async fn open(&self) -> Result<Store, Error> {
        let (wait, dies) = {
            let mut platter = self.shared.lock();
            let Platter { luck, faults, .. } = &mut *platter;
            (luck.wait(faults), luck.strikes(faults.recovery_dies))
        };
        tokio::time::sleep(wait).await;
        if dies {
            self.shared.fault("died in recovery");
            return Err(Error::Fatal("the process died while it recovered".to_owned()));
        }
        let mut platter = self.shared.lock();
        if platter.process.is_some() {
            return Err(Error::Invalid("the database is in use by another process".to_owned()));
        }
        if platter.durable.sent.values().chain(platter.durable.received.values()).any(|row| !row.whole) {
            return Err(Error::Fatal("the memory of jtis is damaged: restore a backup".to_owned()));
        }
        let sees_more = [Bug::AckBeforeSync, Bug::SyncRetried].iter().any(|bug| platter.bugs.has(*bug));
        platter.ahead = sees_more.then(|| platter.durable.clone());
        let given = platter.durable.consumers.iter().map(|(name, position)| (name.clone(), position.handed)).collect();
        platter.ram = Ram { given, ..Ram::default() };
        let process = Arc::new(Process {
            arrived: Notify::new(),
            tail: watch::Sender::new(platter.durable.tail),
            ended: watch::Sender::new(None),
        });
        platter.process = Some(Arc::clone(&process));
        platter.writer = Some(tokio::spawn(writer::run(Arc::clone(&self.shared), Arc::clone(&process))));
        drop(platter);
        Ok(Store::new(Arc::clone(&self.shared), process))
    }

    /// The process is killed, or the power fails. What was synced stays; of what was not, luck decides, sector by sector,
    /// and recovery finds the transactions that are whole as far as all before them are. Calls of that process never end.
    pub fn crash(&self) {
        self.end(false);
    }

    /// The process ends in order.
    pub(super) fn end(&self, in_order: bool) {
        self.shared.end(in_order);
    }

    /// What the next process would find.
    pub fn contents(&self) -> Contents {
        self.shared.lock().durable.contents(&|name| self.shared.witness.partner(name))
    }

    /// Leaves room for so many bytes.
    pub fn fill(&self, left: u64) {
        let mut platter = self.shared.lock();
        let free = platter.capacity - platter.durable.bytes;
        platter.ballast = (free - i64::try_from(left).unwrap_or(i64::MAX)).max(0);
    }

    /// Somebody made room.
    pub fn free(&self) {
        self.shared.lock().ballast = 0;
    }

    /// Flips a bit of some row of an outbox or inbox; false if there is none.
    pub fn damage(&self) -> bool {
        let (event, flipped) = {
            let mut platter = self.shared.lock();
            let event = platter.flip(&self.shared);
            (event.clone(), event.is_some())
        };
        event.into_iter().for_each(|event| self.shared.witness.note(&event));
        flipped
    }

    /// Flips a bit in the memory of jtis, somewhere; false if nothing is remembered.
    pub fn damage_memory(&self) -> bool {
        let mut platter = self.shared.lock();
        let Platter { durable, ahead, luck, .. } = &mut *platter;
        let mut keys: Vec<_> = durable.received.keys().cloned().collect();
        keys.sort_unstable();
        let Some(key) = keys.get(usize::try_from(luck.below(keys.len() as u64)).unwrap_or(0)) else { return false };
        for tables in std::iter::once(durable).chain(ahead) {
            if let Some(row) = tables.received.get_mut(key) {
                row.whole = false;
            }
        }
        true
    }

    /// Everything on it is lost. No process may have it open.
    pub fn wipe(&self) {
        let mut platter = self.shared.lock();
        assert!(platter.process.is_none(), "a process has the disk open");
        platter.durable = Tables { bugs: platter.bugs, ..Tables::default() };
        platter.log.clear();
    }

    /// Transactions that were written so far.
    pub fn transactions(&self) -> u64 {
        self.shared.lock().transactions
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, events: Vec<Event>) {
        events.iter().for_each(|event| self.witness.note(event));
    }

    pub(super) fn fault(&self, what: &'static str) {
        self.witness.note(&self.fault_event(what));
    }

    pub(super) fn fault_event(&self, what: &'static str) -> Event {
        Event::Fault { org: Some(self.witness.org()), what }
    }

    /// These writes are on the disk now.
    pub(super) fn durable(&self, name: Option<&str>, writes: Arc<Vec<Write>>) -> Option<Event> {
        let partner = self.witness.partner(name?);
        (!writes.is_empty()).then(|| Event::Durable { org: self.witness.org(), partner, writes })
    }

    pub(super) fn confirmed(&self, name: Option<&str>, jti: pushpull::set::Jti) -> Option<Event> {
        Some(Event::Confirmed { org: self.witness.org(), from: self.witness.partner(name?), jti })
    }

    pub(super) fn damaged(&self, name: Option<&str>, jti: pushpull::set::Jti) -> Option<Event> {
        Some(Event::Damaged { org: self.witness.org(), partner: self.witness.partner(name?), jti })
    }

    pub(super) fn end(&self, in_order: bool) {
        let mut events = Vec::new();
        let mut platter = self.lock();
        platter.process = None;
        if let Some(writer) = platter.writer.take() {
            writer.abort();
        }
        let ram = std::mem::take(&mut platter.ram);
        platter.ahead = None;
        let log = std::mem::take(&mut platter.log);
        for transaction in log {
            if (in_order && !transaction.is_clean) || transaction.is_synced {
                platter.settle(self, &transaction.changes, &mut events);
                continue;
            }
            match transaction.crash(&mut platter.luck) {
                Remains::Whole => drop(platter.settle(self, &transaction.changes, &mut events)),
                Remains::Broken(sectors) => {
                    events.push(self.fault_event("unsynced writes lost"));
                    if platter.bugs.has(Bug::TornTaken) {
                        platter.settle(self, &torn(&transaction.changes, &sectors), &mut events);
                    }
                    // Whatever is behind it is not found.
                    break;
                }
            }
        }
        if platter.bugs.has(Bug::DedupeInRam) && !in_order {
            platter.durable.received.clear();
        }
        drop(platter);
        self.note(events);
        drop(ram);
    }
}

/// What somebody reads of a broken transaction who trusts every sector.
fn torn(changes: &[Change], sectors: &[bool]) -> Vec<Change> {
    let count: usize = changes.iter().map(pieces).sum();
    let mut at = 0;
    let mut is_there = || {
        at += 1;
        sectors.get((at - 1) * sectors.len() / count.max(1)).copied().unwrap_or(false)
    };
    let mut read = Vec::new();
    for change in changes {
        match change {
            Change::Commit { peer, writes } => {
                let writes = writes.iter().filter(|_| is_there()).cloned().collect();
                read.push(Change::Commit { peer: *peer, writes: Arc::new(writes) });
            }
            other if is_there() => read.push(other.clone()),
            _ => {}
        }
    }
    read
}

fn pieces(change: &Change) -> usize {
    match change {
        Change::Commit { writes, .. } => writes.len(),
        _ => 1,
    }
}

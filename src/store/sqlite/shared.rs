//! What the callers, the readers and the writer share.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::watch;

use super::batch::Effects;
use super::file::Lock;
use super::kept::{Ends, Position};
use super::newest::Newest;
use super::reader::Readers;
use super::seen::Seen;
use crate::codes::Code;
use crate::peer::{PeerId, Place};
use crate::store::Error;

/// Damaged dead letters that the log is told of, at most.
const LETTERS_TOLD: usize = 1_000;

/// The store's state as far as it is durable, or does not need to be.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) path: PathBuf,
    pub(super) readers: Readers,
    pub(super) seen: Seen,
    pub(super) newest: Newest,
    pub(super) inbox_tail: watch::Sender<u64>,
    /// Transactions that wrote something.
    pub(super) transactions: AtomicU64,
    /// Lines in the log about commits that take long.
    pub(super) slow_lines: Arc<AtomicU64>,
    /// Locked while the log is moved beside the commits.
    pub(super) moving: Arc<Mutex<()>>,
    /// Rows a consumer may be ahead of its durable mark.
    pub(super) hand_ahead: u64,
    directory: Mutex<Directory>,
    consumers: Mutex<BTreeMap<String, Consumer>>,
    damaged: Mutex<Damaged>,
    damaged_letters: Mutex<BTreeSet<Place>>,
    inbox_len: AtomicU64,
    /// Up to this row of the inbox those who read may have met a damaged one. All behind it that was handed out came out of
    /// [`Newest`], where it is whole.
    asked_of_file: AtomicU64,
    purged: AtomicU64,
    healthy: AtomicBool,
    failed: OnceLock<String>,
    /// The database. To close it would take from every connection of this process its locks on it.
    pub(super) file: Mutex<Option<Arc<File>>>,
    /// Last, so that it is let go when every connection is closed.
    lock: Mutex<Option<Lock>>,
}

/// Rows of the inbox that are known to be damaged.
#[derive(Debug, Default)]
struct Damaged {
    rows: BTreeSet<u64>,
    /// Where the inbox is counted: the rows that somebody has still to confirm.
    places: Range<u64>,
}

/// Names, for those who only ask.
#[derive(Debug, Default)]
pub(super) struct Directory {
    pub(super) ids: HashMap<Arc<str>, PeerId>,
    pub(super) names: BTreeMap<PeerId, Arc<str>>,
    pub(super) added: BTreeMap<String, String>,
}

/// A consumer while the process runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Consumer {
    pub(super) durable: Position,
    /// Exactly how far rows were handed out; what is durable runs ahead of it.
    pub(super) given: u64,
    /// When it last read there was nothing for it.
    pub(super) waits: bool,
}

impl Shared {
    pub(super) fn new(
        (path, lock): (PathBuf, Lock),
        readers: Readers,
        seen: Seen,
        hand_ahead: u64,
        directory: Directory,
        consumers: BTreeMap<String, Position>,
        ends: Ends,
    ) -> Self {
        // What had been reserved before the restart counts as handed out: over-marking is harmless.
        let consumers = consumers
            .into_iter()
            .map(|(name, durable)| (name, Consumer { durable, given: durable.handed, waits: false }));
        let shared = Self {
            path,
            readers,
            seen,
            newest: Newest::default(),
            inbox_tail: watch::Sender::new(ends.tail),
            transactions: AtomicU64::new(0),
            slow_lines: Arc::default(),
            moving: Arc::default(),
            hand_ahead,
            directory: Mutex::new(directory),
            consumers: Mutex::new(consumers.collect()),
            damaged: Mutex::default(),
            damaged_letters: Mutex::default(),
            inbox_len: AtomicU64::new(0),
            asked_of_file: AtomicU64::new(ends.tail),
            purged: AtomicU64::new(ends.purged),
            healthy: AtomicBool::new(true),
            failed: OnceLock::new(),
            file: Mutex::default(),
            lock: Mutex::new(Some(lock)),
        };
        shared.count_inbox(&shared.consumers(), ends);
        shared
    }

    /// Makes visible what a transaction has made durable.
    pub(super) fn publish(&self, effects: Effects) {
        if !effects.new_peers.is_empty() || !effects.added.is_empty() {
            let mut directory = self.directory();
            for (id, name) in effects.new_peers {
                directory.ids.insert(Arc::clone(&name), id);
                directory.names.insert(id, name);
            }
            for (name, definition) in effects.added {
                match definition {
                    Some(definition) => directory.added.insert(name, definition),
                    None => directory.added.remove(&name),
                };
            }
        }
        let mut consumers = self.consumers();
        for (name, position) in effects.consumers {
            match position {
                Some(durable) => {
                    consumers.entry(name).or_insert(Consumer { durable, given: 0, waits: false }).durable = durable;
                }
                None => {
                    consumers.remove(&name);
                }
            }
        }
        self.count_inbox(&consumers, effects.ends);
        let confirmed = consumers.values().map(|consumer| consumer.durable.confirmed).min();
        drop(consumers);
        if !effects.received.is_empty() {
            self.newest.add(effects.received);
        }
        self.newest.forget(confirmed.unwrap_or(0).max(effects.ends.purged));
        self.purged.store(effects.ends.purged, Ordering::Release);
        self.inbox_tail.send_if_modified(|tail| std::mem::replace(tail, effects.ends.tail) != effects.ends.tail);
    }

    pub(super) fn directory(&self) -> MutexGuard<'_, Directory> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn consumers(&self) -> MutexGuard<'_, BTreeMap<String, Consumer>> {
        self.consumers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything up to here has been purged from the inbox.
    pub(super) fn purged(&self) -> u64 {
        self.purged.load(Ordering::Acquire)
    }

    /// The end of the inbox. To be asked by whoever is about to read the file, which has to be no further than that, and when a
    /// consumer leaves rows out: up to here it is not certain any more that what is confirmed was handed out whole.
    pub(super) fn ask_file(&self) -> u64 {
        let tail = *self.inbox_tail.borrow();
        self.asked_of_file.fetch_max(tail, Ordering::AcqRel);
        tail
    }

    /// See [`Shared::ask_file`].
    pub(super) fn asked_of_file(&self) -> u64 {
        self.asked_of_file.load(Ordering::Acquire)
    }

    pub(super) fn inbox_len(&self) -> u64 {
        self.inbox_len.load(Ordering::Acquire)
    }

    /// A damaged inbox row was met. Said once for each.
    pub(super) fn report_damaged(&self, seq: u64) {
        let mut damaged = self.damaged();
        if damaged.rows.insert(seq) {
            if damaged.places.contains(&seq) {
                self.inbox_len.fetch_sub(1, Ordering::AcqRel);
            }
            drop(damaged);
            tracing::error!(code = %Code::DataDamaged, seq, database = %self.path.display(), "an inbox row is damaged: it is kept, but not handed out any more");
        }
    }

    /// Damaged dead letters were met. Said once for each, as far as they are few.
    pub(super) fn report_damaged_letters(&self, places: &[Place]) {
        let mut known = self.damaged_letters.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = places.iter().filter(|place| known.len() < LETTERS_TOLD && known.insert(**place)).count();
        if fresh > 0 {
            tracing::error!(code = %Code::DataDamaged, count = fresh, database = %self.path.display(), "dead letters are damaged: they are kept, and can only be discarded");
        }
    }

    pub(super) fn damaged_len(&self) -> usize {
        self.damaged().rows.len()
    }

    fn damaged(&self) -> MutexGuard<'_, Damaged> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk was not full when last something was written.
    pub(super) fn healthy(&self) -> bool {
        self.healthy.load(Ordering::Acquire) && self.failed.get().is_none()
    }

    /// True if that is news.
    pub(super) fn set_healthy(&self, healthy: bool) -> bool {
        let is_news = self.healthy.swap(healthy, Ordering::AcqRel) != healthy;
        if is_news {
            if healthy {
                tracing::info!(database = %self.path.display(), "the disk has room again");
            } else {
                tracing::error!(code = %Code::StorageFull, database = %self.path.display(), "the disk is full: free some space, nothing is lost");
            }
        }
        is_news
    }

    /// Errors once the store has failed.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self.failed.get() {
            Some(why) => Err(Error::Fatal(why.clone())),
            None => Ok(()),
        }
    }

    /// Gives an error its place, and stops everything if it is fatal. The first one is what everybody hears of.
    pub(super) fn note(&self, error: Error) -> Error {
        let Error::Fatal(why) = error else { return error };
        let mut first = false;
        let why = self.failed.get_or_init(|| {
            first = true;
            format!("{}: {why}", self.path.display())
        });
        if first {
            tracing::error!(code = %Code::StorageFailed, why, "the store has failed");
        }
        Error::Fatal(why.clone())
    }

    /// From now on nothing can be asked, unless it has failed before.
    pub(super) fn mark_closed(&self) {
        let _ = self.failed.set(format!("{}: the store is closed", self.path.display()));
    }

    /// Lets another process have the file.
    pub(super) fn unlock(&self) {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Nobody is ever given a row known to be damaged, so where nothing but such rows is left nobody has anything to confirm:
    /// they take no place, or the inbox would stay full.
    fn count_inbox(&self, consumers: &BTreeMap<String, Consumer>, ends: Ends) {
        let done = consumers.values().map(|consumer| consumer.durable.confirmed).min().unwrap_or(0);
        let places = done.max(ends.purged) + 1..ends.tail + 1;
        let mut damaged = self.damaged();
        let held = places.end.saturating_sub(places.start);
        let lost = if held == 0 { 0 } else { damaged.rows.range(places.clone()).count() as u64 };
        damaged.places = places;
        self.inbox_len.store(held - lost, Ordering::Release);
    }
}

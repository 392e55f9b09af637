//! The store in one SQLite file: a writer thread that commits in groups, a few readers, and a memory of jtis that
//! needs no index over them. One process a file.

mod archive;
mod batch;
mod body;
mod bundle;
mod checkpoint;
mod dead;
mod fault;
mod file;
mod home;
mod inbox;
mod job;
mod journal;
mod kept;
mod log;
mod lot;
mod migrate;
mod newest;
mod octets;
mod pace;
mod purge;
mod queue;
mod reader;
mod rows;
mod schema;
mod seen;
mod shared;
mod shrink;
mod story;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::Error;
use crate::metrics::Metrics;
use batch::Batch;
use checkpoint::Checkpoints;
use file::Use;
pub use file::{exposed as exposed_database, is_foreign as is_foreign_database};
use home::Home;
use kept::{Kept, Position, added};
use pace::Pace;
use reader::Readers;
use schema::{Meta, State};
use seen::{Salt, Seen};
use shared::{Directory, Shared};
use writer::{Call, Order, Writer};

/// What may be tuned of a [`Sqlite`] store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Remembered jtis that are held in RAM before they are sealed into a segment on disk (default 131,072, about
    /// 10 MB, and as much again while they are sealed). Lower it where RAM is scarce.
    pub memory_tail: usize,
    /// Rows by which the durable mark of what a consumer was handed runs ahead (default 1,024). More costs fewer
    /// commits, and more rows that are called redelivered after a crash although they are new.
    pub hand_ahead: u64,
    /// Whether SETs are kept when they have left their queue ([`crate::store::Journal::read_settled`]; default true). They are
    /// until [`crate::store::Journal::forget_settled`] is called, as a Transceiver does from time to time.
    pub archive: bool,
    /// Connections for reading (default 2).
    pub readers: u32,
    /// Requests that may wait for the writer before callers wait to ask (default 1,024).
    pub queue: usize,
    /// Added to every commit, as if the disk took so much longer (default none). For benchmarks.
    #[doc(hidden)]
    pub commit_delay: Duration,
    /// Where transactions are measured.
    pub metrics: Metrics,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            memory_tail: 131_072,
            hand_ahead: 1_024,
            archive: true,
            readers: 2,
            queue: 1_024,
            commit_delay: Duration::ZERO,
            metrics: Metrics::default(),
        }
    }
}

/// A store in one SQLite file.
///
/// Dropping it waits until everything that was asked for is written; [`Sqlite::close`] does so without blocking.
#[derive(Debug)]
pub struct Sqlite {
    // Above the thread, so that it is dropped first and the thread ends.
    orders: mpsc::Sender<Order>,
    _thread: Thread,
    shared: Arc<Shared>,
}

impl Sqlite {
    /// Opens the file, or makes it, readable for its owner alone. Blocks; to be called before the work begins.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if another process has it, or it is not ours, or of a newer version: nothing was changed.
    /// [`Error::Fatal`] if it cannot be read or is damaged. All of them name the file.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, Error> {
        let path = path.as_ref();
        open(path, &options).map_err(|error| match error {
            Error::Invalid(why) if !why.contains(&*path.to_string_lossy()) => {
                Error::Invalid(format!("{}: {why}", path.display()))
            }
            Error::Fatal(why) if !why.contains(&*path.to_string_lossy()) => {
                Error::Fatal(format!("{}: {why}", path.display()))
            }
            other => other,
        })
    }

    /// Writes what was asked for before, moves the log into the file, closes it and lets another process have it.
    /// Every later call fails.
    pub async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.orders.send(Order::Close(reply)).await.is_ok() {
            // An error means that the thread has ended already, which is as good.
            let _ = closed.await;
        }
        self.shared.readers.close().await;
        self.shared.unlock();
    }

    /// How many transactions have written something: with group commit, fewer than there were commits.
    pub fn transactions(&self) -> u64 {
        self.shared.transactions.load(Ordering::Relaxed)
    }

    /// Inbox rows that were found damaged since the start. They are kept, and never handed out.
    pub fn damaged_inbox_rows(&self) -> usize {
        self.shared.damaged_len()
    }

    /// Does this while the files rest: nothing is written, nothing moved from the log.
    #[cfg(test)]
    pub(crate) async fn at_rest(&self, work: impl FnOnce() + Send + 'static) {
        let moving = Arc::clone(&self.shared.moving);
        let done = self.ask(1, move |_| {
            let _moving = moving.lock();
            work();
            Ok(())
        });
        done.await.expect("resting does not fail");
    }

    /// Has the writer do this within its next transaction.
    async fn ask<T, F>(&self, writes: usize, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Batch<'_>) -> Result<T, Error> + Send + 'static,
    {
        self.shared.check()?;
        let (reply, answer) = oneshot::channel();
        let task = Box::new(Call { work: Some(work), value: None, reply });
        let ended = || match self.shared.check() {
            Err(failed) => failed,
            Ok(()) => self.shared.note(Error::Fatal("the writer has ended".to_owned())),
        };
        self.orders.send(Order::Do(task, writes)).await.map_err(|_| ended())?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

fn open(path: &Path, options: &Options) -> Result<Sqlite, Error> {
    log::check_company(path)?;
    let (path, lock) = file::claim(path)?;
    log::check(&path)?;
    let mut conn = file::connect(&path, Use::Write)?;
    let state = schema::check(&conn)?;
    file::harden(&conn)?;
    file::look_through(&conn)?;
    file::shorten_log(&conn, &path)?;
    match state {
        State::New => {
            schema::create(&conn)?;
            // Whoever expected one with something in it reads it here.
            tracing::info!(database = %path.display(), "a new database: there was none, or an empty file");
        }
        State::Older(version) => migrate::run(&conn, version)?,
        State::Ours => {}
    }
    queue::check(&conn)?;
    let salt = schema::load_meta(&conn, Meta::Salt)?.and_then(|salt| Salt::read(&salt));
    let salt = salt.ok_or_else(|| Error::Fatal("the salt of the memory is missing: restore a backup".to_owned()))?;
    let (seen, upkeep) = Seen::load(&conn, salt, options.memory_tail.max(1))?;
    let consumers = Position::load_all(&conn)?;
    let kept = Kept::load(&conn, &consumers, options.archive)?;
    let names = kept.peers.iter().map(|(id, peer)| (*id, Arc::clone(&peer.name)));
    let directory = Directory {
        ids: names.clone().map(|(id, name)| (name, id)).collect(),
        names: names.collect(),
        added: added::load_all(&conn)?,
    };
    let readers = Readers::open(&path, options.readers)?;
    let shared =
        Arc::new(Shared::new((path, lock), readers, seen, options.hand_ahead, directory, consumers, kept.ends));
    kept.astray.iter().for_each(|key| shared.report_damaged(*key));
    let file = std::fs::File::open(&shared.path).map(Arc::new);
    let file = file.map_err(|error| Error::Fatal(format!("cannot open the database: {error}")))?;
    *shared.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&file));
    let home = Home::of(&shared.path, &file);
    let (orders, receiver) = mpsc::channel(options.queue.max(1));
    let checkpoints = Checkpoints::start(&mut conn, &shared.path, file, Arc::clone(&shared.moving))?;
    let writer = Writer {
        conn,
        shared: Arc::clone(&shared),
        kept,
        upkeep,
        orders: receiver,
        checkpoints,
        home,
        metrics: options.metrics.clone(),
        commit_delay: options.commit_delay,
        pace: Pace::watch(shared.path.clone(), Arc::clone(&shared.slow_lines))?,
    };
    let thread = std::thread::Builder::new()
        .name("pushpull-store".to_owned())
        .spawn(move || writer.run())
        .map_err(|error| Error::Fatal(format!("cannot start the writer's thread: {error}")))?;
    Ok(Sqlite { orders, _thread: Thread(Some(thread)), shared })
}

/// The writer's thread; dropping it waits for its end.
#[derive(Debug)]
struct Thread(Option<JoinHandle<()>>);

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // It cannot be told about a panic of the thread any more; the panic has printed itself.
            let _ = thread.join();
        }
    }
}

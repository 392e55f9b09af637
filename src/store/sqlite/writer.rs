//! The one thread that writes: takes every waiting request into one transaction and one sync, then answers each.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::batch::{Batch, Effects};
use super::checkpoint::Checkpoints;
use super::home::Home;
use super::kept::Kept;
use super::pace::Pace;
use super::seen::Upkeep;
use super::shared::Shared;
use crate::cpu::{self, Stage};
use crate::metrics::Metrics;
use crate::store::Error;

/// A transaction takes no more requests in once it holds so many writes.
const WRITES_MAX: usize = 16_384;
/// Entries of the memory sealed beside a transaction: at least so many, and twice what it adds.
const SEAL_LEAST: usize = 1_024;
/// Entries sealed in a transaction of its own, when nobody waits.
const SEAL_IDLE: usize = 4_096;

/// What the thread is asked for.
pub(super) enum Order {
    /// Something to do within the next transaction, and about how many writes it is.
    Do(Box<dyn Task>, usize),
    /// To write what was ordered before, and end.
    Close(oneshot::Sender<()>),
}

/// A caller's request. `run` may be followed by an error for the whole transaction, so answering is apart from it.
pub(super) trait Task: Send {
    /// Applies the request. An error ends the transaction; what concerns the caller alone is kept for its answer.
    fn run(&mut self, batch: &mut Batch<'_>) -> Result<(), Error>;
    /// Answers the caller, after the transaction has become durable or failed.
    fn answer(self: Box<Self>, transaction: Result<(), Error>);
}

/// The [`Task`] made of a function.
pub(super) struct Call<T, F> {
    pub(super) work: Option<F>,
    pub(super) value: Option<Result<T, Error>>,
    pub(super) reply: oneshot::Sender<Result<T, Error>>,
}

impl<T, F> Task for Call<T, F>
where
    T: Send,
    F: FnOnce(&mut Batch<'_>) -> Result<T, Error> + Send,
{
    fn run(&mut self, batch: &mut Batch<'_>) -> Result<(), Error> {
        let Some(work) = self.work.take() else { return Ok(()) };
        match work(batch) {
            Err(error @ (Error::Full | Error::Fatal(_))) => Err(error),
            value => {
                self.value = Some(value);
                Ok(())
            }
        }
    }

    fn answer(self: Box<Self>, transaction: Result<(), Error>) {
        let unheard = || Err(Error::Fatal("a request was not carried out".to_owned()));
        // A caller that has gone away needs no answer.
        let Self { value, reply, .. } = *self;
        let _ = reply.send(transaction.and_then(|()| value.unwrap_or_else(unheard)));
    }
}

/// Requests, about how many writes they are, and who is to be told that the store is closed.
type Gathered = (Vec<Box<dyn Task>>, usize, Option<oneshot::Sender<()>>);

/// The thread's own state.
pub(super) struct Writer {
    pub(super) conn: Connection,
    pub(super) shared: Arc<Shared>,
    pub(super) kept: Kept,
    pub(super) upkeep: Upkeep,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) checkpoints: Checkpoints,
    pub(super) home: Home,
    pub(super) metrics: Metrics,
    pub(super) commit_delay: Duration,
    pub(super) pace: Pace,
}

impl Writer {
    /// Works until the orders end, or one of them is to close.
    pub(super) fn run(mut self) {
        let mut closed = None;
        while closed.is_none() {
            let Some(order) = self.next_order() else { break };
            // Where the cores are busy, those at work on them have more orders in a moment, and one transaction does for all;
            // where a core is free, this returns at once.
            std::thread::yield_now();
            let (tasks, writes);
            (tasks, writes, closed) = self.gather(order);
            cpu::within(Stage::Store, || {
                let started = tokio::time::Instant::now();
                self.group(tasks, writes);
                self.metrics.committed(started.elapsed(), writes);
                self.checkpoint_if_due();
            });
        }
        let Self { conn, shared, checkpoints, mut orders, .. } = self;
        if let Err(error) = shared.check().and_then(|()| checkpoints.finish(&conn)) {
            shared.note(error);
        }
        shared.mark_closed();
        orders.close();
        drop(conn);
        if let Some(closed) = closed {
            let _ = closed.send(());
        }
    }

    /// Waits for an order, and uses the time for upkeep.
    fn next_order(&mut self) -> Option<Order> {
        loop {
            self.upkeep.begin(&self.shared.seen);
            match self.orders.try_recv() {
                Ok(order) => return Some(order),
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
                Err(mpsc::error::TryRecvError::Empty) => {}
            }
            // On a full disk it would be in vain, over and over.
            if !self.upkeep.is_due() || !self.shared.healthy() {
                return self.orders.blocking_recv();
            }
            if let Err(error) = self.transact(&mut [], 0, SEAL_IDLE) {
                self.shared.note(error);
            }
            self.checkpoint_if_due();
        }
    }

    /// Takes in whatever else is waiting. While a transaction runs the next gathers by itself, so nothing lingers.
    fn gather(&mut self, first: Order) -> Gathered {
        let (mut tasks, mut writes, mut next) = (Vec::new(), 0, Some(first));
        while let Some(order) = next {
            match order {
                Order::Do(task, weight) => {
                    tasks.push(task);
                    writes += weight;
                }
                Order::Close(reply) => return (tasks, writes, Some(reply)),
            }
            next = if writes < WRITES_MAX { self.orders.try_recv().ok() } else { None };
        }
        (tasks, writes, None)
    }

    fn group(&mut self, mut tasks: Vec<Box<dyn Task>>, writes: usize) {
        let result = match self.shared.check() {
            Ok(()) => self.transact(&mut tasks, writes, SEAL_LEAST).map_err(|error| self.shared.note(error)),
            failed => failed,
        };
        for task in tasks {
            task.answer(result.clone());
        }
    }

    /// Does all of this, durably, or nothing of it.
    fn transact(&mut self, tasks: &mut [Box<dyn Task>], writes: usize, seal: usize) -> Result<(), Error> {
        let written = self.conn.total_changes();
        let _working = self.pace.begin();
        match self.write(tasks, writes, seal) {
            Ok(effects) => {
                // The end of this store, so what it knows need not be right any more.
                if self.conn.total_changes() != written
                    && let Some(gone) = self.home.gone()
                {
                    let saved = gone.can_be_saved && self.home.save(&self.conn);
                    let outcome =
                        if saved { "what was committed is safe" } else { "what was committed last may be lost" };
                    return Err(Error::Fatal(format!("{}; {outcome}", gone.why)));
                }
                self.kept.peers.extend(effects.peers.iter().map(|(id, peer)| (*id, peer.clone())));
                self.kept.ends = effects.ends;
                self.kept.archive = effects.archive;
                self.upkeep.committed(&self.shared.seen);
                if effects.is_shorter {
                    self.checkpoints.hurry();
                }
                self.shared.publish(effects);
                if self.conn.total_changes() != written {
                    self.shared.transactions.fetch_add(1, Ordering::Relaxed);
                    if self.shared.set_healthy(true) {
                        self.checkpoints.healed();
                    }
                }
                Ok(())
            }
            Err(error) => {
                self.upkeep.rolled_back();
                if !self.conn.is_autocommit() {
                    self.conn.execute_batch("ROLLBACK")?;
                }
                if matches!(error, Error::Full) {
                    self.shared.set_healthy(false);
                }
                Err(error)
            }
        }
    }

    fn write(&mut self, tasks: &mut [Box<dyn Task>], writes: usize, seal: usize) -> Result<Effects, Error> {
        let Self { conn, shared, kept, upkeep, commit_delay, .. } = self;
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut batch = Batch::new(conn, shared, kept, writes);
        for task in tasks {
            task.run(&mut batch)?;
        }
        let (effects, remembered) = batch.finish(upkeep)?;
        // While the disk is full, what little fits is left to those who wait.
        if shared.healthy() {
            upkeep.step(conn, seal.max(2 * remembered))?;
        }
        conn.prepare_cached("COMMIT")?.execute([])?;
        if !commit_delay.is_zero() {
            std::thread::sleep(*commit_delay);
        }
        Ok(effects)
    }

    /// Moves the log into the database, behind the answers: that nobody waits for it is what matters.
    fn checkpoint_if_due(&mut self) {
        if self.shared.check().is_err() {
            return;
        }
        let _working = self.pace.begin();
        if let Err(error) = self.checkpoints.if_due(&self.conn, self.shared.healthy(), !self.orders.is_empty()) {
            // Of a full disk the next commit will tell as well.
            self.shared.note(error);
        }
    }
}

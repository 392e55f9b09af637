//! Says so when a commit takes long, while it does: a dying disk may keep everybody waiting for minutes, and fail with
//! nothing. A thread of its own looks, since the one that writes is stuck then.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::Instant;

use crate::codes::Code;
use crate::store::Error;

/// A commit that takes longer is told of.
const SLOW: Duration = Duration::from_secs(2);
/// And not more often than this, however many there are, and for however long one goes on.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// The writer's handle. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Pace {
    watched: Arc<Watched>,
    thread: Option<JoinHandle<()>>,
}

/// The writer is at work on the disk until this is dropped.
#[derive(Debug)]
pub(super) struct Working(Arc<Watched>);

#[derive(Debug)]
struct Watched {
    database: PathBuf,
    slow: Duration,
    tell_every: Duration,
    /// Lines that were written.
    lines: Arc<AtomicU64>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Since when the writer has been at work.
    since: Option<Instant>,
    /// That work has been counted as slow.
    is_slow: bool,
    /// And a line has told of it.
    is_told: bool,
    /// Slow ones that no line has told of yet.
    untold: u64,
    told_at: Option<Instant>,
    /// The thread sleeps for longer than work may take: it is to be woken when some begins.
    is_resting: bool,
    ended: bool,
}

impl Pace {
    /// Starts the thread, which counts the lines that it writes.
    pub(super) fn watch(database: PathBuf, lines: Arc<AtomicU64>) -> Result<Self, Error> {
        Self::with(database, lines, SLOW, TELL_EVERY)
    }

    fn with(database: PathBuf, lines: Arc<AtomicU64>, slow: Duration, tell_every: Duration) -> Result<Self, Error> {
        let watched = Watched { database, slow, tell_every, lines, state: Mutex::default(), changed: Condvar::new() };
        let watched = Arc::new(watched);
        let watching = Arc::clone(&watched);
        let thread = std::thread::Builder::new()
            .name("pushpull-pace".to_owned())
            .spawn(move || watching.run())
            .map_err(|error| Error::Fatal(format!("cannot start a thread: {error}")))?;
        Ok(Self { watched, thread: Some(thread) })
    }

    /// The writer is at work on the disk, until what is returned is dropped.
    pub(super) fn begin(&self) -> Working {
        let mut state = self.watched.lock();
        (state.since, state.is_slow, state.is_told) = (Some(Instant::now()), false, false);
        if state.is_resting {
            self.watched.changed.notify_one();
        }
        Working(Arc::clone(&self.watched))
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.watched.lock().ended = true;
        self.watched.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It has nothing to panic about.
            let _ = thread.join();
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        let took = state.since.take().map(|since| since.elapsed()).unwrap_or_default();
        if took >= self.0.slow && !state.is_slow {
            // The thread did not come to see it.
            state = self.0.met(state, took, "a commit took long: the disk is slow");
        }
        let told = state.is_told;
        drop(state);
        if told {
            tracing::info!(seconds = took.as_secs(), database = %self.0.database.display(), "the slow commit has ended");
        }
    }
}

impl Watched {
    fn run(&self) {
        let mut state = self.lock();
        while !state.ended {
            let silent = state.told_at.map(|at| self.tell_every.saturating_sub(at.elapsed())).unwrap_or_default();
            state = match state.since.map(|since| since.elapsed()) {
                None => self.rest(state, Duration::MAX),
                // Work that ends and begins anew meanwhile is only looked at too early.
                Some(took) if took < self.slow => self.wait(state, self.slow - took),
                Some(_) if state.is_slow && !silent.is_zero() => self.rest(state, silent),
                Some(took) => self.met(state, took, "a commit takes long, and has not ended yet: the disk is slow"),
            };
        }
    }

    /// Work is going on for so long, or has ended after so long. The line is written while the state is let go: the writer
    /// does not wait for whoever reads the log.
    fn met<'s>(&'s self, mut state: MutexGuard<'s, State>, took: Duration, what: &str) -> MutexGuard<'s, State> {
        state.untold += u64::from(!state.is_slow);
        state.is_slow = true;
        if state.told_at.is_some_and(|at| at.elapsed() < self.tell_every) {
            return state;
        }
        (state.told_at, state.is_told) = (Some(Instant::now()), true);
        let count = std::mem::take(&mut state.untold).max(1);
        drop(state);
        let (seconds, database) = (took.as_secs(), self.database.display());
        tracing::warn!(code = %Code::DiskSlow, seconds, count, %database, "{what}");
        self.lines.fetch_add(1, Ordering::Relaxed);
        self.lock()
    }

    /// Sleeps for so long, or until work begins.
    fn rest<'s>(&'s self, mut state: MutexGuard<'s, State>, time: Duration) -> MutexGuard<'s, State> {
        state.is_resting = true;
        let mut state = self.wait(state, time);
        state.is_resting = false;
        state
    }

    fn wait<'s>(&'s self, state: MutexGuard<'s, State>, time: Duration) -> MutexGuard<'s, State> {
        self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Waits until so many lines have been written, which is at once if the machine is not busy.
    fn until(lines: &dyn Fn() -> u64, wanted: u64) {
        let began = Instant::now();
        while lines() < wanted {
            assert!(began.elapsed() < MINUTE, "{} of {wanted} lines", lines());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn pace(slow: Duration, tell_every: Duration) -> (Pace, impl Fn() -> u64) {
        let lines = Arc::new(AtomicU64::new(0));
        let pace = Pace::with(PathBuf::from("store.db"), Arc::clone(&lines), slow, tell_every).unwrap();
        (pace, move || lines.load(Ordering::Relaxed))
    }

    #[test]
    fn a_commit_that_takes_long_is_told_of_while_it_does_and_again_as_long_as_it_does() {
        let (pace, lines) = pace(Duration::from_millis(20), Duration::from_millis(20));
        // The thread has to be woken for the second, when it has slept since the end of the first.
        for wanted in [3, 6] {
            let _working = pace.begin();
            until(&lines, wanted);
        }
    }

    #[test]
    fn many_that_take_long_are_told_of_once_a_minute() {
        let (pace, lines) = pace(Duration::ZERO, MINUTE);
        for _ in 0..100 {
            drop(pace.begin());
        }
        assert_eq!(lines(), 1);
        pace.watched.lock().told_at = Instant::now().checked_sub(MINUTE);
        drop(pace.begin());
        assert_eq!((lines(), pace.watched.lock().untold), (2, 0), "the line counts those that none has told of");
    }

    #[test]
    fn those_that_do_not_take_long_are_not_told_of_though_they_follow_each_other_without_a_pause() {
        let (pace, lines) = pace(MINUTE, Duration::ZERO);
        for _ in 0..1_000 {
            drop(pace.begin());
        }
        drop(pace);
        assert_eq!(lines(), 0);
    }
}

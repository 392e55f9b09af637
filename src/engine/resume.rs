//! Where in time a process goes on, and where the next one will.

use std::time::Duration;

use tracing::error;

use crate::clock::{Clock, Timestamp, Wall};
use crate::codes::Code;
use crate::planted::{self, Bug};
use crate::store::{Error, Journal};

/// Tells the clock, and the caller, at which time it was last believed by a process before. To be called before anything is
/// dated.
///
/// The very first process notes its own time before it returns: ended soon, with a disk that was full for just that moment, it
/// would leave dates behind and nothing by which the next one could doubt its clock. So long a full disk is waited out.
///
/// # Errors
///
/// The store's.
pub async fn resume(clock: &dyn Clock, journal: &dyn Journal) -> Result<Option<Wall>, Error> {
    let last = journal.last_time().await?.filter(|_| !planted::is(Bug::ClockBelievedAtStart));
    if let Some(last) = last {
        clock.resume(last);
        return Ok(Some(last));
    }
    let mut is_told = false;
    loop {
        let now = clock.now();
        if now.suspect {
            return Ok(None);
        }
        match journal.note_time(now.wall).await {
            Ok(()) => return Ok(None),
            Err(Error::Full) => {
                if !std::mem::replace(&mut is_told, true) {
                    error!(code = %Code::StorageFull, "the disk is full: nothing is begun until there is room");
                }
                tokio::time::sleep(FULL_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Before a full disk is tried again.
const FULL_PAUSE: Duration = Duration::from_secs(1);

/// Notes in the store at which time the clock was believed. A date of what was written would not do: a process that is killed
/// before its clock is believed leaves such dates too, and the next one would go on from them.
#[derive(Debug, Default)]
pub struct Timekeeper {
    noted_at: Option<Duration>,
}

/// So far behind the truth a note may be.
const NOTE_EVERY: Duration = Duration::from_secs(600);

impl Timekeeper {
    /// To be called often, from the start on. A full disk is waited out.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn keep(&mut self, now: Timestamp, journal: &dyn Journal) -> Result<(), Error> {
        let is_due = self.noted_at.is_none_or(|at| now.mono.saturating_sub(at) >= NOTE_EVERY);
        if now.suspect || !is_due {
            return Ok(());
        }
        match journal.note_time(now.wall).await {
            Ok(()) => self.noted_at = Some(now.mono),
            Err(Error::Full) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

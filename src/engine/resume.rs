//! Where in time a process goes on, and where the next one will.

use std::time::Duration;

use crate::clock::{Clock, Timestamp, Wall};
use crate::planted::{self, Bug};
use crate::store::{Error, Journal};

/// Tells the clock, and the caller, at which time it was last believed by a process before. To be called before anything is
/// dated.
///
/// The very first process notes its own time, unless it doubts it itself. Ended soon, with a disk that was full for just the
/// moment of the note, it would leave dates behind and nothing by which the next one could doubt its clock.
///
/// # Errors
///
/// The store's; a disk that is full is one only for the very first process.
pub async fn resume(clock: &dyn Clock, journal: &dyn Journal) -> Result<Option<Wall>, Error> {
    let last = journal.last_time().await?.filter(|_| !planted::is(Bug::ClockBelievedAtStart));
    let now = clock.now();
    match last {
        Some(last) => clock.resume(last),
        None if !now.suspect => journal.note_time(now.wall).await?,
        None => {}
    }
    Ok(last)
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;

    const START: Wall = Wall(1_700_000_000_000);

    fn at(seconds: u64, suspect: bool) -> Timestamp {
        let wall = Wall(START.0 + seconds * 1_000);
        Timestamp { mono: Duration::from_secs(seconds), wall, shown: wall, suspect }
    }

    #[tokio::test]
    async fn the_time_is_noted_again_and_again_but_not_while_it_is_doubted() {
        let (store, mut timekeeper) = (Memory::new(), Timekeeper::default());
        for (now, noted) in [
            (at(5, true), None),
            (at(10, false), Some(10)),
            (at(609, false), Some(10)),
            (at(610, false), Some(610)),
            (at(2_000, true), Some(610)),
            (at(2_001, false), Some(2_001)),
        ] {
            timekeeper.keep(now, &store).await.unwrap();
            let expected = noted.map(|seconds| Wall(START.0 + seconds * 1_000));
            assert_eq!(store.last_time().await, Ok(expected), "{now:?}");
        }
    }
}

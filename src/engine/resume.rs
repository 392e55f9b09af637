//! Where in time a process goes on.

use crate::clock::{Clock, Wall};
use crate::planted::{self, Bug};
use crate::store::{Error, Journal};

/// Tells the clock, and the caller, how the process before dated what it wrote last. To be called before anything is dated.
///
/// # Errors
///
/// The store's.
pub async fn resume(clock: &dyn Clock, journal: &dyn Journal) -> Result<Option<Wall>, Error> {
    let last = journal.last_date().await?.filter(|_| !planted::is(Bug::ClockBelievedAtStart));
    if let Some(last) = last {
        clock.resume(last);
    }
    Ok(last)
}

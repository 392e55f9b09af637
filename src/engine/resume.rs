//! Where in time a process goes on.

use crate::clock::Clock;
use crate::planted::{self, Bug};
use crate::store::{Error, Journal};

/// Tells the clock how the process before dated what it wrote last. To be called before anything is dated.
///
/// # Errors
///
/// The store's.
pub async fn resume(clock: &dyn Clock, journal: &dyn Journal) -> Result<(), Error> {
    match journal.last_date().await? {
        Some(last) if !planted::is(Bug::ClockBelievedAtStart) => clock.resume(last),
        _ => {}
    }
    Ok(())
}

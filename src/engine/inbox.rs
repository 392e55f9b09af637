//! The application's side: received SETs, in order, for one named consumer.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::planted::{self, Bug};
use crate::store::{self, Handed, Journal};

/// Reads the inbox for one consumer.
///
/// Each SET is handed out at least once and, unless the consumer ended before confirming, exactly once; what may have
/// been handed out before comes marked `redelivered`.
pub struct Inbox {
    journal: Arc<dyn Journal>,
    consumer: String,
    tail: watch::Receiver<u64>,
}

impl Inbox {
    pub(super) fn new(journal: Arc<dyn Journal>, consumer: String) -> Self {
        let tail = journal.inbox_tail();
        Self { journal, consumer, tail }
    }

    /// Up to `rows_max` SETs behind `after` (default: behind the last confirmed), waiting up to `wait` for the first.
    ///
    /// # Errors
    ///
    /// [`store::Error::Invalid`] where `after` lies behind the end, as it does for one who has read another store or a newer one.
    ///
    /// Cancel-safe: what was read and not returned comes again, perhaps marked `redelivered`.
    pub async fn read(
        &mut self,
        after: Option<u64>,
        rows_max: usize,
        wait: Duration,
    ) -> Result<Vec<Handed>, store::Error> {
        check(after, &self.tail)?;
        let (journal, consumer) = (&self.journal, &self.consumer);
        let mut rows = poll(&mut self.tail, wait, || journal.read_inbox(consumer.clone(), after, rows_max)).await?;
        if planted::is(Bug::RedeliveredFlagMissing) {
            rows.iter_mut().for_each(|row| row.redelivered = false);
        }
        Ok(rows)
    }

    /// The consumer's name.
    pub fn consumer(&self) -> &str {
        &self.consumer
    }

    /// Everything up to and including this `seq` has been dealt with. Durable when it returns.
    pub async fn confirm(&self, up_to: u64) -> Result<(), store::Error> {
        if planted::is(Bug::ConfirmBeforeDurable) {
            let (journal, consumer) = (Arc::clone(&self.journal), self.consumer.clone());
            tokio::spawn(async move { journal.confirm(consumer, up_to).await });
            // Whoever reads again at once would read the same for as long as that takes, and in pretend time for ever.
            tokio::time::sleep(Duration::from_secs(1)).await;
            return Ok(());
        }
        self.journal.confirm(self.consumer.clone(), up_to).await
    }
}

/// The same for nobody in particular: it changes nothing.
pub(super) async fn peek(
    journal: &dyn Journal,
    after: Option<u64>,
    rows_max: usize,
    wait: Duration,
) -> Result<Vec<Handed>, store::Error> {
    let mut tail = journal.inbox_tail();
    check(after, &tail)?;
    poll(&mut tail, wait, || journal.peek_inbox(after, rows_max)).await
}

/// Whoever has read further than the inbox goes has read another one: behind that they would wait for ever, and then pass over SETs.
fn check(after: Option<u64>, tail: &watch::Receiver<u64>) -> Result<(), store::Error> {
    let end = *tail.borrow();
    match after {
        Some(after) if after > end => Err(store::Error::Invalid(format!(
            "cannot read behind {after}: the inbox ends at {end}; read it from its beginning, or from where the consumer is"
        ))),
        _ => Ok(()),
    }
}

/// Reads until there is something, or for as long as `wait`.
async fn poll<'a>(
    tail: &mut watch::Receiver<u64>,
    wait: Duration,
    read: impl Fn() -> store::Pending<'a, Vec<Handed>>,
) -> Result<Vec<Handed>, store::Error> {
    let deadline = tokio::time::Instant::now() + wait;
    loop {
        tail.borrow_and_update();
        let rows = read().await?;
        if !rows.is_empty() {
            return Ok(rows);
        }
        match tokio::time::timeout_at(deadline, tail.changed()).await {
            Ok(Ok(())) => {}
            // The time is over, or the store is closing.
            Ok(Err(_)) | Err(_) => return Ok(rows),
        }
    }
}

//! The consumers' side of the inbox: reading on, the marks of what was handed out, confirming.

use std::sync::Arc;

use super::Sqlite;
use super::batch::Batch;
use super::kept::Position;
use super::newest::Received;
use super::reader;
use super::shared::Shared;
use crate::store::{Error, Handed};

/// Rows as they were read, before it is known whether they may be handed out.
type Read = Vec<Received>;

impl Sqlite {
    /// See [`crate::store::Journal::read_inbox`].
    pub(super) async fn hand_out(
        &self,
        consumer: String,
        after: Option<u64>,
        rows_max: usize,
    ) -> Result<Vec<Handed>, Error> {
        loop {
            let confirmed = self.confirmed(&consumer).await?;
            let from = after.map_or(confirmed, |after| after.max(confirmed));
            let rows = self.read_behind(from, rows_max).await?;
            let Some(last) = rows.last().map(|(seq, ..)| *seq) else { return Ok(Vec::new()) };
            if self.mark(&consumer, last).await?
                && let Some(handed) = give(&self.shared, &consumer, rows, last)
                && !handed.is_empty()
            {
                return Ok(handed);
            }
            // Meanwhile somebody forgot the consumer, which is made anew, or confirmed all of it, and there may be more.
        }
    }

    /// See [`crate::store::Journal::peek_inbox`].
    pub(super) async fn peek(&self, after: Option<u64>, rows_max: usize) -> Result<Vec<Handed>, Error> {
        let from = after.unwrap_or_else(|| self.shared.purged());
        let rows = self.read_behind(from, rows_max).await?;
        Ok(rows.into_iter().map(|(seq, peer, row)| Handed { seq, peer, row, redelivered: false }).collect())
    }

    /// Good rows behind this one, of those that are not purged.
    async fn read_behind(&self, after: u64, rows_max: usize) -> Result<Read, Error> {
        self.shared.check()?;
        match self.shared.newest.behind(after.max(self.shared.purged()), rows_max) {
            Some(rows) => Ok(rows),
            None => reader::read(&self.shared, move |conn, shared| reader::inbox(conn, shared, after, rows_max)).await,
        }
    }

    /// The consumer's confirmed position, after it was made if need be.
    async fn confirmed(&self, consumer: &str) -> Result<u64, Error> {
        let known = self.shared.consumers().get(consumer).map(|known| known.durable.confirmed);
        match known {
            Some(confirmed) => Ok(confirmed),
            None => {
                let name = consumer.to_owned();
                self.ask(1, move |batch| batch.make_consumer(&name)).await
            }
        }
    }

    /// Makes durable that rows up to `last` may have been handed out; false if the consumer is gone.
    async fn mark(&self, consumer: &str, last: u64) -> Result<bool, Error> {
        let marked = self.shared.consumers().get(consumer).map(|known| known.durable.handed);
        match marked {
            None => Ok(false),
            Some(marked) if marked >= last => Ok(true),
            Some(_) => {
                let name = consumer.to_owned();
                self.ask(1, move |batch| Ok(batch.hand(&name, last))).await
            }
        }
    }
}

/// Marks the rows that were given before, and remembers that these are given now; `None` if the mark does not cover
/// them, because the consumer was forgotten meanwhile.
fn give(shared: &Arc<Shared>, consumer: &str, rows: Read, last: u64) -> Option<Vec<Handed>> {
    let mut consumers = shared.consumers();
    let known = consumers.get_mut(consumer).filter(|known| known.durable.handed >= last)?;
    let (given, confirmed) = (known.given, known.durable.confirmed);
    known.given = given.max(last);
    drop(consumers);
    let handed = rows
        .into_iter()
        // Confirmed while we read: never again.
        .filter(|(seq, ..)| *seq > confirmed)
        .map(|(seq, peer, row)| Handed { seq, peer, row, redelivered: seq <= given });
    Some(handed.collect())
}

impl Batch<'_> {
    /// The consumer's confirmed position, made at the oldest kept row if it is new.
    pub(super) fn make_consumer(&mut self, name: &str) -> Result<u64, Error> {
        if let Some(position) = self.position(name) {
            return Ok(position.confirmed);
        }
        let confirmed = self.effects.ends.purged;
        self.effects.consumers.insert(name.to_owned(), Some(Position { confirmed, handed: 0 }));
        Ok(confirmed)
    }

    /// Reserves the mark of what was handed out, some way ahead but not beyond the end; false without that consumer.
    pub(super) fn hand(&mut self, name: &str, last: u64) -> bool {
        let Some(mut position) = self.position(name) else { return false };
        if position.handed < last {
            position.handed = last.saturating_add(self.shared.hand_ahead).min(self.effects.ends.tail).max(last);
            self.effects.consumers.insert(name.to_owned(), Some(position));
        }
        true
    }

    /// See [`crate::store::Journal::confirm`].
    pub(super) fn confirm(&mut self, name: &str, up_to: u64) -> Result<(), Error> {
        let Some(mut position) = self.position(name) else {
            return Err(Error::Invalid(format!("there is no consumer {name:?}: a consumer is made by its first read")));
        };
        let tail = self.effects.ends.tail;
        if up_to > tail {
            return Err(Error::Invalid(format!("cannot confirm up to {up_to}: the inbox ends at {tail}")));
        }
        if position.confirmed < up_to {
            position.confirmed = up_to;
            self.effects.consumers.insert(name.to_owned(), Some(position));
            self.purge_confirmed()?;
        }
        Ok(())
    }

    /// See [`crate::store::Journal::forget_consumer`].
    pub(super) fn forget_consumer(&mut self, name: &str) -> bool {
        let is_known = self.position(name).is_some();
        if is_known {
            self.effects.consumers.insert(name.to_owned(), None);
        }
        is_known
    }

    /// Up to where every consumer has confirmed; `None` without consumers.
    pub(super) fn confirmed_by_all(&self) -> Option<u64> {
        let staged = self.effects.consumers.values().flatten().map(|position| position.confirmed);
        let durable = self.shared.consumers();
        let durable = durable.iter().filter(|(name, _)| !self.effects.consumers.contains_key(*name));
        durable.map(|(_, consumer)| consumer.durable.confirmed).chain(staged).min()
    }

    fn position(&self, name: &str) -> Option<Position> {
        match self.effects.consumers.get(name) {
            Some(staged) => *staged,
            None => self.shared.consumers().get(name).map(|consumer| consumer.durable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Wall;
    use crate::peer::{InboxRow, Write};
    use crate::set::Digest;
    use crate::store::{Epoch, Journal, Options, Registry};

    #[tokio::test]
    async fn what_changed_while_rows_were_read_is_respected() {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::open(folder.path().join("store.db"), Options::default()).unwrap();
        let peer = store.peer_id("a".to_owned()).await.unwrap();
        let receive = |number: u64| {
            let (jti, compact) = (number.to_string().into(), "token".into());
            Write::Receive(InboxRow { jti, compact, digest: Digest::default(), received_at: Wall(1) })
        };
        store.commit(peer, Epoch(1), Arc::new((1..=3).map(receive).collect())).await.unwrap();
        let read = || reader::read(&store.shared, |conn, shared| reader::inbox(conn, shared, 0, 9));
        let rows = read().await.unwrap();
        assert_eq!(store.mark("app", 3).await, Ok(false), "there is no such consumer");
        assert_eq!(give(&store.shared, "app", rows.clone(), 3), None);
        store.confirmed("app").await.unwrap();
        assert_eq!(give(&store.shared, "app", rows.clone(), 3), None, "the mark does not cover them");
        assert_eq!(store.mark("app", 3).await, Ok(true));
        store.confirm("app".to_owned(), 2).await.unwrap();
        let handed = give(&store.shared, "app", rows.clone(), 3).unwrap();
        assert_eq!(handed.iter().map(|handed| (handed.seq, handed.redelivered)).collect::<Vec<_>>(), [(3, false)]);
        assert!(give(&store.shared, "app", rows, 3).unwrap()[0].redelivered, "another reader was quicker");
    }
}

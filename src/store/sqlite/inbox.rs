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
            if self.given(&consumer).is_some_and(|given| from > given.max(confirmed)) {
                // What it leaves out it may confirm all the same.
                self.shared.ask_file();
            }
            let rows = self.read_behind(from, rows_max).await?;
            let Some(last) = rows.last().map(|(seq, ..)| *seq) else {
                if let Some(known) = self.shared.consumers().get_mut(&consumer) {
                    known.waits = true;
                }
                return Ok(Vec::new());
            };
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
        // Whoever waits for the next one asks for it before it is there: that needs no thread.
        let tail = *self.shared.inbox_tail.borrow();
        if after >= tail {
            return Ok(Vec::new());
        }
        match self.shared.newest.behind(after.max(self.shared.purged()), rows_max) {
            Some(mut rows) => {
                // Those of a commit whose end is just being told come with it: whoever goes on behind them must not be ahead of it.
                rows.retain(|(seq, ..)| *seq <= tail);
                Ok(rows)
            }
            None => {
                let to = self.shared.ask_file();
                reader::read(&self.shared, move |conn, shared| reader::inbox(conn, shared, after, to, rows_max)).await
            }
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

    /// How far rows were handed out to this consumer.
    fn given(&self, consumer: &str) -> Option<u64> {
        self.shared.consumers().get(consumer).map(|known| known.given)
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
    known.waits = false;
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

    /// Marks what came in this transaction for the consumers that wait for it: they are about to read it, and need no
    /// transaction of their own for the mark then.
    pub(super) fn mark_ahead(&mut self) {
        let (before, tail) = (self.kept.ends.tail, self.effects.ends.tail);
        if before == tail {
            return;
        }
        for (name, consumer) in
            self.shared.consumers().iter().filter(|(_, consumer)| consumer.waits && consumer.given >= before)
        {
            let position = self.effects.consumers.get(name).copied().unwrap_or(Some(consumer.durable));
            let handed = tail.min(consumer.given.saturating_add(self.shared.hand_ahead));
            if let Some(position) = position
                && position.handed < handed
            {
                self.effects.consumers.insert(name.clone(), Some(Position { handed, ..position }));
            }
        }
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
            let given = self.shared.consumers().get(name).map_or(0, |known| known.given);
            if up_to > given {
                // It was never shown them.
                self.shared.ask_file();
            }
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
    use futures_util::FutureExt as _;

    use super::*;
    use crate::clock::Wall;
    use crate::peer::{InboxRow, Write};
    use crate::set::Digest;
    use crate::store::{Epoch, Journal, Options, Registry};

    fn receive(number: u64) -> Write {
        let (jti, compact) = (number.to_string().into(), "token".into());
        Write::Receive(InboxRow { jti, compact, digest: Digest::default(), received_at: Wall(1) })
    }

    #[tokio::test]
    async fn what_changed_while_rows_were_read_is_respected() {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::open(folder.path().join("store.db"), Options::default()).unwrap();
        let peer = store.peer_id("a".to_owned()).await.unwrap();
        store.commit(peer, Epoch(1), Arc::new((1..=3).map(receive).collect())).await.unwrap();
        let read = || reader::read(&store.shared, |conn, shared| reader::inbox(conn, shared, 0, 3, 9));
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

    #[tokio::test]
    async fn who_waits_needs_no_transaction_for_what_comes_then_but_is_marked_no_further_ahead_than_others() {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let options = Options { hand_ahead: 3, ..Options::default() };
            Sqlite::open(folder.path().join("store.db"), options).unwrap()
        };
        let marks = |rows: Vec<Handed>| rows.iter().map(|row| (row.seq, row.redelivered)).collect::<Vec<_>>();
        let store = open();
        let peer = store.peer_id("a".to_owned()).await.unwrap();
        let commit = async |seqs: std::ops::RangeInclusive<u64>| {
            store.commit(peer, Epoch(1), Arc::new(seqs.map(receive).collect())).await.unwrap();
        };
        let read = async |name: &str| marks(store.read_inbox(name.to_owned(), None, 99).await.unwrap());
        assert!(read("waits").await.is_empty() && read("forgotten").await.is_empty());
        // In the transaction that receives, or in one before it.
        let (forgotten, ()) = tokio::join!(store.forget_consumer("forgotten".to_owned()), commit(1..=2));
        assert!(forgotten.unwrap() && !store.shared.consumers().contains_key("forgotten"));
        let before = store.transactions();
        assert_eq!(read("waits").await, [(1, false), (2, false)]);
        assert_eq!(store.transactions(), before);
        let threads =
            Arc::clone(&store.shared.readers.permits).acquire_many_owned(Options::default().readers).await.unwrap();
        let end = store.read_inbox("waits".to_owned(), Some(2), 99).now_or_never().expect("no thread is needed");
        assert_eq!(end, Ok(Vec::new()));
        drop(threads);
        assert_eq!(read("waits").await, [(1, true), (2, true)]);
        // Its last read found something.
        commit(3..=3).await;
        assert_eq!(store.shared.consumers()["waits"].durable.handed, 2);
        assert_eq!(read("waits").await, [(1, true), (2, true), (3, false)]);
        store.confirm("waits".to_owned(), 3).await.unwrap();
        assert!(read("waits").await.is_empty());
        commit(4..=9).await;
        assert_eq!(store.shared.consumers()["waits"].durable.handed, 6, "three ahead of the three that it was given");
        store.close().await;
        drop(store);
        let again = marks(open().read_inbox("waits".to_owned(), None, 99).await.unwrap());
        assert_eq!(again, (4..=9).map(|seq| (seq, seq <= 6)).collect::<Vec<_>>());
    }
}

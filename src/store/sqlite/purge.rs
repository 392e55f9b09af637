//! Removing what is no longer needed, a little at a time.

use super::Sqlite;
use super::batch::Batch;
use super::reader;
use super::rows::{decode_inbox, int, uint};
use super::schema::{self, Meta};
use crate::clock::Wall;
use crate::store::Error;

/// Inbox rows removed by one call.
const ROWS_STEP: u64 = 2_000;

impl Sqlite {
    /// See [`crate::store::Journal::purge`].
    ///
    /// Memory goes by whole segments, the oldest first, when its newest entry is too old; so some is kept longer than
    /// asked. It is never taken from a SET that waits in an outbox: the first segment that knows of one stays, and all
    /// behind it. Times alone would not tell, as SETs may have been accepted by a clock that went back since.
    pub(super) async fn purge_some(&self, memory_before: Wall) -> Result<bool, Error> {
        let mut outdated = self.shared.seen.outdated(memory_before);
        if outdated.is_some() {
            let needed = reader::read(&self.shared, reader::first_needed_segment).await?;
            outdated = outdated.filter(|(segment, _)| needed.is_none_or(|needed| *segment < needed));
        }
        let probe = !self.shared.healthy();
        self.ask(1, move |batch| {
            if probe {
                batch.probe()?;
            }
            let more_rows = batch.purge_inbox()?;
            let Some((segment, more_segments)) = outdated else { return Ok(more_rows) };
            batch.effects.drop_segment = Some(segment);
            Ok(more_rows || more_segments)
        })
        .await
    }
}

impl Batch<'_> {
    /// Removes the oldest rows that every consumer has confirmed; true if more could be removed. Damaged rows stay:
    /// nobody can have confirmed them, as they were never handed out.
    fn purge_inbox(&mut self) -> Result<bool, Error> {
        let purged = self.effects.ends.purged;
        let Some(confirmed) = self.confirmed_by_all().filter(|confirmed| *confirmed > purged) else { return Ok(false) };
        let to = confirmed.min(purged + ROWS_STEP);
        let mut damaged = Vec::new();
        let mut statement = self.conn.prepare_cached("SELECT seq, row FROM inbox WHERE seq > ?1 AND seq <= ?2")?;
        let mut rows = statement.query([int(purged), int(to)])?;
        while let Some(row) = rows.next()? {
            let seq: i64 = row.get(0)?;
            if row.get_ref(1)?.as_blob().ok().and_then(|blob| decode_inbox(seq, blob)).is_none() {
                damaged.push(uint(seq));
            }
        }
        drop(rows);
        let mut delete = self.conn.prepare_cached("DELETE FROM inbox WHERE seq > ?1 AND seq < ?2")?;
        let mut from = purged;
        for kept in damaged.into_iter().chain([to + 1]) {
            delete.execute([int(from), int(kept)])?;
            from = kept;
            if kept <= to {
                self.shared.report_damaged(kept);
            }
        }
        self.effects.ends.purged = to;
        self.effects.ends.save(self.conn)?;
        Ok(to < confirmed)
    }

    /// Writes something, so that a full disk is noticed to have room again.
    fn probe(&self) -> Result<(), Error> {
        match schema::load_meta(self.conn, Meta::Salt)? {
            Some(salt) => schema::save_meta(self.conn, Meta::Salt, &salt),
            None => Ok(()),
        }
    }
}

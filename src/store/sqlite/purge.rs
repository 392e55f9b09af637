//! Removing what is no longer needed, a little at a time.

use super::Sqlite;
use super::batch::Batch;
use super::lot::Delivery;
use super::rows::{int, uint};
use super::schema::{self, Meta};
use super::shrink::{self, Step};
use super::{job, reader};
use crate::clock::Wall;
use crate::store::{Error, Journal as _};

/// Inbox rows removed by one call.
const ROWS_STEP: u64 = 2_000;

/// With so many confirmed rows nobody waits for the next round: as long as their pages are in the cache and in the log alone,
/// to remove them costs next to nothing, and they never go into the database.
const CONFIRMED_MAX: u64 = 1_000;

/// Memory that is dated so many milliseconds behind the time that was noted last (every ten minutes) was dated by a clock that
/// was wrong.
const AHEAD_LEAST: u64 = 86_400_000;

/// Keys of rows, and SETs with what is left of their rows.
type Damage = (Vec<i64>, Vec<(i64, Vec<u8>)>);

impl Sqlite {
    /// See [`crate::store::Journal::purge`].
    ///
    /// Memory goes by whole segments, the oldest first, when its newest entry is too old; so some is kept longer than
    /// asked. It is never taken from a SET that waits in an outbox: the first segment that knows of one stays, and all
    /// behind it. Times alone would not tell, as SETs may have been accepted by a clock that went back since.
    pub(super) async fn purge_some(&self, memory_before: Wall) -> Result<bool, Error> {
        let mut outdated = self.shared.seen.outdated(memory_before);
        // A clock that was ahead for a while, and was believed, must not hold up all that came after for as long.
        if outdated.is_none()
            && self.shared.seen.outdated_but_for(memory_before, Wall(0)).is_some()
            && let Some(noted) = self.last_time().await?
        {
            let ahead = Wall(noted.0.saturating_add(AHEAD_LEAST));
            outdated = self.shared.seen.outdated_but_for(memory_before, ahead);
        }
        if outdated.is_some() {
            let needed = reader::read(&self.shared, reader::first_needed_segment).await?;
            outdated = outdated.filter(|(segment, _)| needed.is_none_or(|needed| *segment < needed));
        }
        let probe = !self.shared.healthy();
        self.ask(1, move |batch| {
            if probe {
                batch.probe()?;
            }
            job::forget(batch.conn, memory_before)?;
            let more_rows = batch.purge_inbox()?;
            let Some((segment, more_segments)) = outdated else { return Ok(more_rows) };
            batch.effects.drop_segment = Some(segment);
            Ok(more_rows || more_segments)
        })
        .await
    }
}

impl Batch<'_> {
    /// Removes some of the rows that every consumer has confirmed, if they are many.
    pub(super) fn purge_confirmed(&mut self) -> Result<(), Error> {
        // What little room a full disk has is left to those who wait; the janitor comes again.
        if !self.shared.healthy() {
            return Ok(());
        }
        let purged = self.effects.ends.purged;
        if self.confirmed_by_all().is_some_and(|confirmed| confirmed >= purged + CONFIRMED_MAX) {
            self.purge_inbox()?;
        }
        Ok(())
    }

    /// See [`crate::store::Journal::give_back`].
    pub(super) fn give_back(&mut self) -> Result<bool, Error> {
        // While the disk is full, what little fits is left to those who wait.
        if !self.shared.healthy() {
            return Ok(false);
        }
        let step = shrink::step(self.conn)?;
        self.effects.is_shorter |= step == Step::Last;
        Ok(step == Step::Some)
    }

    /// Removes the oldest rows that every consumer has confirmed; true if more could be removed. Damaged rows stay:
    /// they may never have been handed out.
    fn purge_inbox(&mut self) -> Result<bool, Error> {
        let purged = self.effects.ends.purged;
        let Some(confirmed) = self.confirmed_by_all().filter(|confirmed| *confirmed > purged) else { return Ok(false) };
        let to = confirmed.min(purged + ROWS_STEP);
        self.store_arrived()?;
        // The others were handed out of RAM, whole, to whoever confirmed them. Should a reader of something else ask the file just
        // now, the log may tell of damage to one of them as if it were kept.
        let to_look_at = to.min(self.shared.asked_of_file());
        let (kept, rescued) = self.look_for_damage(int(purged), int(to_look_at))?;
        let mut delete = self.conn.prepare_cached("DELETE FROM inbox WHERE seq > ?1 AND seq < ?2")?;
        let mut from = int(purged);
        for kept in kept.into_iter().chain([int(to) + 1]) {
            delete.execute([from, kept])?;
            from = kept;
        }
        let mut insert = self.conn.prepare_cached("INSERT INTO inbox (seq, row) VALUES (?1, ?2)")?;
        for row in rescued {
            insert.execute(row)?;
        }
        self.effects.ends.purged = to;
        self.effects.ends.save(self.conn)?;
        Ok(to < confirmed)
    }

    /// Tells of damage to SETs behind `purged` and up to `to`. Of the rows that end there: those that have to be kept as they
    /// are, and damaged SETs that are kept without their neighbours.
    fn look_for_damage(&self, purged: i64, to: i64) -> Result<Damage, Error> {
        let mut statement = self.conn.prepare_cached("SELECT seq, row FROM inbox WHERE seq > ?1 ORDER BY seq")?;
        let mut rows = statement.query([purged])?;
        let (mut kept, mut rescued) = (Vec::new(), Vec::new());
        let mut from = purged + 1;
        while from <= to
            && let Some(row) = rows.next()?
        {
            let delivery = Delivery::of(row)?;
            let damaged = delivery.damaged(purged + 1, from).filter(|(seq, _)| *seq <= to);
            damaged.for_each(|(seq, _)| self.shared.report_damaged(uint(seq)));
            if delivery.last() <= to {
                match delivery {
                    Delivery::Damaged(last) => kept.push(last),
                    Delivery::One(last, _) if delivery.damaged(last, last).next().is_some() => kept.push(last),
                    Delivery::One(..) => {}
                    // Some of it may have been purged before.
                    Delivery::Many(..) => {
                        let damaged = delivery.damaged(0, 0);
                        rescued.extend(damaged.map(|(seq, row)| (seq, row.unwrap_or_default().to_vec())));
                    }
                }
            }
            from = delivery.last() + 1;
        }
        Ok((kept, rescued))
    }

    /// Writes something, so that a full disk is noticed to have room again.
    fn probe(&self) -> Result<(), Error> {
        match schema::load_meta(self.conn, Meta::Salt)? {
            Some(salt) => schema::save_meta(self.conn, Meta::Salt, &salt),
            None => Ok(()),
        }
    }
}

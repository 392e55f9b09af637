//! The outbox within a transaction: SETs that are queued together lie in one row, and what leaves of a row is noted beside
//! it, so that nothing is written twice. A row goes when its last SET does.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _};

use super::body;
use super::bundle::{Bundle, Gone, covers};
use super::kept::damaged;
use super::lot::{self, Lot, OUTBOX};
use super::rows::{Table, put_outbox, row_bytes, seal, seal_attempts, seal_size, unseal_attempts, unseal_size};
use crate::peer::OutboxRow;
use crate::store::Error;

/// What the transaction has done, and not written yet.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Queued, and in no row yet.
    fresh: Bundle,
    /// Bundles that were looked at, by their keys.
    open: BTreeMap<i64, Open>,
    /// The bundle that was read last.
    loaded: Option<(i64, Vec<u8>)>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    size: usize,
    gone: Gone,
    /// Some of it is noted in the file as gone.
    is_noted: bool,
    is_changed: bool,
}

/// A row of one SET: its key, attempts and blob.
pub(super) type Lone = (i64, i64, Vec<u8>);

/// Where a SET lies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Spot {
    Nowhere,
    /// In the row of its key.
    Alone,
    /// In the bundle of that key, at this place.
    In(i64, usize),
    /// It was at this place in the bundle of that key.
    GoneFrom(i64),
}

impl Queue {
    /// Adds a SET of which nothing is there.
    pub(super) fn push(&mut self, conn: &Connection, key: i64, row: &OutboxRow) -> Result<(), Error> {
        // Attempts are told of a row as a whole.
        if row.attempts > 0 || !self.fresh.takes(key, row_bytes(&row.jti, &row.compact)) {
            self.flush(conn)?;
        }
        self.fresh.push(key, |rows| put_outbox(rows, key, row));
        if row.attempts > 0 {
            self.write(conn, row.attempts)?;
        }
        Ok(())
    }

    /// Where the SET of this key lies.
    pub(super) fn find(&mut self, conn: &Connection, key: i64) -> Result<Spot, Error> {
        if self.fresh.covers(key) {
            self.flush(conn)?;
        }
        if let Some((last, open)) = self.open.range(key..).next()
            && covers(*last, open.size, key)
        {
            return Ok(open.spot(*last, key));
        }
        let mut statement = conn.prepare_cached(
            "SELECT outbox.key, attempts, gone FROM outbox LEFT JOIN outbox_gone ON outbox_gone.key = outbox.key
             WHERE outbox.key >= ?1 ORDER BY outbox.key LIMIT 1",
        )?;
        let mut rows = statement.query([key])?;
        let Some(row) = rows.next()? else { return Ok(Spot::Nowhere) };
        let last: i64 = row.get(0)?;
        let number = row.get_ref(1)?.as_i64().unwrap_or(-1);
        if unseal_attempts(last, number).is_some() {
            return Ok(if last == key { Spot::Alone } else { Spot::Nowhere });
        }
        let (size, is_known) = match unseal_size(last, number) {
            Some(size) => (size, true),
            None => shape(conn, last)?,
        };
        if !covers(last, size, key) {
            return Ok(Spot::Nowhere);
        }
        if !is_known {
            // It may be among what is there.
            return Err(damaged("outbox", &last.to_string()));
        }
        if size == 1 {
            return Ok(Spot::Alone);
        }
        let gone = lot::gone(last, row.get_ref(2)?).ok_or_else(|| damaged("outbox_gone", &last.to_string()))?;
        let open = Open { size, gone, is_noted: gone.count() > 0, is_changed: false };
        self.open.insert(last, open);
        Ok(open.spot(last, key))
    }

    /// The row of a SET in a bundle, as it is: empty when nobody knows which it is, and so a damaged one.
    pub(super) fn row(&mut self, conn: &Connection, last: i64, index: usize) -> Result<Vec<u8>, Error> {
        if self.loaded.as_ref().is_none_or(|(key, _)| *key != last) {
            self.loaded = Some((last, body::of_outbox(conn, last)?));
        }
        let row = self.loaded.as_ref().map(|(_, row)| row.as_slice()).unwrap_or_default();
        let members = super::bundle::Members::open(Table::OutboxBundle, last, row);
        Ok(members.map(|members| members.row(index).to_vec()).unwrap_or_default())
    }

    /// Takes a SET out of a bundle; true if it was its last one, and the bundle is to be removed.
    pub(super) fn take(&mut self, last: i64, index: usize) -> bool {
        let Some(open) = self.open.get_mut(&last) else { return false };
        open.gone.add(index);
        open.is_changed = true;
        open.gone.count() == open.size
    }

    /// Gives each SET of a bundle a row of its own, and takes the bundle away: what had left it is returned. `None` if nobody
    /// knows any more what is where in it.
    pub(super) fn spread(&mut self, conn: &Connection, last: i64) -> Result<Option<Vec<Lone>>, Error> {
        self.save(conn)?;
        let (rows, left): (Vec<Lone>, Vec<Lone>) = {
            let mut statement = conn.prepare_cached(&format!("{OUTBOX} WHERE outbox.key = ?1"))?;
            let mut rows = statement.query([last])?;
            let Some(row) = rows.next()? else { return Ok(None) };
            let lot = Lot::of(row)?;
            if !lot.is_whole_bundle() {
                return Ok(None);
            }
            let alone = |(key, attempts, row): (i64, i64, Option<&[u8]>)| Some((key, attempts, row?.to_vec()));
            (lot.rows(0).filter_map(alone).collect(), lot.left_rows().filter_map(alone).collect())
        };
        self.remove(conn, last, false)?;
        let mut insert = conn.prepare_cached(INSERT)?;
        for row in rows {
            insert.execute(row)?;
        }
        Ok(Some(left))
    }

    /// Writes what is not written yet.
    pub(super) fn save(&mut self, conn: &Connection) -> Result<(), Error> {
        self.flush(conn)?;
        for (last, open) in self.open.iter_mut().filter(|(_, open)| open.is_changed) {
            conn.prepare_cached("INSERT OR REPLACE INTO outbox_gone (key, gone) VALUES (?1, ?2)")?
                .execute((last, seal(Table::Gone, *last, open.gone.to_bytes())))?;
            (open.is_noted, open.is_changed) = (true, false);
        }
        Ok(())
    }

    fn flush(&mut self, conn: &Connection) -> Result<(), Error> {
        self.write(conn, 0)
    }

    fn write(&mut self, conn: &Connection, attempts: u32) -> Result<(), Error> {
        if let Some((key, size, row)) = self.fresh.close(Table::OutboxBundle) {
            let (number, row) = if size == 1 {
                (seal_attempts(key, attempts), row)
            } else {
                (seal_size(key, size), body::put(conn, key, row)?)
            };
            conn.prepare_cached(INSERT)?.execute((key, number, row))?;
        }
        Ok(())
    }

    /// Takes a bundle away. `is_kept`: what lies beside it is the archive's now.
    pub(super) fn remove(&mut self, conn: &Connection, last: i64, is_kept: bool) -> Result<(), Error> {
        if !is_kept {
            body::drop_of_outbox(conn, last)?;
        }
        conn.prepare_cached("DELETE FROM outbox WHERE key = ?1")?.execute([last])?;
        if self.open.remove(&last).is_none_or(|open| open.is_noted) {
            conn.prepare_cached("DELETE FROM outbox_gone WHERE key = ?1")?.execute([last])?;
        }
        self.loaded = None;
        Ok(())
    }
}

const INSERT: &str = "INSERT INTO outbox (key, attempts, row) VALUES (?1, ?2, ?3)";

impl Open {
    fn spot(&self, last: i64, key: i64) -> Spot {
        let index = usize::try_from(last - key).ok().and_then(|behind| (self.size - 1).checked_sub(behind));
        match index {
            Some(index) if !self.gone.has(index) => Spot::In(last, index),
            _ => Spot::GoneFrom(last),
        }
    }
}

/// Refuses a file where it is told what is gone of a row that is not there: then a damaged key has taken it from another
/// row, of which SETs that are settled would leave again.
pub(super) fn check(conn: &Connection) -> Result<(), Error> {
    let mut statement = conn.prepare(
        "SELECT key FROM outbox_gone WHERE NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.key = outbox_gone.key)",
    )?;
    match statement.query_row([], |row| row.get::<_, i64>(0)).optional()? {
        Some(key) => Err(damaged("outbox_gone", &key.to_string())),
        None => Ok(()),
    }
}

/// How many SETs are in a row whose number is damaged, and whether that is certain.
fn shape(conn: &Connection, key: i64) -> Result<(usize, bool), Error> {
    let mut statement = conn.prepare_cached(&format!("{OUTBOX} WHERE outbox.key = ?1"))?;
    let mut rows = statement.query([key])?;
    let Some(row) = rows.next()? else { return Ok((0, true)) };
    let lot = Lot::of(row)?;
    Ok((lot.size, lot.is_certain()))
}

//! Rows of the outbox that have left it, whole as they lay there, in the order in which the last SET of each left. What became
//! of a SET is not here, but in the memory of its jti.

use rusqlite::Connection;

use super::body;
use super::lot::{Lot, OUTBOX};
use super::queue::Lone;
use super::rows::{SEQ_MAX, Table, checksum, decode_outbox, int, outbox_key, peer_of, seq_of, uint};
use super::schema::{self, Meta};
use crate::clock::Wall;
use crate::peer::{OutboxRow, PeerId};
use crate::store::archive::LEAF_BYTES;
use crate::store::{Bookmark, Error, Keep, Leaf};

/// Rows removed by one call: the writer does nothing else meanwhile.
const ROWS_STEP: usize = 64;
/// Rows of all peers that are passed for one leaf.
const SCAN_MAX: usize = 5_000;
/// What a row takes beside its blob, about.
const ROW_BYTES: i64 = 64;
/// What is noted as the gap while it is open: nothing that leaves is added.
const OPEN: Wall = Wall(u64::MAX);

/// Where the archive ends.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct End {
    id: i64,
    /// When a SET left last, or its last row came. Never before that of another row, whatever the clock did, so that a time
    /// can be looked up.
    at: i64,
    /// Bytes of all rows that ever were, so that the difference of two is what lies between them.
    total: i64,
    /// What left before now is not all there, up to the next row that is added.
    gap_is_open: bool,
}

/// Makes the note of a new file: nothing is missing.
pub(super) fn create(conn: &Connection) -> Result<(), Error> {
    note_gap(conn, Wall(0))
}

/// Notes if nothing is added from now on, and gives where the archive ends if it is. What left an older file, or one that had
/// it turned off, is missing up to the first row.
pub(super) fn begin(conn: &Connection, archives: bool) -> Result<Option<End>, Error> {
    let noted = gap(conn)?;
    if noted.is_none() || (!archives && noted != Some(OPEN)) {
        note_gap(conn, OPEN)?;
    }
    let end = archives.then(|| End::load(conn)).transpose()?;
    Ok(end.map(|end| End { gap_is_open: noted.is_none_or(|noted| noted == OPEN), ..end }))
}

/// When the last SET left that the archive does not have; none if that is not known.
fn gap(conn: &Connection) -> Result<Option<Wall>, Error> {
    // What is damaged here says no more than nothing, and nothing else rests on it.
    let bytes = schema::load_meta(conn, Meta::Archive).or_else(|error| match error {
        Error::Fatal(_) => Ok(None),
        error => Err(error),
    })?;
    Ok(bytes.and_then(|bytes| bytes.try_into().ok()).map(|bytes| Wall(u64::from_le_bytes(bytes))))
}

fn note_gap(conn: &Connection, at: Wall) -> Result<(), Error> {
    schema::save_meta(conn, Meta::Archive, &at.0.to_le_bytes())
}

impl End {
    fn load(conn: &Connection) -> Result<Self, Error> {
        let mut statement = conn.prepare_cached(&format!("{STUBS} ORDER BY id DESC"))?;
        let mut rows = statement.query([])?;
        let mut end = Self::default();
        while let Some(row) = rows.next()? {
            let stub = Stub::of(row)?;
            end.id = end.id.max(stub.id);
            if stub.is_whole {
                return Ok(Self { at: stub.at, total: stub.total, ..end });
            }
        }
        Ok(end)
    }

    /// A SET leaves.
    pub(super) fn pass(&mut self, at: Wall) {
        self.at = self.at.max(int(at.0));
    }

    /// A row leaves and is not added. That is noted at once: a restart would not know of it.
    pub(super) fn miss(&mut self, conn: &Connection) -> Result<(), Error> {
        if !self.gap_is_open {
            note_gap(conn, OPEN)?;
            self.gap_is_open = true;
        }
        Ok(())
    }

    /// Adds a SET that had left a row which is taken apart now.
    pub(super) fn add_lone(&mut self, conn: &Connection, row: Lone) -> Result<(), Error> {
        // When it left is not known any more: since it was accepted, and no later than the last.
        let accepted = decode_outbox(row.0, row.1, &row.2).map_or(Wall(0), |row| row.accepted_at);
        let stub = self.next(conn, row.0, row.1, int(row.2.len() as u64), accepted)?;
        conn.prepare_cached(
            "INSERT INTO archive (id, at, total, checksum, key, attempts, row) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute((stub.id, stub.at, stub.total, stub.checksum(), stub.key, stub.attempts, row.2))?;
        Ok(())
    }

    /// Adds this row of the outbox as it is, damaged or not. What lies beside it is the archive's from then on.
    pub(super) fn add(&mut self, conn: &Connection, key: i64, at: Wall) -> Result<(), Error> {
        let (length, attempts): (i64, i64) = conn
            .prepare_cached(
                "SELECT CASE length(row) WHEN 0 THEN (SELECT length(body.row) FROM body WHERE body.key = outbox.key)
                 ELSE length(row) END, attempts FROM outbox WHERE key = ?1",
            )?
            .query_row([key], |row| Ok((number(row, 0), number(row, 1))))?;
        let stub = self.next(conn, key, attempts, length.max(0), at)?;
        // A damaged record may hold other types than its columns have.
        conn.prepare_cached(
            "INSERT INTO archive (id, at, total, checksum, key, attempts, row)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, coalesce(CAST(row AS BLOB), x'') FROM outbox WHERE key = ?5",
        )?
        .execute((stub.id, stub.at, stub.total, stub.checksum(), key, attempts))?;
        Ok(())
    }

    fn next(&mut self, conn: &Connection, key: i64, attempts: i64, length: i64, at: Wall) -> Result<Stub, Error> {
        self.pass(at);
        if self.gap_is_open {
            note_gap(conn, Wall(uint(self.at)))?;
            self.gap_is_open = false;
        }
        self.id = self.id.saturating_add(1);
        self.total = self.total.saturating_add(length.saturating_add(ROW_BYTES));
        Ok(Stub { id: self.id, at: self.at, total: self.total, key, attempts, is_whole: true })
    }
}

/// A row without its blob.
struct Stub {
    id: i64,
    at: i64,
    total: i64,
    key: i64,
    attempts: i64,
    is_whole: bool,
}

/// The columns of a [`Stub`].
const STUBS: &str = "SELECT id, at, total, key, attempts, checksum FROM archive";
/// One row with the columns of a [`Lot`], of which nothing is gone.
const ONE: &str = "SELECT key, attempts,
     CASE length(row) WHEN 0 THEN (SELECT body.row FROM body WHERE body.key = archive.key) ELSE row END, NULL
     FROM archive WHERE id = ?1";

impl Stub {
    fn of(row: &rusqlite::Row<'_>) -> Result<Self, Error> {
        let [at, total, key, attempts] = [1, 2, 3, 4].map(|column| number(row, column));
        let mut stub = Self { id: row.get(0)?, at, total, key, attempts, is_whole: false };
        stub.is_whole = stub.checksum() == number(row, 5);
        Ok(stub)
    }

    fn checksum(&self) -> i64 {
        let Self { id, at, total, key, attempts, .. } = *self;
        i64::from(checksum(Table::Archive, id, &[[at, total, key, attempts].map(i64::to_le_bytes).as_flattened()]))
    }
}

/// A number; of a damaged record, which may even hold another type, one that fits nothing.
fn number(row: &rusqlite::Row<'_>, column: usize) -> i64 {
    row.get_ref(column).ok().and_then(|value| value.as_i64().ok()).unwrap_or(-1)
}

/// Removes some of what is not kept any more; true if there is more of it. What is damaged goes with what is before or behind it.
pub(super) fn forget(conn: &Connection, keep: Keep) -> Result<bool, Error> {
    let end = End::load(conn)?;
    let mut statement = conn.prepare_cached(&format!("{STUBS} ORDER BY id"))?;
    let mut rows = statement.query([])?;
    let (mut last, mut whole, mut newest, mut bytes_max) = (None, Vec::new(), Wall(0), keep.bytes_max);
    let is_more = loop {
        let Some(row) = rows.next()? else { break false };
        let stub = Stub::of(row)?;
        if stub.is_whole {
            let behind = uint(end.total.saturating_sub(stub.total));
            if keep.makes_room && whole.is_empty() {
                bytes_max = bytes_max.min(behind / 2);
            }
            // What comes behind it alone is as much as there may be.
            if stub.at >= int(keep.since.0) && behind < bytes_max {
                break false;
            }
            newest = newest.max(Wall(uint(stub.at)));
            whole.push((stub.id, stub.key));
        }
        if stub.is_whole || keep.bytes_max == 0 {
            last = Some(stub.id);
        }
        if whole.len() >= ROWS_STEP {
            // Making room goes step by step, or each would halve what is left.
            break !keep.makes_room;
        }
    };
    drop(rows);
    if let Some(last) = last {
        // A damaged row may name what is another's.
        for (id, key) in whole {
            body::drop_of_archive(conn, id, key)?;
        }
        conn.prepare_cached("DELETE FROM archive WHERE id <= ?1")?.execute([last])?;
        if gap(conn)?.is_some_and(|noted| noted < newest) {
            note_gap(conn, newest)?;
        }
    }
    Ok(is_more)
}

/// A leaf of what this peer's SETs were.
pub(super) fn leaf(
    conn: &Connection,
    peer: PeerId,
    since: Wall,
    from: Bookmark,
    sets_max: usize,
) -> Result<Leaf, Error> {
    let unkept = gap(conn)?.unwrap_or(OPEN);
    let mut filling = Filling { leaf: Leaf { unkept, ..Leaf::default() }, bytes: 0, sets_max: sets_max.max(1) };
    let (row, after) = match from {
        Bookmark::Outbox(after) => {
            if let Some(next) = filling.beside_the_waiting(conn, peer, after)? {
                filling.leaf.next = Some(Bookmark::Outbox(next));
                return Ok(filling.leaf);
            }
            (0, 0)
        }
        Bookmark::Archive(row, after) => {
            // An archive that was emptied may have begun anew since.
            let is_there = row <= uint(End::load(conn)?.id);
            if is_there { (int(row), after) } else { (0, 0) }
        }
    };
    let mut one = conn.prepare_cached(ONE)?;
    let mut statement = conn.prepare_cached(&format!("{STUBS} WHERE id >= ?1 ORDER BY id"))?;
    let mut rows = statement.query([row.max(first_since(conn, int(since.0))?)])?;
    let (mut passed, mut read_to) = (0, (row, after));
    while let Some(row) = rows.next()? {
        if passed >= SCAN_MAX || filling.is_full() {
            filling.leaf.next = Some(Bookmark::Archive(uint(read_to.0), read_to.1));
            break;
        }
        passed += 1;
        let stub = Stub::of(row)?;
        let after = if stub.id == read_to.0 { read_to.1 } else { 0 };
        if !stub.is_whole {
            // Whose it is nobody knows: it is told to everybody who looks, once.
            filling.leaf.damaged += u64::from(after == 0);
        } else if peer_of(stub.key) == peer {
            let mut found = one.query([stub.id])?;
            let Some(row) = found.next()? else { continue };
            if let Some(next) = filling.take(Lot::of(row)?.sets(0), after) {
                filling.leaf.next = Some(Bookmark::Archive(uint(stub.id), next));
                break;
            }
        }
        read_to = (stub.id, SEQ_MAX);
    }
    Ok(filling.leaf)
}

/// A leaf in the making.
struct Filling {
    leaf: Leaf,
    bytes: usize,
    sets_max: usize,
}

impl Filling {
    fn is_full(&self) -> bool {
        self.leaf.sets.len() >= self.sets_max || self.bytes >= LEAF_BYTES
    }

    /// Takes those behind this `seq`; if not all of them, the `seq` behind which to go on.
    fn take(&mut self, sets: impl Iterator<Item = (i64, Option<OutboxRow>)>, after: u64) -> Option<u64> {
        let mut read_to = after;
        for (key, set) in sets.filter(|(key, _)| seq_of(*key) > after) {
            if self.is_full() {
                return Some(read_to);
            }
            match set {
                Some(set) => {
                    self.bytes += set.compact.len();
                    self.leaf.sets.push(set);
                }
                None => self.leaf.damaged += 1,
            }
            read_to = seq_of(key);
        }
        None
    }

    /// Takes what has left rows of which others wait; the `seq` behind which to go on, if the leaf is full.
    fn beside_the_waiting(&mut self, conn: &Connection, peer: PeerId, after: u64) -> Result<Option<u64>, Error> {
        let mut statement = conn.prepare_cached(&format!(
            "{OUTBOX} WHERE outbox.key IN (SELECT key FROM outbox_gone WHERE key > ?1 AND key <= ?2) ORDER BY outbox.key"
        ))?;
        let mut rows = statement.query([outbox_key(peer, after), outbox_key(peer, SEQ_MAX)])?;
        let mut read_to = after;
        while let Some(row) = rows.next()? {
            let lot = Lot::of(row)?;
            if self.is_full() {
                return Ok(Some(read_to));
            }
            if let Some(next) = self.take(lot.left(), after) {
                return Ok(Some(next));
            }
            read_to = seq_of(lot.last);
        }
        Ok(None)
    }
}

/// The first row that came at this time or later, or one before it. Found in few steps, as times never fall.
fn first_since(conn: &Connection, since: i64) -> Result<i64, Error> {
    let ends: (Option<i64>, Option<i64>) =
        conn.query_row("SELECT (SELECT min(id) FROM archive), (SELECT max(id) FROM archive)", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    let (Some(first), Some(last)) = ends else { return Ok(0) };
    let mut middle_row = conn.prepare_cached(&format!("{STUBS} WHERE id >= ?1 ORDER BY id LIMIT 1"))?;
    let (mut low, mut high) = (first.saturating_sub(1), last.saturating_add(1));
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        let mut rows = middle_row.query([middle])?;
        // Of a damaged one the time is not believed: too much is read then, and not too little.
        let stub = rows.next()?.map(Stub::of).transpose()?;
        if stub.is_some_and(|stub| stub.is_whole && stub.at < since) { low = middle } else { high = middle }
    }
    Ok(high)
}

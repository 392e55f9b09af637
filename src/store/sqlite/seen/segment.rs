//! A sealed, sorted run of remembered jtis in blocks on disk, with its filter and sparse index in RAM.

use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::{Connection, OptionalExtension};

use super::filter::Filter;
use super::{Key, entry};
use crate::clock::Wall;
use crate::peer::Remembered;
use crate::store::Error;
use crate::store::sqlite::rows::{Cursor, Table, checksum, int, seal, uint, unseal};

/// A block's bytes at most, unless a single entry is larger: one fits into a page of 8 KiB.
pub(super) const BLOCK_MAX: usize = 8_000;

const BLOCK_BITS: u32 = 24;

/// The part of a segment that stays in RAM.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(super) id: i64,
    /// Log rows up to here are in this segment or an older one.
    pub(super) log_upto: i64,
    pub(super) count: u64,
    /// The latest time of which an entry speaks.
    pub(super) newest: Wall,
    /// The first key of each block.
    pub(super) firsts: Vec<Key>,
    pub(super) filter: Filter,
    /// It has been purged: that a block is missing is no damage any more.
    dropped: AtomicBool,
}

impl Segment {
    pub(super) fn new(id: i64, log_upto: i64, entries: usize) -> Self {
        Self {
            id,
            log_upto,
            count: 0,
            newest: Wall(0),
            firsts: Vec::new(),
            filter: Filter::new(entries),
            dropped: AtomicBool::new(false),
        }
    }

    /// False: the key is certainly not in here.
    pub(super) fn may_hold(&self, key: Key) -> bool {
        self.filter.may_hold(key)
    }

    /// Reads the one block in which the key would be.
    pub(super) fn find(&self, conn: &Connection, key: Key) -> Result<Option<Remembered>, Error> {
        let Some(block) = self.firsts.partition_point(|first| *first <= key).checked_sub(1) else { return Ok(None) };
        let place = block_key(self.id, block);
        let blob: Option<Vec<u8>> = conn
            .prepare_cached("SELECT entries FROM segment_block WHERE key = ?1")?
            .query_row([place], |row| row.get(0))
            .optional()?;
        let Some(blob) = blob else {
            if self.dropped.load(Ordering::Acquire) {
                return Ok(None);
            }
            return Err(self.damaged(block, "missing"));
        };
        let mut entries =
            Cursor(unseal(Table::SegmentBlock, place, &blob).ok_or_else(|| self.damaged(block, "damaged"))?);
        while !entries.0.is_empty() {
            let (at, _, contents) = entry::next(&mut entries).ok_or_else(|| self.damaged(block, "damaged"))?;
            if at == key {
                return entry::decode(contents).map(Some).ok_or_else(|| self.damaged(block, "damaged"));
            }
        }
        Ok(None)
    }

    /// From now on nobody minds that its blocks go away.
    pub(super) fn mark_dropped(&self) {
        self.dropped.store(true, Ordering::Release);
    }

    /// Writes the next block.
    pub(super) fn save_block(&mut self, conn: &Connection, first: Key, entries: Vec<u8>) -> Result<(), Error> {
        let place = block_key(self.id, self.firsts.len());
        conn.prepare_cached("INSERT OR REPLACE INTO segment_block (key, entries) VALUES (?1, ?2)")?
            .execute((place, seal(Table::SegmentBlock, place, entries)))?;
        self.firsts.push(first);
        Ok(())
    }

    /// Writes the row that makes all its blocks count.
    pub(super) fn save(&self, conn: &Connection) -> Result<(), Error> {
        let (firsts, filter) = (self.firsts_to_bytes(), self.filter.to_bytes());
        let (count, newest) = (int(self.count), int(self.newest.0));
        conn.prepare_cached(
            "INSERT INTO segment (id, log_upto, count, newest, firsts, filter, checksum)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute((
            self.id,
            self.log_upto,
            count,
            newest,
            &firsts,
            &filter,
            row_checksum(self.id, self.log_upto, count, newest, &firsts, &filter),
        ))?;
        Ok(())
    }

    /// Every finished segment, oldest first.
    pub(super) fn load_all(conn: &Connection) -> Result<Vec<Self>, Error> {
        let mut statement =
            conn.prepare("SELECT id, log_upto, count, newest, firsts, filter, checksum FROM segment ORDER BY id")?;
        let mut rows = statement.query([])?;
        let mut segments = Vec::new();
        while let Some(row) = rows.next()? {
            let (id, log_upto, count, newest): (i64, i64, i64, i64) =
                (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            let (firsts, filter): (Vec<u8>, Vec<u8>) = (row.get(4)?, row.get(5)?);
            let damaged = || Error::Fatal(format!("segment {id} of the memory of jtis is damaged: restore a backup"));
            if row_checksum(id, log_upto, count, newest, &firsts, &filter) != row.get::<_, i64>(6)? {
                return Err(damaged());
            }
            segments.push(Self {
                id,
                log_upto,
                count: uint(count),
                newest: Wall(uint(newest)),
                firsts: firsts.as_chunks::<16>().0.iter().map(|first| Key(*first)).collect(),
                filter: Filter::from_bytes(&filter).ok_or_else(damaged)?,
                dropped: AtomicBool::new(false),
            });
        }
        Ok(segments)
    }

    fn firsts_to_bytes(&self) -> Vec<u8> {
        self.firsts.iter().flat_map(|first| first.0).collect()
    }

    fn damaged(&self, block: usize, how: &str) -> Error {
        Error::Fatal(format!("block {block} of segment {} of the memory of jtis is {how}: restore a backup", self.id))
    }
}

/// The keys of a segment's blocks: from the first to before the second.
pub(super) fn block_keys(segment: i64) -> (i64, i64) {
    (segment << BLOCK_BITS, (segment + 1) << BLOCK_BITS)
}

/// Which segment a block belongs to.
pub(super) fn segment_of(block_key: i64) -> i64 {
    block_key >> BLOCK_BITS
}

fn block_key(segment: i64, block: usize) -> i64 {
    (segment << BLOCK_BITS) | i64::try_from(block).unwrap_or(i64::MAX)
}

fn row_checksum(id: i64, log_upto: i64, count: i64, newest: i64, firsts: &[u8], filter: &[u8]) -> i64 {
    let numbers = [log_upto, count, newest].map(i64::to_le_bytes);
    i64::from(checksum(Table::Segment, id, &[numbers.as_flattened(), firsts, filter]))
}

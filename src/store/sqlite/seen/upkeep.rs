//! The slow work on the memory of jtis, in small steps beside the commits: sealing, trimming the log, clearing away.

use std::sync::Arc;

use rusqlite::Connection;

use super::segment::{BLOCK_MAX, Segment, block_keys};
use super::tail::Tail;
use super::{Key, Seen, entry};
use crate::store::Error;
use crate::store::remember;
use crate::store::sqlite::rows::{Table, seal};

/// Log rows removed in a step.
const LOG_STEP: u32 = 256;
/// Blocks of dropped segments removed in a step.
const BLOCKS_STEP: u32 = 64;

/// What is to be done, and what the running transaction has done of it. Owned by the writer.
///
/// A crash at any point costs nothing but work: until a segment's row exists its entries are in the log, and its blocks
/// are cleared away at the next start; log rows that a segment covers are not replayed.
#[derive(Debug)]
pub(crate) struct Upkeep {
    log_last: i64,
    next_segment: i64,
    sealing: Option<Sealing>,
    /// Log rows up to here are covered by a segment.
    log_covered: Option<i64>,
    /// Segments without a row, whose blocks are still there.
    orphans: Vec<i64>,
    staged: Staged,
}

/// What becomes true when the running transaction is committed.
#[derive(Debug, Default)]
struct Staged {
    logged: Tail,
    log_last: Option<i64>,
    sealed: Option<Segment>,
    stepped: bool,
    log_trimmed: bool,
    orphan_cleared: bool,
    dropped: Option<i64>,
}

impl Upkeep {
    pub(super) fn new(log_last: i64, next_segment: i64, log_covered: Option<i64>, orphans: Vec<i64>) -> Self {
        Self { log_last, next_segment, sealing: None, log_covered, orphans, staged: Staged::default() }
    }

    /// There is something to do.
    pub(crate) fn is_due(&self) -> bool {
        self.sealing.is_some() || self.log_covered.is_some() || !self.orphans.is_empty()
    }

    /// Freezes the tail if it is full and nothing else is being sealed. It takes a moment, so nobody should be waiting.
    pub(crate) fn begin(&mut self, seen: &Seen) {
        if self.sealing.is_none()
            && let Some(tail) = seen.freeze()
        {
            self.sealing = Some(Sealing::new(self.next_segment, self.log_last, tail));
            self.next_segment += 1;
        }
    }

    /// Writes a transaction's new entries to the log.
    pub(crate) fn log(&mut self, conn: &Connection, fresh: Tail) -> Result<(), Error> {
        if fresh.is_empty() {
            return Ok(());
        }
        let id = self.log_last + 1;
        // With room for the checksum.
        let mut entries = Vec::with_capacity(fresh.pieces().iter().map(Vec::len).sum::<usize>() + 4);
        fresh.pieces().iter().for_each(|piece| entries.extend_from_slice(piece));
        conn.prepare_cached("INSERT INTO memory_log (id, entries) VALUES (?1, ?2)")?
            .execute((id, seal(Table::MemoryLog, id, entries)))?;
        self.staged.log_last = Some(id);
        self.staged.logged = fresh;
        Ok(())
    }

    /// Does one bounded step: seals about so many entries, or removes some of what is not needed any more.
    pub(crate) fn step(&mut self, conn: &Connection, entries: usize) -> Result<(), Error> {
        if let Some(sealing) = &mut self.sealing {
            self.staged.stepped = true;
            self.staged.sealed = sealing.step(conn, entries)?;
        } else if let Some(upto) = self.log_covered {
            let removed = conn
                .prepare_cached(
                    "DELETE FROM memory_log WHERE id IN (SELECT id FROM memory_log WHERE id <= ?1 ORDER BY id LIMIT ?2)",
                )?
                .execute((upto, LOG_STEP))?;
            self.staged.log_trimmed = removed < LOG_STEP as usize;
        } else if let Some(segment) = self.orphans.last() {
            let (from, to) = block_keys(*segment);
            let removed = conn
                .prepare_cached(
                    "DELETE FROM segment_block WHERE key IN
                     (SELECT key FROM segment_block WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT ?3)",
                )?
                .execute((from, to, BLOCKS_STEP))?;
            self.staged.orphan_cleared = removed < BLOCKS_STEP as usize;
        }
        Ok(())
    }

    /// Removes a segment's row; its blocks follow in later steps, when no reader looks for them any more.
    pub(crate) fn drop_segment(&mut self, conn: &Connection, id: i64) -> Result<(), Error> {
        conn.prepare_cached("DELETE FROM segment WHERE id = ?1")?.execute([id])?;
        self.staged.dropped = Some(id);
        Ok(())
    }

    /// The transaction is durable: makes its effects visible.
    pub(crate) fn committed(&mut self, seen: &Seen) {
        let staged = std::mem::take(&mut self.staged);
        if staged.log_trimmed {
            self.log_covered = None;
        }
        if staged.orphan_cleared {
            self.orphans.pop();
        }
        if let Some(id) = staged.dropped {
            seen.drop_segment(id);
            // In front, so that a clearing that is under way keeps its place at the end.
            self.orphans.insert(0, id);
        }
        if let Some(segment) = staged.sealed {
            self.log_covered = Some(segment.log_upto);
            self.sealing = None;
            seen.thaw(segment);
        }
        if let Some(id) = staged.log_last {
            self.log_last = id;
            seen.append(&staged.logged);
        }
    }

    /// The transaction was rolled back: a sealing that it had advanced begins anew.
    pub(crate) fn rolled_back(&mut self) {
        let staged = std::mem::take(&mut self.staged);
        if staged.stepped {
            self.sealing = self.sealing.take().map(Sealing::restart);
        }
    }
}

/// A frozen tail on its way to becoming a segment.
///
/// Part by part, by the first byte of the keys, so that each step sorts only the part it writes.
#[derive(Debug)]
struct Sealing {
    tail: Arc<Tail>,
    parts: std::ops::RangeInclusive<u8>,
    segment: Segment,
    block: Vec<u8>,
    first: Option<Key>,
}

impl Sealing {
    fn new(id: i64, log_upto: i64, tail: Arc<Tail>) -> Self {
        let segment = Segment::new(id, log_upto, tail.len());
        Self { tail, parts: 0..=u8::MAX, segment, block: Vec::new(), first: None }
    }

    fn restart(self) -> Self {
        Self::new(self.segment.id, self.segment.log_upto, self.tail)
    }

    /// Writes about so many entries; the finished segment when these were the last.
    fn step(&mut self, conn: &Connection, mut entries: usize) -> Result<Option<Segment>, Error> {
        while entries > 0 {
            let Some(part) = self.parts.next() else {
                self.flush(conn)?;
                self.segment.save(conn)?;
                let (id, upto) = (self.segment.id, self.segment.log_upto);
                return Ok(Some(std::mem::replace(&mut self.segment, Segment::new(id, upto, 0))));
            };
            let tail = Arc::clone(&self.tail);
            let mut places: Vec<_> = tail.places(part).collect();
            places.sort_unstable();
            tail.reach_entries(places.iter().map(|(_, place)| *place));
            entries = entries.saturating_sub(places.len());
            for (key, place) in places {
                if let Some((whole, contents)) = tail.whole(place) {
                    self.add(conn, key, whole, contents)?;
                }
            }
        }
        Ok(None)
    }

    fn add(&mut self, conn: &Connection, key: Key, whole: &[u8], contents: &[u8]) -> Result<(), Error> {
        if !self.block.is_empty() && self.block.len() + whole.len() > BLOCK_MAX {
            self.flush(conn)?;
        }
        self.first.get_or_insert(key);
        self.block.extend_from_slice(whole);
        self.segment.filter.insert(key);
        self.segment.count += 1;
        if let Some(remembered) = entry::decode(contents) {
            self.segment.newest = self.segment.newest.max(remember::newest(&remembered));
        }
        Ok(())
    }

    fn flush(&mut self, conn: &Connection) -> Result<(), Error> {
        match self.first.take() {
            Some(first) => self.segment.save_block(conn, first, std::mem::take(&mut self.block)),
            None => Ok(()),
        }
    }
}

//! The memory of jtis: a log in the file with its entries in RAM, sealed now and then into sorted segments with a
//! filter each. No B-tree over random jtis: that falls to a tenth of its speed by a million rows.

mod entry;
mod filter;
mod salt;
mod segment;
mod tail;
#[cfg(test)]
mod tests;
mod upkeep;

use std::hash::{Hash, Hasher};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rusqlite::{Connection, OptionalExtension};

use super::rows::{Table, unseal};
use crate::clock::Wall;
use crate::peer::{Direction, PeerId, Remembered};
use crate::planted::{self, Bug};
use crate::set::Jti;
use crate::store::Error;
pub(super) use salt::Salt;
use segment::Segment;
pub(super) use tail::Tail;
pub(super) use upkeep::Upkeep;

/// Stands for (peer, direction, jti): sixteen bytes of a hash that is keyed with the file's salt, so that no partner
/// can choose jtis that fall together. As good as unique, and uniformly random.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Key([u8; 16]);

/// For maps by key: it is a hash already, and one that nobody can choose.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.low());
    }
}

/// Takes a [`Key`] for what it is.
#[derive(Clone, Copy, Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn write(&mut self, bytes: &[u8]) {
        // Nothing but keys comes here; whatever else did would be found, only slowly.
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Key {
    /// Stands for no jti: where an entry is stored by itself.
    pub(super) const NONE: Self = Self([0; 16]);

    fn high(self) -> u64 {
        (u128::from_be_bytes(self.0) >> 64) as u64
    }

    fn low(self) -> u64 {
        u128::from_be_bytes(self.0) as u64
    }
}

/// All that is remembered, as far as it is durable. Written by the writer alone, read by everybody.
#[derive(Debug)]
pub(super) struct Seen {
    salt: Salt,
    entries_max: usize,
    layers: RwLock<Layers>,
}

#[derive(Debug)]
struct Layers {
    tail: Tail,
    /// The tail that is being sealed.
    frozen: Option<Arc<Tail>>,
    /// Oldest first.
    segments: Vec<Arc<Segment>>,
}

/// What RAM knows of a key.
#[derive(Debug)]
pub(super) enum Look {
    /// This.
    Known(Remembered),
    /// Nothing, and the disk knows nothing either.
    Unknown,
    /// These segments may hold it, newest first.
    Ask(Vec<Arc<Segment>>),
}

impl Look {
    /// Finishes the look-up, reading one block of each segment that may hold the key. May block.
    pub(super) fn resolve(self, conn: &Connection, key: Key) -> Result<Option<Remembered>, Error> {
        match self {
            Self::Known(remembered) => Ok(Some(remembered)),
            Self::Unknown => Ok(None),
            Self::Ask(segments) => {
                for segment in segments {
                    if let Some(remembered) = segment.find(conn, key)? {
                        return Ok(Some(remembered));
                    }
                }
                Ok(None)
            }
        }
    }
}

impl Seen {
    /// Loads what the file holds. Each tail of `entries_max` becomes a segment.
    pub(super) fn load(conn: &Connection, salt: Salt, entries_max: usize) -> Result<(Self, Upkeep), Error> {
        let segments = Segment::load_all(conn)?;
        let covered = segments.iter().map(|segment| segment.log_upto).max();
        let (tail, log_last) = load_log(conn, covered.unwrap_or(0), entries_max)?;
        let (orphans, newest_blocks) = find_orphans(conn, &segments)?;
        let newest_segment = segments.last().map_or(0, |segment| segment.id).max(newest_blocks);
        let segments = segments.into_iter().map(Arc::new).collect();
        let seen = Self { salt, entries_max, layers: RwLock::new(Layers { tail, frozen: None, segments }) };
        Ok((seen, Upkeep::new(log_last, newest_segment + 1, covered, orphans)))
    }

    /// The key of this jti.
    pub(super) fn key(&self, peer: PeerId, direction: Direction, jti: &Jti) -> Key {
        self.salt.key(peer, direction, jti)
    }

    /// What RAM knows of these keys, in their order. Never blocks on the disk.
    pub(super) fn look(&self, keys: &[Key]) -> Vec<Look> {
        let layers = self.read();
        keys.iter().map(|key| layers.look(*key)).collect()
    }

    /// To be called before many of these keys are looked for one at a time ([`Tail::reach`]).
    pub(super) fn reach(&self, keys: &[Key]) {
        if keys.len() > 1 {
            self.read().tail.reach(keys.iter().copied());
        }
    }

    /// What is remembered of this key. May block.
    pub(super) fn find(&self, conn: &Connection, key: Key) -> Result<Option<Remembered>, Error> {
        let look = self.read().look(key);
        look.resolve(conn, key)
    }

    /// The segment in which this key stands as it is known now; none while it is in no segment yet. May block.
    pub(super) fn segment_of(&self, conn: &Connection, key: Key) -> Result<Option<i64>, Error> {
        let look = self.read().look(key);
        let Look::Ask(segments) = look else { return Ok(None) };
        for segment in segments {
            if segment.find(conn, key)?.is_some() {
                return Ok(Some(segment.id));
            }
        }
        Ok(None)
    }

    /// The oldest segment, if its every entry is older than this, and whether the next one is too. In their order alone,
    /// since an older one may hold an earlier state of what a newer one tells of.
    pub(super) fn outdated(&self, before: Wall) -> Option<(i64, bool)> {
        self.outdated_but_for(before, Wall(u64::MAX))
    }

    /// The same where the clock has not come to `ahead` yet: what is dated behind that was dated by a clock that was wrong, and
    /// is as old as the first later one that was not, at least.
    pub(super) fn outdated_but_for(&self, before: Wall, ahead: Wall) -> Option<(i64, bool)> {
        let layers = self.read();
        let run = layers.segments.iter().take_while(|segment| segment.newest < before || segment.newest > ahead);
        let last = run.enumerate().filter(|(_, segment)| segment.newest < before).last()?.0;
        Some((layers.segments.first()?.id, last > 0))
    }

    fn append(&self, fresh: &Tail) {
        if fresh.len() > 1 {
            self.read().tail.reach(fresh.keys());
        }
        let mut layers = self.write();
        for piece in fresh.pieces() {
            // This process made it; only a malformed one would end early.
            let _ = layers.tail.append(piece);
        }
    }

    fn freeze(&self) -> Option<Arc<Tail>> {
        let mut layers = self.write();
        if layers.frozen.is_some() || !layers.tail.is_full(self.entries_max) {
            return None;
        }
        let frozen = Arc::new(std::mem::replace(&mut layers.tail, Tail::with_capacity(self.entries_max)));
        layers.frozen = Some(Arc::clone(&frozen));
        Some(frozen)
    }

    fn thaw(&self, segment: Segment) {
        let mut layers = self.write();
        layers.segments.push(Arc::new(segment));
        layers.frozen = None;
    }

    fn drop_segment(&self, id: i64) {
        let mut layers = self.write();
        for segment in layers.segments.extract_if(.., |segment| segment.id == id) {
            segment.mark_dropped();
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Layers> {
        self.layers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Layers> {
        self.layers.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Layers {
    /// The newest entry counts, so the layers are asked from new to old.
    fn look(&self, key: Key) -> Look {
        let newest = self.tail.get(key).or_else(|| self.frozen.as_ref().and_then(|frozen| frozen.get(key)));
        if let Some(remembered) = newest {
            return Look::Known(remembered);
        }
        let maybe: Vec<_> = self.segments.iter().rev().filter(|segment| segment.may_hold(key)).cloned().collect();
        if maybe.is_empty() { Look::Unknown } else { Look::Ask(maybe) }
    }
}

/// The entries that are in no segment yet, and the number of the newest log row.
fn load_log(conn: &Connection, covered: i64, entries_max: usize) -> Result<(Tail, i64), Error> {
    let mut statement = conn.prepare("SELECT id, entries FROM memory_log WHERE id > ?1 ORDER BY id")?;
    let mut rows = statement.query([covered])?;
    let (mut tail, mut last) = (Tail::with_capacity(entries_max), covered);
    while let Some(row) = rows.next()? {
        let (id, blob): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        if planted::is(Bug::DedupeInRamOnly) {
            continue;
        }
        unseal(Table::MemoryLog, id, &blob).and_then(|entries| tail.append(entries)).ok_or_else(|| {
            Error::Fatal(format!("row {id} of the log of the memory of jtis is damaged: restore a backup"))
        })?;
        last = id;
    }
    Ok((tail, last))
}

/// Segments that have blocks but no row (half sealed or half purged), and the greatest number a block belongs to.
fn find_orphans(conn: &Connection, segments: &[Segment]) -> Result<(Vec<i64>, i64), Error> {
    let mut next = conn.prepare("SELECT key FROM segment_block WHERE key >= ?1 ORDER BY key LIMIT 1")?;
    let (mut orphans, mut newest, mut from) = (Vec::new(), 0, 0);
    while let Some(key) = next.query_row([from], |row| row.get::<_, i64>(0)).optional()? {
        newest = segment::segment_of(key);
        if !segments.iter().any(|segment| segment.id == newest) {
            orphans.push(newest);
        }
        from = segment::block_keys(newest).1;
    }
    Ok((orphans, newest))
}

//! Peers, consumers and the ends of the inbox: few rows that are loaded at the start and kept in RAM beside the file.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::Connection;

use super::archive;
use super::lot::{Delivery, MOST};
use super::rows::{Cursor, Table, checksum, int, uint};
use super::schema::{self, Meta};
use crate::peer::{Counts, PeerId, Saved};
use crate::store::Error;

/// A peer's row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Peer {
    pub(super) name: Arc<str>,
    pub(super) saved: Saved,
}

impl Peer {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.into(), saved: Saved { next_seq: 1, ..Saved::default() } }
    }

    pub(super) fn save(&self, conn: &Connection, id: PeerId) -> Result<(), Error> {
        let [paused, next_seq, queued, acked, refused, dead, received, rejected, dead_letters] = self.numbers();
        conn.prepare_cached(
            // A name never changes: what is not replaced leaves the index of names as it is, and its page out of the log.
            "INSERT INTO peer
             (id, name, paused, next_seq, queued, acked, refused, dead, received, rejected, checksum, dead_letters)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
             ON CONFLICT (id) DO UPDATE SET paused = ?3, next_seq = ?4, queued = ?5, acked = ?6, refused = ?7,
             dead = ?8, received = ?9, rejected = ?10, checksum = ?11, dead_letters = ?12",
        )?
        .execute((
            id.0,
            &*self.name,
            paused,
            next_seq,
            queued,
            acked,
            refused,
            dead,
            received,
            rejected,
            self.checksum(id),
            dead_letters,
        ))?;
        Ok(())
    }

    fn load_all(conn: &Connection) -> Result<BTreeMap<PeerId, Self>, Error> {
        let mut statement = conn.prepare(
            "SELECT id, name, paused, next_seq, queued, acked, refused, dead, received, rejected, dead_letters, checksum
             FROM peer",
        )?;
        let mut rows = statement.query([])?;
        let mut peers = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let id = PeerId(row.get(0)?);
            let mut numbers = [0; 9];
            for (place, number) in (2..).zip(&mut numbers) {
                *number = row.get(place)?;
            }
            let peer = Self { name: row.get(1)?, saved: saved(numbers) };
            if row.get::<_, i64>(11)? != peer.checksum(id) {
                return Err(damaged("peer", &id.0.to_string()));
            }
            peers.insert(id, peer);
        }
        Ok(peers)
    }

    fn numbers(&self) -> [i64; 9] {
        let Saved { next_seq, paused, counts } = &self.saved;
        let Counts { queued, acked, refused, dead, received, rejected, dead_letters } = *counts;
        [u64::from(*paused), *next_seq, queued, acked, refused, dead, received, rejected, dead_letters].map(int)
    }

    fn checksum(&self, id: PeerId) -> i64 {
        let numbers = self.numbers().map(i64::to_le_bytes);
        i64::from(checksum(Table::Peer, i64::from(id.0), &[numbers.as_flattened(), self.name.as_bytes()]))
    }
}

pub(super) fn saved(numbers: [i64; 9]) -> Saved {
    let [paused, next_seq, queued, acked, refused, dead, received, rejected, dead_letters] = numbers.map(uint);
    let counts = Counts { queued, acked, refused, dead, received, rejected, dead_letters };
    Saved { next_seq, paused: paused != 0, counts }
}

/// A consumer's row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Position {
    /// Everything up to here is done with.
    pub(super) confirmed: u64,
    /// Nothing behind this was ever handed out.
    pub(super) handed: u64,
}

impl Position {
    pub(super) fn save(self, conn: &Connection, name: &str) -> Result<(), Error> {
        let (confirmed, handed) = (int(self.confirmed), int(self.handed));
        conn.prepare_cached(
            "INSERT INTO consumer (name, confirmed, handed, checksum) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (name) DO UPDATE SET confirmed = ?2, handed = ?3, checksum = ?4",
        )?
        .execute((name, confirmed, handed, self.checksum(name)))?;
        Ok(())
    }

    pub(super) fn remove(conn: &Connection, name: &str) -> Result<(), Error> {
        conn.prepare_cached("DELETE FROM consumer WHERE name = ?1")?.execute([name])?;
        Ok(())
    }

    pub(super) fn load_all(conn: &Connection) -> Result<BTreeMap<String, Self>, Error> {
        let mut statement = conn.prepare("SELECT name, confirmed, handed, checksum FROM consumer")?;
        let mut rows = statement.query([])?;
        let mut consumers = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            let position = Self { confirmed: uint(row.get(1)?), handed: uint(row.get(2)?) };
            if row.get::<_, i64>(3)? != position.checksum(&name) {
                return Err(damaged("consumer", &name));
            }
            consumers.insert(name, position);
        }
        Ok(consumers)
    }

    fn checksum(self, name: &str) -> i64 {
        let numbers = [self.confirmed, self.handed].map(u64::to_le_bytes);
        i64::from(checksum(Table::Consumer, 0, &[numbers.as_flattened(), name.as_bytes()]))
    }
}

/// Definitions of peers that were added at run time.
pub(super) mod added {
    use super::*;

    pub(in super::super) fn save(conn: &Connection, name: &str, definition: &str) -> Result<(), Error> {
        conn.prepare_cached("INSERT INTO added_peer (name, definition, checksum) VALUES (?1, ?2, ?3)")?.execute((
            name,
            definition,
            sum(name, definition),
        ))?;
        Ok(())
    }

    pub(in super::super) fn remove(conn: &Connection, name: &str) -> Result<(), Error> {
        conn.prepare_cached("DELETE FROM added_peer WHERE name = ?1")?.execute([name])?;
        Ok(())
    }

    pub(in super::super) fn load_all(conn: &Connection) -> Result<BTreeMap<String, String>, Error> {
        let mut statement = conn.prepare("SELECT name, definition, checksum FROM added_peer")?;
        let mut rows = statement.query([])?;
        let mut peers = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let (name, definition): (String, String) = (row.get(0)?, row.get(1)?);
            if row.get::<_, i64>(2)? != sum(&name, &definition) {
                return Err(damaged("added_peer", &name));
            }
            peers.insert(name, definition);
        }
        Ok(peers)
    }

    fn sum(name: &str, definition: &str) -> i64 {
        let len = (name.len() as u64).to_le_bytes();
        i64::from(checksum(Table::AddedPeer, 0, &[&len, name.as_bytes(), definition.as_bytes()]))
    }
}

/// The ends of the inbox. Between them its rows have no gaps; at or before `purged` only damaged rows are left.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Ends {
    /// Everything up to here has been purged.
    pub(super) purged: u64,
    /// The newest row's `seq`; rises for ever, even when all rows are gone.
    pub(super) tail: u64,
}

impl Ends {
    /// Written with a purge only: otherwise the rows themselves say where the inbox ends.
    pub(super) fn save(self, conn: &Connection) -> Result<(), Error> {
        let numbers = [self.purged, self.tail].map(u64::to_le_bytes);
        schema::save_meta(conn, Meta::Inbox, numbers.as_flattened())
    }

    /// Consumers have been as far as `reached`. With the keys of rows that are not where they should be.
    fn load(conn: &Connection, reached: u64) -> Result<(Self, Vec<u64>), Error> {
        let value = schema::load_meta(conn, Meta::Inbox)?.unwrap_or_else(|| vec![0; 16]);
        let mut value = Cursor(&value);
        let (purged, tail) = value.u64().zip(value.u64()).ok_or_else(|| damaged("meta", "inbox"))?;
        let (tail, astray) = newest(conn, tail.max(purged).max(reached))?;
        Ok((Self { purged, tail }, astray))
    }
}

/// The newest row, or `least`; and those that cannot be where they say, as there are no gaps between rows and each holds no more
/// than so many SETs. Believed, such a key would be the end of an inbox that is full for ever.
fn newest(conn: &Connection, least: u64) -> Result<(u64, Vec<u64>), Error> {
    let mut statement = conn.prepare("SELECT seq, row FROM inbox ORDER BY seq DESC")?;
    let mut rows = statement.query([])?;
    let (mut above, mut astray) = (None::<i64>, Vec::new());
    loop {
        let delivery = match rows.next()? {
            Some(row) => Some(Delivery::of(row)?),
            None => None,
        };
        let below = delivery.as_ref().map_or(0, Delivery::last).max(int(least));
        match above {
            // Damaged downwards, it may be below the one before it.
            Some(above) if above.saturating_sub(below) <= MOST => return Ok((uint(above.max(below)), astray)),
            Some(above) => astray.push(uint(above)),
            None => {}
        }
        match delivery {
            Some(delivery) if !delivery.is_whole() => above = Some(delivery.last()),
            _ => return Ok((uint(below), astray)),
        }
    }
}

/// What the writer knows by heart. It is the only one to change these rows.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) peers: BTreeMap<PeerId, Peer>,
    pub(super) ends: Ends,
    /// Where the archive ends; none if nothing is added to it.
    pub(super) archive: Option<archive::End>,
    /// Keys of rows of the inbox that are damaged themselves.
    pub(super) astray: Vec<u64>,
}

impl Kept {
    pub(super) fn load(
        conn: &Connection,
        consumers: &BTreeMap<String, Position>,
        archives: bool,
    ) -> Result<Self, Error> {
        let archive = archive::begin(conn, archives)?;
        let reached = consumers.values().map(|position| position.confirmed.max(position.handed)).max();
        let (ends, astray) = Ends::load(conn, reached.unwrap_or(0))?;
        Ok(Self { peers: Peer::load_all(conn)?, ends, archive, astray })
    }
}

pub(super) fn damaged(table: &str, row: &str) -> Error {
    Error::Fatal(format!("the row {row:?} of table {table} is damaged: restore a backup"))
}

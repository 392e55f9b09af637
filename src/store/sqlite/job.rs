//! What jobs are, by peer and name: few, and read when one is gone on with.

use rusqlite::{Connection, OptionalExtension as _};

use super::kept::damaged;
use super::rows::{Table, checksum, int};
use crate::clock::Wall;
use crate::peer::PeerId;
use crate::store::Error;

/// What is kept of a job.
pub(super) fn find(conn: &Connection, peer: PeerId, name: &str) -> Result<Option<String>, Error> {
    let found: Option<(String, i64, i64)> = conn
        .prepare_cached("SELECT definition, at, checksum FROM job WHERE peer = ?1 AND name = ?2")?
        .query_row((peer.0, name), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    match found {
        Some((definition, at, sum)) if sum == checksum_of(peer, name, &definition, at) => Ok(Some(definition)),
        // Another definition would do again what was done.
        Some(_) => Err(damaged("job", name)),
        None => Ok(None),
    }
}

/// Keeps a job unless there is one of this name.
pub(super) fn begin(conn: &Connection, peer: PeerId, name: &str, definition: &str, at: Wall) -> Result<String, Error> {
    if let Some(kept) = find(conn, peer, name)? {
        return Ok(kept);
    }
    conn.prepare_cached("INSERT INTO job (peer, name, definition, at, checksum) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute((peer.0, name, definition, int(at.0), checksum_of(peer, name, definition, int(at.0))))?;
    Ok(definition.to_owned())
}

/// Forgets those that were begun before.
pub(super) fn forget(conn: &Connection, before: Wall) -> Result<(), Error> {
    conn.prepare_cached("DELETE FROM job WHERE at < ?1")?.execute([int(before.0)])?;
    Ok(())
}

fn checksum_of(peer: PeerId, name: &str, definition: &str, at: i64) -> i64 {
    let numbers = [i64::from(peer.0), name.len() as i64, at].map(i64::to_le_bytes);
    i64::from(checksum(Table::Job, 0, &[numbers.as_flattened(), name.as_bytes(), definition.as_bytes()]))
}

//! From the files of older versions to this one: in one transaction, so that a crash leaves the old file or the new one.

use rusqlite::Connection;

use super::kept::{Peer, damaged, saved};
use super::rows::{SEQ_MAX, Table, checksum, outbox_key};
use super::schema::{ARCHIVE, BODY, OUTBOX_GONE, VERSION};
use crate::peer::PeerId;
use crate::store::Error;

/// Brings a file of this older version up to date, all or nothing.
pub(super) fn run(conn: &Connection, from: i64) -> Result<(), Error> {
    let transaction = conn.unchecked_transaction()?;
    if from < 2 {
        count_dead_letters(&transaction)?;
    }
    if from < 3 {
        // Several SETs may lie in a row of the outbox or the inbox, and what is gone of one stands in a table of its own. Rows
        // of one SET are what they were, and stay where they are.
        transaction.execute_batch(OUTBOX_GONE)?;
    }
    if from < 4 {
        // Rows of the outbox are kept when they have left it.
        transaction.execute_batch(ARCHIVE)?;
    }
    if from < 5 {
        // Large bundles lie beside their rows. Those that lie in them stay there.
        transaction.execute_batch(BODY)?;
    }
    // Version 6: jtis are hashed otherwise in new files. This one goes on with its own hashes, which its salt tells.
    // Version 7: tokens lie in rows as octets. Those that lie there as text stay so.
    transaction.execute("UPDATE schema SET version = ?1", [VERSION])?;
    transaction.commit()?;
    tracing::info!(from, to = VERSION, "the database was brought up to the version of this program");
    Ok(())
}

/// Version 2: a peer's row says how many dead letters there are, since operators can deal with them. Rows and memories
/// with a story are new too; those of version 1 have none, and are read as they are.
fn count_dead_letters(conn: &Connection) -> Result<(), Error> {
    conn.execute_batch("ALTER TABLE peer ADD COLUMN dead_letters INTEGER NOT NULL DEFAULT 0")?;
    let mut statement = conn.prepare(
        "SELECT id, name, paused, next_seq, queued, acked, refused, dead, received, rejected, checksum FROM peer",
    )?;
    let mut rows = statement.query([])?;
    let mut peers = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, name): (u32, String) = (row.get(0)?, row.get(1)?);
        let mut numbers = [0; 9];
        for (place, number) in (2..10).zip(&mut numbers) {
            *number = row.get(place)?;
        }
        let [before @ .., _] = numbers.map(i64::to_le_bytes);
        let sum = checksum(Table::Peer, i64::from(id), &[before.as_flattened(), name.as_bytes()]);
        if row.get::<_, i64>(10)? != i64::from(sum) {
            return Err(damaged("peer", &id.to_string()));
        }
        peers.push((PeerId(id), name, numbers));
    }
    for (id, name, mut numbers) in peers {
        numbers[8] = conn.query_row(
            "SELECT count(*) FROM dead_letter WHERE key > ?1 AND key <= ?2",
            [outbox_key(id, 0), outbox_key(id, SEQ_MAX)],
            |row| row.get(0),
        )?;
        Peer { name: name.into(), saved: saved(numbers) }.save(conn, id)?;
    }
    Ok(())
}

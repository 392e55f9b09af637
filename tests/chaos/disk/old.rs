//! A database as version 1 wrote it, made of a present one: what a daemon meets that is started after an upgrade.

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use super::bench::copy;

/// The table's number in the checksums of rows.
const PEER: u8 = 4;

/// Copies the database into this folder, and takes what later versions have added from it.
pub(crate) fn make(database: &Path, folder: &Path) {
    fs::create_dir_all(folder).expect("a folder can be made");
    copy(database, folder);
    let conn = Connection::open(folder.join("pushpull.db")).expect("it is a database");
    let mut peers = conn
        .prepare("SELECT id, paused, next_seq, queued, acked, refused, dead, received, rejected, name FROM peer")
        .expect("the tables are there");
    let rows = peers.query_map([], |row| {
        let id: i64 = row.get(0)?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&[PEER]);
        hasher.update(&id.to_le_bytes());
        for column in 1..9 {
            hasher.update(&row.get::<_, i64>(column)?.to_le_bytes());
        }
        hasher.update(row.get::<_, String>(9)?.as_bytes());
        Ok((id, hasher.finalize()))
    });
    let sums: Vec<(i64, u32)> = rows.and_then(Iterator::collect).expect("the rows can be read");
    drop(peers);
    for sum in sums {
        conn.execute("UPDATE peer SET checksum = ?2 WHERE id = ?1", sum).expect("the row can be written");
    }
    conn.execute_batch(
        "ALTER TABLE peer DROP COLUMN dead_letters; DROP TABLE outbox_gone; DROP TABLE body; DROP TABLE archive;
         DROP TABLE job; DELETE FROM meta WHERE key = 5; UPDATE schema SET version = 1;
         PRAGMA wal_checkpoint(TRUNCATE);",
    )
    .expect("it is an old one now");
}

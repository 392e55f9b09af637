//! Large bundles of the outbox lie beside their rows, which are empty then: from the queue into the archive a bundle does not
//! move, and is written once. Whoever has the row has the body, and there is one of a key at most. Where a row of the archive is
//! damaged its body stays, since nobody knows any more which it is.

use rusqlite::{Connection, OptionalExtension as _};

use crate::store::Error;

/// Bundles of so many bytes and more. A smaller one is copied for less than a second row costs.
pub(super) const LEAST: usize = 4 << 10;

/// The row of a bundle in the outbox, of which this is the blob: empty if it was put beside. One in the archive may have the
/// same key, if a SET was queued again of which nothing was known any more; then it lies in its row.
pub(super) fn put(conn: &Connection, key: i64, row: Vec<u8>) -> Result<Vec<u8>, Error> {
    if row.len() < LEAST {
        return Ok(row);
    }
    let put = conn.prepare_cached("INSERT OR IGNORE INTO body (key, row) VALUES (?1, ?2)")?.execute((key, &row))?;
    Ok(if put > 0 { Vec::new() } else { row })
}

/// The blob of a row of the outbox, wherever it lies. Empty if it is damaged beyond that.
pub(super) fn of_outbox(conn: &Connection, key: i64) -> Result<Vec<u8>, Error> {
    let mut statement = conn.prepare_cached(
        "SELECT CASE length(row) WHEN 0 THEN (SELECT body.row FROM body WHERE body.key = outbox.key) ELSE row END
         FROM outbox WHERE key = ?1",
    )?;
    let row =
        statement.query_row([key], |row| Ok(row.get_ref(0)?.as_blob().unwrap_or_default().to_vec())).optional()?;
    Ok(row.unwrap_or_default())
}

/// Takes away what lies beside this row of the outbox, which is going to be removed.
pub(super) fn drop_of_outbox(conn: &Connection, key: i64) -> Result<(), Error> {
    conn.prepare_cached(
        "DELETE FROM body WHERE key = ?1 AND EXISTS (SELECT 1 FROM outbox WHERE outbox.key = ?1 AND length(row) = 0)",
    )?
    .execute([key])?;
    Ok(())
}

/// Takes away what lies beside this row of the archive, which has this key and is going to be removed. A row of the outbox
/// that says the same of itself is believed more.
pub(super) fn drop_of_archive(conn: &Connection, id: i64, key: i64) -> Result<(), Error> {
    conn.prepare_cached(
        "DELETE FROM body WHERE key = ?2 AND EXISTS (SELECT 1 FROM archive WHERE id = ?1 AND length(row) = 0)
         AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.key = ?2 AND length(row) = 0)",
    )?
    .execute((id, key))?;
    Ok(())
}

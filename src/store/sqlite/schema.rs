//! The tables, and whose file this is: made when new, refused when it is foreign or from the future.

use rusqlite::{Connection, ErrorCode, OptionalExtension};

use super::rows::{Table, seal, unseal};
use crate::store::Error;

/// What this program writes, and reads. Older files are brought up to it when they are opened (`migrate.rs`).
pub(super) const VERSION: i64 = 7;
/// "PuPu": lets `file` and us tell our databases from others.
pub(super) const APPLICATION_ID: i64 = 0x5075_5075;

/// On the hot path the only B-tree keys are integers that rise.
const TABLES: &str = "
    CREATE TABLE schema (version INTEGER NOT NULL) STRICT;
    CREATE TABLE meta (key INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT;
    CREATE TABLE peer (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, paused INTEGER NOT NULL, next_seq INTEGER NOT NULL,
        queued INTEGER NOT NULL, acked INTEGER NOT NULL, refused INTEGER NOT NULL, dead INTEGER NOT NULL,
        received INTEGER NOT NULL, rejected INTEGER NOT NULL, checksum INTEGER NOT NULL,
        dead_letters INTEGER NOT NULL DEFAULT 0) STRICT;
    CREATE TABLE added_peer (name TEXT PRIMARY KEY, definition TEXT NOT NULL, checksum INTEGER NOT NULL) STRICT;
    CREATE TABLE outbox (key INTEGER PRIMARY KEY, attempts INTEGER NOT NULL, row BLOB NOT NULL) STRICT;
    CREATE TABLE dead_letter (
        key INTEGER PRIMARY KEY, attempts INTEGER NOT NULL, row BLOB NOT NULL, outcome BLOB NOT NULL) STRICT;
    CREATE TABLE inbox (seq INTEGER PRIMARY KEY, row BLOB NOT NULL) STRICT;
    CREATE TABLE consumer (
        name TEXT PRIMARY KEY, confirmed INTEGER NOT NULL, handed INTEGER NOT NULL, checksum INTEGER NOT NULL) STRICT;
    CREATE TABLE memory_log (id INTEGER PRIMARY KEY, entries BLOB NOT NULL) STRICT;
    CREATE TABLE segment_block (key INTEGER PRIMARY KEY, entries BLOB NOT NULL) STRICT;
    CREATE TABLE segment (
        id INTEGER PRIMARY KEY, log_upto INTEGER NOT NULL, count INTEGER NOT NULL, newest INTEGER NOT NULL,
        firsts BLOB NOT NULL, filter BLOB NOT NULL, checksum INTEGER NOT NULL) STRICT;
";

/// Of which SETs in a row of several the row is not theirs any more.
pub(super) const OUTBOX_GONE: &str = "CREATE TABLE outbox_gone (key INTEGER PRIMARY KEY, gone BLOB NOT NULL) STRICT;";

/// Large bundles of the outbox, whose own rows are empty: they stay where they are when they come into the archive.
pub(super) const BODY: &str = "CREATE TABLE body (key INTEGER PRIMARY KEY, row BLOB NOT NULL) STRICT;";

/// Rows of the outbox of which all SETs have left, in the order in which the last of each did; and what is done with them.
pub(super) const ARCHIVE: &str = "
    CREATE TABLE archive (
        id INTEGER PRIMARY KEY, at INTEGER NOT NULL, total INTEGER NOT NULL, checksum INTEGER NOT NULL,
        key INTEGER NOT NULL, attempts INTEGER NOT NULL, row BLOB NOT NULL) STRICT;
    CREATE TABLE job (
        peer INTEGER NOT NULL, name TEXT NOT NULL, definition TEXT NOT NULL, at INTEGER NOT NULL, checksum INTEGER NOT NULL,
        PRIMARY KEY (peer, name)) STRICT;";

/// Single values that the store keeps.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meta {
    /// Random bytes that key the hashes of jtis: sixteen, or thirty-two in files made by schema 5 and before.
    Salt = 1,
    /// Where the inbox ends and what was purged of it, as of the last purge.
    Inbox = 2,
    /// Nothing: it is written to see that the store still writes.
    Probe = 3,
    /// When the clock was last believed.
    Time = 4,
    /// When the last SET left that the archive does not have (any more).
    Archive = 5,
}

/// What a file is to us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// Nothing is in it.
    New,
    /// Our tables are in it.
    Ours,
    /// Our tables are in it, as an older version made them.
    Older(i64),
}

/// Looks whose file this is, changing nothing.
pub(super) fn check(conn: &Connection) -> Result<State, Error> {
    let application: i64 = match conn.pragma_query_value(None, "application_id", |row| row.get(0)) {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            return Err(Error::Invalid(
                "this is not a SQLite database, or its beginning is damaged: name another file, or restore a backup"
                    .to_owned(),
            ));
        }
        other => other?,
    };
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (application, tables) {
        (0, 0) => return Ok(State::New),
        (APPLICATION_ID, _) => {}
        _ => {
            return Err(Error::Invalid("this is the SQLite database of another program: name another file".to_owned()));
        }
    }
    let version: Option<i64> = conn.query_row("SELECT version FROM schema", [], |row| row.get(0)).optional()?;
    let Some(version) = version else {
        return Err(Error::Fatal(
            "the row of table schema is missing: the file is damaged: restore a backup".to_owned(),
        ));
    };
    match version {
        VERSION => return Ok(State::Ours),
        1..VERSION => return Ok(State::Older(version)),
        _ => {}
    }
    Err(Error::Invalid(format!(
        "its schema has version {version}, this program knows version {VERSION}: run the program that wrote it, or a \
         newer one"
    )))
}

/// Makes the tables, all or none.
pub(super) fn create(conn: &Connection) -> Result<(), Error> {
    let mut salt = [0; 16];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| Error::Fatal("the system gives no random numbers".to_owned()))?;
    let transaction = conn.unchecked_transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute_batch(OUTBOX_GONE)?;
    transaction.execute_batch(ARCHIVE)?;
    transaction.execute_batch(BODY)?;
    transaction.execute("INSERT INTO schema (version) VALUES (?1)", [VERSION])?;
    save_meta(&transaction, Meta::Salt, &salt)?;
    super::archive::create(&transaction)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.commit()?;
    Ok(())
}

/// Stores a single value.
pub(super) fn save_meta(conn: &Connection, meta: Meta, value: &[u8]) -> Result<(), Error> {
    let key = meta as i64;
    conn.prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)")?
        .execute((key, seal(Table::Meta, key, value.to_vec())))?;
    Ok(())
}

/// A single value, if it was ever stored.
pub(super) fn load_meta(conn: &Connection, meta: Meta) -> Result<Option<Vec<u8>>, Error> {
    let key = meta as i64;
    let blob: Option<Vec<u8>> =
        conn.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()?;
    let Some(blob) = blob else { return Ok(None) };
    match unseal(Table::Meta, key, &blob) {
        Some(value) => Ok(Some(value.to_vec())),
        None => Err(Error::Fatal(format!("the value {meta:?} is damaged: restore a backup"))),
    }
}

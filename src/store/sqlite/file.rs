//! The files: made for nobody else's eyes, locked against a second process, opened with every promise read back.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::time::Instant;

use super::shrink;
use crate::codes::Code;
use crate::private::{self, Exposed};
use crate::store::Error;

/// Of new files; an older one keeps its own. What a commit changes beside the SETs themselves is a dozen pages, each of which
/// goes into the log as a whole and is checksummed there: at twice this size a commit costs a fifth more. Smaller ones gain
/// nothing, since several SETs lie in one row.
pub(super) const PAGE_SIZE: i64 = 8 * 1024;
/// Of the writer's page cache, in kibibytes, as the minus says; readers do with SQLite's default of two mebibytes.
const CACHE_SIZE: i64 = -16 * 1024;
/// `PRAGMA synchronous`: the log is synced at every commit.
const SYNCHRONOUS_FULL: i64 = 2;
/// Nobody keeps a lock for long, as there is one writer and one process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// A log that is longer when the store is opened is moved into the database first. As much gathers while nobody is in a hurry.
const LOG_LONG: u64 = 16 << 20;
/// How long the start may take looking for damage in all of the file, which is enough for some hundred MiB; and then in the most
/// important of it.
const LOOK_THROUGH: Duration = Duration::from_secs(1);

/// What a connection is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Use {
    Write,
    Read,
}

/// The databases that this process has open, by their real paths. The system keeps the locks of SQLite for the process as a whole,
/// so what has to be known of them is known here for the process as a whole.
static OPEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Keeps other processes from a database until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    /// Holds the lock.
    _file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        OPEN.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.path);
    }
}

/// Whether there is something at this path that is no database. To be asked instead of reading the file.
///
/// One that this process has open is one, and must not be opened beside SQLite: to close it again, however little was read, would take
/// from every connection of this process its locks on it (POSIX). The next `sqlite3` that somebody runs on the file, for a backup or to look
/// at it, would then believe to be the last one to use it and remove the log from under us, with all that is written from then on.
pub fn is_foreign(path: &Path) -> bool {
    const SQLITE: &[u8] = b"SQLite format 3\0";
    // A pipe would have us wait for somebody who writes.
    if path.exists() && !path.is_file() {
        return true;
    }
    let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if path.canonicalize().is_ok_and(|path| open.contains(&path)) {
        return false;
    }
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(SQLITE.len() as u64).read_to_end(&mut start));
    read.is_ok() && !start.is_empty() && start != SQLITE
}

/// Makes the file unless it is there, and the lock beside it ours. Returns the file's real path and the lock, which
/// holds until it is dropped.
pub(super) fn claim(path: &Path) -> Result<(PathBuf, Lock), Error> {
    let failed = |doing: &str, error: &std::io::Error| {
        Error::Fatal(format!("cannot {doing} the database {}: {error}", path.display()))
    };
    let made = open_private(path, true);
    if let Err(error) = &made
        && error.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(failed("make", error));
    }
    // Two names for one file must meet at one lock.
    let path = path.canonicalize().map_err(|error| failed("find", &error))?;
    if let Some(exposed) = exposed(&path).into_iter().next() {
        return Err(Error::Invalid(exposed.to_string()));
    }
    if made.is_ok() {
        sync_folder(&path).map_err(|error| failed("make", &error))?;
    }
    let mut lock_path = path.clone().into_os_string();
    lock_path.push(".lock");
    let lock_path = PathBuf::from(lock_path);
    let lock = open_private(&lock_path, false)
        .map_err(|error| Error::Fatal(format!("cannot open the lock {}: {error}", lock_path.display())))?;
    match lock.try_lock() {
        Ok(()) => {
            OPEN.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
            Ok((path.clone(), Lock { path, _file: lock }))
        }
        Err(TryLockError::WouldBlock) => Err(Error::Invalid(format!(
            "the database {} is in use by another process (it holds {}): stop that process, or give this one a \
             database of its own",
            path.display(),
            lock_path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(Error::Fatal(format!("cannot lock {}: {error}", lock_path.display()))),
    }
}

/// Which of a database's files others can get at. Those that are not there yet are made for their owner alone.
pub fn exposed(path: &Path) -> Vec<Exposed> {
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    ["", "-wal", "-shm", "-journal", ".lock"].into_iter().filter_map(|suffix| private::check(&beside(suffix))).collect()
}

/// Opens a connection to a claimed file, not looking into it yet.
pub(super) fn connect(path: &Path, purpose: Use) -> Result<Connection, Error> {
    let access = match purpose {
        Use::Write => OpenFlags::SQLITE_OPEN_READ_WRITE,
        Use::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
    };
    let conn = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(64);
    Ok(conn)
}

/// Sets what durability rests on, and believes it only when SQLite says so itself. To be called when the file is known
/// to be ours ([`super::schema::check`]).
pub(super) fn harden(conn: &Connection) -> Result<(), Error> {
    conn.pragma_update(None, "page_size", PAGE_SIZE)?;
    shrink::enable(conn)?;
    conn.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    // On Apple's systems alone: there an fsync does not reach the disk by itself.
    conn.pragma_update(None, "fullfsync", true)?;
    conn.pragma_update(None, "checkpoint_fullfsync", true)?;
    // The writer checkpoints by itself, behind the answers.
    conn.query_row("PRAGMA wal_autocheckpoint = 0", [], |_| Ok(()))?;
    conn.pragma_update(None, "cache_size", CACHE_SIZE)?;
    read_back(conn)
}

fn read_back(conn: &Connection) -> Result<(), Error> {
    let journal: String = conn.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    let mut wrong = Vec::new();
    if journal != "wal" {
        wrong.push(format!("journal_mode is {journal}, not wal"));
    }
    for (pragma, wanted) in [("synchronous", SYNCHRONOUS_FULL), ("wal_autocheckpoint", 0), ("fullfsync", 1)] {
        let found: i64 = conn.pragma_query_value(None, pragma, |row| row.get(0))?;
        if found != wanted {
            wrong.push(format!("{pragma} is {found}, not {wanted}"));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Error::Fatal(format!(
        "SQLite does not give the durability that was asked for ({}): put the database on a local disk",
        wrong.join(", ")
    )))
}

/// What is looked through first in a file that is too large to be looked through as a whole: the queue, what is known of it, and
/// what was received. The bodies of SETs and what has left the queue may be the most of it.
const FIRST: [&str; 9] =
    ["peer", "consumer", "meta", "outbox_gone", "memory_log", "outbox", "inbox", "dead_letter", "segment"];

/// Looks for damage to the structure of the file, as rows can only tell of themselves: one that a damaged page has lost
/// says nothing. Bounded in time, so that a large file may not be looked through to its end.
pub(super) fn look_through(conn: &Connection) -> Result<(), Error> {
    look_through_within(conn, LOOK_THROUGH, LOOK_THROUGH)
}

/// As a whole within the one time; where that is too short, the most important tables within the other.
pub(super) fn look_through_within(conn: &Connection, whole: Duration, first: Duration) -> Result<(), Error> {
    let all = || conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
    if within(conn, whole, all)? {
        return Ok(());
    }
    let some = || {
        // An interruption that comes between two of them is heard by none.
        let end = Instant::now() + first;
        for table in FIRST {
            if Instant::now() >= end {
                let interrupted = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_INTERRUPT);
                return Err(rusqlite::Error::SqliteFailure(interrupted, None));
            }
            // Older files do not have all of them.
            let is_there = "SELECT count(*) > 0 FROM sqlite_schema WHERE name = ?1";
            if conn.query_row(is_there, [table], |row| row.get(0))? {
                let found: String = conn.query_row(&format!("PRAGMA quick_check({table})"), [], |row| row.get(0))?;
                if found != FINE {
                    return Ok(found);
                }
            }
        }
        Ok(FINE.to_owned())
    };
    let queue_looked_through = within(conn, first, some)?;
    tracing::info!(
        seconds = (whole + first).as_secs(),
        queue_looked_through,
        "the database is too large to be looked through for damage at the start; its rows are checked when they are read"
    );
    Ok(())
}

/// What SQLite says where there is no damage.
const FINE: &str = "ok";

/// Looks for damage; false if the time was too short.
fn within(conn: &Connection, time: Duration, look: impl FnOnce() -> rusqlite::Result<String>) -> Result<bool, Error> {
    if time.is_zero() {
        return Ok(false);
    }
    let interrupt = conn.get_interrupt_handle();
    let (done, watched) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::Builder::new().name("pushpull-look".to_owned()).spawn(move || {
        if watched.recv_timeout(time) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            interrupt.interrupt();
        }
    });
    let watch = watch.map_err(|error| Error::Fatal(format!("cannot start a thread: {error}")))?;
    let found = look();
    drop(done);
    // It has nothing to panic about.
    let _ = watch.join();
    match found {
        Ok(found) if found == FINE => Ok(true),
        Ok(found) => Err(Error::Fatal(format!(
            "the database is damaged ({}): restore a backup; if this is one, remove the -wal and the -shm that belong to the file that it \
             replaces, and copy it again",
            found.lines().last().unwrap_or_default().trim()
        ))),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Moves a long log into the database and cuts it, before anybody waits for a commit: a process that was killed at its busiest
/// leaves one, which later starts would read through again. Where that is not possible it stays as it is, and is right.
pub(super) fn shorten_log(conn: &Connection, path: &Path) -> Result<(), Error> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    if std::fs::metadata(&log).map_or(0, |found| found.len()) <= LOG_LONG {
        return Ok(());
    }
    let database = path.display();
    let busy = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
    match busy.map_err(Error::from) {
        Ok(false) => tracing::info!(%database, "a long log was moved into the database"),
        Ok(true) => tracing::info!(%database, "a long log stays for now: something reads the database"),
        Err(Error::Full) => {
            tracing::warn!(code = %Code::StorageFull, %database, "a long log stays for now: the disk is full");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Opens a file for reading and writing that only its owner may touch, whatever the umask.
/// SQLite gives its log and its shared memory the permissions of the database.
pub(super) fn open_private(path: &Path, new: bool) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    if new {
        options.create_new(true);
    } else {
        options.create(true).truncate(false);
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        let file = options.mode(0o600).open(path)?;
        if file.metadata()?.len() == 0 {
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        }
        Ok(file)
    }
    #[cfg(not(unix))]
    options.open(path)
}

/// Makes the new file's name durable.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(folder) if cfg!(unix) => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pragma_that_does_not_stick_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _lock) = claim(&folder.path().join("pragma.db")).unwrap();
        let conn = connect(&path, Use::Write).unwrap();
        harden(&conn).unwrap();
        conn.pragma_update(None, "synchronous", "NORMAL").unwrap();
        let error = read_back(&conn).unwrap_err().to_string();
        assert!(error.contains("synchronous is 1, not 2"), "{error}");
        let memory = Connection::open_in_memory().unwrap();
        let error = harden(&memory).unwrap_err().to_string();
        assert!(error.contains("journal_mode is memory, not wal"), "{error}");
    }

    #[test]
    fn a_file_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = claim(&folder.path().join("no/such/folder.db")).unwrap_err().to_string();
        assert!(error.contains("no/such/folder.db"), "{error}");
    }
}

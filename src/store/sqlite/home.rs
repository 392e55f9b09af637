//! Whether the files that are open are still those that the next process will find.

use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

/// Where the database and its log are to be found.
pub(super) struct Home {
    database: PathBuf,
    log: PathBuf,
    /// What tells the files that are open from others of their names; that of the log once it was seen.
    identity: Option<Identity>,
    log_identity: Option<Identity>,
}

/// Device and number.
type Identity = (u64, u64);

/// What is not where it should be.
pub(super) struct Gone {
    pub(super) why: String,
    /// The database is there, and nobody has made another log: what is in ours can be moved into it.
    pub(super) can_be_saved: bool,
}

impl Home {
    /// Of the database that is open as `file`.
    pub(super) fn of(database: &Path, file: &File) -> Self {
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        let identity = file.metadata().ok().and_then(|metadata| identity(&metadata));
        Self { database: database.to_owned(), log: log.into(), identity, log_identity: None }
    }

    /// What is missing, if something is: what is written from then on goes into a file that nobody opens again. To be asked behind a commit
    /// and before anybody hears of it; a commit leaves a log.
    pub(super) fn gone(&mut self) -> Option<Gone> {
        let (database, log) = (Found::at(&self.database), Found::at(&self.log));
        if let (Found::There(found), None) = (&log, self.log_identity) {
            self.log_identity = *found;
        }
        let is_same = !database.is_other_than(self.identity);
        let (what, path) = match (is_same, log.is_other_than(self.log_identity)) {
            (true, false) => return None,
            (true, true) => ("the log", self.log.display()),
            (false, _) => ("the database", self.database.display()),
        };
        let why = format!(
            "{what} {path} was removed or replaced while it was in use, and nothing more is accepted into what nobody would find again: \
             see what has done that; replace a database only while the daemon is stopped"
        );
        Some(Gone { why, can_be_saved: is_same && matches!(log, Found::Nothing) })
    }
}

impl Home {
    /// Moves all that is in the log which nobody can find into the database, and leaves an empty log in its place: without one the next
    /// start would take it for lost. True if all of it has been moved.
    pub(super) fn save(&self, conn: &Connection) -> bool {
        let moved = conn.query_row("PRAGMA wal_checkpoint(FULL)", [], |row| {
            let (busy, frames, moved) = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?);
            Ok(busy == 0 && frames == moved)
        });
        moved.unwrap_or(false) && super::file::open_private(&self.log, true).is_ok()
    }
}

/// What is at a path.
enum Found {
    There(Option<Identity>),
    Nothing,
    /// Whoever may not look, or cannot just now, has seen nothing wrong.
    Unknown,
}

impl Found {
    fn at(path: &Path) -> Self {
        match std::fs::metadata(path) {
            Ok(metadata) => Self::There(identity(&metadata)),
            Err(error) if error.kind() == ErrorKind::NotFound => Self::Nothing,
            Err(_) => Self::Unknown,
        }
    }

    fn is_other_than(&self, known: Option<Identity>) -> bool {
        match self {
            Self::There(found) => known.is_some() && *found != known,
            Self::Nothing => true,
            Self::Unknown => false,
        }
    }
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Option<Identity> {
    None
}

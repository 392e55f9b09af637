//! Whether the files that are open are still those that the next process will find.

use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};

/// Where the database and its log are to be found.
pub(super) struct Home {
    database: PathBuf,
    log: PathBuf,
    /// What tells the file that is open from another one of its name.
    identity: Option<Identity>,
}

/// Device and number.
type Identity = (u64, u64);

impl Home {
    /// Of the database that is open as `file`.
    pub(super) fn of(database: &Path, file: &File) -> Self {
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        let identity = file.metadata().ok().and_then(|metadata| identity(&metadata));
        Self { database: database.to_owned(), log: log.into(), identity }
    }

    /// What is missing, if something is: what is written from then on goes into a file that nobody opens again. To be asked behind a commit
    /// and before anybody hears of it; a commit leaves a log.
    pub(super) fn lost(&self) -> Option<String> {
        let found = std::fs::metadata(&self.database).ok();
        let is_same = found.as_ref().is_some_and(|found| self.identity.is_none() || identity(found) == self.identity);
        let (what, gone) = match (is_same, self.log.exists()) {
            (true, true) => return None,
            (true, false) => ("the log", self.log.display()),
            (false, _) => ("the database", self.database.display()),
        };
        Some(format!(
            "{what} {gone} was removed or replaced while it was in use, and nothing more is accepted into what nobody would find again: \
             see what has done that; replace a database only while the daemon is stopped"
        ))
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

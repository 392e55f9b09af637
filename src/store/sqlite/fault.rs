//! What an error of SQLite means to the caller: a full disk heals, everything else is the end.

use rusqlite::ffi;

use crate::store::Error;

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error as Sqlite;
        let damaged = |error: Sqlite| Self::Fatal(format!("SQLite: {error}: the file is damaged: restore a backup"));
        // Of a file that was ours when it was opened: these have no code of their own.
        let is_strange = matches!(&error, Sqlite::SqliteFailure(_, Some(why))
            if why.starts_with("no such table") || why.starts_with("unsupported file format"));
        match error.sqlite_error() {
            Some(code) if is_full(code) => Self::Full,
            Some(ffi::Error { code: ffi::ErrorCode::DatabaseCorrupt | ffi::ErrorCode::NotADatabase, .. }) => {
                damaged(error)
            }
            // A page that the file is too short for.
            Some(code) if code.extended_code == ffi::SQLITE_IOERR_SHORT_READ => damaged(error),
            // A column that holds something else than we ever write; or columns that our statements do not find.
            _ if is_strange => damaged(error),
            _ if matches!(
                error,
                Sqlite::FromSqlConversionFailure(..)
                    | Sqlite::IntegralValueOutOfRange(..)
                    | Sqlite::InvalidColumnType(..)
                    | Sqlite::SqlInputError { .. }
                    | Sqlite::Utf8Error(..)
            ) =>
            {
                damaged(error)
            }
            _ => Self::Fatal(format!("SQLite: {error}")),
        }
    }
}

/// SQLite reports ENOSPC as a full disk, but for the small file that processes share it names the failed call.
fn is_full(error: &ffi::Error) -> bool {
    error.code == ffi::ErrorCode::DiskFull || error.extended_code == ffi::SQLITE_IOERR_SHMSIZE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_disk_heals() {
        let meaning = |code| Error::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        assert!(matches!(meaning(ffi::SQLITE_FULL), Error::Full));
        assert!(matches!(meaning(ffi::SQLITE_IOERR_SHMSIZE), Error::Full));
        for code in [ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB, ffi::SQLITE_IOERR_SHORT_READ] {
            assert!(meaning(code).to_string().contains("is damaged: restore a backup"), "{code}");
        }
        let other = rusqlite::Error::InvalidColumnType(1, "name".to_owned(), rusqlite::types::Type::Blob);
        assert!(Error::from(other).to_string().contains("is damaged: restore a backup"));
        let format = Some("unsupported file format".to_owned());
        let other = rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ERROR), format);
        assert!(Error::from(other).to_string().contains("is damaged: restore a backup"));
        let conn = rusqlite::Connection::open_in_memory().unwrap();
        for sql in ["SELECT name FROM peer", "SELECT name"] {
            let other = conn.prepare(sql).unwrap_err();
            assert!(Error::from(other).to_string().contains("is damaged: restore a backup"), "{sql}");
        }
        for code in [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_CORRUPT, ffi::SQLITE_CONSTRAINT] {
            assert!(matches!(meaning(code), Error::Fatal(_)), "{code}");
        }
    }
}

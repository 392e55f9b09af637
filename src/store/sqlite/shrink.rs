//! Gives the file system back what a drained queue has left free in the file, a little at a time: pages from its end take the
//! places of free ones, and the file is cut when the log is moved into it.

use std::time::Duration;

use rusqlite::Connection;
use tokio::time::Instant;

use crate::store::Error;

/// So many bytes stay free in any case, and half as much as is used: what comes next finds room without the file growing anew.
const KEPT_BYTES: i64 = 32 << 20;
/// A step goes on for so long, since commits wait meanwhile.
const STEP: Duration = Duration::from_millis(2);
/// Pages between two looks at the time: to find the right free one among a million takes a millisecond.
const PAGES: i64 = 2;

/// What `PRAGMA auto_vacuum` says of a file whose pages can be moved. Those of older versions are not such.
const INCREMENTAL: i64 = 2;

/// Makes a new file one whose pages can be moved. One in which something is says itself what it is, and to be told again it
/// would write: on a full disk it could not be opened any more, and a damaged one would be changed before it is looked through.
pub(super) fn enable(conn: &Connection) -> Result<(), Error> {
    let pages: i64 = conn.pragma_query_value(None, "page_count", |row| row.get(0))?;
    if pages == 0 {
        conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    Ok(())
}

/// What has been done of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Nothing: there is not much that is free.
    Nothing,
    /// Some, and there is more.
    Some,
    /// The last there was to do. The file itself is cut with the next checkpoint.
    Last,
}

/// Frees some of the end of the file.
pub(super) fn step(conn: &Connection) -> Result<Step, Error> {
    step_down_to(conn, KEPT_BYTES)
}

fn step_down_to(conn: &Connection, kept_bytes: i64) -> Result<Step, Error> {
    let number = |pragma: &str| -> Result<i64, Error> {
        Ok(conn.prepare_cached(&format!("PRAGMA {pragma}"))?.query_row([], |row| row.get(0))?)
    };
    if number("auto_vacuum")? != INCREMENTAL {
        return Ok(Step::Nothing);
    }
    let page_size = number("page_size")?.max(1);
    let is_more = || -> Result<bool, Error> {
        let free = number("freelist_count")?;
        let used = number("page_count")? - free;
        Ok(free > (kept_bytes / page_size).max(used / 2) + PAGES)
    };
    let started = Instant::now();
    let mut done = Step::Nothing;
    while is_more()? {
        if started.elapsed() >= STEP {
            return Ok(Step::Some);
        }
        // Each row of the answer stands for a page.
        let mut statement = conn.prepare_cached(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        done = Step::Last;
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::file::{self, Use};

    fn size(conn: &Connection, pragma: &str) -> i64 {
        conn.pragma_query_value(None, pragma, |row| row.get(0)).unwrap()
    }

    #[test]
    fn the_file_comes_down_to_half_as_much_again_as_is_used_and_keeps_all_that_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _lock) = file::claim(&folder.path().join("shrink.db")).unwrap();
        let conn = file::connect(&path, Use::Write).unwrap();
        file::harden(&conn).unwrap();
        conn.execute_batch("CREATE TABLE piece (id INTEGER PRIMARY KEY, bytes BLOB)").unwrap();
        for id in 1..=400 {
            conn.execute("INSERT INTO piece VALUES (?1, randomblob(60000))", [id]).unwrap();
        }
        // As with a drained queue: the last ones are kept, and lie at the end.
        conn.execute("DELETE FROM piece WHERE id <= 360", []).unwrap();
        let sum = |conn: &Connection| -> i64 {
            let sql = "SELECT sum(id * length(bytes)) + sum(unicode(hex(substr(bytes, 59990)))) FROM piece";
            conn.query_row(sql, [], |row| row.get(0)).unwrap()
        };
        let (before, used) = (sum(&conn), size(&conn, "page_count") - size(&conn, "freelist_count"));
        let mut steps = 0;
        while step_down_to(&conn, 0).unwrap() == Step::Some {
            steps += 1;
        }
        assert_eq!(step_down_to(&conn, 0), Ok(Step::Nothing));
        assert!(steps > 0, "not all at once");
        let pages = size(&conn, "page_count");
        assert!((used..=used * 3 / 2 + 2 * PAGES).contains(&pages), "{pages} pages, {used} of them used");
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        let length = std::fs::metadata(&path).unwrap().len();
        assert_eq!(length, pages.unsigned_abs() * file::PAGE_SIZE.unsigned_abs());
        let check: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!((sum(&conn), check), (before, "ok".to_owned()));
    }

    #[test]
    fn to_open_a_file_again_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _lock) = file::claim(&folder.path().join("again.db")).unwrap();
        let open = || {
            let conn = file::connect(&path, Use::Write).unwrap();
            file::harden(&conn).unwrap();
            conn
        };
        let first = open();
        first.execute_batch("CREATE TABLE piece (bytes BLOB)").unwrap();
        let length = || std::fs::metadata(folder.path().join("again.db-wal")).unwrap().len();
        let before = length();
        let others = [open(), open()];
        assert!(before > 0 && length() == before, "{before}, and then {}", length());
        assert_eq!(others.map(|conn| size(&conn, "auto_vacuum")), [INCREMENTAL; 2]);
    }

    #[test]
    fn what_is_kept_free_and_files_of_older_versions_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let conn = Connection::open(folder.path().join("old.db")).unwrap();
        conn.execute_batch("CREATE TABLE piece (bytes BLOB)").unwrap();
        conn.execute("INSERT INTO piece VALUES (zeroblob(900000))", []).unwrap();
        conn.execute("DELETE FROM piece", []).unwrap();
        let pages = size(&conn, "page_count");
        assert_eq!(
            (step_down_to(&conn, 0), size(&conn, "page_count")),
            (Ok(Step::Nothing), pages),
            "it has no map of its pages"
        );
        conn.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; VACUUM").unwrap();
        conn.execute("INSERT INTO piece VALUES (zeroblob(900000))", []).unwrap();
        conn.execute("DELETE FROM piece", []).unwrap();
        let pages = size(&conn, "page_count");
        assert_eq!((step(&conn), size(&conn, "page_count")), (Ok(Step::Nothing), pages), "some stays free");
        while step_down_to(&conn, 0).unwrap() != Step::Nothing {}
        assert!(size(&conn, "page_count") < pages / 4);
    }
}

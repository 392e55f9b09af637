//! Moving the log into the database: mostly beside the commits, on a thread of its own, so that nobody waits while
//! megabytes are synced. What has come meanwhile is little; it follows between two commits, and the log begins anew.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use rusqlite::Connection;
use rusqlite::hooks::Wal;

use super::file::{self, Use};
use crate::cpu::{self, Stage};
use crate::store::Error;

/// It is due when the log holds so many times the pages of the database: most of them are then the same pages again, of
/// which only the newest is moved.
const OF_DATABASE: i64 = 4;
/// But not below the first number, for then it costs more than it saves, and not above the second when nobody waits, or
/// the third when somebody always does.
const LEAST: i64 = 256;
const IDLE: i64 = 2_000;
const BUSY: i64 = 12_000;
/// The log may grow by so much while it is moved; then the commits wait for the disk to catch up.
const BEHIND_MAX: i64 = 12_000;
/// After one that failed on a full disk, the next waits for so many pages more, or for a commit that heals.
const RETRY: i64 = 16;

/// When the log was last moved, and who moves it.
#[derive(Debug)]
pub(super) struct Checkpoints {
    /// Pages that the last one had to leave in the log, because somebody was reading them.
    left: i64,
    /// It failed: try again when the log holds so many pages.
    retry_at: Option<i64>,
    /// It is due however little is in the log.
    is_wanted: bool,
    /// [`BEHIND_MAX`], but in tests.
    behind_max: i64,
    /// Pages that the log has had since it began anew, moved or not, as of the last commit: SQLite tells it for nothing.
    length: Arc<AtomicI64>,
    /// What was found when it was last asked, which costs as much as a small transaction.
    found: Option<Found>,
    beside: Beside,
}

#[derive(Clone, Copy, Debug)]
struct Found {
    /// [`Checkpoints::length`] then.
    length: i64,
    /// Pages in the log that were not in the database.
    in_log: i64,
    /// Those of the database.
    pages: i64,
}

impl Found {
    /// The same when the log has this length: one that is shorter began anew.
    fn at_length(self, length: i64) -> Self {
        if length < self.length { Self { length: 0, in_log: 0, ..self } } else { self }
    }

    /// How many pages there may be in the log by now that are not in the database.
    fn at_most(self, length: i64) -> i64 {
        self.in_log + (length - self.length)
    }
}

impl Checkpoints {
    /// Starts the thread. `conn` is the one that writes, `moving` is locked while the log is moved; `file` is the database.
    /// To be called behind [`file::harden`], which takes away what tells the length of the log.
    pub(super) fn start(
        conn: &mut Connection,
        database: &Path,
        file: Arc<File>,
        moving: Arc<Mutex<()>>,
    ) -> Result<Self, Error> {
        let length = Arc::new(AtomicI64::new(0));
        let told = Arc::clone(&length);
        conn.wal_hook(Some(move |_: &mut Wal, pages: i32| {
            told.store(pages.into(), Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(Self {
            left: 0,
            retry_at: None,
            is_wanted: false,
            behind_max: BEHIND_MAX,
            length,
            found: None,
            beside: Beside::start(database, file, moving)?,
        })
    }

    /// The disk has room again.
    pub(super) fn healed(&mut self) {
        self.retry_at = self.retry_at.and(Some(0));
    }

    /// However little is in the log: the file becomes shorter by it.
    pub(super) fn hurry(&mut self) {
        self.is_wanted = true;
    }

    /// Does what is due, between two transactions of `conn`. `is_busy`: somebody waits already. On a full disk it is always
    /// worth a try, as an emptied log is written anew from its beginning.
    pub(super) fn if_due(&mut self, conn: &Connection, is_healthy: bool, is_busy: bool) -> Result<(), Error> {
        let limit = if is_busy { BUSY } else { IDLE };
        let allowed = if self.beside.is_running { self.behind_max } else { 0 };
        let length = self.length.load(Ordering::Relaxed);
        self.found = self.found.map(|found| found.at_length(length));
        let (in_log, due) = match self.found.map(|found| (found.at_most(length), self.due(found, limit))) {
            Some((at_most, due)) if is_healthy && at_most < due + allowed => (at_most, due),
            _ => {
                let found = self.look(conn)?;
                (found.in_log, self.due(found, limit))
            }
        };
        let is_needed = in_log > 0 && !is_healthy;
        let done = if self.beside.is_running && (is_needed || in_log >= due + self.behind_max) {
            Some(self.beside.wait())
        } else {
            self.beside.look()
        };
        match done {
            Some(Err(error)) => {
                self.retry_at = Some(self.look(conn)?.in_log + RETRY);
                return Err(error);
            }
            // What has come meanwhile is moved at once, else the log would never begin anew.
            Some(Ok(())) => {}
            None if self.beside.is_running => return Ok(()),
            None if is_needed || self.retry_at.is_some_and(|_| in_log >= due) => {}
            None if in_log >= due => {
                self.is_wanted = false;
                return self.beside.begin();
            }
            None => return Ok(()),
        }
        // The next commit may begin the log anew.
        self.found = None;
        match checkpoint(conn, "PASSIVE") {
            Ok(left) => (self.left, self.retry_at) = (left, None),
            Err(error) => {
                self.retry_at = Some(self.look(conn)?.in_log + RETRY);
                return Err(error);
            }
        }
        Ok(())
    }

    /// With how many pages in the log it is due.
    fn due(&self, found: Found, limit: i64) -> i64 {
        match self.retry_at {
            Some(pages) => pages,
            None if self.is_wanted => 1,
            None => self.left + (OF_DATABASE * found.pages).clamp(LEAST, limit),
        }
    }

    fn look(&mut self, conn: &Connection) -> Result<Found, Error> {
        let length = self.length.load(Ordering::Relaxed);
        let (in_log, pages) = (checkpoint(conn, "NOOP")?, pages(conn));
        // With nothing in it the next commit may begin it anew.
        let found = Found { length: if in_log == 0 { 0 } else { length }, in_log, pages };
        self.found = Some(found);
        Ok(found)
    }

    /// Ends the thread, then moves all that is left and empties the log.
    pub(super) fn finish(mut self, conn: &Connection) -> Result<(), Error> {
        let last = if self.beside.is_running { self.beside.wait() } else { Ok(()) };
        self.beside.end();
        checkpoint(conn, "TRUNCATE").and(last)
    }
}

/// It has panicked: the log would grow without end.
fn gone() -> Error {
    Error::Fatal("the thread that moves the log has ended".to_owned())
}

/// The size of the database.
fn pages(conn: &Connection) -> i64 {
    let pages =
        conn.prepare_cached("PRAGMA page_count").and_then(|mut statement| statement.query_row([], |row| row.get(0)));
    // Should it not be known, the next look tells more.
    pages.unwrap_or(0)
}

/// Pages in the log that are not in the database yet, after a checkpoint of this kind.
fn checkpoint(conn: &Connection, kind: &str) -> Result<i64, Error> {
    let mut statement = conn.prepare_cached(&format!("PRAGMA wal_checkpoint({kind})"))?;
    Ok(statement.query_row([], |row| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?))?)
}

/// The thread, with a connection of its own.
#[derive(Debug)]
struct Beside {
    orders: Option<mpsc::Sender<()>>,
    done: mpsc::Receiver<Result<(), Error>>,
    is_running: bool,
    thread: Option<JoinHandle<()>>,
}

impl Beside {
    fn start(database: &Path, file: Arc<File>, moving: Arc<Mutex<()>>) -> Result<Self, Error> {
        let conn = file::connect(database, Use::Write)?;
        // It syncs what it moves, as the commits do.
        file::harden(&conn)?;
        let (orders, waiting) = mpsc::channel::<()>();
        let (tell, done) = mpsc::channel();
        let work = move || {
            for () in waiting {
                let _moving = moving.lock().unwrap_or_else(PoisonError::into_inner);
                let done = cpu::within(Stage::Store, || {
                    checkpoint(&conn, "PASSIVE")?;
                    // SQLite leaves that to the next one when commits came meanwhile: the writer would have to wait for it.
                    file.sync_data().map_err(|error| Error::Fatal(format!("cannot sync the database: {error}")))
                });
                // Whoever ordered it may be ending.
                let _ = tell.send(done);
            }
        };
        let thread = std::thread::Builder::new()
            .name("pushpull-log".to_owned())
            .spawn(work)
            .map_err(|error| Error::Fatal(format!("cannot start a thread: {error}")))?;
        Ok(Self { orders: Some(orders), done, is_running: false, thread: Some(thread) })
    }

    fn begin(&mut self) -> Result<(), Error> {
        self.is_running = self.orders.as_ref().is_some_and(|orders| orders.send(()).is_ok());
        if self.is_running { Ok(()) } else { Err(gone()) }
    }

    /// How it ended, if it has since the last look.
    fn look(&mut self) -> Option<Result<(), Error>> {
        let done = match self.done.try_recv() {
            Ok(done) => done,
            Err(mpsc::TryRecvError::Empty) => return None,
            Err(mpsc::TryRecvError::Disconnected) => Err(gone()),
        };
        self.is_running = false;
        Some(done)
    }

    fn wait(&mut self) -> Result<(), Error> {
        self.is_running = false;
        self.done.recv().unwrap_or_else(|_| Err(gone()))
    }

    fn end(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic has printed itself.
            let _ = thread.join();
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Wall;
    use crate::peer::{InboxRow, Write};
    use crate::set::Digest;
    use crate::store::{Epoch, Journal, Options, Registry, Sqlite};

    fn database(folder: &Path) -> (Connection, Checkpoints) {
        let (path, _lock) = file::claim(&folder.join("log.db")).unwrap();
        let mut conn = file::connect(&path, Use::Write).unwrap();
        file::harden(&conn).unwrap();
        conn.execute_batch("CREATE TABLE piece (id INTEGER PRIMARY KEY, bytes BLOB)").unwrap();
        let checkpoints = start(&mut conn, &path, Arc::default());
        (conn, checkpoints)
    }

    fn start(conn: &mut Connection, path: &Path, moving: Arc<Mutex<()>>) -> Checkpoints {
        Checkpoints::start(conn, path, Arc::new(File::open(path).unwrap()), moving).unwrap()
    }

    fn write(conn: &Connection, pages: i64) {
        let bytes = vec![7; usize::try_from(pages * file::PAGE_SIZE).unwrap()];
        conn.execute("INSERT OR REPLACE INTO piece (id, bytes) VALUES (1, ?1)", [bytes]).unwrap();
    }

    #[test]
    fn how_much_there_may_be_in_the_log_is_known_without_asking() {
        let found = Found { length: 100, in_log: 30, pages: 1 };
        assert_eq!([100, 107].map(|length| found.at_length(length).at_most(length)), [30, 37]);
        let anew = found.at_length(9);
        assert_eq!([9, 99, 150].map(|length| anew.at_length(length).at_most(length)), [9, 99, 150]);
        let folder = tempfile::tempdir().unwrap();
        let (conn, mut checkpoints) = database(folder.path());
        let (mut asked, mut moved) = (0, 0);
        for round in 1..=2_000 {
            // A transaction need not write anything.
            if round % 11 > 0 {
                write(&conn, 1 + round % 7);
            }
            let before = checkpoints.found.map(|found| (found.length, found.in_log));
            let was_running = checkpoints.beside.is_running;
            checkpoints.if_due(&conn, true, round % 3 > 0).unwrap();
            moved += i32::from(!was_running && checkpoints.beside.is_running);
            if let Some(found) = checkpoints.found {
                asked += i32::from(before != Some((found.length, found.in_log)));
                let (length, really) = (checkpoints.length.load(Ordering::Relaxed), checkpoint(&conn, "NOOP").unwrap());
                assert!(found.at_most(length) >= really, "round {round}: {found:?}, {length}, {really}");
            }
        }
        assert!(moved >= 5, "{moved} times due");
        assert!(asked < 100 + 3 * moved, "{asked} times asked");
    }

    #[tokio::test]
    async fn the_log_of_an_open_store_is_moved_while_it_grows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.db");
        let store = Sqlite::open(&path, Options::default()).unwrap();
        let peer = store.peer_id("a".to_owned()).await.unwrap();
        let (length, compact) = (|| std::fs::metadata(&path).unwrap().len(), "x".repeat(60_000));
        let before = length();
        for number in 1..=200_u64 {
            let row = InboxRow {
                jti: number.to_string().into(),
                compact: compact.as_str().into(),
                digest: Digest::default(),
                received_at: Wall(1),
            };
            store.commit(peer, Epoch(1), Arc::new(vec![Write::Receive(row)])).await.unwrap();
        }
        // Beside the commits, so that it may be on its way still.
        let moved = async {
            while length() < before + (2 << 20) {
                tokio::time::sleep(Duration::from_millis(5)).await;
                store.purge(Wall(0)).await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(60), moved).await.expect("it is due soon");
        store.close().await;
    }

    #[test]
    fn a_long_log_is_moved_beside_the_commits_and_then_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (conn, mut checkpoints) = database(folder.path());
        write(&conn, 300);
        checkpoints.if_due(&conn, true, true).unwrap();
        assert!(!checkpoints.beside.is_running, "less than four times the database");
        let mut writes = 1;
        while !checkpoints.beside.is_running {
            write(&conn, 300);
            writes += 1;
            checkpoints.if_due(&conn, true, true).unwrap();
        }
        assert!((4..=9).contains(&writes), "{writes} times what is in the database");
        let before = checkpoint(&conn, "NOOP").unwrap();
        write(&conn, 10);
        while checkpoints.beside.is_running {
            checkpoints.if_due(&conn, true, true).unwrap();
            std::thread::yield_now();
        }
        assert!(before > 0 && checkpoint(&conn, "NOOP").unwrap() == 0);
        let log = folder.path().join("log.db-wal");
        let length = || std::fs::metadata(&log).unwrap().len();
        let longest = length();
        write(&conn, 10);
        assert_eq!(length(), longest, "from the beginning again");
        checkpoints.finish(&conn).unwrap();
        assert_eq!(length(), 0);
    }

    #[test]
    fn commits_wait_when_the_log_outgrows_those_who_move_it() {
        let folder = tempfile::tempdir().unwrap();
        let (mut conn, _) = database(folder.path());
        let moving = Arc::new(Mutex::new(()));
        let mut checkpoints = start(&mut conn, &folder.path().join("log.db"), Arc::clone(&moving));
        checkpoints.behind_max = 1_000;
        let stuck = moving.lock().unwrap();
        write(&conn, 100);
        checkpoints.beside.begin().unwrap();
        checkpoints.if_due(&conn, true, true).unwrap();
        assert!(checkpoints.beside.is_running, "it is left to go on");
        while checkpoint(&conn, "NOOP").unwrap() < checkpoints.behind_max + 1_000 {
            write(&conn, 100);
        }
        let waiting = std::thread::spawn(move || {
            checkpoints.if_due(&conn, true, true).unwrap();
            checkpoint(&conn, "NOOP").unwrap()
        });
        std::thread::sleep(Duration::from_millis(50));
        assert!(!waiting.is_finished());
        drop(stuck);
        assert_eq!(waiting.join().unwrap(), 0);
    }
}

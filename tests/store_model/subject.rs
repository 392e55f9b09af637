//! The stores under test, each with the crashes that it can have.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pushpull::store::{Memory, Options, Sqlite};
use tempfile::TempDir;

use crate::call::{Answer, Both, Call, ask};
use crate::disk::{Bugs, Disk, Faults, Store};
use crate::faults::Ear;

/// With fewer pages in it, nothing of a log was moved into the database yet (`src/store/sqlite/writer.rs`).
const NOT_MOVED: usize = 128;
const WAL_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// One store.
pub(crate) enum Subject {
    /// Knows no crashes.
    Ram(Box<dyn Both>),
    File(File),
    Sim(Sim),
}

impl Subject {
    pub(crate) fn memory() -> Self {
        Self::Ram(Box::new(Memory::new()))
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Ram(_) => "the store in memory",
            Self::File(_) => "the SQLite store",
            Self::Sim(_) => "the simulated store",
        }
    }

    pub(crate) fn store(&self) -> &dyn Both {
        match self {
            Self::Ram(store) => &**store,
            Self::File(file) => file.store(),
            Self::Sim(sim) => &sim.store,
        }
    }

    pub(crate) async fn reopen(&mut self) {
        match self {
            Self::Ram(_) => {}
            Self::File(file) => file.reopen().await,
            Self::Sim(sim) => {
                sim.store.close().await;
                sim.store = sim.disk.open().await.unwrap();
            }
        }
    }

    /// A crash that loses nothing.
    pub(crate) async fn crash(&mut self) {
        match self {
            Self::Ram(_) => {}
            Self::File(file) => drop(file.crash(None)),
            Self::Sim(sim) => sim.crash().await,
        }
    }
}

/// A SQLite file, and copies of it.
pub(crate) struct File {
    folder: TempDir,
    copies: usize,
    options: Options,
    store: Option<Sqlite>,
}

/// How far a log reaches: whose it is, and the end of its last transaction.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Extent {
    pub(crate) salt: u64,
    pub(crate) end: usize,
    frames: usize,
}

impl File {
    pub(crate) fn new(memory_tail: usize, hand_ahead: u64) -> Self {
        let folder = match std::env::var_os("PUSHPULL_MODEL_DIR") {
            Some(folder) => tempfile::tempdir_in(folder),
            None => tempfile::tempdir(),
        };
        let mut options = Options::default();
        (options.memory_tail, options.hand_ahead, options.readers) = (memory_tail, hand_ahead, 1);
        let mut file = Self { folder: folder.unwrap(), copies: 0, options, store: None };
        file.open();
        file
    }

    pub(crate) fn store(&self) -> &Sqlite {
        self.store.as_ref().unwrap()
    }

    fn open(&mut self) {
        self.store = Some(Sqlite::open(self.path(self.copies, ""), self.options.clone()).unwrap());
    }

    fn path(&self, copy: usize, end: &str) -> PathBuf {
        self.folder.path().join(format!("{copy}.db{end}"))
    }

    async fn reopen(&mut self) {
        // In order, or by dropping it: both write all.
        if self.copies.is_multiple_of(2) {
            self.store().close().await;
        }
        self.store = None;
        self.open();
    }

    /// How far the log reaches now. A background transaction may be in it too, so it may say too much, never too little.
    pub(crate) fn extent(&self) -> Extent {
        extent(&std::fs::read(self.path(self.copies, "-wal")).unwrap_or_default())
    }

    /// Goes on with a copy of the files, as they lay while the store had them open, with as many of 65,536 parts of the log
    /// as said. Where the log was cut, if it could be.
    pub(crate) fn crash(&mut self, keep: Option<u64>) -> Option<Extent> {
        let (old, new) = (self.copies, self.copies + 1);
        let log = |copy| self.path(copy, "-wal");
        let (main, mut wal) = loop {
            // While the log stays the same nothing that it lacks can get into the database.
            let before = std::fs::read(log(old)).unwrap_or_default();
            let main = std::fs::read(self.path(old, "")).unwrap();
            if std::fs::read(log(old)).unwrap_or_default() == before {
                break (main, before);
            }
        };
        let mut cut = None;
        if let Some(keep) = keep {
            let extent = extent(&wal);
            // Once pages were moved into the database, no crash takes them from the log.
            if extent.frames > 0 && extent.frames < NOT_MOVED {
                let end = usize::try_from((extent.end as u64 * keep) >> 16).unwrap();
                wal.truncate(end);
                cut = Some(Extent { end, ..extent });
            }
        }
        write_private(&self.path(new, ""), &main);
        write_private(&log(new), &wal);
        self.copies = new;
        self.store = None;
        for end in ["", "-wal", "-shm", ".lock"] {
            // What is not there needs no removing.
            let _ = std::fs::remove_file(self.path(old, end));
        }
        self.open();
        cut
    }
}

/// Others must not be able to read a database.
fn write_private(path: &Path, bytes: &[u8]) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

/// Reads a log as far as its pages belong to it (the format is SQLite's).
fn extent(wal: &[u8]) -> Extent {
    let number = |at: usize| wal.get(at..at + 4).map(|bytes| u32::from_be_bytes(bytes.try_into().unwrap()));
    let salt_at = |at: usize| Some((u64::from(number(at)?) << 32) | u64::from(number(at + 4)?));
    let (Some(page), Some(salt)) = (number(8), salt_at(16)) else { return Extent::default() };
    let frame = FRAME_HEADER + page as usize;
    let mut extent = Extent { salt, end: 0, frames: 0 };
    let mut at = WAL_HEADER;
    while page > 0 && at + frame <= wal.len() && salt_at(at + 8) == Some(salt) {
        extent.frames += 1;
        if number(at + 4).is_some_and(|size| size > 0) {
            extent.end = at + frame;
        }
        at += frame;
    }
    extent
}

/// A simulated disk with a store on it.
pub(crate) struct Sim {
    disk: Disk,
    store: Store,
}

impl Sim {
    pub(crate) async fn new(seed: u64, bugs: Bugs) -> Self {
        let disk = Disk::new(seed, bugs, Arc::new(Ear::default()));
        let store = disk.open().await.unwrap();
        Self { disk, store }
    }

    async fn crash(&mut self) {
        self.disk.crash();
        self.disk.set_faults(Faults::default());
        self.store = self.disk.open().await.unwrap();
    }

    /// The process dies in this way while it is asked this. The answer, if it was heard.
    pub(crate) async fn kill_within(&mut self, call: Call, how: u64, after: u64) -> Option<Answer> {
        let faults = Faults { slow: 1.0, latency: Duration::from_millis(20), ..Faults::default() };
        self.disk.set_faults(match how {
            0 => Faults { unknown: 1.0, ..faults },
            1 => Faults { sync_fails: 1.0, ..faults },
            2 => Faults { write_fails: 1.0, ..faults },
            3 => Faults { fills: 1.0, ..faults },
            _ => faults,
        });
        let answer = tokio::time::timeout(Duration::from_millis(after), ask(&self.store, call)).await.ok();
        self.crash().await;
        answer
    }
}

//! A daemon whose calls to the disk are counted and failed by strace, and what a power cut may do to what it had written
//! and not synced.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::pairing::{clean, program_path};
use crate::plan::Random;

/// The kinds of call that SQLite makes to write, and to make sure.
const WRITES: &str = "pwrite64";
const SYNCS: &str = "fsync,fdatasync";
const SECTOR: u64 = 512;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Call {
    Write,
    Sync,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    Kill,
    Eio,
    Enospc,
}

/// So many calls in a row find the disk full.
pub(crate) const FULL_FOR: u64 = 12;

/// What strace is told. It counts each thread's calls apart; the store writes by one, and opens its file by another.
pub(crate) fn injection(fault: Fault, call: Call, at: u64) -> String {
    let calls = if call == Call::Write { WRITES } else { SYNCS };
    match fault {
        Fault::Kill => format!("inject={calls}:signal=SIGKILL:when={at}"),
        Fault::Eio => format!("inject={calls}:error=EIO:when={at}"),
        Fault::Enospc => format!("inject={calls}:error=ENOSPC:when={at}..{}", at + FULL_FOR - 1),
    }
}

/// What makes every sync do nothing and succeed.
pub(crate) const NO_SYNC: &str = "inject=fsync,fdatasync:retval=0";

/// The daemon under strace, to be started by [`crate::organisation::Organisation::start_as`]. It is the child itself,
/// and strace watches from aside.
pub(crate) fn command(log: &Path, database: &Path, injection: Option<&str>) -> Command {
    let mut command = clean(Command::new("strace"));
    let calls = format!("trace={WRITES},{SYNCS}");
    command.args(["-D", "-f", "-y", "-s", "0", "-e", &calls, "-o"]).arg(log);
    // Signals do not get through where only these calls stop.
    if !injection.is_some_and(|injection| injection.contains("signal=")) {
        command.arg("--seccomp-bpf");
    }
    for file in files(database) {
        command.arg("-P").arg(file);
    }
    if let Some(injection) = injection {
        command.args(["-e", injection]);
    }
    command.arg(program_path());
    command
}

/// The files of a database that have to survive a power cut.
pub(crate) fn files(database: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-journal"].map(|suffix| format!("{}{suffix}", database.display()).into())
}

/// Whether strace is there, and may trace. The reason, where not.
pub(crate) async fn available(place: &Path) -> Result<(), String> {
    let (log, file) = (place.join("probe.strace"), place.join("probe"));
    let inject = "inject=fsync:error=EIO:when=1";
    let mut command = clean(Command::new("strace"));
    command.args(["-D", "-f", "--seccomp-bpf", "-e", "trace=fsync", "-e", inject, "-o"]).arg(&log);
    command.args(["dd", "if=/dev/zero", "bs=1", "count=1", "conv=fsync", "status=none"]);
    let mut of = std::ffi::OsString::from("of=");
    of.push(&file);
    let ended = command.arg(of).output().await.map_err(|error| format!("strace cannot be started: {error}"))?;
    let said = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
    match (ended.status.success(), fs::read_to_string(&log).is_ok_and(|log| log.contains("(INJECTED)"))) {
        (false, true) => Ok(()),
        _ => Err(format!("strace cannot trace here (ptrace forbidden?): {said}")),
    }
}

/// What strace saw.
#[derive(Default)]
pub(crate) struct Traced {
    /// Calls that were made to fail.
    pub(crate) injected: u64,
    /// Calls of each kind that did what they should.
    pub(crate) writes: u64,
    pub(crate) syncs: u64,
    /// By file, what was written since it was last synced.
    pub(crate) unsynced: BTreeMap<PathBuf, Vec<Range<u64>>>,
}

impl Traced {
    pub(crate) fn read(log: &Path) -> Self {
        let mut traced = Self::default();
        let mut begun = HashMap::new();
        for line in fs::read_to_string(log).unwrap_or_default().lines() {
            let Some((thread, what)) = line.split_once(' ') else { continue };
            let what = what.trim_start();
            if let Some(end) = what.strip_prefix("<... ") {
                if let Some(call) = begun.remove(thread) {
                    traced.take(&format!("{call}{}", end.split_once('>').map_or("", |(_, end)| end)));
                }
            } else if let Some(call) = what.strip_suffix(" <unfinished ...>") {
                begun.insert(thread.to_owned(), call.to_owned());
            } else {
                traced.take(what);
            }
        }
        // What was under way may have happened.
        begun.into_values().for_each(|call| traced.take(&format!("{call}) = ?")));
        traced
    }

    /// One call, such as `pwrite64(12</db-wal>, ""..., 24, 32) = 24`.
    fn take(&mut self, call: &str) {
        let Some((head, result)) = call.rsplit_once(" = ") else { return };
        let Some((name, arguments)) = head.split_once('(') else { return };
        let Some(path) = arguments.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(path, _)| path)
        else {
            return;
        };
        let failed = result.starts_with('-');
        self.injected += u64::from(result.contains("(INJECTED)"));
        if name == WRITES {
            let numbers = arguments.trim_end().trim_end_matches(')').rsplit(", ").take(2);
            let numbers: Vec<u64> = numbers.filter_map(|number| number.parse().ok()).collect();
            let [offset, len] = numbers[..] else { panic!("strace writes what nobody understands: {call}") };
            if !failed {
                self.writes += 1;
                self.unsynced.entry(path.into()).or_default().push(offset..offset + len);
            }
        } else if result.trim() == "0" {
            self.syncs += 1;
            self.unsynced.remove(Path::new(path));
        }
    }

    /// Takes from the files what a power cut may take: sectors that were written and not synced. How many those were.
    ///
    /// The first sector of each file is spared: what it held before, a sound header, is gone from our hands, and no disk
    /// tears a sector.
    pub(crate) fn cut_power(&self, random: &mut Random) -> usize {
        let kept = match random.below(4) {
            0 => 0.0,
            1 => 1.0,
            _ => random.fraction(),
        };
        self.cut_power_for(kept, random)
    }

    /// The same, where each sector is kept with this probability.
    pub(crate) fn cut_power_for(&self, kept: f64, random: &mut Random) -> usize {
        let mut lost = 0;
        for (path, ranges) in &self.unsynced {
            let Ok(file) = OpenOptions::new().write(true).open(path) else { continue };
            let len = file.metadata().map_or(0, |metadata| metadata.len());
            let mut fates = BTreeMap::new();
            for range in ranges {
                for sector in range.start / SECTOR..range.end.div_ceil(SECTOR) {
                    // What stands beside it in the same sector was synced before, and is written again with it.
                    let from = range.start.max(sector * SECTOR).max(SECTOR);
                    let to = range.end.min((sector + 1) * SECTOR).min(len);
                    let is_lost = *fates.entry(sector).or_insert_with(|| !random.chance(kept));
                    if is_lost && from < to {
                        let nothing = vec![0; usize::try_from(to - from).expect("a sector is small")];
                        file.write_all_at(&nothing, from).expect("the file can be written");
                        lost += 1;
                    }
                }
            }
        }
        lost
    }
}

#[test]
fn what_strace_writes_is_understood() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let log = place.path().join("log");
    let lines = [
        r#"7 pwrite64(9</a/b.db-wal>, ""..., 24, 32) = 24"#,
        r#"7 fsync(9</a/b.db-wal>) = 0"#,
        r#"7 pwrite64(9</a/b.db-wal>, ""..., 16384, 56) = 16384"#,
        r#"7 pwrite64(8</a/b.db>, ""..., 10, 0) = -1 EIO (Input/output error) (INJECTED)"#,
        r#"7 fsync(9</a/b.db-wal> <unfinished ...>"#,
        r#"8 +++ exited with 0 +++"#,
        r#"7 <... fsync resumed>) = -1 EIO (Input/output error) (INJECTED)"#,
        r#"7 pwrite64(9</a/b.db-wal>, ""..., 8, 20000 <unfinished ...>"#,
        r#"7 +++ killed by SIGKILL +++"#,
    ];
    fs::write(&log, lines.join("\n")).expect("it can be written");
    let traced = Traced::read(&log);
    assert_eq!((traced.injected, traced.writes, traced.syncs), (2, 3, 1));
    let unsynced: Vec<_> = traced.unsynced.into_iter().collect();
    assert_eq!(unsynced, [("/a/b.db-wal".into(), vec![56..16_440, 20_000..20_008])]);
}

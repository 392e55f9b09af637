//! What a SET costs the SQLite store: the whole cycle through the outbox and through the inbox, in commits of several sizes,
//! with nothing and with a million SETs held. Beside criterion's times it prints the processor time of a SET.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use pushpull::clock::Wall;
use pushpull::peer::{InboxRow, OutboxRow, Outcome, PeerId, Select, Story, Write};
use pushpull::set::{Digest, Jti, base64url};
use pushpull::store::{Epoch, Journal, Options, Registry, Sqlite};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// SETs held meanwhile.
const HELD: [u64; 2] = [0, 1_000_000];
/// SETs in a commit.
const SIZES: [u64; 4] = [1, 10, 100, 1_000];
/// Commits that make the held ones.
const FILL: u64 = 2_000;
/// SETs that are made ahead of the clock, about.
const MADE_MAX: u64 = 20_000;
const CONSUMER: &str = "application";

#[derive(Clone, Copy, Debug)]
enum Way {
    Outbox,
    Inbox,
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let sizes = std::env::var("PUSHPULL_BENCH_SIZES").map_or(SIZES.to_vec(), |sizes| {
        sizes.split(',').map(|size| size.parse().expect("numbers with commas between")).collect()
    });
    for held in HELD {
        // Made when the first benchmark needs them, as a filter may leave them all out.
        let (mut outbox, mut inbox) = (None, None);
        for &size in &sizes {
            bench(&mut criterion, Way::Outbox, held, size, &mut outbox);
            bench(&mut criterion, Way::Inbox, held, size, &mut inbox);
        }
    }
    criterion.final_summary();
}

fn bench(criterion: &mut Criterion, way: Way, held: u64, size: u64, stage: &mut Option<Stage>) {
    let mut group = criterion.benchmark_group(format!("{way:?}/{held} held"));
    group.throughput(Throughput::Elements(size));
    let (mut cpu, mut sets) = (Duration::ZERO, 0);
    group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
        let stage = stage.get_or_insert_with(|| Stage::new(way, held));
        bencher.iter_custom(|rounds| {
            let (mut wall, mut left) = (Duration::ZERO, rounds);
            while left > 0 {
                let now = left.min(MADE_MAX.div_ceil(size));
                left -= now;
                let cycles: Vec<_> = (0..now).map(|_| stage.next(size)).collect();
                let (began, before) = (Instant::now(), cpu_time());
                for (fresh, ends) in cycles {
                    match way {
                        Way::Outbox => stage.cycle_outbox(fresh, ends),
                        Way::Inbox => stage.cycle_inbox(fresh),
                    }
                }
                cpu += cpu_time().saturating_sub(before);
                wall += began.elapsed();
            }
            sets += rounds * size;
            wall
        });
    });
    group.finish();
    if sets > 0 {
        println!("{way:?}/{held} held/{size}: {:.2} us of processor time a SET", cpu.as_secs_f64() * 1e6 / sets as f64);
    }
}

/// A store with SETs in it.
struct Stage {
    runtime: Runtime,
    store: Sqlite,
    peer: PeerId,
    way: Way,
    /// The newest SET.
    last: u64,
    /// Every SET up to here is done with, or about to be.
    done: u64,
    _folder: TempDir,
}

impl Stage {
    fn new(way: Way, held: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(folder.path());
        let peer = runtime.block_on(store.peer_id("partner".to_owned())).expect("a number");
        let mut stage = Self { runtime, store, peer, way, last: 0, done: 0, _folder: folder };
        while stage.last < held {
            let fresh = stage.fresh(FILL);
            stage.commit(fresh);
        }
        stage
    }

    /// New SETs, and the ends of the oldest.
    fn next(&mut self, size: u64) -> (Vec<Write>, Vec<Write>) {
        let fresh = self.fresh(size);
        let ends = match self.way {
            Way::Outbox => (self.done + 1..=self.done + size).map(settle).collect(),
            Way::Inbox => Vec::new(),
        };
        self.done += size;
        (fresh, ends)
    }

    fn fresh(&mut self, size: u64) -> Vec<Write> {
        let first = self.last + 1;
        self.last += size;
        let write = |number| match self.way {
            Way::Outbox => Write::Enqueue(row(number)),
            Way::Inbox => {
                let OutboxRow { jti, compact, digest, accepted_at, .. } = row(number);
                Write::Receive(InboxRow { jti, compact, digest, received_at: accepted_at })
            }
        };
        (first..=self.last).map(write).collect()
    }

    fn cycle_outbox(&self, fresh: Vec<Write>, ends: Vec<Write>) {
        self.commit(fresh);
        self.commit(ends);
    }

    /// As many as come in are handed out, confirmed and removed.
    fn cycle_inbox(&self, fresh: Vec<Write>) {
        let count = fresh.len();
        self.commit(fresh);
        let rows = self.runtime.block_on(self.store.read_inbox(CONSUMER.to_owned(), None, count)).expect("rows");
        assert_eq!(rows.len(), count);
        let up_to = rows.last().expect("the newest").seq;
        self.runtime.block_on(self.store.confirm(CONSUMER.to_owned(), up_to)).expect("confirmed");
        self.runtime.block_on(self.store.purge(Wall(0))).expect("purged");
    }

    fn commit(&self, writes: Vec<Write>) {
        self.runtime.block_on(self.store.commit(self.peer, Epoch(1), Arc::new(writes))).expect("committed");
    }
}

impl Drop for Stage {
    /// What was done is there: a benchmark of a store that forgets would be fast.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let saved = self.runtime.block_on(self.store.recover(self.peer)).expect("saved");
        if saved.counts.queued > 0 {
            let select = Select::After { after: 0, rows_max: 1, bytes_max: usize::MAX };
            let page = self.runtime.block_on(self.store.read_outbox(self.peer, select)).expect("a page");
            assert_eq!((page.rows[0].seq, saved.counts.queued), (self.done + 1, self.last - self.done));
        }
    }
}

fn open(folder: &Path) -> Sqlite {
    Sqlite::open(folder.join("bench.db"), Options::default()).expect("opened")
}

/// As large as a signed SET is: 1,065 bytes, of 796 octets.
fn row(seq: u64) -> OutboxRow {
    let claims = format!("{seq:0>668}");
    let parts =
        [br#"{"typ":"secevent+jwt","alg":"ES256","kid":"2026-11-28-15-04-05"}"#, claims.as_bytes(), &[0x5a; 64]];
    let compact = parts.map(base64url::encode).join(".");
    OutboxRow {
        seq,
        jti: jti(seq),
        compact: compact.into(),
        digest: Digest::of(&seq.to_le_bytes()),
        accepted_at: Wall(1_700_000_000_000 + seq),
        attempts: 0,
        story: Story::default(),
    }
}

fn settle(seq: u64) -> Write {
    let (jti, digest, accepted_at) = (jti(seq), Digest::of(&seq.to_le_bytes()), Wall(1_700_000_000_000 + seq));
    let (outcome, at, story) = (Outcome::Acked, Wall(1_700_000_001_000 + seq), Story::default());
    Write::Settle { seq, jti, digest, accepted_at, outcome, at, attempts: 1, story }
}

/// As long as a UUID.
fn jti(seq: u64) -> Jti {
    format!("{seq:0>36}").into()
}

/// Processor time of every thread of this process, where the system tells.
fn cpu_time() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let told = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
    Duration::from_nanos(told.filter_map(|told| told.split(' ').next()?.parse::<u64>().ok()).sum())
}

//! SIGKILL, EIO and ENOSPC at the k-th call by which the store writes or syncs, then a power cut, then a sound start.

use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::{Instant, sleep};

use super::bench::{Bench, Case, READY_WITHIN, Start, Submitted, ready_or_ended, up_or_ended};
use super::strace::{self, Call, FULL_FOR, Fault, Traced};
use super::{old, sizes};
use crate::admin::NoAnswer;
use crate::plan::{Random, fresh_seed, number};
use crate::world::{Place, Violation};

/// What a case begins with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum From {
    /// What a killed daemon has left, its log full.
    Crashed,
    /// Nothing: the file is made.
    Nothing,
    /// A file of version 1, which is brought up to date.
    Old,
}

/// One case.
#[derive(Clone, Copy, Debug)]
struct Point {
    from: From,
    fault: Fault,
    call: Call,
    at: u64,
}

/// What was met.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Met {
    Killed,
    /// Ended with exit code 70.
    Stopped,
    /// The disk was full: nothing was accepted, not ready, and all of it healed.
    Healed,
    /// The disk was full for what nobody waits for.
    Unnoticed,
    /// The daemon was not ready yet when it was killed or ended with 70.
    AtStart,
    /// There were fewer calls than that.
    NotReached,
}

/// Power cuts have taken so many sectors, and so many cases went that way.
#[derive(Default)]
struct Tally {
    cases: usize,
    met: [usize; 6],
    sectors_lost: usize,
    accepted: usize,
}

/// Exit code of a daemon whose storage failed.
const STORAGE_FAILED: i32 = 70;
/// Calls of the thread that opens the file, at most: they are counted apart.
const OTHER_THREADS: u64 = 40;
/// The answer of a probe stands for half a second.
const PROBE_STANDS_FOR: Duration = Duration::from_millis(700);
/// SETs each way after the fault was met.
const AFTER: usize = 4;
/// The numbers of SETs that are submitted after the restart begin here.
const AGAIN: usize = 1_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_when_any_write_or_sync_of_the_store_fails() {
    let seed = number("PUSHPULL_CHAOS_SEED").unwrap_or_else(fresh_seed);
    let points = points(seed);
    println!("chaos calls: {} cases, PUSHPULL_CHAOS_SEED={seed}", points.len());
    let place = Place::new();
    if let Err(reason) = strace::available(place.path()).await {
        crate::not_run(&format!("chaos calls: NOT RUN, 0 of {} cases: {reason}", points.len()));
        return;
    }
    let all = points.len();
    let (rest, tally) = (Mutex::new(points.into_iter().enumerate()), Mutex::new(Tally::default()));
    let lanes = (0..sizes::lanes().min(all)).map(|lane| {
        let (place, rest, tally) = (place.path().join(format!("lane-{lane}")), &rest, &tally);
        async move {
            let bench = Bench::new(&place, None).await?;
            let old = place.join("old");
            old::make(&bench.template(), &old);
            loop {
                let next = rest.lock().expect("nobody panicked").next();
                let Some((index, point)) = next else { break };
                run(&bench, point, seed, &old, tally)
                    .await
                    .map_err(|violation| violation.in_case(&point.replay(seed)))?;
                if index % 100 == 99 {
                    println!("  {} of {all} cases", index + 1);
                }
            }
            Ok::<_, Violation>(())
        }
    });
    if let Err(violation) = try_join_all(lanes).await {
        panic!("chaos calls, seed {seed}: {violation}\nkept: {}", place.keep().display());
    }
    let tally = tally.into_inner().expect("nobody panicked");
    println!("chaos calls: ok, seed {seed}, {tally}");
    assert_eq!(tally.cases, all);
}

/// The checker can fail: where syncs do nothing, a power cut takes what was accepted, and that is seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_only_pretends_to_sync_is_found_out() {
    let place = Place::new();
    if let Err(reason) = strace::available(place.path()).await {
        crate::not_run(&format!("chaos calls, a disk that lies: NOT RUN: {reason}"));
        return;
    }
    let found = async {
        let bench = Bench::new(&place.path().join("lane"), None).await?;
        bench.reset();
        let (case, log) = (Case::new(&bench, "lie"), place.path().join("strace.log"));
        let lie = strace::command(&log, &bench.database, Some(strace::NO_SYNC));
        let begun = bench.alpha.start_as(lie).await;
        bench.alpha.ready(begun).await?;
        for number in 0..AFTER {
            case.submit_both(number).await?;
        }
        bench.alpha.kill().await;
        wait_for_end(&log).await;
        let lost = Traced::read(&log).cut_power_for(0.0, &mut Random::new(0, "lie"));
        assert!(lost > 0, "there was nothing to lose");
        let begun = bench.alpha.start().await;
        let found = match ready_or_ended(&bench.alpha, begun).await? {
            Start::Ready | Start::Full => case.settle().await.is_err(),
            Start::Ended(_) => true,
        };
        bench.alpha.kill().await;
        Ok::<_, Violation>(found)
    };
    match found.await {
        Ok(found) => assert!(found, "accepted SETs were lost, and nobody saw it"),
        Err(violation) => panic!("{violation}"),
    }
    println!("chaos calls: a disk that only pretends to sync is found out");
}

/// All cases, in an order that the seed shuffles; the one that the environment names, if it names one.
fn points(seed: u64) -> Vec<Point> {
    let calls = sizes::calls();
    let mut random = Random::new(seed, "points");
    let mut points = Vec::new();
    let faults = [Fault::Kill, Fault::Eio, Fault::Enospc].into_iter();
    for (fault, call) in faults.flat_map(|fault| [(fault, Call::Write), (fault, Call::Sync)]) {
        points.extend((1..=calls).map(|at| Point { from: From::Crashed, fault, call, at }));
        // A start makes few calls, so few are enough; a small run draws some of them.
        for from in [From::Nothing, From::Old] {
            let part = if calls > 100 { 1.0 } else { 0.25 };
            points.extend((1..=calls.min(30)).filter(|_| random.chance(part)).map(|at| Point {
                from,
                fault,
                call,
                at,
            }));
        }
    }
    for place in (1..points.len()).rev() {
        points.swap(place, usize::try_from(random.below(place as u64 + 1)).expect("a place"));
    }
    if let Ok(name) = std::env::var("PUSHPULL_CHAOS_CASE") {
        points.retain(|point| point.to_string() == name);
        assert_eq!(points.len(), 1, "PUSHPULL_CHAOS_CASE={name} names no case of this size");
    }
    points
}

async fn run(bench: &Bench, point: Point, seed: u64, old: &Path, tally: &Mutex<Tally>) -> Result<(), Violation> {
    let log = bench.template().with_file_name("strace.log");
    let _ = std::fs::remove_file(&log);
    let name = format!("{seed}-{point}");
    let case = match point.from {
        From::Crashed => Case::new(bench, name),
        From::Nothing => Case::from_nothing(bench, name),
        From::Old => Case::new(bench, name),
    };
    match point.from {
        From::Crashed => bench.reset(),
        From::Nothing => bench.remove(),
        From::Old => {
            bench.remove();
            super::bench::copy(&old.join("pushpull.db"), bench.database.parent().expect("it is in a folder"));
        }
    }
    let result = async {
        let injection = strace::injection(point.fault, point.call, point.at);
        let said = bench.alpha.said_bytes();
        let begun = bench.alpha.start_as(strace::command(&log, &bench.database, Some(&injection))).await;
        let met = match up_or_ended(&bench.alpha, begun).await? {
            Start::Ready | Start::Full => load(bench, &case, point, &log, said).await?,
            Start::Ended(status) => point.judge_end(status, &bench.alpha.said_since(said)).map(|_| Met::AtStart)?,
        };
        bench.alpha.kill().await;
        wait_for_end(&log).await;
        let sectors = Traced::read(&log).cut_power(&mut Random::new(seed, &point.to_string()));
        let begun = bench.alpha.start().await;
        if let Start::Ended(status) = ready_or_ended(&bench.alpha, begun).await? {
            return Err(Violation::new(format!("it does not start again, {status}:\n{}", bench.alpha.last_words())));
        }
        case.consume().await?;
        for number in AGAIN..AGAIN + 2 {
            case.submit_both(number).await?;
        }
        let accepted = case.counts(0).1 + case.counts(1).1;
        case.settle().await?;
        let mut tally = tally.lock().expect("nobody panicked");
        tally.cases += 1;
        tally.met[met as usize] += 1;
        tally.sectors_lost += sectors;
        tally.accepted += accepted;
        Ok(())
    };
    let result = result.await;
    let result = match result {
        Err(violation) => {
            let evidence = case.evidence(&violation).await;
            Err(violation.with(&evidence))
        }
        Ok(()) => Ok(()),
    };
    bench.alpha.kill().await;
    result
}

/// Traffic both ways until the fault was met and a little beyond, or there is nothing left to submit. What the daemon has
/// said since its start begins at `said`.
async fn load(bench: &Bench, case: &Case<'_>, point: Point, log: &Path, said: u64) -> Result<Met, Violation> {
    let (mut refused, mut not_ready, mut since_met) = (0, 0, 0);
    let (mut full_since, mut full_for) = (None, Duration::ZERO);
    // Each SET needs at least two syncs.
    let most = 8 + usize::try_from(point.at + 2 * FULL_FOR).expect("a small number");
    let mut number = 0;
    while number < most && since_met < AFTER {
        let submitted = case.submit_both(number).await?;
        number += 1;
        if number % 3 == 0 {
            case.consume().await?;
        }
        if submitted == Submitted::NotNow {
            refused += 1;
            let since = *full_since.get_or_insert_with(Instant::now);
            full_for = since.elapsed();
            match bench.alpha.client().get("/readyz").await {
                Ok(answer) if answer.status == 503 => not_ready += 1,
                Ok(_) | Err(NoAnswer) => {}
            }
        }
        if let Some(status) = bench.alpha.ended().await {
            return point.judge_end(status, &bench.alpha.said_since(said));
        }
        let injected = Traced::read(log).injected;
        if submitted == Submitted::NoAnswer {
            // It is about to end, or has lost a connection; the next round tells.
            sleep(Duration::from_millis(20)).await;
        } else if injected > 0 && (point.fault != Fault::Enospc || injected >= FULL_FOR) {
            since_met += 1;
        }
    }
    let injected = Traced::read(log).injected;
    if injected == 0 {
        let traced = Traced::read(log);
        let calls = if point.call == Call::Write { traced.writes } else { traced.syncs };
        if calls > point.at + OTHER_THREADS {
            return Err(Violation::new(format!("{calls} calls were made, and the fault was never met")));
        }
        return Ok(Met::NotReached);
    }
    // A fault that has hit and that nobody minded is allowed for a full disk alone.
    if point.fault != Fault::Enospc || point.call == Call::Sync {
        let begun = Instant::now();
        while begun.elapsed() < READY_WITHIN {
            sleep(Duration::from_millis(5)).await;
            if let Some(status) = bench.alpha.ended().await {
                return point.judge_end(status, &bench.alpha.said_since(said));
            }
        }
        return Err(Violation::new("a write or sync has failed, and the daemon goes on"));
    }
    if full_for > PROBE_STANDS_FOR && not_ready == 0 {
        return Err(Violation::new(format!("the disk was full for {full_for:?}, and it called itself ready")));
    }
    let begun = Instant::now();
    if let Start::Ended(status) = ready_or_ended(&bench.alpha, begun).await? {
        return Err(Violation::new(format!("it has ended, {status}, because the disk was full")));
    }
    Ok(if refused > 0 { Met::Healed } else { Met::Unnoticed })
}

/// Strace writes its last lines when the daemon is gone already.
async fn wait_for_end(log: &Path) {
    for _ in 0..200 {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let open = text.lines().any(|line| line.contains("+++ killed by") || line.contains("+++ exited with"));
        if open {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
}

impl Point {
    /// Whether the daemon ended as this fault allows.
    fn judge_end(self, status: std::process::ExitStatus, said: &str) -> Result<Met, Violation> {
        let wrong = |what: &str| Err(Violation::new(format!("{what}: {status}\n{said}")));
        if said.contains("panicked") {
            return wrong("it panicked");
        }
        match self.fault {
            Fault::Kill if status.signal() == Some(9) => Ok(Met::Killed),
            Fault::Kill => wrong("it was to be killed, and ended otherwise"),
            Fault::Eio | Fault::Enospc if status.code() != Some(STORAGE_FAILED) => wrong("expected exit code 70"),
            Fault::Eio | Fault::Enospc if !said.contains("pushpull.db") => wrong("it does not name the file"),
            Fault::Enospc if self.call == Call::Write && !said.contains("disk is full") => {
                wrong("a full disk ended it")
            }
            Fault::Eio | Fault::Enospc => Ok(Met::Stopped),
        }
    }

    fn replay(self, seed: u64) -> String {
        format!(
            "PUSHPULL_CHAOS_SEED={seed} PUSHPULL_CHAOS_CALLS={} PUSHPULL_CHAOS_CASE={self} cargo test --test chaos disk::inject \
             -- --nocapture",
            sizes::calls()
        )
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, fault, call, at } = self;
        write!(f, "{}", format!("{from:?}-{fault:?}-{call:?}-{at}").to_lowercase())
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [killed, stopped, healed, unnoticed, at_start, not_reached] = self.met;
        write!(
            f,
            "{} cases: killed {killed}, ended with 70 {stopped}, full and healed {healed}, full for a checkpoint alone \
             {unnoticed}, while starting {at_start}, so many calls never came {not_reached}; power cuts took {} pieces; \
             {} SETs accepted, lost 0, doubled 0",
            self.cases, self.sectors_lost, self.accepted
        )
    }
}

//! A small file system that holds the database, fills up and is freed again, under load both ways, with kills between.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::bench::{Bench, Case, Start, Submitted, ready_or_ended};
use super::sizes;
use crate::plan::{Random, fresh_seed, number};
use crate::world::{Place, Violation};

const SIZE_MIB: u64 = 6;
/// How soon a full disk has to be noticed, under load, and how soon it heals.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);
const HEALED_WITHIN: Duration = Duration::from_secs(10);
/// Submissions that find it full.
const WHILE_FULL: usize = 10;
/// SETs each way before it fills and after it was freed.
const SOUND: usize = 10;

/// A file system of our own; unmounted when it is dropped.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path) -> Result<Self, String> {
        fs::create_dir_all(at).expect("a folder can be made");
        let size = format!("size={SIZE_MIB}m,mode=0700");
        let ended = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "pushpull-chaos"]).arg(at).output();
        match ended {
            Ok(ended) if ended.status.success() => Ok(Self(at.to_owned())),
            Ok(ended) => Err(format!("no right to mount: {}", String::from_utf8_lossy(&ended.stderr).trim())),
            Err(error) => Err(format!("mount cannot be started: {error}")),
        }
    }

    fn junk(&self) -> PathBuf {
        self.0.join("junk")
    }

    /// Writes junk until nothing fits any more.
    fn fill(&self) {
        let mut junk = File::options().create(true).append(true).open(self.junk()).expect("an empty file fits");
        for size in [1 << 16, 1 << 12, 1] {
            let junk_bytes = vec![7; size];
            while junk.write_all(&junk_bytes).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.junk()).expect("the junk is there");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[derive(Default)]
struct Tally {
    cycles: u64,
    refused: usize,
    not_ready: usize,
    accepted_while_full: usize,
    kills: usize,
    refused_starts: usize,
    accepted: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_disk_that_fills_up_and_is_freed_loses_and_doubles_nothing() {
    let seed = number("PUSHPULL_CHAOS_SEED").unwrap_or_else(fresh_seed);
    let cycles = sizes::fills();
    println!("chaos small disk: {cycles} cycles of {SIZE_MIB} MiB, PUSHPULL_CHAOS_SEED={seed}");
    let place = Place::new();
    let small = match Small::mount(&place.path().join("small")) {
        Ok(small) => small,
        Err(reason) => {
            crate::not_run(&format!(
                "chaos small disk: NOT RUN, 0 of {cycles} cycles: {reason} (the calls that find the disk full by strace \
                 stand in for a part of it)"
            ));
            return;
        }
    };
    let mut tally = Tally::default();
    let mut random = Random::new(seed, "small disk");
    let result = async {
        let bench = Bench::new(&place.path().join("pair"), Some(&small.0)).await?;
        for cycle in 0..cycles {
            bench.reset();
            let case = Case::new(&bench, format!("{seed}-small-{cycle}"));
            if let Err(violation) = fill_and_free(&bench, &case, &small, &mut random, &mut tally).await {
                let evidence = case.evidence(&violation).await;
                return Err(violation.with(&evidence));
            }
            bench.alpha.kill().await;
        }
        Ok::<_, Violation>(())
    };
    if let Err(violation) = result.await {
        let replay = format!(
            "PUSHPULL_CHAOS_SEED={seed} PUSHPULL_CHAOS_FILLS={cycles} cargo test --test chaos disk::small -- --nocapture"
        );
        drop(small);
        panic!("{}\nkept: {}", violation.in_case(&replay), place.keep().display());
    }
    let Tally { refused, not_ready, accepted_while_full, kills, refused_starts, accepted, .. } = tally;
    println!(
        "chaos small disk: ok, seed {seed}, {cycles} times full: {refused} submissions got 503, not ready {not_ready} times, \
         {accepted_while_full} still found room, {kills} kills while it was full, {refused_starts} starts refused; {accepted} \
         SETs accepted, lost 0, doubled 0"
    );
    assert_eq!(tally.cycles, cycles);
}

async fn fill_and_free(
    bench: &Bench,
    case: &Case<'_>,
    small: &Small,
    random: &mut Random,
    tally: &mut Tally,
) -> Result<(), Violation> {
    bench.alpha.start_and_wait().await?;
    let mut next = 0;
    for _ in 0..SOUND {
        case.submit_both(next).await?;
        next += 1;
    }
    small.fill();
    // What room the log has left is used first.
    let begun = Instant::now();
    while case.submit_both(next).await? != Submitted::NotNow {
        tally.accepted_while_full += 1;
        next += 1;
        if begun.elapsed() > NOTICED_WITHIN {
            return Err(Violation::new(format!("the disk is full since {NOTICED_WITHIN:?}, and it still accepts")));
        }
        small.fill();
    }
    let mut client = bench.alpha.client();
    let (mut refused, mut not_ready) = (1, 0);
    let begun = Instant::now();
    // Until it was seen not to be ready: the answer of a probe stands for half a second, and what is left of the log may
    // still take a few SETs.
    while refused < WHILE_FULL || not_ready == 0 {
        if begun.elapsed() > NOTICED_WITHIN {
            return Err(Violation::new(format!("{refused} submissions found the disk full, {not_ready} probes did")));
        }
        small.fill();
        next += 1;
        match case.submit_both(next).await? {
            Submitted::NotNow => refused += 1,
            Submitted::Accepted => tally.accepted_while_full += 1,
            Submitted::NoAnswer => return Err(Violation::new("it does not answer while the disk is full")),
        }
        case.consume().await?;
        match client.get("/readyz").await {
            Ok(answer) if answer.status == 503 => not_ready += 1,
            Ok(_) => {}
            Err(_) => return Err(Violation::new("the probes do not answer while the disk is full")),
        }
        bench.alpha.alive().await?;
        sleep(Duration::from_millis(20)).await;
    }
    tally.refused += refused;
    tally.not_ready += not_ready;
    if random.chance(0.5) {
        bench.alpha.kill().await;
        tally.kills += 1;
        // It may start, and say that it is not ready; or refuse, and say why.
        let (said, begun) = (bench.alpha.said_bytes(), bench.alpha.start().await);
        sleep(random.time(Duration::from_millis(600))).await;
        if let Some(status) = bench.alpha.ended().await {
            let said = bench.alpha.said_since(said);
            if status.code() != Some(70) || !said.contains("disk is full") {
                return Err(Violation::new(format!(
                    "it ended {:?} after a start on a full disk: {status}\n{said}",
                    begun.elapsed()
                )));
            }
            tally.refused_starts += 1;
        }
    }
    small.free();
    if !bench.alpha.is_running().await {
        bench.alpha.start().await;
    }
    let begun = Instant::now();
    match ready_or_ended(&bench.alpha, begun).await? {
        Start::Ready if begun.elapsed() <= HEALED_WITHIN => {}
        found => {
            // A start that met the full disk a moment before it was freed.
            let words = bench.alpha.last_words();
            if !matches!(found, Start::Ended(status) if status.code() == Some(70) && words.contains("disk is full")) {
                return Err(Violation::new(format!("it does not heal: {found:?}, {:?}\n{words}", begun.elapsed())));
            }
            tally.refused_starts += 1;
            bench.alpha.start_and_wait().await?;
        }
    }
    for _ in 0..SOUND {
        next += 1;
        case.submit_both(next).await?;
    }
    tally.accepted += case.counts(0).1 + case.counts(1).1;
    tally.cycles += 1;
    case.settle().await
}

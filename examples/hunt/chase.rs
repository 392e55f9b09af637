//! One hunt after the other, on all cores: federations with the bug in them until the judge finds a violation.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use pushpull::planted::{self, Bug};
use pushpull::random::Random;

use crate::disks;
use crate::sim::campaign;
use crate::sim::judge::Invariant;
use crate::sim::options::Options;

/// What is looked for: a bug, for the how manyth time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hunt {
    pub(crate) bug: Option<Bug>,
    pub(crate) number: u64,
    /// Federations after which it is given up.
    pub(crate) seeds_max: u64,
}

/// How a hunt ended.
#[derive(Debug)]
pub(crate) struct Caught {
    pub(crate) hunt: Hunt,
    /// Federations that were run, the last one included.
    pub(crate) seeds: u64,
    /// Nothing, if the hunt was given up.
    pub(crate) found: Option<Found>,
    /// Seeds that show a violation without the bug as well: they prove nothing of it, and something is wrong.
    pub(crate) innocent: Vec<Found>,
}

/// A violation.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) seed: u64,
    pub(crate) invariant: String,
    pub(crate) what: String,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what: String = self.what.chars().take(160).collect();
        write!(f, "{} (seed {}): {what}", self.invariant, self.seed)
    }
}

/// Goes on all these hunts.
pub(crate) fn all(hunts: Vec<Hunt>, base: u64, jobs: usize, report: fn(&Caught)) -> Vec<Caught> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(hunt) = hunts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let caught = chase(*hunt, base);
                    report(&caught);
                    done.lock().expect("nobody panics with it").push(caught);
                }
            });
        }
    });
    let mut done = done.into_inner().expect("nobody panics with it");
    done.sort_by_key(|caught| (caught.hunt.bug, caught.hunt.number));
    done
}

fn chase(hunt: Hunt, base: u64) -> Caught {
    let (mut seeds, mut innocent) = (seeds(hunt, base), Vec::new());
    for count in 1..=hunt.seeds_max {
        let seed = seeds.next_u64();
        let Some(found) = run(hunt.bug, seed, false) else { continue };
        match run(None, seed, false) {
            None => return Caught { hunt, seeds: count, found: Some(found), innocent },
            Some(anyhow) => innocent.push(anyhow),
        }
    }
    Caught { hunt, seeds: hunt.seeds_max, found: None, innocent }
}

/// The seeds of a hunt: no two hunts share any.
fn seeds(hunt: Hunt, base: u64) -> Random {
    let bug = hunt.bug.map_or(0, |bug| bug as u64);
    Random::new(Random::new(base ^ (bug << 32) ^ hunt.number).next_u64())
}

/// As many federations without a bug, in none of which there may be a violation: all that there are.
pub(crate) fn control(base: u64, count: u64, jobs: usize) -> Vec<Found> {
    let (next, found) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let seed = seeds(Hunt { bug: None, number, seeds_max: 1 }, base).next_u64();
                    found.lock().expect("nobody panics with it").extend(run(None, seed, false));
                }
            });
        }
    });
    found.into_inner().expect("nobody panics with it")
}

/// Runs one federation with this bug in it.
pub(crate) fn run(bug: Option<Bug>, seed: u64, trace: bool) -> Option<Found> {
    planted::plant(bug);
    let options = Options { bugs: disks::bugs(bug), ..Options::draw(seed) };
    if trace {
        println!("{options}");
    }
    let outcome = campaign::judged(options, trace);
    planted::plant(None);
    let what = outcome.violations.into_iter().next()?;
    let invariant = outcome.judge.violation().map_or_else(|| unjudged(&what), |breach| breach.invariant.name());
    Some(Found { seed, invariant: invariant.to_owned(), what })
}

/// What is broken where it needs no judge to be seen.
fn unjudged(what: &str) -> &'static str {
    if what.starts_with("not quiet") {
        Invariant::L1.name()
    } else if what.starts_with("handed over again") {
        Invariant::I7.name()
    } else if what.starts_with("more under way") {
        Invariant::I16.name()
    } else if what.starts_with("damage in silence") {
        Invariant::I18.name()
    } else if ["spins", "looks at its clock", "runs away"].iter().any(|told| what.contains(told)) {
        Invariant::L6.name()
    } else {
        PANIC
    }
}

/// What no invariant explains.
pub(crate) const PANIC: &str = "panic";

/// What shows a violation again, with everything that happened before it.
pub(crate) fn replay_command(bug: Option<Bug>, seed: u64) -> String {
    let bug = bug.map_or_else(String::new, |bug| format!(" --bug {}", bug.name()));
    format!("{}{bug} --replay {seed}", crate::COMMAND)
}

//! Many seeds at once, and what they come to.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use super::disk::Faults;
use super::event::Role;
use super::judge::{Bounds, Calls, Invariant, Judge, Limits, Tally, isolated};
use super::options::{Kind, MemberPlan, Method, Options, PairPlan, SMALL_MAX};
use super::paths::{EXPECTED, Ear, SELDOM};
use super::run::{self, Outcome};
use super::world::luck;

/// How many, and which.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// All seeds come out of this one; a single seed is this one itself.
    pub base: u64,
    pub seeds: u64,
    pub trace: bool,
    pub threads: usize,
    pub besides: Besides,
}

/// What is done with a seed besides running it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Besides {
    /// One in some is run twice, another one with and without its hostile members.
    #[default]
    Sometimes,
    /// Each is run twice.
    Twice,
    /// Each is run with and without its hostile members.
    Isolated,
}

/// What they came to.
#[derive(Debug, Default)]
pub struct Sum {
    pub seeds: u64,
    pub organisations: u64,
    pub hostile: u64,
    pub sets: u64,
    pub events: u64,
    pub kinds: u64,
    pub lasted: Duration,
    /// Seeds that were run twice, to the same hash.
    pub repeated: u64,
    /// SETs that were given up, and had reached the application.
    pub delivered_unacknowledged: u64,
    /// Seeds that were run with and without their hostile members, and SETs whose end was compared.
    pub isolated: u64,
    pub isolated_sets: usize,
    /// How many seeds met this, and how often it was met in all.
    pub met: BTreeMap<&'static str, (u64, u64)>,
    /// How often the judge put what to the test.
    pub tally: Tally,
    pub failures: Vec<Failure>,
}

/// A seed that broke something.
#[derive(Clone, Debug)]
pub struct Failure {
    pub seed: u64,
    pub violations: Vec<String>,
    /// Run once, it breaks nothing: it takes this.
    pub takes: Besides,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} broke:", self.seed)?;
        self.violations.iter().try_for_each(|violation| writeln!(f, "  {violation}"))?;
        let how = match self.takes {
            Besides::Sometimes => "--trace",
            Besides::Twice => "--twice",
            Besides::Isolated => "--isolated",
        };
        write!(f, "  replay: cargo run --release --example simulate -- --seeds 1 --seed {} {how}", self.seed)
    }
}

/// So many failing seeds are enough.
const FAILURES_MAX: usize = 5;

/// One seed in so many is run with and without what its hostile members do.
const ISOLATED_EVERY: u64 = 20;

/// One seed in so many is run twice.
const REPEATED_EVERY: u64 = 100;

impl Plan {
    /// The seed of a number.
    pub fn seed(&self, number: u64) -> u64 {
        if self.seeds == 1 { self.base } else { luck(self.base, &[number]).next_u64() >> 16 }
    }

    /// Whether this is done with the seed of a number.
    fn is_due(&self, what: Besides, number: u64) -> bool {
        let chosen = match what {
            Besides::Sometimes => return false,
            Besides::Twice => number.is_multiple_of(REPEATED_EVERY),
            Besides::Isolated => number % ISOLATED_EVERY == 1,
        };
        self.besides == what || (self.besides == Besides::Sometimes && chosen && !self.trace)
    }

    /// Runs them all, on so many threads. `progress` hears after each how many are done, and what the last one broke.
    pub fn run(&self, progress: impl Fn(u64, Option<&Failure>) + Sync) -> Sum {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            // Another one may be listening already: then the paths that only the log tells of are not counted.
            let _ = tracing::subscriber::set_global_default(Ear);
        });
        let (next, enough) = (AtomicU64::new(0), AtomicBool::new(false));
        let sum = Mutex::new(Sum::default());
        std::thread::scope(|scope| {
            for _ in 0..self.threads.max(1) {
                scope.spawn(|| {
                    while !enough.load(Ordering::Relaxed) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= self.seeds {
                            return;
                        }
                        let seed = self.seed(number);
                        let outcome = one(seed, self.trace);
                        let again = self.is_due(Besides::Twice, number).then(|| one(seed, false));
                        let alone = self.is_due(Besides::Isolated, number).then(|| isolation(seed));
                        let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                        let failed = sum.add(outcome, again, alone.flatten());
                        if sum.failures.len() >= FAILURES_MAX {
                            enough.store(true, Ordering::Relaxed);
                        }
                        let done = sum.seeds;
                        drop(sum);
                        progress(done, failed.as_ref());
                    }
                });
            }
        });
        sum.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs one seed under the judge.
pub fn one(seed: u64, trace: bool) -> Outcome<Judge> {
    let options = Options::draw(seed);
    if trace {
        println!("{options}");
    }
    judged(options, trace)
}

/// Runs one federation under the judge.
pub fn judged(options: Options, trace: bool) -> Outcome<Judge> {
    let judge = judge(&options);
    let mut outcome = run::run(options, judge, trace);
    let breach = outcome.judge.violation().map(ToString::to_string);
    outcome.violations.splice(0..0, breach);
    outcome
}

/// Runs the federation of a seed with and without what its hostile members do: how many SETs between the others ended, and
/// what ended otherwise (I14). None where nobody is hostile.
pub fn isolation(seed: u64) -> Option<Result<usize, String>> {
    let loud = Options::draw(seed).isolated()?;
    let mute = Options { mute: true, ..loud.clone() };
    let [with, without] = [judged(loud, false), judged(mute, false)];
    let breach = with.violations.first().or(without.violations.first());
    Some(match breach {
        Some(breach) => Err(format!("isolated: {breach}")),
        None => isolated(&with.judge, &without.judge).map_err(|difference| difference.to_string()),
    })
}

/// For how long a partner may ask not to be spoken to.
pub fn asked_for(faults: &super::options::Faults) -> Duration {
    if faults.refuse > 0 { Duration::from_secs(3600) } else { Duration::ZERO }
}

/// For so long a clock is suspect after it was set.
const SUSPECT: Duration = Duration::from_secs(600);

fn longest_pause(options: &Options) -> Duration {
    options.members.iter().map(|plan| plan.peer.retry_max).max().unwrap_or_default()
}

/// How long it may take from healing until every SET has ended.
pub fn settle_within(options: &Options) -> Duration {
    let patience = |plan: &MemberPlan| plan.peer.retry_max * plan.peer.attempts_max;
    let longest = options.members.iter().map(patience).max().unwrap_or_default();
    // Whoever finds an inbox full tries again after a pause, and each time only so many find room.
    let crowds = options.members.iter().map(|member| {
        let to_it = |pair: &PairPlan| pair.ends.iter().position(|end| *end == member.org).map(|end| pair.sets[1 - end]);
        let sets: u64 = options.pairs.iter().filter_map(to_it).map(|sets| sets as u64).sum();
        u32::try_from(sets / member.inbox_max).unwrap_or(u32::MAX)
    });
    // Who takes small objects alone refuses many larger ones, with longer and longer pauses.
    let small = options.members.iter().map(|plan| plan.limits.sets_per_object_max).min().unwrap_or(usize::MAX);
    let sets: usize = options.pairs.iter().flat_map(|pair| pair.sets).sum();
    let bisecting = if small <= SMALL_MAX { Duration::from_secs(120) * (sets / small) as u32 } else { Duration::ZERO };
    // An object may be on its way for ten minutes.
    longest
        + longest_pause(options) * crowds.max().unwrap_or_default()
        + Duration::from_secs(40 + 600)
        + bisecting
        + asked_for(&options.faults)
}

/// A judge who knows how this federation is configured.
pub fn judge(options: &Options) -> Judge {
    let others = options.members.len() as u64;
    let longest_pause = longest_pause(options);
    let faults = &options.faults;
    // What came waits for keys, for a process that is stopped, and for a disk.
    let is_prompt = !faults.pause && faults.disk == Faults::default();
    let asked_for = asked_for(faults);
    let clocks_believed_within = if faults.clocks { SUSPECT } else { Duration::ZERO };
    let bounds = Bounds {
        clocks_believed_within,
        asked_for,
        verdict_within: Duration::from_secs(if is_prompt { 10 } else { 180 }),
        links_are_heard_at_once: is_prompt,
        settle_within: settle_within(options),
        // The last thing that an Initiator does before healing may be to wait for a minute, or for three speak intervals.
        // What could not be judged for want of keys has to come once more, after the longest pause.
        answer_within: Duration::from_secs(150) + longest_pause * 2,
        repeat_within: Duration::from_secs(60),
        repeat_objects: 32,
        // Both may ask each second, and each is answered; the minutes of two are not the same.
        empty_objects_per_minute: 300,
        ..Bounds::default()
    };
    let mut judge = Judge::new(Limits::default(), bounds);
    for plan in &options.members {
        let limits = Limits {
            peer: plan.peer.clone(),
            inbox_max: plan.inbox_max,
            inbox_slack: plan.inbox_max.saturating_mul(others.saturating_sub(2)),
            ..Limits::default()
        };
        judge.configure(plan.org, limits);
    }
    for pair in &options.pairs {
        let Kind::Calls(methods) = pair.kind else { continue };
        for (side, method) in methods.into_iter().enumerate() {
            let how = match method {
                Method::Push => Calls::AtOnce,
                Method::MultiPush => Calls::WithAny,
                // Whoever polls tells all that it owes.
                Method::Poll => continue,
            };
            judge.calls(pair.ends[side], pair.ends[1 - side], how);
        }
    }
    judge
}

impl Sum {
    fn add(
        &mut self,
        outcome: Outcome<Judge>,
        again: Option<Outcome<Judge>>,
        alone: Option<Result<usize, String>>,
    ) -> Option<Failure> {
        let Outcome { options, hash, events, sets, mut violations, met, lasted, judge } = outcome;
        let mut takes = Besides::Sometimes;
        self.tally.add(judge.tally());
        self.delivered_unacknowledged += judge.delivered_unacknowledged;
        if let Some(again) = again {
            self.repeated += 1;
            if (again.hash, again.events) != (hash, events) {
                if violations.is_empty() {
                    takes = Besides::Twice;
                }
                violations.push(format!(
                    "the same seed did not happen the same way twice: {events} events, and then {}",
                    again.events
                ));
            }
        }
        match alone {
            Some(Ok(sets)) => (self.isolated, self.isolated_sets) = (self.isolated + 1, self.isolated_sets + sets),
            Some(Err(difference)) => {
                if violations.is_empty() {
                    takes = Besides::Isolated;
                }
                violations.push(difference);
            }
            None => {}
        }
        self.seeds += 1;
        self.organisations += options.members.len() as u64;
        self.hostile += options.members.iter().filter(|member| member.role == Role::Hostile).count() as u64;
        self.sets += sets;
        self.events += events;
        self.kinds += options.faults.kinds() as u64;
        self.lasted += lasted;
        for (what, count) in met {
            let (seeds, all) = self.met.entry(what).or_default();
            *seeds += 1;
            *all += count;
        }
        let failure = (!violations.is_empty()).then_some(Failure { seed: options.seed, violations, takes });
        self.failures.extend(failure.clone());
        failure
    }

    /// What federations of enough seeds have to be on average, and are not.
    pub fn too_small(&self) -> Option<String> {
        let [organisations, sets] =
            [self.organisations, self.sets].map(|count| count as f64 / self.seeds.max(1) as f64);
        let is_small = organisations < 3.0 || sets < 200.0;
        is_small
            .then(|| format!("{organisations:.1} organisations and {sets:.0} SETs: 3 and 200 are wanted on average"))
    }

    /// What was expected and never met, and what the judge never put to the test.
    pub fn unmet(&self, besides: Besides) -> Vec<&'static str> {
        let paths = EXPECTED.iter().filter(|(_, key)| !self.met.contains_key(key)).map(|(name, _)| *name);
        // I14 is put to the test by two runs of a seed.
        let tested = |invariant: &Invariant| match invariant {
            Invariant::I14 => self.isolated_sets > 0 || besides == Besides::Twice,
            _ => self.tally.tested(*invariant) > 0,
        };
        paths.chain(Invariant::ALL.iter().filter(|invariant| !tested(invariant)).map(|i| i.name())).collect()
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_seed = |count: u64| count as f64 / self.seeds.max(1) as f64;
        writeln!(
            f,
            "{} seeds; a seed on average: {:.1} organisations ({:.1} hostile), {:.0} SETs, {:.1} kinds of fault, {:.0} events, \
             {:.0} simulated minutes; {} seeds run twice; {} with and without hostile members, {} SETs between others compared; {} SETs were given up that had been delivered",
            self.seeds,
            per_seed(self.organisations),
            per_seed(self.hostile),
            per_seed(self.sets),
            per_seed(self.kinds),
            per_seed(self.events),
            self.lasted.as_secs_f64() / 60.0 / self.seeds.max(1) as f64,
            self.repeated,
            self.isolated,
            self.isolated_sets,
            self.delivered_unacknowledged
        )?;
        writeln!(f, "{:>9} {:>12}  met", "of seeds", "times")?;
        for (name, key) in EXPECTED.iter().chain(SELDOM) {
            let (seeds, all) = self.met.get(key).copied().unwrap_or_default();
            writeln!(f, "{:>8.2}% {all:>12}  {name}", 100.0 * per_seed(seeds))?;
        }
        write!(f, "{:>12}  put to the test\n{}", "times", self.tally)
    }
}

//! Sizes and schedule of one run, all drawn from one seed.

use std::time::Duration;

use crate::Link;

/// What one run does.
pub(crate) struct Plan {
    pub(crate) link: Link,
    pub(crate) seed: u64,
    /// Events each way.
    pub(crate) events: usize,
    /// Least number of kills of each side.
    pub(crate) kills: usize,
    /// In the order of `at`.
    pub(crate) blows: Vec<Blow>,
}

/// One blow against one side, or against both at once.
pub(crate) struct Blow {
    /// The part of all the work, from 0 to 1, that is done when it falls.
    pub(crate) at: f64,
    pub(crate) targets: [bool; 2],
    pub(crate) moment: Moment,
    /// Time from the kill to the restart, for each side.
    pub(crate) down: [Duration; 2],
    /// Kills that follow the restart.
    pub(crate) again: Vec<Again>,
}

/// When exactly a blow falls, once its turn has come.
#[derive(Clone, Copy)]
pub(crate) enum Moment {
    After(Duration),
    /// So long after this side, one of the targets, was given a batch of events to take in.
    InSubmission(usize, Duration),
    /// At the very moment at which this side, one of the targets, said that a batch is accepted.
    Accepted(usize),
    /// So long after the partner of this side, one of the targets, said so: the batch is on its way to the target then.
    Arriving(usize, Duration),
}

/// A kill of a side that has just been started again.
#[derive(Clone, Copy)]
pub(crate) enum Again {
    /// So long after the process was started: most of the time before it is ready.
    InRecovery(Duration),
    /// As soon as it is ready.
    WhenReady,
}

/// Events each way and kills of each side, where the environment says nothing.
const EVENTS: usize = 1_000;
const KILLS: usize = 2;

impl Plan {
    pub(crate) fn from_environment(link: Link) -> Self {
        let seed = number("PUSHPULL_CHAOS_SEED").unwrap_or_else(fresh_seed);
        let events = number("PUSHPULL_CHAOS_EVENTS").map_or(EVENTS, |events| events as usize);
        let kills = number("PUSHPULL_CHAOS_KILLS").map_or(KILLS, |kills| kills as usize);
        let blows = blows(kills, &mut Random::new(seed, "blows"));
        Self { link, seed, events, kills, blows }
    }

    /// Nobody is killed.
    pub(crate) fn calm(link: Link, events: usize) -> Self {
        let seed = number("PUSHPULL_CHAOS_SEED").unwrap_or_else(fresh_seed);
        Self { link, seed, events, kills: 0, blows: Vec::new() }
    }

    pub(crate) fn opening(&self) -> String {
        format!(
            "chaos {:?}: {} events each way, {} kills of each side or more, PUSHPULL_CHAOS_SEED={}",
            self.link, self.events, self.kills, self.seed
        )
    }

    /// Randomness of its own for each part of the run, so that one part's luck with time does not change another's.
    pub(crate) fn random(&self, part: &str) -> Random {
        Random::new(self.seed, part)
    }
}

/// Draws blows until each side gets its kills, then spreads them over the work.
fn blows(kills: usize, random: &mut Random) -> Vec<Blow> {
    let mut given = [0; 2];
    let mut blows = Vec::new();
    while given.iter().any(|given| *given < kills) {
        let targets = match random.below(10) {
            0..=2 => [true, true],
            3..=5 => [true, false],
            6..=8 => [false, true],
            // Whoever got fewer so far.
            _ => [given[0] <= given[1], given[1] < given[0]],
        };
        let side = if targets == [true, true] { random.below(2) as usize } else { usize::from(targets[1]) };
        let moment = match random.below(6) {
            0 => Moment::Accepted(side),
            1 => Moment::InSubmission(side, random.time(Duration::from_millis(25))),
            2 | 3 => Moment::Arriving(side, random.time(Duration::from_millis(25))),
            _ => Moment::After(random.time(Duration::from_millis(200))),
        };
        let mut again = Vec::new();
        while again.len() < 2 && random.chance(0.35) {
            again.push(match random.chance(0.7) {
                true => Again::InRecovery(random.time(Duration::from_millis(60))),
                false => Again::WhenReady,
            });
        }
        let longest = if random.chance(0.15) { Duration::from_secs(2) } else { Duration::from_millis(250) };
        let down = [random.time(longest), random.time(longest)];
        for (given, target) in given.iter_mut().zip(targets) {
            *given += if target { 1 + again.len() } else { 0 };
        }
        blows.push(Blow { at: 0.0, targets, moment, down, again });
    }
    let count = blows.len() as f64;
    for (index, blow) in blows.iter_mut().enumerate() {
        // One in each stretch of the work, anywhere in it; none when the work is all but done.
        blow.at = (index as f64 + random.fraction()) / count * 0.97 + 0.005;
    }
    blows
}

pub(crate) fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a whole number, and is {text:?}")))
}

pub(crate) fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    // Short enough to be typed again.
    RandomState::new().hash_one(std::process::id()) % 1_000_000_000
}

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64, part: &str) -> Self {
        let mut random = Self(seed);
        for byte in part.bytes() {
            random.0 = random.0.rotate_left(7) ^ u64::from(byte);
            random.next();
        }
        random
    }

    /// Below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.fraction() < probability
    }

    /// From 0 to below 1.
    pub(crate) fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Another source, which this one decides.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }

    /// Shorter than `longest`.
    pub(crate) fn time(&mut self, longest: Duration) -> Duration {
        longest.mul_f64(self.fraction())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

//! What a seed decides before anything happens. Everything that is drawn is here, and printed.

use std::fmt;
use std::time::Duration;

use pushpull::random::Random;

use super::disk;
use super::event::{Org, Role};
use super::world::{luck, pick, strikes};

/// One federation.
#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    pub members: Vec<MemberPlan>,
    pub pairs: Vec<PairPlan>,
    /// How long things go wrong.
    pub chaos: Duration,
    /// The kinds of trouble there are.
    pub faults: Faults,
}

/// One organisation.
#[derive(Clone, Debug)]
pub struct MemberPlan {
    pub org: Org,
    pub role: Role,
    pub peer: pushpull::peer::Config,
    pub limits: pushpull::wire::Limits,
    pub inbox_max: u64,
    pub rotates: bool,
    pub operates: bool,
    /// How long its application takes over what it reads.
    pub reads_for: Duration,
    /// How many rows it asks for.
    pub rows: usize,
}

/// How two organisations reach each other: the first is the one with the lower number.
#[derive(Clone, Debug)]
pub struct PairPlan {
    pub ends: [Org; 2],
    /// Which of them dial.
    pub dials: [bool; 2],
    pub kind: Kind,
    pub speak_interval: Duration,
    pub ping_interval: Duration,
    /// SETs from the first to the second, and the other way.
    pub sets: [usize; 2],
    /// The longest time on the way when nothing is wrong.
    pub latency: Duration,
}

/// What they speak.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Websocket,
    Http,
    /// The first dials by WebSocket, the second by HTTP.
    Both,
    /// WebSockets are possible at times only.
    Switched,
}

/// How often, in a thousand chances (or, where it says so, a day), each kind of trouble comes. Zero: never.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// An exchange, request or answer, is lost.
    pub drop: u64,
    pub duplicate: u64,
    /// An object takes up to ten minutes.
    pub delay: u64,
    pub truncate: u64,
    /// An answer of 400, 401, 413, 429 or 503 by something on the way.
    pub refuse: u64,
    /// A connection is reset.
    pub reset: bool,
    /// One direction goes dark for a while, or both.
    pub partition: bool,
    /// Processes are killed, so often in a thousand of their events.
    pub kill: u64,
    pub pause: bool,
    pub clocks: bool,
    pub keys: bool,
    pub apps: u64,
    pub disk: disk::Faults,
}

impl Options {
    /// All that this seed decides.
    pub fn draw(seed: u64) -> Self {
        let mut random = luck(seed, &[1]);
        let count = pick(&mut random, &[2, 2, 3, 3, 3, 3, 4, 4, 5]);
        let faults = Faults::draw(&mut random);
        let members: Vec<MemberPlan> = (0..count).map(|n| MemberPlan::draw(seed, n, count)).collect();
        let total = pick(&mut random, &[60, 100, 150, 200, 250, 300, 400, 500]);
        let mut pairs = Vec::new();
        for first in 0..count {
            for second in first + 1..count {
                pairs.push(PairPlan::draw(seed, Org(first), Org(second)));
            }
        }
        let share = total / (2 * pairs.len());
        for pair in &mut pairs {
            let sets = share / 2 + random.below(share as u64 + 1) as usize;
            pair.sets = [sets, 2 * share - sets];
        }
        let chaos = Duration::from_secs(pick(&mut random, &[60, 300, 600, 1800, 3600]));
        Self { seed, members, pairs, chaos, faults }
    }

    pub fn pair(&self, one: Org, other: Org) -> &PairPlan {
        let ends = [one.min(other), one.max(other)];
        self.pairs.iter().find(|pair| pair.ends == ends).expect("every two are a pair")
    }
}

impl Faults {
    fn draw(_random: &mut Random) -> Self {
        Self::default()
    }
}

impl MemberPlan {
    fn draw(seed: u64, number: u8, _count: u8) -> Self {
        let mut random = luck(seed, &[2, u64::from(number)]);
        let role = Role::Honest;
        let secs = Duration::from_secs;
        let peer = pushpull::peer::Config {
            window: pick(&mut random, &[1, 3, 8, 32, 256, 4096]),
            window_bytes: pick(&mut random, &[1 << 10, 8 << 10, 64 << 10, 16 << 20]),
            retry_first: pick(&mut random, &[secs(1), secs(1), secs(2), secs(5)]),
            retry_max: pick(&mut random, &[secs(10), secs(60), secs(300)]),
            ..pushpull::peer::Config::default()
        };
        let limits = pushpull::wire::Limits {
            object_bytes_max: pick(&mut random, &[4 << 10, 16 << 10, 64 << 10, 4 << 20]),
            ..pushpull::wire::Limits::default()
        };
        Self {
            org: Org(number),
            role,
            peer,
            limits,
            inbox_max: pick(&mut random, &[3, 20, 1000, 1_000_000]),
            rotates: strikes(&mut random, 250),
            operates: strikes(&mut random, 250),
            reads_for: pick(&mut random, &[Duration::ZERO, Duration::from_millis(10), secs(1)]),
            rows: pick(&mut random, &[1, 7, 100]),
        }
    }
}

impl PairPlan {
    fn draw(seed: u64, first: Org, second: Org) -> Self {
        let mut random = luck(seed, &[3, u64::from(first.0), u64::from(second.0)]);
        let kind = pick(&mut random, &[Kind::Websocket, Kind::Websocket, Kind::Http, Kind::Both, Kind::Switched]);
        let dials = if kind == Kind::Both {
            [true, true]
        } else {
            pick(&mut random, &[[true, false], [false, true], [true, true]])
        };
        Self {
            ends: [first, second],
            dials,
            kind,
            speak_interval: Duration::from_secs(pick(&mut random, &[1, 5, 30])),
            ping_interval: Duration::from_secs(20),
            sets: [0, 0],
            latency: Duration::from_millis(pick(&mut random, &[1, 10, 100, 500])),
        }
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {} organisations, chaos for {:?}", self.seed, self.members.len(), self.chaos)?;
        writeln!(f, "  {:?}", self.faults)?;
        for member in &self.members {
            writeln!(f, "  {member:?}")?;
        }
        for pair in &self.pairs {
            writeln!(f, "  {pair:?}")?;
        }
        Ok(())
    }
}

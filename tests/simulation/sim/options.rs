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
    /// What the stores do wrong on purpose.
    pub bugs: disk::Bugs,
    /// Hostile organisations do nothing, to see whether that makes a difference to the others.
    pub mute: bool,
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
    /// Each by a method that carries SETs one way: the first, and the second.
    Calls([Method; 2]),
}

/// By what SETs go one way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    Push,
    MultiPush,
    Poll,
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
    /// Processes are killed now and then…
    pub kills: bool,
    /// …and so often in a thousand of their events.
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
        // Whoever gives up soon does so only in company that has room for everything.
        let bytes_max = pick(&mut random, &[4 << 10, 16 << 10, 64 << 10, 2 << 20]);
        let hurried = strikes(&mut random, 300);
        let members: Vec<MemberPlan> = (0..count).map(|n| MemberPlan::draw(seed, n, hurried, bytes_max)).collect();
        let total = pick(&mut random, &[100, 200, 300, 350, 400, 450, 500, 500, 500]);
        let mut pairs = Vec::new();
        for first in 0..count {
            for second in first + 1..count {
                pairs.push(PairPlan::draw(seed, Org(first), Org(second)));
            }
        }
        for pair in &mut pairs {
            // The hostile ones speak push-pull.
            let friends = pair.ends.iter().all(|org| members[usize::from(org.0)].role != Role::Hostile);
            let mut random = luck(seed, &[4, u64::from(pair.ends[0].0), u64::from(pair.ends[1].0)]);
            if friends && strikes(&mut random, 350) {
                let mut method = || pick(&mut random, &[Method::Push, Method::MultiPush, Method::Poll]);
                (pair.kind, pair.dials) = (Kind::Calls([method(), method()]), [false, false]);
            }
        }
        let share = total / (2 * pairs.len());
        for pair in &mut pairs {
            let sets = share / 2 + random.below(share as u64 + 1) as usize;
            pair.sets = [sets, 2 * share - sets];
        }
        let chaos = Duration::from_secs(pick(&mut random, &[60, 300, 600, 1800, 3600]));
        Self { seed, members, pairs, chaos, faults, bugs: disk::Bugs::default(), mute: false }
    }

    /// The same federation as one in which everything between two members depends on those two, and on nothing that they
    /// share with others: none if nobody in it is hostile.
    pub fn isolated(mut self) -> Option<Self> {
        if self.members.iter().all(|member| member.role != Role::Hostile) {
            return None;
        }
        let Faults { drop, duplicate, delay, truncate, refuse, reset, partition, .. } = self.faults;
        self.faults = Faults { drop, duplicate, delay, truncate, refuse, reset, partition, ..Faults::default() };
        for member in &mut self.members {
            (member.operates, member.rotates) = (false, false);
            member.inbox_max = 1_000_000;
            // Where patience or room ends it is time that decides, and any message more or less makes it another time.
            (member.peer.outbox_max, member.peer.attempts_max) = (1_000_000, 20);
            member.peer.give_up_after = Duration::from_secs(72 * 3600);
            member.peer.age_max = Duration::from_secs(14 * 86_400);
            if member.role == Role::Forgetful {
                member.role = Role::Honest;
            }
        }
        Some(self)
    }

    /// By what calls SETs go from one to the other, if they do.
    pub fn method(&self, from: Org, to: Org) -> Option<Method> {
        let pair = self.pair(from, to);
        let Kind::Calls(methods) = pair.kind else { return None };
        Some(methods[usize::from(pair.ends[0] != from)])
    }

    pub fn pair(&self, one: Org, other: Org) -> &PairPlan {
        let ends = [one.min(other), one.max(other)];
        self.pairs.iter().find(|pair| pair.ends == ends).expect("every two are a pair")
    }
}

impl Faults {
    fn draw(random: &mut Random) -> Self {
        let mut faults = Self::default();
        // Many seeds have none or one, so that each is also met alone.
        let count = pick(random, &[0, 1, 1, 1, 2, 3, 4, 6, 9, 18]);
        for _ in 0..count {
            faults.add(random);
        }
        faults
    }

    fn add(&mut self, random: &mut Random) {
        let often = pick(random, &[10, 50, 200]);
        let share = pick(random, &[0.001, 0.01, 0.03]);
        match random.below(18) {
            0 => self.drop = often,
            1 => self.duplicate = often,
            2 => self.delay = often,
            3 => self.truncate = often,
            4 => self.refuse = often,
            5 => self.reset = true,
            6 => self.partition = true,
            7 => (self.kills, self.kill) = (true, 0),
            8 => (self.kills, self.kill) = (true, pick(random, &[1, 5, 20])),
            9 => self.pause = true,
            10 => self.clocks = true,
            11 => self.keys = true,
            12 => self.apps = pick(random, &[5, 50]),
            13 => {
                self.disk.slow = pick(random, &[0.1, 0.5, 1.0]);
                self.disk.latency = Duration::from_millis(pick(random, &[5, 100, 2000]));
            }
            14 => (self.disk.write_fails, self.disk.sync_fails) = (share, share),
            15 => self.disk.fills = share,
            16 => (self.disk.unknown, self.disk.recovery_dies, self.kills) = (share, 0.2, true),
            _ => self.disk.flips = share,
        }
    }

    /// How many kinds there are.
    pub fn kinds(&self) -> usize {
        let rates = [self.drop, self.duplicate, self.delay, self.truncate, self.refuse, self.kill, self.apps];
        let flags = [self.reset, self.partition, self.kills, self.pause, self.clocks, self.keys];
        let disk = &self.disk;
        let shares = [disk.slow, disk.write_fails, disk.fills, disk.unknown, disk.flips];
        rates.iter().filter(|rate| **rate > 0).count()
            + flags.iter().filter(|flag| **flag).count()
            + shares.iter().filter(|share| **share > 0.0).count()
    }
}

/// SETs in an object, of which somebody takes no more.
pub const SMALL_MAX: usize = 12;

impl MemberPlan {
    fn draw(seed: u64, number: u8, hurried: bool, bytes_max: usize) -> Self {
        let mut random = luck(seed, &[2, u64::from(number)]);
        // There is always somebody to whom promises are kept, and somebody who keeps them.
        let role = if number < 2 {
            pick(&mut random, &[Role::Honest, Role::Honest, Role::Honest, Role::Honest, Role::Slow])
        } else {
            pick(&mut random, &[Role::Honest, Role::Lazy, Role::Slow, Role::Forgetful, Role::Hostile, Role::Hostile])
        };
        let secs = Duration::from_secs;
        let is_patient = !hurried;
        let peer = pushpull::peer::Config {
            window: pick(&mut random, &[1, 3, 8, 32, 256, 4096]),
            window_bytes: pick(&mut random, &[1 << 10, 8 << 10, 64 << 10, 16 << 20]),
            retry_first: pick(&mut random, &[secs(1), secs(1), secs(2), secs(5)]),
            retry_max: pick(&mut random, &[secs(10), secs(60), secs(300)]),
            attempts_max: if is_patient { 20 } else { pick(&mut random, &[2, 5]) },
            give_up_after: if is_patient { secs(72 * 3600) } else { secs(pick(&mut random, &[30, 300])) },
            outbox_max: pick(&mut random, &[20, 200, 1_000_000, 1_000_000]),
            owed_max: pick(&mut random, &[1000, 65_536]),
            refusals_per_second: if is_patient { pick(&mut random, &[1, 100]) } else { 100 },
            age_max: secs(if is_patient {
                14 * 86_400
            } else {
                pick(&mut random, &[14 * 86_400, 14 * 86_400, 300, 1800])
            }),
        };
        let limits = pushpull::wire::Limits {
            // Everybody keeps to half of its own limit as the best guess at the partner's. An Initiator that takes less than
            // that finds out by answers that it cannot read, each of which costs the SETs in it an attempt.
            object_bytes_max: bytes_max
                * if is_patient { pick(&mut random, &[1, 1, 2, 8]) } else { pick(&mut random, &[1, 2]) },
            // What is refused alone counts as an attempt; what is refused with others must never be given up for it, but
            // takes its time.
            sets_per_object_max: if is_patient { pick(&mut random, &[1000, 1000, 1000, SMALL_MAX]) } else { 1000 },
            ..pushpull::wire::Limits::default()
        };
        Self {
            org: Org(number),
            role,
            peer,
            limits,
            inbox_max: if is_patient { pick(&mut random, &[3, 20, 1000, 1_000_000]) } else { 1_000_000 },
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

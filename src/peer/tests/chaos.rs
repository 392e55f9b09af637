//! Random runs: loss, duplicates, cuts, crashes, full inboxes and poison, then healing; in the end every SET is settled
//! exactly once. `PUSHPULL_SEEDS` says how many seeds are run; `PUSHPULL_SEED` replays one.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::calls::Method;
use super::end::{Opinion, by_name, signed};
use super::link::Mode;
use super::pair::{Event, Left, Pair, Right, Seed, Side};
use crate::peer::{self, Config, Fate, Input, Outcome, Redrive};
use crate::random::Random;

#[test]
fn whatever_happens_every_set_is_settled_exactly_once() {
    if let Some(seed) = number("PUSHPULL_SEED") {
        println!("{}", run(seed, false).unwrap());
        return;
    }
    let seeds = number("PUSHPULL_SEEDS").unwrap_or(400);
    std::thread::scope(|scope| {
        for half in 0..2 {
            scope.spawn(move || {
                for seed in (half..seeds).step_by(2) {
                    let ran = catch_unwind(AssertUnwindSafe(|| run(seed, false)));
                    let broken = ran.map_or_else(|_| "panicked".to_owned(), |ran| ran.err().unwrap_or_default());
                    assert!(broken.is_empty(), "PUSHPULL_SEED={seed}: {broken}");
                }
            });
        }
    });
}

#[test]
fn the_checker_notices_when_outputs_are_performed_before_the_commit() {
    let caught = (0..100).find(|seed| run(*seed, true).is_err());
    assert!(caught.is_some(), "a hundred seeds passed although R1 was broken");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..4 {
        assert_eq!(run(seed, false).unwrap(), run(seed, false).unwrap());
    }
}

/// Something a run has in store.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Send(Side, usize),
    Crash(Side),
    Cut,
    Restore,
    Deafen(Side),
    /// Rows that the inbox takes beyond those it holds.
    Room(Side, u64),
    /// Nothing can be decided, or everything can again.
    Fog(Side, bool),
    Pause(Side, bool),
    /// An operator deals with one of the dead letters.
    Redrive(Side),
}

impl Pair {
    pub(super) fn act(&mut self, act: Act) {
        match act {
            Act::Send(side, count) => {
                let batch = self.random.next_u64() % 10_000;
                let kind = match self.random.below(20) {
                    0 => "wrong",
                    1 => "verification",
                    2 => "poison",
                    _ => "set",
                };
                let bytes = 50 + self.random.below(200) as usize;
                self.end(side).send((0..count).map(|n| format!("{kind}-{batch}-{n}")), bytes);
            }
            Act::Crash(side) => {
                self.crash(side);
                let pause = self.some_of(Duration::from_secs(2));
                self.schedule(pause, Event::Restart(side));
            }
            Act::Cut => self.cut(),
            Act::Restore => self.restore(),
            Act::Deafen(side) => self.link.deaf = Some(side),
            Act::Room(side, room) => self.end(side).inbox_max = self.end(side).store.inbox.len() as u64 + room,
            Act::Fog(side, on) => self.end(side).opinion = foggy(on),
            Act::Pause(side, on) => {
                let act = if on { peer::Act::Pause } else { peer::Act::Resume };
                self.input(side, Input::Operator(act));
            }
            Act::Redrive(side) => {
                let dead = self.end(side).store.dead.len() as u64;
                if dead == 0 {
                    return;
                }
                let (place, how) = (self.random.below(dead) as usize, self.random.below(3));
                let Some(letter) = self.end(side).store.dead.values().nth(place) else { return };
                let (seq, jti) = (letter.memory.seq, letter.jti.clone());
                let how = match how {
                    0 => Redrive::Discard,
                    1 => Redrive::Reissue(signed(&format!("{jti}~"), 100)),
                    _ => Redrive::Resend,
                };
                // Sometimes twice, as when two people look after the same thing.
                for _ in 0..=self.random.below(2) {
                    self.end(side).redrive(seq, how.clone());
                }
            }
        }
    }

    /// Sends what was given up again, as long as it may be taken.
    fn resend_all(&mut self) {
        for side in [Left, Right] {
            let given_up = |letter: &&peer::DeadLetter| {
                let dead = matches!(letter.memory.fate, Fate::Settled { outcome: Outcome::Dead(_), .. });
                dead && !letter.jti.as_str().starts_with("poison")
            };
            let seqs: Vec<u64> =
                self.end(side).store.dead.values().filter(given_up).map(|letter| letter.memory.seq).collect();
            for seq in seqs {
                self.end(side).redrive(seq, Redrive::Resend);
            }
        }
    }
}

fn foggy(on: bool) -> Box<dyn Fn(&str) -> Opinion> {
    if on { Box::new(|_| Opinion::Undecidable) } else { Box::new(by_name) }
}

/// One run; a line about it, or what was broken.
fn run(seed: u64, perform_before_commit: bool) -> Result<String, String> {
    let mut pair = prepare(seed);
    pair.perform_before_commit = perform_before_commit;
    pair.judge.blind = perform_before_commit;
    if perform_before_commit {
        pair.crashes = pair.crashes.max(20);
        pair.disk_time = Duration::from_millis(20);
    }
    run_until(&mut pair, |pair| pair.now > TROUBLE)?;
    heal(&mut pair);
    run_until(&mut pair, |pair| pair.quiet())?;
    pair.resend_all();
    run_until(&mut pair, |pair| pair.quiet())?;
    let broken = settle_accounts(&pair);
    if broken.is_empty() { Ok(summary(&pair)) } else { Err(format!("{broken:#?}")) }
}

/// Attempts that are enough on every link here.
const PATIENT: u32 = 16;

/// How long there is trouble.
const TROUBLE: Duration = Duration::from_secs(15);

/// Draws what this run will meet; many meet one fault alone.
fn prepare(seed: u64) -> Pair {
    let mut dice = Random::new(seed ^ 0x5eed);
    let mode = [Mode::WEBSOCKET, Mode::HTTP, Mode::BOTH, Mode::CALLS, Mode::CALLS][dice.below(5) as usize];
    let methods = [(); 2].map(|()| Some(Method::ALL[dice.below(3) as usize]));
    // Where there is push-pull besides, some send by both.
    let methods = match mode.websocket || mode.http {
        true => methods.map(|method| method.filter(|_| dice.below(10) == 0)),
        false => methods,
    };
    let config = Config {
        window: [1, 2, 7, 64][dice.below(4) as usize],
        window_bytes: [300, 2_000, 1 << 20][dice.below(3) as usize],
        retry_first: Duration::from_millis(500),
        retry_max: Duration::from_secs(4),
        // So few that some are given up which could have been delivered.
        attempts_max: [PATIENT, PATIENT, 2][dice.below(3) as usize],
        give_up_after: Duration::from_secs(1),
        refusals_per_second: 1 + dice.below(50) as u32,
        owed_max: [3, 1000][dice.below(2) as usize],
        ..Config::default()
    };
    let mut pair = Pair::calling(Seed(seed), mode, methods, config);
    let mut chance = |percent: u64| dice.below(100) < percent;
    let (loss, doubling, busy, slow) = (chance(40), chance(40), chance(30), chance(30));
    let (cuts, deaf, crashes, boundary) = (chance(40), chance(30), chance(40), chance(40));
    let (full, fog, pauses, poison) = (chance(30), chance(25), chance(20), chance(30));
    let redrives = chance(50);
    pair.link.latency = Duration::from_millis(1 + dice.below(if slow { 1500 } else { 40 }));
    pair.link.jitter = Duration::from_millis(dice.below(50));
    pair.link.loss = if loss { 1 + dice.below(40) } else { 0 };
    pair.link.doubling = if doubling { 30 } else { 0 };
    pair.link.busy = if busy { 30 } else { 0 };
    pair.link.retry_after = Duration::from_millis(dice.below(2000));
    pair.link.answer_time = Duration::from_millis([0, 0, 700][dice.below(3) as usize]);
    pair.link.sets_max = [1, 5, 1000][dice.below(3) as usize];
    pair.link.response_sets_max = [1, 3, 1000][dice.below(3) as usize];
    pair.link.bytes_max = [400, 3_000, 1 << 20][dice.below(3) as usize];
    pair.disk_time = Duration::from_millis(dice.below(3) * 10);
    pair.crashes = if boundary { 4 } else { 0 };
    pair.doubt = dice.below(2) == 0;
    if poison {
        pair.link.rejects = Box::new(|object| object.sets.iter().any(|(jti, _)| jti.as_str().starts_with("poison")));
    }
    let mut plan = |act: fn(Side) -> Act, wanted: bool| {
        for _ in 0..if wanted { 1 + dice.below(4) } else { 0 } {
            let side = if dice.below(2) == 0 { Left } else { Right };
            let at = Duration::from_micros(dice.below(TROUBLE.as_micros() as u64));
            pair.schedule(at, Event::Chaos(act(side)));
        }
    };
    plan(|_| Act::Cut, cuts);
    plan(Act::Deafen, deaf);
    plan(|_| Act::Restore, cuts || deaf);
    plan(|_| Act::Restore, cuts || deaf);
    plan(Act::Crash, crashes);
    plan(|side| Act::Room(side, 0), full);
    plan(|side| Act::Room(side, 5), full);
    plan(|side| Act::Fog(side, true), fog);
    plan(|side| Act::Fog(side, false), fog);
    plan(|side| Act::Pause(side, true), pauses);
    plan(|side| Act::Pause(side, false), pauses);
    for _ in 0..4 {
        plan(Act::Redrive, redrives);
    }
    for _ in 0..3 {
        plan(|side| Act::Send(side, 1), true);
        plan(|side| Act::Send(side, 4), true);
    }
    plan(|side| Act::Send(side, 20), true);
    // Where everybody pushes, and is paused, nothing would happen any more before the trouble is over.
    pair.schedule(TROUBLE + Duration::from_millis(1), Event::Chaos(Act::Restore));
    pair
}

fn heal(pair: &mut Pair) {
    pair.restore();
    pair.crashes = 0;
    pair.link.loss = 0;
    pair.link.doubling = 0;
    pair.link.busy = 0;
    for side in [Left, Right] {
        pair.act(Act::Fog(side, false));
        pair.end(side).inbox_max = u64::MAX;
        if pair.end(side).config.attempts_max < PATIENT {
            // Who gives up early on a slow link would do so again, for ever.
            let patient = Config { attempts_max: PATIENT, ..(*pair.end(side).config).clone() };
            pair.end(side).config = Arc::new(patient);
            pair.crash(side);
        }
        pair.restart(side);
        pair.act(Act::Pause(side, false));
    }
}

/// Runs until `done`. That it takes for ever, or spins, is broken too.
fn run_until(pair: &mut Pair, done: impl Fn(&Pair) -> bool) -> Result<(), String> {
    let limit = pair.now + Duration::from_secs(3600);
    let steps = |pair: &Pair| pair.ends.iter().map(|end| end.steps).sum::<u64>();
    let (mut since, mut spun) = (pair.now, steps(pair));
    while !done(pair) {
        if !pair.run_to_next(limit) {
            return Err(format!("stalled: {:?}", pair.unsettled()));
        }
        if !pair.judge.violations.is_empty() {
            return Err(format!("{:#?}", pair.judge.violations));
        }
        if pair.now > since + Duration::from_secs(1) {
            (since, spun) = (pair.now, steps(pair));
        } else if steps(pair) > spun + 20_000 {
            return Err(format!("spins at {:?}", pair.now));
        }
    }
    Ok(())
}

/// What both ends hold in the end, against each other.
fn settle_accounts(pair: &Pair) -> Vec<String> {
    let mut broken = Vec::new();
    for side in [Left, Right] {
        let (end, other) = (&pair.ends[side as usize], &pair.ends[side.other() as usize]);
        let mut inbox: BTreeMap<&str, u32> = BTreeMap::new();
        other.delivered().into_iter().for_each(|jti| *inbox.entry(jti).or_default() += 1);
        for (jti, memory) in &end.store.sent {
            let copies = inbox.remove(jti.as_str()).unwrap_or(0);
            let Fate::Settled { outcome, .. } = &memory.fate else {
                broken.push(format!("{side:?}: {jti} is not settled"));
                continue;
            };
            let right = match outcome {
                Outcome::Acked => copies == u32::from(by_name(jti.as_str()) == Opinion::Valid),
                Outcome::Refused(_) => copies == 0 && by_name(jti.as_str()) == Opinion::Wrong,
                Outcome::Dead(_) => copies <= 1 && (jti.as_str().starts_with("poison") || memory.story.is_closed()),
            };
            if !right {
                broken.push(format!("{side:?}: {jti} ended as {outcome:?} with {copies} copies in the other inbox"));
            }
        }
        for letter in end.store.dead.values().filter(|letter| letter.memory.story.is_closed()) {
            broken.push(format!("{side:?}: {} is dealt with and still a dead letter", letter.jti));
        }
        for (jti, memory) in &end.store.sent {
            let [new, old] = [memory.story.reissued_as(), memory.story.reissue_of()];
            let story = |jti: &crate::set::Jti| end.store.sent.get(jti).map(|memory| &memory.story);
            let back = new.is_none_or(|new| story(new).and_then(peer::Story::reissue_of) == Some(jti));
            let forth = old.is_none_or(|old| story(old).and_then(peer::Story::reissued_as) == Some(jti));
            if !(back && forth) {
                broken.push(format!("{side:?}: the links of {jti} lead nowhere: {:?}", memory.story));
            }
        }
        if !inbox.is_empty() {
            broken.push(format!("{:?} holds what nobody sent: {inbox:?}", side.other()));
        }
    }
    broken
}

fn summary(pair: &Pair) -> String {
    let counts = [&pair.ends[0], &pair.ends[1]].map(|end| end.store.counts);
    let steps = pair.ends.iter().map(|end| end.steps).sum::<u64>();
    format!("{:?}, {steps} steps, {} objects, {counts:?}", pair.now, pair.log.len())
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

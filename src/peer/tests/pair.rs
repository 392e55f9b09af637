//! Two ends, a pretend link between them, and pretend time: the fixture of every test here. The same seed gives the
//! same run, and [`Judge`] watches all of it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::calls::{Calls, Method};
use super::end::{Committing, End, News};
use super::judge::Judge;
use super::link::{Link, Mode};
use crate::peer::{Config, Input, Outcome, Output, Page, Peer, Select, Transmission};
use crate::random::Random;
use crate::set::Jti;

#[derive(Clone, Copy, Debug)]
pub(super) struct Seed(pub(super) u64);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Side {
    Left = 0,
    Right = 1,
}

pub(super) use Side::{Left, Right};

impl Side {
    pub(super) fn other(self) -> Self {
        if self == Left { Right } else { Left }
    }
}

/// Something that happens at a given time.
#[derive(Debug)]
pub(super) enum Event {
    /// A step's commit has ended.
    Committed { side: Side, life: u64 },
    /// Rows have been read; `None` to look at them only now.
    Rows { side: Side, life: u64, select: Select, page: Option<Page> },
    /// A crashed end starts again.
    Restart(Side),
    /// Something on the link.
    Link(super::link::Event),
    /// Something on a call.
    Call(super::calls::Event),
    /// Something that a random run has in store.
    Chaos(super::chaos::Act),
}

/// An object that left.
#[derive(Debug)]
pub(super) struct Departure {
    pub(super) at: Duration,
    pub(super) side: Side,
    pub(super) sets: Vec<Jti>,
    pub(super) verdicts: Vec<Jti>,
}

pub(super) struct Pair {
    pub(super) ends: [End; 2],
    pub(super) link: Link,
    pub(super) calls: Calls,
    pub(super) judge: Judge,
    pub(super) now: Duration,
    pub(super) random: Random,
    /// All objects that were handed to a slot.
    pub(super) log: Vec<Departure>,
    /// Commits and reads take up to this long.
    pub(super) disk_time: Duration,
    /// A fixture switch: does what the core's contract forbids (R1).
    pub(super) perform_before_commit: bool,
    /// How often in a thousand commits an end crashes before it, after it, or amid performing.
    pub(super) crashes: u64,
    /// Writes are applied twice now and then: a commit whose outcome was unknown.
    pub(super) doubt: bool,
    events: BTreeMap<(Duration, u64), Event>,
    next_event: u64,
}

impl Pair {
    pub(super) fn new(seed: Seed, mode: Mode, config: Config) -> Self {
        Self::calling(seed, mode, [None, None], config)
    }

    /// With calls by these methods besides.
    pub(super) fn calling(seed: Seed, mode: Mode, methods: [Option<Method>; 2], config: Config) -> Self {
        let mut pair = Self {
            ends: [End::new(Left, config.clone()), End::new(Right, config)],
            link: Link::new(mode),
            calls: Calls::new(methods),
            judge: Judge::default(),
            now: Duration::ZERO,
            random: Random::new(seed.0),
            log: Vec::new(),
            disk_time: Duration::ZERO,
            perform_before_commit: false,
            crashes: 0,
            doubt: false,
            events: BTreeMap::new(),
            next_event: 0,
        };
        pair.connect_soon(Duration::ZERO);
        pair
    }

    pub(super) fn websocket(seed: Seed) -> Self {
        Self::new(seed, Mode::WEBSOCKET, Config::default())
    }

    pub(super) fn http(seed: Seed) -> Self {
        Self::new(seed, Mode::HTTP, Config::default())
    }

    /// Sends one SET of a hundred bytes.
    pub(super) fn send(&mut self, side: Side, jti: &str) {
        self.ends[side as usize].send([jti.to_owned()], 100);
    }

    /// Sends `name-0`, `name-1` and so on, in one go.
    pub(super) fn send_many(&mut self, side: Side, name: &str, count: usize) {
        self.ends[side as usize].send((0..count).map(|n| format!("{name}-{n}")), 100);
    }

    pub(super) fn input(&mut self, side: Side, input: Input) {
        self.ends[side as usize].news.push_back(News::Input(input));
    }

    /// Brings an object to `side` that its partner's core has not sent.
    pub(super) fn forge(&mut self, side: Side, object: Transmission) {
        self.ends[side as usize].news.push_back(News::Object { slot: None, object, asks_again: false });
    }

    pub(super) fn end(&mut self, side: Side) -> &mut End {
        &mut self.ends[side as usize]
    }

    pub(super) fn peer(&self, side: Side) -> &Peer {
        self.ends[side as usize].peer.as_ref().unwrap()
    }

    pub(super) fn outcome(&self, side: Side, jti: &str) -> Option<Outcome> {
        self.ends[side as usize].store.outcome(jti)
    }

    /// When a SET left, each time.
    pub(super) fn departures(&self, side: Side, jti: &str) -> Vec<Duration> {
        let carried = |object: &&Departure| object.side == side && object.sets.iter().any(|set| set.as_str() == jti);
        self.log.iter().filter(carried).map(|object| object.at).collect()
    }

    /// How often a verdict left.
    pub(super) fn answers(&self, side: Side, jti: &str) -> usize {
        let about = |object: &&Departure| object.side == side && object.verdicts.iter().any(|set| set.as_str() == jti);
        self.log.iter().filter(about).count()
    }

    /// The process of `side` ends, as by `kill -9`.
    pub(super) fn crash(&mut self, side: Side) {
        self.end(side).die();
        self.partner_gone(side);
    }

    pub(super) fn restart(&mut self, side: Side) {
        let (now, seed) = (self.now, self.random.next_u64());
        if self.end(side).peer.is_none() {
            self.end(side).start(now, seed);
        }
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.run_to_next(until) {}
        self.now = until;
    }

    /// Runs until every SET is settled; how long that took. Gives up after a simulated day.
    pub(super) fn run_until_quiet(&mut self) -> Duration {
        let start = self.now;
        let limit = start + Duration::from_secs(86_400);
        while !self.quiet() && self.run_to_next(limit) {}
        assert!(self.quiet(), "not settled after a day: {:?}", self.unsettled());
        self.now - start
    }

    pub(super) fn quiet(&self) -> bool {
        let done = |end: &End| {
            let settled = end.store.outbox.keys().all(|seq| end.store.damaged.contains(seq));
            settled && end.news.is_empty() && end.committing.is_none() && end.peer.is_some()
        };
        self.ends.iter().all(done)
    }

    pub(super) fn unsettled(&self) -> Vec<&Jti> {
        self.ends.iter().flat_map(|end| end.store.outbox.values().map(|row| &row.jti)).take(20).collect()
    }

    pub(super) fn schedule(&mut self, delay: Duration, event: Event) {
        self.next_event += 1;
        self.events.insert((self.now + delay, self.next_event), event);
    }

    /// Lets the next thing happen, unless it lies behind `until` or something is broken.
    pub(super) fn run_to_next(&mut self, until: Duration) -> bool {
        let dues = self.ends.iter().filter_map(|end| end.due(self.now));
        let event = self.events.keys().next().map(|(at, _)| *at);
        let Some(next) = dues.chain(event).min().filter(|next| *next <= until) else { return false };
        self.now = self.now.max(next);
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let event = entry.remove();
            self.happen(event);
        }
        for side in [Left, Right] {
            if self.ends[side as usize].due(self.now).is_some_and(|due| due <= self.now) {
                self.turn(side);
            }
        }
        assert!(self.judge.blind || self.judge.violations.is_empty(), "{:#?}", self.judge.violations);
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Committed { side, life } => {
                if self.ends[side as usize].life == life {
                    self.committed(side);
                }
            }
            Event::Rows { side, life, select, page } => {
                let end = self.end(side);
                if end.life == life {
                    let page = page.unwrap_or_else(|| end.store.read(&select));
                    end.news.push_back(News::Input(Input::OutboxRows(page)));
                }
            }
            Event::Restart(side) => self.restart(side),
            Event::Link(event) => self.on_link(event),
            Event::Call(event) => self.on_call(event),
            Event::Chaos(act) => self.act(act),
        }
    }

    /// Turns the crank of one end.
    fn turn(&mut self, side: Side) {
        self.ends[side as usize].gather_and_step(self.now, &mut self.judge);
        if self.perform_before_commit {
            let end = self.end(side);
            let outputs = end.committing.as_mut().map(|step| std::mem::take(&mut step.outputs));
            outputs.into_iter().flatten().for_each(|output| self.perform(side, output));
        }
        if self.disk_time.is_zero() {
            return self.committed(side);
        }
        let (delay, life) = (self.some_of(self.disk_time), self.ends[side as usize].life);
        self.schedule(delay, Event::Committed { side, life });
    }

    fn committed(&mut self, side: Side) {
        if self.crashes_now(side) {
            return;
        }
        let (first, last) = self.ends.split_at_mut(1);
        let (end, other) = if side == Left { (&mut first[0], &last[0]) } else { (&mut last[0], &first[0]) };
        let Some(Committing { writes, outputs }) = end.committing.take() else { return };
        end.commit(&writes, &other.store, &mut self.judge);
        if self.doubt {
            writes.iter().for_each(|write| {
                end.store.apply(write);
            });
        }
        if self.crashes_now(side) {
            return;
        }
        for output in outputs {
            self.perform(side, output);
            if self.crashes_now(side) {
                return;
            }
        }
    }

    fn crashes_now(&mut self, side: Side) -> bool {
        let now = self.random.below(1000) < self.crashes;
        if now {
            self.crash(side);
            let pause = self.some_of(Duration::from_secs(2));
            self.schedule(pause, Event::Restart(side));
        }
        now
    }

    fn perform(&mut self, side: Side, output: Output) {
        match output {
            Output::Transmit(slot, object) => {
                let end = &mut self.ends[side as usize];
                // The slot may have been closed while the commit ran: the core will learn it.
                let Some((spec, taken)) = end.slots.get_mut(&slot) else { return };
                self.judge.demand(!*taken, || format!("{side:?}: {slot:?} was given an object before it was ready"));
                *taken = true;
                let spec = *spec;
                self.judge.leaves(side, &end.store, spec, &object);
                let sets = object.sets.iter().map(|(jti, _)| jti.clone()).collect();
                let verdicts = object.verdicts.iter().map(|(jti, _)| jti.clone()).collect();
                self.log.push(Departure { at: self.now, side, sets, verdicts });
                self.transmit(side, slot, object);
            }
            Output::ReadOutbox(select) => {
                let end = &self.ends[side as usize];
                let life = end.life;
                // A read may see the store as it is when asked, or as it is when answered.
                let early = !self.disk_time.is_zero() && self.random.below(2) == 0;
                let page = early.then(|| self.ends[side as usize].store.read(&select));
                let delay = self.some_of(self.disk_time);
                self.schedule(delay, Event::Rows { side, life, select, page });
            }
            Output::Audit(audit) => self.end(side).audits.push(audit),
            Output::Redriven(done) => self.end(side).redriven.push(done),
            Output::Settled { .. } | Output::Received(_) => {}
        }
    }

    /// A time between nothing and all of it.
    pub(super) fn some_of(&mut self, time: Duration) -> Duration {
        Duration::from_micros(self.random.below(time.as_micros() as u64 + 1))
    }
}

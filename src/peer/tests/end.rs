//! One end of a pair: a peer, its store, and the crank (gather, step, commit, perform) that an actor turns.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::judge::Judge;
use super::pair::Side;
use super::store::Store;
use crate::clock::{Timestamp, Wall};
use crate::peer::{
    Act, Arrival, Audit, Config, Finding, Input, Inspected, Output, Peer, Redrive, Redriven, SlotId, SlotSpec, Step,
    Transmission, Unfit, Verdict, Write,
};
use crate::set::{Digest, ErrorCode, Jti, Refusal, SetErr, SignedSet};

/// When the wall clock stands at the start of every run.
pub(super) const START: Wall = Wall(1_700_000_000_000);

/// What an end makes of a SET that arrives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Opinion {
    Valid,
    Verification,
    Wrong,
    Undecidable,
}

/// News that waits to be gathered.
#[derive(Debug)]
pub(super) enum News {
    Input(Input),
    /// `asks_again`: as [`Inspected::asks_again`].
    Object {
        slot: Option<SlotId>,
        object: Transmission,
        asks_again: bool,
    },
}

/// A step whose commit is under way, or has just ended.
#[derive(Debug)]
pub(super) struct Committing {
    pub(super) writes: Vec<Write>,
    pub(super) outputs: Vec<Output>,
}

pub(super) struct End {
    pub(super) side: Side,
    pub(super) config: Arc<Config>,
    /// `None` while it is down.
    pub(super) peer: Option<Peer>,
    pub(super) store: Store,
    /// Counts restarts: an answer for a dead process must not reach its successor.
    pub(super) life: u64,
    pub(super) opinion: Box<dyn Fn(&str) -> Opinion>,
    /// Rows that the inbox may hold; the application takes none.
    pub(super) inbox_max: u64,
    /// How far its wall clock is ahead, in milliseconds, and whether that was noticed.
    pub(super) wall_ahead: i64,
    pub(super) suspect: bool,
    pub(super) news: VecDeque<News>,
    pub(super) committing: Option<Committing>,
    /// The open slots, with what they carry, and whether an object was handed over.
    pub(super) slots: BTreeMap<SlotId, (SlotSpec, bool)>,
    pub(super) drained: bool,
    pub(super) audits: Vec<Audit>,
    /// What became of an operator's acts.
    pub(super) redriven: Vec<Result<Redriven, Unfit>>,
    pub(super) steps: u64,
    pub(super) held_max: usize,
    started: Duration,
    wake: Option<Duration>,
    next_slot: u64,
}

impl End {
    pub(super) fn new(side: Side, config: Config) -> Self {
        let mut end = Self {
            side,
            config: Arc::new(config),
            peer: None,
            store: Store::default(),
            life: 0,
            opinion: Box::new(by_name),
            inbox_max: u64::MAX,
            wall_ahead: 0,
            suspect: false,
            news: VecDeque::new(),
            committing: None,
            slots: BTreeMap::new(),
            drained: false,
            audits: Vec::new(),
            redriven: Vec::new(),
            steps: 0,
            held_max: 0,
            started: Duration::ZERO,
            wake: None,
            next_slot: 0,
        };
        end.start(Duration::ZERO, 0);
        end
    }

    /// Starts the process, with what the store holds.
    pub(super) fn start(&mut self, now: Duration, seed: u64) {
        self.started = now;
        self.peer = Some(Peer::recover(Arc::clone(&self.config), &self.store.saved(), seed));
        self.wake = Some(Duration::ZERO);
        self.drained = false;
    }

    /// The process ends here and now: what is not in the store is gone.
    pub(super) fn die(&mut self) {
        self.peer = None;
        self.life += 1;
        self.news.clear();
        self.committing = None;
        self.slots.clear();
    }

    /// Asks for SETs to be sent, as an actor does: none that is known, none beyond the room.
    pub(super) fn send(&mut self, jtis: impl IntoIterator<Item = String>, bytes: usize) {
        let Some(peer) = &self.peer else { return };
        let news = self.news.iter().filter_map(|news| match news {
            News::Input(Input::Send(sets)) => Some(sets.iter().map(|set| set.jti.clone())),
            _ => None,
        });
        let writes = self.committing.iter().flat_map(|step| &step.writes).filter_map(|write| match write {
            Write::Enqueue(row) => Some(row.jti.clone()),
            _ => None,
        });
        let pending: HashSet<Jti> = news.flatten().chain(writes).collect();
        let mut sets: Vec<SignedSet> = Vec::new();
        for jti in jtis {
            let known = self.store.sent.contains_key(jti.as_str()) || pending.contains(jti.as_str());
            if !known && (sets.len() as u64) < peer.room() {
                sets.push(signed(&jti, bytes));
            }
        }
        self.news.push_back(News::Input(Input::Send(sets)));
    }

    /// Has an operator deal with a dead letter, as an actor does: read when nothing is being committed. False if it is not
    /// there.
    pub(super) fn redrive(&mut self, seq: u64, how: Redrive) -> bool {
        let Some(letter) = self.store.dead.get(&seq).filter(|_| self.committing.is_none()) else { return false };
        let act = Act::Redrive(Box::new(letter.clone()), how);
        self.news.push_back(News::Input(Input::Operator(act)));
        true
    }

    pub(super) fn open_slot(&mut self, spec: SlotSpec) -> SlotId {
        self.next_slot += 1;
        let id = SlotId(self.next_slot + (self.life << 32));
        self.slots.insert(id, (spec, false));
        self.news.push_back(News::Input(Input::SlotOpened(id, spec)));
        id
    }

    pub(super) fn close_slot(&mut self, id: SlotId, ending: crate::peer::Ending) {
        if self.slots.remove(&id).is_some() {
            self.news.push_back(News::Input(Input::SlotClosed(id, ending)));
        }
    }

    pub(super) fn ready(&mut self, id: SlotId) {
        if let Some((_, taken)) = self.slots.get_mut(&id) {
            *taken = false;
            self.news.push_back(News::Input(Input::SlotReady(id)));
        }
    }

    pub(super) fn alive(&mut self, id: SlotId) {
        self.news.push_back(News::Input(Input::SlotAlive(id)));
    }

    /// When it has something to do, if it has: at once for news.
    pub(super) fn due(&self, now: Duration) -> Option<Duration> {
        if self.peer.is_none() || self.committing.is_some() {
            return None;
        }
        if self.news.is_empty() { self.wake.map(|wake| wake + self.started) } else { Some(now) }
    }

    /// What its clocks say.
    pub(super) fn clock(&self, now: Duration) -> Timestamp {
        let wall = Wall(START.0.saturating_add_signed(self.wall_ahead) + now.as_millis() as u64);
        Timestamp { mono: now - self.started, wall, shown: wall, suspect: self.suspect }
    }

    /// Gathers all news and steps. What comes of it is being committed then.
    pub(super) fn gather_and_step(&mut self, now: Duration, judge: &mut Judge) {
        let at = self.clock(now);
        let Some(mut peer) = self.peer.take() else { return };
        for news in std::mem::take(&mut self.news) {
            let input = match news {
                News::Input(input) => input,
                News::Object { slot, object, asks_again } => {
                    Input::Arrived { slot, object: Inspected { asks_again, ..self.inspect(object) } }
                }
            };
            peer.handle_input(input, at);
        }
        let Step { writes, outputs, wake, drained, .. } = peer.step(at);
        self.steps += 1;
        if self.steps.is_multiple_of(1 + peer.outbox.entries.len() as u64 / 64) {
            peer.check();
        }
        self.held_max = self.held_max.max(peer.outbox.entries.len());
        judge.demand(wake.is_none_or(|(wake, _)| wake > at.mono), || {
            format!("{:?}: asks to be woken at {wake:?}, which is past at {:?}", self.side, at.mono)
        });
        self.wake = wake.map(|(wake, _)| wake);
        self.drained |= drained;
        self.peer = Some(peer);
        self.committing = Some(Committing { writes, outputs });
    }

    fn inspect(&self, object: Transmission) -> Inspected {
        let mut inspected = Inspected {
            inbox_room: self.inbox_max.saturating_sub(self.store.inbox.len() as u64),
            ..Inspected::default()
        };
        for (jti, verdict) in object.verdicts {
            match verdict {
                Verdict::Acked => inspected.acks.push(jti),
                Verdict::Refused(Refusal { code, description }) => {
                    inspected.errors.push((jti, SetErr { err: code.to_string(), description }));
                }
            }
        }
        for (jti, compact) in object.sets {
            let finding = match (self.opinion)(jti.as_str()) {
                Opinion::Valid => Finding::Deliver(Arc::clone(&compact)),
                Opinion::Verification => Finding::Acknowledge,
                Opinion::Wrong => Finding::Refuse(Refusal::new(ErrorCode::InvalidAudience, "not for us")),
                Opinion::Undecidable => Finding::Undecidable,
            };
            let known = self.store.seen.get(&jti).cloned();
            inspected.sets.push(Arrival {
                jti,
                digest: Digest::of(compact.as_bytes()),
                finding,
                known,
                issued_at: Wall(0),
                label: "other",
            });
        }
        inspected
    }

    /// The commit has ended: the writes are durable.
    pub(super) fn commit(&mut self, writes: &[Write], other: &Store, judge: &mut Judge) {
        for write in writes {
            let news = self.store.apply(write);
            judge.written(self.side, &self.config, other, write, news);
        }
        let counts = self.store.counts;
        judge.demand(counts.queued == self.store.outbox.len() as u64, || format!("{:?}: {counts:?}", self.side));
        let dead = self.store.dead.len() as u64;
        judge.demand(counts.dead_letters == dead, || format!("{:?}: {dead} dead, {counts:?}", self.side));
        judge.demand(counts.received == self.store.inbox.len() as u64, || format!("{:?}: {counts:?}", self.side));
        let shown = self.peer.as_ref().map(|peer| peer.stats().counts);
        judge.demand(shown.is_none_or(|shown| shown == counts), || format!("{:?}: {shown:?} {counts:?}", self.side));
    }

    /// What it remembers of a jti of its partner's.
    pub(super) fn verdict_on(&self, jti: &str) -> Option<Verdict> {
        match &self.store.seen.get(jti)?.fate {
            crate::peer::Fate::Answered(verdict) => Some(verdict.clone()),
            _ => None,
        }
    }

    /// Where the pretend application finds the received SETs.
    pub(super) fn delivered(&self) -> Vec<&str> {
        self.store.inbox.iter().map(|row| row.jti.as_str()).collect()
    }
}

/// The default opinion: the name says it.
pub(super) fn by_name(jti: &str) -> Opinion {
    match jti {
        jti if jti.starts_with("wrong") => Opinion::Wrong,
        jti if jti.starts_with("verification") => Opinion::Verification,
        jti if jti.starts_with("undecidable") => Opinion::Undecidable,
        _ => Opinion::Valid,
    }
}

/// A SET of about so many bytes.
pub(super) fn signed(jti: &str, bytes: usize) -> SignedSet {
    let compact = format!("{jti}.{}", "x".repeat(bytes.saturating_sub(jti.len() + 1)));
    let digest = Digest::of(jti.as_bytes());
    SignedSet { jti: jti.into(), digest, compact: compact.into(), label: "other", reissue_of: None }
}

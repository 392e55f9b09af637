//! One end alone, played by hand: for what depends on the exact order of news.

use std::sync::Arc;
use std::time::Duration;

use super::end::{START, signed};
use super::store::Store;
use crate::clock::{Timestamp, Wall};
use crate::peer::{
    Act, Arrival, Audit, Config, Ending, Finding, Input, Inspected, Jti, Output, Peer, Reason, Redrive, Redriven,
    SlotId, SlotSpec, Transmission, Unfit, Verdicts, WaitsFor,
};
use crate::set::Digest;

pub(super) struct Solo {
    pub(super) peer: Peer,
    pub(super) store: Store,
    /// Monotonic time; the wall clock runs along, `wall_ahead` milliseconds ahead.
    pub(super) now: Duration,
    pub(super) wall_ahead: i64,
    pub(super) suspect: bool,
    /// What was not an object, a read or a settlement.
    pub(super) audits: Vec<Audit>,
    /// What became of an operator's acts.
    pub(super) redriven: Vec<Result<Redriven, Unfit>>,
    pub(super) wake: Option<(Duration, Reason)>,
    pub(super) drained: bool,
    /// Rows are answered by hand.
    pub(super) slow_reads: bool,
    config: Arc<Config>,
    slots: u64,
}

impl Solo {
    pub(super) fn new(config: Config) -> Self {
        let (config, store) = (Arc::new(config), Store::default());
        Self {
            peer: Peer::recover(Arc::clone(&config), &store.saved(), 1),
            store,
            now: Duration::ZERO,
            wall_ahead: 0,
            suspect: false,
            audits: Vec::new(),
            redriven: Vec::new(),
            wake: None,
            drained: false,
            slow_reads: false,
            config,
            slots: 0,
        }
    }

    /// `kill -9`, and a new process.
    pub(super) fn restart(&mut self) {
        self.wall_ahead += self.now.as_millis() as i64;
        self.now = Duration::ZERO;
        self.peer = Peer::recover(Arc::clone(&self.config), &self.store.saved(), 2);
    }

    pub(super) fn clock(&self) -> Timestamp {
        let wall = Wall(START.0.saturating_add_signed(self.wall_ahead) + self.now.as_millis() as u64);
        Timestamp { mono: self.now, wall, shown: wall, suspect: self.suspect }
    }

    pub(super) fn input(&mut self, input: Input) {
        self.peer.handle_input(input, self.clock());
    }

    pub(super) fn send(&mut self, jtis: &[&str]) {
        self.input(Input::Send(jtis.iter().map(|jti| signed(jti, 100)).collect()));
    }

    /// Has an operator deal with the dead letter of this jti.
    pub(super) fn redrive(&mut self, jti: &str, how: Redrive) {
        let letter = self.store.dead.values().find(|letter| letter.jti.as_str() == jti).expect("a dead letter");
        self.input(Input::Operator(Act::Redrive(Box::new(letter.clone()), how)));
    }

    /// Opens a slot like a WebSocket's.
    pub(super) fn open(&mut self) -> SlotId {
        self.open_as(SPEC)
    }

    pub(super) fn open_as(&mut self, spec: SlotSpec) -> SlotId {
        self.slots += 1;
        self.input(Input::SlotOpened(SlotId(self.slots), spec));
        SlotId(self.slots)
    }

    pub(super) fn close(&mut self, slot: SlotId, ending: Ending) {
        self.input(Input::SlotClosed(slot, ending));
    }

    pub(super) fn lose(&mut self, slot: SlotId) {
        self.close(slot, Ending::Lost { retry_after: Duration::ZERO });
    }

    /// An object arrives: SETs with what is found of them, and acks.
    pub(super) fn arrive(&mut self, slot: Option<SlotId>, sets: &[(&str, Finding)], acks: &[&str], inbox_room: u64) {
        let sets = sets.iter().map(|(jti, finding)| self.arrival(jti, jti, finding.clone())).collect();
        let acks = acks.iter().map(|jti| Jti::from(*jti)).collect();
        self.input(Input::Arrived { slot, object: Inspected { sets, acks, inbox_room, ..Inspected::default() } });
    }

    /// A SET with these bytes, looked up in the store.
    pub(super) fn arrival(&self, jti: &str, bytes: &str, finding: Finding) -> Arrival {
        let known = self.store.seen.get(jti).cloned();
        Arrival {
            jti: jti.into(),
            digest: Digest::of(bytes.as_bytes()),
            finding,
            known,
            issued_at: Wall(0),
            label: "other",
        }
    }

    /// Steps, commits and performs, again while rows are read; the objects that left.
    pub(super) fn step(&mut self) -> Vec<(SlotId, Transmission)> {
        let (mut left, mut again) = (Vec::new(), true);
        while std::mem::take(&mut again) {
            let step = self.peer.step(self.clock());
            self.peer.check();
            step.writes.iter().for_each(|write| {
                self.store.apply(write);
            });
            (self.wake, self.drained) = (step.wake, step.drained);
            for output in step.outputs {
                match output {
                    Output::Transmit(slot, object) => left.push((slot, object)),
                    Output::ReadOutbox(select) if !self.slow_reads => {
                        let page = self.store.read(&select);
                        self.input(Input::OutboxRows(page));
                        again = true;
                    }
                    Output::Audit(audit) => self.audits.push(audit),
                    Output::Redriven(done) => self.redriven.push(done),
                    _ => {}
                }
            }
        }
        left
    }

    /// Steps after some time.
    pub(super) fn step_after(&mut self, time: Duration) -> Vec<(SlotId, Transmission)> {
        self.now += time;
        self.step()
    }

    /// Steps at every wake until `time` has passed.
    pub(super) fn pass(&mut self, time: Duration) -> Vec<(SlotId, Transmission)> {
        let until = self.now + time;
        let mut left = self.step();
        while let Some((at, _)) = self.wake.filter(|(at, _)| *at <= until) {
            assert!(at > self.now, "a wake that is past");
            self.now = at;
            left.extend(self.step());
        }
        self.now = until;
        left
    }
}

/// A slot that takes anything.
pub(super) const SPEC: SlotSpec =
    SlotSpec { sets_max: 1000, bytes_max: 1 << 20, verdicts: Verdicts::Any, waits_for: WaitsFor::Anything, by: None };

/// The jtis of the SETs in these objects.
pub(super) fn sets(objects: &[(SlotId, Transmission)]) -> Vec<&str> {
    objects.iter().flat_map(|(_, object)| &object.sets).map(|(jti, _)| jti.as_str()).collect()
}

/// The jtis of the verdicts in these objects.
pub(super) fn verdicts(objects: &[(SlotId, Transmission)]) -> Vec<&str> {
    objects.iter().flat_map(|(_, object)| &object.verdicts).map(|(jti, _)| jti.as_str()).collect()
}

/// A valid SET.
pub(super) fn valid() -> Finding {
    Finding::Deliver("token".into())
}

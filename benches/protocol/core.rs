//! The core alone, with windows of 10^2 to 10^5 SETs under way: what one SET costs from being accepted over leaving and
//! its ack to being settled, and what a received one costs from its arrival to its ack leaving.

use std::cell::LazyCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput};
use pushpull::clock::Timestamp;
use pushpull::peer::{
    Arrival, Config, Finding, Input, Inspected, Output, Peer, Saved, SlotId, SlotSpec, Verdicts, WaitsFor,
};
use pushpull::set::{Jti, SignedSet};

use crate::cpu::Cpu;
use crate::sample;

/// SETs in an object, and in a step.
const BATCH: usize = 64;

pub(crate) fn steps(criterion: &mut Criterion<Cpu>) {
    for window in [100, 1_000, 10_000, 100_000] {
        let mut group = criterion.benchmark_group(format!("core/{window}"));
        group.throughput(Throughput::Elements(BATCH as u64));
        // Filled only if it is measured.
        let mut ours = LazyCell::new(|| Conversation::new(window));
        group.bench_function("send", |bencher| {
            let ours = &mut *ours;
            bencher.iter_batched(|| sample::unsigned(BATCH), |sets| ours.send(sets), BatchSize::SmallInput);
        });
        let mut theirs = LazyCell::new(|| Conversation::new(window));
        group.bench_function("receive", |bencher| {
            let theirs = &mut *theirs;
            bencher.iter_batched(|| arrivals(BATCH), |sets| theirs.receive(sets), BatchSize::SmallInput);
        });
        group.finish();
    }
}

fn arrivals(count: usize) -> Vec<Arrival> {
    let arrival = |set: SignedSet| Arrival {
        jti: set.jti,
        digest: set.digest,
        finding: Finding::Deliver(set.compact),
        known: None,
        issued_at: sample::NOW.wall,
        label: set.label,
    };
    sample::unsigned(count).into_iter().map(arrival).collect()
}

/// A conversation in full swing: but for one batch, the window is full of SETs that are not answered yet.
struct Conversation {
    peer: Peer,
    under_way: VecDeque<Jti>,
    now: Timestamp,
}

const SLOT: SlotId = SlotId(1);

impl Conversation {
    fn new(window: usize) -> Self {
        let config =
            Config { window, window_bytes: usize::MAX, retry_max: Duration::from_secs(3600), ..Config::default() };
        let config = Config { retry_first: Duration::from_secs(3600), ..config };
        let peer = Peer::recover(Arc::new(config), &Saved::default(), 1);
        let mut this = Self { peer, under_way: VecDeque::new(), now: sample::NOW };
        let spec = SlotSpec {
            sets_max: 256,
            bytes_max: 1 << 20,
            verdicts: Verdicts::Any,
            waits_for: WaitsFor::Anything,
            by: None,
        };
        this.peer.handle_input(Input::SlotOpened(SLOT, spec), this.now);
        while this.under_way.len() + BATCH <= window {
            this.give(sample::unsigned(BATCH));
        }
        this
    }

    /// The oldest are acknowledged, and as many new ones leave.
    fn send(&mut self, sets: Vec<SignedSet>) {
        let count = sets.len().min(self.under_way.len());
        let object = Inspected { acks: self.under_way.drain(..count).collect(), ..Inspected::default() };
        self.hear(object);
        self.give(sets);
    }

    fn give(&mut self, sets: Vec<SignedSet>) {
        self.peer.handle_input(Input::Send(sets), self.now);
        self.step();
    }

    fn receive(&mut self, sets: Vec<Arrival>) {
        self.hear(Inspected { sets, inbox_room: 1_000_000, ..Inspected::default() });
    }

    fn hear(&mut self, object: Inspected) {
        self.peer.handle_input(Input::Arrived { slot: Some(SLOT), object }, self.now);
        self.step();
    }

    /// Steps until nothing more leaves; a store and a link that take no time.
    fn step(&mut self) {
        loop {
            self.now.mono += Duration::from_micros(1);
            let step = self.peer.step(self.now);
            let mut left = false;
            for output in step.outputs {
                if let Output::Transmit(slot, object) = output {
                    left = true;
                    self.under_way.extend(object.sets.into_iter().map(|(jti, _)| jti));
                    self.peer.handle_input(Input::SlotReady(slot), self.now);
                }
            }
            if !left {
                return;
            }
        }
    }
}

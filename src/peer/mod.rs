//! The core: our side of the conversation with one other Transceiver, as a value without I/O, clock or task.
//!
//! [`Peer::handle_input`] learns news, any number of times; [`Peer::step`] then answers once with what to make durable
//! and what to do afterwards. It knows nothing of sockets, stores, HTTP or WebSocket: those open and close *slots*.

mod config;
mod inbox;
mod input;
mod outbox;
mod output;
mod redrive;
mod row;
mod slots;
mod story;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub use config::Config;
pub use input::{
    Act, Arrival, Blame, Ending, Finding, Input, Inspected, Redrive, SlotId, SlotSpec, Verdicts, WaitsFor,
};
pub use output::{Audit, Figures, Output, Reason, Redriven, Retries, Stats, Step, Transmission, Unfit};
pub use row::{
    Counts, DeadLetter, DeadPage, DeathCause, Direction, Fate, InboxRow, OutboxRow, Outcome, Page, PeerId, Place,
    Remembered, Saved, Select, Stretch, Verdict, Write,
};
pub use story::{Chapter, Story};

use crate::clock::Timestamp;
use crate::planted::{self, Bug};
use crate::set::{Jti, SignedSet};
use inbox::Inbox;
use outbox::bisect::Parting;
use outbox::{Expiry, Outbox};
use slots::{Slot, Slots};

/// Our side of the conversation with one other Transceiver.
///
/// The caller's duty: **perform nothing of a [`Step`] before its writes are durable** (rule R1), then
/// 1. hand each [`Output::Transmit`] to its slot, and report [`Input::SlotReady`] or [`Input::SlotClosed`];
/// 2. answer each [`Output::ReadOutbox`] with [`Input::OutboxRows`];
/// 3. step again when there is news, or at [`Step::wake`].
///
/// If the process ends anywhere in between, [`Peer::recover`] continues from what the store holds, exactly as if every
/// exchange had been lost at that moment.
#[derive(Debug)]
pub struct Peer {
    config: Arc<Config>,
    outbox: Outbox,
    inbox: Inbox,
    slots: Slots,
    counts: Counts,
    paused: bool,
    /// Since when nothing new leaves.
    draining: Option<Duration>,
    /// At most so many verdicts in an object: fewer while the partner refuses objects with more.
    verdicts_max: usize,
    /// Verdicts had to stay behind for the sake of SETs; the next object is theirs.
    verdicts_turn: bool,
    /// Dead letters that were dealt with since the last step: the store does not know yet.
    lifted: HashMap<u64, Redriven>,
    writes: Vec<Write>,
    /// Of these, SETs to be queued, which `counts` does not know of yet.
    enqueued: u64,
    outputs: Vec<Output>,
    figures: Figures,
}

impl Peer {
    /// Continues from what the store holds. `seed` decides the jitter of retries and nothing else.
    pub fn recover(config: Arc<Config>, saved: &Saved, seed: u64) -> Self {
        Self {
            outbox: Outbox::new(Arc::clone(&config), saved, seed),
            inbox: Inbox::new(Arc::clone(&config)),
            config,
            slots: Slots::default(),
            counts: saved.counts,
            paused: saved.paused,
            draining: None,
            verdicts_max: VERDICTS_MAX,
            verdicts_turn: false,
            lifted: HashMap::new(),
            writes: Vec::new(),
            enqueued: 0,
            outputs: Vec::new(),
            figures: Figures::default(),
        }
    }

    /// Learns one piece of news. Nothing leaves before the next [`Peer::step`].
    pub fn handle_input(&mut self, input: Input, now: Timestamp) {
        match input {
            Input::Send(sets) => self.accept(sets, now),
            Input::Arrived { slot, object } => self.arrived(slot, object, now),
            Input::SlotOpened(id, spec) => self.slots.open(id, spec),
            Input::SlotReady(id) => {
                if let Some(slot) = self.slots.find(id) {
                    slot.in_hand = None;
                    let taken = std::mem::take(&mut slot.verdicts);
                    self.verdicts_taken(&taken);
                }
            }
            Input::SlotAlive(id) => self.heard(id, now.mono),
            Input::SlotClosed(id, ending) => {
                if let Some(slot) = self.slots.close(id) {
                    self.closed(id, slot, ending, now);
                }
            }
            Input::OutboxRows(page) => {
                let damaged = self.outbox.rows(page);
                if damaged > 0 {
                    self.outputs.push(Output::Audit(Audit::Damaged(damaged)));
                }
            }
            Input::Operator(act) => self.operate(act, now),
            Input::Drain => {
                self.draining.get_or_insert(now.mono);
            }
        }
    }

    /// Lets time pass, fills the slots, and returns all there is to do.
    pub fn step(&mut self, now: Timestamp) -> Step {
        self.pass_time(now);
        // Before the slots, so that a response knows whether there is something to wait for.
        if let Some(select) = self.outbox.want_rows() {
            self.outputs.push(Output::ReadOutbox(select));
        }
        for id in self.slots.speakers(now.mono) {
            self.fill(id, now.mono);
        }
        self.inbox.end_step();
        self.figures.retries = std::mem::take(&mut self.outbox.retries);
        self.lifted.clear();
        for write in &self.writes {
            self.counts.apply(write);
        }
        self.enqueued = 0;
        Step {
            writes: std::mem::take(&mut self.writes),
            outputs: std::mem::take(&mut self.outputs),
            wake: self.next_wake(now),
            drained: self.drained(now.mono),
            figures: std::mem::take(&mut self.figures),
        }
    }

    /// Figures for people. Totals are as of the last step.
    pub fn stats(&self) -> Stats {
        Stats {
            counts: self.counts,
            in_flight: self.outbox.in_flight(),
            waiting: self.outbox.waiting(),
            owed: self.inbox.owed(),
            oldest: self.outbox.entries.values().next().map(|entry| entry.accepted_at),
            paused: self.paused,
            room: self.room(),
            slots: self.slots.len(),
            damaged: self.outbox.damaged,
            ack_time: self.outbox.ack_time(),
        }
    }

    /// How many more SETs may be accepted before the outbox is full. The caller asks before [`Input::Send`].
    pub fn room(&self) -> u64 {
        self.config.outbox_max.saturating_sub(self.counts.queued + self.enqueued)
    }

    /// Where the SET stands if it is in memory and unsettled: whether it is under way, and its attempts.
    pub fn under_way(&self, jti: &Jti) -> Option<(bool, u32)> {
        self.outbox.standing(jti)
    }

    fn accept(&mut self, sets: Vec<SignedSet>, now: Timestamp) {
        for mut set in sets {
            let story = set.reissue_of.take().map(Chapter::ReissueOf);
            self.enqueue(set, story.map(|chapter| Story::default().and(chapter)).unwrap_or_default(), now);
        }
    }

    fn arrived(&mut self, slot: Option<SlotId>, object: Inspected, now: Timestamp) {
        if let Some(id) = slot {
            self.heard(id, now.mono);
            if let Some(slot) = self.slots.find(id) {
                slot.answered = true;
            }
        }
        let names: Vec<Jti> = match object.asks_again {
            true => object.sets.iter().map(|set| set.jti.clone()).collect(),
            false => Vec::new(),
        };
        let answers = object.acks.len() + object.errors.len();
        self.writes.reserve(answers + object.sets.len());
        self.outputs.reserve(answers);
        let acks = object.acks.into_iter().map(|jti| (jti, Outcome::Acked));
        let errors = object.errors.into_iter().map(|(jti, error)| (jti, Outcome::Refused(error)));
        let (mut unknown, mut read) = (0, None);
        for (jti, outcome) in acks.chain(errors) {
            match self.outbox.sent(&jti) {
                Some(seq) => {
                    read = read.or(self.outbox.suspect_by(seq));
                    self.figures.ack_times.extend(self.outbox.measure(seq, now.mono));
                    self.settle(seq, outcome, now);
                }
                None => unknown += 1,
            }
        }
        if answers > unknown {
            self.outbox.takes();
        }
        // A partner that holds the others back would keep all that waits behind this part for the longest time for an answer.
        if let Some((id, slot)) = read.and_then(|id| Some((id, self.slots.find(id)?))) {
            self.outbox.vouch(id, &slot.carried);
        }
        if unknown > 0 {
            self.outputs.push(Output::Audit(Audit::UnknownVerdicts(unknown)));
        }
        let tally = self.inbox.judge(object.sets, object.inbox_room, now, &mut self.writes);
        self.figures.duplicates += tally.duplicates;
        for (label, count) in tally.labels {
            match self.figures.received.iter_mut().find(|(known, _)| *known == label) {
                Some((_, before)) => *before += count,
                None => self.figures.received.push((label, count)),
            }
        }
        if tally.received > 0 {
            self.outputs.push(Output::Received(tally.received));
        }
        self.outputs.extend(tally.audits.into_iter().map(Output::Audit));
        if object.asks_again && !planted::is(Bug::UnheardIsOwed) {
            // Told by this slot or by nobody.
            let own = self.inbox.take_own(&names);
            if let Some(slot) = slot.and_then(|id| self.slots.find(id)).filter(|slot| slot.takes_its_own()) {
                slot.told.extend(own);
            }
        }
    }

    fn heard(&mut self, id: SlotId, now: Duration) {
        if let Some(slot) = self.slots.find(id) {
            slot.heard(now);
        }
    }

    fn settle(&mut self, seq: u64, outcome: Outcome, now: Timestamp) {
        let Some(entry) = self.outbox.remove(seq) else { return };
        if planted::is(Bug::AckNotWritten) && outcome == Outcome::Acked {
            return;
        }
        let after = now.wall.since(entry.accepted_at);
        self.outputs.push(Output::Settled { jti: entry.jti.clone(), outcome: outcome.clone(), after });
        self.writes.push(Write::Settle {
            seq,
            jti: entry.jti,
            digest: entry.digest,
            accepted_at: entry.accepted_at,
            outcome,
            at: now.wall,
            attempts: entry.attempts,
            story: entry.story,
        });
    }

    fn closed(&mut self, id: SlotId, mut slot: Slot, ending: Ending, now: Timestamp) {
        match ending {
            Ending::Delivered if planted::is(Bug::DeliveredIsAcked) && slot.spec.waits_for != WaitsFor::Anything => {
                return slot.carried.iter().for_each(|seq| self.settle(*seq, Outcome::Acked, now));
            }
            Ending::Delivered => {
                self.verdicts_taken(&slot.verdicts);
                return self.outbox.delivered(id, &slot.carried);
            }
            Ending::Lost { retry_after } => {
                let due = (!retry_after.is_zero()).then(|| now.mono + believed(retry_after));
                self.outbox.lost(id, &slot.carried, slot.heard_at, due, now.mono);
                if retry_after.is_zero() {
                    self.outbox.hasten(id, &slot.carried, now.mono);
                }
            }
            Ending::Rejected { retry_after, too_large } => {
                if !slot.verdicts.is_empty() {
                    self.verdicts_max = (slot.verdicts.len() / 2).max(1);
                }
                if slot.spec.sets_max == 0 && slot.verdicts.len() == 1 {
                    // The partner minds this very verdict, perhaps because it has heard it before. If not, the SET comes again
                    // and is told the same (R4); while this one comes first for ever nothing else would.
                    slot.verdicts.clear();
                }
                let why = if too_large { Parting::TooLarge } else { Parting::Refused };
                if let Some(alone) = self.outbox.rejected(id, &slot.carried, slot.heard_at, why, now.mono) {
                    let expiry = self.outbox.penalise(alone, believed(retry_after), true, now);
                    self.expired(alone, expiry, now);
                }
            }
            Ending::Failed { retry_after, blame } => {
                if retry_after.is_zero() {
                    self.outbox.hasten(id, &slot.carried, now.mono);
                }
                let alone = match blame {
                    Blame::Partner => self.outbox.put_last(id, &slot.carried, slot.heard_at, now.mono),
                    Blame::Set | Blame::Unknown => {
                        self.outbox.rejected(id, &slot.carried, slot.heard_at, Parting::Failed, now.mono)
                    }
                };
                if let Some(alone) = alone {
                    let expiry = self.outbox.penalise(alone, believed(retry_after), blame == Blame::Set, now);
                    self.expired(alone, expiry, now);
                }
            }
        }
        if planted::is(Bug::LostVerdictsForgotten) {
            return;
        }
        // Where only this slot could tell them they are asked for again.
        if slot.spec.verdicts != Verdicts::Own {
            for (jti, verdict) in slot.verdicts {
                self.inbox.owe(jti, verdict);
            }
        }
    }

    /// The partner has not minded these: there may be more of them in an object again.
    fn verdicts_taken(&mut self, verdicts: &[(Jti, Verdict)]) {
        if !verdicts.is_empty() {
            self.verdicts_max = (self.verdicts_max * 2).min(VERDICTS_MAX);
        }
    }

    fn operate(&mut self, act: Act, now: Timestamp) {
        let paused = match act {
            Act::Pause => true,
            Act::Resume => false,
            Act::Hurry => return self.outbox.hurry(),
            Act::Redrive(letter, how) => return self.redrive(*letter, how, now),
        };
        if paused != self.paused {
            self.paused = paused;
            self.writes.push(Write::Paused(paused));
        }
    }

    fn pass_time(&mut self, now: Timestamp) {
        while let Some((seq, via)) = self.outbox.next_expired(now.mono) {
            let exchanging = via.is_some_and(|(slot, _)| self.slots.is_exchanging(slot));
            if exchanging && self.outbox.wait_on(seq, now.mono) {
                continue;
            }
            let alive = via.is_some_and(|(slot, sent_at)| self.slots.heard_since(slot, sent_at));
            let expiry = self.outbox.expire(seq, now, alive);
            self.expired(seq, expiry, now);
        }
        for seq in self.outbox.overaged(now) {
            self.settle(seq, Outcome::Dead(DeathCause::Age), now);
        }
    }

    fn expired(&mut self, seq: u64, expiry: Expiry, now: Timestamp) {
        match expiry {
            Expiry::Quiet => {}
            Expiry::Attempted(_) if planted::is(Bug::AttemptsNeverWritten) => {}
            Expiry::Attempted(attempts) => self.writes.push(Write::Attempts { seq, attempts }),
            Expiry::Exhausted => self.settle(seq, Outcome::Dead(DeathCause::Attempts), now),
            Expiry::TooOld => self.settle(seq, Outcome::Dead(DeathCause::Age), now),
        }
    }

    /// Gives the slot an object if there is something to say, or if it has to speak.
    fn fill(&mut self, id: SlotId, now: Duration) {
        let Some(slot) = self.slots.find(id) else { return };
        let (mut spec, must_speak) = (slot.spec, slot.must_speak(now));
        if planted::is(Bug::ResponseEventsOffByOne) {
            spec.sets_max = spec.sets_max.saturating_add(1);
        }
        // A partner that cannot be dialled has its SETs by responses alone: one that went empty while they are read from
        // disk, as after a restart, would leave them there until it asks again.
        let can_wait = spec.waits_for == WaitsFor::Answers && spec.by.is_some_and(|by| by > now);
        if can_wait && spec.sets_max > 0 && !self.stopped() && self.outbox.is_about_to_have_more() {
            return;
        }
        let answers = spec.verdicts == Verdicts::Any && self.inbox.owed() > 0;
        let reserve = if answers { self.inbox.bytes().min(spec.bytes_max / 2) } else { 0 };
        let mut bytes = 0;
        let sets = if self.stopped() || (answers && self.verdicts_turn) {
            Vec::new()
        } else {
            self.outbox.take(id, now, spec.sets_max, |jti, compact| {
                let more = jti.as_str().len() + compact.len() + 8;
                let fits = bytes == 0 || bytes + more <= spec.bytes_max - reserve || planted::is(Bug::BytesUnbounded);
                bytes += if fits { more } else { 0 };
                fits
            })
        };
        // SETs that the partner may mind travel without verdicts, or those would be under suspicion too.
        let apart = sets.first().is_some_and(|(seq, _, _)| self.outbox.may_be_minded(*seq));
        let mut verdicts = if spec.verdicts == Verdicts::Own {
            self.slots.find(id).map(|slot| std::mem::take(&mut slot.told)).unwrap_or_default()
        } else if answers && !apart {
            self.inbox.take(self.verdicts_max, spec.bytes_max.saturating_sub(bytes), sets.is_empty())
        } else {
            Vec::new()
        };
        if planted::is(Bug::AckBesideError) {
            let refused = verdicts.clone().into_iter().filter(|(_, verdict)| *verdict != Verdict::Acked);
            verdicts.extend(refused.map(|(jti, _)| (jti, Verdict::Acked)));
        }
        if answers {
            self.verdicts_turn = verdicts.is_empty();
        }
        let more = spec.verdicts == Verdicts::None && !self.stopped() && self.outbox.has_more();
        // One that may carry no SETs is only told that there are some.
        let told = spec.waits_for == WaitsFor::Sets && spec.sets_max == 0 && more;
        if sets.is_empty() && verdicts.is_empty() && !must_speak && !told {
            return;
        }
        let outbox = &self.outbox;
        let Some(slot) = self.slots.find(id) else { return };
        slot.in_hand = Some(now);
        // An object that had to be sent anyway is not due again until the slot is opened anew or told another time.
        slot.spec.by = None;
        slot.answered = false;
        slot.verdicts.clone_from(&verdicts);
        slot.carry(sets.iter().map(|(seq, _, _)| *seq), |seq| outbox.left_last_by(seq, id));
        let sets = sets.into_iter().map(|(_, jti, compact)| (jti, compact)).collect();
        self.outputs.push(Output::Transmit(id, Transmission { sets, verdicts, more }));
    }

    fn stopped(&self) -> bool {
        (self.paused && !planted::is(Bug::PausedPeerSends)) || self.draining.is_some()
    }

    /// Nothing is owed any more, or there is no way to say it: the partner will ask again and be told then (R4).
    fn drained(&self, now: Duration) -> bool {
        let Some(since) = self.draining else { return false };
        // What a request under way has taken along is about to be answered.
        let said = self.inbox.owed() == 0 && !self.slots.carry_verdicts() && !self.slots.are_exchanging();
        said || (self.slots.len() == 0 && now >= since + SLOTLESS)
    }

    fn next_wake(&self, now: Timestamp) -> Option<(Duration, Reason)> {
        let timer =
            self.outbox.next_timer().map(|(at, retry)| (at, if retry { Reason::Retry } else { Reason::AckWait }));
        let timer = timer.filter(|_| !planted::is(Bug::WakeLost));
        let slot = self.slots.next_due().map(|at| (at, Reason::SlotDue));
        let age = self.outbox.next_overaged(now).map(|at| (at, Reason::Age));
        let drain = self.draining.map(|since| (since + SLOTLESS, Reason::Drain)).filter(|(at, _)| *at > now.mono);
        [timer, slot, age, drain].into_iter().flatten().min()
    }
}

#[cfg(test)]
impl Peer {
    /// Panics unless all bookkeeping agrees with a recount.
    fn check(&self) {
        self.outbox.check();
        self.inbox.check();
    }
}

/// What a partner asks for, up to [`RETRY_AFTER_MAX`].
fn believed(retry_after: Duration) -> Duration {
    retry_after.min(if planted::is(Bug::RetryAfterForEver) { Duration::MAX / 4 } else { RETRY_AFTER_MAX })
}

/// The longest pause that a partner can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// How long draining waits for a slot to come back: an Initiator has none between two exchanges.
const SLOTLESS: Duration = Duration::from_secs(1);

/// Verdicts in one object.
const VERDICTS_MAX: usize = 10_000;

//! Slots: who may send a Communication Object now, and what left by whom.

use std::time::Duration;

use super::input::{SlotId, SlotSpec, Verdicts, WaitsFor};
use super::row::Verdict;
use crate::set::Jti;

/// The open slots, in the order in which they were opened. There are a few, and mostly one: a tree would keep room for
/// eleven.
#[derive(Debug, Default)]
pub(super) struct Slots(Vec<(SlotId, Slot)>);

/// One open slot.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) spec: SlotSpec,
    /// Since when an object has been on its way to the link, up to `SlotReady`: it takes no other meanwhile.
    pub(super) in_hand: Option<Duration>,
    /// The SETs that its own exchange brought have been judged ([`WaitsFor::Answers`]).
    pub(super) answered: bool,
    /// What there is to say to them, if it may carry nothing else ([`Verdicts::Own`]).
    pub(super) told: Vec<(Jti, Verdict)>,
    /// What was sent before then has met a live link (R10): when the partner was last heard on it or, if that was while an
    /// object was in hand, since when it has been.
    pub(super) heard_at: Option<Duration>,
    /// SETs that left by it and may still be unanswered.
    pub(super) carried: Vec<u64>,
    /// When there are so many, the answered ones are taken out.
    prune_at: usize,
    /// Verdicts that left by it since it was last ready: owed again when it is lost (R3).
    pub(super) verdicts: Vec<(Jti, Verdict)>,
}

impl Slot {
    /// It has to send now, even an empty object.
    pub(super) fn must_speak(&self, now: Duration) -> bool {
        self.spec.by.is_some_and(|by| by <= now) || (self.spec.waits_for == WaitsFor::Answers && self.answered)
    }

    /// The partner was heard. What is still in hand may wait for a commit on a full disk, or for a slow link: that the partner
    /// is there while it does says nothing about it, only about what left before (R10).
    pub(super) fn heard(&mut self, now: Duration) {
        let at = self.in_hand.unwrap_or(now);
        self.heard_at = self.heard_at.max(Some(at));
    }

    /// It may send if there is something to say.
    pub(super) fn may_speak(&self, now: Duration) -> bool {
        self.in_hand.is_none() && (self.spec.waits_for != WaitsFor::Answers || self.must_speak(now))
    }

    /// It takes the verdicts on what its exchange brought, and nobody else does.
    pub(super) fn takes_its_own(&self) -> bool {
        self.spec.verdicts == Verdicts::Own && self.in_hand.is_none()
    }

    fn is_exchanging(&self) -> bool {
        let sends = self.spec.verdicts == Verdicts::None && self.spec.waits_for == WaitsFor::Anything;
        sends && self.in_hand.is_some()
    }

    /// Notes what left by it, and forgets at times what is not `outstanding` any more.
    pub(super) fn carry(&mut self, seqs: impl Iterator<Item = u64>, outstanding: impl Fn(u64) -> bool) {
        self.carried.extend(seqs);
        if self.carried.len() >= self.prune_at {
            self.carried.sort_unstable();
            self.carried.dedup();
            self.carried.retain(|seq| outstanding(*seq));
            // Twice what is left, so that pruning costs little for each SET however many stay unanswered.
            self.prune_at = PRUNE_AT.max(2 * self.carried.len());
        }
    }
}

/// SETs a slot remembers at least before it looks which of them have been answered.
const PRUNE_AT: usize = 2048;

impl Slots {
    pub(super) fn open(&mut self, id: SlotId, spec: SlotSpec) {
        let slot = Slot {
            spec,
            in_hand: None,
            answered: false,
            told: Vec::new(),
            heard_at: None,
            carried: Vec::new(),
            prune_at: PRUNE_AT,
            verdicts: Vec::new(),
        };
        if self.0.is_empty() {
            self.0.reserve_exact(1);
        }
        // No two have the same number.
        let at = self.0.partition_point(|(known, _)| *known < id);
        self.0.insert(at, (id, slot));
    }

    pub(super) fn close(&mut self, id: SlotId) -> Option<Slot> {
        let (_, slot) = self.0.remove(self.place(id).ok()?);
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
        Some(slot)
    }

    pub(super) fn find(&mut self, id: SlotId) -> Option<&mut Slot> {
        let at = self.place(id).ok()?;
        self.0.get_mut(at).map(|(_, slot)| slot)
    }

    /// Where it is.
    fn place(&self, id: SlotId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&id, |(known, _)| *known)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the partner was heard by this slot after `sent_at`: news of that very moment came before the step that
    /// sent it. False when the slot is gone.
    pub(super) fn heard_since(&self, id: SlotId, sent_at: Duration) -> bool {
        let slot = self.place(id).ok().and_then(|at| self.0.get(at));
        slot.and_then(|(_, slot)| slot.heard_at).is_some_and(|heard| heard > sent_at)
    }

    /// What left by this slot is in an exchange whose end will be told: until then it is with the partner, and no copy of it
    /// has to leave. Verdicts could come by no other way.
    pub(super) fn is_exchanging(&self, id: SlotId) -> bool {
        let slot = self.place(id).ok().and_then(|at| self.0.get(at));
        slot.is_some_and(|(_, slot)| slot.is_exchanging())
    }

    /// One of them is in such an exchange.
    pub(super) fn are_exchanging(&self) -> bool {
        self.0.iter().any(|(_, slot)| slot.is_exchanging())
    }

    /// Ids of the slots that may send, oldest first; but before all others those whose partner waits for our answers.
    /// That partner is there, while the other end of an older slot may long be gone. First of all come those that can
    /// carry nothing but their own answers, which anybody else would take from them. Of those that wait for SETs the newest
    /// is first: whoever polled before it and could not wait any longer has gone, which nobody has noticed yet.
    pub(super) fn speakers(&self, now: Duration) -> Vec<SlotId> {
        let mut speakers: Vec<_> = self.0.iter().filter(|(_, slot)| slot.may_speak(now)).collect();
        speakers.sort_by_key(|(id, slot)| match (slot.spec.waits_for, slot.spec.verdicts) {
            (WaitsFor::Answers, Verdicts::Own) => (0, id.0),
            (WaitsFor::Answers, _) => (1, id.0),
            (WaitsFor::Anything, _) => (2, id.0),
            (WaitsFor::Sets, _) => (3, u64::MAX - id.0),
        });
        speakers.into_iter().map(|(id, _)| *id).collect()
    }

    /// When the next slot has to speak.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.0.iter().filter(|(_, slot)| slot.in_hand.is_none()).filter_map(|(_, slot)| slot.spec.by).min()
    }

    /// A verdict has left and is not yet known to have been taken.
    pub(super) fn carry_verdicts(&self) -> bool {
        self.0.iter().any(|(_, slot)| !slot.verdicts.is_empty())
    }
}

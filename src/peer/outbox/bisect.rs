//! Finding the SET that a partner minds: a refused batch leaves again in halves, one at a time, until it stands alone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::entry::{Entry, Expiry, State};
use super::{End, Outbox, READ_MAX};
use crate::clock::Timestamp;
use crate::peer::input::SlotId;
use crate::planted::{self, Bug};
use crate::set::Jti;

/// Fewer SETs in an object than that may be because the partner takes nothing.
const NARROWED_MAX: usize = 512;

/// A part of a batch that was refused.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) seqs: VecDeque<u64>,
    /// Once the part before it was taken, what the partner minds is in this one: to send it whole would be in vain.
    is_next: bool,
    /// Why the batch leaves in parts.
    why: Parting,
}

/// Why a batch leaves in parts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::peer) enum Parting {
    /// It is too large for the partner, and so may all its parts be.
    TooLarge,
    /// The partner minds something in it.
    Refused,
    /// The partner breaks off at something in it, or falls silent.
    ///
    /// That is most likely the first SET, since what came to nothing leaves first again while others gather behind it; and each part
    /// with it may cost the whole time for an answer. So the later half leaves first: once it is taken the earlier one is parted unsent.
    Failed,
}

impl Parting {
    /// Two halves, the one that leaves first before the other.
    fn halves(self, mut seqs: VecDeque<u64>) -> [VecDeque<u64>; 2] {
        let later = seqs.split_off(seqs.len() / 2);
        if self == Self::Failed { [later, seqs] } else { [seqs, later] }
    }
}

impl Outbox {
    /// The partner refused an object as a whole, or fails at it: its SETs leave again in halves. The number of one that was alone
    /// comes back.
    pub(in crate::peer) fn rejected(
        &mut self,
        slot: SlotId,
        carried: &[u64],
        heard_at: Option<Duration>,
        why: Parting,
        now: Duration,
    ) -> Option<u64> {
        let mut suspects = self.suspects(slot, carried, heard_at, now);
        let is_in_part = |seq: &u64| self.suspect_by(*seq).is_some();
        if suspects.iter().any(is_in_part) {
            // Parts leave alone, so it is the one that is out; what was read before it and waits for its verdict is not.
            let (part, read): (Vec<u64>, Vec<u64>) = suspects.into_iter().partition(is_in_part);
            suspects = part;
            for seq in read.into_iter().rev() {
                if self.is_in_flight(seq) {
                    self.leave_state(seq);
                    self.requeue(seq, End::Front);
                }
            }
        }
        if !suspects.is_empty() {
            // It is in this one.
            self.groups.iter_mut().for_each(|group| group.is_next = false);
        }
        match suspects.as_slice() {
            [] => None,
            [one] => self.set_apart(*one),
            many if planted::is(Bug::BatchNotBisected) => {
                for seq in many {
                    self.leave_state(*seq);
                    self.requeue(*seq, End::Front);
                }
                None
            }
            many => {
                let [first, second] = why.halves(many.iter().copied().collect());
                if planted::is(Bug::HalfForgotten) {
                    second.iter().for_each(|seq| self.leave_state(*seq));
                } else {
                    self.suspect_part(Group { seqs: second, is_next: why != Parting::TooLarge, why });
                }
                self.suspect_part(Group { seqs: first, is_next: false, why });
                None
            }
        }
    }

    /// Object after object fails: the partner is down, or many bad SETs lie side by side, which nobody can tell apart. These leave
    /// again after all others and not in parts, but fewer at a time, so that what the partner may take is found. The number of one
    /// that was alone comes back.
    pub(in crate::peer) fn put_last(
        &mut self,
        slot: SlotId,
        carried: &[u64],
        heard_at: Option<Duration>,
        now: Duration,
    ) -> Option<u64> {
        let suspects = self.suspects(slot, carried, heard_at, now);
        match suspects.as_slice() {
            [] => return None,
            [one] => return self.set_apart(*one),
            _ => {}
        }
        let parts: Vec<u64> = self.groups.drain(..).flat_map(|group| group.seqs).collect();
        let is_waiting = |seq: &u64| self.entries.get(seq).is_some_and(|entry| entry.state == State::Suspect);
        let parts: Vec<u64> = parts.into_iter().filter(is_waiting).collect();
        self.sets_max = (self.sets_max.min(parts.len() + suspects.len()) / 2).max(1);
        // Those of the parts have not been tried for longer.
        for seq in parts.into_iter().chain(suspects) {
            self.leave_state(seq);
            self.requeue(seq, End::Back);
        }
        None
    }

    /// The partner takes SETs: there may be more of them in an object again, and those that failed alone while it took none are due.
    pub(in crate::peer) fn takes(&mut self) {
        let more = self.sets_max.saturating_mul(2);
        self.sets_max = if more > NARROWED_MAX { usize::MAX } else { more };
        if !std::mem::take(&mut self.failed_unblamed) {
            return;
        }
        let unblamed =
            |entry: &Entry| entry.alone > 0 && entry.attempts == 0 && matches!(entry.state, State::Waiting { .. });
        let due: Vec<u64> = self.entries.keys().filter(|seq| self.entries.get(seq).is_some_and(unblamed)).collect();
        for seq in due {
            self.set_state(seq, State::Unread);
            self.due_unread.push_back(seq);
        }
    }

    /// This one travels by itself from now on.
    fn set_apart(&mut self, seq: u64) -> Option<u64> {
        self.leave_state(seq);
        let entry = self.entries.get_mut(&seq)?;
        entry.alone = entry.alone.saturating_add(1);
        Some(seq)
    }

    /// Those of a slot's SETs that the partner may mind. Where some of several travel by themselves it is one of these: they wait,
    /// and the others are due again.
    fn suspects(&mut self, slot: SlotId, carried: &[u64], heard_at: Option<Duration>, now: Duration) -> Vec<u64> {
        let mut suspects: Vec<u64> =
            carried.iter().copied().filter(|seq| self.is_suspect(*seq, slot, heard_at)).collect();
        suspects.sort_unstable();
        suspects.dedup();
        if suspects.len() < 2 {
            return suspects;
        }
        let known = |seq: &u64| self.entries.get(seq).is_some_and(|entry| entry.alone > 0);
        let (apart, others): (Vec<u64>, Vec<u64>) = suspects.into_iter().partition(known);
        if apart.is_empty() {
            return others;
        }
        for seq in apart {
            self.set_apart(seq);
            let pause = self.pause_alone(seq);
            self.wait(seq, now + pause);
        }
        for &seq in others.iter().rev() {
            self.leave_state(seq);
            self.requeue(seq, End::Front);
        }
        Vec::new()
    }

    /// The partner may mind this SET: it left last by this slot. However long the answer took, one that waits for its retry by
    /// now is as suspect as one still in flight; but not when the partner was heard on the same link after it had left, and has
    /// gone on.
    fn is_suspect(&mut self, seq: u64, slot: SlotId, heard_at: Option<Duration>) -> bool {
        let Some(entry) = self.entries.get_mut(&seq).filter(|entry| entry.left_by(slot)) else { return false };
        let Some((_, sent_at)) = entry.sent else { return false };
        let in_flight = matches!(entry.state, State::InFlight { .. });
        if in_flight || heard_at.is_none_or(|heard| heard <= sent_at) {
            return true;
        }
        entry.delivered |= matches!(entry.state, State::Waiting { .. });
        false
    }

    /// A SET was refused alone: it waits, for as long as the partner asks at least, and if that `counts` has used up an attempt.
    pub(in crate::peer) fn penalise(
        &mut self,
        seq: u64,
        retry_after: Duration,
        counts: bool,
        now: Timestamp,
    ) -> Expiry {
        let Some(entry) = self.entries.get_mut(&seq) else { return Expiry::Quiet };
        entry.open = false;
        self.failed_unblamed |= !counts;
        entry.attempts = entry.attempts.saturating_add(u32::from(counts));
        let attempts = entry.attempts;
        if counts && self.exhausted(seq, now) {
            return Expiry::Exhausted;
        }
        let pause = self.pause_alone(seq).max(retry_after);
        self.wait(seq, now.mono + pause);
        if counts && attempts > 1 { Expiry::Attempted(attempts) } else { Expiry::Quiet }
    }

    /// A batch is being bisected: until that is over, only its parts leave.
    pub(in crate::peer) fn bisecting(&mut self) -> bool {
        while let Some(group) = self.groups.front_mut() {
            let entries = &self.entries;
            group.seqs.retain(|seq| entries.get(seq).is_some_and(|entry| entry.state == State::Suspect));
            if !group.seqs.is_empty() {
                return true;
            }
            self.groups.pop_front();
        }
        self.suspects_out > 0
    }

    /// The slot by which this SET left as one of a part, if it is still within its time for an answer.
    pub(in crate::peer) fn suspect_by(&self, seq: u64) -> Option<SlotId> {
        // Hardly ever is there any, and every verdict asks.
        if self.suspects_out == 0 {
            return None;
        }
        let entry = self.entries.get(&seq)?;
        let (slot, _) = entry.sent?;
        matches!(entry.state, State::InFlight { suspect: true, .. }).then_some(slot)
    }

    fn is_in_flight(&self, seq: u64) -> bool {
        self.entries.get(&seq).is_some_and(|entry| matches!(entry.state, State::InFlight { .. }))
    }

    /// The partner may refuse the object that carries this SET because of it.
    pub(in crate::peer) fn may_be_minded(&self, seq: u64) -> bool {
        let suspect = |state| matches!(state, State::InFlight { suspect: true, .. });
        self.entries.get(&seq).is_some_and(|entry| entry.alone > 0 || suspect(entry.state))
    }

    /// Makes these the next part to leave.
    pub(super) fn suspect(&mut self, seqs: Vec<u64>) {
        self.suspect_part(Group { seqs: seqs.into(), is_next: false, why: Parting::Refused });
    }

    fn suspect_part(&mut self, group: Group) {
        if group.seqs.is_empty() {
            return;
        }
        for &seq in &group.seqs {
            self.set_state(seq, State::Suspect);
            if let Some(entry) = self.entries.get_mut(&seq) {
                entry.open = false;
            }
        }
        self.groups.push_front(group);
    }

    /// SETs of the next part that have lost their token, because they waited for a retry when the rejection came: as many as may
    /// leave next, and no more are kept beyond the window.
    pub(super) fn unread_suspects(&mut self) -> Vec<u64> {
        if !self.bisecting() {
            return Vec::new();
        }
        let unread = |seq: &u64| self.entries.get(seq).is_some_and(|entry| entry.token.is_none());
        self.groups.front().into_iter().flat_map(|group| &group.seqs).copied().take(READ_MAX).filter(unread).collect()
    }

    /// The next part of a bisected batch, once the one before it has been answered. What does not fit is a part of its
    /// own.
    pub(super) fn take_group(
        &mut self,
        slot: SlotId,
        now: Duration,
        sets_max: usize,
        mut fits: impl FnMut(&Jti, &str) -> bool,
    ) -> Vec<(u64, Jti, Arc<str>)> {
        let mut taken = Vec::new();
        if self.suspects_out > 0 {
            return taken;
        }
        self.halve_next();
        while taken.len() < sets_max && self.in_flight < self.window() {
            let Some(&seq) = self.groups.front().and_then(|group| group.seqs.front()) else { break };
            let Some(entry) = self.entries.get(&seq) else { break };
            let Some(token) = entry.token.clone() else { break };
            if !fits(&entry.jti, &token) && !taken.is_empty() {
                break;
            }
            taken.push((seq, entry.jti.clone(), token));
            self.launch(seq, slot, now, false, true);
            if let Some(group) = self.groups.front_mut() {
                group.seqs.pop_front();
                if group.seqs.is_empty() {
                    break;
                }
            }
        }
        taken
    }

    /// Where the part before the next one was taken, the next one leaves in halves at once.
    fn halve_next(&mut self) {
        if !self.bisecting() {
            return;
        }
        let Some(group) = self.groups.front_mut().filter(|group| group.is_next && group.seqs.len() > 1) else { return };
        let why = group.why;
        let [first, second] = why.halves(std::mem::take(&mut group.seqs));
        (group.seqs, group.is_next) = (second, true);
        self.groups.push_front(Group { seqs: first, is_next: false, why });
    }
}

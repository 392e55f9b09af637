//! SETs under way: what an ended slot, a late answer or old age does to them.

use std::time::Duration;

use super::entry::{Entry, Expiry, State};
use super::{End, Outbox};
use crate::clock::Timestamp;
use crate::peer::input::SlotId;
use crate::planted::{self, Bug};

impl Outbox {
    /// The exchange by `slot` was completed: what it carried has met a live partner.
    pub(in crate::peer) fn delivered(&mut self, slot: SlotId, carried: &[u64]) {
        for &seq in carried {
            let Some(entry) = self.entries.get_mut(&seq).filter(|entry| entry.left_by(slot)) else { continue };
            entry.delivered = true;
        }
        self.vouch(slot, carried);
    }

    /// The partner has read the object by `slot`, so it minds none of these; their verdicts may take their time.
    pub(in crate::peer) fn vouch(&mut self, slot: SlotId, carried: &[u64]) {
        for &seq in carried {
            let Some(entry) = self.entries.get(&seq).filter(|entry| entry.left_by(slot)) else { continue };
            if let State::InFlight { late_at, retry, suspect: true } = entry.state {
                self.set_state(seq, State::InFlight { late_at, retry, suspect: false });
            }
        }
    }

    /// The slot is gone and nobody knows how far its SETs came: they are due again, and it counts for no attempt.
    pub(in crate::peer) fn lost(
        &mut self,
        slot: SlotId,
        carried: &[u64],
        heard_at: Option<Duration>,
        due: Option<Duration>,
        now: Duration,
    ) {
        let (mut again, mut suspects) = (Vec::new(), Vec::new());
        for &seq in carried {
            let Some(entry) = self.entries.get_mut(&seq) else { continue };
            if planted::is(Bug::AttemptsReset) {
                entry.attempts = 0;
            }
            let Some((via, sent_at)) = entry.via() else { continue };
            let unheard = heard_at.is_none_or(|heard| heard <= sent_at);
            match entry.state {
                State::InFlight { suspect: true, .. } if via == slot && due.is_none() => {
                    entry.open = false;
                    suspects.push(seq);
                    continue;
                }
                State::InFlight { .. } if via == slot => {}
                State::Waiting { .. } if via == slot && unheard => {}
                State::Waiting { .. } if via == slot => {
                    entry.delivered = true;
                    continue;
                }
                _ => continue,
            }
            entry.open = false;
            self.leave_state(seq);
            again.push(seq);
        }
        self.suspect(suspects);
        again.sort_unstable();
        again.dedup();
        for &seq in again.iter().rev() {
            let apart = self.entries.get(&seq).is_some_and(|entry| entry.alone > 0);
            match due {
                Some(due) => self.wait(seq, due),
                None if planted::is(Bug::InFlightNotReturned) => {}
                // At the head of the queue one that is known to be minded would hold up all others once more.
                None if apart => {
                    let pause = self.pause_alone(seq);
                    self.wait(seq, now + pause);
                }
                None => self.requeue(seq, End::Front),
            }
        }
    }

    /// Whatever waits because its exchange came to nothing is due. What is waited for an answer to, and what the partner minds or failed at alone, keeps
    /// its pause.
    pub(in crate::peer) fn hurry(&mut self) {
        let is_put_off =
            |entry: &Entry| !entry.open && entry.alone == 0 && matches!(entry.state, State::Waiting { .. });
        let due: Vec<u64> = self.entries.keys().filter(|seq| self.entries.get(seq).is_some_and(is_put_off)).collect();
        for seq in due {
            self.set_state(seq, State::Unread);
            self.due_unread.push_back(seq);
        }
    }

    /// The link is gone by which these left, and with it the answers that might have come: they need not wait for longer than at
    /// first, however often they have been sent. Where that makes the pause shorter it counts for no attempt, since those are to take their
    /// time. One that failed alone keeps its pause.
    pub(in crate::peer) fn hasten(&mut self, slot: SlotId, carried: &[u64], now: Duration) {
        let soon = now + self.config.retry_first;
        for &seq in carried {
            let is_late = |entry: &&Entry| {
                entry.left_by(slot) && entry.alone == 0 && matches!(entry.state, State::Waiting { due } if due > soon)
            };
            if self.entries.get(&seq).as_ref().is_some_and(is_late) {
                self.set_state(seq, State::Waiting { due: soon });
                if let Some(entry) = self.entries.get_mut(&seq) {
                    entry.open = false;
                }
            }
        }
    }

    /// The next SET whose timer is over, with the slot and time of its last transmission.
    pub(in crate::peer) fn next_expired(&self, now: Duration) -> Option<(u64, Option<(SlotId, Duration)>)> {
        let &(at, seq) = self.timers.first()?;
        (at <= now).then(|| (seq, self.entries.get(&seq).and_then(Entry::via)))
    }

    /// Gives the answer more time, if one is still waited for: the exchange that carries this SET goes on.
    pub(in crate::peer) fn wait_on(&mut self, seq: u64, now: Duration) -> bool {
        let state = self.entries.get(&seq).map(|entry| entry.state);
        let Some(State::InFlight { retry, suspect, .. }) = state else { return false };
        let late_at = now + self.ack_wait().max(Duration::from_millis(1));
        self.set_state(seq, State::InFlight { late_at, retry, suspect });
        true
    }

    /// Handles an expired timer: an answer that did not come in time sends the SET to wait for its retry; a SET whose
    /// wait is over is counted an attempt if the link was alive, and becomes due.
    pub(in crate::peer) fn expire(&mut self, seq: u64, now: Timestamp, alive: bool) -> Expiry {
        let Some(entry) = self.entries.get(&seq) else { return Expiry::Quiet };
        match entry.state {
            State::InFlight { .. } => {
                self.leave_state(seq);
                let pause = self.pause(seq);
                self.wait(seq, now.mono + pause);
                Expiry::Quiet
            }
            State::Waiting { .. } => {
                self.leave_state(seq);
                let counted = self.count_attempt(seq, alive);
                if self.too_old(seq, now) {
                    return Expiry::TooOld;
                }
                if counted.is_some() && self.exhausted(seq, now) {
                    return Expiry::Exhausted;
                }
                self.set_state(seq, State::Unread);
                self.due_unread.push_back(seq);
                // A crash may forget the first attempt: one more try, never one fewer (R10).
                counted.filter(|attempts| *attempts > 1).map_or(Expiry::Quiet, Expiry::Attempted)
            }
            State::Fresh | State::Unread | State::Due | State::Suspect => Expiry::Quiet,
        }
    }

    /// The oldest SETs, if they are older than `age_max`, wherever they stand.
    pub(in crate::peer) fn overaged(&mut self, now: Timestamp) -> Vec<u64> {
        // Without a slot nobody else takes out of this queue those that ended.
        while self.fresh.front().is_some_and(|seq| !self.entries.contains_key(seq)) {
            self.fresh.pop_front();
        }
        self.entries.keys().take_while(|seq| self.too_old(*seq, now)).collect()
    }

    /// When the oldest SET grows too old, if the wall clock runs on as it does.
    pub(in crate::peer) fn next_overaged(&self, now: Timestamp) -> Option<Duration> {
        let oldest = self.entries.keys().next()?;
        let left = self.config.age_max.saturating_sub(self.age(oldest, now));
        // Past due only while the clock is suspect: look again in a while. And a clock that stands still is no reason
        // to spin.
        let pause = if left.is_zero() { Duration::from_secs(60) } else { left.max(Duration::from_secs(1)) };
        Some(now.mono + pause)
    }

    pub(in crate::peer) fn next_timer(&self) -> Option<(Duration, bool)> {
        let &(at, seq) = self.timers.first()?;
        let waiting = self.entries.get(&seq).is_some_and(|entry| matches!(entry.state, State::Waiting { .. }));
        Some((at, waiting))
    }
}

impl Outbox {
    /// Marks a SET as transmitted by `slot`.
    pub(super) fn launch(&mut self, seq: u64, slot: SlotId, now: Duration, retry: bool, suspect: bool) {
        let state = State::InFlight { late_at: now + self.ack_wait(), retry, suspect };
        let Some(entry) = self.entries.get_mut(&seq) else { return };
        match (retry, suspect) {
            (true, _) => self.retries.no_answer += 1,
            (false, true) => self.retries.batch_refused += 1,
            (false, false) => self.retries.lost += u64::from(entry.sent.is_some()),
        }
        entry.sent = Some((slot, now));
        entry.open = true;
        entry.delivered = false;
        entry.tries = entry.tries.saturating_add(1);
        let before = std::mem::replace(&mut entry.state, state);
        self.left(seq, before);
        self.entered(seq, state);
    }

    /// How long an answer may take (R9).
    pub(super) fn ack_wait(&self) -> Duration {
        let measured = self.ack_time.map_or(Duration::ZERO, |time| time * 4);
        self.config.retry_first.max(measured).min(self.config.retry_max)
    }

    /// The pause before the next transmission: exponential, with jitter.
    pub(super) fn pause(&mut self, seq: u64) -> Duration {
        let tries = self.entries.get(&seq).map_or(1, |entry| entry.tries);
        self.pause_after(tries)
    }

    /// The same for a SET that failed alone: how often it left with others before says nothing.
    pub(super) fn pause_alone(&mut self, seq: u64) -> Duration {
        let times = self.entries.get(&seq).map_or(1, |entry| u32::from(entry.alone));
        self.pause_after(times)
    }

    fn pause_after(&mut self, times: u32) -> Duration {
        let tries = times.clamp(1, 32);
        let pause = self.config.retry_first.saturating_mul(1 << (tries - 1).min(20));
        let pause = pause.min(self.config.retry_max);
        // At least half of it: what started together is pulled apart, and yet a partner is not hurried.
        pause / 2 + self.random.jitter(pause / 2)
    }

    /// Puts a SET aside until `due`, without its token.
    pub(super) fn wait(&mut self, seq: u64, due: Duration) {
        if let Some(entry) = self.entries.get_mut(&seq).filter(|entry| entry.token.is_some()) {
            entry.token = None;
            self.held -= 1;
            self.held_bytes -= entry.token_bytes;
        }
        self.set_state(seq, State::Waiting { due });
    }

    /// Puts a SET that was under way back into the queue; without its token it is read again.
    pub(super) fn requeue(&mut self, seq: u64, end: End) {
        let Some(entry) = self.entries.get(&seq) else { return };
        let (state, queue) = match entry.token {
            Some(_) => (State::Fresh, &mut self.fresh),
            None => (State::Unread, &mut self.due_unread),
        };
        match end {
            End::Front => queue.push_front(seq),
            End::Back => queue.push_back(seq),
        }
        self.set_state(seq, state);
    }

    /// Counts the last transmission as an attempt if it met a live link; the new number, if so.
    pub(super) fn count_attempt(&mut self, seq: u64, alive: bool) -> Option<u32> {
        let entry = self.entries.get_mut(&seq)?;
        let open = std::mem::take(&mut entry.open);
        if !(open && (alive || entry.delivered || planted::is(Bug::DeadLinkCounts))) {
            return None;
        }
        entry.attempts = entry.attempts.saturating_add(1);
        Some(entry.attempts)
    }

    /// Both limits of patience are exceeded.
    pub(super) fn exhausted(&self, seq: u64, now: Timestamp) -> bool {
        // A wall clock that jumped must not bury anything: while it is suspect, retries go on.
        is_believed(now)
            && self.entries.get(&seq).is_some_and(|entry| entry.attempts >= self.config.attempts_max)
            && self.age(seq, now) >= self.config.give_up_after
    }

    /// Older than `age_max`, by a wall clock that is believed.
    pub(super) fn too_old(&self, seq: u64, now: Timestamp) -> bool {
        is_believed(now) && self.age(seq, now) >= self.config.age_max
    }

    /// For how long the SET has been unsettled.
    fn age(&self, seq: u64, now: Timestamp) -> Duration {
        let wall = if planted::is(Bug::DeadByWallClock) { now.shown } else { now.wall };
        let age = self.entries.get(&seq).map_or(Duration::ZERO, |entry| wall.since(entry.accepted_at));
        if planted::is(Bug::DeadByWallClock) {
            return age;
        }
        // The wall clock may have been wrong when the SET was accepted, and set right since; or it is wrong now.
        self.ages.at_most(seq, now.mono).map_or(age, |waited| age.min(waited))
    }

    /// Moves a SET to another state, with its bookkeeping.
    pub(super) fn set_state(&mut self, seq: u64, state: State) {
        let Some(entry) = self.entries.get_mut(&seq) else { return };
        let before = std::mem::replace(&mut entry.state, state);
        self.left(seq, before);
        self.entered(seq, state);
    }

    /// The bookkeeping of a state that this SET is in from now on.
    fn entered(&mut self, seq: u64, state: State) {
        match state {
            State::InFlight { late_at, retry, suspect, .. } => {
                self.in_flight += 1;
                self.retries_in_flight += usize::from(retry);
                self.suspects_out += usize::from(suspect);
                self.timers.insert((late_at, seq));
            }
            State::Waiting { due } => {
                self.waiting += 1;
                self.timers.insert((due, seq));
            }
            State::Fresh | State::Unread | State::Due | State::Suspect => {}
        }
    }

    /// Undoes the bookkeeping of the state it is in. It is in none then, until `set_state`.
    pub(super) fn leave_state(&mut self, seq: u64) {
        let Some(entry) = self.entries.get_mut(&seq) else { return };
        let before = std::mem::replace(&mut entry.state, State::Fresh);
        self.left(seq, before);
    }

    /// The bookkeeping of a state that this SET has left.
    pub(super) fn left(&mut self, seq: u64, before: State) {
        match before {
            State::InFlight { late_at, retry, suspect, .. } => {
                self.in_flight -= usize::from(!planted::is(Bug::WindowLeak));
                self.retries_in_flight -= usize::from(retry);
                self.suspects_out -= usize::from(suspect);
                self.timers.remove(&(late_at, seq));
            }
            State::Waiting { due } => {
                self.waiting -= 1;
                self.timers.remove(&(due, seq));
            }
            State::Fresh | State::Unread | State::Due | State::Suspect => {}
        }
    }
}

/// Whether the wall clock may decide anything.
fn is_believed(now: Timestamp) -> bool {
    !now.suspect || planted::is(Bug::DeadByWallClock)
}

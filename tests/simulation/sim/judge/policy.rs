//! I13: a SET is given up when its attempts and its time are used up, and never by a wall clock that is wrong.

use std::time::Duration;

use pushpull::peer::{DeathCause, Outcome};
use pushpull::set::Jti;

use super::Judge;
use super::ghost::Track;
use super::invariant::{Checked, Invariant};
use crate::sim::event::{Org, Truth};

impl Judge {
    /// The number of attempts of the SET at this place is written (R10): each was a transmission, and each number follows
    /// the one before. A crash may forget the last one, never those that were written.
    pub(super) fn attempted(&mut self, from: Org, to: Org, seq: u64, attempts: u32) -> Checked {
        let lane = self.lane(from, to);
        let jti = lane.seqs.get(&seq).cloned();
        let case = self.case(from, to, jti.as_ref());
        self.tally.demand(Invariant::I1, case, jti.is_some(), || {
            ("attempts of a SET that is queued", format!("of the place {seq}, where there is none"))
        })?;
        let Some(track) = jti.as_ref().and_then(|jti| self.lanes.get_mut(&(from, to))?.sets.get_mut(jti)) else {
            return Ok(());
        };
        let (before, times) = (track.sent.attempts, track.sent.times);
        track.sent.attempts = attempts;
        let last = track.sent.last;
        self.met_a_live_link(from, to, jti.as_ref(), last)?;
        let case = self.case(from, to, jti.as_ref());
        // The first one is never written for itself.
        self.tally.demand(Invariant::I13, case, attempts == before.max(1) + 1, || {
            (format!("the attempt after {before} that are written"), format!("{attempts}"))
        })?;
        // One more was put into the slot of a link that had just ended, which its maker had not heard of yet, and never left.
        let now = self.now;
        let ended_since =
            self.lane(from, to).parted_at.is_some_and(|at| last.is_some_and(|(left_at, ..)| at >= left_at));
        if attempts == times + 1 && ended_since {
            self.tally.excuse("an attempt by the slot of a link that had ended");
            if let Some(track) = jti.as_ref().and_then(|jti| self.lanes.get_mut(&(from, to))?.sets.get_mut(jti)) {
                track.sent.times += 1;
                // That link has ended once.
                track.sent.last = last.map(|(_, life, times)| (now, life, times));
            }
            return Ok(());
        }
        self.tally.demand(Invariant::I13, case, attempts <= times, || {
            (format!("no more attempts than the {times} transmissions"), format!("{attempts}"))
        })
    }

    /// What left by a link on which nobody was heard any more is no attempt.
    fn met_a_live_link(
        &mut self,
        from: Org,
        to: Org,
        jti: Option<&Jti>,
        last: Option<(Duration, u64, u32)>,
    ) -> Checked {
        if !self.bounds.links_are_heard_at_once {
            self.tally.excuse("not followed whether a link was alive, where its news may wait for a disk");
            return Ok(());
        }
        let heard_at = self.lane(from, to).heard_at;
        let case = self.case(from, to, jti);
        let holds = last.is_some_and(|(left_at, ..)| heard_at >= Some(left_at));
        self.tally.demand(Invariant::I13, case, holds, || {
            (
                format!("a sign of life after {last:?}"),
                format!("an attempt is counted, and the last was at {heard_at:?}"),
            )
        })
    }

    /// A SET ends after so many attempts.
    pub(super) fn by_policy(&mut self, from: Org, to: Org, jti: &Jti, outcome: &Outcome, attempts: u32) -> Checked {
        let case = self.case(from, to, Some(jti));
        let limits = self.limits(from).clone();
        let now = self.now;
        let member = self.member(from);
        let (clock_was_wrong, life) = (member.clock_was_wrong, member.life);
        let lane = self.lane(from, to);
        let Some(sent) = lane.sets.get(jti).map(|track| &track.sent) else { return Ok(()) };
        let (written, times, last) = (sent.attempts, sent.times, sent.last);
        let (elapsed, trying) = (now - sent.since, now.saturating_sub(sent.first_at));
        let same_life = sent.life == life;
        let since = sent.since;
        let (times_healed, since_healed) = (sent.times_healed, now.saturating_sub(sent.healed_at));
        let cannot_tell = self.member(from).cannot_tell_age(since);
        let tally = &mut self.tally;
        // From the second on each attempt is written when it is counted; the last one ends the SET instead.
        let unwritten = u32::from(matches!(outcome, Outcome::Dead(_)));
        let remembered = attempts.saturating_sub(unwritten) <= written.max(1);
        tally.demand(Invariant::I13, case, remembered, || {
            (format!("{attempts} attempts to have been written, but for the first and the last"), format!("{written}"))
        })?;
        tally.demand(Invariant::I13, case, attempts >= written, || {
            (format!("the {written} attempts that were written, or more"), format!("an end after {attempts}"))
        })?;
        let Outcome::Dead(cause) = outcome else { return Ok(()) };
        let patience = match cause {
            DeathCause::Attempts => limits.peer.give_up_after,
            DeathCause::Age => limits.peer.age_max,
        };
        if *cause == DeathCause::Attempts {
            let max = limits.peer.attempts_max;
            tally.demand(Invariant::I13, case, attempts >= max && times >= max, || {
                (format!("{max} attempts, each transmitted"), format!("{attempts}, transmitted {times} times"))
            })?;
            self.met_a_live_link(from, to, Some(jti), last)?;
            let tally = &mut self.tally;
            let least = limits.attempts_take(attempts);
            tally.demand(Invariant::I13, case, trying >= least, || {
                (format!("{attempts} attempts to take {least:?}"), format!("{trying:?} since the first"))
            })?;
        }
        let tally = &mut self.tally;
        // What this process accepted is never older than the monotonic clock says. Over a restart only the wall clock
        // knows how old a row is; where that was wrong for long, and has run steadily since, nobody can tell.
        if !same_life && cannot_tell {
            tally.excuse("given up by a wall clock that was wrong when the process started");
        } else {
            // A wall clock that runs wrong is not noticed before it is off by so much.
            let drift = if clock_was_wrong { pushpull::clock::JUMP_MAX } else { Duration::ZERO };
            let least = limits.at_least(patience).saturating_sub(drift);
            // Wall clocks count milliseconds.
            tally.demand(Invariant::I13, case, elapsed + Duration::from_millis(2) >= least, || {
                (format!("{cause:?}: not before {least:?}"), format!("{elapsed:?} after it was queued"))
            })?;
        }
        self.not_after_healing(from, to, jti, *cause, times_healed, since_healed)
    }

    /// How long it may take to find out that a key is unknown: the keys of a partner are fetched twice in that time at most, and
    /// each fetch decides only on what is there just then.
    fn decided_within(&self, from: Org, to: Org) -> Duration {
        let is_open = |track: &&Track| {
            let got = &track.got;
            let decided_late = self.healed.is_some_and(|healed| got.decided_at >= healed);
            (got.decision.is_none() || decided_late) && got.came.iter().any(|(_, truth)| *truth == Truth::Unsound)
        };
        let open = self.lanes.get(&(from, to)).map_or(0, |lane| lane.sets.values().filter(is_open).count());
        self.bounds.decide_within * u32::try_from(open.div_ceil(2)).unwrap_or(u32::MAX)
    }

    /// L1: when all is well nothing is given up but what had used up its attempts before. One transmission may have been
    /// under way as a link broke.
    fn not_after_healing(
        &mut self,
        from: Org,
        to: Org,
        jti: &Jti,
        cause: DeathCause,
        times_healed: u32,
        since_healed: Duration,
    ) -> Checked {
        if self.healed.is_none() || cause == DeathCause::Age || !self.is_whole_pair(from, to) {
            return Ok(());
        }
        let case = self.case(from, to, Some(jti));
        // Its partner may have to wait for newer keys before it refuses, and fetches them at a bounded rate (R7): whoever
        // loses patience before that sent what nobody could have taken.
        let is_unsound = self.lane(from, to).sets.get(jti).is_some_and(|track| {
            let came = &track.got.came;
            !came.is_empty() && came.iter().all(|(_, truth)| *truth == Truth::Unsound)
        });
        if times_healed > 1 && is_unsound && since_healed < self.decided_within(from, to) {
            self.tally.excuse("given up before its partner had the keys to refuse it");
            return Ok(());
        }
        self.tally.demand(Invariant::L1, case, times_healed <= 1, || {
            ("a sound partner's verdict", format!("given up, after {times_healed} transmissions since all is well"))
        })
    }
}

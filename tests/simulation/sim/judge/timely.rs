//! What a sender does in time: it hears verdicts, and makes its retries when they are due.

use std::time::Duration;

use pushpull::set::Jti;

use super::Judge;
use super::ghost::Standing;
use super::invariant::{Checked, Invariant};
use crate::sim::event::Org;

/// What a retry may be late for.
const RETRY_SLACK: Duration = Duration::from_secs(3);

/// A commit that met a full disk is done so long after that at most.
const FULL_SLACK: Duration = Duration::from_secs(10);

/// Parts of a batch that leave one after another before those that were refused or failed with it.
const PARTS_MAX: u32 = 5;

/// No token of a simulation is longer.
const TOKEN_MAX: usize = 1024;

impl Judge {
    /// I3: what a process was told about a SET that it had sent is taken in before it is sent again, however late it came.
    pub(super) fn verdict_was_heard(&mut self, from: Org, to: Org, jti: &Jti) -> Checked {
        let (now, within, life) = (self.now, self.bounds.verdict_within, self.member(from).life);
        let case = self.case(from, to, Some(jti));
        let sent = self.sent(from, to, jti);
        let told = sent.told.filter(|(_, in_life)| *in_life == life && sent.standing == Standing::Queued);
        let Some((told_at, _)) = told else { return Ok(()) };
        let disk_full_at = self.member(from).disk_full_at;
        let lane = self.lane(from, to);
        // It was chosen in a step that could not be committed for so long, and the verdict waits behind that.
        let was_chosen_before = lane.durable_at == Some(now)
            && lane.durable_before.is_none_or(|before| before <= told_at)
            && disk_full_at.is_some_and(|full_at| full_at + FULL_SLACK >= now);
        if was_chosen_before {
            self.tally.excuse("left after its verdict had come: chosen before a disk was full");
            return Ok(());
        }
        self.tally.demand(Invariant::I3, case, now <= told_at + within, || {
            (format!("silence: its verdict came at {:.6} s", told_at.as_secs_f64()), "it leaves again")
        })
    }

    /// To be called before the queue becomes shorter.
    pub(super) fn note_crowd(&mut self, from: Org, to: Org) {
        let limits = &self.limits(from).peer;
        let (window, bytes, now) = (limits.window, limits.window_bytes, self.now);
        let lane = self.lane(from, to);
        let queued = usize::try_from(lane.totals.queued).unwrap_or(usize::MAX);
        if queued > window / 2 || queued > bytes / TOKEN_MAX {
            lane.crowded_at = Some(now);
        }
    }

    /// When all is well a retry comes when it is due: the answer is waited for no longer than the longest pause, and so is
    /// the retry. Only where nothing but time keeps it from leaving: by the same link, and with room for all retries since it
    /// last left, and no parts of a refused batch to go first.
    pub(super) fn is_no_late_retry(&mut self, from: Org, to: Org, link: u64, jti: &Jti) -> Checked {
        let healed = self.healed.map(|at| at + self.bounds.links_whole_within);
        let max = self.limits(from).peer.retry_max * 2 + RETRY_SLACK;
        self.note_crowd(from, to);
        let now = self.now;
        let case = self.case(from, to, Some(jti));
        let lane = self.lane(from, to);
        let (crowded_at, refused_at, suspected_at) = (lane.crowded_at, lane.refused_at, lane.suspected_at);
        let life = self.member(from).life;
        let Some((last_at, ..)) = self
            .sent(from, to, jti)
            .last
            .filter(|(at, by, in_life)| healed.is_some_and(|healed| *at >= healed) && (*by, *in_life) == (link, life))
        else {
            return Ok(());
        };
        if crowded_at >= Some(last_at) || refused_at.is_some_and(|at| at + max >= last_at) {
            return Ok(());
        }
        // The partner may be silent to each part in turn, and there are a few of them.
        if suspected_at.is_some_and(|at| at + max * PARTS_MAX >= last_at) {
            self.tally.excuse("left late, perhaps behind parts at which exchanges had failed");
            return Ok(());
        }
        self.tally.demand(Invariant::Retry, case, now <= last_at + max, || {
            (format!("a retry within {max:?} of {:.6} s", last_at.as_secs_f64()), "it leaves only now")
        })
    }
}

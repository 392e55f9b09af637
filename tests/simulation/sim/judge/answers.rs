//! What is owed to whoever sent a SET: I10, L2 and L6.

use pushpull::set::Jti;

use super::ghost::{Awaited, Owed, Standing, Track};
use super::invariant::{Checked, Invariant};
use super::{Calls, Judge};
use crate::sim::event::{Org, Role, Truth};

/// A minute of simulated time, by which idle talk is measured.
const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);

/// So many verdicts may be owed at once, and no copy ever finds the places taken.
const PLACES_ENOUGH: usize = 1000;

impl Judge {
    /// A copy of a SET reached `org`. With a verdict it has to be answered with that; without one, after healing, within the
    /// time that L2 grants.
    pub(super) fn copy_came(&mut self, from: Org, org: Org, jti: &Jti, is_known: bool, truth: Truth) {
        let now = self.now;
        let limits = &self.limits(org);
        // With nowhere to keep the answer there is none, and the SET comes again: that is what `owed_max` says.
        let has_place = limits.peer.owed_max >= PLACES_ENOUGH;
        let inbox_max = limits.inbox_max;
        if !has_place {
            return self.tally.excuse("copies are not followed where few verdicts may be owed");
        }
        if is_known {
            return self.owe(from, org, jti);
        }
        if self.healed.is_none() || !self.runs_product(from) {
            return;
        }
        // What is refused may have to wait for keys that are newer than its arrival, and refusals are written at a bounded
        // rate (R7, R11); what is sound has no such excuse.
        if truth != Truth::Unsound {
            let member = self.member(org);
            if member.unconfirmed >= inbox_max {
                member.full_at = Some(now);
            }
            let lane = self.lane(from, org);
            let (came_at, answers_left) = (now, lane.answers_left);
            lane.awaited.push_back(Awaited { came_at, answers_left, jti: jti.clone() });
        }
    }

    /// The verdict on this SET has to leave (again).
    pub(super) fn owe(&mut self, from: Org, org: Org, jti: &Jti) {
        if self.called.get(&(from, org)) == Some(&Calls::AtOnce) {
            return self.tally.excuse("not owed: it is told in the answer to the call, or asked for again");
        }
        let since = self.now;
        let got = self.got(from, org, jti);
        if got.owed_since.is_some() {
            return;
        }
        got.owed_since = Some(since);
        let lane = self.lane(from, org);
        let answers_left = lane.answers_left;
        lane.owed.push_back(Owed { since, answers_left, jti: jti.clone() });
    }

    /// An object left `org` for `to` with these verdicts and so many SETs.
    pub(super) fn answers_left<'a>(
        &mut self,
        org: Org,
        to: Org,
        verdicts: impl Iterator<Item = &'a Jti>,
        sets: usize,
        tells: bool,
    ) -> Checked {
        let mut any = sets > 0;
        let case = self.case(org, to, None);
        let lane = self.lanes.entry((to, org)).or_default();
        // What can carry none leaves none behind.
        lane.answers_left += u64::from(tells);
        for jti in verdicts {
            any = true;
            let Some(track) = lane.sets.get_mut(jti) else { continue };
            track.got.answered = true;
            if track.got.owed_since.take().is_some() {
                self.tally.demand(Invariant::I10, case, true, || ("", ""))?;
            }
        }
        self.overdue(org, to)?;
        self.idle(org, to, any)
    }

    /// I10: no verdict stays behind while objects leave.
    fn overdue(&mut self, org: Org, to: Org) -> Checked {
        // What a lazy one has to say never leaves before healing: that is what it is.
        if self.role(org) == Role::Lazy && self.healed.is_none() {
            return Ok(());
        }
        let (now, within, objects) = (self.now, self.bounds.repeat_within, self.bounds.repeat_objects);
        let case = self.case(org, to, None);
        let lane = self.lanes.entry((to, org)).or_default();
        while let Some(front) = lane.owed.front() {
            let owed_since = lane.sets.get(&front.jti).and_then(|track| track.got.owed_since);
            if owed_since == Some(front.since) {
                break;
            }
            lane.owed.pop_front();
        }
        let Some(Owed { since, answers_left, jti }) = lane.owed.front().cloned() else { return Ok(()) };
        let passed = lane.answers_left - answers_left;
        let case = super::Case { jti: Some(&jti), ..case };
        self.tally.demand(Invariant::I10, case, now < since + within || passed < objects, || {
            let since = since.as_secs_f64();
            (format!("the verdict that is owed since {since:.6} s"), format!("{passed} objects left without it"))
        })
    }

    /// L6: after healing, objects with nothing in them are as rare as the pings of a link.
    fn idle(&mut self, org: Org, to: Org, any: bool) -> Checked {
        let answers = std::mem::take(&mut self.lane(org, to).spoken_to);
        if self.healed.is_none() || any || answers {
            return Ok(());
        }
        let (now, max) = (self.now, self.bounds.empty_objects_per_minute);
        let case = self.case(org, to, None);
        let (since, count) = &mut self.lane(org, to).idle;
        if now >= *since + MINUTE {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        let count = *count;
        self.tally.demand(Invariant::L6, case, count <= max, || {
            (format!("at most {max} empty objects a minute"), format!("{count}"))
        })
    }

    /// L2: what came after healing has a verdict in time.
    pub(super) fn answered_in_time(&mut self) -> Checked {
        let (now, within) = (self.now, self.bounds.answer_within);
        let Some(healed) = self.healed else { return Ok(()) };
        let believed = healed + self.bounds.clocks_believed_within;
        let patient_until = healed + self.bounds.asked_for;
        for ((from, org), lane) in &mut self.lanes {
            while lane.awaited.front().is_some_and(|awaited| awaited.came_at.max(believed) + within < now) {
                let Some(Awaited { came_at, answers_left, jti }) = lane.awaited.front().cloned() else { break };
                // Whoever has given up does not ask again, nor whose row is damaged: the copy that came left from memory.
                let gave_up = |track: &Track| {
                    matches!(track.sent.standing, Standing::Dead | Standing::Closed(_)) || track.sent.damaged.is_some()
                };
                let holds = lane.sets.get(&jti).is_some_and(|track| track.got.answered || gave_up(track));
                // Each may have asked the other for patience before: nothing leaves then but the answer to what had been under
                // way. Where the answer to a call tells of what it brought alone, those to others mean nothing for this one.
                let tells_own = self.called.get(&(*from, *org)) == Some(&Calls::AtOnce);
                let none_left = tells_own || lane.answers_left <= answers_left + 1;
                if !holds && none_left && now < patient_until + within {
                    break;
                }
                lane.awaited.pop_front();
                let full_at = self.members.get(org).and_then(|member| member.full_at);
                if !holds && full_at.is_some_and(|full_at| full_at >= came_at) {
                    // With no room in the inbox a SET is neither stored nor answered, and comes again (R5).
                    self.tally.excuse("not answered in time: the inbox was full");
                    continue;
                }
                // Whoever calls hears in answers to calls only, and has no reason for another call once it has its verdict:
                // what comes late, to one who has forgotten it meanwhile, is taken and never asked for again.
                let calls = self.called.contains_key(&(*from, *org));
                let standing = lane.sets.get(&jti).map(|track| track.sent.standing);
                if !holds && calls && standing.is_some_and(Standing::has_ended) {
                    self.tally.excuse("not answered in time: it came late, and nobody calls for its verdict any more");
                    continue;
                }
                // Nor has whoever lost its store with the SET in it: what it had called with before may still be under way.
                let has_forgotten = self.members.get(from).is_some_and(|member| member.forgot);
                if !holds && calls && has_forgotten && standing == Some(Standing::Absent) {
                    self.tally.excuse("not answered in time: whoever called lost its store before it came");
                    continue;
                }
                let case = super::Case { at: now, org: *org, partner: *from, jti: Some(&jti) };
                self.tally.demand(Invariant::L2, case, holds, || {
                    (format!("a verdict within {within:?} of {:.6} s", came_at.as_secs_f64()), "none has left")
                })?;
            }
        }
        Ok(())
    }

    /// I10 at the end: nothing is owed any more.
    pub(super) fn nothing_owed(&mut self) -> Checked {
        let slack = self.bounds.repeat_within;
        for ((from, org), lane) in &self.lanes {
            // Whoever has nothing to send does not call, and misses nothing.
            if self.called.contains_key(&(*from, *org)) {
                continue;
            }
            // What came this very minute may still be looked at.
            for owed in lane.owed.iter().filter(|owed| owed.since + slack < self.now) {
                let case = super::Case { at: self.now, org: *org, partner: *from, jti: Some(&owed.jti) };
                // A hostile one need not listen.
                let listens = self.members.get(from).is_none_or(|member| member.role != Role::Hostile);
                let owed_since = lane.sets.get(&owed.jti).and_then(|track| track.got.owed_since);
                self.tally.demand(Invariant::I10, case, !listens || owed_since != Some(owed.since), || {
                    (format!("the verdict that is owed since {:.6} s", owed.since.as_secs_f64()), "it never left")
                })?;
            }
        }
        Ok(())
    }

    /// The process of `org` has ended: what it owed will be asked for again, and what had just come never came.
    pub(super) fn nothing_owed_by(&mut self, org: Org) {
        for ((_, to), lane) in &mut self.lanes {
            if *to == org {
                for owed in std::mem::take(&mut lane.owed) {
                    if let Some(track) = lane.sets.get_mut(&owed.jti) {
                        track.got.owed_since = None;
                    }
                }
                lane.awaited.clear();
            }
        }
    }
}

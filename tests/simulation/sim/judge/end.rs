//! L1 after healing, and what both ends must agree on when all is quiet.

use pushpull::set::Jti;

use super::Judge;
use super::ghost::{Decision, Standing, Track};
use super::invariant::{Case, Checked, Invariant};
use crate::sim::event::{Org, Role, Truth};

impl Judge {
    /// All faults are over.
    pub(super) fn heal(&mut self) {
        let now = self.now;
        self.healed = Some(now);
        let lazy: Vec<Org> =
            self.members.iter().filter(|(_, member)| member.role == Role::Lazy).map(|(org, _)| *org).collect();
        // What a lazy one had to say was held back behind its own back: to its product it has left. Whoever still waits
        // sends again, and that copy is answered.
        lazy.into_iter().for_each(|org| self.nothing_owed_by(org));
        for lane in self.lanes.values_mut() {
            lane.idle = (now, 0);
        }
    }

    /// Time has come to this event.
    pub(super) fn time_passes(&mut self) -> Checked {
        let Some(healed) = self.healed else { return Ok(()) };
        self.answered_in_time()?;
        if !self.settled_checked && self.now > healed + self.bounds.settle_within {
            self.settled_checked = true;
            self.everything_is_settled(healed)?;
        }
        Ok(())
    }

    /// L1: what was accepted up to then has ended.
    fn everything_is_settled(&mut self, up_to: std::time::Duration) -> Checked {
        let whole: Vec<(Org, Org)> =
            self.lanes.keys().copied().filter(|(from, to)| self.is_whole_pair(*from, *to)).collect();
        for (from, to) in whole {
            let Some(lane) = self.lanes.get(&(from, to)) else { continue };
            for (jti, track) in &lane.sets {
                let sent = &track.sent;
                // A damaged row cannot be sent: that is told, and an operator's to mend. Its partner cannot settle it.
                let is_damaged = sent.damaged.is_some();
                if sent.standing == Standing::Absent || sent.since > up_to || is_damaged {
                    continue;
                }
                let case = Case { at: self.now, org: from, partner: to, jti: Some(jti) };
                self.tally.demand(Invariant::L1, case, sent.standing.has_ended(), || {
                    (
                        "an end, now that all is well",
                        format!("{}, after {} transmissions", sent.standing.word(), sent.times),
                    )
                })?;
            }
        }
        Ok(())
    }

    pub(super) fn quiet(&mut self) -> Checked {
        self.quiet_at = Some(self.now);
        self.everything_is_settled(self.now)?;
        self.nothing_owed()
    }

    /// What `org` has come to, against its partners. Its disk has just been looked at.
    pub(super) fn ends(&mut self, org: Org) -> Checked {
        let partners: Vec<Org> = self.lanes.keys().filter(|(from, _)| *from == org).map(|(_, to)| *to).collect();
        for to in partners {
            if !self.is_whole_pair(org, to) {
                continue;
            }
            let Some(lane) = self.lanes.get(&(org, to)) else { continue };
            let mut unacknowledged = 0;
            for (jti, track) in &lane.sets {
                let case = Case { at: self.now, org, partner: to, jti: Some(jti) };
                let is_new = self.quiet_at.is_some_and(|quiet_at| track.sent.since > quiet_at);
                if is_new && track.sent.standing == Standing::Queued {
                    // An application may ask once more for what was declined before. It is under way, and nobody is late.
                    self.tally.excuse("accepted after all was quiet, and under way at the end");
                    continue;
                }
                let (expected, holds) = agreement(track, is_new);
                unacknowledged += u64::from(matches!(track.sent.standing, Standing::Dead) && track.got.handed);
                self.tally.demand(Invariant::End, case, holds, || (expected, both(track)))?;
                if track.sent.is_accepted() && track.sent.damaged.is_none() {
                    let ended = track.sent.standing.has_ended();
                    self.tally.demand(Invariant::L1, case, ended, || ("an end", both(track)))?;
                }
            }
            self.delivered_unacknowledged += unacknowledged;
        }
        Ok(())
    }
}

/// What the sender's end of a SET demands of the receiver's. One that is new was queued after all was quiet.
fn agreement(track: &Track, is_new: bool) -> (&'static str, bool) {
    let (sent, got) = (&track.sent, &track.got);
    let came_sound = got.came.iter().any(|(_, truth)| *truth == Truth::Sound);
    match sent.standing {
        Standing::Acked => {
            let holds = match got.decision {
                // Nothing is quiet before every application has read on, past what is damaged.
                Some(Decision::Received) => got.confirmed_at.is_some() || got.damaged_at.is_some() || is_new,
                Some(Decision::Noted) => !came_sound,
                _ => false,
            };
            ("acked: received and confirmed", holds)
        }
        Standing::Refused | Standing::Closed(super::ghost::End::Refused) => {
            ("refused: refused there too, and never handed over", matches!(got.decision, Some(Decision::Refused(_))))
        }
        // Given up: nobody ever answered, whatever the partner has decided.
        Standing::Dead | Standing::Closed(super::ghost::End::Dead) => ("given up: whatever", true),
        // What stays queued for its damage may have left before.
        Standing::Queued | Standing::Lifted => ("queued, for its damage alone", sent.damaged.is_some()),
        Standing::Absent => ("never queued: never received", got.decision.is_none()),
    }
}

fn both(track: &Track) -> String {
    let got = &track.got;
    let decision = &got.decision;
    let (handed, confirmed) = (got.handed, got.confirmed_at);
    format!("sender {:?}, receiver {decision:?}, handed: {handed}, confirmed at {confirmed:?}", track.sent.standing)
}

impl Judge {
    /// Every SET between organisations that are neither hostile nor have lost anything: how it stands at its sender, and
    /// whether its receiver's application has it.
    pub(super) fn honest_ends(&self) -> impl Iterator<Item = ((Org, Org), &Jti, &Track)> {
        let whole = self.lanes.iter().filter(|((from, to), _)| self.is_whole_pair(*from, *to));
        whole.flat_map(|(pair, lane)| lane.sets.iter().map(move |(jti, track)| (*pair, jti, track)))
    }
}

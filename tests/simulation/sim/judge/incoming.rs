//! The receiver's half: I5 as far as it shows in writes, I7, I8, I9, I11, I12, I15, I18, I20.

use pushpull::peer::Verdict;
use pushpull::set::{Digest, Jti};

use super::Judge;
use super::ghost::{Decision, Got, Standing, Track};
use super::invariant::{Checked, Invariant};
use crate::sim::event::{Event, Org, Truth};

impl Judge {
    /// The receiver's half of this SET.
    pub(super) fn got(&mut self, from: Org, to: Org, jti: &Jti) -> &mut Got {
        let sets = &mut self.lane(from, to).sets;
        if !sets.contains_key(jti) {
            sets.insert(jti.clone(), Track::default());
        }
        &mut sets.get_mut(jti).expect("it was just made").got
    }

    /// A SET came to `org`, on a link that is authenticated as `from`.
    pub(super) fn came(&mut self, org: Org, from: Org, jti: &Jti, digest: Digest, truth: Truth) -> Checked {
        let got = self.got(from, org, jti);
        if !got.came.contains(&(digest, truth)) {
            got.came.push((digest, truth));
        }
        let is_known = got.decision.is_some();
        if got.confirmed_at.is_some() {
            // Whatever comes of it shows later: another row, another hand-over, another confirmation.
            let case = self.case(org, from, Some(jti));
            self.tally.demand(Invariant::I20, case, true, || ("", ""))?;
        }
        self.copy_came(from, org, jti, is_known, truth);
        let queued = self.lane(from, org).sets.get(jti).is_some_and(|track| track.sent.standing == Standing::Queued);
        if truth == Truth::Sound && queued && self.is_whole_pair(from, org) {
            self.key_is_published(org, from, jti)?;
        }
        Ok(())
    }

    /// The next object on this link must be refused as a whole.
    pub(super) fn broken(&mut self, org: Org, from: Org, link: u64, jtis: &[Jti]) {
        let lane = self.lane(from, org);
        lane.broken.extend(jtis.iter().cloned());
        lane.broken_next.insert(link);
    }

    /// Refused as a whole: what was in it shows as an effect without a cause, if it has any.
    pub(super) fn malformed(&mut self, org: Org, from: Org, link: u64) -> Checked {
        let now = self.now;
        let lane = self.lane(from, org);
        lane.broken_next.remove(&link);
        lane.refused_at = Some(now);
        let case = self.case(org, from, None);
        self.tally.demand(Invariant::I15, case, true, || ("", ""))
    }

    /// I15: what breaks the rules of objects is not read.
    pub(super) fn read_whole(&mut self, org: Org, from: Org, event: &Event) -> Checked {
        let Event::Came { link, .. } = event else { return Ok(()) };
        let case = self.case(org, from, None);
        let was_broken = self.lane(from, org).broken_next.remove(link);
        if was_broken {
            self.tally.demand(Invariant::I15, case, false, || ("an object to be refused as a whole", "it was read"))?;
        }
        Ok(())
    }

    /// A row of the inbox is durable.
    pub(super) fn received(&mut self, org: Org, from: Org, jti: &Jti, digest: Digest) -> Checked {
        self.first_time(org, from, jti)?;
        self.came_before(org, from, jti)?;
        let case = self.case(org, from, Some(jti));
        let got = self.got(from, org, jti);
        let is_sound = got.has(digest, |truth| truth == Truth::Sound);
        let came = got.came.clone();
        self.tally.demand(Invariant::I7, case, is_sound, || {
            ("only a sound SET, signed by its sender for us, goes into the inbox", format!("{digest:?} of {came:?}"))
        })?;
        self.decide(org, from, jti, digest, Decision::Received);
        let (max, slack) = (self.limits(org).inbox_max, self.limits(org).inbox_slack);
        let unconfirmed = self.member(org).unconfirmed;
        if unconfirmed >= max {
            self.member(org).full_at = Some(self.now);
        }
        self.tally.demand(Invariant::I16, case, unconfirmed <= max + slack, || {
            (format!("at most {max} (and {slack}) unconfirmed rows in the inbox"), format!("{unconfirmed}"))
        })
    }

    /// A verdict without a row is durable.
    pub(super) fn decided(&mut self, org: Org, from: Org, jti: &Jti, digest: Digest, verdict: &Verdict) -> Checked {
        self.first_time(org, from, jti)?;
        self.came_before(org, from, jti)?;
        let case = self.case(org, from, Some(jti));
        let got = self.got(from, org, jti);
        let came = got.came.clone();
        let is_verification = got.has(digest, |truth| truth == Truth::Verification);
        let is_unsound = got.has(digest, |truth| truth == Truth::Unsound);
        let handed = got.handed;
        let decision = match verdict {
            Verdict::Acked => {
                self.tally.demand(Invariant::I5, case, is_verification, || {
                    ("a row of the inbox with the ack", format!("an ack alone, for {digest:?} of {came:?}"))
                })?;
                Decision::Noted
            }
            Verdict::Refused(refusal) => {
                self.tally.demand(Invariant::I12, case, is_unsound, || {
                    let expected = "a refusal only for what anybody refuses at any time";
                    (expected, format!("{refusal} for {digest:?} of {came:?}"))
                })?;
                self.tally.demand(Invariant::I11, case, !handed, || {
                    ("no refusal of what the application has", format!("{refusal}"))
                })?;
                Decision::Refused(refusal.code.as_str())
            }
        };
        self.decide(org, from, jti, digest, decision);
        Ok(())
    }

    /// I8, I20: a jti is decided once.
    fn first_time(&mut self, org: Org, from: Org, jti: &Jti) -> Checked {
        let case = self.case(org, from, Some(jti));
        let (now, memory) = (self.now, self.bounds.memory);
        let clock_was_far = self.member(org).clock_was_far;
        let got = self.got(from, org, jti);
        // A refusal that was written by a clock which was behind by months looks old to whoever purges by the right one. A SET
        // that was taken cannot: to such a clock its `iat` lies ahead, and it gets no verdict.
        if clock_was_far && matches!(got.decision, Some(Decision::Refused(_))) {
            self.tally.excuse("a refusal was forgotten that had been written by a clock which was wrong");
            return Ok(());
        }
        let before = got.decision.as_ref().map(|decision| (decision.clone(), got.decided_at));
        // What is older than the memory of jtis may have been forgotten: the rule of `iat` has to hold there.
        let is_old = before.as_ref().is_some_and(|(_, at)| now >= *at + memory);
        let invariant = if is_old || got.confirmed_at.is_some() { Invariant::I20 } else { Invariant::I8 };
        self.tally.demand(invariant, case, before.is_none(), || {
            ("a jti to be decided once", format!("again, after {before:?}"))
        })
    }

    /// I9, and I15 where the only thing that came was refused as a whole.
    fn came_before(&mut self, org: Org, from: Org, jti: &Jti) -> Checked {
        let case = self.case(org, from, Some(jti));
        let came = !self.got(from, org, jti).came.is_empty();
        let is_broken = self.lane(from, org).broken.contains(jti);
        let invariant = if is_broken { Invariant::I15 } else { Invariant::I9 };
        self.tally.demand(invariant, case, came, || {
            let found =
                if is_broken { "it came in an object that had to be refused as a whole" } else { "it never came" };
            ("a verdict only on what came", found)
        })
    }

    fn decide(&mut self, org: Org, from: Org, jti: &Jti, digest: Digest, decision: Decision) {
        let now = self.now;
        let is_row = decision == Decision::Received;
        let is_refusal = !decision.is_ack();
        let got = self.got(from, org, jti);
        (got.decision, got.digest, got.decided_at) = (Some(decision), digest, now);
        let totals = &mut self.lane(from, org).totals;
        totals.answered += 1;
        totals.received += u64::from(is_row);
        totals.unconfirmed += u64::from(is_row);
        totals.rejected += u64::from(is_refusal);
        self.member(org).unconfirmed += u64::from(is_row);
        self.owe(from, org, jti);
    }

    /// An ack leaves `org` for `to`.
    pub(super) fn ack_left(&mut self, org: Org, to: Org, jti: &Jti) -> Checked {
        self.came_before(org, to, jti)?;
        let case = self.case(org, to, Some(jti));
        let got = self.got(to, org, jti);
        let (decision, damaged, answered) = (got.decision.clone(), got.damaged_at.is_some(), got.answered);
        let is_refused = matches!(decision, Some(Decision::Refused(_)));
        let tally = &mut self.tally;
        tally.demand(Invariant::I8, case, !is_refused, || {
            (format!("the verdict that stands: {decision:?}"), "an ack".to_owned())
        })?;
        tally.demand(Invariant::I5, case, decision.is_some(), || ("a durable row before the ack", "none"))?;
        if damaged {
            // The verdict was durable before the row was damaged, and a verdict once decided is repeated for ever the same
            // (I8, I10): what is remembered of the jti has a checksum of its own and is sound. The damage is told at once
            // and kept among the damaged rows, which the look at the disk checks.
            tally.excuse(if answered { "ack repeated for a damaged row" } else { "ack for a row damaged since" });
        }
        Ok(())
    }

    /// A setErr leaves `org` for `to`.
    pub(super) fn error_left(&mut self, org: Org, to: Org, jti: &Jti, error: &str) -> Checked {
        self.came_before(org, to, jti)?;
        let case = self.case(org, to, Some(jti));
        let got = self.got(to, org, jti);
        let (decision, handed) = (got.decision.clone(), got.handed);
        let could_be = got.came.iter().any(|(_, truth)| *truth == Truth::Unsound);
        let same = matches!(decision, Some(Decision::Refused(code)) if error.starts_with(code));
        let tally = &mut self.tally;
        tally.demand(Invariant::I11, case, !handed, || ("no refusal of what the application has", error))?;
        tally.demand(Invariant::I12, case, could_be || decision.is_some(), || {
            ("a refusal only for what anybody refuses at any time", format!("{error} for a sound SET"))
        })?;
        tally.demand(Invariant::I8, case, same, || {
            (format!("the verdict that stands, durable before it is said: {decision:?}"), error.to_owned())
        })
    }

    /// The application is given a SET.
    pub(super) fn handed(&mut self, org: Org, from: Org, jti: &Jti, digest: Digest, redelivered: bool) -> Checked {
        let case = self.case(org, from, Some(jti));
        let (now, memory) = (self.now, self.bounds.memory);
        let got = self.got(from, org, jti);
        let (decision, stored, damaged_at) = (got.decision.clone(), got.digest, got.damaged_at);
        let (confirmed_at, handed_new) = (got.confirmed_at, got.handed_new);
        got.handed = true;
        got.handed_new |= !redelivered;
        let tally = &mut self.tally;
        let is_refused = matches!(decision, Some(Decision::Refused(_)));
        tally.demand(Invariant::I11, case, !is_refused, || {
            ("nothing that was refused reaches the application", format!("{decision:?}"))
        })?;
        tally.demand(Invariant::I7, case, decision == Some(Decision::Received) && stored == digest, || {
            (format!("what was received, {decision:?} {stored:?}"), format!("{digest:?}"))
        })?;
        if damaged_at == Some(now) {
            // Read and given in the same instant as it was damaged, before that.
            tally.excuse("handed over in the same instant in which its row was damaged");
        } else {
            let told = || ("a damaged row stays where it is", "it is handed over");
            tally.demand(Invariant::I18, case, damaged_at.is_none(), told)?;
        }
        let again = once_again(confirmed_at.is_some_and(|at| now >= at + memory));
        tally.demand(again, case, confirmed_at.is_none(), || {
            ("silence after it was confirmed", format!("again, confirmed at {confirmed_at:?}"))
        })?;
        tally.demand(Invariant::I7, case, redelivered || !handed_new, || {
            ("whatever may have been handed over before to be marked as redelivered", "as new a second time")
        })
    }

    /// The application's confirmation is durable.
    pub(super) fn confirmed(&mut self, org: Org, from: Org, jti: &Jti) -> Checked {
        let case = self.case(org, from, Some(jti));
        let (now, memory) = (self.now, self.bounds.memory);
        let got = self.got(from, org, jti);
        let (before, handed, was_counted) = (got.confirmed_at, got.handed, got.damaged_at.is_none());
        got.confirmed_at = Some(now);
        let again = once_again(before.is_some_and(|at| now >= at + memory));
        self.tally.demand(again, case, before.is_none(), || {
            ("one confirmation", format!("another, after that at {before:?}"))
        })?;
        self.tally.demand(Invariant::I7, case, handed, || ("a SET that was handed over", "one that was not"))?;
        let totals = &mut self.lane(from, org).totals;
        totals.unconfirmed = totals.unconfirmed.saturating_sub(1);
        let member = self.member(org);
        member.unconfirmed = member.unconfirmed.saturating_sub(u64::from(was_counted));
        Ok(())
    }

    /// A row of `org` is damaged at rest: the one it has of this jti, in the outbox if there is one, else in the inbox.
    pub(super) fn damaged(&mut self, org: Org, partner: Org, jti: &Jti) {
        let life = self.member(org).life;
        let track = self.lane(org, partner).sets.get_mut(jti);
        if let Some(track) = track.filter(|track| track.sent.standing.has_row()) {
            track.sent.damaged.get_or_insert(life);
            return;
        }
        let now = self.now;
        let got = self.got(partner, org, jti);
        if got.decision == Some(Decision::Received) && got.damaged_at.is_none() {
            got.damaged_at = Some(now);
            // Nobody is given it any more, and a confirmation of those around it passes it over.
            if got.confirmed_at.is_none() {
                let member = self.member(org);
                member.unconfirmed = member.unconfirmed.saturating_sub(1);
            }
        }
    }
}

/// Taken a second time at once, or after its memory could have ended.
fn once_again(is_old: bool) -> Invariant {
    if is_old { Invariant::I20 } else { Invariant::I7 }
}

//! What lies on a disk when a process ends, starts, or all is over, against what became durable: I1, I5, I18.

use pushpull::peer::Counts;
use pushpull::set::{Digest, Jti};

use super::Judge;
use super::ghost::{Decision, Lane, Standing, Totals, Track};
use super::invariant::{Case, Checked, Invariant, Tally};
use crate::sim::event::{Contents, Org};

/// The tables of [`Track::seen`].
#[derive(Clone, Copy)]
enum Table {
    Outbox,
    Dead,
    Inbox,
    Answered,
    Settled,
    Damaged,
}

impl Judge {
    /// The process of `org` has ended: whoever was waiting for `send` never hears of it.
    pub(super) fn died(&mut self, org: Org) {
        for ((from, _), lane) in &mut self.lanes {
            if *from == org {
                for asked in lane.sets.values_mut().flat_map(|track| &mut track.sent.asked) {
                    asked.unknown |= asked.open > 0;
                    asked.open = 0;
                }
            }
        }
        self.nothing_owed_by(org);
    }

    /// It has lost its store by its own fault: what it had promised is void, and what the others have of it stands.
    pub(super) fn forget(&mut self, org: Org) {
        for ((from, to), lane) in &mut self.lanes {
            if *from == org {
                lane.seqs.clear();
                lane.paused_since = None;
                for track in lane.sets.values_mut() {
                    track.sent = super::ghost::Sent::default();
                }
                let Totals { received, rejected, answered, unconfirmed, .. } = lane.totals;
                lane.totals = Totals { received, rejected, answered, unconfirmed, ..Totals::default() };
            }
            if *to == org {
                for track in lane.sets.values_mut() {
                    track.got = super::ghost::Got::default();
                }
                let Totals { queued, acked, refused, dead, dead_letters, ended, .. } = lane.totals;
                lane.totals = Totals { queued, acked, refused, dead, dead_letters, ended, ..Totals::default() };
                lane.owed.clear();
                lane.awaited.clear();
            }
        }
        let member = self.member(org);
        member.forgot = true;
        member.unconfirmed = 0;
    }

    /// Compares the whole disk of `org`.
    pub(super) fn look_at(&mut self, org: Org, contents: &Contents) -> Checked {
        if !self.runs_product(org) {
            return Ok(());
        }
        let mut partners: Vec<Org> = self.lanes.keys().filter(|(from, _)| *from == org).map(|(_, to)| *to).collect();
        partners.extend(self.lanes.keys().filter(|(_, to)| *to == org).map(|(from, _)| *from));
        let tables = [&contents.outbox, &contents.dead, &contents.inbox];
        partners.extend(tables.into_iter().flat_map(|table| table.keys()));
        partners.extend(contents.answered.keys().chain(contents.settled.keys()).chain(contents.damaged.keys()));
        partners.sort_unstable();
        partners.dedup();
        for partner in partners {
            self.looks += 1;
            self.look_at_sent(org, partner, contents)?;
            self.look_at_got(org, partner, contents)?;
            if let Some(counts) = contents.counts.get(&partner) {
                self.compare_counts(org, partner, counts)?;
            }
        }
        Ok(())
    }

    /// What `org` sends to `partner`. Damage is shared out here, because a damaged row says not of which table it is.
    fn look_at_sent(&mut self, org: Org, partner: Org, contents: &Contents) -> Checked {
        let case = self.case(org, partner, None);
        let (looks, now, memory) = (self.looks, self.now, self.bounds.memory);
        let clock_was_far = self.member(org).clock_was_far;
        let damaged = self.damaged_of(org, partner, contents)?;
        let lane = self.lanes.entry((org, partner)).or_default();
        let mut look = Look { tally: &mut self.tally, case, looks };
        let queued = contents.outbox.get(&partner).map_or(&[][..], Vec::as_slice);
        for (jti, digest) in queued {
            let track = look.met(lane, jti, Table::Outbox, Invariant::I1)?;
            look.is_sent(track, jti, *digest, track.sent.standing == Standing::Queued, "queued")?;
        }
        let letters = contents.dead.get(&partner).map_or(&[][..], Vec::as_slice);
        for (jti, digest) in letters {
            let track = look.met(lane, jti, Table::Dead, Invariant::I1)?;
            let is_dead = matches!(track.sent.standing, Standing::Dead | Standing::Refused);
            look.is_sent(track, jti, *digest, is_dead, "a dead letter")?;
        }
        look.count(Invariant::I1, "SETs queued", lane.totals.queued, queued.len() as u64 + damaged.queued)?;
        look.count(Invariant::I1, "dead letters", lane.totals.dead_letters, letters.len() as u64 + damaged.letters)?;
        let settled = contents.settled.get(&partner).map_or(&[][..], Vec::as_slice);
        for (jti, how) in settled {
            let track = look.met(lane, jti, Table::Settled, Invariant::I1)?;
            let (standing, word) = (track.sent.standing, track.sent.standing.word());
            let fits = standing.has_ended() && word == *how;
            look.tally.demand(Invariant::I2, look.of(jti), fits, || {
                (format!("the end that it had: {word}"), (*how).to_owned())
            })?;
        }
        if now < memory && !clock_was_far {
            look.count(Invariant::I1, "ends remembered", lane.totals.ended, settled.len() as u64)?;
        } else {
            // The memory of what ended longest ago may be gone, by a clock that is wrong even sooner.
            let young = |track: &Track| {
                let sent = &track.sent;
                let kept = matches!(sent.standing, Standing::Dead | Standing::Refused) || now < sent.ended_at + memory;
                sent.standing.has_ended() && kept && !clock_was_far && track.seen[Table::Settled as usize] != looks
            };
            let missing = lane.sets.iter().find(|(_, track)| young(track)).map(|(jti, _)| jti);
            look.tally.demand(Invariant::I1, case, missing.is_none(), || {
                (format!("the end of {missing:?} to be remembered"), "nothing")
            })?;
        }
        Ok(())
    }

    /// What `org` got from `partner`.
    fn look_at_got(&mut self, org: Org, partner: Org, contents: &Contents) -> Checked {
        let case = self.case(org, partner, None);
        let (looks, now, memory) = (self.looks, self.now, self.bounds.memory);
        let clock_was_far = self.member(org).clock_was_far;
        let lane = self.lanes.entry((partner, org)).or_default();
        let mut look = Look { tally: &mut self.tally, case, looks };
        let rows = contents.inbox.get(&partner).map_or(&[][..], Vec::as_slice);
        let mut unconfirmed = 0;
        for (jti, digest) in rows {
            let track = look.met(lane, jti, Table::Inbox, Invariant::I5)?;
            let got = &track.got;
            unconfirmed += u64::from(got.confirmed_at.is_none());
            let fits = got.decision == Some(Decision::Received) && got.digest == *digest;
            look.tally.demand(Invariant::I5, look.of(jti), fits && got.damaged_at.is_none(), || {
                (format!("a row as it was received: {:?} {:?}", got.decision, got.digest), format!("{digest:?}"))
            })?;
        }
        let damaged = contents.damaged.get(&partner).map_or(&[][..], Vec::as_slice);
        let lost = damaged.iter().filter(|jti| {
            let track = lane.sets.get(*jti);
            track.is_some_and(|track| track.got.damaged_at.is_some() && track.got.confirmed_at.is_none())
        });
        look.count(Invariant::I5, "unconfirmed rows", lane.totals.unconfirmed, unconfirmed + lost.count() as u64)?;
        let answered = contents.answered.get(&partner).map_or(&[][..], Vec::as_slice);
        for (jti, is_ack) in answered {
            let track = look.met(lane, jti, Table::Answered, Invariant::I8)?;
            let decision = &track.got.decision;
            let fits = decision.as_ref().is_some_and(|decision| decision.is_ack() == *is_ack);
            look.tally.demand(Invariant::I8, look.of(jti), fits, || {
                (format!("the verdict that stands: {decision:?}"), format!("ack: {is_ack}"))
            })?;
        }
        if now < memory && !clock_was_far {
            look.count(Invariant::I5, "verdicts remembered", lane.totals.answered, answered.len() as u64)?;
        } else {
            let young = |track: &Track| {
                let got = &track.got;
                let kept = got.decision.is_some() && now < got.decided_at + memory && !clock_was_far;
                kept && track.seen[Table::Answered as usize] != looks
            };
            let missing = lane.sets.iter().find(|(_, track)| young(track)).map(|(jti, _)| jti);
            look.tally.demand(Invariant::I5, case, missing.is_none(), || {
                (format!("the verdict on {missing:?} to be remembered"), "nothing")
            })?;
        }
        Ok(())
    }

    /// I18: exactly what was damaged is damaged, and none of it is gone.
    fn damaged_of(
        &mut self,
        org: Org,
        partner: Org,
        contents: &Contents,
    ) -> Result<DamagedRows, Box<super::Violation>> {
        let case = self.case(org, partner, None);
        let looks = self.looks;
        let list = contents.damaged.get(&partner).map_or(&[][..], Vec::as_slice);
        let mut rows = DamagedRows::default();
        for jti in list {
            let sent = self.lanes.get_mut(&(org, partner)).and_then(|lane| lane.sets.get_mut(jti));
            let sent = sent.filter(|track| track.sent.damaged.is_some());
            let is_sent = sent.is_some();
            if let Some(track) = sent {
                track.seen[Table::Damaged as usize] = looks;
                rows.queued += u64::from(track.sent.standing == Standing::Queued);
                rows.letters += u64::from(matches!(track.sent.standing, Standing::Refused | Standing::Dead));
            }
            let got = self.lanes.get_mut(&(partner, org)).and_then(|lane| lane.sets.get_mut(jti));
            let got = got.filter(|track| track.got.damaged_at.is_some());
            let is_known = is_sent || got.is_some();
            if let Some(track) = got {
                track.seen[Table::Damaged as usize] = looks;
            }
            let case = Case { jti: Some(jti), ..case };
            self.tally.demand(Invariant::I18, case, is_known, || ("a sound row", "one whose checksum fails"))?;
        }
        let is_there = |track: &Track| track.seen[Table::Damaged as usize] == looks;
        let sent = self.lanes.get(&(org, partner)).into_iter().flat_map(|lane| &lane.sets);
        let sent = sent.filter(|(_, track)| track.sent.damaged.is_some() && track.sent.standing.has_row());
        // A confirmed row may have been purged, or kept.
        let got = self.lanes.get(&(partner, org)).into_iter().flat_map(|lane| &lane.sets);
        let got = got.filter(|(_, track)| track.got.damaged_at.is_some() && track.got.confirmed_at.is_none());
        for (jti, track) in sent.chain(got) {
            let case = Case { jti: Some(jti), ..case };
            self.tally.demand(Invariant::I18, case, is_there(track), || {
                ("a damaged row, kept and told", "it is absent, or taken for sound")
            })?;
        }
        Ok(rows)
    }

    /// The totals that are kept with the rows.
    fn compare_counts(&mut self, org: Org, partner: Org, counts: &Counts) -> Checked {
        let case = self.case(org, partner, None);
        let out = self.lane(org, partner).totals;
        let into = self.lane(partner, org).totals;
        let expected = Counts {
            queued: out.queued,
            acked: out.acked,
            refused: out.refused,
            dead: out.dead,
            dead_letters: out.dead_letters,
            received: into.received,
            rejected: into.rejected,
        };
        self.tally.demand(Invariant::I1, case, expected == *counts, || (format!("{expected:?}"), format!("{counts:?}")))
    }
}

/// Damaged rows of what is sent.
#[derive(Default)]
struct DamagedRows {
    queued: u64,
    letters: u64,
}

/// One look at one side of one conversation.
struct Look<'a> {
    tally: &'a mut Tally,
    case: Case<'a>,
    looks: u64,
}

impl<'a> Look<'a> {
    fn of<'b>(&self, jti: &'b Jti) -> Case<'b>
    where
        'a: 'b,
    {
        Case { jti: Some(jti), ..self.case }
    }

    /// A row of this table is there: it must be known, and must not be there twice.
    fn met<'l>(
        &mut self,
        lane: &'l mut Lane,
        jti: &Jti,
        table: Table,
        of: Invariant,
    ) -> Result<&'l Track, Box<super::Violation>> {
        let case = self.of(jti);
        let looks = self.looks;
        let track = lane.sets.get_mut(jti);
        let seen = track.as_ref().map(|track| track.seen[table as usize]);
        self.tally.demand(of, case, seen.is_some_and(|seen| seen != looks), || {
            let found = if seen.is_none() { "a row of what never became durable" } else { "two" };
            ("one row of what became durable", found)
        })?;
        match track {
            Some(track) => {
                track.seen[table as usize] = looks;
                Ok(track)
            }
            None => unreachable!("an unknown row is a breach"),
        }
    }

    fn is_sent(&mut self, track: &Track, jti: &Jti, digest: Digest, stands: bool, what: &str) -> Checked {
        let sent = &track.sent;
        self.tally.demand(Invariant::I1, self.of(jti), stands && sent.digest == Some(digest), || {
            let expected = format!("what is {} with {:?}", sent.standing.word(), sent.digest);
            (expected, format!("{what} with {digest:?}"))
        })?;
        self.tally.demand(Invariant::I18, self.of(jti), sent.damaged.is_none(), || {
            ("a damaged row, kept and told", "one that is taken for sound")
        })
    }

    fn count(&mut self, of: Invariant, what: &str, expected: u64, found: u64) -> Checked {
        self.tally.demand(of, self.case, expected == found, || (format!("{expected} {what}"), format!("{found}")))
    }
}

//! The sender's half: I1 as far as it shows in writes, I2, I3, I4, I6, I16, I19.

use std::time::Duration;

use pushpull::peer::{Chapter, OutboxRow, Outcome, Remembered, Write};
use pushpull::set::{Digest, Jti};

use super::Judge;
use super::ghost::{Asked, End, Sent, Standing};
use super::invariant::{Checked, Invariant};
use crate::sim::event::Org;

/// The longest time that an object waits to be inspected, in a process that is stopped for a while too.
const INSPECTED_WITHIN: Duration = Duration::from_secs(120);

/// The longest time for which a link that ends waits for what came by it.
const LINK_ENDS_WITHIN: Duration = Duration::from_secs(3);

/// Bytes of an object in which nothing is.
const FRAME: usize = 128;

impl Judge {
    /// The sender's half of this SET.
    pub(super) fn sent(&mut self, from: Org, to: Org, jti: &Jti) -> &mut Sent {
        let sets = &mut self.lane(from, to).sets;
        if !sets.contains_key(jti) {
            sets.insert(jti.clone(), super::ghost::Track::default());
        }
        &mut sets.get_mut(jti).expect("it was just made").sent
    }

    pub(super) fn submitted(&mut self, from: Org, to: Org, jti: &Jti, digest: Digest) {
        let at = self.now;
        let sent = self.sent(from, to, jti);
        match sent.asked(digest) {
            Some(asked) => asked.open += 1,
            None => sent.asked.push(Asked { digest, at, open: 1, accepted: false, unknown: false }),
        }
    }

    /// P1: what `send` has said yes to is on disk, with these bytes; a second content under a jti is no yes.
    pub(super) fn accepted(&mut self, from: Org, to: Org, jti: &Jti, digest: Digest) -> Checked {
        let case = self.case(from, to, Some(jti));
        let sent = self.sent(from, to, jti);
        let (standing, stored) = (sent.standing, sent.digest);
        if let Some(asked) = sent.asked(digest) {
            asked.open = asked.open.saturating_sub(1);
            asked.accepted = true;
        }
        self.tally.demand(Invariant::I1, case, standing != Standing::Absent, || {
            ("a durable row before `send` returns Ok", "none")
        })?;
        self.tally.demand(Invariant::I4, case, stored == Some(digest), || {
            (format!("a conflict: {stored:?} was accepted under this jti"), format!("Ok for {digest:?}"))
        })
    }

    pub(super) fn declined(&mut self, from: Org, to: Org, jti: &Jti, digest: Digest, why: &str) -> Checked {
        let case = self.case(from, to, Some(jti));
        // "beside a conflict" is said of the others in a call, which is taken as a whole or not at all.
        let is_conflict = why == "conflict";
        // A full disk is told by the commit that met it, which may succeed once there is room.
        let is_clear = why.contains("conflict") || why == "outbox full";
        let sent = self.sent(from, to, jti);
        let has_other =
            sent.asked.iter().any(|asked| asked.digest != digest) || sent.digest.is_some_and(|d| d != digest);
        if let Some(asked) = sent.asked(digest) {
            asked.open = asked.open.saturating_sub(1);
            // One that is stopping gives up the call where it stands: nobody knows whether the commit was begun.
            asked.unknown |= !is_clear;
        }
        if is_conflict {
            self.tally.demand(Invariant::I4, case, has_other, || {
                ("the same content to be accepted again", "a conflict, and nothing else was ever asked under this jti")
            })?;
        }
        Ok(())
    }

    pub(super) fn enqueued(&mut self, from: Org, to: Org, row: &OutboxRow) -> Checked {
        let jti = &row.jti;
        let case = self.case(from, to, Some(jti));
        let digest = Digest::of(row.compact.as_bytes());
        let (now, life, memory) = (self.now, self.member(from).life, self.bounds.memory);
        let reissue_of = row.story.reissue_of().cloned();
        let reissued = reissue_of.as_ref().is_some_and(|old| {
            let old = self.sent(from, to, old);
            matches!(old.standing, Standing::Closed(_)) && old.asked_for.contains(&"reissued")
        });
        let sent = self.sent(from, to, jti);
        let (standing, stored, ended_at) = (sent.standing, sent.digest, sent.ended_at);
        let asked = sent.asked(digest).is_some_and(|asked| asked.open > 0 || asked.accepted || asked.unknown);
        let any = !sent.asked.is_empty();
        let outbox_max = self.limits(from).peer.outbox_max;
        let tally = &mut self.tally;
        match standing {
            Standing::Lifted => {
                tally.demand(Invariant::I4, case, stored == Some(digest), || {
                    (format!("the bytes it always had, {stored:?}"), format!("{digest:?}"))
                })?;
                let series = matches!(row.story.chapters().last(), Some(Chapter::Series { .. })) && row.attempts == 0;
                tally.demand(Invariant::I2, case, series, || {
                    ("a new attempt series that is told as such", format!("{:?}", row.story))
                })?;
            }
            Standing::Absent => tally.demand(Invariant::I1, case, asked || reissued, || {
                let expected = if any { "one of the contents that were asked" } else { "nothing: nobody asked for it" };
                (expected, format!("a row of {digest:?}"))
            })?,
            Standing::Queued => {
                tally.demand(Invariant::I1, case, false, || ("one row", format!("another at {}", row.seq)))?
            }
            // A jti may be used again when its memory may be gone.
            _ if now >= ended_at + memory && asked => {
                tally.excuse("a jti was used again after its memory could have ended")
            }
            Standing::Acked | Standing::Refused | Standing::Dead | Standing::Closed(_) => {
                tally.demand(Invariant::I2, case, false, || {
                    (format!("it has ended ({}) and stays so", standing.word()), "it is queued again")
                })?;
            }
        }
        let lane = self.lane(from, to);
        lane.totals.queued += 1;
        lane.totals.ended -= u64::from(standing != Standing::Absent);
        let queued = lane.totals.queued;
        let other = lane.seqs.insert(row.seq, jti.clone());
        let sent = self.sent(from, to, jti);
        sent.standing = Standing::Queued;
        sent.digest = Some(digest);
        sent.seq = row.seq;
        let asked_at = sent.asked(digest).map(|asked| asked.at).filter(|_| standing == Standing::Absent);
        sent.since = asked_at.or(sent.redriving_at).unwrap_or(now);
        sent.life = life;
        (sent.times, sent.times_healed, sent.attempts, sent.told) = (0, 0, 0, None);
        self.tally.demand(Invariant::I1, case, other.is_none(), || {
            (format!("a place of its own, not {}", row.seq), format!("that of {other:?}"))
        })?;
        self.tally.demand(Invariant::I16, case, queued <= outbox_max, || {
            (format!("at most {outbox_max} SETs queued"), format!("{queued}"))
        })
    }

    pub(super) fn settled(
        &mut self,
        from: Org,
        to: Org,
        (seq, jti): (u64, &Jti),
        outcome: &Outcome,
        attempts: u32,
    ) -> Checked {
        let case = self.case(from, to, Some(jti));
        let now = self.now;
        let sent = self.sent(from, to, jti);
        let (standing, stored_seq) = (sent.standing, sent.seq);
        let left = sent.left_at.is_some();
        // A verdict may come while its SET is leaving, and wait for keys beside SETs of the same object; one that came long
        // before that was a guess.
        // It may also wait in the mailbox while a full disk keeps the commit of its SET from ending.
        let asked_at = sent.asked.iter().map(|asked| asked.at).min().unwrap_or_default();
        let fits = |came_at: &Duration| {
            let left_at = sent.left_at.unwrap_or(Duration::MAX);
            *came_at + INSPECTED_WITHIN >= left_at.min(asked_at)
        };
        let said = match outcome {
            Outcome::Acked => sent.acked_at.as_ref().is_some_and(fits),
            // A store keeps so much of a partner's code, and what came may be longer.
            Outcome::Refused(error) => {
                sent.refused_at.iter().any(|(code, came_at)| code.starts_with(error.err.as_str()) && fits(came_at))
            }
            Outcome::Dead(_) => true,
        };
        let in_broken = self.lane(from, to).sets.contains_key(jti) && self.lane(to, from).broken.contains(jti);
        let tally = &mut self.tally;
        tally.demand(Invariant::I2, case, !standing.has_ended(), || {
            (format!("it has ended ({}) and stays so", standing.word()), format!("{outcome:?}"))
        })?;
        tally.demand(Invariant::I1, case, standing == Standing::Queued && stored_seq == seq, || {
            (format!("the end of a queued SET, at {stored_seq}"), format!("that of one that is {standing:?}, at {seq}"))
        })?;
        if in_broken {
            tally.demand(Invariant::I15, case, said, || {
                ("no effect of an object that is refused as a whole", format!("{outcome:?} by its verdict"))
            })?;
        }
        if !matches!(outcome, Outcome::Dead(_)) {
            tally.demand(Invariant::I6, case, said, || {
                (format!("a verdict of {} itself", to.0), format!("{outcome:?}, and none such came"))
            })?;
            if !left {
                self.unsent.push((now, from, to, jti.clone()));
            }
        }
        self.by_policy(from, to, jti, outcome, attempts)?;
        let lane = self.lane(from, to);
        lane.seqs.remove(&seq);
        lane.totals.queued -= 1;
        lane.totals.ended += 1;
        let standing = match outcome {
            Outcome::Acked => {
                lane.totals.acked += 1;
                Standing::Acked
            }
            Outcome::Refused(_) => {
                lane.totals.refused += 1;
                Standing::Refused
            }
            Outcome::Dead(_) => {
                lane.totals.dead += 1;
                Standing::Dead
            }
        };
        lane.totals.dead_letters += u64::from(standing != Standing::Acked);
        let sent = self.sent(from, to, jti);
        sent.standing = standing;
        sent.ended_at = now;
        Ok(())
    }

    /// I6: nothing is settled that never left. What is put into a slot leaves when the link's task gets its turn, and a
    /// verdict that was there before it may be taken in between. No time passes, unless the link is about to end: then it
    /// waits for what came by it to be inspected, and takes nothing more.
    pub(super) fn left_after_all(&mut self) -> Checked {
        let (now, quiet) = (self.now, self.quiet_at.is_some());
        let is_over = |(at, ..): &(Duration, Org, Org, Jti)| now > *at + LINK_ENDS_WITHIN || quiet;
        if !self.unsent.iter().any(is_over) {
            return Ok(());
        }
        let (over, others) = std::mem::take(&mut self.unsent).into_iter().partition(is_over);
        self.unsent = others;
        let over: Vec<_> = over;
        for (_, from, to, jti) in over {
            let case = self.case(from, to, Some(&jti));
            let sent = self.sent(from, to, &jti);
            let (left, asked_at) = (sent.left_at.is_some(), sent.asked.iter().map(|asked| asked.at).min());
            // It was put into the slot of a link that had just ended, which its maker had not heard of yet.
            if !left && self.lane(from, to).parted_at.is_some_and(|parted_at| Some(parted_at) >= asked_at) {
                self.tally.excuse("settled by its partner after it was put into the slot of a link that had ended");
                continue;
            }
            self.tally.demand(Invariant::I6, case, left, || ("a SET that left", "one that never did is settled"))?;
        }
        Ok(())
    }

    pub(super) fn redriving(&mut self, org: Org, to: Org, jti: &Jti, how: &'static str) {
        let now = self.now;
        let sent = self.sent(org, to, jti);
        sent.asked_for.push(how);
        sent.redriving_at = Some(now);
    }

    /// A dead letter is dealt with: only for an operator, and sent again only if it was never answered (I2).
    pub(super) fn lifted(
        &mut self,
        from: Org,
        to: Org,
        (seq, jti): (u64, &Jti),
        memory: Option<&Remembered>,
    ) -> Checked {
        let case = self.case(from, to, Some(jti));
        let sent = self.sent(from, to, jti);
        let (standing, stored_seq) = (sent.standing, sent.seq);
        let story = memory.map(|memory| &memory.story);
        let how = match story {
            None => "resent",
            Some(story) if story.discarded_at().is_some() => "discarded",
            Some(_) => "reissued",
        };
        let was_asked = sent.asked_for.contains(&how);
        let was_dead = match standing {
            Standing::Refused => Some(End::Refused),
            Standing::Dead => Some(End::Dead),
            _ => None,
        };
        let tally = &mut self.tally;
        tally.demand(Invariant::I2, case, was_asked, || {
            (format!("nothing: no operator asked for it to be {how}"), "a dead letter is gone")
        })?;
        tally.demand(Invariant::I1, case, was_dead.is_some() && stored_seq == seq, || {
            (format!("a dead letter at {stored_seq}"), format!("one that is {standing:?}, at {seq}"))
        })?;
        tally.demand(Invariant::I2, case, how != "resent" || was_dead == Some(End::Dead), || {
            ("a jti that was answered is never used again", "it is queued again")
        })?;
        self.lane(from, to).totals.dead_letters -= 1;
        self.sent(from, to, jti).standing = match was_dead {
            Some(end) if how != "resent" => Standing::Closed(end),
            _ => Standing::Lifted,
        };
        Ok(())
    }

    /// A dead letter that is resent leaves and is queued in one commit, or a crash between would take it.
    pub(super) fn nothing_lifted(&mut self, from: Org, to: Org, writes: &[Write]) -> Checked {
        for write in writes {
            let Write::Lift { jti, .. } = write else { continue };
            let case = self.case(from, to, Some(jti));
            let standing = self.sent(from, to, jti).standing;
            self.tally.demand(Invariant::I1, case, standing != Standing::Lifted, || {
                ("a row in the outbox by the same commit", "none, and no dead letter either")
            })?;
        }
        Ok(())
    }

    /// As far as their maker knows they have left.
    pub(super) fn stranded(&mut self, from: Org, to: Org, jtis: &[Jti]) {
        let now = self.now;
        for jti in jtis {
            self.sent(from, to, jti).left_at.get_or_insert(now);
        }
    }

    /// What the operator was told is durable.
    pub(super) fn redriven(&mut self, org: Org, to: Org, jti: &Jti, how: &str, new: Option<&Jti>) -> Checked {
        let case = self.case(org, to, Some(jti));
        let standing = self.sent(org, to, jti).standing;
        // Resent, it may have ended again meanwhile: only what was never resent is still as it was.
        let done = match how {
            "resent" => standing != Standing::Absent && !matches!(standing, Standing::Lifted),
            _ => matches!(standing, Standing::Closed(_)),
        };
        self.tally.demand(Invariant::I1, case, done, || {
            (format!("it is durable that this dead letter was {how}"), format!("it is {standing:?}"))
        })?;
        if let Some(new) = new {
            let case = self.case(org, to, Some(new));
            let standing = self.sent(org, to, new).standing;
            self.tally.demand(Invariant::I1, case, standing != Standing::Absent, || {
                ("a durable row of the SET that says it again", "none")
            })?;
        }
        Ok(())
    }

    /// A SET leaves.
    pub(super) fn left(&mut self, from: Org, to: Org, link: u64, jti: &Jti, digest: Digest) -> Checked {
        self.verdict_was_heard(from, to, jti)?;
        self.is_no_late_retry(from, to, link, jti)?;
        let case = self.case(from, to, Some(jti));
        let now = self.now;
        let life = self.member(from).life;
        let is_doubted = self.member(from).clock_was_wrong || self.member(to).clock_was_wrong;
        let believed_within = if is_doubted { self.bounds.clocks_believed_within } else { Duration::ZERO };
        let whole_within = self.bounds.links_whole_within.max(believed_within);
        let links_whole = self.healed.is_some_and(|at| now >= at + whole_within);
        let paused_since = self.lane(from, to).paused_since;
        // What was chosen before may leave in the same instant, as below.
        let may_leave = paused_since.is_none_or(|since| since == now);
        self.tally.demand(Invariant::Pause, case, may_leave, || {
            ("nothing until an operator resumes", format!("a SET leaves, paused at {paused_since:?}"))
        })?;
        let sent = self.sent(from, to, jti);
        let (standing, stored, ended_at, damaged) = (sent.standing, sent.digest, sent.ended_at, sent.damaged);
        if sent.times == 0 {
            sent.first_at = now;
        }
        sent.times += 1;
        if links_whole && sent.times_healed == 0 {
            sent.healed_at = now;
        }
        sent.times_healed += u32::from(links_whole);
        sent.left_at.get_or_insert(now);
        sent.last = Some((now, link, life));
        let tally = &mut self.tally;
        tally.demand(Invariant::I4, case, standing != Standing::Absent, || {
            ("only what is durable in the outbox leaves", "a SET that is not")
        })?;
        tally.demand(Invariant::I4, case, stored == Some(digest), || {
            (format!("the bytes that were accepted, {stored:?}"), format!("{digest:?}"))
        })?;
        if standing.has_ended() && ended_at == now {
            // An object is chosen when its step has been committed, and leaves when the link's task gets its turn. Another
            // step may end the SET in between, but no time passes: a link that is busy has no slot to fill.
            tally.excuse("left in the same instant in which it ended: chosen before");
        } else {
            tally.demand(Invariant::I3, case, standing == Standing::Queued, || {
                (format!("silence: it is {} since {:.6} s", standing.word(), ended_at.as_secs_f64()), "it leaves again")
            })?;
        }
        if let Some(in_life) = damaged {
            if in_life == life {
                // What was read before the damage is as sound as it ever was, and in memory. Only a process that has
                // started since must have read the row again.
                tally.excuse("left from memory after its row was damaged");
            } else {
                tally.demand(Invariant::I18, case, false, || ("a damaged row stays where it is", "its SET leaves"))?;
            }
        }
        Ok(())
    }

    /// I16: an object keeps the limits of its link. A single item may be larger, or it could never leave.
    pub(super) fn within_limits(
        &mut self,
        from: Org,
        to: Org,
        sets: usize,
        verdicts: usize,
        (sets_max, bytes, bytes_max): (usize, usize, usize),
    ) -> Checked {
        let case = self.case(from, to, None);
        let tally = &mut self.tally;
        tally.demand(Invariant::I16, case, sets <= sets_max, || {
            (format!("at most {sets_max} SETs in an object"), format!("{sets}"))
        })?;
        let is_single = sets + verdicts <= 1;
        // The core counts what is in an object, not the braces and names around it.
        tally.demand(Invariant::I16, case, bytes <= bytes_max + FRAME || is_single, || {
            (
                format!("at most {bytes_max} bytes in an object"),
                format!("{bytes}, with {sets} SETs and {verdicts} verdicts"),
            )
        })
    }

    /// Verdicts of `from` about SETs that `org` has sent to it, or that it only guesses.
    pub(super) fn verdicts_came(&mut self, org: Org, from: Org, acks: &[Jti], errors: &[(Jti, String)]) {
        let now = self.now;
        let life = self.member(org).life;
        let told = |sent: &mut Sent| {
            // What a process never sent is not its own to settle (R6), and what waits for an operator is not under way.
            let is_under_way =
                sent.standing == Standing::Queued && sent.last.is_some_and(|(.., in_life)| in_life == life);
            if is_under_way && sent.times > 0 {
                sent.told.get_or_insert((now, life));
            }
        };
        for jti in acks {
            let sent = self.sent(org, from, jti);
            sent.acked_at = Some(now);
            told(sent);
        }
        for (jti, code) in errors {
            let sent = self.sent(org, from, jti);
            told(sent);
            match sent.refused_at.iter_mut().find(|(known, _)| known == code) {
                Some((_, came_at)) => *came_at = now,
                None => sent.refused_at.push((code.clone(), now)),
            }
        }
    }

    /// I19: whoever gets a SET of ours that is not settled can find its key.
    pub(super) fn key_is_published(&mut self, to: Org, from: Org, jti: &Jti) -> Checked {
        let case = self.case(from, to, Some(jti));
        let Some(member) = self.members.get(&from) else { return Ok(()) };
        let Some(kids) = member.signed.get(jti) else { return Ok(()) };
        let holds = kids.iter().any(|kid| member.published.contains(kid));
        self.tally.demand(Invariant::I19, case, holds, || {
            (format!("the key {kids:?} among the published ones"), format!("{:?}", member.published))
        })
    }
}

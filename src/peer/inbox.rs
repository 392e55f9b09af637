//! The pending-ack table: what arrived, what we say to it, and what of that still has to leave.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::config::Config;
use super::input::{Arrival, Finding};
use super::output::Audit;
use super::row::{Fate, InboxRow, Verdict, Write};
use crate::clock::Timestamp;
use crate::planted::{self, Bug};
use crate::set::{Digest, ErrorCode, Jti};

/// The receiving half of a [`super::Peer`].
#[derive(Debug)]
pub(super) struct Inbox {
    config: Arc<Config>,
    /// Jtis whose verdict has to leave, oldest first; may name some that are gone from `verdicts`.
    queue: VecDeque<Jti>,
    verdicts: HashMap<Jti, Verdict>,
    /// About so many bytes they will take.
    bytes: usize,
    /// Verdicts of this step: the store does not know them yet, but they stand (R11).
    decided: HashMap<Jti, (Digest, Verdict)>,
    /// SETs that this step puts into the inbox, which the store has not counted yet.
    received: u64,
    /// Refusals are written at a bounded rate: the time up to which the allowance is spent.
    spent_until: Duration,
}

/// What one object's SETs came to, for the audit.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) received: usize,
    pub(super) labels: Vec<(&'static str, u64)>,
    pub(super) duplicates: u64,
    pub(super) audits: Vec<Audit>,
    refused: Option<(usize, Jti, ErrorCode)>,
    conflicts: Option<(usize, Jti)>,
    no_room: usize,
    suppressed: usize,
}

impl Inbox {
    pub(super) fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            queue: VecDeque::new(),
            verdicts: HashMap::new(),
            bytes: 0,
            decided: HashMap::new(),
            received: 0,
            spent_until: Duration::ZERO,
        }
    }

    /// Judges the SETs of one object: what to write goes to `writes`, verdicts become owed.
    pub(super) fn judge(
        &mut self,
        arrivals: Vec<Arrival>,
        inbox_room: u64,
        now: Timestamp,
        writes: &mut Vec<Write>,
    ) -> Tally {
        let mut tally = Tally::default();
        let mut room = inbox_room.saturating_sub(self.received);
        // At once, since to grow by doubling would hash every jti again.
        self.decided.reserve(arrivals.len());
        self.verdicts.reserve(arrivals.len());
        for arrival in arrivals {
            if self.verdicts.len() >= self.config.owed_max {
                // With nowhere to keep the answer there must be no effect either; the SET will come again.
                tally.no_room += 1;
                continue;
            }
            if let Some((digest, verdict)) = self.first_verdict(&arrival) {
                if digest != arrival.digest {
                    tally.conflicts.get_or_insert_with(|| (0, arrival.jti.clone())).0 += 1;
                }
                tally.duplicates += 1;
                let verdict = match arrival.finding {
                    _ if planted::is(Bug::VerdictNotRepeated) => continue,
                    Finding::Refuse(refusal) if planted::is(Bug::VerdictRecomputed) => Verdict::Refused(refusal),
                    _ => verdict,
                };
                self.owe(arrival.jti, verdict);
                continue;
            }
            let Arrival { jti, digest, finding, label, issued_at, .. } = arrival;
            // Remembered for as long as its `iat` lets it come again, also if our clock runs behind.
            let received_at = now.wall.max(issued_at);
            let (verdict, write) = match finding {
                Finding::Undecidable if planted::is(Bug::UndecidableAcked) => {
                    self.owe(jti, Verdict::Acked);
                    continue;
                }
                Finding::Undecidable => continue,
                Finding::Deliver(_) if room == 0 => {
                    if planted::is(Bug::AckWithInboxFull) {
                        self.owe(jti, Verdict::Acked);
                    }
                    tally.no_room += 1;
                    continue;
                }
                Finding::Deliver(compact) => {
                    room -= 1;
                    tally.receive(label);
                    let row = InboxRow { jti: jti.clone(), compact, digest, received_at };
                    (Verdict::Acked, Write::Receive(row))
                }
                // Nobody has to confirm them, so nothing else bounds what is remembered of them.
                Finding::Acknowledge if !self.spend_answer(now.mono) => {
                    tally.suppressed += 1;
                    continue;
                }
                Finding::Acknowledge => (
                    Verdict::Acked,
                    Write::Answer { jti: jti.clone(), digest, verdict: Verdict::Acked, at: received_at },
                ),
                Finding::Refuse(_) if !self.spend_answer(now.mono) => {
                    tally.suppressed += 1;
                    continue;
                }
                Finding::Refuse(refusal) => {
                    tally.refuse(&jti, refusal.code);
                    let verdict = Verdict::Refused(refusal);
                    (verdict.clone(), Write::Answer { jti: jti.clone(), digest, verdict, at: now.wall })
                }
            };
            writes.push(write);
            self.decided.insert(jti.clone(), (digest, verdict.clone()));
            self.owe(jti, verdict);
        }
        self.received += tally.received as u64;
        self.shrink();
        tally.finish()
    }

    /// Takes verdicts to send, oldest first, as many as fit; with `at_least_one` the first in any case.
    pub(super) fn take(&mut self, count_max: usize, mut room: usize, at_least_one: bool) -> Vec<(Jti, Verdict)> {
        let mut taken = Vec::new();
        while let Some(jti) = self.queue.front() {
            if taken.len() >= count_max {
                break;
            }
            if let Some((jti, verdict)) = self.verdicts.remove_entry(jti) {
                let bytes = verdict_bytes(&jti, &verdict);
                let must = at_least_one && taken.is_empty();
                if bytes > room && !must {
                    self.verdicts.insert(jti, verdict);
                    break;
                }
                room = room.saturating_sub(bytes);
                self.bytes -= bytes;
                taken.push((jti, verdict));
            }
            self.queue.pop_front();
        }
        self.shrink();
        taken
    }

    /// Gives back the room of a burst that is over.
    fn shrink(&mut self) {
        if self.verdicts.is_empty() && self.verdicts.capacity().max(self.queue.capacity()) > KEPT_MAX {
            (self.verdicts, self.queue) = (HashMap::new(), VecDeque::new());
        }
    }

    /// Takes what is owed of these, in their order: nobody else is to tell it.
    pub(super) fn take_own(&mut self, jtis: &[Jti]) -> Vec<(Jti, Verdict)> {
        jtis.iter().filter_map(|jti| self.take_one(jti)).collect()
    }

    fn take_one(&mut self, jti: &Jti) -> Option<(Jti, Verdict)> {
        let (jti, verdict) = self.verdicts.remove_entry(jti)?;
        self.bytes -= verdict_bytes(&jti, &verdict);
        // What was owed last is what is asked for first.
        if let Some(place) = self.queue.iter().rposition(|queued| *queued == jti) {
            self.queue.remove(place);
        }
        self.shrink();
        Some((jti, verdict))
    }

    /// Notes that this verdict has to leave (once more).
    pub(super) fn owe(&mut self, jti: Jti, verdict: Verdict) {
        self.bytes += verdict_bytes(&jti, &verdict);
        match self.verdicts.insert(jti.clone(), verdict) {
            None => self.queue.push_back(jti),
            Some(same) => self.bytes -= verdict_bytes(&jti, &same),
        }
    }

    /// Everything said in this step is about to be durable: from now on the store knows it.
    pub(super) fn end_step(&mut self) {
        if self.decided.capacity() > KEPT_MAX {
            self.decided = HashMap::new()
        } else {
            self.decided.clear()
        }
        self.received = 0;
    }

    pub(super) fn owed(&self) -> usize {
        self.verdicts.len()
    }

    /// About so many bytes all that is owed will take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The verdict that stands for this jti already, with the digest of what it was given for (R4, R11).
    fn first_verdict(&self, arrival: &Arrival) -> Option<(Digest, Verdict)> {
        if let Some(decided) = self.decided.get(&arrival.jti).filter(|_| !planted::is(Bug::StepForgetsItsVerdicts)) {
            return Some(decided.clone());
        }
        let known = arrival.known.as_ref()?;
        match &known.fate {
            Fate::Answered(verdict) => Some((known.digest, verdict.clone())),
            // The memory of our own sends is kept apart; the store never returns it for this direction.
            Fate::Queued | Fate::Settled { .. } => None,
        }
    }

    /// Whether one more verdict on what is not handed over may be written: on average `refusals_per_second`, ten seconds' worth
    /// at once.
    fn spend_answer(&mut self, now: Duration) -> bool {
        let each = Duration::from_secs(1) / self.config.refusals_per_second.max(1);
        let start = self.spent_until.max(now);
        if start > now + Duration::from_secs(10) {
            return false;
        }
        self.spent_until = start + each;
        true
    }
}

/// Room for so many verdicts is kept while there is none.
const KEPT_MAX: usize = 64;

fn verdict_bytes(jti: &Jti, verdict: &Verdict) -> usize {
    let own = match verdict {
        Verdict::Acked => 3,
        Verdict::Refused(refusal) => 64 + refusal.description.len(),
    };
    jti.as_str().len() + own
}

#[cfg(test)]
impl Inbox {
    /// Panics unless the queue names exactly the verdicts that are owed.
    pub(super) fn check(&self) {
        assert_eq!(self.queue.len(), self.verdicts.len(), "verdicts owed");
        let bytes: usize = self.verdicts.iter().map(|(jti, verdict)| verdict_bytes(jti, verdict)).sum();
        assert_eq!(self.bytes, bytes, "bytes of verdicts owed");
        assert!(self.queue.iter().all(|jti| self.verdicts.contains_key(jti)), "a verdict is queued and gone");
        let room = if self.verdicts.is_empty() { self.verdicts.capacity().max(self.queue.capacity()) } else { 0 };
        assert!(room.max(self.decided.capacity()) <= KEPT_MAX, "room for {room} is kept for nothing");
    }
}

impl Tally {
    fn receive(&mut self, label: &'static str) {
        self.received += 1;
        match self.labels.iter_mut().find(|(known, _)| *known == label) {
            Some((_, count)) => *count += 1,
            None => self.labels.push((label, 1)),
        }
    }

    fn refuse(&mut self, jti: &Jti, code: ErrorCode) {
        self.refused.get_or_insert_with(|| (0, jti.clone(), code)).0 += 1;
    }

    fn finish(mut self) -> Self {
        if let Some((count, jti, code)) = self.refused.take() {
            self.audits.push(Audit::Refused(count, jti, code));
        }
        if let Some((count, jti)) = self.conflicts.take() {
            self.audits.push(Audit::JtiConflict(count, jti));
        }
        if self.no_room > 0 {
            self.audits.push(Audit::InboxFull(self.no_room));
        }
        if self.suppressed > 0 {
            self.audits.push(Audit::RefusalsSuppressed(self.suppressed));
        }
        self
    }
}

//! Counts what a step came to, once it is durable.

use std::sync::Arc;
use std::time::Duration;

use super::actor::known;
use super::recent::{Last, Recent, Refused};
use crate::clock::Wall;
use crate::metrics::PeerMetrics;
use crate::peer::{DeathCause, Figures, Outcome, Output, Verdict, Write};
use crate::set::ErrorCode;

/// The counters of one actor.
pub(super) struct Counting {
    pub(super) metrics: Arc<PeerMetrics>,
    pub(super) recent: Arc<Recent>,
    /// Accepted since the last commit, by what they are counted by.
    pub(super) accepted: Vec<(&'static str, u64)>,
    /// When the objects came whose SETs are judged in this step (monotonic time).
    pub(super) arrived_at: Vec<Duration>,
}

impl Counting {
    pub(super) fn new(metrics: Arc<PeerMetrics>, recent: Arc<Recent>) -> Self {
        Self { metrics, recent, accepted: Vec::new(), arrived_at: Vec::new() }
    }

    /// A SET is accepted with the next commit.
    pub(super) fn accept(&mut self, label: &'static str) {
        match self.accepted.iter_mut().find(|(known, _)| *known == label) {
            Some((_, count)) => *count += 1,
            None => self.accepted.push((label, 1)),
        }
    }

    /// What these writes come to. Taken before the commit, which consumes them; counted after it.
    pub(super) fn sum(writes: &[Write], at: Wall) -> Sum {
        let mut sum = Sum { at, ..Sum::default() };
        for write in writes {
            match write {
                Write::Settle { outcome: Outcome::Acked, .. } => sum.acked += 1,
                Write::Settle { outcome: Outcome::Refused(error), jti, .. } => {
                    sum.rejected.push(known(&error.err));
                    sum.refusal = Some(Refused { at, jti: jti.clone(), err: known(&error.err) });
                }
                Write::Settle { outcome: Outcome::Dead(cause), .. } => sum.dead.push(*cause),
                Write::Answer { verdict: Verdict::Refused(refusal), .. } => sum.invalid.push(refusal.code),
                Write::Answer { verdict: Verdict::Acked, .. } => sum.verified += 1,
                _ => {}
            }
        }
        sum
    }

    /// Everything of the step is durable.
    pub(super) fn count(&mut self, sum: Sum, figures: &Figures, outputs: &[Output], now: Duration) {
        let metrics = &self.metrics;
        for (label, count) in self.accepted.drain(..) {
            metrics.accepted.add(label, count);
        }
        for at in self.arrived_at.drain(..) {
            metrics.receive.observe(now.saturating_sub(at).as_secs_f64());
        }
        for (label, count) in &figures.received {
            metrics.received.add(label, *count);
        }
        if figures.duplicates > 0 {
            metrics.duplicate.add(figures.duplicates);
        }
        let retries = figures.retries;
        for (reason, count) in
            [("no_answer", retries.no_answer), ("lost", retries.lost), ("batch_refused", retries.batch_refused)]
        {
            if count > 0 {
                metrics.retries.add(reason, count);
            }
        }
        for time in &figures.ack_times {
            metrics.ack_latency.observe(time.as_secs_f64());
        }
        if sum.acked > 0 {
            metrics.acked.add(sum.acked);
        }
        for code in &sum.rejected {
            metrics.rejected.add(code, 1);
        }
        for code in &sum.invalid {
            metrics.invalid.add(code.as_str(), 1);
        }
        for cause in &sum.dead {
            metrics.dead.add(cause.as_str(), 1);
        }
        for _ in 0..sum.verified {
            metrics.verification("in", "acked");
        }
        let mut verdicts = false;
        for output in outputs {
            match output {
                Output::Settled { outcome: Outcome::Acked, after, .. } => metrics.delivery.observe(after.as_secs_f64()),
                Output::Transmit(_, object) => verdicts |= !object.verdicts.is_empty(),
                _ => {}
            }
        }
        let received = !figures.received.is_empty();
        if sum.acked > 0 || sum.refusal.is_some() || received || verdicts {
            self.recent.note(|last| sum.note(last, received, verdicts));
        }
    }
}

/// What the writes of one step come to.
#[derive(Default)]
pub(super) struct Sum {
    at: Wall,
    acked: u64,
    rejected: Vec<&'static str>,
    refusal: Option<Refused>,
    dead: Vec<DeathCause>,
    invalid: Vec<ErrorCode>,
    verified: u64,
}

impl Sum {
    fn note(self, last: &mut Last, received: bool, verdicts: bool) {
        if self.acked > 0 {
            last.ack_at = Some(self.at);
        }
        if self.refusal.is_some() {
            last.refusal = self.refusal;
        }
        if received {
            last.received_at = Some(self.at);
        }
        if verdicts {
            last.verdict_at = Some(self.at);
        }
    }
}

//! What may go wrong with a disk, and the luck that decides when.

use std::time::Duration;

use pushpull::random::Random;

/// How likely what goes wrong. All zero is a disk that works; may be changed at any time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Share of writes, syncs and reads that take time.
    pub slow: f64,
    /// How much at most.
    pub latency: Duration,
    /// A write fails with EIO, by transaction: nothing of it can be found again, and the store is done for.
    pub write_fails: f64,
    /// A sync fails with EIO, by transaction: what is on the disk is unknown, and the store is done for.
    pub sync_fails: f64,
    /// The disk fills up, by transaction: [`pushpull::store::Error::Full`] until somebody frees it.
    pub fills: f64,
    /// The process dies within a commit, by transaction: it happens or not, and nobody is told.
    pub unknown: f64,
    /// A bit of a row of an outbox or inbox flips at rest, by transaction.
    pub flips: f64,
    /// The process dies while it recovers, by start.
    pub recovery_dies: f64,
}

/// All luck of one disk.
#[derive(Clone, Debug)]
pub(super) struct Luck(Random);

impl Luck {
    pub(super) fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    /// True with this probability. What never happens draws nothing, so that switching one fault off leaves the others.
    pub(super) fn strikes(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.share() < probability
    }

    #[expect(clippy::cast_precision_loss, reason = "53 bits are what fits")]
    fn share(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0.below(n)
    }

    /// How long this write, sync or read takes.
    pub(super) fn wait(&mut self, faults: &Faults) -> Duration {
        if faults.latency.is_zero() || !self.strikes(faults.slow) {
            return Duration::ZERO;
        }
        self.0.jitter(faults.latency)
    }
}

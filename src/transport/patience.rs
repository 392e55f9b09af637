//! How long bytes that have to come may keep us waiting: slow is fine, standing still is not.

use std::time::Duration;

/// Is spent by waiting, and earned back by bytes.
#[derive(Debug)]
pub(super) struct Patience {
    left: Duration,
    most: Duration,
    rate_min: u32,
}

impl Patience {
    /// Waits for `most` where nothing comes, and for ever while `rate_min` bytes come in a second.
    pub(super) fn new(most: Duration, rate_min: u32) -> Self {
        Self { left: most, most, rate_min: rate_min.max(1) }
    }

    pub(super) fn left(&self) -> Duration {
        self.left
    }

    pub(super) fn spend(&mut self, waited: Duration) {
        self.left = self.left.saturating_sub(waited);
    }

    pub(super) fn earn(&mut self, bytes: usize) {
        let earned = Duration::from_secs_f64(bytes as f64 / f64::from(self.rate_min));
        self.left = self.left.saturating_add(earned).min(self.most);
    }

    pub(super) fn renew(&mut self) {
        self.left = self.most;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_earn_patience_at_the_lowest_rate_but_never_more_than_at_the_start() {
        let second = Duration::from_secs(1);
        let mut patience = Patience::new(10 * second, 1000);
        patience.earn(1_000_000);
        assert_eq!(patience.left, 10 * second);
        for _ in 0..100 {
            patience.spend(second);
            patience.earn(1000);
        }
        assert_eq!(patience.left, 10 * second, "exactly the lowest rate lasts for ever");
        for _ in 0..19 {
            patience.spend(second);
            patience.earn(500);
        }
        assert_eq!(patience.left, second / 2, "half of it lasts twice the patience");
    }
}

//! How long to wait before trying again: longer each time, and never in step with others.

use std::time::Duration;

use crate::random::Random;

/// Pauses that grow by decorrelated jitter: each is drawn between `first` and three times the one before, at most `max`.
///
/// A thousand transceivers that lost the same partner come back spread out, not as one wave.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    last: Duration,
    random: Random,
}

impl Backoff {
    /// Pauses from `first` to `max`; the seed decides the jitter.
    pub fn new(first: Duration, max: Duration, seed: u64) -> Self {
        Self { first, max: max.max(first), last: first, random: Random::new(seed) }
    }

    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let spread = self.last.saturating_mul(3).saturating_sub(self.first);
        self.last = self.first.saturating_add(self.random.jitter(spread)).min(self.max);
        self.last
    }

    /// It worked: the next pause is a short one again.
    pub fn reset(&mut self) {
        self.last = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(1);
    const MAX: Duration = Duration::from_secs(60);

    #[test]
    fn pauses_stay_within_bounds_and_grow_to_the_longest() {
        let mut backoff = Backoff::new(FIRST, MAX, 1);
        assert!(backoff.pause() <= 3 * FIRST);
        let pauses: Vec<_> = (0..200).map(|_| backoff.pause()).collect();
        assert!(pauses.iter().all(|pause| (FIRST..=MAX).contains(pause)));
        assert!(pauses.contains(&MAX));
    }

    #[test]
    fn after_success_the_pauses_start_anew() {
        let mut backoff = Backoff::new(FIRST, MAX, 2);
        assert!((0..50).any(|_| backoff.pause() > 3 * FIRST));
        backoff.reset();
        assert!(backoff.pause() <= 3 * FIRST);
    }

    #[test]
    fn two_seeds_do_not_march_in_step() {
        let (mut a, mut b) = (Backoff::new(FIRST, MAX, 3), Backoff::new(FIRST, MAX, 4));
        assert!((0..10).any(|_| a.pause() != b.pause()));
    }
}

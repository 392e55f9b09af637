//! How long to wait before trying again: longer each time, and never in step with others.

use std::time::Duration;

use crate::random::Random;

/// Pauses that grow by decorrelated jitter: each is drawn between `least` and three times the one before, at most `max`.
///
/// A thousand transceivers that lost the same partner come back spread out, not as one wave. `least` begins at `first`
/// and grows too: chance alone would now and then keep the pauses short for minutes, and a partner that is down would be
/// dialled up to once a second.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    least: Duration,
    max: Duration,
    last: Duration,
    random: Random,
}

impl Backoff {
    /// Pauses from `first` to `max`; the seed decides the jitter.
    pub fn new(first: Duration, max: Duration, seed: u64) -> Self {
        Self { first, least: first, max: max.max(first), last: first, random: Random::new(seed) }
    }

    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let spread = self.last.saturating_mul(3).saturating_sub(self.least);
        self.last = self.least.saturating_add(self.random.jitter(spread)).min(self.max);
        self.least = self.least.saturating_add(self.least / 4).min(self.max / 2).max(self.first);
        self.last
    }

    /// It worked: the next pause is a short one again.
    pub fn reset(&mut self) {
        (self.last, self.least) = (self.first, self.first);
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
    fn no_minute_sees_more_than_thirty_attempts_whatever_the_luck() {
        // Those of the links: a WebSocket's, and both that are used together while there is only HTTP.
        let of =
            |first: u64, max: u64, seed| Backoff::new(Duration::from_millis(first), Duration::from_secs(max), seed);
        for seed in 0..300 {
            for used in [vec![of(200, 30, seed)], vec![of(500, 60, seed), of(2_000, 60, seed + 7_000)]] {
                let mut attempts = Vec::new();
                for mut backoff in used {
                    let mut at = Duration::ZERO;
                    while at < 10 * MAX {
                        attempts.push(at);
                        at += backoff.pause();
                    }
                }
                attempts.sort_unstable();
                let within = |from: Duration| attempts.iter().filter(|at| (from..from + MAX).contains(*at)).count();
                let most = attempts.iter().map(|from| within(*from)).max();
                assert!(most <= Some(30), "seed {seed}: {most:?} attempts in a minute");
            }
        }
    }

    #[test]
    fn two_seeds_do_not_march_in_step() {
        let (mut a, mut b) = (Backoff::new(FIRST, MAX, 3), Backoff::new(FIRST, MAX, 4));
        assert!((0..10).any(|_| a.pause() != b.pause()));
    }
}

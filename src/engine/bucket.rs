//! Token buckets: what one partner may do at once, and how often on average.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How often something may be done.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Tokens that come back in a second.
    pub per_second: u32,
    /// How long a bucket takes to fill: so much may be done at once.
    pub burst: Duration,
}

/// No token is left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Empty {
    /// When the next one is there.
    pub wait: Duration,
    /// How long its owner has kept the bucket empty, without a pause that filled even half of it.
    pub lasting: Duration,
}

/// A bucket that starts full. It holds only instants of monotonic time, so it costs nothing while nobody takes from it,
/// and the rate may change at any time.
#[derive(Debug, Default)]
pub struct Bucket(Mutex<Level>);

#[derive(Debug, Default)]
struct Level {
    /// The time up to which the tokens are spent.
    spent_until: Duration,
    empty_since: Option<Duration>,
}

impl Bucket {
    /// Takes a token, if there is one.
    pub fn take(&self, rate: Rate, now: Duration) -> Result<(), Empty> {
        let mut level = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let spent_until = level.spent_until.max(now) + rate.price(1);
        let full_at = now + rate.burst.max(rate.price(1));
        if spent_until > full_at {
            let since = *level.empty_since.get_or_insert(now);
            return Err(Empty { wait: spent_until - full_at, lasting: now.saturating_sub(since) });
        }
        if spent_until <= now + rate.burst / 2 {
            level.empty_since = None;
        }
        level.spent_until = spent_until;
        Ok(())
    }

    /// Whether there is a token.
    pub fn has_any(&self, rate: Rate, now: Duration) -> bool {
        let level = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        level.spent_until <= now + rate.burst
    }

    /// Takes tokens for what has been done already: there need not be so many. However many they were, after `debt_max`
    /// there is one again.
    pub fn charge(&self, count: usize, rate: Rate, debt_max: Duration, now: Duration) {
        let mut level = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let price = rate.price(u32::try_from(count).unwrap_or(u32::MAX));
        level.spent_until = level.spent_until.max(now).saturating_add(price).min(now + rate.burst + debt_max);
    }
}

impl Rate {
    fn price(self, count: u32) -> Duration {
        (Duration::from_secs(1) / self.per_second.max(1)).saturating_mul(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 10, burst: Duration::from_secs(2) };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// How many tokens can be had at this time.
    fn drain(bucket: &Bucket, now: Duration) -> usize {
        (0..1000).take_while(|_| bucket.take(RATE, now).is_ok()).count()
    }

    #[test]
    fn a_burst_is_free_and_then_the_rate_holds() {
        let bucket = Bucket::default();
        assert_eq!(drain(&bucket, ms(5000)), 20);
        assert_eq!(bucket.take(RATE, ms(5000)).map_err(|empty| empty.wait), Err(ms(100)));
        assert_eq!(drain(&bucket, ms(5099)), 0);
        assert_eq!(drain(&bucket, ms(5300)), 3);
        assert_eq!(drain(&bucket, ms(900_000)), 20, "however long nobody came");
    }

    #[test]
    fn refused_attempts_cost_nothing() {
        let bucket = Bucket::default();
        drain(&bucket, ms(0));
        for _ in 0..1000 {
            assert!(bucket.take(RATE, ms(50)).is_err());
        }
        assert_eq!(drain(&bucket, ms(100)), 1);
    }

    #[test]
    fn a_bucket_is_kept_empty_by_whoever_takes_all_that_comes_and_by_nobody_who_pauses() {
        let bucket = Bucket::default();
        let mut lasting = Duration::ZERO;
        for tick in 0..100 {
            drain(&bucket, ms(100 * tick));
            lasting = bucket.take(RATE, ms(100 * tick)).unwrap_err().lasting;
        }
        assert_eq!(lasting, ms(9900));
        // Half of the burst is back after a second.
        assert!(bucket.take(RATE, ms(11_100)).is_ok());
        drain(&bucket, ms(11_100));
        assert_eq!(bucket.take(RATE, ms(11_100)).unwrap_err().lasting, Duration::ZERO);
    }

    #[test]
    fn a_charge_may_lead_into_debt_but_not_into_more_than_its_bound() {
        let bucket = Bucket::default();
        bucket.charge(20, RATE, ms(1000), ms(0));
        assert!(bucket.has_any(RATE, ms(0)), "as much as a full bucket holds");
        bucket.charge(1_000_000, RATE, ms(1000), ms(0));
        assert!(!bucket.has_any(RATE, ms(999)));
        assert!(bucket.has_any(RATE, ms(1000)));
    }

    #[test]
    fn a_rate_of_nothing_still_lets_one_a_second_through() {
        let bucket = Bucket::default();
        let rate = Rate { per_second: 0, burst: Duration::ZERO };
        assert!(bucket.take(rate, ms(0)).is_ok());
        assert!(bucket.take(rate, ms(0)).is_err());
        assert!(bucket.take(rate, ms(1000)).is_ok());
    }

    #[test]
    fn the_highest_rate_bounds_nothing() {
        let (bucket, rate) = (Bucket::default(), Rate { per_second: u32::MAX, burst: Duration::from_secs(2) });
        assert!((0..100_000).all(|_| bucket.take(rate, Duration::ZERO).is_ok()));
    }
}

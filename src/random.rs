//! A small seedable random number generator (splitmix64): for jitter and simulations, so that any seed replays.
//! Never for secrets or keys; those come from `aws_lc_rs`.

use std::time::Duration;

/// A generator; its whole state is one number.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator that starts at this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator seeded by the system, different in every process and at every call.
    pub fn from_system() -> Self {
        let mut seed = [0; 8];
        // Without randomness from the system no TLS handshake succeeds either; jitter then hardly matters.
        let _ = aws_lc_rs::rand::fill(&mut seed);
        Self(u64::from_le_bytes(seed))
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..n`; 0 when `n` is 0. The bias of at most n/2^64 is of no consequence here.
    pub fn below(&mut self, n: u64) -> u64 {
        let product = u128::from(self.next_u64()) * u128::from(n);
        (product >> 64) as u64
    }

    /// A duration between nothing and `most`, with nanosecond steps.
    pub fn jitter(&mut self, most: Duration) -> Duration {
        let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX - 1);
        Duration::from_nanos(self.below(nanos + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let (mut a, mut b) = (Random(7), Random(7));
        assert!((0..100).all(|_| a.next_u64() == b.next_u64()));
        // The first output for seed 1234567 as the generator's authors publish it.
        assert_eq!(Random(1_234_567).next_u64(), 6_457_827_717_110_365_317);
    }

    #[test]
    fn numbers_stay_below_the_bound_and_reach_both_ends() {
        let mut random = Random(1);
        let mut seen = [0; 5];
        for _ in 0..1_000 {
            seen[random.below(5) as usize] += 1;
        }
        assert!(seen.iter().all(|count| *count > 150), "{seen:?}");
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn jitter_is_never_longer_than_asked() {
        let mut random = Random(2);
        let most = Duration::from_millis(10);
        assert!((0..1_000).all(|_| random.jitter(most) <= most));
        assert_eq!(random.jitter(Duration::ZERO), Duration::ZERO);
        assert!(random.jitter(Duration::MAX) > Duration::ZERO);
    }
}

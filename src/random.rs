//! Small, seedable randomness for jitter and for simulations. Never for secrets.

use std::time::Duration;

/// A SplitMix64 generator: the same seed gives the same numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator that starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound` (0 when `bound` is 0). The slight bias is of no concern here.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next_u64() % bound }
    }

    /// A time between half of `time` and all of it: enough to pull apart what started together.
    pub fn jitter(&mut self, time: Duration) -> Duration {
        let half = time / 2;
        half + Duration::from_micros(self.below(u64::try_from(half.as_micros()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_jitter_stays_in_its_half() {
        let (mut a, mut b) = (Random::new(7), Random::new(7));
        for _ in 0..1000 {
            assert_eq!(a.next_u64(), b.next_u64());
            let time = a.jitter(Duration::from_secs(2));
            assert!((Duration::from_secs(1)..Duration::from_secs(2)).contains(&time));
            b.next_u64();
        }
    }
}

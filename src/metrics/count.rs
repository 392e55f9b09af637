//! Numbers that cost a few atomic operations to count: no lock, no look-up by labels, no allocation. They are written
//! down when somebody scrapes, and not before.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// How many there were.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Counts so many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How they were spread over `N` buckets and one for what is beyond all of them.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    /// Upper bounds, the bound itself included, rising.
    bounds: &'static [f64; N],
    within: [Count; N],
    beyond: Count,
    /// The bits of an `f64`.
    sum: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    pub(super) fn new(bounds: &'static [f64; N]) -> Self {
        let within = std::array::from_fn(|_| Count::default());
        Self { bounds, within, beyond: Count::default(), sum: AtomicU64::new(0) }
    }

    /// Takes note of one value.
    pub fn observe(&self, value: f64) {
        let bucket = self.bounds.iter().zip(&self.within).find(|(bound, _)| **bound >= value);
        bucket.map_or(&self.beyond, |(_, count)| count).add(1);
        let add = |sum| Some((f64::from_bits(sum) + value).to_bits());
        let _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// What has been noted. A value that is being noted meanwhile may be in the sum and not in a bucket, or in a bucket
    /// and not in the sum.
    pub(super) fn read(&self) -> Spread {
        let bounded = self.bounds.iter().zip(&self.within).map(|(bound, count)| (*bound, count.get()));
        let buckets: Vec<_> = bounded.chain([(f64::INFINITY, self.beyond.get())]).collect();
        let sum = f64::from_bits(self.sum.load(Ordering::Relaxed));
        Spread { sum, count: buckets.iter().map(|(_, count)| count).sum(), buckets }
    }
}

/// What a histogram had noted at one time.
#[derive(Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) sum: f64,
    pub(super) count: u64,
    /// Upper bounds with what is within each and beyond the one before.
    pub(super) buckets: Vec<(f64, u64)>,
}

/// Counts that differ in a word of this program.
#[derive(Debug)]
pub struct Split<const N: usize> {
    words: &'static [&'static str; N],
    /// So many of the words are shown from the beginning, the others once they have been counted.
    shown: usize,
    counts: [Count; N],
}

impl<const N: usize> Split<N> {
    pub(super) fn new(words: &'static [&'static str; N], shown: usize) -> Self {
        Self { words, shown, counts: std::array::from_fn(|_| Count::default()) }
    }

    /// Counts `count` more of this word.
    pub fn add(&self, word: &'static str, count: u64) {
        let counted = self.words.iter().zip(&self.counts).find(|(known, _)| **known == word);
        debug_assert!(counted.is_some(), "{word} is none of {:?}", self.words);
        if let Some((_, counted)) = counted {
            counted.add(count);
        }
    }

    pub(super) fn read(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.words.iter().zip(&self.counts).map(|(word, count)| (*word, count.get()));
        let shown = self.shown;
        counts.enumerate().filter(move |(at, (_, count))| *at < shown || *count > 0).map(|(_, counted)| counted)
    }
}

/// Counts that differ in a word of a list too long to keep a place for each.
#[derive(Debug, Default)]
pub struct Sparse(Mutex<Vec<(&'static str, u64)>>);

impl Sparse {
    /// Counts `count` more of this word.
    pub fn add(&self, word: &'static str, count: u64) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match counted.iter_mut().find(|(known, _)| *known == word) {
            Some((_, before)) => *before += count,
            None => counted.push((word, count)),
        }
    }

    pub(super) fn read(&self) -> Vec<(&'static str, u64)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_counted_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let histogram = Histogram::new(&[0.5, 1.0, 4.0]);
        for value in [0.0, 0.5, 0.75, 1.0, 1.25, 4.0, 4.5, f64::INFINITY] {
            histogram.observe(value);
        }
        let buckets = vec![(0.5, 2), (1.0, 2), (4.0, 2), (f64::INFINITY, 2)];
        assert_eq!(histogram.read(), Spread { sum: f64::INFINITY, count: 8, buckets });
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let histogram = Histogram::new(&[1.0]);
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| (0..10_000).for_each(|n| histogram.observe(f64::from(n % 4))));
            }
        });
        let buckets = vec![(1.0, 20_000), (f64::INFINITY, 20_000)];
        assert_eq!(histogram.read(), Spread { sum: 60_000.0, count: 40_000, buckets });
    }

    #[test]
    fn words_are_shown_from_the_beginning_or_once_they_are_counted() {
        let split = Split::new(&["a", "b", "c"], 1);
        assert_eq!(split.read().collect::<Vec<_>>(), [("a", 0)]);
        split.add("c", 2);
        assert_eq!(split.read().collect::<Vec<_>>(), [("a", 0), ("c", 2)]);
        let sparse = Sparse::default();
        sparse.add("c", 1);
        sparse.add("b", 1);
        sparse.add("c", 1);
        assert_eq!(sparse.read(), [("c", 2), ("b", 1)]);
    }
}

//! Since when SETs have been waiting by the monotonic clock, as far as this process has accepted them: a wall clock that
//! jumped must not make them older than they are.

use std::collections::VecDeque;
use std::time::Duration;

/// Of SETs that follow each other the first one alone is noted, so that a few hundred marks cover any queue.
#[derive(Debug)]
pub(super) struct Ages {
    /// Number and time of acceptance, both rising.
    marks: VecDeque<(u64, Duration)>,
    /// The least time between two marks: by so much a SET may seem older than it is. Grows when there are too many.
    gap: Duration,
    /// Beyond this age marks are of no use.
    longest: Duration,
}

/// Marks in the time after which a SET may be given up.
const MARKS: u32 = 64;

/// Marks in all: a few kilobytes a peer, whatever the configuration.
const MARKS_MAX: usize = 512;

impl Ages {
    pub(super) fn new(give_up_after: Duration, age_max: Duration) -> Self {
        Self { marks: VecDeque::new(), gap: give_up_after / MARKS, longest: age_max.max(give_up_after) }
    }

    /// This SET is accepted now.
    pub(super) fn accept(&mut self, seq: u64, now: Duration) {
        if self.marks.back().is_none_or(|(_, at)| now > *at && now - *at >= self.gap) {
            self.marks.push_back((seq, now));
        }
        if self.marks.len() > MARKS_MAX {
            let mut odd = false;
            self.marks.retain(|_| {
                odd = !odd;
                odd
            });
            self.gap = (self.gap * 2).max(Duration::from_secs(1));
        }
        // The oldest one left answers for all before it: they are older than anybody asks for.
        while self.marks.get(1).is_some_and(|(_, at)| now.saturating_sub(*at) >= self.longest) {
            self.marks.pop_front();
        }
    }

    /// The SET has not been waiting for longer; none if an earlier process accepted it.
    pub(super) fn at_most(&self, seq: u64, now: Duration) -> Option<Duration> {
        let next = self.marks.partition_point(|(first, _)| *first <= seq);
        let (_, at) = self.marks.get(next.checked_sub(1)?)?;
        Some(now.saturating_sub(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_set_seems_older_than_it_is_by_one_gap_at_most_and_never_younger() {
        let mut ages = Ages::new(64 * HOUR, 300 * HOUR);
        for minute in 0..600u64 {
            ages.accept(100 + minute, Duration::from_secs(60 * minute));
        }
        let now = 20 * HOUR;
        for minute in 0..600u64 {
            let age = now - Duration::from_secs(60 * minute);
            let said = ages.at_most(100 + minute, now).unwrap();
            assert!(said >= age && said < age + HOUR, "{said:?} for {age:?}");
        }
        assert_eq!(ages.at_most(99, now), None, "an earlier process accepted it");
    }

    #[test]
    fn a_busy_queue_takes_a_few_hundred_marks_in_years() {
        let mut ages = Ages::new(72 * HOUR, 14 * 24 * HOUR);
        for minute in 0..500_000u64 {
            ages.accept(minute, Duration::from_secs(60 * minute));
        }
        assert!(ages.marks.len() < 320, "{}", ages.marks.len());
    }

    #[test]
    fn marks_are_few_whatever_the_patience_and_no_set_ever_seems_younger() {
        let mut ages = Ages::new(Duration::from_millis(1), 1000 * HOUR);
        let at = |seq: u64| Duration::from_millis(700 * seq);
        for seq in 0..1_000_000 {
            ages.accept(seq, at(seq));
            assert!(ages.marks.len() <= MARKS_MAX);
        }
        let now = at(1_000_000);
        assert!((0..1_000_000).step_by(997).all(|seq| ages.at_most(seq, now).is_some_and(|age| age >= now - at(seq))));
    }

    #[test]
    fn patience_of_no_time_at_all_has_its_marks_too() {
        let mut ages = Ages::new(Duration::ZERO, HOUR);
        (0..1000).for_each(|seq| ages.accept(seq, Duration::ZERO));
        assert_eq!((ages.marks.len(), ages.at_most(999, HOUR)), (1, Some(HOUR)));
    }
}

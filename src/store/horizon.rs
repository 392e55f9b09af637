//! Up to which date memory may be forgotten: by the wall clock, but never sooner than by the monotonic one. A wall clock that
//! was ahead for a while, and was believed, must not cost the memory of what may still come again.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::{Timestamp, Wall};

/// Remembers by how much the wall clock has lately been ahead of the monotonic one, at least.
#[derive(Debug)]
pub struct Horizon {
    /// For how long memory is kept.
    keep: Duration,
    /// Since when, and wall minus monotonic time in milliseconds, the least since then.
    marks: VecDeque<(Duration, i64)>,
}

/// Marks in the time that memory is kept: what a clock was set ahead by, and rightly, is followed so much later at most.
const MARKS: u32 = 64;

impl Horizon {
    /// For memory that is kept for so long.
    pub fn new(keep: Duration) -> Self {
        Self { keep, marks: VecDeque::new() }
    }

    /// Before the first pass: a process before this one last believed its clock at this time. Where the wall clock is ahead of
    /// that, somebody was away, or it is wrong; as that cannot be told, memory is kept for its time from now on.
    pub fn resume(&mut self, now: Timestamp, last: Wall) {
        self.marks.push_front((now.mono, millis(last.0).saturating_sub(elapsed(now.mono))));
    }

    /// What is dated before this may be forgotten; nothing while the wall clock is suspect. To be asked often: it knows the
    /// clocks from that alone.
    pub fn pass(&mut self, now: Timestamp) -> Option<Wall> {
        let offset = millis(now.wall.0).saturating_sub(elapsed(now.mono));
        match self.marks.back_mut() {
            Some((since, least)) if now.mono.saturating_sub(*since) < self.keep / MARKS => *least = offset.min(*least),
            _ => self.marks.push_back((now.mono, offset)),
        }
        while self.marks.get(1).is_some_and(|(since, _)| now.mono.saturating_sub(*since) >= self.keep) {
            self.marks.pop_front();
        }
        let least = self.marks.iter().map(|(_, least)| *least).min()?;
        let before = least.saturating_add(elapsed(now.mono)).saturating_sub(elapsed(self.keep));
        (!now.suspect).then(|| Wall(u64::try_from(before).unwrap_or(0)))
    }
}

fn elapsed(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn millis(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    const DAY: u64 = 24 * HOUR;
    const YEAR: u64 = 365 * DAY;
    const KEEP: u64 = 30 * DAY;
    const START: u64 = 60 * YEAR;

    /// Hours of true time, in which the wall clock is off by so much.
    fn run(horizon: &mut Horizon, hours: std::ops::Range<u64>, off: i64) -> Vec<Option<u64>> {
        let at = |hour: u64| {
            let wall = Wall((START + hour * HOUR).saturating_add_signed(off));
            Timestamp { mono: Duration::from_millis(hour * HOUR), wall, shown: wall, suspect: false }
        };
        hours.map(|hour| horizon.pass(at(hour)).map(|wall| wall.0)).collect()
    }

    fn horizon() -> Horizon {
        Horizon::new(Duration::from_millis(KEEP))
    }

    #[test]
    fn by_a_clock_that_runs_right_memory_is_kept_exactly_so_long() {
        let mut horizon = horizon();
        for (hour, before) in run(&mut horizon, 0..9_000, 0).into_iter().enumerate() {
            assert_eq!(before, Some(START + hour as u64 * HOUR - KEEP));
        }
        assert!(horizon.marks.len() <= MARKS as usize + 2, "{}", horizon.marks.len());
    }

    #[test]
    fn a_clock_that_is_a_year_ahead_for_days_takes_nothing() {
        let mut horizon = horizon();
        run(&mut horizon, 0..10, 0);
        let hours = 10..100;
        let ahead = run(&mut horizon, hours.clone(), YEAR as i64);
        for (hour, before) in hours.zip(ahead) {
            assert_eq!(before, Some(START + hour * HOUR - KEEP), "{hour}");
        }
        assert_eq!(run(&mut horizon, 100..101, 0), [Some(START + 100 * HOUR - KEEP)]);
    }

    #[test]
    fn what_was_dated_by_a_clock_a_year_behind_is_kept_as_long_as_anything() {
        let mut horizon = horizon();
        run(&mut horizon, 0..48, -(YEAR as i64));
        let dated = START + 47 * HOUR - YEAR;
        let right = run(&mut horizon, 48..2_000, 0);
        let gone = right.iter().position(|before| before.is_some_and(|before| before > dated)).unwrap() as u64 + 48;
        assert!((47 + 30 * 24..=48 + 31 * 24).contains(&gone), "{gone}");
        assert_eq!(right.last(), Some(&Some(START + 1_999 * HOUR - KEEP)), "and then it goes by the clock again");
    }

    #[test]
    fn what_came_before_the_start_outlives_a_clock_that_is_a_year_ahead_from_the_start_on() {
        let mut horizon = horizon();
        let last = START - 5 * HOUR;
        horizon.resume(Timestamp { wall: Wall(START + YEAR), ..Timestamp::default() }, Wall(last));
        let ahead = run(&mut horizon, 0..700, YEAR as i64);
        for (hour, before) in ahead.into_iter().enumerate() {
            assert_eq!(before, Some(last + hour as u64 * HOUR - KEEP), "{hour}");
        }
        let later = run(&mut horizon, 700..900, YEAR as i64);
        assert_eq!(later.last(), Some(&Some(START + YEAR + 899 * HOUR - KEEP)), "we were away for a year");
    }

    #[test]
    fn what_the_process_before_has_dated_ahead_of_the_clock_changes_nothing() {
        let mut horizon = horizon();
        horizon.resume(Timestamp { wall: Wall(START), ..Timestamp::default() }, Wall(START + YEAR));
        assert_eq!(run(&mut horizon, 0..1, 0), [Some(START - KEEP)]);
    }

    #[test]
    fn a_clock_that_goes_back_is_followed_at_once_and_a_suspect_one_takes_nothing() {
        let mut horizon = horizon();
        run(&mut horizon, 0..48, 0);
        let back = run(&mut horizon, 48..49, -(DAY as i64));
        assert_eq!(back, [Some(START + 48 * HOUR - DAY - KEEP)]);
        let wall = Wall(START + YEAR);
        let suspect = Timestamp { mono: Duration::from_millis(50 * HOUR), wall, shown: wall, suspect: true };
        assert_eq!(horizon.pass(suspect), None);
    }
}

//! How many SETs are asked for, or sent, at a time: fewer after it was too many.

use std::time::Duration;

/// The number to ask for next. A partner does not know how many bytes we read, and `maxResponseEvents` is the only thing
/// that we can tell it: without it, whoever reads less than its partner writes would never get that partner's answers.
#[derive(Debug)]
pub(super) struct Wanted {
    most: u64,
    now: u64,
    /// When the number last changed.
    since: Duration,
}

/// How long a smaller number is kept before twice as many are tried again: large SETs come in bursts, and each answer that
/// cannot be read costs the SETs in it an attempt.
const DOUBLED_AFTER: Duration = Duration::from_secs(600);

impl Wanted {
    /// As many as we take.
    pub(super) fn new(most: usize) -> Self {
        let most = (most as u64).max(1);
        Self { most, now: most, since: Duration::ZERO }
    }

    /// What to ask for at this time of the monotonic clock.
    pub(super) fn ask(&mut self, at: Duration) -> u64 {
        if self.now < self.most && at.saturating_sub(self.since) >= DOUBLED_AFTER {
            (self.now, self.since) = (self.now.saturating_mul(2).min(self.most), at);
        }
        self.now
    }

    /// One with so many was too large.
    pub(super) fn too_large(&mut self, at: Duration, count: usize) {
        let half = (count as u64 / 2).max(1);
        (self.now, self.since) = (half.min(self.now), at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_half_until_the_answer_can_be_read_and_for_more_again_later() {
        let mut wanted = Wanted::new(10);
        let at = Duration::from_secs;
        assert_eq!(wanted.ask(at(5)), 10);
        let asked = [6, 7, 8, 9].map(|second| {
            let now = usize::try_from(wanted.ask(at(second))).unwrap();
            wanted.too_large(at(second), now);
            wanted.ask(at(second))
        });
        assert_eq!(asked, [5, 2, 1, 1]);
        assert_eq!(
            [608, 609, 1208, 1209, 1809, 2409, 9000].map(|second| wanted.ask(at(second))),
            [1, 2, 2, 4, 8, 10, 10]
        );
    }

    #[test]
    fn asks_for_one_at_least() {
        let mut wanted = Wanted::new(0);
        wanted.too_large(Duration::ZERO, 1);
        assert_eq!(wanted.ask(Duration::ZERO), 1);
    }
}

//! When the next transaction begins: at once, but under load a little later, so that it holds more.

use std::time::Duration;

use tokio::time::Instant;

/// A transaction holds what came while the one before ran. Where that is so much by itself, the machine is busy, and the cost
/// that each transaction has whatever it holds is paid too often.
const BUSY: usize = 256;
/// Then the next one waits until it may hold so many writes; larger ones save little more.
const LOT: usize = 640;
/// For so long at most after the one before began.
const WAIT_MAX: Duration = Duration::from_millis(20);

/// Whose turn it is, by the last transaction.
#[derive(Debug, Default)]
pub(super) struct Turn {
    began: Option<Instant>,
    not_before: Option<Instant>,
}

impl Turn {
    /// A transaction with so many writes began then, and has ended.
    pub(super) fn took(&mut self, began: Instant, writes: usize) {
        let since = self.began.replace(began).map(|before| began.saturating_duration_since(before));
        // What comes in one piece after a pause is no load.
        let rising = since.filter(|since| *since <= 2 * WAIT_MAX && (BUSY..LOT).contains(&writes));
        self.not_before = rising.map(|since| began + since.mul_f64(LOT as f64 / writes as f64).min(WAIT_MAX));
    }

    /// For how long the next one waits.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        self.not_before.map(|at| at.saturating_duration_since(now)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The pause behind the last of transactions that began so many milliseconds after each other, with so many writes, and
    /// took no time.
    fn pause(transactions: &[(u32, usize)]) -> Duration {
        let (mut turn, mut now) = (Turn::default(), Instant::now());
        for (after, writes) in transactions {
            now += *after * MS;
            turn.took(now, *writes);
        }
        turn.pause(now)
    }

    #[test]
    fn only_where_much_gathers_by_itself_the_next_one_waits() {
        for writes in [1, 255, 640, 10_000] {
            assert_eq!(pause(&[(0, writes), (5, writes)]), Duration::ZERO, "{writes} writes");
        }
        assert_eq!(pause(&[(0, 320), (5, 320)]), 10 * MS, "twice as many in twice the time");
        assert_eq!(pause(&[(0, 320), (5, 512)]), 6250 * MS / 1000);
        assert_eq!(pause(&[(0, 320), (15, 256)]), 20 * MS, "and no longer");
    }

    #[test]
    fn what_comes_in_one_piece_makes_nothing_wait() {
        assert_eq!(pause(&[(0, 500)]), Duration::ZERO);
        assert_eq!(pause(&[(0, 500), (41, 500)]), Duration::ZERO);
        assert_eq!(pause(&[(0, 500), (5, 500), (1, 1)]), Duration::ZERO, "nor what comes after a small one");
    }

    #[test]
    fn a_pause_that_is_over_delays_nothing() {
        let (mut turn, began) = (Turn::default(), Instant::now());
        turn.took(began, 400);
        turn.took(began + 5 * MS, 400);
        assert_eq!(turn.pause(began + 7 * MS), 6 * MS, "what the transaction itself took counts");
        assert_eq!(turn.pause(began + 13 * MS), Duration::ZERO);
        assert_eq!(turn.pause(began + 3_600_000 * MS), Duration::ZERO);
    }
}

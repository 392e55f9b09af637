//! Log lines that a partner can provoke at will are written at a bounded rate: else it could fill our disk with them.

use std::time::Duration;

/// Restrains one kind of line. What is held back is counted in the next line that is written.
#[derive(Debug, Default)]
pub struct Restraint {
    /// When the next lines are free (monotonic time).
    renewed_at: Duration,
    written: u32,
    held: usize,
}

/// Lines in one [`PERIOD`].
const LINES_MAX: u32 = 10;

const PERIOD: Duration = Duration::from_secs(60);

impl Restraint {
    /// Whether a line about `count` more events may be written now; if so, how many events it has to speak of.
    pub fn admit(&mut self, count: usize, now: Duration) -> Option<usize> {
        if now >= self.renewed_at {
            (self.renewed_at, self.written) = (now + PERIOD, 0);
        }
        self.held += count;
        if self.written >= LINES_MAX {
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_becomes_a_few_lines_that_count_all_of_it() {
        let mut restraint = Restraint::default();
        let (mut lines, mut counted) = (0, 0);
        for millisecond in 0..600_000 {
            if let Some(count) = restraint.admit(3, Duration::from_millis(millisecond)) {
                (lines, counted) = (lines + 1, counted + count);
            }
        }
        assert_eq!(lines, 100);
        let tail = restraint.admit(0, Duration::from_secs(600)).expect("a new minute");
        assert_eq!(counted + tail, 1_800_000);
    }

    #[test]
    fn what_happens_now_and_then_is_written_at_once() {
        let mut restraint = Restraint::default();
        for second in 0..100 {
            assert_eq!(restraint.admit(1, Duration::from_secs(7 * second)), Some(1));
        }
    }
}

//! When the SETs that nobody can judge yet came for the first time: keys as new as that decide about every later copy.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::set::Digest;

/// First arrivals, by the monotonic clock. Without them a key server that is slower than our patience would keep a SET of
/// an unknown key undecided for ever: each copy would want keys newer than itself. Forgetting one costs such a round.
#[derive(Debug, Default)]
pub(super) struct Doubts(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    since: HashMap<Digest, Duration>,
    order: VecDeque<Digest>,
}

/// So many are remembered of one partner; it may invent as many as it likes.
const MAX: usize = 1024;

impl Doubts {
    /// When this token came for the first time, if it came before `now` and is in doubt since.
    pub(super) fn since(&self, digest: &Digest, now: Duration) -> Duration {
        self.remembered().since.get(digest).copied().unwrap_or(now)
    }

    /// Nobody can judge it, and it came first at `since`.
    pub(super) fn note(&self, digest: Digest, since: Duration) {
        let Remembered { since: doubts, order } = &mut *self.remembered();
        if doubts.contains_key(&digest) {
            return;
        }
        if order.len() >= MAX
            && let Some(oldest) = order.pop_front()
        {
            doubts.remove(&oldest);
        }
        doubts.insert(digest, since);
        order.push_back(digest);
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_arrival_counts_and_the_oldest_is_forgotten() {
        let doubts = Doubts::default();
        let (digest, at) = (|n: usize| Digest::of(&n.to_le_bytes()), |n: usize| Duration::from_secs(n as u64));
        assert_eq!(doubts.since(&digest(0), at(7)), at(7));
        for n in 0..MAX {
            doubts.note(digest(n), at(n));
            doubts.note(digest(n), at(n + 5));
        }
        assert_eq!(doubts.since(&digest(0), at(7)), at(0));
        doubts.note(digest(MAX), at(MAX));
        assert_eq!(doubts.since(&digest(0), at(7)), at(7));
        assert_eq!(doubts.since(&digest(1), at(7)), at(1));
        assert_eq!(doubts.remembered().since.len(), MAX);
    }
}

//! Whether it is what an exchange carried that makes it come to nothing: one SET at which a partner breaks off each time would
//! keep all that leaves with it for ever.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::set::Jti;

/// What exchanges came to that ended without a word on what they carried, although the partner was reached: it met an error of
/// its own, broke off, or did not answer in time.
///
/// Once or twice that is the partner, and everything is due again. When it goes on, the SETs leave in parts, as those of a
/// refused batch do, and the one that is found waits by itself. When many fail one by one, it is the partner after all.
#[derive(Debug, Default)]
pub struct Suspicion(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// Exchanges that failed so, each soon after the one before.
    failures: u32,
    /// When the last one did (monotonic time).
    last: Duration,
    /// SETs that failed so alone since one was answered.
    alone: HashSet<Jti>,
}

/// So many failures may be the partner's.
const FAILURES: u32 = 2;

/// Failures that are further apart have nothing to do with each other. The pauses between attempts come to a minute.
const APART: Duration = Duration::from_secs(150);

/// From so many SETs on that fail alone it is not the SETs.
const MANY: usize = 8;

impl Suspicion {
    /// An exchange that carried SETs has failed so; `alone` is the SET, if it was one. True if they are to leave again in parts.
    pub fn failed(&self, alone: Option<&Jti>, now: Duration) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(seen.last) > APART {
            *seen = Seen::default();
        }
        seen.last = now;
        seen.failures = seen.failures.saturating_add(1);
        if seen.failures <= FAILURES || seen.alone.len() >= MANY {
            return false;
        }
        seen.alone.extend(alone.cloned());
        true
    }

    /// The partner has answered what was sent: it is there, and may yet break off at other SETs.
    pub fn answered(&self) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !seen.alone.is_empty() {
            seen.alone = HashSet::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1000 + seconds)
    }

    #[test]
    fn the_third_failure_in_a_row_is_suspect_and_so_are_those_after_it() {
        let suspicion = Suspicion::default();
        let failed = |now| suspicion.failed(None, now);
        assert_eq!([at(0), at(1), at(3)].map(failed), [false, false, true]);
        suspicion.answered();
        assert!(failed(at(4)), "a part was answered, and what is looked for is in another one");
        assert_eq!([at(200), at(201), at(202)].map(failed), [false, false, true], "long after the last one");
    }

    #[test]
    fn many_that_fail_alone_are_not_suspect_until_one_is_answered() {
        let suspicion = Suspicion::default();
        let failed = |jti: &Jti| suspicion.failed(Some(jti), at(1));
        let jtis: Vec<_> = (0..20).map(|n| Jti::from(n.to_string().as_str())).collect();
        assert_eq!([0, 1].map(|n| failed(&jtis[n])), [false, false]);
        assert!((0..100).all(|_| failed(&jtis[0])), "one that fails again and again is one");
        let suspects = jtis.iter().filter(|jti| failed(jti)).count();
        assert_eq!(suspects, MANY);
        assert!(!suspicion.failed(None, at(2)), "nor do batches leave in parts then");
        suspicion.answered();
        assert!(failed(&jtis[0]));
    }
}

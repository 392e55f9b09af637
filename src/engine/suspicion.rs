//! Whether it is what an exchange carried that makes it come to nothing: one SET at which a partner breaks off each time would
//! keep all that leaves with it for ever.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::peer::Blame;
use crate::set::Jti;

/// What exchanges came to that ended without a word on what they carried, although the partner was reached: it met an error of
/// its own, broke off, or did not answer in time.
///
/// Once or twice that is the partner, and everything is due again. When it goes on, the SETs leave in parts, as those of a
/// refused batch do, and the one that is found waits by itself. When many fail one by one, it is the partner after all, or too many
/// of them lie side by side: then others get their turn.
#[derive(Debug, Default)]
pub struct Suspicion(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// Exchanges that failed so, each soon after the one before.
    failures: u32,
    /// When the last of these did (monotonic time).
    counted_at: Duration,
    /// When any last did.
    last: Duration,
    /// SETs that failed so alone since one was answered.
    alone: HashSet<Jti>,
    /// Exchanges with SETs that were answered since the last failure.
    answered: u32,
    /// One was since the first failure.
    takes_others: bool,
}

/// So many failures may be the partner's.
const FAILURES: u32 = 2;

/// After so many answers in a row the failures before have nothing to do with the next one. To find a SET takes fewer.
const ANSWERS: u32 = 16;

/// Failures within so long of one that counts are the same one, as when a partner with several connections ends.
const ONE: Duration = Duration::from_millis(250);

/// Failures that are further apart have nothing to do with each other. The pauses between attempts come to a minute.
const APART: Duration = Duration::from_secs(150);

/// From so many SETs on that fail alone it is not the SETs.
const MANY: usize = 8;

impl Suspicion {
    /// An exchange that carried SETs has failed so; `alone` is the SET, if it was one. Whose doing it is, once there is a reason to ask.
    pub fn failed(&self, alone: Option<&Jti>, now: Duration) -> Option<Blame> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.saturating_sub(seen.last);
        if since > APART || seen.answered >= ANSWERS {
            *seen = Seen::default();
        }
        if seen.failures == 0 || now.saturating_sub(seen.counted_at) >= ONE {
            seen.failures = seen.failures.saturating_add(1);
            seen.counted_at = now;
        }
        (seen.last, seen.answered) = (now, 0);
        if seen.failures <= FAILURES {
            return None;
        }
        if seen.alone.len() >= MANY {
            return Some(Blame::Partner);
        }
        seen.alone.extend(alone.cloned());
        // While it takes nothing at all, nobody knows that it is this SET's doing.
        Some(if seen.takes_others { Blame::Set } else { Blame::Unknown })
    }

    /// The partner has answered what was sent: it is there, and may yet break off at other SETs.
    pub fn answered(&self) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.failures == 0 {
            return;
        }
        seen.answered = seen.answered.saturating_add(1);
        seen.takes_others = true;
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

    const PARTS: Option<Blame> = Some(Blame::Unknown);
    const COUNTS: Option<Blame> = Some(Blame::Set);

    #[test]
    fn the_third_failure_in_a_row_is_suspect_and_so_are_those_after_it() {
        let suspicion = Suspicion::default();
        let failed = |now| suspicion.failed(None, now);
        assert_eq!([at(0), at(1), at(3)].map(failed), [None, None, PARTS]);
        suspicion.answered();
        assert_eq!(failed(at(4)), COUNTS, "a part was answered, and what is looked for is in another one");
        let later = [at(200), at(201), at(202)].map(failed);
        assert_eq!(later, [None, None, PARTS], "long after the last one");
        (0..ANSWERS).for_each(|_| suspicion.answered());
        assert_eq!(failed(at(203)), None, "much was answered in between");
    }

    #[test]
    fn connections_that_end_together_are_one_failure() {
        let suspicion = Suspicion::default();
        for event in 0..2 {
            let ends = (0..8).map(|end| at(event) + Duration::from_millis(end));
            assert!(ends.map(|now| suspicion.failed(None, now)).all(|blame| blame.is_none()));
        }
        assert_eq!(suspicion.failed(None, at(2)), PARTS);
    }

    #[test]
    fn many_that_fail_alone_are_not_suspect_until_one_is_answered() {
        let suspicion = Suspicion::default();
        let mut now = at(0);
        let mut failed = |jti: &Jti| {
            now += ONE;
            suspicion.failed(Some(jti), now)
        };
        let jtis: Vec<_> = (0..20).map(|n| Jti::from(n.to_string().as_str())).collect();
        assert_eq!([0, 1].map(|n| failed(&jtis[n])), [None, None]);
        assert!(
            (0..100).all(|_| failed(&jtis[0]) == PARTS),
            "one that fails again and again is one, and is not charged"
        );
        let suspects = jtis.iter().filter(|jti| failed(jti) == PARTS).count();
        assert_eq!(suspects, MANY);
        assert_eq!(suspicion.failed(None, now + ONE), Some(Blame::Partner), "nor do batches leave in parts then");
        suspicion.answered();
        assert_eq!(suspicion.failed(Some(&jtis[0]), now + ONE * 2), COUNTS);
    }
}

//! How long to wait for a partner's answer, once it has left one out.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::set::Jti;

/// What a partner's answers to SETs taught, and its silence.
///
/// A SET at which a partner hangs would cost the whole time for an answer at each step of the search for it, and again at each retry;
/// meanwhile nothing else leaves. One that has always answered within moments is not waited for that long a second time.
#[derive(Debug, Default)]
pub struct Silence(Mutex<Heard>);

#[derive(Debug, Default)]
struct Heard {
    /// About the longest that it took to answer of late; zero where it never has.
    slowest: Duration,
    /// Exchanges without an answer since the last one with.
    in_a_row: u32,
    /// How often it was silent to a SET that was alone, for those that it has not answered yet.
    alone: HashMap<Jti, u32>,
    /// When it last was for the whole time (monotonic time).
    at: Option<Duration>,
}

/// No partner is given less.
const LEAST: Duration = Duration::from_secs(3);

/// So many times what it takes at its slowest.
const TIMES: u32 = 16;

/// A silence is remembered for so long.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// Of so many SETs it is known how often. Any other is given the usual time.
const ALONE_MAX: usize = 64;

impl Silence {
    /// How long to wait for the answer to SETs, or to the one that is `alone`, where `usual` is the longest.
    ///
    /// Twice as long after each silence in a row and after each to that very SET: a partner that has become slow, or takes its
    /// time for this one, gets the usual time after a few.
    pub fn patience(&self, usual: Duration, alone: Option<&Jti>, now: Duration) -> Duration {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = heard.at.is_some_and(|at| now.saturating_sub(at) < REMEMBERED);
        if !is_recent || heard.slowest.is_zero() {
            return usual;
        }
        let own = match alone.map(|jti| heard.alone.get(jti)) {
            Some(None) if heard.alone.len() >= ALONE_MAX => return usual,
            Some(Some(times)) => *times,
            Some(None) | None => 0,
        };
        let doubled = 1 << heard.in_a_row.saturating_sub(1).max(own).min(16);
        heard.slowest.saturating_mul(TIMES).max(LEAST).saturating_mul(doubled).min(usual)
    }

    /// The answer took so long.
    pub fn answered(&self, took: Duration, alone: Option<&Jti>) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.in_a_row = 0;
        if let Some(jti) = alone {
            heard.alone.remove(jti);
        }
        let faded = heard.slowest - heard.slowest / 64;
        heard.slowest = took.max(faded).max(Duration::from_nanos(1));
    }

    /// There was none in time; `usual` says that this was the usual one. A shorter one says less, and does not keep itself alive.
    pub fn fell(&self, alone: Option<&Jti>, usual: bool, now: Duration) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.at.is_some_and(|at| now.saturating_sub(at) >= REMEMBERED) {
            heard.alone = HashMap::new();
        }
        heard.in_a_row = heard.in_a_row.saturating_add(1);
        if usual {
            heard.at = Some(now);
        }
        if let Some(jti) = alone
            && (heard.alone.len() < ALONE_MAX || heard.alone.contains_key(jti))
        {
            *heard.alone.entry(jti.clone()).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Duration = Duration::from_secs(30);

    const QUICKLY: Duration = Duration::from_millis(5);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_partner_that_was_never_silent_or_never_answered_has_all_the_time() {
        let silence = Silence::default();
        silence.answered(QUICKLY, None);
        assert_eq!(silence.patience(USUAL, None, seconds(1)), USUAL);
        let silence = Silence::default();
        silence.fell(None, true, seconds(1));
        assert_eq!(silence.patience(USUAL, None, seconds(1)), USUAL);
    }

    #[test]
    fn after_a_silence_it_is_given_a_multiple_of_what_it_takes_and_more_each_time() {
        let silence = Silence::default();
        silence.answered(QUICKLY, None);
        let given = [1, 2, 3, 4, 5].map(|at| {
            silence.fell(None, at == 1, seconds(at));
            silence.patience(USUAL, None, seconds(at))
        });
        assert_eq!(given, [3, 6, 12, 24, 30].map(seconds));
        silence.answered(QUICKLY, None);
        assert_eq!(silence.patience(USUAL, None, seconds(6)), seconds(3), "it is there, and may hang again");
        assert_eq!(
            silence.patience(USUAL, None, seconds(1) + REMEMBERED),
            USUAL,
            "from the first, which was a long one"
        );
    }

    #[test]
    fn a_slow_partner_is_given_more() {
        let silence = Silence::default();
        silence.answered(seconds(1), None);
        silence.fell(None, true, seconds(1));
        assert_eq!(silence.patience(USUAL, None, seconds(1)), seconds(16));
        silence.answered(seconds(10), None);
        assert_eq!(silence.patience(USUAL, None, seconds(1)), USUAL);
        (0..1000).for_each(|_| silence.answered(QUICKLY, None));
        assert_eq!(silence.patience(USUAL, None, seconds(1)), LEAST, "that is long ago");
    }

    #[test]
    fn a_set_that_takes_long_by_itself_gets_the_usual_time_in_the_end_however_quick_others_are() {
        let silence = Silence::default();
        silence.answered(QUICKLY, None);
        let slow = Jti::from("slow");
        let given = [1, 2, 3, 4, 5].map(|at| {
            silence.fell(Some(&slow), true, seconds(at));
            silence.answered(QUICKLY, Some(&"other".into()));
            silence.patience(USUAL, Some(&slow), seconds(at))
        });
        assert_eq!(given, [6, 12, 24, 30, 30].map(seconds));
        silence.answered(seconds(1), Some(&slow));
        assert_eq!(silence.patience(USUAL, Some(&slow), seconds(6)), seconds(16));
        (0..ALONE_MAX).for_each(|n| silence.fell(Some(&n.to_string().as_str().into()), true, seconds(7)));
        silence.answered(QUICKLY, None);
        assert_eq!(silence.patience(USUAL, Some(&slow), seconds(7)), USUAL, "nobody counts for it");
    }
}

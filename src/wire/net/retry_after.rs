//! The `Retry-After` header (RFC 9110 §10.2.3), believed only up to an hour.

use std::time::{Duration, UNIX_EPOCH};

use http::HeaderMap;
use http::header::RETRY_AFTER;

use crate::clock::Timestamp;
use crate::planted::{self, Bug};

/// The longest pause that a partner can ask for; absurd values must not silence us for a year.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// How long the partner asks us to wait: seconds or a date, capped at [`RETRY_AFTER_MAX`]. `None` when it does not say,
/// or says nothing understandable.
///
/// A date is held against the later of the two times that it may be: the shorter pause of the two, as after a jump of our
/// clock nobody knows which is the partner's.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let most = if planted::is(Bug::RetryAfterForEver) { Duration::MAX / 4 } else { RETRY_AFTER_MAX };
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(most));
    }
    let date = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(date.saturating_sub(Duration::from_millis(now.latest().0)).min(most))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Wall, Watch};

    /// Sun, 06 Nov 1994 08:49:37 GMT, the specification's own example.
    const NOW: Wall = Wall(784_111_777_000);

    fn read_at(text: &'static str, now: Timestamp) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, http::HeaderValue::from_static(text));
        retry_after(&headers, now)
    }

    fn read(text: &'static str) -> Option<Duration> {
        read_at(text, Timestamp { wall: NOW, shown: NOW, ..Timestamp::default() })
    }

    #[test]
    fn a_date_is_understood_by_what_the_clock_shows_although_that_is_not_believed_yet() {
        // Sat, 09 Mar 2024 16:00:00 GMT, since a clock that shows the last century was never set.
        let right = Wall(1_710_000_000_000);
        let before = Wall(right.0 - 1_800_000);
        let minute = Duration::from_secs(60);
        // It was half an hour slow, and has just been set right.
        let mut watch = Watch::new(before);
        let set = watch.judge(minute, Wall(right.0 + 60_000));
        assert!(set.suspect && set.wall < set.shown);
        assert_eq!(read_at("Sat, 09 Mar 2024 16:01:30 GMT", set), Some(Duration::from_secs(30)));
        // It was right, and has just been set wrong.
        let mut watch = Watch::new(right);
        let wrong = watch.judge(minute, before);
        assert!(wrong.suspect && wrong.shown < wrong.wall);
        assert_eq!(read_at("Sat, 09 Mar 2024 16:01:30 GMT", wrong), Some(Duration::from_secs(30)));
    }

    #[test]
    fn seconds_and_dates_are_understood() {
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("0"), Some(Duration::ZERO));
        assert_eq!(read("Sun, 06 Nov 1994 08:50:07 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(read("Sunday, 06-Nov-94 08:50:07 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO), "past");
    }

    #[test]
    fn absurd_values_are_capped_and_nonsense_is_ignored() {
        assert_eq!(read("99999999999999999999999999"), Some(RETRY_AFTER_MAX));
        assert_eq!(read("Fri, 31 Dec 9999 23:59:59 GMT"), Some(RETRY_AFTER_MAX));
        for text in ["", "-1", "1.5", "soon", "+3"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), Timestamp::default()), None);
    }
}

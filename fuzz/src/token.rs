//! Makes a token around a header or claims of any bytes, and asks the program what it says of each rule.

use std::sync::LazyLock;
use std::time::Duration;

use pushpull::clock::{Timestamp, Wall};
use pushpull::set::{KeySet, Policy, Profile, Report, events::Filter, report};

/// What the token is held against.
pub static POLICY: LazyLock<Policy> = LazyLock::new(|| Policy {
    issuer: "https://a.example".to_owned(),
    audience: "https://b.example".to_owned(),
    accept: Filter::all(),
    jti_bytes_max: 64,
    set_bytes_max: 64 << 10,
    profile: Profile::Ssf,
});

/// Seconds since 1970.
pub const NOW: u64 = 1_700_000_000;

/// A sound header and sound claims, for the part that is not under test.
pub const HEADER: &[u8] = br#"{"typ":"secevent+jwt","alg":"ES256","kid":"k"}"#;
/// See [`HEADER`].
pub const CLAIMS: &[u8] = br#"{"iss":"https://a.example","aud":"https://b.example","iat":1700000000,"jti":"j","sub_id":{"format":"opaque","id":"1"},"events":{"a:b":{}}}"#;

/// What is said of a token.
pub type Judge = fn(&str, &Policy) -> Report;

/// What the program says. Without keys, since a signature would cost more than all the rest.
pub fn judge(compact: &str, policy: &Policy) -> Report {
    static NO_KEYS: LazyLock<KeySet> = LazyLock::new(KeySet::default);
    report(compact, None, policy, &NO_KEYS, now())
}

/// The pretended time.
pub fn now() -> Timestamp {
    Timestamp { mono: Duration::from_secs(1), wall: Wall(NOW * 1000), shown: Wall(NOW * 1000), suspect: false }
}

/// The compact serialisation, with a signature of 64 zeros.
pub fn compact(header: &[u8], claims: &[u8]) -> String {
    [header, claims, &[0; 64]].map(super::base64url::encoded).join(".")
}

/// What one rule says: none if it was not asked.
pub fn rule(report: &Report, name: &str) -> Option<bool> {
    report.checks.iter().find(|check| check.rule == name).map(|check| check.ok)
}

/// Whether all rules hold whose names begin so; none where none of them was asked.
pub fn all(report: &Report, prefix: &str) -> Option<bool> {
    let mut checks = report.checks.iter().filter(|check| check.rule.starts_with(prefix)).peekable();
    checks.peek()?;
    Some(checks.all(|check| check.ok))
}

/// What is told of a fault must not act on whoever reads it, nor be without end.
pub fn is_told_well(report: &Report) {
    for text in report.checks.iter().filter_map(|check| check.detail.as_deref()) {
        assert!(!text.is_empty() && text.len() < 2048, "{text:?}");
        assert!(!text.chars().any(pushpull::set::acts_on_display), "it acts on a terminal: {text:?}");
    }
    assert_eq!(report.valid, report.err.is_none() && report.undecided.is_none());
    assert!(!report.valid, "without a key nothing is valid");
}

//! What a partner can make one verification cost by its choice of key: a multiple of an honest one, never more.

use std::sync::Arc;
use std::time::Duration;

use pushpull::clock::{Clock as _, SystemClock};
use pushpull::set::events::Filter;
use pushpull::set::{Fault, KeySet, Policy, Profile, verify};
use serde_json::json;

use crate::keys::{Keys, encode};
use crate::receiver::{OURS, THEIRS, TYPE};

/// How much longer than with an honest key of 2,048 bits (some 25 µs) a verification may take. So 50 ms would be a ratio of
/// 2,000; machines differ, and the ratio hardly.
const RATIO_MAX: f64 = 250.0;

/// The shortest of many runs: other programs only ever make one longer.
fn shortest(token: &Arc<str>, keys: &KeySet) -> Duration {
    let policy = Policy {
        issuer: THEIRS.to_owned(),
        audience: OURS.to_owned(),
        accept: Filter::all(),
        jti_bytes_max: 512,
        set_bytes_max: 256 << 10,
        profile: Profile::Ssf,
    };
    let clock = SystemClock::new();
    let run = || {
        let began = clock.now();
        let verdict = verify(token, None, &policy, keys, began);
        let took = clock.now().mono - began.mono;
        assert!(matches!(verdict, Err(Fault::Key(_))), "{verdict:?}");
        took
    };
    (0..30).map(|_| run()).min().unwrap()
}

#[test]
fn no_key_makes_a_verification_slow() {
    let keys = Keys::new();
    let set = KeySet::parse(keys.jwks().as_bytes()).unwrap();
    let token = |kid: &str, bytes: usize| -> Arc<str> {
        let now = SystemClock::new().now().wall.0 / 1000;
        let header = json!({"typ": "secevent+jwt", "alg": "RS256", "kid": kid}).to_string();
        let claims = json!({
            "iss": THEIRS, "aud": OURS, "iat": now, "jti": "j", "sub_id": {"format": "opaque", "id": "x"}, "events": {TYPE: {}},
        });
        // A wrong signature below the modulus costs as much as a right one.
        let signature = [vec![0x11], vec![0x5a; bytes - 1]].concat();
        format!("{}.{}.{}", encode(header.as_bytes()), encode(claims.to_string().as_bytes()), encode(&signature)).into()
    };
    let honest = shortest(&token("rs", 256), &set);
    let slowest = shortest(&token("rsa-8192", 1024), &set);
    let ratio = slowest.as_secs_f64() / honest.as_secs_f64();
    println!("RSA of 2,048 bits: {honest:?}; of 8,192 bits with the largest exponent: {slowest:?}, {ratio:.1} times");
    assert!(ratio > 2.0, "the slow key is not even tried: {ratio:.1}");
    assert!(ratio < RATIO_MAX, "{ratio:.1}");
    for (kid, bytes) in [("rsa-16384", 2048), ("rsa-slow", 256)] {
        let ratio = shortest(&token(kid, bytes), &set).as_secs_f64() / honest.as_secs_f64();
        println!("{kid}, which is left out: {ratio:.2} times");
        assert!(ratio < 3.0, "{kid}: {ratio:.1}");
    }
}

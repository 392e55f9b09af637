//! The specifications' tokens in `proto-examples/` meet the verifier: signed ones pass under the profile they were
//! written for, the drafts' faulty ones never.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use pushpull::clock::{Timestamp, Wall};
use pushpull::set::events::Filter;
use pushpull::set::{ErrorCode, Fault, KeySet, Policy, Profile, verify};
use pushpull::wire::{Limits, parse};
use serde_json::Value;

fn example(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("proto-examples").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(example(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn keys() -> KeySet {
    KeySet::parse(text("sets/jwks.json").as_bytes()).unwrap()
}

/// What the recipient of these claims would ask for, at the time they were made.
fn expecting(claims: &Value, profile: Profile) -> (Policy, Timestamp) {
    let audience = claims["aud"].as_str().or_else(|| claims["aud"][0].as_str()).unwrap_or_default();
    let policy = Policy {
        issuer: claims["iss"].as_str().unwrap().to_owned(),
        audience: audience.to_owned(),
        accept: Filter::all(),
        jti_bytes_max: 512,
        set_bytes_max: 4096,
        profile,
    };
    let now = Timestamp { wall: Wall((claims["iat"].as_u64().unwrap() + 60) * 1000), ..Timestamp::default() };
    (policy, now)
}

#[test]
fn the_figures_of_rfc_8417_verify_under_that_rfc_and_not_under_ssf() {
    let figures = [
        "figure-1-scim-password-reset",
        "figure-2-logout",
        "figure-3-consent",
        "figure-4-risc",
        "figure-5-scim-create",
    ];
    for figure in figures {
        let claims: Value = serde_json::from_str(&text(&format!("sets/{figure}.json"))).unwrap();
        let compact: Arc<str> = text(&format!("sets/{figure}.jwt")).trim().into();
        let (policy, now) = expecting(&claims, Profile::Plain8417);
        let verified =
            verify(&compact, None, &policy, &keys(), now).unwrap_or_else(|fault| panic!("{figure}: {fault:?}"));
        assert_eq!(Value::Object(verified.claims().clone()), claims, "{figure}");
        let (policy, now) = expecting(&claims, Profile::Ssf);
        let refused = verify(&compact, None, &policy, &keys(), now);
        let Err(Fault::Refused(refusal)) = refused else { panic!("{figure}: {refused:?}") };
        assert_eq!(refusal.code, ErrorCode::InvalidRequest, "{figure}: SSF asks for sub_id and typ");
    }
}

#[test]
fn the_unsecured_figure_is_refused_under_every_profile() {
    for file in ["figure-6-unsecured", "figure-6-as-printed"] {
        let compact: Arc<str> = text(&format!("sets/faulty/{file}.jwt")).trim().into();
        let claims = serde_json::json!({"iss": "https://scim.example.com", "aud": "https://scim.example.com", "iat": 1_458_496_025});
        for profile in [Profile::Ssf, Profile::Plain8417] {
            let (policy, now) = expecting(&claims, profile);
            let refused = verify(&compact, None, &policy, &keys(), now);
            assert!(matches!(refused, Err(Fault::Refused(_))), "{file}: {refused:?}");
        }
    }
}

#[test]
fn the_drafts_faulty_tokens_are_refused_one_by_one() {
    use ErrorCode::{InvalidKey, InvalidRequest};
    for (file, code) in [
        ("line-breaks", InvalidRequest),
        ("indented-line-breaks", InvalidRequest),
        ("alg-none", InvalidKey),
        ("alg-none-and-other-jti", InvalidKey),
        // Its algorithm is refused before its claims are looked at.
        ("key-is-not-jti", InvalidKey),
    ] {
        let bytes = fs::read(example(&format!("pushpull/faulty/token/{file}.json"))).unwrap();
        let object = parse(&bytes, &Limits::default()).unwrap();
        let [(jti, compact)] = &object.sets[..] else { panic!("{file}: one SET expected") };
        let claims = serde_json::json!({"iss": "https://scim.example.com", "aud": "https://scim.example.com/Feeds/98d52461fa5bbc879593b7754", "iat": 1_458_496_404});
        for profile in [Profile::Ssf, Profile::Plain8417] {
            let (policy, now) = expecting(&claims, profile);
            let refused = verify(compact, Some(jti), &policy, &keys(), now);
            let Err(Fault::Refused(refusal)) = refused else { panic!("{file}: {refused:?}") };
            assert_eq!(refusal.code, code, "{file}: {}", refusal.description);
        }
    }
}

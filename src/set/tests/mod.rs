//! Tests of making and verifying SETs, and the keys, policy and claims that they share.

mod keys;
mod mutation;
mod outline;
mod rules;
mod signing;
mod written;
mod wycheproof;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Map, Value, json};

use super::*;
use crate::clock::{Timestamp, Wall};

const TYPE: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
const AT: Wall = Wall(1_700_000_000_000);
const NOW: Timestamp = Timestamp { mono: Duration::ZERO, wall: AT, shown: AT, suspect: false };
const IAT: i64 = 1_700_000_000;

/// Signs anything at all, under the kid `raw`.
static RAW: LazyLock<Ed25519KeyPair> = LazyLock::new(|| Ed25519KeyPair::generate().unwrap());
static ES256: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate(Algorithm::Es256, "es").unwrap().0);
static EDDSA: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate(Algorithm::EdDsa, "ed").unwrap().0);
/// With its PEM text, because making another takes time.
static RS256: LazyLock<(SigningKey, String)> = LazyLock::new(|| {
    let (key, pem) = SigningKey::generate(Algorithm::Rs256, "rs").unwrap();
    (key, pem.to_string())
});
static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
    let raw = object(json!({
        "kty": "OKP", "crv": "Ed25519", "kid": "raw", "x": base64url::encode(RAW.public_key().as_ref())
    }));
    let raw = Jwk::from_json(&raw).unwrap();
    KeySet::of([raw, ES256.public_jwk(), EDDSA.public_jwk(), RS256.0.public_jwk()])
});

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is no object"),
    }
}

fn policy() -> Policy {
    Policy {
        issuer: "https://a.example".into(),
        audience: "https://b.example".into(),
        accept: events::Filter::new(&[TYPE.to_owned()]).unwrap(),
        jti_bytes_max: 512,
        set_bytes_max: 256 << 10,
        profile: Profile::Ssf,
    }
}

fn claims() -> Map<String, Value> {
    object(json!({
        "iss": "https://a.example",
        "aud": "https://b.example",
        "iat": IAT,
        "jti": "j-1",
        "txn": "t-1",
        "sub_id": {"format": "opaque", "id": "canary"},
        "events": {TYPE: {"reason": "canary"}},
    }))
}

fn header() -> Map<String, Value> {
    object(json!({"typ": "secevent+jwt", "alg": "EdDSA", "kid": "raw"}))
}

/// A token of exactly these texts, with a valid signature.
fn raw(header: &str, claims: &str) -> Arc<str> {
    let signed = format!("{}.{}", base64url::encode(header.as_bytes()), base64url::encode(claims.as_bytes()));
    let signature = RAW.sign(signed.as_bytes());
    format!("{signed}.{}", base64url::encode(signature.as_ref())).into()
}

/// The usual token with members of header and claims replaced, or removed where the value is `REMOVED`.
fn changed(header_changes: Value, claims_changes: Value) -> Arc<str> {
    let apply = |mut map: Map<String, Value>, changes: Value| {
        map.extend(object(changes));
        map.retain(|_, value| value != REMOVED);
        Value::Object(map).to_string()
    };
    raw(&apply(header(), header_changes), &apply(claims(), claims_changes))
}

const REMOVED: &str = "(removed)";

/// The verdict on a token with the usual policy and keys; `verify` and `report` must agree on it.
fn judge(compact: &Arc<str>) -> Result<VerifiedSet, Fault> {
    assert_eq!(glance(compact), read_for_a_glance(compact), "what relays looks at is what is read");
    judge_by(compact, &policy(), NOW)
}

fn judge_by(compact: &Arc<str>, policy: &Policy, now: Timestamp) -> Result<VerifiedSet, Fault> {
    let verdict = verify(compact, None, policy, &KEYS, now);
    let report = report(compact, None, policy, &KEYS, now);
    assert_eq!(report.valid, verdict.is_ok(), "{report:?}");
    assert_eq!(report.valid, report.checks.iter().all(|check| check.ok), "{report:?}");
    match &verdict {
        Ok(_) => assert_eq!((report.err, report.undecided), (None, None)),
        Err(Fault::Refused(refusal) | Fault::Key(refusal)) => assert_eq!(report.err.as_ref(), Some(refusal)),
        Err(Fault::NotNow(why)) => assert_eq!(report.undecided, Some(*why)),
    }
    verdict
}

fn read_for_a_glance(compact: &str) -> Result<Glance, Refusal> {
    let (_, claims) = decode(compact)?;
    let jti = claims.get("jti").and_then(Value::as_str).filter(|jti| !jti.is_empty()).map(Jti::from);
    let types = claims.get("events").and_then(Value::as_object);
    Ok(Glance { jti, types: types.map(|types| types.keys().cloned().collect()) })
}

/// Asserts a refusal that stays, with this code and with this in its description.
fn assert_refused(compact: &Arc<str>, code: ErrorCode, fragment: &str) {
    match judge(compact) {
        Err(Fault::Refused(refusal)) => {
            assert_eq!(refusal.code, code, "{refusal}");
            assert!(refusal.description.contains(fragment), "{fragment}: {refusal}");
        }
        other => panic!("{fragment}: expected a refusal, found {other:?}"),
    }
}

/// Asserts a refusal that other keys may lift.
fn assert_key_fault(compact: &Arc<str>, keys: &KeySet, fragment: &str) {
    match verify(compact, None, &policy(), keys, NOW) {
        Err(Fault::Key(refusal)) => {
            assert_eq!(refusal.code, ErrorCode::InvalidKey, "{refusal}");
            assert!(refusal.description.contains(fragment), "{fragment}: {refusal}");
        }
        other => panic!("{fragment}: expected a fault of the key, found {other:?}"),
    }
}

//! A partner's JWK Set: what is taken of it, and that what we publish can be read by ourselves.

use pushpull::set::{KeySet, NotAKeySet};
use serde_json::Value;

use super::strict::{self, Json};

/// The reader under test.
pub type Parse = fn(&[u8]) -> Result<KeySet, NotAKeySet>;

/// Holds the program's reader against the judge's.
pub fn check(data: &[u8]) {
    check_with(KeySet::parse, data);
}

/// The same of any reader.
pub fn check_with(parse: Parse, data: &[u8]) {
    let json = strict::read(data);
    if json.as_ref().is_some_and(Json::is_borderline) {
        return;
    }
    let members = json.as_ref().and_then(|json| json.get("keys")).and_then(Json::list);
    let set = match parse(data) {
        Ok(set) => set,
        Err(error) => {
            let many = members.is_some_and(|members| members.len() > KeySet::KEYS_MAX);
            assert!(members.is_none() || many, "refused without need: {error}");
            return assert!(!error.to_string().chars().any(pushpull::set::acts_on_display));
        }
    };
    let Some(members) = members else { panic!("no strict JSON with an array `keys` is taken for a JWK Set") };
    assert!(members.len() <= KeySet::KEYS_MAX);
    assert_eq!(set.len() + set.skipped().len(), members.len(), "each key is taken or told of");
    assert_eq!(set.is_empty(), set.keys().next().is_none());
    for skipped in set.skipped() {
        assert!(!skipped.reason.is_empty() && !skipped.reason.chars().any(pushpull::set::acts_on_display));
    }
    // In the order of the document, each usable key is one that may be used.
    let mut rest = members.iter();
    for key in set.keys() {
        let shown = key.to_json();
        assert!(!key.algorithms().is_empty());
        // The same key may stand there for another use too. If that were taken, one of its likes would be missing later.
        let from = rest.find(|member| is_of(member, &shown, key.kid()) && may_verify(member));
        assert!(from.is_some(), "a key is taken that must not be: {shown}");
    }
    let written = set.to_json().to_string();
    let again = parse(written.as_bytes()).unwrap_or_else(|error| panic!("what we publish is refused: {error}"));
    assert_eq!(again.to_json().to_string(), written);
    assert_eq!((again.len(), again.skipped().len()), (set.len(), 0));
}

/// Whether this published key is that one of the document. An RSA key may have been written with zeros in front; and
/// members that mean nothing to a key of this kind are passed over (RFC 7517 §4).
fn is_of(member: &Json, shown: &Value, kid: Option<&str>) -> bool {
    let same = |name: &str| {
        let ours = shown.get(name).and_then(Value::as_str);
        ours.is_none() || member.get(name).and_then(Json::text) == ours
    };
    member.get("kid").and_then(Json::text) == kid && same("kty") && same("crv") && same("x") && same("y")
}

/// RFC 7517 §4.2 and §4.3; and whoever publishes a private key has none.
fn may_verify(member: &Json) -> bool {
    let verifies = |operations: &Json| {
        operations.list().is_some_and(|list| list.iter().any(|operation| operation.text() == Some("verify")))
    };
    member.get("d").is_none()
        && member.get("use").is_none_or(|purpose| purpose.text() == Some("sig"))
        && member.get("key_ops").is_none_or(verifies)
}

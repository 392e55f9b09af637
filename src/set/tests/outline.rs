//! What is only looked at is taken, refused and judged exactly as what is read into a tree of its own.

use proptest::prelude::*;

use super::super::look::{Look, Object};
use super::super::outline::{Outline, Part};
use super::super::{shape, subject};
use super::*;

fn config() -> ProptestConfig {
    ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() }
}

/// JSON texts with all that makes one not strict: names twice, also in other spellings, depth, odd numbers and strings.
fn text() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "null",
        "true",
        "false",
        "0",
        "-0",
        "1700000000",
        "-1",
        "1.5",
        "1e5",
        "1E-7",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775808",
        "1e999",
        "01",
        "+1",
        ".5",
        "NaN",
        "\"\"",
        "\"x\"",
        "\"é中😀\"",
        "\"\\u00e9\\n\\\"\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud800\"",
        "\"\\x\"",
        "\"a\tb\"",
        "\"opaque\"",
        "\"complex\"",
        "\"aliases\"",
        "\"email\"",
        "\"secevent+jwt\"",
        "\"https://a.example\"",
        "[]",
        "{}",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(5, 48, 20, |inner| {
        let name = prop::sample::select(vec![
            "a",
            "b",
            "\\u0061",
            "é",
            "",
            "jti",
            "events",
            "aud",
            "iss",
            "sub_id",
            "format",
            "id",
            "identifiers",
            "user",
            "ip-addresses",
            "txn",
            "iat",
            "long name with spaces in it",
            "\\n",
        ]);
        let object = prop::collection::vec((name, inner.clone()), 0..4).prop_map(|members| braces(&members));
        let large = prop::collection::vec(inner.clone(), 10..20).prop_map(|values| {
            let name = |n: usize| ["n", "\\u006e", "m", "l"].get(n / 5).copied().unwrap_or("k");
            // Some of them have a name twice, in two spellings.
            let differ = if values.len() % 2 == 0 { 9 } else { 20 };
            let named = values.into_iter().enumerate().map(|(n, value)| (format!("{}{}", name(n), n % differ), value));
            braces(&named.collect::<Vec<_>>())
        });
        let array = prop::collection::vec(inner, 0..4).prop_map(|elements| format!("[{}]", elements.join(", ")));
        prop_oneof![4 => object, 1 => large, 2 => array]
    })
}

fn braces<N: std::fmt::Display>(members: &[(N, String)]) -> String {
    let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\" :{value}")).collect();
    format!("{{{}}}", members.join(","))
}

/// The same value, but that numbers are only as near as a double comes.
fn same(part: Part<'_>, value: &Value) -> bool {
    let both = part.text() == value.as_str() && part.number() == value.as_f64() && part.kind() == json::kind(value);
    let elements = match (part.elements(), value.as_array()) {
        (Some(parts), Some(values)) => {
            let parts: Vec<_> = parts.collect();
            parts.len() == values.len() && parts.into_iter().zip(values).all(|(part, value)| same(part, value))
        }
        (parts, values) => parts.is_none() && values.is_none(),
    };
    let members = match (part.object(), value.as_object()) {
        (Some(object), Some(map)) => {
            let parts: Vec<_> = object.sorted().collect();
            let found = parts.iter().all(|(name, part)| map.get(*name).is_some_and(|value| same(*part, value)));
            let names = parts.iter().map(|(name, _)| *name).eq(map.keys());
            found && names && map.keys().all(|name| object.has(name)) && !object.has("not there")
        }
        (object, map) => object.is_none() && map.is_none(),
    };
    both && elements && members
}

fn assert_same(bytes: &[u8]) {
    let mut outline = Outline::default();
    match (outline.read(bytes), json::object(bytes)) {
        (Ok(whole), Ok(map)) => {
            assert!(same(whole, &Value::Object(map)), "{}", String::from_utf8_lossy(bytes));
        }
        (Err(ours), Err(theirs)) => assert_eq!(ours.to_string(), theirs.to_string()),
        (ours, theirs) => panic!(
            "{}: {:?}, {:?}",
            String::from_utf8_lossy(bytes),
            ours.err().map(|error| error.to_string()),
            theirs.map_err(|error| error.to_string())
        ),
    }
}

#[test]
fn depth_size_and_what_stands_around_are_judged_alike() {
    let nested = |levels: usize| format!(r#"{{"a":{}1{}}}"#, "[".repeat(levels), "]".repeat(levels));
    let wide = |count: usize| braces(&(0..count).map(|n| (n.to_string(), "1".to_owned())).collect::<Vec<_>>());
    let twice = |count: usize, again: usize| {
        let name = |n: usize| if n == count { again.to_string() } else { n.to_string() };
        braces(&(0..=count).map(|n| (name(n), "{\"0\":{}}".to_owned())).collect::<Vec<_>>())
    };
    for text in [nested(30), nested(31), nested(32), nested(200), wide(15), wide(16), wide(17), wide(5000)] {
        assert_same(text.as_bytes());
    }
    for (count, again) in [(1, 0), (15, 3), (16, 0), (16, 15), (17, 16), (40, 2), (40, 39)] {
        let text = twice(count, again);
        assert!(Outline::default().read(text.as_bytes()).err().unwrap().to_string().contains("twice"), "{text}");
        assert_same(text.as_bytes());
    }
    for text in ["", " ", "[]", "null", "{} {}", "{}x", " {} \n", "{\"a\"}", "{\"a\":}", "{a:1}", "{1:1}", "\"x\""] {
        assert_same(text.as_bytes());
    }
    for bytes in [&b"{\"a\":\"\xff\"}"[..], b"{\"\xff\":1}", b"\xff", b"{\"a\":1}\xff", b"{\"a\":\"\\ud800\xff\"}"] {
        assert!(Outline::default().read(bytes).is_err());
        assert_same(bytes);
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_text_is_taken_or_refused_alike_whether_owned_or_borrowed(
        text in text(),
        edit in prop::option::of((any::<prop::sample::Index>(), any::<u8>(), any::<bool>())),
    ) {
        let mut bytes = text.into_bytes();
        if let Some((place, byte, inserted)) = edit {
            let at = place.index(bytes.len());
            if inserted { bytes.insert(at, byte) } else { bytes[at] = byte }
        }
        assert_same(&bytes);
    }

    #[test]
    fn claims_are_judged_in_the_same_words_whether_owned_or_borrowed(text in text()) {
        let text = format!("{{\"x\":{text}}}");
        let mut outline = Outline::default();
        let (Ok(whole), Ok(map)) = (outline.read(text.as_bytes()), json::object(text.as_bytes())) else { return Ok(()) };
        let (part, value) = (whole.find("x").unwrap(), &map["x"]);
        for strictness in [subject::Strictness::Lenient, subject::Strictness::Strict] {
            prop_assert_eq!(subject::look(part, strictness), subject::check(value, strictness));
        }
        let (Some(part), Some(map)) = (part.object(), value.as_object()) else { return Ok(()) };
        for name in ["jti", "iss", "iat", "txn", "aud", "events", "a"] {
            prop_assert_eq!(shape::text(part, name), shape::text(map, name));
            prop_assert_eq!(shape::required_text(part, name), shape::required_text(map, name));
            prop_assert_eq!(shape::date(part, name), shape::date(map, name));
        }
        prop_assert_eq!(shape::jti(part, 8), shape::jti(map, 8));
        prop_assert_eq!(shape::audience(part), shape::audience(map));
        prop_assert_eq!(shape::events(part).map(drop), shape::events(map).map(drop));
    }
}

#[test]
fn what_is_kept_of_a_verified_set_is_what_its_claims_say() {
    let label = |types: Value| judge_by(&changed(json!({}), json!({"events": types})), &open(), NOW).unwrap().label();
    assert_eq!(label(json!({TYPE: {}})), "caep:session-revoked");
    assert_eq!(label(json!({"urn:z": {}, TYPE: {}})), "caep:session-revoked", "the first by name counts");
    assert_eq!(label(json!({"urn:z": {}, "a:b": {}, TYPE: {}})), "other");
    for (types, is_verification) in [
        (json!({events::VERIFICATION: {}}), true),
        (json!({events::VERIFICATION: {}, TYPE: {}}), false),
        (json!({TYPE: {}}), false),
    ] {
        let set = judge_by(&changed(json!({}), json!({"events": types})), &open(), NOW).unwrap();
        assert_eq!(set.is_verification(), is_verification, "{types}");
        assert_eq!(set.event_types().collect::<Vec<_>>(), types.as_object().unwrap().keys().collect::<Vec<_>>());
    }
    for (iat, millis) in [(json!(IAT), IAT as u64 * 1000), (json!(1_700_000_000.25), 1_700_000_000_250)] {
        let set = judge(&changed(json!({}), json!({"iat": iat}))).unwrap();
        assert_eq!(set.issued_at(), Wall(millis));
        assert_eq!(set.claims()["iat"], iat, "exactly as it was signed");
    }
    let name = Jti::from("j-1");
    let compact = changed(json!({}), json!({}));
    for name in [None, Some(&name)] {
        let set = verify(&compact, name, &policy(), &KEYS, NOW).unwrap();
        assert_eq!((set.jti().as_str(), set.compact(), set.claims()), ("j-1", &compact, &claims()));
    }
}

fn open() -> Policy {
    Policy { accept: events::Filter::all(), ..policy() }
}

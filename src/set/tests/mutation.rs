//! Tokens damaged at random: none passes, none makes the code panic, and verdict and report always agree.

use proptest::prelude::*;

use super::*;

fn config() -> ProptestConfig {
    ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z+/:. ]{0,12}".prop_map(Value::from),
        prop::sample::select(vec!["secevent+jwt", "EdDSA", "none", "raw", "https://a.example", TYPE])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z:]{0,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "typ", "alg", "kid", "crit", "iss", "aud", "iat", "jti", "events", "sub_id", "sub", "exp", "nbf", "toe", "txn",
    ])
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_damaged_token_never_passes(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..6)) {
        let good = changed(json!({}), json!({}));
        let mut bytes = good.as_bytes().to_vec();
        for (place, byte, kind) in edits {
            let at = place.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        let damaged: Arc<str> = String::from_utf8_lossy(&bytes).into();
        prop_assert_eq!(judge(&damaged).is_ok(), damaged == good);
    }

    #[test]
    fn one_flipped_bit_never_passes(place in any::<prop::sample::Index>(), bit in 0..7u8) {
        let good = changed(json!({}), json!({}));
        let mut bytes = good.as_bytes().to_vec();
        let at = place.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(judge(&String::from_utf8(bytes).unwrap().into()).is_err());
    }

    #[test]
    fn any_members_get_a_verdict(
        header in prop::collection::btree_map(name(), json_value(), 0..3),
        claims in prop::collection::btree_map(name(), json_value(), 0..4),
    ) {
        // `judge` asserts that verdict and report agree; a signed token with odd members must only not panic.
        let text = |map: std::collections::BTreeMap<&str, Value>| Value::Object(map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect());
        let _ = judge(&changed(text(header), text(claims)));
    }

    #[test]
    fn any_text_gets_a_verdict(text in "\\PC{0,80}") {
        prop_assert!(judge(&text.as_str().into()).is_err());
        prop_assert!(KeySet::parse(text.as_bytes()).is_err());
        prop_assert!(SigningKey::from_pem("k", &text).is_err());
    }
}

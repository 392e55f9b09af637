//! A draft is written out as it would be completed and signed by way of a tree of values: to the byte, or refused in the
//! same words.

use proptest::prelude::*;

use super::*;

const DEFAULTS: Defaults<'static> =
    Defaults { issuer: "https://a.example/\"é\"", audience: "https://b.example", now: AT, jti_bytes_max: 40 };

fn config() -> ProptestConfig {
    ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() }
}

/// Texts with all that JSON escapes and all that it does not.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z:/.+]{0,12}",
        "[\\x00-\\x7f]{0,12}",
        any::<String>(),
        Just("\u{7f}\u{80}\u{2028}\u{2029}\u{feff}😀\"\\/\u{8}\u{c}\n\r\t".to_owned()),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            members(inner).prop_map(Value::Object),
        ]
    })
}

fn members(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::btree_map(text(), value, 0..5).prop_map(|map| map.into_iter().collect())
}

fn subject() -> impl Strategy<Value = Value> {
    let simple = prop_oneof![
        text().prop_map(|id| json!({"format": "opaque", "id": id})),
        text().prop_map(|sub| json!({"format": "iss_sub", "iss": "https://idp.example/", "sub": sub})),
        Just(json!({"format": "email", "email": "ünal@example.com"})),
        Just(json!({"format": "ip-addresses", "ip-addresses": ["192.0.2.1", "2001:db8::1"]})),
    ];
    let simple = simple.boxed();
    prop_oneof![
        4 => simple.clone(),
        2 => prop::collection::vec(simple.clone(), 0..3).prop_map(|several| json!({"format": "aliases", "identifiers": several})),
        2 => prop::collection::btree_map("[a-z_]{1,8}", simple, 0..4).prop_map(|subjects| {
            let mut complex: Map<String, Value> = subjects.into_iter().collect();
            complex.insert("format".into(), "complex".into());
            Value::Object(complex)
        }),
        1 => value(),
    ]
}

fn event_type() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "caep:session-revoked",
        "caep:brand-new",
        "caep:session-revokd",
        "risc:",
        "nonsense",
        "",
        "urn:example:e",
        "urn:a b",
        "https://types.example/é\"",
        "https://types.example/\u{1}",
        "tag:example.com,2026:e",
        "caep:x y",
        "https://types.example/x",
        "scim:prov:delete",
        "caep://x",
        "ssf:urn:x",
        events::VERIFICATION,
    ]);
    prop_oneof![6 => known.prop_map(str::to_owned), 1 => text()]
}

fn draft() -> impl Strategy<Value = Draft> {
    let jti = prop::option::weighted(0.5, prop_oneof![text(), Just("x".repeat(41))]);
    (event_type(), subject(), members(value()), jti, prop::option::of(text())).prop_map(
        |(event_type, sub_id, event, jti, txn)| Draft { event_type, sub_id, event, jti: jti.map(Jti::from), txn },
    )
}

/// The long way: jti and txn that are made on it are taken from the other one.
fn by_a_tree(draft: Draft, made: Option<(&Jti, &str)>) -> Result<(Jti, Digest, String), String> {
    let asked = draft.into_claims().map_err(|error| error.to_string())?;
    let named = asked.contains_key("jti");
    let digest = if named { Digest::of(Value::Object(asked.clone()).to_string().as_bytes()) } else { Digest::NONE };
    let mut claims = asked;
    if let Some((jti, txn)) = made {
        claims.entry("jti").or_insert_with(|| jti.as_str().into());
        claims.entry("txn").or_insert_with(|| txn.into());
    }
    let (jti, claims) = complete(claims, DEFAULTS).map_err(|error| error.to_string())?;
    Ok((jti, digest, Value::Object(claims).to_string()))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_draft_becomes_the_same_bytes_or_is_refused_in_the_same_words(draft in draft()) {
        let uri = draft.clone().into_claims().ok().map(|claims| claims["events"].as_object().unwrap().keys().next().cloned());
        match Written::new(&draft, DEFAULTS) {
            Ok((written, event_type)) => {
                prop_assert_eq!(Some(Some(event_type.into_owned())), uri.clone());
                let set = written.clone().sign(&EDDSA).unwrap();
                prop_assert_eq!((written.jti(), written.digest(), written.label()), (&set.jti, set.digest, set.label));
                let payload = set.compact.split('.').nth(1).unwrap();
                let text = String::from_utf8(base64url::decode(payload).unwrap()).unwrap();
                let claims: Value = serde_json::from_str(&text).unwrap();
                let txn = claims["txn"].as_str().unwrap();
                let (jti, digest, expected) = by_a_tree(draft.clone(), Some((&set.jti, txn))).unwrap();
                prop_assert_eq!((&set.jti, set.digest, &text), (&jti, digest, &expected));
                prop_assert_eq!(set.label, events::label(uri.iter().flatten().map(String::as_str)));
                let signed = EDDSA.sign(claims.as_object().unwrap()).unwrap();
                prop_assert_eq!(set.compact.split('.').next(), signed.split('.').next());
                prop_assert_eq!(draft.jti.is_none(), uuid(set.jti.as_str()));
                prop_assert_eq!(draft.txn.as_deref().unwrap_or(txn), txn);
            }
            Err(refused) => prop_assert_eq!(Err(refused.to_string()), by_a_tree(draft, None)),
        }
    }
}

/// What is made here; nothing that the strategy makes has its form.
fn uuid(text: &str) -> bool {
    text.len() == 36 && text.split('-').map(str::len).eq([8, 4, 4, 4, 12])
}

#[test]
fn every_known_type_goes_by_either_name_and_needs_no_check() {
    for (short, uri) in events::KNOWN {
        for name in [short, uri] {
            let sub_id = json!({"format": "opaque", "id": "1"});
            let draft = Draft { event_type: (*name).to_owned(), sub_id, ..Draft::default() };
            let (written, event_type) = Written::new(&draft, DEFAULTS).unwrap();
            assert_eq!((&*event_type, written.label()), (*uri, *short));
            let (_, completed) = complete(draft.into_claims().unwrap(), DEFAULTS).unwrap();
            assert_eq!(completed["events"], json!({*uri: {}}));
        }
    }
}

#[test]
fn what_is_made_anew_is_made_once_for_each() {
    let draft = Draft {
        event_type: "caep:session-revoked".into(),
        sub_id: json!({"format": "opaque", "id": "1"}),
        ..Draft::default()
    };
    let mut seen = std::collections::HashSet::new();
    for _ in 0..100 {
        let set = Written::new(&draft, DEFAULTS).unwrap().0.sign(&EDDSA).unwrap();
        let claims = decode(&set.compact).unwrap().1;
        assert_eq!(claims["jti"], set.jti.as_str());
        assert!(uuid(claims["txn"].as_str().unwrap()));
        assert!(seen.insert(claims["jti"].to_string()) && seen.insert(claims["txn"].to_string()));
    }
}

#[test]
fn a_new_jti_that_would_be_too_long_is_refused_as_ever() {
    let draft =
        Draft { event_type: "urn:x:y".into(), sub_id: json!({"format": "opaque", "id": "1"}), ..Draft::default() };
    let short = Defaults { jti_bytes_max: 35, ..DEFAULTS };
    let refused = Written::new(&draft, short).unwrap_err();
    assert_eq!(refused, complete(draft.into_claims().unwrap(), short).unwrap_err());
    assert_eq!(refused.to_string(), "claim `jti` has 36 bytes, expected at most 35");
}

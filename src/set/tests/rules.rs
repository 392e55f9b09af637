//! Every rule for header, claims and serialisation, each broken on its own.

use super::*;
use ErrorCode::{AccessDenied, InvalidAudience, InvalidIssuer, InvalidKey, InvalidRequest};

#[test]
fn a_set_that_keeps_all_rules_is_taken() {
    let compact = changed(json!({}), json!({}));
    let set = judge(&compact).unwrap();
    assert_eq!(set.jti().as_str(), "j-1");
    assert!(Arc::ptr_eq(set.compact(), &compact));
    assert_eq!(set.claims(), &claims());
    assert_eq!(set.event_types().collect::<Vec<_>>(), [TYPE]);
    assert!(!set.is_verification());
    assert_eq!(decode(&compact).unwrap(), (header(), claims()));
}

#[test]
fn members_that_would_change_the_reading_or_bring_a_key_are_refused_in_the_header() {
    for name in ["crit", "b64", "zip", "jku", "x5u", "x5c", "jwk"] {
        for value in [json!(null), json!([]), json!("https://evil.example"), json!(false)] {
            assert_refused(&changed(json!({name: value}), json!({})), InvalidRequest, &format!("`{name}`"));
        }
    }
    assert!(judge(&changed(json!({"cty": "x", "more": {"a": [1]}}), json!({}))).is_ok(), "others are ignored");
}

#[test]
fn a_kid_that_is_no_string_is_refused_and_others_are_only_looked_up() {
    for kid in [json!(1), json!(null), json!(["raw"]), json!({})] {
        assert_refused(&changed(json!({"kid": kid}), json!({})), InvalidRequest, "`kid` is");
    }
    for kid in ["../../etc/passwd", "' OR 1=1 --", "https://evil.example/jwks.json", "RAW", "raw ", "", "raw\u{0}"] {
        assert_key_fault(&changed(json!({"kid": kid}), json!({})), &KEYS, "no published key has kid");
    }
}

#[test]
fn only_the_listed_algorithms_are_taken() {
    for alg in
        ["none", "None", "NONE", "nOnE", "HS256", "HS384", "HS512", "RS384", "ES512", "eddsa", "Ed448", "", "ES256K"]
    {
        assert_refused(&changed(json!({"alg": alg}), json!({})), InvalidKey, "`alg` is");
    }
    assert_refused(&changed(json!({"alg": REMOVED}), json!({})), InvalidRequest, "no `alg`");
    assert_refused(&changed(json!({"alg": null}), json!({})), InvalidRequest, "`alg` is null");
    assert!(judge(&changed(json!({"alg": "Ed25519"}), json!({}))).is_ok(), "the name of RFC 9864");
}

#[test]
fn typ_is_compared_as_a_media_type() {
    for typ in ["secevent+jwt", "application/secevent+jwt", "SecEvent+JWT", "APPLICATION/SECEVENT+JWT"] {
        assert!(judge(&changed(json!({"typ": typ}), json!({}))).is_ok(), "{typ}");
    }
    for typ in ["JWT", "at+jwt", "", "application/", "text/secevent+jwt", "secevent+jwt ", "applicatio\u{e9}/x"] {
        assert_refused(&changed(json!({"typ": typ}), json!({})), InvalidRequest, "`typ` is");
    }
    assert_refused(&changed(json!({"typ": REMOVED}), json!({})), InvalidRequest, "no `typ`");
    assert_refused(&changed(json!({"typ": 1}), json!({})), InvalidRequest, "`typ` is a number");
}

#[test]
fn each_claim_must_have_its_form() {
    let long = "x".repeat(513);
    for (change, code, fragment) in [
        (json!({"jti": REMOVED}), InvalidRequest, "`jti` is missing"),
        (json!({"jti": ""}), InvalidRequest, "`jti` is empty"),
        (json!({"jti": 7}), InvalidRequest, "`jti` is a number"),
        (json!({"jti": long}), InvalidRequest, "`jti` has 513 bytes"),
        (json!({"iss": REMOVED}), InvalidRequest, "`iss` is missing"),
        (json!({"iss": ["https://a.example"]}), InvalidRequest, "`iss` is an array"),
        (json!({"iss": "https://a.example/"}), InvalidIssuer, "expected \"https://a.example\""),
        (json!({"iss": "https://A.example"}), InvalidIssuer, "expected"),
        (json!({"iat": REMOVED}), InvalidRequest, "`iat` is missing"),
        (json!({"iat": "1700000000"}), InvalidRequest, "`iat` is a string"),
        (json!({"iat": null}), InvalidRequest, "`iat` is null"),
        (json!({"events": REMOVED}), InvalidRequest, "`events` is missing"),
        (json!({"events": {}}), InvalidRequest, "no event"),
        (json!({"events": [TYPE]}), InvalidRequest, "`events` is an array"),
        (json!({"events": {"session-revoked": {}}}), InvalidRequest, "expected a URI"),
        (json!({"events": {TYPE: null}}), InvalidRequest, "is null, expected an object"),
        (json!({"events": {TYPE: true}}), InvalidRequest, "is a boolean"),
        (json!({"events": {TYPE: []}}), InvalidRequest, "is an array"),
        (json!({"sub": "x"}), InvalidRequest, "`sub` must not"),
        (json!({"exp": IAT + 60}), InvalidRequest, "`exp` must not"),
        (json!({"sub_id": REMOVED}), InvalidRequest, "`sub_id` is missing"),
        (json!({"sub_id": "x"}), InvalidRequest, "`sub_id` is a string"),
        (json!({"sub_id": {}}), InvalidRequest, "`sub_id`: "),
        (json!({"txn": 1}), InvalidRequest, "`txn` is a number"),
        (json!({"toe": "x"}), InvalidRequest, "`toe` is a string"),
        (json!({"aud": REMOVED}), InvalidAudience, "`aud` has nothing"),
        (json!({"aud": []}), InvalidAudience, "expected \"https://b.example\""),
        (json!({"aud": "https://c.example"}), InvalidAudience, "\"https://c.example\""),
        (json!({"aud": ["https://c.example"]}), InvalidAudience, "\"https://c.example\""),
        (json!({"aud": 5}), InvalidRequest, "`aud` is a number"),
        (json!({"aud": {}}), InvalidRequest, "`aud` is an object"),
        (json!({"aud": ["https://b.example", 7]}), InvalidRequest, "`aud` holds a number"),
        (json!({"nbf": "x"}), InvalidRequest, "`nbf` is a string"),
    ] {
        assert_refused(&changed(json!({}), change), code, fragment);
    }
}

#[test]
fn forms_that_are_allowed_are_taken() {
    for change in [
        json!({"aud": ["https://c.example", "https://b.example"]}),
        json!({"iat": IAT as f64 + 0.25}),
        json!({"toe": 1.5, "txn": REMOVED}),
        json!({"jti": "é\u{0} <b>\u{202e}"}),
        json!({"jti": "x".repeat(512)}),
        json!({"unknown": {"deep": [[[]]]}, "nbf": IAT}),
    ] {
        assert!(judge(&changed(json!({}), change.clone())).is_ok(), "{change}");
    }
}

#[test]
fn a_set_must_come_under_its_own_name() {
    let compact = changed(json!({}), json!({}));
    let under = |name: &str| verify(&compact, Some(&name.into()), &policy(), &KEYS, NOW);
    assert!(under("j-1").is_ok());
    let Err(Fault::Refused(refusal)) = under("J-1") else { panic!("expected a refusal") };
    assert_eq!(refusal.code, InvalidRequest);
    assert!(refusal.description.contains("\"j-1\"") && refusal.description.contains("\"J-1\""), "{refusal}");
}

#[test]
fn event_types_that_are_not_accepted_are_denied_but_verification_always_passes() {
    let other = "https://schemas.openid.net/secevent/risc/event-type/account-disabled";
    assert_refused(&changed(json!({}), json!({"events": {other: {}}})), AccessDenied, other);
    assert_refused(&changed(json!({}), json!({"events": {TYPE: {}, other: {}}})), AccessDenied, other);
    let verification = judge(&changed(json!({}), json!({"events": {events::VERIFICATION: {"state": "s"}}}))).unwrap();
    assert!(verification.is_verification());
    let both = judge(&changed(json!({}), json!({"events": {events::VERIFICATION: {}, TYPE: {}}}))).unwrap();
    assert!(!both.is_verification(), "what also says something else is for the application");
}

#[test]
fn iat_has_its_bounds_and_a_suspect_clock_refuses_nothing() {
    const DAY: i64 = 86_400;
    let suspect = Timestamp { suspect: true, ..NOW };
    let at = |offset: i64, now| judge_by(&changed(json!({}), json!({"iat": IAT + offset})), &policy(), now);
    for offset in [-30 * DAY, -1, 0, 300] {
        assert!(at(offset, NOW).is_ok(), "{offset}");
        assert!(at(offset, suspect).is_ok(), "{offset}");
    }
    for offset in [301, DAY] {
        assert!(matches!(at(offset, NOW), Err(Fault::NotNow(_))), "{offset}");
        assert!(matches!(at(offset, suspect), Err(Fault::NotNow(_))), "{offset}");
    }
    for offset in [-30 * DAY - 1, DAY + 1, -IAT - 5, IAT * 1000] {
        let Err(Fault::Refused(refusal)) = at(offset, NOW) else { panic!("{offset}: expected a refusal") };
        assert_eq!(refusal.code, InvalidRequest);
        assert!(matches!(at(offset, suspect), Err(Fault::NotNow(_))), "{offset}");
    }
    // It may have jumped to the right time: what is dated by that is taken.
    let jumped = |days: i64| Timestamp { shown: Wall(NOW.wall.0.saturating_add_signed(days * DAY * 1000)), ..suspect };
    for (days, offset) in [(40, 40 * DAY + 300), (40, 0), (40, -30 * DAY), (-40, 300), (-40, -30 * DAY)] {
        assert!(at(offset, jumped(days)).is_ok(), "{days} {offset}");
    }
    for (days, offset) in [(40, 40 * DAY + 301), (40, -30 * DAY - 1), (-40, 301), (-40, -30 * DAY - 1)] {
        assert!(matches!(at(offset, jumped(days)), Err(Fault::NotNow(_))), "{days} {offset}");
    }
    assert_refused(&changed(json!({}), json!({"iat": 1e300})), InvalidRequest, "more than a day");
    assert_refused(&changed(json!({}), json!({"nbf": IAT + 2 * DAY})), InvalidRequest, "`nbf`");
    assert!(matches!(judge(&changed(json!({}), json!({"nbf": IAT + 3600}))), Err(Fault::NotNow(_))));
}

#[test]
fn the_plain_profile_asks_only_what_rfc_8417_asks() {
    let plain = Policy { profile: Profile::Plain8417, ..policy() };
    let judge = |header: Value, claims: Value| judge_by(&changed(header, claims), &plain, NOW);
    for typ in [json!(REMOVED), json!("JWT"), json!("secevent+jwt")] {
        assert!(judge(json!({"typ": typ}), json!({"sub_id": REMOVED, "aud": REMOVED, "sub": "x"})).is_ok());
    }
    assert!(judge(json!({"typ": "at+jwt"}), json!({})).is_err(), "another kind of JWT is not a SET");
    assert!(judge(json!({}), json!({"aud": "https://c.example"})).is_err());
    assert!(judge(json!({}), json!({"sub_id": {}})).is_err());
    assert!(judge(json!({}), json!({"exp": IAT + 1})).is_ok());
    assert!(judge(json!({}), json!({"exp": IAT - 300})).is_ok(), "clocks may differ by five minutes");
    assert!(matches!(judge(json!({}), json!({"exp": IAT - 301})), Err(Fault::Refused(_))));
    assert!(matches!(judge(json!({}), json!({"exp": "x"})), Err(Fault::Refused(_))));
    let suspect = Timestamp { suspect: true, ..NOW };
    let expired = changed(json!({}), json!({"exp": IAT - 301}));
    assert!(matches!(judge_by(&expired, &plain, suspect), Err(Fault::NotNow(_))));
}

#[test]
fn header_and_claims_must_be_strict_json_objects() {
    let (good_header, good_claims) = (Value::from(header()).to_string(), Value::from(claims()).to_string());
    let doubled = |text: &str, member: &str| text.replacen('{', &format!("{{{member},"), 1);
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(32), "]".repeat(32));
    for (header, claims, fragment) in [
        (doubled(&good_header, r#""alg":"none""#), good_claims.clone(), "header: not valid JSON: the same member name"),
        (doubled(&good_header, r#""x":1,"x":1"#), good_claims.clone(), "twice"),
        (good_header.clone(), doubled(&good_claims, r#""iss":"https://a.example""#), "claims: not valid JSON"),
        (good_header.clone(), good_claims.replace("canary\"}", "canary\",\"id\":1}"), "twice"),
        (good_header.clone(), "[]".into(), "claims: a JSON object was expected, found an array"),
        (good_header.clone(), "null".into(), "found null"),
        ("[]".into(), good_claims.clone(), "header: a JSON object was expected"),
        ("\"x\"".into(), good_claims.clone(), "header: a JSON object was expected"),
        (good_header.clone(), format!("{good_claims} x"), "not valid JSON"),
        (good_header.clone(), format!("\u{feff}{good_claims}"), "not valid JSON"),
        (good_header.clone(), deep.clone(), "32 levels"),
        (deep, good_claims.clone(), "32 levels"),
    ] {
        assert_refused(&raw(&header, &claims), InvalidRequest, fragment);
    }
}

#[test]
fn there_is_one_serialisation_and_one_spelling() {
    let good = changed(json!({}), json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!("three parts") };
    let loose = {
        // The last character of a 64-byte signature carries four bits that must be zero.
        let (start, last) = signature.split_at(signature.len() - 1);
        let next = char::from(last.as_bytes()[0] + 1);
        format!("{header}.{claims}.{start}{next}")
    };
    for (text, fragment) in [
        (format!("{header}.{claims}"), "2 parts"),
        (format!("{good}.x"), "4 parts"),
        (format!("{good}.x.y"), "5 parts"),
        (String::new(), "1 parts"),
        (format!(".{claims}.{signature}"), "empty"),
        (format!("{header}..{signature}"), "empty"),
        ("..".into(), "empty"),
        (json!({"protected": header, "payload": claims, "signature": signature}).to_string(), "JSON serialisation"),
        (format!("{good}\n"), "signature is not canonical"),
        (format!("{good}="), "signature is not canonical"),
        (format!(" {good}"), "header is not canonical"),
        (format!("{header}.{}\n{}.{signature}", &claims[..20], &claims[20..]), "claims is not canonical"),
        (format!("{header}=.{claims}.{signature}"), "header is not canonical"),
        (loose, "signature is not canonical"),
    ] {
        assert_refused(&text.as_str().into(), InvalidRequest, fragment);
    }
}

#[test]
fn what_is_too_long_is_refused() {
    let compact = changed(json!({}), json!({}));
    let exact = Policy { set_bytes_max: compact.len(), ..policy() };
    assert!(judge_by(&compact, &exact, NOW).is_ok());
    let less = Policy { set_bytes_max: compact.len() - 1, ..policy() };
    let Err(Fault::Refused(refusal)) = judge_by(&compact, &less, NOW) else { panic!("expected a refusal") };
    assert_eq!(refusal.code, InvalidRequest);
}

#[test]
fn a_report_goes_on_after_a_fault_and_names_every_clause() {
    let compact = changed(json!({"typ": "JWT", "kid": "ed"}), json!({"iss": "x", "sub": "y", "iat": 0}));
    let report = report(&compact, None, &policy(), &KEYS, NOW);
    let failed: Vec<_> = report.checks.iter().filter(|check| !check.ok).map(|check| check.rule).collect();
    assert_eq!(failed, ["header.typ", "claims.iss", "claims.sub", "claims.iat.age", "signature"]);
    assert!(report.checks.iter().all(|check| !check.clause.is_empty() && check.ok == check.detail.is_none()));
    assert_eq!(report.err.unwrap().code, InvalidRequest);
    let line = serde_json::to_value(&report.checks[0]).unwrap();
    assert_eq!(line, json!({"rule": "size", "ok": true, "clause": "RFC 8935 §2.4"}));
}

#[test]
fn no_message_repeats_subject_or_payload_and_partners_cannot_forge_a_log_line() {
    let nasty = "\n\u{1b}[31m\u{202e}".repeat(200);
    for (header, claims) in [
        (json!({"typ": nasty, "alg": nasty, "kid": nasty}), json!({"iss": nasty, "aud": [nasty], "jti": ""})),
        (json!({"kid": nasty}), json!({"events": {nasty.clone(): {"canary": 1}}, "aud": "canary "})),
        (json!({}), json!({"sub_id": "canary", "sub": "canary", "txn": ["canary"], "toe": {"canary": 1}})),
        (json!({}), json!({"events": {TYPE: "canary"}, "iat": "canary"})),
        (json!({}), json!({"sub_id": {"format": "", "id": "canary"}, "events": "canary"})),
    ] {
        let report = report(&changed(header, claims), Some(&nasty.as_str().into()), &policy(), &KEYS, NOW);
        for detail in report.checks.iter().filter_map(|check| check.detail.as_ref()) {
            assert!(!detail.contains("canary") || detail.contains("`aud`"), "{detail}");
            assert!(!detail.contains(char::is_control) && !detail.contains('\u{202e}'), "{detail:?}");
            assert!(detail.len() < 5000, "{}", detail.len());
        }
    }
}

#[test]
fn a_header_that_was_judged_before_is_judged_the_same() {
    let headers = [
        json!({}),
        json!({"typ": REMOVED}),
        json!({"typ": "JWT"}),
        json!({"alg": "ES256"}),
        json!({"alg": REMOVED}),
        json!({"kid": REMOVED}),
        json!({"kid": "gone"}),
        json!({"crit": []}),
        json!({"cty": "x".repeat(1_000)}),
    ];
    let tokens: Vec<_> = headers.iter().map(|header| changed(header.clone(), json!({}))).collect();
    let (good, mut bad) = (changed(json!({}), json!({"txn": "t-2"})), tokens[0].to_string());
    bad.replace_range(bad.len() - 8.., "AAAAAAAA");
    let profiles = [Profile::Ssf, Profile::Plain8417].map(|profile| Policy { profile, ..policy() });
    let keys = || KeySet::of(KEYS.keys().cloned());
    let report =
        |compact: &str, policy: &Policy, keys: &KeySet| format!("{:?}", report(compact, None, policy, keys, NOW));
    let shared = keys();
    let is_familiar = || shared.familiar.find(good.split('.').next().unwrap(), Profile::Ssf).is_some();
    report(&bad, &profiles[0], &shared);
    assert!(!is_familiar(), "anybody may have sent it");
    report(&good, &profiles[0], &shared);
    assert!(is_familiar());
    for (at, policy) in profiles.iter().enumerate() {
        for compact in tokens.iter().map(|token| &**token).chain([&*bad]) {
            let first = report(compact, policy, &keys());
            for before in [&*good, compact, "no token"] {
                report(before, policy, &shared);
                assert_eq!(report(compact, policy, &shared), first, "{compact}");
                assert_eq!(report(compact, policy, &shared), first, "{compact}");
            }
            // By the other profile's rules it may be another case.
            let other = &profiles[1 - at];
            assert_eq!(report(compact, other, &shared), report(compact, other, &keys()), "{compact}");
        }
    }
}

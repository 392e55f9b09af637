//! The claims: any bytes in the second part of a token that is sound otherwise, and what is made of them for sending.

use pushpull::clock::Wall;
use pushpull::set::{Defaults, Jti, Policy, Profile, complete, decode};
use serde_json::Value;

use super::strict::{self, Json};
use super::subject::is_subject;
use super::token::{HEADER, Judge, NOW, POLICY, all, compact, is_told_well, judge, rule};

/// Holds the program's rules against the judge's.
pub fn check(data: &[u8]) {
    check_with(judge, data);
}

/// The same of anybody's rules.
pub fn check_with(judge: Judge, data: &[u8]) {
    if data.is_empty() {
        // Then it is no compact serialisation at all, and no rule about its parts is asked.
        return;
    }
    let token = compact(HEADER, data);
    let json = strict::read(data).filter(|json| json.members().is_some());
    let borderline = json.as_ref().is_some_and(Json::is_borderline);
    for profile in [Profile::Ssf, Profile::Plain8417] {
        let policy = Policy { profile, ..POLICY.clone() };
        let report = judge(&token, &policy);
        is_told_well(&report);
        assert_eq!(all(&report, "header."), Some(true), "the header is sound");
        if borderline {
            continue;
        }
        assert_eq!(rule(&report, "claims.json") == Some(true), json.is_some(), "whether it is a strict JSON object");
        let Some(json) = &json else { continue };
        for (name, wanted) in expected(json, profile == Profile::Plain8417) {
            let Some(wanted) = wanted else { continue };
            assert_eq!(rule(&report, name), Some(wanted), "{name}: {:?}", report.checks);
        }
    }
    if let Ok((_, claims)) = decode(&token) {
        if !borderline {
            assert!(json.is_some_and(|json| json.is(&Value::Object(claims.clone()))), "shown otherwise than it is");
        }
        may_be_sent(judge, claims);
    }
}

/// What each rule has to say; none where it depends on how a reader rounds.
fn expected(claims: &Json, plain: bool) -> [(&'static str, Option<bool>); 15] {
    let text = |name: &str| claims.get(name).map(Json::text);
    let absent = |name: &str| claims.get(name).is_none();
    let number = |name: &str| claims.get(name).map(Json::number);
    let is_date = |name: &str| absent(name) || matches!(number(name), Some(Some(_)));
    let audience: Option<Vec<&str>> = match claims.get("aud") {
        Some(Json::Text(one)) => Some(vec![one]),
        Some(Json::List(several)) => several.iter().map(Json::text).collect(),
        _ => None,
    };
    let events = claims.get("events").and_then(Json::members);
    let is_event = |(name, payload): &(String, Json)| {
        name.contains(':') && !name.chars().any(|c| c.is_whitespace() || c.is_control()) && payload.members().is_some()
    };
    let ahead = |name: &str| number(name).flatten().map(|seconds| seconds - NOW as f64);
    // By a millisecond readers may differ.
    let sure = |ahead: f64, edge: f64| (ahead - edge).abs() > 0.01;
    let not_ahead = |name: &str| match ahead(name) {
        Some(ahead) if !sure(ahead, 300.0) => None,
        Some(ahead) => Some(ahead <= 300.0),
        None => Some(true),
    };
    let age = match ahead("iat") {
        Some(ahead) if !sure(ahead, -30.0 * 86_400.0) => None,
        Some(ahead) if ahead < -30.0 * 86_400.0 => Some(false),
        _ => not_ahead("iat"),
    };
    let expired = match ahead("exp") {
        Some(ahead) if !sure(ahead, -300.0) => None,
        Some(ahead) => Some(ahead >= -300.0),
        None => Some(is_date("exp")),
    };
    let not_before = if is_date("nbf") { not_ahead("nbf") } else { Some(false) };
    let sub_id = match claims.get("sub_id") {
        None => plain,
        Some(subject) => is_subject(subject),
    };
    [
        ("claims.jti", Some(matches!(text("jti"), Some(Some(jti)) if (1..=POLICY.jti_bytes_max).contains(&jti.len())))),
        ("claims.iss", Some(text("iss") == Some(Some(&POLICY.issuer)))),
        ("claims.iat", Some(!absent("iat") && is_date("iat"))),
        ("claims.events", Some(events.is_some_and(|events| !events.is_empty() && events.iter().all(is_event)))),
        ("claims.sub", Some(plain || absent("sub"))),
        ("claims.exp", Some(plain || absent("exp"))),
        ("claims.sub_id", Some(sub_id)),
        ("claims.txn", Some(text("txn") != Some(None))),
        ("claims.toe", Some(is_date("toe"))),
        ("claims.aud", Some(audience.map_or(plain && absent("aud"), |aud| aud.contains(&&*POLICY.audience)))),
        ("policy.accept", Some(true)),
        ("claims.jti.name", Some(true)),
        ("claims.iat.age", age),
        ("claims.exp.passed", expired),
        ("claims.nbf", not_before),
    ]
}

/// What we would send must be what a partner takes, by the same rules.
fn may_be_sent(judge: Judge, claims: serde_json::Map<String, Value>) {
    let defaults = Defaults {
        issuer: &POLICY.issuer,
        audience: &POLICY.audience,
        now: Wall(NOW * 1000),
        jti_bytes_max: POLICY.jti_bytes_max,
    };
    let Ok((jti, completed)) = complete(claims.clone(), defaults) else { return };
    assert!(claims.iter().all(|(name, value)| completed.get(name) == Some(value)), "what is there is kept");
    assert_eq!(completed["jti"].as_str().map(Jti::from), Some(jti));
    let audience = &completed["aud"];
    let policy = Policy {
        issuer: completed["iss"].as_str().unwrap_or_default().to_owned(),
        audience: audience.as_str().or(audience[0].as_str()).unwrap_or_default().to_owned(),
        ..POLICY.clone()
    };
    let report = judge(&compact(HEADER, Value::Object(completed).to_string().as_bytes()), &policy);
    // When something happened is for the application to say.
    let of_time = ["claims.iat.age", "claims.nbf"];
    for check in
        report.checks.iter().filter(|check| check.rule.starts_with("claims.") && !of_time.contains(&check.rule))
    {
        assert!(check.ok, "we would send what {} refuses: {:?}", check.rule, check.detail);
    }
}

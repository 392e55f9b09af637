//! The JOSE header: any bytes in the first part of a token that is sound otherwise.

use pushpull::set::{Policy, Profile, decode};

use super::strict::{self, Json};
use super::token::{CLAIMS, Judge, POLICY, all, compact, is_told_well, judge, rule};

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
    let compact = compact(data, CLAIMS);
    let json = strict::read(data).filter(|json| json.members().is_some());
    let borderline = json.as_ref().is_some_and(Json::is_borderline);
    for profile in [Profile::Ssf, Profile::Plain8417] {
        let report = judge(&compact, &Policy { profile, ..POLICY.clone() });
        is_told_well(&report);
        assert_eq!(all(&report, "claims."), Some(true), "the claims are sound");
        let read = rule(&report, "header.json") == Some(true);
        if borderline {
            continue;
        }
        assert_eq!(read, json.is_some(), "whether it is a strict JSON object");
        let Some(json) = &json else { continue };
        let sound = sound(json, profile == Profile::Plain8417);
        let found = all(&report, "header.");
        assert_eq!(found, Some(sound), "{:?}", report.checks);
    }
    match decode(&compact) {
        Ok((header, _)) => {
            let header = serde_json::Value::Object(header);
            assert!(json.is_some_and(|json| json.is(&header)), "shown otherwise than it is");
        }
        Err(_) => assert!(json.is_none() || borderline),
    }
}

/// RFC 7515 §4.1, RFC 8725 §3.1 and §3.10, RFC 8417 §2.3, SSF 1.0 §4.1.1.
fn sound(header: &Json, plain: bool) -> bool {
    let text = |name: &str| header.get(name).map(Json::text);
    let forbidden = ["crit", "b64", "zip", "jku", "x5u", "x5c", "jwk"].iter().any(|name| header.get(name).is_some());
    let alg = matches!(text("alg"), Some(Some("ES256" | "ES384" | "EdDSA" | "Ed25519" | "RS256" | "PS256")));
    let kid = !matches!(text("kid"), Some(None));
    let typ = match text("typ") {
        Some(Some(typ)) => {
            let typ = typ.to_ascii_lowercase();
            typ == "secevent+jwt" || typ == "application/secevent+jwt" || plain && typ == "jwt"
        }
        Some(None) => false,
        None => plain,
    };
    !forbidden && alg && kid && typ
}

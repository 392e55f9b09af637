//! From what an application wants to tell to the claims of a SET (RFC 8417 §2.2, SSF 1.0 §4.1).

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::refusal::quote;
use super::subject::{self, Strictness};
use super::{Jti, events, shape};
use crate::clock::Wall;

/// One event about one subject: the short way to write claims.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Draft {
    /// The event type: its URI or a short name such as `caep:session-revoked`.
    pub event_type: String,
    /// Whom or what it is about: a Subject Identifier (RFC 9493).
    pub sub_id: Value,
    /// The event's payload.
    pub event: Map<String, Value>,
    /// Its identity; a new one when absent.
    pub jti: Option<Jti>,
    /// What it has in common with other SETs of the same cause; a new one when absent.
    pub txn: Option<String>,
}

impl Draft {
    /// The claims that say so, still to be [`complete`]d.
    pub fn into_claims(self) -> Result<Map<String, Value>, Incomplete> {
        let event_type = full_name(&self.event_type)?.into_owned();
        let mut claims = Map::new();
        claims.insert("events".into(), Map::from_iter([(event_type, Value::Object(self.event))]).into());
        claims.insert("sub_id".into(), self.sub_id);
        if let Some(jti) = self.jti {
            claims.insert("jti".into(), jti.as_str().into());
        }
        if let Some(txn) = self.txn {
            claims.insert("txn".into(), txn.into());
        }
        Ok(claims)
    }
}

/// The URI of an event type as it is named in a draft.
pub(super) fn full_name(event_type: &str) -> Result<Cow<'_, str>, Incomplete> {
    match events::full(event_type) {
        // A misspelt name must not travel as a type of its own; whoever means it can give the full URI.
        Some(full) if full != event_type && !events::is_known(&full) => match events::suggest(event_type) {
            Some(near) => Err(Incomplete(format!(
                "event type {} is unknown: did you mean {near}? If not, give its full URI, {full}",
                quote(event_type)
            ))),
            None => Ok(full),
        },
        Some(full) => Ok(full),
        None if event_type.contains("://") || event_type.starts_with("urn:") => Ok(event_type.into()),
        None => Err(Incomplete(format!(
            "event type {} is unknown: give its full URI or a short name such as caep:session-revoked",
            quote(event_type)
        ))),
    }
}

/// What fills the claims that the application leaves out.
#[derive(Clone, Copy, Debug)]
pub struct Defaults<'a> {
    /// `iss`: ourselves.
    pub issuer: &'a str,
    /// `aud`: the partner.
    pub audience: &'a str,
    /// `iat`.
    pub now: Wall,
    /// The longest `jti` that is taken, in bytes.
    pub jti_bytes_max: usize,
}

/// Why claims do not make a SET, for the one who wrote them.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Incomplete(pub(super) String);

/// Fills `iss`, `aud`, `iat`, `jti` and `txn` where absent and checks all the rest by SSF 1.0 §4.1, so that nothing
/// leaves that a partner would have to refuse for its form. What is there is kept as it is.
pub fn complete(
    mut claims: Map<String, Value>,
    defaults: Defaults<'_>,
) -> Result<(Jti, Map<String, Value>), Incomplete> {
    check(&claims).map_err(Incomplete)?;
    let mut fill = |name: &str, value: &dyn Fn() -> Value| {
        claims.entry(name).or_insert_with(value);
    };
    fill("iss", &|| defaults.issuer.into());
    fill("aud", &|| defaults.audience.into());
    fill("iat", &|| defaults.now.seconds().into());
    fill("jti", &|| Jti::new().as_str().into());
    fill("txn", &|| Jti::new().as_str().into());
    let jti = Jti::from(shape::jti(&claims, defaults.jti_bytes_max).map_err(Incomplete)?);
    Ok((jti, claims))
}

fn check(claims: &Map<String, Value>) -> Result<(), String> {
    if claims.contains_key("sub") {
        return Err("claim `sub` is not allowed in a SET (SSF 1.0 §4.1.2): name the subject in `sub_id`".into());
    }
    if claims.contains_key("exp") {
        return Err("claim `exp` is not allowed in a SET (SSF 1.0 §4.1.7): what happened does not expire".into());
    }
    for name in shape::events(claims)?.keys() {
        no_short_name(name)?;
    }
    if claims.contains_key("iss") {
        shape::required_text(claims, "iss")?;
    }
    if shape::audience(claims)?.is_some_and(|audience| audience.is_empty()) {
        return Err("claim `aud` names nobody: leave it out to have the partner's audience".into());
    }
    shape::date(claims, "iat")?;
    shape::date(claims, "toe")?;
    shape::date(claims, "nbf")?;
    shape::text(claims, "txn")?;
    let Some(sub_id) = claims.get("sub_id") else {
        return Err("claim `sub_id` is missing: say whom the event is about (SSF 1.0 §3)".into());
    };
    about(sub_id)
}

/// The name of a member of `events` is a URI and not short for one.
pub(super) fn no_short_name(name: &str) -> Result<(), String> {
    match events::full(name) {
        Some(full) if full != name => {
            Err(format!("event type {} is a short name: in `events` write {full}", quote(name)))
        }
        _ => Ok(()),
    }
}

/// `sub_id` is a subject that may be sent.
pub(super) fn about(sub_id: &Value) -> Result<(), String> {
    subject::check(sub_id, Strictness::Strict).map_err(|problem| format!("claim `sub_id`: {problem}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DEFAULTS: Defaults<'static> = Defaults {
        issuer: "https://a.example",
        audience: "https://b.example",
        now: Wall(1_700_000_000_999),
        jti_bytes_max: 64,
    };

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn least() -> Map<String, Value> {
        object(json!({
            "events": {"https://types.example/e": {}},
            "sub_id": {"format": "opaque", "id": "x"},
        }))
    }

    #[test]
    fn a_misspelt_short_name_is_refused_with_the_likely_one() {
        let draft = |event_type: &str| Draft {
            event_type: event_type.to_owned(),
            sub_id: json!({"format": "opaque", "id": "1"}),
            ..Draft::default()
        };
        let refused = draft("caep:session-revokd").into_claims().unwrap_err().to_string();
        assert!(refused.contains("did you mean caep:session-revoked?"), "{refused}");
        let base = "https://schemas.openid.net/secevent/caep/event-type";
        for taken in ["caep:session-revoked", "caep:something-quite-new", &format!("{base}/session-revokd")] {
            draft(taken).into_claims().unwrap();
        }
    }

    #[test]
    fn what_is_absent_is_filled_in() {
        let (jti, claims) = complete(least(), DEFAULTS).unwrap();
        assert_eq!(claims["iss"], "https://a.example");
        assert_eq!(claims["aud"], "https://b.example");
        assert_eq!(claims["iat"], 1_700_000_000);
        assert_eq!(claims["jti"], jti.as_str());
        assert!(claims["txn"].as_str().is_some_and(|txn| !txn.is_empty() && txn != jti.as_str()));
        assert_eq!(claims["events"], least()["events"]);
    }

    #[test]
    fn what_is_there_is_kept() {
        let mut claims = least();
        claims.extend(object(json!({
            "iss": "https://c.example", "aud": ["d"], "iat": 1.5, "jti": " é\u{0}", "txn": "t", "toe": 1, "more": [1]
        })));
        let (jti, completed) = complete(claims.clone(), DEFAULTS).unwrap();
        assert_eq!(completed, claims);
        assert_eq!(jti.as_str(), " é\u{0}");
    }

    #[test]
    fn what_a_partner_would_refuse_is_refused_here_with_a_remedy() {
        for (change, expected) in [
            (json!({"sub": "x"}), "`sub` is not allowed"),
            (json!({"exp": 1}), "`exp` is not allowed"),
            (json!({"events": {}}), "has no event"),
            (json!({"events": []}), "is an array, expected an object"),
            (json!({"events": {"no-uri": {}}}), "expected a URI"),
            (json!({"events": {"a: b": {}}}), "expected a URI"),
            (json!({"events": {"a:b": null}}), "is null, expected an object"),
            (json!({"events": {"a:b": "x"}}), "is a string, expected an object"),
            (json!({"sub_id": null}), "`sub_id`: "),
            (json!({"sub_id": {}}), "`sub_id`: "),
            (json!({"iss": ""}), "`iss` is empty"),
            (json!({"iss": 1}), "`iss` is a number"),
            (json!({"aud": []}), "names nobody"),
            (json!({"aud": [1]}), "`aud` holds a number"),
            (json!({"aud": {}}), "`aud` is an object"),
            (json!({"iat": "1"}), "`iat` is a string"),
            (json!({"toe": true}), "`toe` is a boolean"),
            (json!({"txn": 5}), "`txn` is a number"),
            (json!({"jti": ""}), "`jti` is empty"),
            (json!({"jti": 5}), "`jti` is a number"),
            (json!({"jti": "x".repeat(65)}), "at most 64"),
        ] {
            let mut claims = least();
            claims.extend(object(change.clone()));
            let error = complete(claims, DEFAULTS).unwrap_err().to_string();
            assert!(error.contains(expected), "{change}: {error}");
        }
        for name in ["events", "sub_id"] {
            let mut claims = least();
            claims.remove(name);
            let error = complete(claims, DEFAULTS).unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}` is missing")), "{error}");
        }
    }

    #[test]
    fn a_draft_is_written_out_with_the_full_name_of_its_type() {
        let draft = Draft {
            event_type: "caep:session-revoked".into(),
            sub_id: json!({"format": "opaque", "id": "x"}),
            event: object(json!({"reason": "r"})),
            jti: Some("j".into()),
            txn: Some("t".into()),
        };
        let expected = json!({
            "jti": "j",
            "txn": "t",
            "sub_id": {"format": "opaque", "id": "x"},
            "events": {"https://schemas.openid.net/secevent/caep/event-type/session-revoked": {"reason": "r"}},
        });
        assert_eq!(Value::Object(draft.clone().into_claims().unwrap()), expected);
        for full in ["https://types.example/e", "urn:example:e"] {
            let named = Draft { event_type: full.into(), ..draft.clone() };
            assert!(named.into_claims().unwrap()["events"].get(full).is_some());
        }
        let unknown = Draft { event_type: "nonsense".into(), ..draft };
        assert!(unknown.into_claims().unwrap_err().to_string().contains("\"nonsense\" is unknown"));
    }

    #[test]
    fn a_short_name_among_events_is_not_sent_as_if_it_were_a_uri() {
        let mut claims = least();
        claims.insert("events".into(), json!({"caep:session-revoked": {}}));
        let error = complete(claims, DEFAULTS).unwrap_err().to_string();
        assert!(error.contains("write https://schemas.openid.net/secevent/caep/event-type/session-revoked"), "{error}");
    }
}

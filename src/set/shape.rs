//! The form of each claim: asked in the same words of what is sent and of what is received. Messages never repeat a
//! claim's content, for it may name a person.

use serde_json::{Map, Value};

use super::json::kind;
use super::refusal::quote;

type Claims = Map<String, Value>;

/// A string that must be there and not be empty.
pub(super) fn required_text<'a>(claims: &'a Claims, name: &str) -> Result<&'a str, String> {
    match text(claims, name)? {
        Some("") => Err(format!("claim `{name}` is empty")),
        Some(text) => Ok(text),
        None => Err(format!("claim `{name}` is missing")),
    }
}

/// A string that may be absent.
pub(super) fn text<'a>(claims: &'a Claims, name: &str) -> Result<Option<&'a str>, String> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(wrong(name, other, "a string")),
    }
}

/// A NumericDate (RFC 7519 §2) that may be absent: seconds since 1970, not necessarily whole ones.
pub(super) fn date(claims: &Claims, name: &str) -> Result<Option<f64>, String> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => match number.as_f64() {
            Some(seconds) if seconds.is_finite() => Ok(Some(seconds)),
            _ => Err(format!("claim `{name}` is no finite number")),
        },
        Some(other) => Err(wrong(name, other, "a number of seconds")),
    }
}

/// `jti` (RFC 8417 §2.2): any text but an empty one, compared byte for byte.
pub(super) fn jti(claims: &Claims, bytes_max: usize) -> Result<&str, String> {
    let jti = required_text(claims, "jti")?;
    if jti.len() > bytes_max {
        return Err(format!("claim `jti` has {} bytes, expected at most {bytes_max}", jti.len()));
    }
    Ok(jti)
}

/// `events` (RFC 8417 §2.2): at least one member, named by a URI, each an object.
pub(super) fn events(claims: &Claims) -> Result<&Map<String, Value>, String> {
    let events = match claims.get("events") {
        None => return Err("claim `events` is missing".into()),
        Some(Value::Object(events)) if events.is_empty() => return Err("claim `events` has no event".into()),
        Some(Value::Object(events)) => events,
        Some(other) => return Err(wrong("events", other, "an object")),
    };
    for (name, payload) in events {
        // A full URI grammar would add nothing: types are compared with those that are known.
        if !name.contains(':') || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(format!("claim `events` has a member {}, expected a URI", quote(name)));
        }
        if !payload.is_object() {
            return Err(format!("the payload of event {} is {}, expected an object", quote(name), kind(payload)));
        }
    }
    Ok(events)
}

/// `aud` (RFC 7519 §4.1.3): one string or an array of strings. `None` when absent.
pub(super) fn audience(claims: &Claims) -> Result<Option<Vec<&str>>, String> {
    match claims.get("aud") {
        None => Ok(None),
        Some(Value::String(one)) => Ok(Some(vec![one])),
        Some(Value::Array(several)) => several
            .iter()
            .map(|value| value.as_str().ok_or_else(|| format!("claim `aud` holds {}, expected strings", kind(value))))
            .collect::<Result<_, _>>()
            .map(Some),
        Some(other) => Err(wrong("aud", other, "a string or an array of strings")),
    }
}

fn wrong(name: &str, found: &Value, expected: &str) -> String {
    format!("claim `{name}` is {}, expected {expected}", kind(found))
}

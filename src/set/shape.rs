//! The form of each claim: asked in the same words of what is sent and of what is received. Messages never repeat a
//! claim's content, for it may name a person.

use smallvec::SmallVec;

use super::look::{Look, Object};
use super::refusal::quote;

/// A string that must be there and not be empty.
pub(super) fn required_text<'a>(claims: impl Object<'a>, name: &str) -> Result<&'a str, String> {
    match text(claims, name)? {
        Some("") => Err(empty(name)),
        Some(text) => Ok(text),
        None => Err(format!("claim `{name}` is missing")),
    }
}

/// A string that may be absent.
pub(super) fn text<'a>(claims: impl Object<'a>, name: &str) -> Result<Option<&'a str>, String> {
    let Some(claim) = claims.find(name) else { return Ok(None) };
    claim.text().map(Some).ok_or_else(|| wrong(name, claim, "a string"))
}

/// A NumericDate (RFC 7519 §2) that may be absent: seconds since 1970, not necessarily whole ones.
pub(super) fn date<'a>(claims: impl Object<'a>, name: &str) -> Result<Option<f64>, String> {
    let Some(claim) = claims.find(name) else { return Ok(None) };
    match claim.number() {
        Some(seconds) if seconds.is_finite() => Ok(Some(seconds)),
        Some(_) => Err(format!("claim `{name}` is no finite number")),
        None => Err(wrong(name, claim, "a number of seconds")),
    }
}

/// `jti` (RFC 8417 §2.2): any text but an empty one, compared byte for byte.
pub(super) fn jti<'a>(claims: impl Object<'a>, bytes_max: usize) -> Result<&'a str, String> {
    let jti = required_text(claims, "jti")?;
    jti_text(jti, bytes_max)?;
    Ok(jti)
}

/// What `jti` may be.
pub(super) fn jti_text(jti: &str, bytes_max: usize) -> Result<(), String> {
    match jti.len() {
        0 => Err(empty("jti")),
        found if found > bytes_max => Err(format!("claim `jti` has {found} bytes, expected at most {bytes_max}")),
        _ => Ok(()),
    }
}

/// `events` (RFC 8417 §2.2): at least one member, named by a URI, each an object.
pub(super) fn events<'a, O: Object<'a>>(claims: O) -> Result<O, String> {
    let claim = claims.find("events").ok_or("claim `events` is missing")?;
    let events = claim.object().ok_or_else(|| wrong("events", claim, "an object"))?;
    let mut none = true;
    for (name, payload) in events.sorted() {
        none = false;
        event_type(name)?;
        if payload.object().is_none() {
            return Err(format!("the payload of event {} is {}, expected an object", quote(name), payload.kind()));
        }
    }
    if none { Err("claim `events` has no event".into()) } else { Ok(events) }
}

/// The name of a member of `events`.
pub(super) fn event_type(name: &str) -> Result<(), String> {
    // A full URI grammar would add nothing: types are compared with those that are known.
    if !name.contains(':') || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("claim `events` has a member {}, expected a URI", quote(name)));
    }
    Ok(())
}

/// Whom a SET is for: hardly ever more than one.
pub(super) type Audience<'a> = SmallVec<[&'a str; 4]>;

/// `aud` (RFC 7519 §4.1.3): one string or an array of strings. `None` when absent.
pub(super) fn audience<'a>(claims: impl Object<'a>) -> Result<Option<Audience<'a>>, String> {
    let Some(claim) = claims.find("aud") else { return Ok(None) };
    if let Some(one) = claim.text() {
        return Ok(Some(SmallVec::from_iter([one])));
    }
    let several = claim.elements().ok_or_else(|| wrong("aud", claim, "a string or an array of strings"))?;
    several
        .map(|value| value.text().ok_or_else(|| format!("claim `aud` holds {}, expected strings", value.kind())))
        .collect::<Result<_, _>>()
        .map(Some)
}

fn empty(name: &str) -> String {
    format!("claim `{name}` is empty")
}

fn wrong<'a>(name: &str, found: impl Look<'a>, expected: &str) -> String {
    format!("claim `{name}` is {}, expected {expected}", found.kind())
}

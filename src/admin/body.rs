//! Reading what operators and applications post: bounded, strict about names, lenient about emptiness.

use axum::body::Body;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Map, Value};

use super::problem::Problem;
use crate::set::json;

/// Longest body, in bytes.
const BODY_BYTES_MAX: usize = 32 << 20;

/// The whole body.
pub(super) async fn read(request: Request<Body>) -> Result<Bytes, Problem> {
    match Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Problem::too_large(format!("the body is larger than {BODY_BYTES_MAX} bytes: send it in parts")))
        }
        Err(_) => Err(Problem::invalid("the body could not be read")),
    }
}

/// A body that is one JSON object.
pub(super) async fn object(request: Request<Body>) -> Result<Map<String, Value>, Problem> {
    if !is(request.headers(), "application/json") {
        return Err(Problem::invalid("the Content-Type must be application/json"));
    }
    parse(&read(request).await?)
}

/// A JSON object.
pub(super) fn parse(bytes: &[u8]) -> Result<Map<String, Value>, Problem> {
    json::object(bytes).map_err(|error| Problem::invalid(format!("not a JSON object: {error}")))
}

/// Whether the body is of this media type.
pub(super) fn is(headers: &HeaderMap, media: &str) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case(media))
}

/// Takes a string out of an object.
pub(super) fn take_text(object: &mut Map<String, Value>, name: &str) -> Result<Option<String>, Problem> {
    match object.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(Problem::invalid(format!("{name}: expected a string, found {}", json::kind(&other)))),
    }
}

/// Takes a string out of an object that must have it.
pub(super) fn need_text(object: &mut Map<String, Value>, name: &str) -> Result<String, Problem> {
    take_text(object, name)?.ok_or_else(|| Problem::invalid(format!("{name}: missing")))
}

/// Takes a flag out of an object; false where there is none.
pub(super) fn take_flag(object: &mut Map<String, Value>, name: &str) -> Result<bool, Problem> {
    match object.remove(name) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(flag),
        Some(_) => Err(Problem::invalid(format!("{name}: expected true or false"))),
    }
}

/// Refuses what is left over: a misspelt member must not be lost in silence.
pub(super) fn nothing_else(object: &Map<String, Value>, known: &str) -> Result<(), Problem> {
    match object.keys().next() {
        None => Ok(()),
        Some(name) => {
            let name: String = name.chars().take(60).collect();
            Err(Problem::invalid(format!("{name:?}: unknown member; known are {known}")))
        }
    }
}

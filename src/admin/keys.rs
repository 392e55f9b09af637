//! `/api/v1/keys`: how our keys fare, rotating, retiring.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use http::{Request, Response, StatusCode};
use serde_json::{Map, Value, json};

use super::problem::{Problem, json_response};
use super::{Admin, body};
use crate::auth::KeyStatus;
use crate::auth::keyring::{Error, Retire, Rotate};
use crate::codes::Code;
use crate::set::{Algorithm, json as strict};

pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Response<Body> {
    let keys: Vec<Value> = admin.transceiver.keys().await.iter().map(KeyStatus::to_json).collect();
    json_response(StatusCode::OK, &json!({ "keys": keys }))
}

/// Makes another key sign: `{"kid"?, "alg"?, "now"?}`.
pub(super) async fn rotate(State(admin): State<Arc<Admin>>, request: Request<Body>) -> Response<Body> {
    let (to, at_once) = match rotation(request).await {
        Ok(rotation) => rotation,
        Err(problem) => return problem.respond(),
    };
    match admin.transceiver.rotate_key(to, at_once).await {
        Ok(rotated) => {
            let answer = json!({
                "kid": rotated.kid,
                "alg": rotated.algorithm,
                "from": rotated.from,
                "state": if rotated.left.is_some() { "next" } else { "active" },
                "wait_seconds": rotated.left.map(|left| left.as_millis().div_ceil(1000)),
            });
            json_response(StatusCode::ACCEPTED, &answer)
        }
        Err(error) => Problem::from(error).respond(),
    }
}

async fn rotation(request: Request<Body>) -> Result<(Rotate, bool), Problem> {
    let mut object = optional(request).await?;
    let kid = body::take_text(&mut object, "kid")?;
    let algorithm = match body::take_text(&mut object, "alg")? {
        None => None,
        Some(text) => match text.parse() {
            Ok(algorithm @ (Algorithm::Es256 | Algorithm::EdDsa | Algorithm::Rs256)) => Some(algorithm),
            _ => return Err(Problem::invalid("alg: expected ES256, EdDSA or RS256")),
        },
    };
    let at_once = take_now(&mut object)?;
    body::nothing_else(&object, "kid, alg and now")?;
    Ok((Rotate::Named(kid, algorithm), at_once))
}

/// Takes a key out of what is published: `{"now"?}`.
pub(super) async fn retire(
    State(admin): State<Arc<Admin>>,
    Path(kid): Path<String>,
    request: Request<Body>,
) -> Response<Body> {
    let at_once = match retirement(request).await {
        Ok(at_once) => at_once,
        Err(problem) => return problem.respond(),
    };
    match admin.transceiver.retire_key(&kid, at_once).await {
        Ok(end) => {
            let state = if end == Retire::Done { "retired" } else { "retiring" };
            json_response(StatusCode::OK, &json!({ "kid": kid, "state": state }))
        }
        Err(error) => Problem::from(error).respond(),
    }
}

async fn retirement(request: Request<Body>) -> Result<bool, Problem> {
    let mut object = optional(request).await?;
    let at_once = take_now(&mut object)?;
    body::nothing_else(&object, "now")?;
    Ok(at_once)
}

/// A JSON object, or no body at all, which is an empty one.
async fn optional(request: Request<Body>) -> Result<Map<String, Value>, Problem> {
    let is_json = body::is(request.headers(), "application/json");
    let bytes = body::read(request).await?;
    match (bytes.is_empty(), is_json) {
        (true, _) => Ok(Map::new()),
        (false, true) => body::parse(&bytes),
        (false, false) => Err(Problem::invalid("the Content-Type must be application/json")),
    }
}

fn take_now(object: &mut Map<String, Value>) -> Result<bool, Problem> {
    match object.remove("now") {
        None => Ok(false),
        Some(Value::Bool(now)) => Ok(now),
        Some(other) => Err(Problem::invalid(format!("now: expected true or false, found {}", strict::kind(&other)))),
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (status, code) = match &error {
            Error::NoSuchKey(_) => (StatusCode::NOT_FOUND, Code::NoSuchKey),
            Error::Name(_) => (StatusCode::BAD_REQUEST, Code::InvalidRequest),
            Error::Taken(_) | Error::Replaced { .. } => (StatusCode::CONFLICT, Code::KeyNameUsed),
            Error::Signs(_) => (StatusCode::CONFLICT, Code::KeySigns),
            Error::RotatedAway(_) => (StatusCode::CONFLICT, Code::KeyRotatedAway),
            Error::UnderWay(_) | Error::Busy => (StatusCode::CONFLICT, Code::RotationUnderWay),
            Error::InUse { .. } => (StatusCode::CONFLICT, Code::KeyInUse),
            Error::TooMany => (StatusCode::CONFLICT, Code::TooManyKeys),
            Error::Unwritable { .. } => (StatusCode::SERVICE_UNAVAILABLE, Code::KeysUnwritable),
            Error::Exposed(_) => (StatusCode::INTERNAL_SERVER_ERROR, Code::ConfigPermissions),
            Error::Key(..) | Error::Unreadable(_) | Error::Undecided(_) | Error::KeptElsewhere => {
                (StatusCode::INTERNAL_SERVER_ERROR, Code::KeyUnusable)
            }
        };
        Self::new(status, code, error.to_string())
    }
}

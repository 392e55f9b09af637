//! `/api/v1/peers`: how they fare, adding, pausing, verifying.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};

use super::problem::{Problem, json_response};
use super::{AddFault, Admin, body};
use crate::codes::{self, Code};
use crate::transceiver::{PeerStatus, SubmitFault, VerifyError};

/// How long a verification event may take.
const VERIFY_WITHIN: Duration = Duration::from_secs(15);

pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Response<Body> {
    let peers: Vec<Value> = admin.transceiver.peers().await.iter().map(shown).collect();
    json_response(StatusCode::OK, &json!({ "peers": peers }))
}

pub(super) async fn show(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Response<Body> {
    match admin.transceiver.peer(&name).await {
        Some(peer) => json_response(StatusCode::OK, &shown(&peer)),
        None => Problem::no_such_peer(&name).respond(),
    }
}

/// Adds a peer at run time: `{"name", "definition": {…the keys of a [[peer]] block}}`.
pub(super) async fn add(State(admin): State<Arc<Admin>>, request: Request<Body>) -> Response<Body> {
    let (name, definition) = match addition(request).await {
        Ok(addition) => addition,
        Err(problem) => return problem.respond(),
    };
    match (admin.add_peer)(name.clone(), definition).await {
        Ok(()) => json_response(StatusCode::CREATED, &json!({ "name": name })),
        Err(AddFault::Invalid(why)) => Problem::new(StatusCode::BAD_REQUEST, Code::InvalidPeer, why).respond(),
        Err(AddFault::Conflict(why)) => Problem::conflict(why).respond(),
        Err(AddFault::Unavailable(why)) => Problem::unavailable(why).respond(),
    }
}

async fn addition(request: Request<Body>) -> Result<(String, Value), Problem> {
    let mut object = body::object(request).await?;
    let name = body::need_text(&mut object, "name")?;
    let definition = object.remove("definition").filter(Value::is_object);
    let definition = definition.ok_or_else(|| Problem::invalid("definition: expected the keys of a [[peer]] block"))?;
    body::nothing_else(&object, "name and definition")?;
    Ok((name, definition))
}

pub(super) async fn pause(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Response<Body> {
    set_paused(&admin, &name, true).await
}

pub(super) async fn resume(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Response<Body> {
    set_paused(&admin, &name, false).await
}

async fn set_paused(admin: &Admin, name: &str, paused: bool) -> Response<Body> {
    match admin.transceiver.pause(name, paused).await {
        Ok(()) => json_response(StatusCode::OK, &json!({ "name": name, "paused": paused })),
        Err(error) => Problem::from(error).respond(),
    }
}

/// Sends a verification event and waits for its ack.
pub(super) async fn verify(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Response<Body> {
    match admin.transceiver.verify(&name, VERIFY_WITHIN).await {
        Ok(verified) => {
            let ms = (verified.after.as_secs_f64() * 1e6).round() / 1e3;
            json_response(StatusCode::OK, &json!({ "jti": verified.jti.as_str(), "ms": ms }))
        }
        Err(VerifyError::Submit(error)) if matches!(error.fault, SubmitFault::NoSuchPeer(_)) => {
            Problem::no_such_peer(&name).respond()
        }
        Err(VerifyError::Submit(error)) => Problem::from(error).respond(),
        Err(error @ VerifyError::Refused(_)) => {
            let problem = Problem::new(StatusCode::BAD_GATEWAY, Code::RefusedByPeer, error.to_string());
            if let VerifyError::Refused(refusal) = &error {
                return problem.fix(codes::answer(&refusal.err).remedy).respond();
            }
            problem.respond()
        }
        Err(error) => Problem::new(StatusCode::GATEWAY_TIMEOUT, Code::TimedOut, error.to_string()).respond(),
    }
}

fn shown(peer: &PeerStatus) -> Value {
    let mut value = json!({
        "name": &*peer.name,
        "link": peer.link.as_str(),
        "transport": peer.transport,
        "queued": peer.queued,
        "in_flight": peer.in_flight,
        "oldest_seconds": peer.oldest.map(|age| age.as_secs()),
        "owed": peer.owed,
        "acked": peer.acked,
        "refused": peer.refused,
        "dead": peer.dead,
        "received": peer.received,
        "rejected": peer.rejected,
        "dead_letters": peer.dead_letters,
    });
    if let (Some(trouble), Value::Object(members)) = (&peer.trouble, &mut value) {
        members.insert("trouble".to_owned(), json!(trouble));
    }
    value
}

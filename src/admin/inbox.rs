//! `GET /api/v1/inbox`, `POST /api/v1/inbox/confirm`, `GET /api/v1/consumers`, `DELETE /api/v1/consumers/{name}`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};

use super::problem::{Problem, json_response};
use super::{Admin, body};
use crate::codes::Code;
use crate::quantity::parse_duration;
use crate::store::ConsumerAt;
use crate::transceiver::Received;

/// SETs in one answer.
const SETS_MAX: usize = 10_000;

/// Longest wait for the first SET.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Longest name of a consumer, in bytes.
const NAME_BYTES_MAX: usize = 128;

struct Query {
    consumer: Option<String>,
    max: usize,
    wait: Duration,
    after: Option<u64>,
}

/// Received SETs, in order. With a consumer from its confirmed position; without one, it changes nothing.
pub(super) async fn read(State(admin): State<Arc<Admin>>, RawQuery(query): RawQuery) -> Response<Body> {
    let query = match Query::parse(query.as_deref().unwrap_or_default()) {
        Ok(query) => query,
        Err(problem) => return problem.respond(),
    };
    let read = match &query.consumer {
        Some(consumer) => admin.transceiver.inbox(consumer).read(query.after, query.max, query.wait).await,
        None => admin.transceiver.peek(query.after, query.max, query.wait).await,
    };
    match read {
        Ok(sets) => {
            let sets: Vec<Value> = sets.iter().map(shown).collect();
            json_response(StatusCode::OK, &json!({ "sets": sets }))
        }
        Err(error) => Problem::from(error).respond(),
    }
}

/// Moves a consumer's position. Durable when it answers.
pub(super) async fn confirm(State(admin): State<Arc<Admin>>, request: Request<Body>) -> Response<Body> {
    match confirmed(&admin, request).await {
        Ok(up_to) => json_response(StatusCode::OK, &json!({ "confirmed": up_to })),
        Err(problem) => problem.respond(),
    }
}

async fn confirmed(admin: &Admin, request: Request<Body>) -> Result<u64, Problem> {
    let mut object = body::object(request).await?;
    let consumer = body::need_text(&mut object, "consumer")?;
    let up_to = object.remove("up_to").and_then(|up_to| up_to.as_u64());
    let up_to = up_to.ok_or_else(|| Problem::invalid("up_to: expected the seq of the last SET that was dealt with"))?;
    body::nothing_else(&object, "consumer and up_to")?;
    admin.transceiver.inbox(&consumer).confirm(up_to).await?;
    Ok(up_to)
}

/// All consumers: how far each has confirmed, and how many SETs of the inbox are behind that, at most.
pub(super) async fn consumers(State(admin): State<Arc<Admin>>) -> Response<Body> {
    let (consumers, end) = admin.transceiver.consumers();
    let shown = |at: &ConsumerAt| {
        let behind = end.saturating_sub(at.confirmed);
        json!({ "name": at.name, "confirmed": at.confirmed, "handed_out": at.handed.min(end), "behind": behind })
    };
    let consumers: Vec<Value> = consumers.iter().map(shown).collect();
    json_response(StatusCode::OK, &json!({ "consumers": consumers, "end": end }))
}

/// Forgets a consumer, so that nothing is kept for it any more.
pub(super) async fn forget(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Response<Body> {
    match admin.transceiver.forget_consumer(&name).await {
        Ok(true) => json_response(StatusCode::OK, &json!({ "forgotten": name })),
        Ok(false) => {
            Problem::new(StatusCode::NOT_FOUND, Code::NoSuchConsumer, "no consumer of this name has read the inbox")
                .respond()
        }
        Err(error) => Problem::from(error).respond(),
    }
}

impl Query {
    fn parse(text: &str) -> Result<Self, Problem> {
        let mut query = Self { consumer: None, max: 100, wait: Duration::ZERO, after: None };
        let mut given = HashSet::new();
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            if !given.insert(name.clone()) {
                return Err(Problem::invalid(format!("{name:?}: given twice")));
            }
            let expected = |what: &str| Problem::invalid(format!("{name}: expected {what}"));
            match &*name {
                "consumer" if value.is_empty() || value.len() > NAME_BYTES_MAX => {
                    return Err(expected(&format!("a name of 1 to {NAME_BYTES_MAX} bytes")));
                }
                "consumer" => query.consumer = Some(value.into_owned()),
                "max" => {
                    let max = value.parse().ok().filter(|max: &usize| *max > 0);
                    query.max = max.ok_or_else(|| expected("a number of SETs, at least 1"))?.min(SETS_MAX);
                }
                "wait" => {
                    let wait = parse_duration(&value).ok_or_else(|| expected("a duration such as 30s"))?;
                    query.wait = wait.min(WAIT_MAX);
                }
                "after" => query.after = Some(value.parse().map_err(|_| expected("the seq of a SET"))?),
                _ => return Err(Problem::invalid(format!("{name:?}: unknown; known are consumer, max, wait, after"))),
            }
        }
        Ok(query)
    }
}

fn shown(received: &Received) -> Value {
    json!({
        "seq": received.seq,
        "peer": &*received.peer,
        "jti": received.jti.as_str(),
        "claims": received.claims(),
        "set": &*received.set,
        "received_at": received.received_at.to_rfc3339(),
        "redelivered": received.redelivered,
    })
}

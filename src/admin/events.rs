//! `POST /api/v1/events` and `GET /api/v1/events/{jti}`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use http::{Request, Response, StatusCode};
use serde_json::{Map, Value, json};

use super::problem::{Problem, json_response};
use super::{Admin, body, dead_letters};
use crate::codes::Code;
use crate::peer::Direction;
use crate::set::{Draft, Jti};
use crate::transceiver::{Event, EventRecord, Submission};

/// Events in one request.
const EVENTS_MAX: usize = 100_000;

/// Accepts one event (`application/json`) or many (`application/x-ndjson`, all or nothing).
pub(super) async fn submit(State(admin): State<Arc<Admin>>, request: Request<Body>) -> Response<Body> {
    match accept(&admin, request).await {
        Ok(jtis) => {
            let jtis: Vec<&str> = jtis.iter().map(Jti::as_str).collect();
            json_response(StatusCode::ACCEPTED, &json!({ "jtis": jtis }))
        }
        Err(problem) => problem.respond(),
    }
}

async fn accept(admin: &Admin, request: Request<Body>) -> Result<Vec<Jti>, Problem> {
    if body::is(request.headers(), "application/json") {
        let submission = parse(&body::read(request).await?)?;
        return Ok(admin.transceiver.submit(vec![submission]).await?);
    }
    if !body::is(request.headers(), "application/x-ndjson") {
        return Err(Problem::invalid("the Content-Type must be application/json or application/x-ndjson"));
    }
    let bytes = body::read(request).await?;
    let (mut lines, mut submissions) = (Vec::new(), Vec::new());
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        if submissions.len() >= EVENTS_MAX {
            return Err(Problem::too_large(format!("more than {EVENTS_MAX} events: send them in parts")));
        }
        submissions.push(parse(line).map_err(|problem| problem.at_line(number + 1))?);
        lines.push(number + 1);
    }
    if submissions.is_empty() {
        return Ok(Vec::new());
    }
    admin.transceiver.submit(submissions).await.map_err(|error| {
        let line = lines.get(error.index).copied().unwrap_or(1);
        Problem::from(error).at_line(line)
    })
}

/// One event in one of its three forms.
fn parse(bytes: &[u8]) -> Result<Submission, Problem> {
    let mut object = body::parse(bytes)?;
    let peer = body::need_text(&mut object, "peer")?;
    let event = if object.contains_key("set") {
        let set = body::need_text(&mut object, "set")?;
        body::nothing_else(&object, "peer and set")?;
        Event::Signed(set)
    } else if let Some(claims) = object.remove("claims") {
        body::nothing_else(&object, "peer and claims")?;
        let Value::Object(claims) = claims else { return Err(Problem::invalid("claims: expected an object")) };
        Event::Claims(claims)
    } else {
        Event::Draft(draft(object)?)
    };
    Ok(Submission { peer, event })
}

fn draft(mut object: Map<String, Value>) -> Result<Draft, Problem> {
    let missing = |_| Problem::invalid("expected one of type (with sub_id), claims, or set");
    let event_type = body::need_text(&mut object, "type").map_err(missing)?;
    let sub_id = object.remove("sub_id").ok_or_else(|| Problem::invalid("sub_id: missing: whom is it about?"))?;
    let event = match object.remove("event") {
        None => Map::new(),
        Some(Value::Object(event)) => event,
        Some(_) => return Err(Problem::invalid("event: expected an object (the event's own members)")),
    };
    let jti = body::take_text(&mut object, "jti")?.map(Jti::from);
    let txn = body::take_text(&mut object, "txn")?;
    body::nothing_else(&object, "peer, type, sub_id, event, jti, txn")?;
    Ok(Draft { event_type, sub_id, event, jti, txn })
}

/// What is known of one jti.
pub(super) async fn show(State(admin): State<Arc<Admin>>, Path(jti): Path<String>) -> Response<Body> {
    let jti = Jti::from(jti);
    match admin.transceiver.event(&jti).await {
        Err(error) => Problem::from(error).respond(),
        Ok(records) if records.is_empty() => {
            Problem::new(StatusCode::NOT_FOUND, Code::NoSuchEvent, "no SET with this jti is known here").respond()
        }
        Ok(records) => {
            let records: Vec<Value> = records.iter().map(record).collect();
            json_response(StatusCode::OK, &json!({ "jti": jti.as_str(), "records": records }))
        }
    }
}

fn record(record: &EventRecord) -> Value {
    let timeline: Vec<Value> = record
        .timeline
        .iter()
        .map(|moment| {
            let mut value = json!({ "at": moment.at.to_rfc3339(), "what": moment.what });
            if let Some(reason) = &moment.reason {
                value["reason"] = reason.as_str().into();
            }
            if let Some(attempts) = moment.attempts {
                value["attempts"] = attempts.into();
            }
            if let Some(jti) = &moment.jti {
                value["jti"] = jti.as_str().into();
            }
            value
        })
        .collect();
    let mut value = json!({
        "direction": match record.direction { Direction::Out => "out", Direction::In => "in" },
        "peer": &*record.peer,
        "state": record.state.as_str(),
        "attempts": record.attempts,
        "timeline": timeline,
    });
    if let (Some((err, description)), Value::Object(members)) = (&record.error, &mut value) {
        members.insert("err".to_owned(), json!(err));
        members.insert("description".to_owned(), json!(description));
    }
    for (name, jti) in [("reissue_of", &record.reissue_of), ("reissued_as", &record.reissued_as)] {
        if let Some(jti) = jti {
            value[name] = jti.as_str().into();
        }
    }
    if let Some(at) = record.discarded_at {
        value["discarded_at"] = at.to_rfc3339().into();
    }
    if let Some(advice) = &record.advice {
        dead_letters::advise(&mut value, advice);
    }
    value
}

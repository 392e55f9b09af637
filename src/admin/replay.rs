//! `/api/v1/peers/{name}/replay`: saying again what was said to a partner since some time.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use http::{Request, Response, StatusCode};
use serde_json::{Map, Value, json};

use super::problem::{Problem, json_response};
use super::{Admin, body};
use crate::clock::Wall;
use crate::quantity::parse_duration;
use crate::transceiver::{Progress, Replay, Replayed, Wanted};

/// SETs said again by one request.
const SETS_MAX: usize = 1_000;

/// A job is called by so many characters at most.
const JOB_MAX: usize = 64;

/// Says some of them again, or counts. Durable when it answers.
pub(super) async fn replay(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    request: Request<Body>,
) -> Response<Body> {
    let done = async {
        let mut object = body::object(request).await?;
        let now = admin.transceiver.now().wall;
        let mut at = |name| body::take_text(&mut object, name)?.map(|text| time(&text, now, name)).transpose();
        let (since, until) = (at("since")?, at("until")?);
        let wanted = Wanted { since, until, types: body::take_text(&mut object, "type")? };
        let dry_run = body::take_flag(&mut object, "dry_run")?;
        let job = body::take_text(&mut object, "job")?;
        let is_name = |job: &String| job.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c));
        if job.as_ref().is_some_and(|job| job.is_empty() || job.len() > JOB_MAX || !is_name(job)) {
            return Err(Problem::invalid(format!("job: expected up to {JOB_MAX} letters, digits and any of -_.")));
        }
        let after = body::take_text(&mut object, "after")?;
        let after = after.map(|text| text.parse::<Progress>()).transpose();
        let after = after.map_err(|()| Problem::invalid("after: expected the `next` of an earlier answer"))?;
        let max = match object.remove("max") {
            None => SETS_MAX,
            Some(max) => match max.as_u64().and_then(|max| usize::try_from(max).ok()) {
                Some(max @ 1..=SETS_MAX) => max,
                _ => return Err(Problem::invalid(format!("max: expected a number of SETs from 1 to {SETS_MAX}"))),
            },
        };
        body::nothing_else(&object, "since, until, type, job, after, max, dry_run")?;
        let replay = Replay { peer: name, job, wanted };
        let done = admin.transceiver.replay(&replay, after, max, dry_run).await?;
        Ok(told(&replay, &done, dry_run))
    };
    match done.await {
        Ok(value) => json_response(StatusCode::OK, &value),
        Err::<_, Problem>(problem) => problem.respond(),
    }
}

/// A time, or how long ago it was.
fn time(text: &str, now: Wall, member: &str) -> Result<Wall, Problem> {
    let ago = || parse_duration(text).map(|ago| Wall(now.0.saturating_sub(ago.as_millis() as u64)));
    Wall::from_person(text).or_else(ago).ok_or_else(|| {
        Problem::invalid(format!(
            "{member}: expected a time in UTC such as 2026-11-30T08:15Z, or how long ago, such as 2h"
        ))
    })
}

fn told(replay: &Replay, done: &Replayed, dry_run: bool) -> Value {
    let failed = done.failed.iter().map(|(jti, fault)| {
        let problem = Problem::from(fault.clone());
        json!({ "jti": jti.as_str(), "code": problem.code().as_str(), "detail": fault.to_string() })
    });
    let mut value = Map::new();
    value.insert("peer".to_owned(), replay.peer.as_str().into());
    value.insert("job".to_owned(), replay.job.as_deref().into());
    if let Some(window) = &done.window {
        for (name, at) in [("since", window.since()), ("until", window.until()), ("as_of", window.as_of())] {
            value.insert(name.to_owned(), at.to_rfc3339().into());
        }
        value.insert("type".to_owned(), window.types().into());
    }
    value.insert("dry_run".to_owned(), dry_run.into());
    for (name, count) in [
        ("reissued", done.reissued),
        ("resent", done.resent),
        ("before", done.before),
        ("bytes", done.bytes),
        ("damaged", done.damaged),
        ("queued", done.queued),
        ("room", done.room),
    ] {
        value.insert(name.to_owned(), count.into());
    }
    value.insert("short".to_owned(), done.is_short.into());
    value.insert("failed".to_owned(), failed.collect());
    value.insert("oldest".to_owned(), done.oldest.map(Wall::to_rfc3339).into());
    value.insert("next".to_owned(), done.next.map(|next| next.to_string()).into());
    Value::Object(value)
}

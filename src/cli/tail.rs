//! `pushpull tail`: the inbox as JSON Lines. Only with a consumer and `--confirm` does it change anything.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::args::{Global, Tail};
use super::client::{Call, Client, Response, escape};
use super::{Error, Exit, output, site};
use crate::codes::Code;

/// Rows a request.
const PAGE: u64 = 500;

/// How long the daemon waits for something new before it answers with nothing.
const WAIT: Duration = Duration::from_secs(20);

/// How soon a daemon that is away is asked again.
const AWAY: Duration = Duration::from_secs(1);

pub(super) async fn run(tail: &Tail, global: &Global) -> Result<Exit, Error> {
    let mut daemon = site::client(global)?;
    if let Some(peer) = &tail.peer {
        // Of a misspelt name nothing would ever come.
        daemon.json(Call::get(&format!("/api/v1/peers/{}", escape(peer)))).await?;
    }
    let mut left = tail.max.unwrap_or(u64::MAX);
    let (mut after, mut answered) = (None, false);
    while left > 0 {
        let asked = Instant::now();
        // One that never answered is not waited for: its address may be wrong.
        let patient = tail.follow && answered;
        let page = page(&mut daemon, tail, after, left, patient).await?;
        answered = true;
        let rows = page["sets"].as_array().map(Vec::as_slice).unwrap_or_default();
        if rows.is_empty() {
            if !tail.follow {
                break;
            }
            // A daemon that does not wait must not be asked in a tight loop.
            tokio::time::sleep_until(asked + Duration::from_millis(200)).await;
            continue;
        }
        let mut passed_over = 0;
        for row in rows.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
            after = row["seq"].as_u64();
            if tail.peer.as_ref().is_some_and(|peer| row["peer"] != peer.as_str()) {
                passed_over += 1;
                continue;
            }
            output::json(row)?;
            left -= 1;
        }
        if let (true, Some(consumer), Some(up_to)) = (tail.confirm, &tail.consumer, after) {
            let body = json!({ "consumer": consumer, "up_to": up_to });
            ask(&mut daemon, Call::post_json("/api/v1/inbox/confirm", &body), tail.follow).await?;
            if passed_over > 0 {
                output::note(&format!(
                    "note: {passed_over} SETs of other partners were confirmed for {consumer} without being shown"
                ));
            }
        }
    }
    Ok(Exit::Done)
}

async fn page(daemon: &mut Client, tail: &Tail, after: Option<u64>, left: u64, patient: bool) -> Result<Value, Error> {
    let mut path = format!("/api/v1/inbox?max={}", left.min(PAGE));
    if let Some(consumer) = &tail.consumer {
        path.push_str(&format!("&consumer={}", escape(consumer)));
    }
    if let Some(after) = after {
        path.push_str(&format!("&after={after}"));
    }
    let wait = if tail.follow { WAIT } else { Duration::ZERO };
    if tail.follow {
        path.push_str(&format!("&wait={}s", wait.as_secs()));
    }
    ask(daemon, Call::get(&path).waiting(wait), patient).await
}

/// Asks; if it is `patient`, again and again while the daemon is away. One that is started again goes on where it was.
async fn ask(daemon: &mut Client, call: Call<'_>, patient: bool) -> Result<Value, Error> {
    let mut away = false;
    loop {
        let error = match daemon.call(&call).await.map_err(Error::from).and_then(Response::into_json) {
            Ok(answer) => {
                if away {
                    output::note("note: the daemon is back");
                }
                return Ok(answer);
            }
            Err(error) => error,
        };
        if !patient || !(error.exit == Exit::Unreachable || error.code == Code::Stopping) {
            return Err(error);
        }
        if !std::mem::replace(&mut away, true) {
            output::note("note: the daemon is away; waiting for it");
        }
        tokio::time::sleep(AWAY).await;
    }
}

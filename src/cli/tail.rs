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
    let (mut last, mut answered) = (None::<Last>, false);
    while left > 0 {
        let asked = Instant::now();
        // One that never answered is not waited for: its address may be wrong.
        let patient = tail.follow && answered;
        let (page, was_away) = page(&mut daemon, tail, last.as_ref(), left, patient).await?;
        answered = true;
        if was_away && !is_still_there(&mut daemon, last.as_ref()).await? {
            last = None;
            continue;
        }
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
            last = Last::of(row);
            if tail.peer.as_ref().is_some_and(|peer| row["peer"] != peer.as_str()) {
                passed_over += 1;
                continue;
            }
            output::json(row)?;
            left -= 1;
        }
        if let (true, Some(consumer), Some(printed)) = (tail.confirm, &tail.consumer, &last) {
            let body = json!({ "consumer": consumer, "up_to": printed.seq });
            let confirming = Call::post_json("/api/v1/inbox/confirm", &body);
            // What was printed is confirmed in the inbox that it is from, and in no other.
            while !is_confirmed(&mut daemon, &confirming, tail.follow).await? {
                wait_for(&mut daemon).await?;
                if !is_still_there(&mut daemon, Some(printed)).await? {
                    break;
                }
            }
            if passed_over > 0 {
                output::note(&format!(
                    "note: {passed_over} SETs of other partners were confirmed for {consumer} without being shown"
                ));
            }
        }
    }
    Ok(Exit::Done)
}

/// The last SET that was read.
struct Last {
    seq: u64,
    jti: String,
}

impl Last {
    fn of(row: &Value) -> Option<Self> {
        Some(Self { seq: row["seq"].as_u64()?, jti: row["jti"].as_str()?.to_owned() })
    }
}

/// Whether what was read last stands where it stood. The daemon may have come back with another store, or with an older copy of it, whose
/// SETs have the same numbers: whoever went on behind this one would pass over them. A row that nobody keeps any more tells nothing.
async fn is_still_there(daemon: &mut Client, last: Option<&Last>) -> Result<bool, Error> {
    let Some(last) = last else { return Ok(true) };
    let (here, behind) = (last.seq.saturating_sub(1), last.seq);
    // Nothing there and nothing behind it: it has been confirmed, unless the inbox ends before it.
    let same = match rows_behind(daemon, here).await?.as_deref() {
        None => false,
        Some([]) => rows_behind(daemon, behind).await?.is_some(),
        Some([row, ..]) => row.seq > last.seq || row.jti == last.jti,
    };
    if !same {
        output::note(
            "note: the daemon has come back with another inbox, or an older copy of it; reading it from where it says. \
             SETs may come again",
        );
    }
    Ok(same)
}

/// The next row behind this one, if there is any; `None` where the inbox ends before it.
async fn rows_behind(daemon: &mut Client, after: u64) -> Result<Option<Vec<Last>>, Error> {
    match ask(daemon, Call::get(&format!("/api/v1/inbox?max=1&after={after}")), true).await {
        Ok((page, _)) => Ok(page["sets"].as_array().map(|rows| rows.iter().filter_map(Last::of).collect())),
        Err(error) if error.code == Code::InvalidRequest => Ok(None),
        Err(error) => Err(error),
    }
}

/// Confirms; false if the daemon is away.
async fn is_confirmed(daemon: &mut Client, call: &Call<'_>, follow: bool) -> Result<bool, Error> {
    match daemon.call(call).await.map_err(Error::from).and_then(Response::into_json) {
        Ok(_) => Ok(true),
        Err(error) if follow && is_away(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Waits until the daemon answers again.
async fn wait_for(daemon: &mut Client) -> Result<(), Error> {
    ask(daemon, Call::get("/api/v1/inbox?max=1"), true).await.map(drop)
}

fn is_away(error: &Error) -> bool {
    error.exit == Exit::Unreachable || error.code == Code::Stopping
}

/// The next rows, and whether the daemon was away before it answered.
async fn page(
    daemon: &mut Client,
    tail: &Tail,
    last: Option<&Last>,
    left: u64,
    patient: bool,
) -> Result<(Value, bool), Error> {
    let mut path = format!("/api/v1/inbox?max={}", left.min(PAGE));
    if let Some(consumer) = &tail.consumer {
        path.push_str(&format!("&consumer={}", escape(consumer)));
    }
    // Where it confirms, the daemon knows better where to go on.
    if let Some(last) = last.filter(|_| !(tail.confirm && tail.consumer.is_some())) {
        path.push_str(&format!("&after={}", last.seq));
    }
    let wait = if tail.follow { WAIT } else { Duration::ZERO };
    if tail.follow {
        path.push_str(&format!("&wait={}s", wait.as_secs()));
    }
    ask(daemon, Call::get(&path).waiting(wait), patient).await
}

/// Asks; if it is `patient`, again and again while the daemon is away. The answer, and whether it was.
async fn ask(daemon: &mut Client, call: Call<'_>, patient: bool) -> Result<(Value, bool), Error> {
    let mut away = false;
    loop {
        let error = match daemon.call(&call).await.map_err(Error::from).and_then(Response::into_json) {
            Ok(answer) => {
                if away {
                    output::note("note: the daemon is back");
                }
                return Ok((answer, away));
            }
            // Behind the end of an inbox that is not the one that was read.
            Err(error) if away && error.code == Code::InvalidRequest => return Ok((Value::Null, away)),
            Err(error) => error,
        };
        if !patient || !is_away(&error) {
            return Err(error);
        }
        if !std::mem::replace(&mut away, true) {
            output::note("note: the daemon is away; waiting for it");
        }
        tokio::time::sleep(AWAY).await;
    }
}

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
        let page = page(&mut daemon, tail, last.as_ref(), left, patient).await?;
        answered = true;
        if let Some(read) = last.take() {
            last = read.if_still_there(&mut daemon, tail.follow).await?;
            if last.is_none() {
                continue;
            }
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
            last = Last::of(row, &daemon);
            if tail.peer.as_ref().is_some_and(|peer| row["peer"] != peer.as_str()) {
                passed_over += 1;
                continue;
            }
            output::json(row)?;
            left -= 1;
        }
        if let Some(consumer) = tail.consumer.as_ref().filter(|_| tail.confirm)
            && let Some(printed) = last.take()
        {
            let body = json!({ "consumer": consumer, "up_to": printed.seq });
            last = confirm(&mut daemon, &body, printed, tail.follow).await?;
            if passed_over > 0 && last.is_some() {
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
    /// By which of the connections to the daemon.
    connection: u64,
}

impl Last {
    fn of(row: &Value, daemon: &Client) -> Option<Self> {
        let jti = row["jti"].as_str()?.to_owned();
        Some(Self { seq: row["seq"].as_u64()?, jti, connection: daemon.connections() })
    }

    /// Itself, if it stands where it stood. Behind another connection there may be another store, or an older copy of it, whose SETs have the
    /// same numbers: whoever went on behind this one would pass over them. A row that nobody keeps any more tells nothing.
    async fn if_still_there(self, daemon: &mut Client, patient: bool) -> Result<Option<Self>, Error> {
        while self.connection != daemon.connections() {
            let connection = daemon.connections();
            // Nothing there and nothing behind it: it has been confirmed, unless the inbox ends before it.
            let same = match rows_behind(daemon, self.seq.saturating_sub(1), patient).await?.as_deref() {
                None => false,
                Some([]) => rows_behind(daemon, self.seq, patient).await?.is_some(),
                Some([row, ..]) => row.seq > self.seq || row.jti == self.jti,
            };
            if !same {
                output::note(
                    "note: the daemon has come back with another inbox, or an older copy of it; reading it from where it says. \
                     SETs may come again",
                );
                return Ok(None);
            }
            if connection == daemon.connections() {
                return Ok(Some(Self { connection, ..self }));
            }
        }
        Ok(Some(self))
    }
}

/// Confirms what was printed in the inbox that it is from, and in no other: `None` if that is not there any more.
async fn confirm(daemon: &mut Client, body: &Value, printed: Last, patient: bool) -> Result<Option<Last>, Error> {
    let call = Call::post_json("/api/v1/inbox/confirm", body);
    let mut printed = printed;
    loop {
        let answer =
            daemon.call_kept(&call).await.map(|answer| answer.map_err(Error::from).and_then(Response::into_json));
        match answer {
            Some(Ok(_)) => return Ok(Some(printed)),
            Some(Err(error)) if !(patient && is_away(&error)) => return Err(error),
            // The connection is gone: by another one it has to be looked for first.
            None | Some(Err(_)) => {}
        }
        ask(daemon, Call::get("/api/v1/inbox?max=1"), patient).await?;
        match printed.if_still_there(daemon, patient).await? {
            Some(there) => printed = there,
            None => return Ok(None),
        }
    }
}

/// The next row behind this one, if there is any; `None` where the inbox ends before it.
async fn rows_behind(daemon: &mut Client, after: u64, patient: bool) -> Result<Option<Vec<Last>>, Error> {
    let page = ask(daemon, Call::get(&format!("/api/v1/inbox?max=1&after={after}")), patient).await?;
    Ok(page["sets"].as_array().map(|rows| rows.iter().filter_map(|row| Last::of(row, daemon)).collect()))
}

fn is_away(error: &Error) -> bool {
    error.exit == Exit::Unreachable || error.code == Code::Stopping
}

/// The next rows.
async fn page(daemon: &mut Client, tail: &Tail, last: Option<&Last>, left: u64, patient: bool) -> Result<Value, Error> {
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

/// Asks; if it is `patient`, again and again while the daemon is away. Null where what was asked for is behind the end of the inbox.
async fn ask(daemon: &mut Client, call: Call<'_>, patient: bool) -> Result<Value, Error> {
    let mut away = false;
    loop {
        let answer = match daemon.call(&call).await.map_err(Error::from).and_then(Response::into_json) {
            Err(error) if error.code == Code::InvalidRequest && call.path.contains("&after=") => Ok(Value::Null),
            answer => answer,
        };
        let error = match answer {
            Ok(answer) => {
                if away {
                    output::note("note: the daemon is back");
                }
                return Ok(answer);
            }
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

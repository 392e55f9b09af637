//! The accounts at the end: what both daemons say about every SET, against what the test knows.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::admin::NoAnswer;
use crate::report::Parts;
use crate::sidings::REFUSED;
use crate::world::{Violation, World};

/// A consumer that is made before anything arrives and never confirms, so that every row is kept for it.
const AUDITOR: &str = "auditor";
/// How long the last acks may take once everything is confirmed on the other side.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);
/// SETs whose records are looked at on both sides: a tenth, and at least so many.
const SAMPLE: usize = 200;

/// Makes the auditors of both sides.
pub(crate) async fn make_auditors(world: &World) -> Result<(), Violation> {
    for side in &world.sides {
        let found = side.client().document(&format!("/api/v1/inbox?consumer={AUDITOR}&max=1")).await;
        if found["sets"] != Value::Array(Vec::new()) {
            return Err(Violation::new(format!("{}: the inbox is not empty at the beginning: {found}", side.name)));
        }
    }
    Ok(())
}

/// What both admin APIs say about the other side; `None` when one does not answer.
pub(crate) async fn statuses(world: &World) -> Option<[Value; 2]> {
    let mut statuses = [Value::Null, Value::Null];
    for (status, side) in statuses.iter_mut().zip(&world.sides) {
        let asked = timeout(Duration::from_secs(5), async { side.client().get("/api/v1/peers").await }).await;
        *status = asked.ok()?.ok().filter(|answer| answer.status == 200)?.json()["peers"][0].take();
    }
    Some(statuses)
}

/// Waits until neither side has anything queued; how long after the start that was.
pub(crate) async fn wait_until_settled(world: &World) -> Result<Duration, Violation> {
    let deadline = Instant::now() + SETTLED_WITHIN;
    loop {
        let statuses = statuses(world).await;
        if statuses.as_ref().is_some_and(|statuses| statuses.iter().all(|status| status["queued"] == 0)) {
            return Ok(world.started.elapsed());
        }
        if Instant::now() > deadline {
            let about = some_unsettled(world).await;
            return Err(Violation::new(format!("not settled after {SETTLED_WITHIN:?}: {statuses:?}")).about(about));
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Every count, every row of both inboxes, and the records of a sample.
pub(crate) async fn check(world: &World, parts: &Parts) -> Result<(), Violation> {
    let count = world.plan.events;
    let statuses = statuses(world).await.ok_or_else(|| Violation::new("the daemons do not answer at the end"))?;
    for (side, status) in statuses.iter().enumerate() {
        let (refused, rejected) = (("refused", REFUSED), ("rejected", REFUSED));
        let expected = [("acked", count), ("received", count), ("queued", 0), refused, ("dead", 0), rejected];
        if expected.iter().any(|(name, expected)| status[name] != *expected) {
            return Err(Violation::new(format!("{}: expected {expected:?}, found {status}", world.name(side))));
        }
    }
    let unanswered = parts.submissions.iter().map(|submitted| submitted.unanswered);
    let unanswered: usize = unanswered.chain(parts.consumptions.iter().map(|consumed| consumed.unanswered)).sum();
    if world.kills() == 0 && !world.stood_still.load(Ordering::Relaxed) && unanswered > 0 {
        return Err(Violation::new(format!("{unanswered} requests got no answer although nobody was killed")));
    }
    for (side, consumed) in parts.consumptions.iter().enumerate() {
        audit(world, side, &consumed.seqs).await?;
    }
    tokio::try_join!(sample(world, 0), sample(world, 1))?;
    Ok(())
}

/// Reads the whole inbox of a side: exactly the events of the other one, each once, where the application had it.
async fn audit(world: &World, side: usize, seqs: &[Option<u64>]) -> Result<(), Violation> {
    let (name, events) = (world.name(side), &world.events[1 - side]);
    let mut client = world.sides[side].client();
    let mut seen = HashSet::new();
    let mut last = 0;
    loop {
        let path = format!("/api/v1/inbox?consumer={AUDITOR}&max=1000&after={last}");
        let page = client.document(&path).await;
        let unreadable = || Violation::new(format!("{name}: the inbox cannot be read at the end: {page}"));
        let rows = page["sets"].as_array().ok_or_else(unreadable)?;
        if rows.is_empty() {
            break;
        }
        for row in rows {
            let (seq, jti) = (row["seq"].as_u64().unwrap_or(0), row["jti"].as_str().unwrap_or_default());
            let number = events.number(jti);
            let sound = number.is_some_and(|number| seqs[number] == Some(seq) && events.is(number, &row["claims"]));
            if !sound || seq <= last || !seen.insert(jti.to_owned()) {
                let found = format!("{name}: row {seq} behind {last} of the inbox is wrong, or a copy: {row}");
                return Err(Violation::new(found).about([jti]));
            }
            last = seq;
        }
    }
    let missing: Vec<&String> = events.jtis().iter().filter(|jti| !seen.contains(*jti)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let what = format!("{name}: {} of {} SETs are not in the inbox", missing.len(), events.len());
    Err(Violation::new(what).about(missing.into_iter().take(5)))
}

/// Looks at what a side says about a part of its own events, and the other side about the same.
async fn sample(world: &World, side: usize) -> Result<(), Violation> {
    let events = &world.events[side];
    let mut random = world.plan.random(&format!("sample {side}"));
    let mut clients = [world.sides[side].client(), world.sides[1 - side].client()];
    let sample = SAMPLE.max(events.len() / 10);
    let drawn: Vec<usize> = match events.len() > sample {
        true => (0..sample).map(|_| random.below(events.len() as u64) as usize).collect(),
        false => (0..events.len()).collect(),
    };
    for number in drawn {
        let jti = events.jti(number);
        for (client, (direction, state)) in clients.iter_mut().zip([("out", "acked"), ("in", "received")]) {
            let document = client.document(&format!("/api/v1/events/{jti}")).await;
            let records = document["records"].as_array().map(Vec::as_slice).unwrap_or_default();
            let mut records = records.iter().filter(|record| record["direction"] == direction);
            let sound = records.next().is_some_and(|record| record["state"] == state) && records.next().is_none();
            if !sound {
                return Err(
                    Violation::new(format!("expected one {direction} record, {state}: {document}")).about([jti])
                );
            }
        }
    }
    Ok(())
}

/// A few SETs of each side that their sender does not call acked, or does not know.
pub(crate) async fn some_unsettled(world: &World) -> Vec<String> {
    let mut some = Vec::new();
    for (side, events) in world.sides.iter().zip(&world.events) {
        let mut client = side.client();
        let mut found = 0;
        for jti in events.jtis() {
            let Ok(answer) = client.get(&format!("/api/v1/events/{jti}")).await else { break };
            let document = answer.json();
            let records = document["records"].as_array().map(Vec::as_slice).unwrap_or_default();
            let mut out = records.iter().filter(|record| record["direction"] == "out");
            if out.next().is_none_or(|record| record["state"] != "acked") {
                some.push(jti.clone());
                found += 1;
            }
            if found == 3 {
                break;
            }
        }
    }
    some
}

/// What both sides know of the SETs that a violation is about.
pub(crate) async fn evidence(world: &World, violation: &Violation) -> String {
    let mut text = String::new();
    for side in &world.sides {
        if !side.is_running().await {
            // The run ended between a kill and the restart.
            let _ = side.start_and_wait().await;
        }
        let mut client = side.client();
        for jti in &violation.jtis {
            let records = match timeout(Duration::from_secs(5), client.get(&format!("/api/v1/events/{jti}"))).await {
                Ok(Ok(answer)) => answer.text(),
                Ok(Err(NoAnswer)) | Err(_) => "no answer".to_owned(),
            };
            let _ = writeln!(text, "{} about {jti}: {records}", side.name);
        }
        let _ = writeln!(text, "{} said last:\n{}", side.name, side.last_words());
    }
    text
}

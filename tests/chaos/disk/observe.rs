//! What a daemon shows of its database: what it sends, hands out, remembers and says, and how it ends if it does.

use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::bench::{Start, ready_or_ended};
use super::image::Victim;
use crate::admin::Client;
use crate::partner::Received;
use crate::world::Violation;

/// All that was seen in one life of the daemon.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) started: bool,
    /// How it ended, if by itself.
    pub(crate) ended: Option<ExitStatus>,
    /// What delta was sent.
    pub(crate) sent: Received,
    /// Rows of the inbox: jti and token by seq.
    pub(crate) inbox: BTreeMap<u64, (String, String)>,
    /// Tokens of dead letters by jti.
    pub(crate) dead: BTreeMap<String, String>,
    /// What is known of each jti: direction, peer and state, or nothing.
    pub(crate) known: BTreeMap<String, String>,
    /// Everything that it said.
    pub(crate) log: String,
}

/// Without anything new for delta for so long, there is no more to come.
const QUIET_FOR: Duration = Duration::from_millis(1_500);
const SENT_WITHIN: Duration = Duration::from_secs(20);

/// Starts alpha, looks at everything, and kills it.
pub(crate) async fn observe(victim: &Victim) -> Result<Seen, Violation> {
    victim.delta.forget();
    let alpha = &victim.alpha;
    let said = alpha.said_bytes();
    let mut seen = Seen::default();
    let begun = alpha.start().await;
    match ready_or_ended(alpha, begun).await? {
        Start::Ended(status) => seen.ended = Some(status),
        Start::Ready | Start::Full => {
            seen.started = true;
            if !look(victim, &mut seen).await? {
                // Whoever does not answer any more has to be gone soon.
                let begun = Instant::now();
                while seen.ended.is_none() {
                    if begun.elapsed() > Duration::from_secs(10) {
                        let words = alpha.last_words();
                        return Err(Violation::new(format!("it neither answers nor ends:\n{words}")));
                    }
                    sleep(Duration::from_millis(10)).await;
                    seen.ended = alpha.ended().await;
                }
            }
        }
    }
    alpha.kill().await;
    seen.sent = victim.delta.received();
    seen.log = alpha.said_since(said);
    Ok(seen)
}

/// False if it has ceased to answer.
async fn look(victim: &Victim, seen: &mut Seen) -> Result<bool, Violation> {
    let mut client = victim.alpha.client();
    let (begun, mut quiet_since, mut count) = (Instant::now(), Instant::now(), 0);
    loop {
        let Some(delta) = get(&mut client, "/api/v1/peers/delta").await else { return Ok(false) };
        let now = victim.delta.received().len();
        if now > count {
            (count, quiet_since) = (now, Instant::now());
        }
        if delta["queued"] == 0 || quiet_since.elapsed() > QUIET_FOR {
            break;
        }
        if begun.elapsed() > SENT_WITHIN {
            return Err(Violation::new(format!("the queue is not sent within {SENT_WITHIN:?}: {delta}")));
        }
        sleep(Duration::from_millis(10)).await;
    }
    let Some(inbox) = get(&mut client, "/api/v1/inbox?max=1000").await else { return Ok(false) };
    for row in list(&inbox["sets"]) {
        let seq = row["seq"].as_u64().unwrap_or(0);
        if seen.inbox.insert(seq, (text(&row["jti"]), text(&row["set"]))).is_some() {
            return Err(Violation::new(format!("row {seq} stands in the inbox twice")));
        }
    }
    let Some(letters) = get(&mut client, "/api/v1/dead-letters?max=1000").await else { return Ok(false) };
    for letter in list(&letters["dead_letters"]) {
        let jti = text(&letter["jti"]);
        let Some(letter) = get(&mut client, &format!("/api/v1/dead-letters/{jti}")).await else { return Ok(false) };
        seen.dead.insert(jti, text(&letter["set"]));
    }
    for jti in &victim.jtis {
        let Some(event) = get(&mut client, &format!("/api/v1/events/{jti}")).await else { return Ok(false) };
        let records = list(&event["records"]).iter();
        let records = records.map(|record| {
            // Whether it is under way at this moment is nothing that is kept.
            let state = text(&record["state"]).replace("in_flight", "queued");
            format!("{} {} {state}", text(&record["direction"]), text(&record["peer"]))
        });
        seen.known.insert(jti.clone(), records.collect::<Vec<_>>().join(", "));
    }
    Ok(true)
}

/// An answer of any kind but 503, which says that it has failed.
async fn get(client: &mut Client, path: &str) -> Option<Value> {
    let answer = client.get(path).await.ok()?;
    (answer.status != 503).then(|| answer.json())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

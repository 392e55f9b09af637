//! The demo's events: the specifications' own examples, one after the other, each followed to its ack.

use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::organisation::Organisation;
use super::view::{Line, View};
use crate::cli::Error;
use crate::cli::client::{Call, Client, escape};

/// Events as `send -f` reads them.
const EXAMPLES: [&str; 2] =
    [include_str!("../../../proto-examples/caep.jsonl"), include_str!("../../../proto-examples/risc.jsonl")];

/// How long one event may take to its ack before the next one leaves all the same.
const ACK_WITHIN: Duration = Duration::from_secs(10);

/// The demo's traffic, both ways.
pub(super) struct Traffic<'a> {
    organisations: &'a [Organisation; 2],
    examples: Vec<Map<String, Value>>,
    pace: Duration,
    started: Instant,
    /// When each direction had its first ack.
    first: Mutex<[Option<Duration>; 2]>,
}

/// What one direction has sent.
#[derive(Default)]
pub(super) struct Flown {
    /// The jtis as the daemon answered them at submission.
    pub(super) jtis: Vec<String>,
    /// Times from submission to ack.
    pub(super) times: Vec<Duration>,
}

/// Both directions, and when both had had an ack.
pub(super) struct Flights {
    pub(super) directions: [Flown; 2],
    pub(super) first_ack_both_ways: Option<Duration>,
}

impl<'a> Traffic<'a> {
    pub(super) fn new(organisations: &'a [Organisation; 2], pace: Duration, started: Instant) -> Self {
        let lines = EXAMPLES.iter().flat_map(|text| text.lines());
        let examples = lines.filter_map(|line| serde_json::from_str(line).ok()).collect();
        Self { organisations, examples, pace, started, first: Mutex::default() }
    }

    /// Sends until `stop` turns true.
    pub(super) async fn run(&self, view: &View, stop: watch::Receiver<bool>) -> Result<Flights, Error> {
        let (there, back) = tokio::join!(self.direction(0, view, stop.clone()), self.direction(1, view, stop.clone()));
        let first = self.first.lock().map(|first| *first).unwrap_or_default();
        let first_ack_both_ways = first[0].zip(first[1]).map(|(there, back)| there.max(back));
        Ok(Flights { directions: [there?, back?], first_ack_both_ways })
    }

    async fn direction(&self, from: usize, view: &View, mut stop: watch::Receiver<bool>) -> Result<Flown, Error> {
        let (sender, receiver) = (&self.organisations[from], &self.organisations[1 - from]);
        let mut client = sender.client()?;
        let mut flown = Flown::default();
        // The two start at different examples, so that they are not each other's echo.
        let start = from * self.examples.len() / 2;
        for example in self.examples.iter().cycle().skip(start) {
            let begun = Instant::now();
            let mut event = example.clone();
            event.insert("peer".to_owned(), receiver.name.into());
            let answer = client.json(Call::post_json("/api/v1/events", &Value::Object(event))).await?;
            let jti = answer["jtis"][0].as_str().unwrap_or_default().to_owned();
            flown.jtis.push(jti.clone());
            let acked = self.follow(&mut client, &jti, begun).await?;
            if let Some(time) = acked {
                flown.times.push(time);
                if let Ok(mut first) = self.first.lock() {
                    first[from].get_or_insert(self.started.elapsed());
                }
            }
            let event_type = example.get("type").and_then(Value::as_str).unwrap_or_default();
            let format = example.get("sub_id").and_then(|subject| subject["format"].as_str()).unwrap_or_default();
            let line = Line { from: sender.name, to: receiver.name, event_type, format, acked };
            view.event(from, &line, flown.jtis.len(), flown.times.len());
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                () = sleep(self.pace.saturating_sub(begun.elapsed())) => {}
            }
            if *stop.borrow() {
                break;
            }
        }
        Ok(flown)
    }

    /// The time from submission to ack, as far as asking can tell.
    async fn follow(&self, client: &mut Client, jti: &str, begun: Instant) -> Result<Option<Duration>, Error> {
        let path = format!("/api/v1/events/{}", escape(jti));
        while begun.elapsed() < ACK_WITHIN {
            let answer = client.json(Call::get(&path)).await?;
            if answer["records"]
                .as_array()
                .is_some_and(|records| records.iter().any(|record| record["state"] == "acked"))
            {
                return Ok(Some(begun.elapsed()));
            }
            sleep(Duration::from_millis(1)).await;
        }
        Ok(None)
    }
}

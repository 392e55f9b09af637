//! The accounting at the end: what was accepted, what was acked, what stands in the other side's inbox.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::organisation::Organisation;
use super::traffic::{Flights, Flown};
use crate::cli::Error;
use crate::cli::client::{Call, Client, escape};

/// The consumer that reads both inboxes.
const CONSUMER: &str = "demo";

/// The result of the demo.
pub(super) struct Summary {
    pub(super) directions: [Direction; 2],
    pub(super) seconds: f64,
    pub(super) first_ack_both_ways: Option<Duration>,
}

/// One direction's accounts.
pub(super) struct Direction {
    pub(super) from: &'static str,
    pub(super) to: &'static str,
    pub(super) sent: usize,
    pub(super) acked: usize,
    pub(super) received: usize,
    pub(super) lost: usize,
    pub(super) doubled: usize,
    /// Received, but never sent.
    pub(super) strange: usize,
    pub(super) p50: Option<Duration>,
    pub(super) p99: Option<Duration>,
}

impl Summary {
    /// Waits for the last SETs, then counts.
    pub(super) async fn of(
        organisations: &[Organisation; 2],
        flights: Flights,
        started: Instant,
        patience: Duration,
    ) -> Result<Self, Error> {
        let [there, back] = flights.directions;
        let deadline = Instant::now() + patience;
        let [alpha, beta] = organisations;
        let directions =
            [Direction::of(alpha, beta, there, deadline).await?, Direction::of(beta, alpha, back, deadline).await?];
        Ok(Self {
            directions,
            seconds: started.elapsed().as_secs_f64(),
            first_ack_both_ways: flights.first_ack_both_ways,
        })
    }

    /// Every SET ended acked and stands in the other inbox exactly once.
    pub(super) fn ok(&self) -> bool {
        self.directions.iter().all(|direction| {
            direction.sent > 0
                && direction.acked == direction.sent
                && direction.received == direction.sent
                && direction.lost + direction.doubled + direction.strange == 0
        })
    }

    pub(super) fn to_json(&self) -> Value {
        let ms = |time: Option<Duration>| time.map(|time| (time.as_secs_f64() * 1e6).round() / 1e3);
        let directions: Vec<Value> = self
            .directions
            .iter()
            .map(|direction| {
                json!({
                    "from": direction.from, "to": direction.to, "sent": direction.sent, "acked": direction.acked,
                    "received": direction.received, "lost": direction.lost, "doubled": direction.doubled,
                    "p50_ms": ms(direction.p50), "p99_ms": ms(direction.p99),
                })
            })
            .collect();
        json!({
            "ok": self.ok(),
            "seconds": (self.seconds * 1e3).round() / 1e3,
            "first_ack_both_ways_ms": ms(self.first_ack_both_ways),
            "directions": directions,
        })
    }
}

impl Direction {
    async fn of(from: &Organisation, to: &Organisation, flown: Flown, deadline: Instant) -> Result<Self, Error> {
        let mut sender = from.client()?;
        let mut acked = 0;
        for jti in &flown.jtis {
            acked += usize::from(is_acked(&mut sender, jti, deadline).await?);
        }
        let inbox = read_inbox(&mut to.client()?).await?;
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for jti in &inbox {
            *counts.entry(jti).or_default() += 1;
        }
        let of_ours: Vec<usize> = flown.jtis.iter().map(|jti| counts.remove(jti.as_str()).unwrap_or(0)).collect();
        let mut times = flown.times;
        times.sort_unstable();
        let quantile =
            |part: f64| times.get(((times.len() as f64 * part) as usize).min(times.len().saturating_sub(1))).copied();
        Ok(Self {
            from: from.name,
            to: to.name,
            sent: flown.jtis.len(),
            acked,
            received: inbox.len(),
            lost: of_ours.iter().filter(|count| **count == 0).count(),
            doubled: of_ours.iter().filter(|count| **count > 1).count(),
            strange: counts.len(),
            p50: quantile(0.5),
            p99: quantile(0.99),
        })
    }
}

/// Whether the SET has ended acked; waits until the deadline while it has not ended.
async fn is_acked(client: &mut Client, jti: &str, deadline: Instant) -> Result<bool, Error> {
    let path = format!("/api/v1/events/{}", escape(jti));
    loop {
        let answer = client.json(Call::get(&path)).await?;
        let state = answer["records"][0]["state"].as_str().unwrap_or_default().to_owned();
        if !matches!(state.as_str(), "queued" | "in_flight") || Instant::now() > deadline {
            return Ok(state == "acked");
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Every jti in the inbox, by a consumer of our own that confirms what it reads.
async fn read_inbox(client: &mut Client) -> Result<Vec<String>, Error> {
    let mut jtis = Vec::new();
    loop {
        let answer = client.json(Call::get(&format!("/api/v1/inbox?consumer={CONSUMER}&max=1000"))).await?;
        let sets = answer["sets"].as_array().cloned().unwrap_or_default();
        let Some(last) = sets.last().and_then(|set| set["seq"].as_u64()) else { return Ok(jtis) };
        jtis.extend(sets.iter().filter_map(|set| set["jti"].as_str().map(str::to_owned)));
        client.json(Call::post_json("/api/v1/inbox/confirm", &json!({ "consumer": CONSUMER, "up_to": last }))).await?;
    }
}

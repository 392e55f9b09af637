//! Submits one side's events in batches, again and again with the same jtis until each is known to be accepted.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::admin::{Client, NoAnswer};
use crate::plan::Random;
use crate::world::{Violation, World};

/// How the submission went.
pub(crate) struct Submitted {
    /// Requests whose outcome was unknown, and that were repeated.
    pub(crate) unanswered: usize,
    /// Requests that were answered with 503.
    pub(crate) deferred: usize,
    /// Batches that were submitted again although they had been accepted.
    pub(crate) repeated: usize,
    /// When the last event was accepted, from the start of the run.
    pub(crate) over_after: Duration,
}

pub(crate) async fn submit_all(world: &World, side: usize) -> Result<Submitted, Violation> {
    let random = world.plan.random(&format!("submission {side}"));
    let client = world.sides[side].client();
    let tally = Submitted { unanswered: 0, deferred: 0, repeated: 0, over_after: Duration::ZERO };
    let mut submitter = Submitter { world, side, client, random, tally };
    let count = world.plan.events;
    let mut next = 0;
    while next < count {
        submitter.may_go_on(next as f64 / count as f64).await;
        let batch = next..count.min(next + 100 + submitter.random.below(201) as usize);
        submitter.submit(batch.clone()).await?;
        world.accepted[side].fetch_add(batch.len(), Ordering::Relaxed);
        if submitter.random.chance(0.05) {
            // What was accepted may be submitted again, and nothing comes of it.
            submitter.submit(batch.clone()).await?;
            submitter.tally.repeated += 1;
        }
        next = batch.end;
    }
    submitter.tally.over_after = world.started.elapsed();
    Ok(submitter.tally)
}

struct Submitter<'a> {
    world: &'a World,
    side: usize,
    client: Client,
    random: Random,
    tally: Submitted,
}

/// How long one batch may take to be accepted, kills and all.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(180);

impl Submitter<'_> {
    async fn may_go_on(&self, part: f64) {
        for limit in &self.world.may_submit {
            // The senders live as long as the world.
            let _ = limit.subscribe().wait_for(|limit| part <= *limit).await;
        }
    }

    async fn submit(&mut self, batch: Range<usize>) -> Result<(), Violation> {
        let events = &self.world.events[self.side];
        let lines: Vec<String> = batch.clone().map(|number| events.line(number)).collect();
        let body = lines.join("\n");
        let jtis = &events.jtis()[batch];
        let deadline = Instant::now() + ACCEPTED_WITHIN;
        while Instant::now() < deadline {
            self.world.submitting[self.side].notify_waiters();
            match self.client.post("/api/v1/events", "application/x-ndjson", body.clone()).await {
                Ok(answer) if answer.status == 202 => {
                    self.world.accepting[self.side].notify_waiters();
                    let answered = answer.json();
                    let same = answered["jtis"].as_array().is_some_and(|got| got.iter().eq(jtis));
                    return same.then_some(()).ok_or_else(|| self.violation("answered other jtis", jtis, &answered));
                }
                Ok(answer) if answer.status == 503 => {
                    self.tally.deferred += 1;
                    sleep(Duration::from_millis(100)).await;
                }
                Ok(answer) => return Err(self.violation("refused a sound submission", jtis, &answer.text().into())),
                Err(NoAnswer) => {
                    self.tally.unanswered += 1;
                    sleep(Duration::from_millis(10)).await;
                }
            }
        }
        Err(self.violation("did not accept a batch for minutes", jtis, &Value::Null))
    }

    fn violation(&self, what: &str, jtis: &[String], found: &Value) -> Violation {
        let found: String = found.to_string().chars().take(500).collect();
        Violation::new(format!("{} {what}: {found}", self.world.name(self.side))).about(jtis.iter().take(3).cloned())
    }
}

//! The application on one side: reads its inbox, confirms after a while, crashes now and then, and keeps book of every
//! hand-out.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::admin::{Client, NoAnswer};
use crate::events::Events;
use crate::plan::Random;
use crate::world::{Violation, World};

/// How the application fared.
#[derive(Default)]
pub(crate) struct Consumed {
    /// Times it "crashed" with rows in its hands.
    pub(crate) crashes: usize,
    /// Reads and confirmations without an answer.
    pub(crate) unanswered: usize,
    /// Hand-outs of a row that it had been given before.
    pub(crate) again: usize,
    /// First hand-outs that were marked `redelivered` all the same.
    pub(crate) over_marked: usize,
    /// Where each event stands in the inbox.
    pub(crate) seqs: Vec<Option<u64>>,
}

/// The consumer's name.
const CONSUMER: &str = "application";

/// Reads and confirms until every event of the other side has been confirmed.
pub(crate) async fn consume_all(world: &World, side: usize) -> Result<Consumed, Violation> {
    let events = &world.events[1 - side];
    let mut application = Application {
        world,
        side,
        client: world.sides[side].client(),
        random: world.plan.random(&format!("application {side}")),
        rows: BTreeMap::new(),
        confirmed: 0,
        perhaps_confirmed: 0,
        held: None,
        tally: Consumed { seqs: vec![None; events.len()], ..Consumed::default() },
    };
    while world.confirmed[side].load(Ordering::Relaxed) < events.len() {
        application.turn(events).await?;
    }
    // Nothing more may come, in particular no copy.
    application.held = None;
    application.read(events, Duration::from_secs(1)).await?;
    Ok(application.tally)
}

struct Application<'a> {
    world: &'a World,
    side: usize,
    client: Client,
    random: Random,
    /// Every row it was ever given: which event, and how often.
    rows: BTreeMap<u64, Row>,
    /// Confirmed, and the daemon said so.
    confirmed: u64,
    /// A confirmation up to here got no answer.
    perhaps_confirmed: u64,
    /// The last row it holds, read and not confirmed.
    held: Option<u64>,
    tally: Consumed,
}

struct Row {
    number: usize,
    handed: u32,
}

impl Application<'_> {
    async fn turn(&mut self, events: &Events) -> Result<(), Violation> {
        let Some(last) = self.read(events, Duration::from_secs(1)).await? else {
            // Perhaps the rest is in its own hands, or confirmed without its having been told.
            let unsure = (self.perhaps_confirmed > self.confirmed).then_some(self.perhaps_confirmed);
            self.held = self.held.or(unsure);
            return self.confirm_held().await;
        };
        self.held = Some(last);
        if self.random.chance(0.1) {
            // It crashes: everything that was not confirmed is read again.
            self.tally.crashes += 1;
            self.held = None;
            return Ok(());
        }
        if self.random.chance(0.25) {
            // It reads on before it confirms.
            return Ok(());
        }
        let longest = if self.random.chance(0.05) { 200 } else { 10 };
        sleep(self.random.time(Duration::from_millis(longest))).await;
        self.confirm_held().await
    }

    /// Reads behind what it holds; the last row it was given.
    async fn read(&mut self, events: &Events, wait: Duration) -> Result<Option<u64>, Violation> {
        let max = 1 + self.random.below(600);
        let mut path = format!("/api/v1/inbox?consumer={CONSUMER}&max={max}&wait={}ms", wait.as_millis());
        if let Some(held) = self.held {
            path.push_str(&format!("&after={held}"));
        }
        let answer = match self.client.get(&path).await {
            Ok(answer) => answer,
            Err(NoAnswer) => {
                self.tally.unanswered += 1;
                sleep(Duration::from_millis(10)).await;
                return Ok(None);
            }
        };
        if answer.status != 200 {
            return Err(Violation::new(format!("{}: the inbox answers {}", self.name(), answer.text())));
        }
        let document = answer.json();
        let mut last = self.held.unwrap_or(0).max(self.confirmed);
        for row in document["sets"].as_array().map(Vec::as_slice).unwrap_or_default() {
            last = self.take(events, row, last)?;
        }
        Ok((last > self.held.unwrap_or(0).max(self.confirmed)).then_some(last))
    }

    /// Books one hand-out; its seq. `behind` is the seq that it must be behind.
    fn take(&mut self, events: &Events, row: &Value, behind: u64) -> Result<u64, Violation> {
        let (seq, jti) = (row["seq"].as_u64().unwrap_or(0), row["jti"].as_str().unwrap_or_default());
        let marked = row["redelivered"] == true;
        let wrong = |what: String| Err(Violation::new(format!("{}, row {seq}: {what}", self.name())).about([jti]));
        let Some(number) = events.number(jti) else { return wrong(format!("{jti} was never submitted")) };
        if seq <= behind {
            return wrong(format!("handed out although {behind} is behind (confirmed, or earlier in this answer)"));
        }
        if row["peer"] != self.world.name(1 - self.side) || !events.is(number, &row["claims"]) {
            return wrong(format!("it is not the event that was submitted: {row}"));
        }
        if let Some(other) = self.tally.seqs[number].filter(|other| *other != seq) {
            return wrong(format!("{jti} stands in the inbox twice, the other time as row {other}"));
        }
        if let Some(before) = self.rows.get(&seq) {
            if before.number != number {
                return wrong(format!("it held {} before", events.jti(before.number)));
            }
            if !marked {
                return wrong(format!("handed out {} times before, and not marked redelivered", before.handed));
            }
            self.tally.again += 1;
        } else if marked {
            self.tally.over_marked += 1;
        }
        self.tally.seqs[number] = Some(seq);
        self.rows.entry(seq).or_insert(Row { number, handed: 0 }).handed += 1;
        Ok(seq)
    }

    /// Confirms what it holds, or a part of it.
    async fn confirm_held(&mut self) -> Result<(), Violation> {
        let Some(last) = self.held.take() else { return Ok(()) };
        let from = self.confirmed.max(self.perhaps_confirmed).min(last);
        let up_to = if self.random.chance(0.85) { last } else { last - self.random.below(last - from + 1) };
        let body = json!({ "consumer": CONSUMER, "up_to": up_to }).to_string();
        loop {
            match self.client.post("/api/v1/inbox/confirm", "application/json", body.clone()).await {
                Ok(answer) if answer.status == 200 => {
                    self.note_confirmed(up_to);
                    return Ok(());
                }
                Ok(answer) => {
                    let text = answer.text();
                    return Err(Violation::new(format!("{}: confirming {up_to} answers {text}", self.name())));
                }
                Err(NoAnswer) => {
                    self.tally.unanswered += 1;
                    self.perhaps_confirmed = self.perhaps_confirmed.max(up_to);
                    sleep(Duration::from_millis(10)).await;
                    if self.random.chance(0.5) {
                        // It has forgotten that it ever asked, and reads again.
                        return Ok(());
                    }
                }
            }
        }
    }

    /// The daemon says that everything up to here is dealt with. Each row of it was handed out, so none was skipped.
    fn note_confirmed(&mut self, up_to: u64) {
        if up_to > self.confirmed {
            let count = self.rows.range(self.confirmed + 1..=up_to).count();
            self.world.confirmed[self.side].fetch_add(count, Ordering::Relaxed);
            self.confirmed = up_to;
        }
    }

    fn name(&self) -> &'static str {
        self.world.name(self.side)
    }
}

//! The events of a run: the specification's own CAEP examples, each under a jti that the test chooses.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::plan::Plan;

/// One direction's events, by number.
pub(crate) struct Events {
    /// What the sender calls the receiver.
    peer: &'static str,
    jtis: Vec<String>,
    numbers: HashMap<String, usize>,
    examples: Vec<Map<String, Value>>,
}

/// Every so manieth jti is used in both directions: they are different SETs all the same.
const SHARED_EVERY: usize = 10;

impl Events {
    pub(crate) fn new(plan: &Plan, from: &str, to: &'static str) -> Self {
        let jti = |number: usize| {
            let by = if number.is_multiple_of(SHARED_EVERY) { "both" } else { from };
            format!("chaos-{}-{by}-{number}", plan.seed)
        };
        let jtis: Vec<String> = (0..plan.events).map(jti).collect();
        let numbers = jtis.iter().enumerate().map(|(number, jti)| (jti.clone(), number)).collect();
        let lines = include_str!("../../proto-examples/caep.jsonl").lines();
        let examples = lines.map(|line| serde_json::from_str(line).expect("an example is a JSON object")).collect();
        Self { peer: to, jtis, numbers, examples }
    }

    pub(crate) fn len(&self) -> usize {
        self.jtis.len()
    }

    pub(crate) fn jti(&self, number: usize) -> &str {
        &self.jtis[number]
    }

    pub(crate) fn jtis(&self) -> &[String] {
        &self.jtis
    }

    /// The number of the event with this jti; `None` if it was never submitted.
    pub(crate) fn number(&self, jti: &str) -> Option<usize> {
        self.numbers.get(jti).copied()
    }

    /// The event as a line of a submission. Always the same for a number.
    pub(crate) fn line(&self, number: usize) -> String {
        let mut event = self.examples[number % self.examples.len()].clone();
        event.insert("peer".to_owned(), self.peer.into());
        event.insert("jti".to_owned(), self.jtis[number].as_str().into());
        event.insert("txn".to_owned(), self.txn(number).into());
        Value::Object(event).to_string()
    }

    /// What tells that a received SET is this event, unchanged and not mistaken for another.
    pub(crate) fn is(&self, number: usize, claims: &Value) -> bool {
        let example = &self.examples[number % self.examples.len()];
        let event = claims["events"].as_object().and_then(|events| events.values().next());
        claims["jti"] == self.jtis[number]
            && claims["txn"] == self.txn(number)
            && claims["sub_id"] == example["sub_id"]
            && event == example.get("event")
    }

    fn txn(&self, number: usize) -> String {
        format!("to-{}-{number}", self.peer)
    }
}

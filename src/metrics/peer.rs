//! What is counted of one peer: handles that are made when it is added, so that counting needs no look-up.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use super::families::{Counters, Families, Labels};
use super::{Metrics, outcome};

/// By what Communication Objects travel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// HTTP requests and their answers.
    Http,
    /// A WebSocket.
    Websocket,
}

/// The states of a link, as `peer_state` names them.
pub const STATES: [&str; 4] = ["up", "connecting", "down", "paused"];

/// The counters of one peer.
#[derive(Debug)]
pub struct PeerMetrics {
    name: Arc<str>,
    metrics: Metrics,
    /// By event type.
    pub accepted: Split,
    /// Acknowledged by the partner.
    pub acked: Counter,
    /// By the code of the partner's setErr.
    pub rejected: Split,
    /// By event type.
    pub received: Split,
    /// By the code of our setErr.
    pub invalid: Split,
    /// Answered again.
    pub duplicate: Counter,
    /// By cause.
    pub dead: Split,
    /// By what had become of them before.
    pub retries: Split,
    /// WebSockets that we opened after the first.
    pub reconnects: Counter,
    closes: Split,
    sent: [Counter; 2],
    sent_bytes: [Counter; 2],
    received_bytes: [Counter; 2],
    verifications: Mutex<Vec<(Labels, Counter)>>,
    verification_family: Counters,
    jwks_fetches: Split,
    /// From acceptance to ack.
    pub delivery: Histogram,
    /// From transmission to verdict.
    pub ack_latency: Histogram,
    /// From arrival to durable verdicts.
    pub receive: Histogram,
}

/// One peer's counters that differ in one more label. Its values are words of this program.
#[derive(Debug)]
pub struct Split {
    family: Counters,
    peer: Arc<str>,
    label: &'static str,
    made: Mutex<Vec<(&'static str, Counter)>>,
}

/// What is asked for when somebody scrapes.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    /// Figures of the conversation; `None` if it did not tell them in time.
    pub figures: Option<Figures>,
    /// The state of the link, out and in; words of [`STATES`].
    pub state: [&'static str; 2],
    /// Since when the link is up, in seconds since 1970; 0 while it is not.
    pub connected_at: f64,
    /// When the last ack came, in seconds since 1970; 0 before the first.
    pub last_ack_at: f64,
    /// Open WebSockets.
    pub sockets: usize,
    /// Age of the partner's keys, if there are any.
    pub jwks_age: Option<Duration>,
}

/// Figures of a conversation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Accepted and not settled.
    pub queued: u64,
    /// Age of the oldest of these.
    pub oldest: Duration,
    /// Under way.
    pub in_flight: usize,
    /// Verdicts owed.
    pub owed: usize,
    /// Dead letters kept.
    pub dead_letters: u64,
}

impl Transport {
    /// As labels and log lines have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Websocket => "websocket",
        }
    }
}

impl Split {
    fn new(family: &Counters, peer: &Arc<str>, label: &'static str, values: &[&'static str]) -> Self {
        let split = Self { family: family.clone(), peer: Arc::clone(peer), label, made: Mutex::default() };
        for value in values {
            split.add(value, 0);
        }
        split
    }

    /// Counts `count` more of this value.
    pub fn add(&self, value: &'static str, count: u64) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, counter)) = made.iter().find(|(known, _)| *known == value) {
            counter.inc_by(count);
            return;
        }
        let counter = self.family.get_or_create_owned(&self.labels(value));
        counter.inc_by(count);
        made.push((value, counter));
    }

    fn labels(&self, value: &str) -> Labels {
        vec![("peer", self.peer.to_string()), (self.label, value.to_owned())]
    }

    fn remove(&self) {
        for (value, _) in self.made.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            self.family.remove(&self.labels(value));
        }
    }
}

impl PeerMetrics {
    pub(super) fn new(name: &Arc<str>, metrics: Metrics, families: &Families) -> Self {
        let own = || vec![("peer", name.to_string())];
        let plain = |family: &Counters| family.get_or_create_owned(&own());
        let by_transport = |family: &Counters| {
            [Transport::Http, Transport::Websocket].map(|transport| {
                family.get_or_create_owned(&vec![
                    ("peer", name.to_string()),
                    ("transport", transport.as_str().to_owned()),
                ])
            })
        };
        let split =
            |family: &Counters, label: &'static str, values: &[&'static str]| Split::new(family, name, label, values);
        let this = Self {
            name: Arc::clone(name),
            metrics,
            accepted: split(&families.accepted, "event_type", &[]),
            acked: plain(&families.acked),
            rejected: split(&families.rejected, "code", &CODES),
            received: split(&families.received, "event_type", &[]),
            invalid: split(&families.invalid, "code", &CODES[..CODES.len() - 1]),
            duplicate: plain(&families.duplicate),
            dead: split(&families.dead, "code", &["attempts", "age"]),
            retries: split(&families.retries, "reason", &["no_answer", "lost", "batch_refused"]),
            reconnects: plain(&families.reconnects),
            closes: split(&families.closes, "code", &["none", "1000", "1001"]),
            sent: by_transport(&families.sent),
            sent_bytes: by_transport(&families.sent_bytes),
            received_bytes: by_transport(&families.received_bytes),
            verifications: Mutex::default(),
            verification_family: families.verifications.clone(),
            jwks_fetches: split(&families.jwks_fetches, "outcome", &[outcome(true), outcome(false)]),
            delivery: families.delivery.get_or_create_owned(&own()),
            ack_latency: families.ack_latency.get_or_create_owned(&own()),
            receive: families.receive.get_or_create_owned(&own()),
        };
        for outcome in ["acked", "refused", "timed_out"] {
            this.count_verification("out", outcome, 0);
        }
        this.count_verification("in", "acked", 0);
        this
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// An object left: so many SETs and bytes.
    pub fn sent(&self, transport: Transport, sets: usize, bytes: usize) {
        self.sent[transport as usize].inc_by(sets as u64);
        self.sent_bytes[transport as usize].inc_by(bytes as u64);
    }

    /// An object came: so many bytes.
    pub fn received_bytes(&self, transport: Transport, bytes: usize) {
        self.received_bytes[transport as usize].inc_by(bytes as u64);
    }

    /// A WebSocket ended with this close code, or without one.
    pub fn closed(&self, code: Option<u16>) {
        let known = code.map_or(Some("none"), |code| CLOSE_CODES.into_iter().find(|known| known.parse() == Ok(code)));
        self.closes.add(known.unwrap_or("other"), 1);
    }

    /// A verification event of ours (`out`) or of the partner's (`in`) ended so.
    pub fn verification(&self, direction: &'static str, outcome: &'static str) {
        self.count_verification(direction, outcome, 1);
    }

    fn count_verification(&self, direction: &'static str, outcome: &'static str, count: u64) {
        let labels =
            vec![("peer", self.name.to_string()), ("direction", direction.to_owned()), ("outcome", outcome.to_owned())];
        let counter = self.verification_family.get_or_create_owned(&labels);
        counter.inc_by(count);
        let mut made = self.verifications.lock().unwrap_or_else(PoisonError::into_inner);
        if !made.iter().any(|(known, _)| *known == labels) {
            made.push((labels, counter));
        }
    }

    /// The partner's keys were read, or could not be.
    pub fn fetched_keys(&self, well: bool) {
        self.jwks_fetches.add(outcome(well), 1);
    }

    /// Sets what is asked for when somebody scrapes. Figures that were not told in time stay as they were.
    pub fn set_gauges(&self, gauges: &Gauges) {
        let families = &self.metrics.0.families;
        let own = vec![("peer", self.name.to_string())];
        let set = |family: &super::families::GaugeFamily, value: f64| {
            family.get_or_create(&own).set(value);
        };
        set(&families.responsive, f64::from(u8::from(gauges.figures.is_some())));
        if let Some(figures) = &gauges.figures {
            set(&families.queue, figures.queued as f64);
            set(&families.oldest, figures.oldest.as_secs_f64());
            set(&families.in_flight, figures.in_flight as f64);
            set(&families.pending_acks, figures.owed as f64);
            set(&families.dead_letters, figures.dead_letters as f64);
        }
        set(&families.connected, gauges.connected_at);
        set(&families.last_ack, gauges.last_ack_at);
        set(&families.sockets, gauges.sockets as f64);
        if let Some(age) = gauges.jwks_age {
            set(&families.jwks_age, age.as_secs_f64());
        }
        for (direction, current) in ["out", "in"].into_iter().zip(gauges.state) {
            for state in STATES {
                let labels = self.state_labels(direction, state);
                families.state.get_or_create(&labels).set(f64::from(u8::from(state == current)));
            }
        }
    }

    fn state_labels(&self, direction: &str, state: &str) -> Labels {
        vec![("peer", self.name.to_string()), ("direction", direction.to_owned()), ("state", state.to_owned())]
    }

    pub(super) fn remove_from(&self, families: &Families) {
        let own = vec![("peer", self.name.to_string())];
        for family in [&families.acked, &families.duplicate, &families.reconnects] {
            family.remove(&own);
        }
        for family in [&families.delivery, &families.ack_latency, &families.receive] {
            family.remove(&own);
        }
        for family in families.plain_gauges() {
            family.remove(&own);
        }
        for split in [
            &self.accepted,
            &self.rejected,
            &self.received,
            &self.invalid,
            &self.dead,
            &self.retries,
            &self.closes,
            &self.jwks_fetches,
        ] {
            split.remove();
        }
        for transport in [Transport::Http, Transport::Websocket] {
            let labels = vec![("peer", self.name.to_string()), ("transport", transport.as_str().to_owned())];
            for family in [&families.sent, &families.sent_bytes, &families.received_bytes] {
                family.remove(&labels);
            }
        }
        for (labels, _) in self.verifications.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            families.verifications.remove(labels);
        }
        for direction in ["out", "in"] {
            for state in STATES {
                families.state.remove(&self.state_labels(direction, state));
            }
        }
    }
}

impl Drop for PeerMetrics {
    fn drop(&mut self) {
        let metrics = self.metrics.clone();
        metrics.forget(self);
    }
}

/// Security Event Token Error Codes; what a partner invents beside them is `other`.
const CODES: [&str; 8] = [
    "invalid_request",
    "invalid_key",
    "invalid_issuer",
    "invalid_audience",
    "authentication_failed",
    "access_denied",
    "invalid_state",
    "other",
];

/// Close codes of RFC 6455 that either side can mean.
const CLOSE_CODES: [&str; 12] =
    ["1000", "1001", "1002", "1003", "1005", "1006", "1007", "1008", "1009", "1011", "1012", "1013"];

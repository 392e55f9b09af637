//! What is counted of one peer. The numbers stand in it, next to each other: counting finds them without a look-up, and a
//! partner that says nothing costs about a kilobyte.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::count::{Count, Histogram, Sparse, Split, Spread};
use super::families::{LONG, USUAL};
use super::peers::{Peers, Series};
use super::{OUTCOMES, outcome};

/// By what Communication Objects travel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// Push-pull in HTTP requests and their answers.
    Http,
    /// Push-pull on a WebSocket.
    Websocket,
    /// One SET a request (RFC 8935).
    Push,
    /// Many SETs a request, verdicts in the answers (multi-set push).
    MultiPush,
    /// SETs in the answers to polls, verdicts in the polls (RFC 8936).
    Poll,
}

/// The states of a link, as `peer_state` names them.
pub const STATES: [&str; 4] = ["up", "connecting", "down", "paused"];

/// The counters of one peer.
#[derive(Debug)]
pub struct PeerMetrics {
    name: Arc<str>,
    peers: Arc<Peers>,
    /// By event type.
    pub accepted: Sparse,
    /// Acknowledged by the partner.
    pub acked: Count,
    /// By the code of the partner's setErr.
    pub rejected: Split<8>,
    /// By event type.
    pub received: Sparse,
    /// By the code of our setErr.
    pub invalid: Split<8>,
    /// Answered again.
    pub duplicate: Count,
    /// By cause.
    pub dead: Split<2>,
    /// By what had become of them before.
    pub retries: Split<3>,
    /// WebSockets that we opened after the first.
    pub reconnects: Count,
    pub(super) closes: Split<14>,
    pub(super) sent: [Count; TRANSPORTS],
    pub(super) sent_bytes: [Count; TRANSPORTS],
    pub(super) received_bytes: [Count; TRANSPORTS],
    verifications: [Count; 4],
    pub(super) jwks_fetches: Split<2>,
    /// From acceptance to ack.
    pub delivery: Histogram<13>,
    /// From transmission to verdict.
    pub ack_latency: Histogram<12>,
    /// From arrival to durable verdicts.
    pub receive: Histogram<12>,
    /// Nobody may ever scrape.
    shown: Mutex<Option<Box<Shown>>>,
}

/// What somebody who scraped was told last.
#[derive(Clone, Debug)]
struct Shown {
    /// With what was told before in place of what was not told in time.
    gauges: Gauges,
    responsive: bool,
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

/// How many there are.
const TRANSPORTS: usize = 5;

impl Transport {
    const ALL: [Self; TRANSPORTS] = [Self::Http, Self::Websocket, Self::Push, Self::MultiPush, Self::Poll];

    /// As labels and log lines have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Websocket => "websocket",
            Self::Push => "push",
            Self::MultiPush => "multi-push",
            Self::Poll => "poll",
        }
    }
}

impl PeerMetrics {
    pub(super) fn new(name: Arc<str>, peers: Arc<Peers>) -> Self {
        Self {
            name,
            peers,
            accepted: Sparse::default(),
            acked: Count::default(),
            rejected: Split::new(&CODES, CODES.len()),
            received: Sparse::default(),
            // We have no codes of our own.
            invalid: Split::new(&CODES, CODES.len() - 1),
            duplicate: Count::default(),
            dead: Split::new(&["attempts", "age"], 2),
            retries: Split::new(&["no_answer", "lost", "batch_refused"], 3),
            reconnects: Count::default(),
            closes: Split::new(&CLOSE_CODES, 3),
            sent: Default::default(),
            sent_bytes: Default::default(),
            received_bytes: Default::default(),
            verifications: Default::default(),
            jwks_fetches: Split::new(&OUTCOMES, 2),
            delivery: Histogram::new(&LONG),
            ack_latency: Histogram::new(&USUAL),
            receive: Histogram::new(&USUAL),
            shown: Mutex::default(),
        }
    }

    /// An object left: so many SETs and bytes.
    pub fn sent(&self, transport: Transport, sets: usize, bytes: usize) {
        self.sent[transport as usize].add(sets as u64);
        self.sent_bytes[transport as usize].add(bytes as u64);
    }

    /// An object came: so many bytes.
    pub fn received_bytes(&self, transport: Transport, bytes: usize) {
        self.received_bytes[transport as usize].add(bytes as u64);
    }

    /// A WebSocket ended with this close code, or without one.
    pub fn closed(&self, code: Option<u16>) {
        let known = code.map_or(Some("none"), |code| CLOSE_CODES.into_iter().find(|known| known.parse() == Ok(code)));
        self.closes.add(known.unwrap_or("other"), 1);
    }

    /// A verification event of ours (`out`) or of the partner's (`in`) ended so.
    pub fn verification(&self, direction: &'static str, outcome: &'static str) {
        let counted = VERIFICATIONS.iter().zip(&self.verifications).find(|(known, _)| **known == (direction, outcome));
        debug_assert!(counted.is_some(), "{direction} {outcome}");
        if let Some((_, count)) = counted {
            count.add(1);
        }
    }

    /// The partner's keys were read, or could not be.
    pub fn fetched_keys(&self, well: bool) {
        self.jwks_fetches.add(outcome(well), 1);
    }

    /// Sets what is asked for when somebody scrapes. Figures that were not told in time stay as they were.
    pub fn set_gauges(&self, gauges: &Gauges) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let before = shown.take().map(|before| before.gauges).unwrap_or_default();
        let figures = gauges.figures.or(before.figures);
        let jwks_age = gauges.jwks_age.or(before.jwks_age);
        let responsive = gauges.figures.is_some();
        *shown = Some(Box::new(Shown { gauges: Gauges { figures, jwks_age, ..gauges.clone() }, responsive }));
    }

    /// A counter with no further label.
    pub(super) fn tell_count(&self, count: &Count, series: &mut dyn Series) -> fmt::Result {
        series.counter(&[("peer", &self.name)], count.get())
    }

    /// A counter with one further label.
    pub(super) fn tell_counts(
        &self,
        label: &str,
        counts: impl IntoIterator<Item = (&'static str, u64)>,
        series: &mut dyn Series,
    ) -> fmt::Result {
        let mut counts = counts.into_iter();
        counts.try_for_each(|(word, count)| series.counter(&[("peer", &self.name), (label, word)], count))
    }

    pub(super) fn tell_by_transport(&self, counts: &[Count; TRANSPORTS], series: &mut dyn Series) -> fmt::Result {
        let of = |transport: Transport| (transport.as_str(), counts[transport as usize].get());
        // Most partners never use the others, and a peer's series are told for each of thousands of peers.
        let told = |(word, count): &(&str, u64)| *count > 0 || matches!(*word, "http" | "websocket");
        self.tell_counts("transport", Transport::ALL.map(of).into_iter().filter(told), series)
    }

    pub(super) fn tell_verifications(&self, series: &mut dyn Series) -> fmt::Result {
        VERIFICATIONS.iter().zip(&self.verifications).try_for_each(|((direction, outcome), count)| {
            series.counter(&[("peer", &self.name), ("direction", direction), ("outcome", outcome)], count.get())
        })
    }

    pub(super) fn tell_spread(&self, spread: Spread, series: &mut dyn Series) -> fmt::Result {
        series.histogram(&[("peer", &self.name)], spread)
    }

    /// A gauge, once somebody has scraped and the figure was told.
    pub(super) fn tell_gauge(&self, figure: fn(&Gauges) -> Option<f64>, series: &mut dyn Series) -> fmt::Result {
        let value = self.shown(|shown| figure(&shown.gauges)).flatten();
        value.map_or(Ok(()), |value| series.gauge(&[("peer", &self.name)], value))
    }

    pub(super) fn tell_responsive(&self, series: &mut dyn Series) -> fmt::Result {
        let value = self.shown(|shown| f64::from(u8::from(shown.responsive)));
        value.map_or(Ok(()), |value| series.gauge(&[("peer", &self.name)], value))
    }

    pub(super) fn tell_state(&self, series: &mut dyn Series) -> fmt::Result {
        let Some(current) = self.shown(|shown| shown.gauges.state) else { return Ok(()) };
        for (direction, current) in ["out", "in"].into_iter().zip(current) {
            for state in STATES {
                let labels = [("peer", &*self.name), ("direction", direction), ("state", state)];
                series.gauge(&labels, f64::from(u8::from(state == current)))?;
            }
        }
        Ok(())
    }

    fn shown<T>(&self, read: impl FnOnce(&Shown) -> T) -> Option<T> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).as_deref().map(read)
    }
}

impl Drop for PeerMetrics {
    fn drop(&mut self) {
        self.peers.forget(&self.name);
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

/// Close codes of RFC 6455 that either side can mean, and what stands for there being none, or another.
const CLOSE_CODES: [&str; 14] =
    ["none", "1000", "1001", "1002", "1003", "1005", "1006", "1007", "1008", "1009", "1011", "1012", "1013", "other"];

/// Directions and outcomes of verification events.
const VERIFICATIONS: [(&str, &str); 4] = [("out", "acked"), ("out", "refused"), ("out", "timed_out"), ("in", "acked")];

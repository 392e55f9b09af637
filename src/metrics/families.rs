//! Every metric with its name, its type and what it means. `docs/operations.md` has the same table, and a test compares.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Names are fixed, values bounded: see the module's page.
pub(super) type Labels = Vec<(&'static str, String)>;
pub(super) type Counters = Family<Labels, Counter>;
pub(super) type FloatGauge = Gauge<f64, AtomicU64>;
pub(super) type GaugeFamily = Family<Labels, FloatGauge>;
pub(super) type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

pub(super) struct Families {
    pub(super) accepted: Counters,
    pub(super) sent: Counters,
    pub(super) acked: Counters,
    pub(super) rejected: Counters,
    pub(super) received: Counters,
    pub(super) invalid: Counters,
    pub(super) duplicate: Counters,
    pub(super) dead: Counters,
    pub(super) retries: Counters,
    pub(super) sent_bytes: Counters,
    pub(super) received_bytes: Counters,
    pub(super) reconnects: Counters,
    pub(super) closes: Counters,
    pub(super) verifications: Counters,
    pub(super) jwks_fetches: Counters,
    pub(super) reloads: Counters,
    pub(super) delivery: Histograms,
    pub(super) ack_latency: Histograms,
    pub(super) receive: Histograms,
    pub(super) sign: Histograms,
    pub(super) verify: Histogram,
    pub(super) commit: Histogram,
    pub(super) batch: Histogram,
    pub(super) http: Histograms,
    pub(super) queue: GaugeFamily,
    pub(super) oldest: GaugeFamily,
    pub(super) in_flight: GaugeFamily,
    pub(super) pending_acks: GaugeFamily,
    pub(super) dead_letters: GaugeFamily,
    pub(super) state: GaugeFamily,
    pub(super) connected: GaugeFamily,
    pub(super) last_ack: GaugeFamily,
    pub(super) sockets: GaugeFamily,
    pub(super) jwks_age: GaugeFamily,
    pub(super) responsive: GaugeFamily,
    pub(super) cert_expiry: GaugeFamily,
    pub(super) inbox: FloatGauge,
}

impl Families {
    /// Gives every family its name. Neither the `_total` of a counter nor the full stop of a text stands here: both are
    /// added when they are written.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let build = GaugeFamily::default();
        build.get_or_create(&vec![("version", env!("CARGO_PKG_VERSION").to_owned())]).set(1.0);
        registry.register("pushpull_build_info", "The program that runs; always 1", build);
        let mut counter = |name: &str, help: &str| {
            let family = Counters::default();
            registry.register(format!("pushpull_{name}"), help, family.clone());
            family
        };
        let accepted = counter("sets_accepted", "SETs durably accepted for sending");
        let sent = counter("sets_sent", "SETs that left, each transmission counted");
        let acked = counter("sets_acked", "SETs that the partner acknowledged");
        let rejected = counter("sets_rejected", "SETs that the partner refused, by its setErr");
        let received = counter("sets_received", "Valid SETs put into the inbox");
        let invalid = counter("sets_invalid", "Received SETs that we refused, by our setErr");
        let duplicate =
            counter("sets_duplicate", "Received SETs that had been answered before and were answered again");
        let dead = counter("sets_dead", "SETs given up without an answer");
        let retries = counter("retries", "SETs that left again, by what had become of them before");
        let sent_bytes = counter("sent_bytes", "Bytes of Communication Objects sent");
        let received_bytes = counter("received_bytes", "Bytes of Communication Objects received");
        let reconnects = counter("ws_reconnects", "WebSocket connections that we opened after the first");
        let closes = counter("ws_closes", "WebSocket connections that ended, by their close code");
        let verifications = counter("verifications", "Verification events, by how they ended");
        let jwks_fetches = counter("jwks_fetches", "Attempts to read the partner's keys");
        let reloads = counter("config_reloads", "Times the configuration was read again");
        for well in [true, false] {
            reloads.get_or_create_owned(&vec![("outcome", super::outcome(well).to_owned())]);
        }
        let mut histogram = |name: &str, help: &str, make: fn() -> Histogram| {
            let family = Histograms::new_with_constructor(make);
            registry.register(format!("pushpull_{name}"), help, family.clone());
            family
        };
        let delivery = histogram("delivery_duration_seconds", "From the acceptance of a SET to its ack", long);
        let ack_latency = histogram("ack_latency_seconds", "From the last transmission of a SET to its verdict", usual);
        let receive =
            histogram("receive_duration_seconds", "From the arrival of an object to its durable verdicts", usual);
        let sign = histogram("sign_duration_seconds", "Time to sign one SET", short);
        let http = histogram("http_request_duration_seconds", "Time to answer a request, on both listeners", usual);
        let mut single = |name: &str, help: &str, histogram: Histogram| {
            registry.register(format!("pushpull_{name}"), help, histogram.clone());
            histogram
        };
        let verify = single("verify_duration_seconds", "Time to check one received SET", short());
        let commit = single("store_commit_duration_seconds", "Time of one transaction, its sync included", usual());
        let batch = single("store_batch_sets", "Writes in one transaction", sizes());
        let mut gauge = |name: &str, help: &str| {
            let family = GaugeFamily::default();
            registry.register(format!("pushpull_{name}"), help, family.clone());
            family
        };
        let queue = gauge("queue_sets", "SETs accepted and not settled");
        let oldest = gauge("queue_oldest_age_seconds", "Age of the oldest SET that is not settled; 0 without one");
        let in_flight = gauge("in_flight_sets", "SETs sent and within their time for an answer");
        let pending_acks = gauge("pending_acks", "Verdicts on received SETs that wait to leave");
        let dead_letters = gauge("dead_letters", "SETs kept as dead letters: refused by the partner, or given up");
        let state = gauge("peer_state", "1 for the state that the link is in");
        let connected = gauge("peer_connected_timestamp_seconds", "Since when the link is up; 0 while it is not");
        let last_ack = gauge("peer_last_ack_timestamp_seconds", "When the last ack came; 0 before the first");
        let sockets = gauge("ws_connections", "Open WebSocket connections, whoever dialled");
        let jwks_age = gauge("jwks_age_seconds", "Age of the partner's keys that we hold");
        let responsive = gauge("peer_scraped", "0 if the peer was too busy to tell its figures: those shown are older");
        let cert_expiry = gauge("cert_expiry_timestamp_seconds", "When a certificate of ours expires");
        let inbox = FloatGauge::default();
        let help = "Received SETs kept and not yet confirmed by every consumer";
        registry.register("pushpull_inbox_sets", help, inbox.clone());
        Self {
            accepted,
            sent,
            acked,
            rejected,
            received,
            invalid,
            duplicate,
            dead,
            retries,
            sent_bytes,
            received_bytes,
            reconnects,
            closes,
            verifications,
            jwks_fetches,
            reloads,
            delivery,
            ack_latency,
            receive,
            sign,
            verify,
            commit,
            batch,
            http,
            queue,
            oldest,
            in_flight,
            pending_acks,
            dead_letters,
            state,
            connected,
            last_ack,
            sockets,
            jwks_age,
            responsive,
            cert_expiry,
            inbox,
        }
    }

    /// Those with the label `peer` and no other, that are set when somebody scrapes.
    pub(super) fn plain_gauges(&self) -> [&GaugeFamily; 10] {
        [
            &self.queue,
            &self.oldest,
            &self.in_flight,
            &self.pending_acks,
            &self.dead_letters,
            &self.connected,
            &self.last_ack,
            &self.sockets,
            &self.jwks_age,
            &self.responsive,
        ]
    }
}

/// What usually takes milliseconds.
fn usual() -> Histogram {
    Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0])
}

/// What takes milliseconds when all is well, and hours when a partner is away.
fn long() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3_600.0, 86_400.0])
}

/// Cryptography.
fn short() -> Histogram {
    Histogram::new([0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.05])
}

fn sizes() -> Histogram {
    Histogram::new([1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0])
}

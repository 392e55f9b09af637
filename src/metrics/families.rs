//! Every metric with its name, its type and what it means. `docs/operations.md` has the same table, and a test compares.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram;
use prometheus_client::registry::Registry;

use super::count::Histogram;
use super::peer::{Figures, Gauges, PeerMetrics};
use super::peers::{OfPeers, Peers, Series, Tell, Told};

/// Names are fixed, values bounded: see the module's page. For what is counted now and then; what is counted for each SET
/// or peer stands in a place of its own, since a look-up by labels costs more than all the rest.
pub(super) type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type FloatGauge = Gauge<f64, AtomicU64>;
type GaugeFamily = Family<Labels, FloatGauge>;

pub(super) struct Families {
    pub(super) peers: Arc<Peers>,
    pub(super) whole: Arc<Whole>,
    pub(super) reloads: Counters,
    pub(super) http: Family<Labels, histogram::Histogram, fn() -> histogram::Histogram>,
    pub(super) cert_expiry: GaugeFamily,
    pub(super) inbox: FloatGauge,
    pub(super) disk_full: FloatGauge,
}

/// What is measured of the process as a whole, for each SET or transaction.
pub(super) struct Whole {
    pub(super) verify: Histogram<10>,
    pub(super) commit: Histogram<12>,
    pub(super) batch: Histogram<8>,
    sign: RwLock<Vec<(&'static str, Histogram<10>)>>,
}

impl Whole {
    fn new() -> Self {
        Self {
            verify: Histogram::new(&SHORT),
            commit: Histogram::new(&USUAL),
            batch: Histogram::new(&SIZES),
            sign: RwLock::default(),
        }
    }

    /// A SET was signed by this algorithm. There are a few, so that looking through them is the fastest.
    pub(super) fn signed(&self, algorithm: &'static str, seconds: f64) {
        let observe = |made: &[(&'static str, Histogram<10>)]| {
            let known = made.iter().find(|(known, _)| *known == algorithm);
            known.map(|(_, histogram)| histogram.observe(seconds))
        };
        if observe(&self.sign.read().unwrap_or_else(PoisonError::into_inner)).is_some() {
            return;
        }
        let mut made = self.sign.write().unwrap_or_else(PoisonError::into_inner);
        if observe(&made).is_none() {
            made.push((algorithm, Histogram::new(&SHORT)));
            observe(&made);
        }
    }

    fn tell_sign(&self, series: &mut dyn Series) -> fmt::Result {
        let made = self.sign.read().unwrap_or_else(PoisonError::into_inner);
        made.iter().try_for_each(|(algorithm, histogram)| series.histogram(&[("alg", algorithm)], histogram.read()))
    }
}

/// Gives families their names. Neither the `_total` of a counter nor the full stop of a text stands here: both are added
/// when they are written.
struct Naming<'a> {
    registry: &'a mut Registry,
    peers: Arc<Peers>,
    whole: Arc<Whole>,
}

impl Naming<'_> {
    fn counter(&mut self, name: &str, help: &str, tell: Tell<PeerMetrics>) {
        self.of_peers(MetricType::Counter, name, help, tell);
    }

    fn spread(&mut self, name: &str, help: &str, tell: Tell<PeerMetrics>) {
        self.of_peers(MetricType::Histogram, name, help, tell);
    }

    fn gauge(&mut self, name: &str, help: &str, tell: Tell<PeerMetrics>) {
        self.of_peers(MetricType::Gauge, name, help, tell);
    }

    fn of_peers(&mut self, kind: MetricType, name: &str, help: &str, tell: Tell<PeerMetrics>) {
        let family = OfPeers { peers: Arc::clone(&self.peers), kind, tell };
        self.registry.register(format!("pushpull_{name}"), help, family);
    }

    fn of_whole(&mut self, name: &str, help: &str, tell: Tell<Whole>) {
        let family = Told { held: Arc::clone(&self.whole), kind: MetricType::Histogram, tell };
        self.registry.register(format!("pushpull_{name}"), help, family);
    }

    fn counters(&mut self) {
        self.counter("sets_accepted", "SETs durably accepted for sending", |peer, out| {
            peer.tell_counts("event_type", peer.accepted.read(), out)
        });
        self.counter("sets_sent", "SETs that left, each transmission counted", |peer, out| {
            peer.tell_by_transport(&peer.sent, out)
        });
        self.counter("sets_acked", "SETs that the partner acknowledged", |peer, out| peer.tell_count(&peer.acked, out));
        self.counter("sets_rejected", "SETs that the partner refused, by its setErr", |peer, out| {
            peer.tell_counts("code", peer.rejected.read(), out)
        });
        self.counter("sets_received", "Valid SETs put into the inbox", |peer, out| {
            peer.tell_counts("event_type", peer.received.read(), out)
        });
        self.counter("sets_invalid", "Received SETs that we refused, by our setErr", |peer, out| {
            peer.tell_counts("code", peer.invalid.read(), out)
        });
        let help = "Received SETs that had been answered before and were answered again";
        self.counter("sets_duplicate", help, |peer, out| peer.tell_count(&peer.duplicate, out));
        self.counter("sets_dead", "SETs given up without an answer", |peer, out| {
            peer.tell_counts("code", peer.dead.read(), out)
        });
        self.counter("retries", "SETs that left again, by what had become of them before", |peer, out| {
            peer.tell_counts("reason", peer.retries.read(), out)
        });
        self.counter("sent_bytes", "Bytes of Communication Objects sent", |peer, out| {
            peer.tell_by_transport(&peer.sent_bytes, out)
        });
        self.counter("received_bytes", "Bytes of Communication Objects received", |peer, out| {
            peer.tell_by_transport(&peer.received_bytes, out)
        });
        self.counter("ws_reconnects", "WebSocket connections that we opened after the first", |peer, out| {
            peer.tell_count(&peer.reconnects, out)
        });
        self.counter("ws_closes", "WebSocket connections that ended, by their close code", |peer, out| {
            peer.tell_counts("code", peer.closes.read(), out)
        });
        self.counter("verifications", "Verification events, by how they ended", PeerMetrics::tell_verifications);
        self.counter("jwks_fetches", "Attempts to read the partner's keys", |peer, out| {
            peer.tell_counts("outcome", peer.jwks_fetches.read(), out)
        });
    }

    fn spreads(&mut self) {
        self.spread("delivery_duration_seconds", "From the acceptance of a SET to its ack", |peer, out| {
            peer.tell_spread(peer.delivery.read(), out)
        });
        self.spread("ack_latency_seconds", "From the last transmission of a SET to its verdict", |peer, out| {
            peer.tell_spread(peer.ack_latency.read(), out)
        });
        let help = "From the arrival of an object to its durable verdicts";
        self.spread("receive_duration_seconds", help, |peer, out| peer.tell_spread(peer.receive.read(), out));
        self.of_whole("sign_duration_seconds", "Time to sign one SET", Whole::tell_sign);
    }

    fn single_spreads(&mut self) {
        self.of_whole("verify_duration_seconds", "Time to check one received SET", |whole, out| {
            out.histogram(&[], whole.verify.read())
        });
        self.of_whole("store_commit_duration_seconds", "Time of one transaction, its sync included", |whole, out| {
            out.histogram(&[], whole.commit.read())
        });
        self.of_whole("store_batch_sets", "Writes in one transaction", |whole, out| {
            out.histogram(&[], whole.batch.read())
        });
    }

    fn gauges(&mut self) {
        self.gauge("queue_sets", "SETs accepted and not settled", |peer, out| {
            peer.tell_gauge(|gauges| figure(gauges, |figures| figures.queued as f64), out)
        });
        let help = "Age of the oldest SET that is not settled; 0 without one";
        self.gauge("queue_oldest_age_seconds", help, |peer, out| {
            peer.tell_gauge(|gauges| figure(gauges, |figures| figures.oldest.as_secs_f64()), out)
        });
        self.gauge("in_flight_sets", "SETs sent and within their time for an answer", |peer, out| {
            peer.tell_gauge(|gauges| figure(gauges, |figures| figures.in_flight as f64), out)
        });
        self.gauge("pending_acks", "Verdicts on received SETs that wait to leave", |peer, out| {
            peer.tell_gauge(|gauges| figure(gauges, |figures| figures.owed as f64), out)
        });
        let help = "SETs kept as dead letters: refused by the partner, or given up";
        self.gauge("dead_letters", help, |peer, out| {
            peer.tell_gauge(|gauges| figure(gauges, |figures| figures.dead_letters as f64), out)
        });
        self.gauge("peer_state", "1 for the state that the link is in", PeerMetrics::tell_state);
        let help = "Since when the link is up; 0 while it is not";
        self.gauge("peer_connected_timestamp_seconds", help, |peer, out| {
            peer.tell_gauge(|gauges| Some(gauges.connected_at), out)
        });
        self.gauge("peer_last_ack_timestamp_seconds", "When the last ack came; 0 before the first", |peer, out| {
            peer.tell_gauge(|gauges| Some(gauges.last_ack_at), out)
        });
        self.gauge("ws_connections", "Open WebSocket connections, whoever dialled", |peer, out| {
            peer.tell_gauge(|gauges| Some(gauges.sockets as f64), out)
        });
        self.gauge("jwks_age_seconds", "Age of the partner's keys that we hold", |peer, out| {
            peer.tell_gauge(|gauges| gauges.jwks_age.map(|age| age.as_secs_f64()), out)
        });
        let help = "0 if the peer was too busy to tell its figures, or the disk too full: those shown are older";
        self.gauge("peer_scraped", help, PeerMetrics::tell_responsive);
    }
}

fn figure(gauges: &Gauges, read: fn(&Figures) -> f64) -> Option<f64> {
    gauges.figures.as_ref().map(read)
}

impl Families {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let build = GaugeFamily::default();
        build.get_or_create(&vec![("version", env!("CARGO_PKG_VERSION").to_owned())]).set(1.0);
        registry.register("pushpull_build_info", "The program that runs; always 1", build);
        let (peers, whole) = (Arc::new(Peers::default()), Arc::new(Whole::new()));
        let mut naming = Naming { registry, peers: Arc::clone(&peers), whole: Arc::clone(&whole) };
        naming.counters();
        let reloads = Counters::default();
        for well in [true, false] {
            reloads.get_or_create_owned(&vec![("outcome", super::outcome(well).to_owned())]);
        }
        let help = "Times the configuration was read again";
        naming.registry.register("pushpull_config_reloads", help, reloads.clone());
        naming.spreads();
        let make: fn() -> histogram::Histogram = || histogram::Histogram::new(USUAL);
        let http = Family::new_with_constructor(make);
        let help = "Time to answer a request, on both listeners";
        naming.registry.register("pushpull_http_request_duration_seconds", help, http.clone());
        naming.single_spreads();
        naming.gauges();
        let cert_expiry = GaugeFamily::default();
        let [inbox, disk_full] = std::array::from_fn(|_| FloatGauge::default());
        let help = "When a certificate of ours expires";
        registry.register("pushpull_cert_expiry_timestamp_seconds", help, cert_expiry.clone());
        let help = "Received SETs kept and not yet confirmed by every consumer, without those known to be damaged";
        registry.register("pushpull_inbox_sets", help, inbox.clone());
        let help = "1 while the disk is full: nothing is accepted or answered, and nothing is lost";
        registry.register("pushpull_store_disk_full", help, disk_full.clone());
        Self { peers, whole, reloads, http, cert_expiry, inbox, disk_full }
    }
}

/// What usually takes milliseconds.
pub(super) static USUAL: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// What takes milliseconds when all is well, and hours when a partner is away.
pub(super) static LONG: [f64; 13] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3_600.0, 86_400.0];

/// Cryptography.
static SHORT: [f64; 10] = [0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.05];

static SIZES: [f64; 8] = [1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0];

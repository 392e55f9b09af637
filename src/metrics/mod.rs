//! What the program counts and measures, for Prometheus: made once, handed to whoever has something to count.
//!
//! There is no global. Without anybody who scrapes, it costs an atomic addition here and there. Label values are words of
//! this program (`&'static str`) or the names that the operator gave to peers, so that no partner can make a series:
//! never a jti, a kid, a subject, a URL, or a code of a partner's own. Counters begin at zero with the process.

mod count;
mod families;
mod peer;
mod peers;
mod process;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding;
use prometheus_client::registry::Registry;

pub use count::{Count, Histogram, Sparse, Split};
use families::Families;
pub use peer::{Figures, Gauges, PeerMetrics, STATES, Transport};

/// The text formats of an exposition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The older text format of Prometheus, 0.0.4.
    Prometheus,
}

/// Everything that is counted in one process. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    families: Families,
}

impl Format {
    /// What an `Accept` header asks for. Whoever does not name OpenMetrics gets the older format.
    pub fn wanted(accept: &str) -> Self {
        let named =
            |part: &str| part.split(';').next().is_some_and(|media| media.trim() == "application/openmetrics-text");
        if accept.split(',').any(named) { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The media type of an exposition.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let families = Families::register(&mut registry);
        registry.register_collector(Box::new(process::Process));
        Self(Arc::new(Inner { registry, families }))
    }

    /// What is counted of one peer. Its series are there from now on, so that the first event is a step from zero, and
    /// until the last handle is dropped.
    pub fn peer(&self, name: &str) -> Arc<PeerMetrics> {
        self.0.families.peers.of(name)
    }

    /// A transaction of the store was made durable, or failed: how long it took, and about how many writes were in it.
    pub fn committed(&self, took: Duration, writes: usize) {
        self.0.families.whole.commit.observe(took.as_secs_f64());
        self.0.families.whole.batch.observe(writes as f64);
    }

    /// A SET was signed.
    pub fn signed(&self, algorithm: &'static str, took: Duration) {
        self.0.families.whole.signed(algorithm, took.as_secs_f64());
    }

    /// A received SET was verified, or refused.
    pub fn verified(&self, took: Duration) {
        self.0.families.whole.verify.observe(took.as_secs_f64());
    }

    /// A request was answered. The route is one of ours, however the path was written.
    pub fn answered(&self, route: &str, method: &str, status: u16, took: Duration) {
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or("other");
        let labels = vec![("route", route.to_owned()), ("method", method.to_owned()), ("status", status.to_string())];
        self.0.families.http.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// The configuration was read again, well or badly.
    pub fn reloaded(&self, well: bool) {
        let reload = &self.0.families.reloads;
        reload.get_or_create(&vec![("outcome", outcome(well).to_owned())]).inc();
    }

    /// When our own certificate expires, in seconds since 1970.
    pub fn certificate_expires(&self, at: f64) {
        self.0.families.cert_expiry.get_or_create(&vec![("use", "server".to_owned())]).set(at);
    }

    /// Received SETs that are kept and not yet confirmed by every consumer.
    pub fn inbox(&self, rows: u64) {
        self.0.families.inbox.set(rows as f64);
    }

    /// Whether nothing can be written until there is room on the disk again.
    pub fn disk_full(&self, is_full: bool) {
        self.0.families.disk_full.set(f64::from(u8::from(is_full)));
    }

    /// The exposition.
    ///
    /// # Errors
    ///
    /// If a metric cannot be written, which writing to memory does not bring about.
    pub fn expose(&self, format: Format) -> Result<String, fmt::Error> {
        let mut text = String::new();
        match format {
            Format::OpenMetrics => encoding::text::encode(&mut text, &self.0.registry)?,
            Format::Prometheus => encoding::prometheus_text::encode(&mut text, &self.0.registry)?,
        }
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// The word for how something went.
fn outcome(well: bool) -> &'static str {
    let [ok, failed] = OUTCOMES;
    if well { ok } else { failed }
}

const OUTCOMES: [&str; 2] = ["ok", "failed"];

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

#[cfg(test)]
mod tests;

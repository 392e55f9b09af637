//! What somebody who scrapes is told: the counters as they stand, and what has to be asked for.

use super::Transceiver;
use super::status::{LinkState, PeerStatus};
use crate::clock::Wall;
use crate::metrics::{Figures, Format, Gauges, Metrics};

impl Transceiver {
    /// Where is counted what happens.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// An exposition for Prometheus. A peer that is too busy to tell its figures holds it up for a second at most, and
    /// then its last ones stand.
    pub async fn expose(&self, format: Format) -> Result<String, std::fmt::Error> {
        for (entry, status) in self.0.entries().iter().zip(self.peers().await) {
            // Both are in the order of names, and yet a peer may have come or gone in between.
            if entry.partner.name == status.name {
                entry.partner.metrics.set_gauges(&gauges(&status));
            }
        }
        let metrics = self.0.metrics.clone();
        metrics.inbox(self.0.journal.inbox_len());
        metrics.disk_full(self.disk_is_full());
        let writing = tokio::task::spawn_blocking(move || metrics.expose(format));
        writing.await.unwrap_or(Err(std::fmt::Error))
    }
}

fn gauges(status: &PeerStatus) -> Gauges {
    let seconds = |at: Option<Wall>| at.map_or(0.0, |at| at.0 as f64 / 1e3);
    let figures = (!status.busy).then(|| Figures {
        queued: status.queued,
        oldest: status.oldest.unwrap_or_default(),
        in_flight: status.in_flight,
        owed: status.owed,
        dead_letters: status.dead_letters,
    });
    Gauges {
        figures,
        state: [status.link.as_str(), status.link_in().as_str()],
        connected_at: if status.link_in() == LinkState::Up { seconds(status.since) } else { 0.0 },
        last_ack_at: seconds(status.last.ack_at),
        sockets: status.sockets,
        jwks_age: status.keys.age,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::set::events::Filter;
    use crate::set::{Algorithm, SigningKey};
    use crate::store::{Options, Sqlite};
    use crate::transceiver::{Event, KeySource, PeerConfig};

    fn peer(name: &str, keys: &std::path::Path) -> PeerConfig {
        PeerConfig {
            name: name.to_owned(),
            issuer: format!("https://{name}.example"),
            keys: KeySource::File(keys.to_owned()),
            audience: None,
            accept_audience: None,
            dial: None,
            collect: None,
            accept_tokens: Vec::new(),
            send: Filter::all(),
            accept: Filter::all(),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_peer_that_is_stuck_holds_up_neither_a_scrape_nor_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("jwks.json");
        let (key, _) = SigningKey::generate(Algorithm::Es256, "k").unwrap();
        std::fs::write(&keys, json!({"keys": []}).to_string()).unwrap();
        let store = Arc::new(Sqlite::open(dir.path().join("db"), Options::default()).unwrap());
        let builder = Transceiver::builder("https://us.example").store(Arc::clone(&store)).signing_key(key);
        let transceiver = builder.start().await.unwrap();
        transceiver.add_peer(peer("stuck", &keys)).await.unwrap();
        transceiver.add_peer(peer("idle", &keys)).await.unwrap();
        let event = || Event::new("caep:session-revoked", json!({"format": "opaque", "id": "1"}));
        for name in ["stuck", "idle"] {
            transceiver.send(name, event()).await.unwrap();
        }
        let (go_on, rest) = std::sync::mpsc::channel::<()>();
        let resting = tokio::spawn(async move {
            let _ = store
                .at_rest(move || {
                    let _ = rest.recv();
                })
                .await;
        });
        let sender = transceiver.clone();
        let sending = tokio::spawn(async move { sender.send("stuck", event()).await.is_ok() });
        let started = tokio::time::Instant::now();
        let text = loop {
            let text = transceiver.expose(Format::Prometheus).await.unwrap();
            if text.contains("pushpull_peer_scraped{peer=\"stuck\"} 0") {
                break text;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "its commit never hung: {text}");
        };
        assert!(text.contains("pushpull_peer_scraped{peer=\"idle\"} 1"), "{text}");
        assert!(text.contains("pushpull_queue_sets{peer=\"idle\"} 1"), "{text}");
        let again = tokio::time::Instant::now();
        transceiver.expose(Format::Prometheus).await.unwrap();
        assert!(again.elapsed() < Duration::from_secs(10), "{:?}", again.elapsed());
        go_on.send(()).unwrap();
        assert!(sending.await.unwrap(), "nothing is lost by it");
        resting.await.unwrap();
        transceiver.shutdown(Duration::ZERO).await;
    }
}

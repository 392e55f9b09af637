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

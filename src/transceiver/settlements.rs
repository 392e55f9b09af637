//! How SETs that we sent end, told as it happens.

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::{SubmitFault, Transceiver};
use crate::engine::Settled;

/// The ends of all SETs sent to one peer.
pub struct Settlements {
    receiver: broadcast::Receiver<Settled>,
}

/// Why there is no next settlement.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfollowed {
    /// The reader was too slow, and missed the ends that came with so many commits. It may read on.
    #[error("too slow: the ends of SETs in {0} commits were missed; what became of one is still to be had by its jti")]
    Missed(u64),
    /// The conversation has ended: the peer was removed, or the Transceiver is shutting down.
    #[error("the conversation with this peer has stopped")]
    Stopped,
}

impl Transceiver {
    /// Tells how every SET for this peer ends, from now on, keeping up to 1,024 commits for a slow reader (about 50 KiB of
    /// memory for each peer that is followed): what was sent after this returned is not missed. For what must be
    /// known of a single SET, whenever it ended, there is [`Transceiver::event`].
    ///
    /// # Errors
    ///
    /// If there is no such peer, or it is not running any more.
    pub async fn settlements(&self, peer: &str) -> Result<Settlements, SubmitFault> {
        let entry = self.0.find(peer)?;
        let receiver = entry.partner.handle().follow().await.map_err(|_| self.0.stopped(&entry))?;
        Ok(Settlements { receiver })
    }
}

impl Settlements {
    /// The SETs that ended with one commit, and how; durable when they are told. Waits for the next.
    ///
    /// Cancel-safe.
    pub async fn next(&mut self) -> Result<Settled, Unfollowed> {
        self.receiver.recv().await.map_err(|error| match error {
            RecvError::Lagged(commits) => Unfollowed::Missed(commits),
            RecvError::Closed => Unfollowed::Stopped,
        })
    }
}

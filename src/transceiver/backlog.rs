//! What waits for a peer, told by the store: a removal rests on it, so it must be true, and no zero for want of an answer.

use super::{SubmitFault, Transceiver};

/// What waits for a peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Backlog {
    /// SETs accepted and not settled.
    pub queued: u64,
    /// The operator has paused sending.
    pub paused: bool,
}

impl Transceiver {
    /// What waits for this peer, with all that was handed to it before. However busy the conversation is, it is waited for.
    pub async fn backlog(&self, peer: &str) -> Result<Backlog, SubmitFault> {
        let entry = self.0.find(peer)?;
        // It stands behind everything that is in the mailbox, and is answered when all of that is durable.
        let sent = entry.partner.handle().send(Vec::new(), true).await;
        sent.map_err(|error| self.0.unsent(&entry, error))?;
        let saved = self.0.journal.recover(entry.partner.id).await;
        let saved = saved.inspect_err(|error| self.0.supervisor.note_failure(error))?;
        Ok(Backlog { queued: saved.counts.queued, paused: saved.paused })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use serde_json::json;

    use super::*;
    use crate::metrics::Format;
    use crate::set::{Algorithm, KeySet, SigningKey};
    use crate::transceiver::troubled::Troubled;
    use crate::transceiver::{Event, PeerConfig};

    /// With a peer `a`, which never comes.
    async fn transceiver(store: Arc<Troubled>) -> Transceiver {
        let folder = tempfile::tempdir().unwrap();
        let (key, _) = SigningKey::generate(Algorithm::EdDsa, "k-1").unwrap();
        let file = folder.path().join("jwks.json");
        std::fs::write(&file, KeySet::of([key.public_jwk()]).to_json().to_string()).unwrap();
        let builder = Transceiver::builder("https://us.example").signing_key(key).store(store);
        let transceiver = builder.start().await.unwrap();
        let peer = PeerConfig::that_comes("a", file);
        transceiver.add_peer(peer).await.unwrap();
        transceiver
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_a_busy_peer_is_waited_for_and_not_taken_for_nothing() {
        let store = Arc::new(Troubled::default());
        store.commit_takes.store(5_000, Ordering::Relaxed);
        let transceiver = transceiver(Arc::clone(&store)).await;
        transceiver
            .send("a", Event::new("caep:session-revoked", json!({"format": "opaque", "id": "x"})))
            .await
            .unwrap();
        // Its actor is with the store from here on, for longer than a status waits.
        let pausing = {
            let transceiver = transceiver.clone();
            tokio::spawn(async move { transceiver.pause("a", true).await })
        };
        while !transceiver.peer("a").await.unwrap().busy {}
        let backlog = transceiver.backlog("a").await;
        assert_eq!(backlog.ok(), Some(Backlog { queued: 1, paused: true }));
        pausing.await.unwrap().unwrap();

        store.broken.store(true, Ordering::Relaxed);
        assert!(matches!(transceiver.backlog("a").await, Err(SubmitFault::StorageFailed)));
        assert!(matches!(transceiver.backlog("b").await, Err(SubmitFault::NoSuchPeer(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_whose_figures_the_store_does_not_tell_has_none_and_its_conversation_begins_as_soon_as_it_can() {
        let store = Arc::new(Troubled::default());
        let transceiver = transceiver(Arc::clone(&store)).await;
        assert!(!transceiver.peer("a").await.unwrap().busy);
        store.full_for_recovery.store(true, Ordering::Relaxed);
        assert!(transceiver.peer("a").await.unwrap().busy, "nothing is known, which is not the same as none");
        let event = || Event::new("caep:session-revoked", json!({"format": "opaque", "id": "x"}));
        let refused = transceiver.send("a", event()).await.unwrap_err();
        assert!(matches!(refused.fault, SubmitFault::StorageFull), "nobody waits for as long: {refused}");
        let pausing = {
            let transceiver = transceiver.clone();
            tokio::spawn(async move { transceiver.pause("a", true).await })
        };
        tokio::time::sleep(std::time::Duration::from_secs(10)).await;
        assert!(!pausing.is_finished());
        store.full_for_recovery.store(false, Ordering::Relaxed);
        pausing.await.unwrap().unwrap();
        transceiver.send("a", event()).await.unwrap();
        let status = transceiver.peer("a").await.unwrap();
        assert_eq!((status.busy, status.queued, status.paused), (false, 1, true));
    }

    #[tokio::test(start_paused = true)]
    async fn of_what_was_asked_for_while_nothing_could_be_written_the_last_holds() {
        for last in [true, false, true, false] {
            let store = Arc::new(Troubled::default());
            let transceiver = transceiver(Arc::clone(&store)).await;
            transceiver.pause("a", !last).await.unwrap();
            store.full.store(true, Ordering::Relaxed);
            for paused in [last, !last, last, !last, last] {
                assert!(transceiver.pause("a", paused).await.is_err());
            }
            assert!(transceiver.disk_is_full());
            let told = async |full: bool| {
                let page = transceiver.expose(Format::Prometheus).await.unwrap();
                page.contains(&format!("\npushpull_store_disk_full {}.0\n", u8::from(full)))
            };
            assert!(told(true).await);
            store.full.store(false, Ordering::Relaxed);
            assert!(told(false).await);
            tokio::time::sleep(std::time::Duration::from_secs(10)).await;
            assert_eq!(transceiver.peer("a").await.unwrap().paused, last);
        }
    }
}

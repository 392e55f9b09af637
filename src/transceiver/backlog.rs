//! What waits for a peer, told by the store: a removal rests on it, so it must be true, and no zero for want of an answer.

use super::{SubmitFault, Transceiver};
use crate::engine::SendError;

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
        entry.partner.handle().send(Vec::new(), true).await.map_err(|error| match error {
            SendError::Stopped => self.0.stopped(&entry),
            error => error.into(),
        })?;
        let saved = self.0.journal.recover(entry.partner.id).await;
        let saved = saved.inspect_err(|error| self.0.supervisor.note_failure(error))?;
        Ok(Backlog { queued: saved.counts.queued, paused: saved.paused })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use serde_json::json;
    use tokio::sync::watch;

    use super::*;
    use crate::clock::Wall;
    use crate::peer::{DeadPage, Direction, Page, PeerId, Remembered, Saved, Select, Stretch, Write};
    use crate::set::{Algorithm, Jti, KeySet, SigningKey};
    use crate::store::{Epoch, Error, Handed, Journal, Memory, Pending, Registry};
    use crate::transceiver::{Event, PeerConfig};

    /// A store that takes its time to commit, and can be broken for whoever asks what it keeps of a peer.
    #[derive(Default)]
    struct Slow {
        inner: Memory,
        broken: AtomicBool,
    }

    impl Journal for Slow {
        fn recover(&self, peer: PeerId) -> Pending<'_, Saved> {
            match self.broken.load(Ordering::Relaxed) {
                true => Box::pin(async { Err(Error::Invalid("broken".to_owned())) }),
                false => self.inner.recover(peer),
            }
        }

        fn commit(&self, peer: PeerId, epoch: Epoch, writes: Arc<Vec<Write>>) -> Pending<'_, ()> {
            Box::pin(async move {
                tokio::time::sleep(Duration::from_secs(5)).await;
                self.inner.commit(peer, epoch, writes).await
            })
        }

        fn known(&self, peer: PeerId, direction: Direction, jtis: Vec<Jti>) -> Pending<'_, Vec<Option<Remembered>>> {
            self.inner.known(peer, direction, jtis)
        }

        fn read_outbox(&self, peer: PeerId, select: Select) -> Pending<'_, Page> {
            self.inner.read_outbox(peer, select)
        }

        fn read_dead_letters(&self, stretch: Stretch) -> Pending<'_, DeadPage> {
            self.inner.read_dead_letters(stretch)
        }

        fn dead_letters_at(&self, peer: PeerId, seqs: Vec<u64>) -> Pending<'_, DeadPage> {
            self.inner.dead_letters_at(peer, seqs)
        }

        fn read_inbox(&self, consumer: String, after: Option<u64>, rows_max: usize) -> Pending<'_, Vec<Handed>> {
            self.inner.read_inbox(consumer, after, rows_max)
        }

        fn peek_inbox(&self, after: Option<u64>, rows_max: usize) -> Pending<'_, Vec<Handed>> {
            self.inner.peek_inbox(after, rows_max)
        }

        fn confirm(&self, consumer: String, up_to: u64) -> Pending<'_, ()> {
            self.inner.confirm(consumer, up_to)
        }

        fn forget_consumer(&self, consumer: String) -> Pending<'_, bool> {
            self.inner.forget_consumer(consumer)
        }

        fn history(&self, jti: Jti) -> Pending<'_, Vec<(PeerId, Direction, Remembered)>> {
            self.inner.history(jti)
        }

        fn purge(&self, memory_before: Wall) -> Pending<'_, bool> {
            self.inner.purge(memory_before)
        }

        fn last_time(&self) -> Pending<'_, Option<Wall>> {
            self.inner.last_time()
        }

        fn note_time(&self, at: Wall) -> Pending<'_, ()> {
            self.inner.note_time(at)
        }

        fn probe(&self) -> Pending<'_, ()> {
            self.inner.probe()
        }

        fn inbox_tail(&self) -> watch::Receiver<u64> {
            self.inner.inbox_tail()
        }

        fn inbox_len(&self) -> u64 {
            self.inner.inbox_len()
        }

        fn healthy(&self) -> bool {
            self.inner.healthy()
        }

        fn failed(&self) -> bool {
            self.inner.failed()
        }
    }

    impl Registry for Slow {
        fn peer_id(&self, name: String) -> Pending<'_, PeerId> {
            self.inner.peer_id(name)
        }

        fn names(&self) -> Pending<'_, Vec<(PeerId, String)>> {
            self.inner.names()
        }

        fn added_peers(&self) -> Pending<'_, Vec<(String, String)>> {
            self.inner.added_peers()
        }

        fn add_peer(&self, name: String, definition: String) -> Pending<'_, bool> {
            self.inner.add_peer(name, definition)
        }

        fn remove_peer(&self, name: String) -> Pending<'_, bool> {
            self.inner.remove_peer(name)
        }
    }

    /// With a peer `a`, which never comes.
    async fn transceiver(store: Arc<Slow>) -> Transceiver {
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
        let store = Arc::new(Slow::default());
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
}

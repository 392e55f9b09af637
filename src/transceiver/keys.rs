//! Our keys seen from the queues: who still needs a key that signs no more, and when the next one's time has come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use tracing::debug;

use super::{Inner, Transceiver};
use crate::auth::keyring::{Error, InUse, Retire, Rotate, Rotated};
use crate::auth::{KeyRing, KeyStatus};
use crate::peer::{PeerId, Select};
use crate::store;

/// How long the actors may take to store what they have. With a full disk they wait for room.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait before the queues are asked again when they could not be.
const AGAIN: Duration = Duration::from_secs(1);

impl Transceiver {
    /// How our keys fare.
    pub async fn keys(&self) -> Vec<KeyStatus> {
        self.0.with_keys(|keys, _| keys.statuses()).await
    }

    /// Our JWK Set, as `/jwks.json` shows it.
    pub fn jwks(&self) -> Bytes {
        self.0.keys.jwks()
    }

    /// Whether partners can verify what the key of this name has signed.
    pub fn is_published(&self, kid: &str) -> bool {
        self.0.keys.is_published(kid)
    }

    /// Makes another key sign: once partners could fetch it or, with `at_once`, now. Durable when it returns. The old one
    /// stays published until the last SET that it signed is settled, and retires by itself then.
    pub async fn rotate_key(&self, to: Rotate, at_once: bool) -> Result<Rotated, Error> {
        self.0.with_keys(move |keys, inner| keys.rotate(to, at_once, inner.clock.now().wall)).await
    }

    /// Takes a key out of what is published: refused while it signs and, unless `at_once`, while unsettled SETs need it.
    /// Durable when it returns.
    pub async fn retire_key(&self, kid: &str, at_once: bool) -> Result<Retire, Error> {
        // What has been settled since the last look must not stand in the way.
        self.0.mark_keys().await;
        self.0.settle_keys().await;
        let kid = kid.to_owned();
        self.0.with_keys(move |keys, inner| keys.retire(&kid, at_once, inner.clock.now().wall)).await
    }

    /// Keeps a key published that has signed something which is to be queued again: until the guard is dropped, and then
    /// until all that was queued by then is settled. None if the key is not published any more.
    pub async fn hold_key(&self, kid: &str) -> Result<Option<Arc<InUse>>, Error> {
        let kid = kid.to_owned();
        self.0.with_keys(move |keys, _| keys.hold(&kid)).await
    }
}

/// Lets our keys move on, for as long as the process runs: counts the time in which they are served, and looks whether
/// the SETs that they signed are settled.
pub(super) async fn tend(inner: Arc<Inner>) {
    let mut open = inner.open.subscribe();
    // Before partners are served, none of them can fetch anything.
    if open.wait_for(|open| *open).await.is_err() {
        return;
    }
    drop(open);
    loop {
        if !inner.keys.is_waiting() {
            inner.keys.changed().await;
        }
        // In this order: what is published in between is credited too little rather than too much.
        let moment = inner.keys.moment();
        let begun = inner.clock.now().mono;
        inner.mark_keys().await;
        inner.settle_keys().await;
        tokio::select! {
            () = inner.keys.changed() => {}
            () = tokio::time::sleep(inner.keys.pace()) => {}
        }
        let elapsed = inner.clock.now().mono.saturating_sub(begun);
        inner.with_keys(move |keys, inner| keys.advance_since(moment, elapsed, inner.clock.now().wall)).await;
    }
}

impl Inner {
    /// Works with the key ring where it may block.
    pub(super) async fn with_keys<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&KeyRing, &Self) -> T + Send + 'static,
    ) -> T {
        let inner = Arc::clone(self);
        match tokio::task::spawn_blocking(move || work(&inner.keys, &inner)).await {
            Ok(done) => done,
            Err(broken) => match broken.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is going down, and this task with it.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// Finds out for keys that have just ceased to sign where each queue ends: what they signed is before that.
    async fn mark_keys(self: &Arc<Self>) {
        let unmarked = self.keys.unmarked();
        if unmarked.is_empty() {
            return;
        }
        match self.ends_of_queues().await {
            Some(marks) => {
                let marked = self.with_keys(move |keys, _| keys.mark(&unmarked, &marks)).await;
                // Until it can be written down, everybody counts as needing them.
                if let Err(error) = marked {
                    debug!(why = %error, "where the queues end could not be kept");
                    tokio::time::sleep(AGAIN).await;
                }
            }
            None => tokio::time::sleep(AGAIN).await,
        }
    }

    /// For each peer with unsettled SETs the `seq` that comes next, once all that was submitted before this call is
    /// stored. None if that cannot be told now.
    async fn ends_of_queues(&self) -> Option<BTreeMap<String, u64>> {
        let names = self.journal_names();
        let barriers = names.iter().filter_map(|(id, _)| self.supervisor.running(*id)).map(async |handle| {
            // An empty call waits its turn in the mailbox, and is answered when everything before it is durable.
            handle.send(Vec::new(), true).await
        });
        tokio::time::timeout(PATIENCE, try_join_all(barriers)).await.ok()?.ok()?;
        let mut ends = BTreeMap::new();
        for (id, name) in names {
            let saved = self.journal.recover(id).await.map_err(|error| self.supervisor.note_failure(&error)).ok()?;
            if saved.counts.queued > 0 {
                ends.insert(name.to_string(), saved.next_seq);
            }
        }
        Some(ends)
    }

    /// Asks the queues that retiring keys wait for how far they are settled.
    async fn settle_keys(self: &Arc<Self>) {
        let awaited = self.keys.awaited();
        if awaited.is_empty() {
            return;
        }
        let ids: BTreeMap<String, PeerId> =
            self.journal_names().into_iter().map(|(id, name)| (name.to_string(), id)).collect();
        let mut oldest = BTreeMap::new();
        for peer in awaited {
            // A peer that the store does not know has nothing in it.
            let first = match ids.get(&peer) {
                Some(id) => self.oldest_unsettled(*id).await,
                None => Ok(None),
            };
            match first {
                Ok(first) => drop(oldest.insert(peer, first)),
                Err(error) => return self.supervisor.note_failure(&error),
            }
        }
        self.with_keys(move |keys, _| keys.settled(&oldest)).await;
    }

    /// The first place in a peer's queue that is not settled. A damaged row counts: nobody knows who signed it.
    async fn oldest_unsettled(&self, peer: PeerId) -> Result<Option<u64>, store::Error> {
        let first = Select::After { after: 0, rows_max: 1, bytes_max: 0 };
        let page = self.journal.read_outbox(peer, first).await?;
        Ok(page.rows.iter().map(|row| row.seq).chain(page.damaged).min())
    }

    fn journal_names(&self) -> Vec<(PeerId, Arc<str>)> {
        let names = self.names.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        names.iter().map(|(id, name)| (*id, Arc::clone(name))).collect()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use serde_json::json;

    use super::*;
    use crate::auth::Secret;
    use crate::set::{Algorithm, KeySet, SigningKey};
    use crate::store::Memory;
    use crate::transceiver::{ChangeError, Changes, Event, KeySource, OwnKeys, PeerConfig};

    /// With these peers, which never come.
    async fn transceiver(peers: &[&str]) -> Transceiver {
        let folder = tempfile::tempdir().unwrap();
        let (key, _) = SigningKey::generate(Algorithm::EdDsa, "k-1").unwrap();
        let file = folder.path().join("jwks.json");
        std::fs::write(&file, KeySet::of([key.public_jwk()]).to_json().to_string()).unwrap();
        let builder = Transceiver::builder("https://us.example").signing_key(key);
        let transceiver = builder.store(Arc::new(Memory::new())).start().await.unwrap();
        for name in peers {
            let peer = PeerConfig::that_comes(name, file.clone());
            transceiver.add_peer(peer).await.unwrap();
        }
        transceiver
    }

    fn event() -> Event {
        Event::new("caep:session-revoked", json!({"format": "opaque", "id": "x"}))
    }

    fn ends(ends: &[(&str, u64)]) -> Option<BTreeMap<String, u64>> {
        Some(ends.iter().map(|(peer, end)| ((*peer).to_owned(), *end)).collect())
    }

    #[tokio::test]
    async fn what_waits_in_a_mailbox_is_before_the_end_of_its_queue() {
        let transceiver = transceiver(&["a", "b"]).await;
        transceiver.send("a", event()).await.unwrap();
        let mut given_up = Box::pin(transceiver.send("a", event()));
        assert!(given_up.as_mut().now_or_never().is_none(), "it is in the mailbox");
        drop(given_up);
        assert_eq!(transceiver.0.ends_of_queues().await, ends(&[("a", 3)]), "and b has nothing to wait for");
    }

    #[tokio::test]
    async fn a_submission_holds_the_key_that_signed_it_until_all_of_it_is_stored() {
        let transceiver = transceiver(&["a"]).await;
        let keys = &transceiver.0.keys;
        let mut submitting = Box::pin(transceiver.send("a", event()));
        assert!(submitting.as_mut().now_or_never().is_none(), "it is signed and not stored");
        let (next, _) = SigningKey::generate(Algorithm::EdDsa, "k-2").unwrap();
        keys.rotate(Rotate::Given(next), true, transceiver.0.clock.now().wall).unwrap();
        assert!(keys.unmarked().is_empty(), "nobody knows yet where its SETs will stand");
        submitting.await.unwrap();
        assert_eq!(keys.unmarked().len(), 1);
        assert_eq!(transceiver.0.ends_of_queues().await, ends(&[("a", 2)]));
    }

    #[tokio::test]
    async fn a_retired_key_waits_for_no_peer_whose_queue_went_on_beyond_it() {
        let transceiver = transceiver(&["a"]).await;
        transceiver.send("a", event()).await.unwrap();
        let (next, _) = SigningKey::generate(Algorithm::EdDsa, "k-2").unwrap();
        transceiver.rotate_key(Rotate::Given(next), true).await.unwrap();
        transceiver.0.mark_keys().await;
        transceiver.send("a", event()).await.unwrap();
        let refused = transceiver.retire_key("k-1", false).await;
        assert!(matches!(refused, Err(Error::InUse { peers: Some(peers), .. }) if peers == ["a"]));
        let id = transceiver.0.names.read().unwrap().keys().copied().next().unwrap();
        let (jti, digest) = ("".into(), crate::set::Digest::default());
        let (outcome, at) = (crate::peer::Outcome::Acked, crate::clock::Wall(0));
        let story = crate::peer::Story::default();
        let settle =
            crate::peer::Write::Settle { seq: 1, jti, digest, accepted_at: at, outcome, at, attempts: 0, story };
        transceiver.0.journal.commit(id, store::Epoch(1), Arc::new(vec![settle])).await.unwrap();
        assert_eq!(transceiver.retire_key("k-1", false).await.unwrap(), Retire::Done);
        assert!(!transceiver.is_published("k-1") && transceiver.is_published("k-2"));
    }

    #[tokio::test]
    async fn peers_and_our_own_keys_change_together_or_not_at_all() {
        let transceiver = transceiver(&["a", "b"]).await;
        let folder = tempfile::tempdir().unwrap();
        let write = |kid: &str, text: &str| {
            use std::os::unix::fs::PermissionsExt as _;
            let file = folder.path().join(format!("{kid}.pem"));
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        let pem = |kid: &str| SigningKey::generate(Algorithm::EdDsa, kid).unwrap().1;
        write("k-1", &pem("k-1"));
        let now = transceiver.0.clock.now().wall;
        let ring = KeyRing::open(folder.path(), None, Duration::from_secs(60), now).unwrap();
        let builder = Transceiver::builder("https://us.example").key_ring(ring);
        let ours = builder.store(Arc::new(Memory::new())).start().await.unwrap();
        let with = |tokens: [&str; 2]| {
            let mut changes = Changes {
                own_keys: Some(OwnKeys { active: None, publish_wait: Duration::from_secs(60) }),
                ..Changes::default()
            };
            for (name, token) in ["a", "b"].iter().zip(tokens) {
                let mut config = transceiver.0.find(name).unwrap().config.clone();
                config.keys = KeySource::File(folder.path().join("theirs.json"));
                config.accept_tokens = vec![Secret::new(token.to_owned(), "a test").unwrap()];
                changes.set.push(config);
            }
            changes
        };
        let keys = ours.jwks();
        std::fs::write(folder.path().join("theirs.json"), &keys).unwrap();
        write("k-2", &pem("k-2"));
        let taken = ours.change_peers(with(["the-same-token-01234", "the-same-token-01234"])).await;
        assert!(matches!(taken, Err(ChangeError::TokenTaken(_))), "{taken:?}");
        assert_eq!(ours.jwks(), keys, "the peers were refused, and the keys stay");
        write("k-3", "no key");
        let bad = ours.change_peers(with(["a-token-of-a-0123456", "a-token-of-b-0123456"])).await;
        assert!(matches!(bad, Err(ChangeError::OwnKeys(_))), "{bad:?}");
        assert_eq!((ours.peer_names(), ours.jwks()), (Vec::new(), keys), "the keys were refused, and the peers stay");
        write("k-3", &pem("k-3"));
        let changed = ours.change_peers(with(["a-token-of-a-0123456", "a-token-of-b-0123456"])).await.unwrap();
        assert_eq!((changed.added.len(), changed.own_keys.len()), (2, 2));
        assert!(ours.is_published("k-2") && ours.is_published("k-3"));
    }
}

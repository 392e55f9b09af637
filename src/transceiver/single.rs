//! One submission: the way of nearly all of them, without what a call of many needs.

use std::sync::Arc;

use super::Transceiver;
use super::event::Event;
use super::submit::SubmitFault;
use crate::cpu::{self, Stage};
use crate::set::Jti;

impl Transceiver {
    /// As [`Transceiver::submit`] with this submission alone.
    pub(super) async fn submit_one(&self, peer: &str, event: Event) -> Result<Jti, SubmitFault> {
        let inner = &self.0;
        if self.is_stopping() {
            return Err(SubmitFault::Stopped);
        }
        if !inner.journal.healthy() {
            return Err(inner.unwritable());
        }
        let checked = cpu::within(Stage::Sign, || inner.check(peer, event))?;
        let (entry, fresh) = (Arc::clone(&checked.entry), !checked.named);
        // Held until it is stored: so long nobody believes that the end of a queue is known (`keys.rs`).
        let signer = inner.keys.signer();
        let set = inner.bench(&signer).sign(checked)?;
        let jti = set.jti.clone();
        let handle = entry.partner.handle();
        let sent = handle.send(vec![set], fresh).await;
        drop(signer);
        sent.map(|()| jti).map_err(|error| inner.unsent(&entry, error))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use serde_json::{Value, json};
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::engine::SendError;
    use crate::peer::{Act, Direction, Fate};
    use crate::set::{Algorithm, Draft, KeySet, SigningKey, decode, events};
    use crate::store::Journal as _;
    use crate::transceiver::troubled::Troubled;
    use crate::transceiver::{PeerConfig, Submission};
    use crate::transport::pushpull;
    use crate::wire::Limits;
    use crate::{engine, peer};

    /// Two organisations that are the same but for the way by which they submit.
    struct Both {
        stores: [Arc<Troubled>; 2],
        transceivers: [Transceiver; 2],
    }

    impl Both {
        /// With the peers `open`, `picky`, which gets nothing but account events, and `full`, whose queue has no room.
        async fn start() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let stores = [Arc::new(Troubled::default()), Arc::new(Troubled::default())];
            let mut transceivers = Vec::new();
            for store in &stores {
                let (key, _) = SigningKey::generate(Algorithm::EdDsa, "k").unwrap();
                let keys = folder.path().join("jwks.json");
                std::fs::write(&keys, KeySet::of([key.public_jwk()]).to_json().to_string()).unwrap();
                let limits = Limits { set_bytes_max: 2_000, jti_bytes_max: 50, ..Limits::default() };
                let pushpull = pushpull::Config { limits, ..pushpull::Config::default() };
                let delivery = peer::Config { outbox_max: 2, ..peer::Config::default() };
                let engine = engine::Config { peer: Arc::new(delivery), ..engine::Config::default() };
                let builder = Transceiver::builder("https://us.example").signing_key(key).store(Arc::clone(store));
                let transceiver = builder.pushpull(pushpull).engine(engine).start().await.unwrap();
                for name in ["open", "named", "picky", "full", "leaving"] {
                    let send = match name {
                        "picky" => events::Filter::new(&["risc:*".to_owned()]).unwrap(),
                        _ => events::Filter::all(),
                    };
                    let config = PeerConfig { send, ..PeerConfig::that_comes(name, keys.clone()) };
                    transceiver.add_peer(config).await.unwrap();
                }
                for _ in 0..2 {
                    transceiver.send("full", draft(None)).await.unwrap();
                }
                transceivers.push(transceiver);
            }
            let transceivers = transceivers.try_into().map_err(|_| ()).unwrap();
            Self { stores, transceivers }
        }

        /// Submits the same to both; what came of it, which has to be the same.
        async fn submit(&self, peer: &str, event: Event) -> Result<[Jti; 2], String> {
            let [one, many] = &self.transceivers;
            let submission = Submission { peer: peer.to_owned(), event: event.clone() };
            let by_one = one.submit_one(peer, event.clone()).await;
            let by_many = many.submit(vec![submission]).await.map_err(|error| {
                assert_eq!(error.index, 0);
                error.fault
            });
            match (by_one, by_many) {
                (Ok(one), Ok(mut many)) => Ok([one, many.pop().unwrap()]),
                (Err(one), Err(many)) => {
                    assert_eq!(format!("{one:?}"), format!("{many:?}"), "{event:?}");
                    Err(one.to_string())
                }
                (one, many) => panic!("{event:?}: {one:?}, but {many:?}"),
            }
        }

        /// What is queued under these jtis: claims, and whether the same was asked for.
        async fn queued(&self, peer: &str, jtis: &[Jti; 2]) -> [Value; 2] {
            let mut found = Vec::new();
            let mut digests = Vec::new();
            for ((transceiver, store), jti) in self.transceivers.iter().zip(&self.stores).zip(jtis) {
                let id = transceiver.0.find(peer).unwrap().partner.id;
                let known = store.known(id, Direction::Out, vec![jti.clone()]).await.unwrap().remove(0).unwrap();
                assert_eq!(known.fate, Fate::Queued);
                digests.push(known.digest);
                let page = store.read_outbox(id, peer::Select::Seqs(vec![known.seq])).await.unwrap();
                let mut claims = decode(&page.rows[0].compact).unwrap().1;
                assert_eq!(claims["jti"], jti.as_str());
                claims.remove("iat");
                found.push(Value::Object(claims));
            }
            assert_eq!(digests[0], digests[1]);
            found.try_into().unwrap()
        }
    }

    fn draft(jti: Option<&str>) -> Event {
        let sub_id = json!({"format": "opaque", "id": "x"});
        let event_type = "caep:session-revoked".to_owned();
        Event::Draft(Draft { event_type, sub_id, jti: jti.map(Jti::from), ..Draft::default() })
    }

    fn claims(changes: Value) -> Event {
        let mut claims = json!({
            "events": {"https://types.example/e": {}}, "sub_id": {"format": "opaque", "id": "x"}
        });
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        Event::Claims(claims.as_object().unwrap().clone())
    }

    #[tokio::test(start_paused = true)]
    async fn one_submission_is_taken_as_a_call_with_it_alone() {
        let both = Both::start().await;
        for event in [draft(None), claims(json!({}))] {
            let jtis = both.submit("open", event).await.unwrap();
            let [mut one, mut many] = both.queued("open", &jtis).await;
            for claims in [&mut one, &mut many] {
                let [jti, txn] = ["jti", "txn"].map(|name| claims[name].take());
                assert!(jti != txn && txn.is_string());
            }
            assert_eq!(one, many);
        }
        let jtis = both.submit("named", draft(Some("j"))).await.unwrap();
        let [mut one, mut many] = both.queued("named", &jtis).await;
        assert!(one["txn"].take() != many["txn"].take());
        assert_eq!(one, many);
        assert_eq!(
            both.submit("named", draft(Some("j"))).await.unwrap(),
            ["j".into(), "j".into()],
            "and nothing changes"
        );
        let other = both.submit("named", claims(json!({"jti": "j"}))).await.unwrap_err();
        assert!(other.contains("submitted before with other content"), "{other}");
        let foreign = token();
        assert_eq!(both.submit("named", Event::Signed(foreign)).await.unwrap(), ["f".into(), "f".into()]);
    }

    /// A SET of another issuer.
    fn token() -> String {
        let (key, _) = SigningKey::generate(Algorithm::EdDsa, "k").unwrap();
        let claims = json!({"jti": "f", "iss": "https://them.example", "events": {"https://types.example/e": {}}});
        key.sign(claims.as_object().unwrap()).unwrap().to_string()
    }

    #[tokio::test(start_paused = true)]
    async fn one_submission_is_refused_as_a_call_with_it_alone() {
        let both = Both::start().await;
        let _closed: Vec<_> = both.transceivers.iter().map(|one| one.close_queue("leaving").unwrap()).collect();
        let typed = |name: &str| Event::new(name, json!({"format": "opaque", "id": "x"}));
        let foreign = token();
        for (peer, event, expected) in [
            ("nobody", draft(None), "there is no peer \"nobody\""),
            ("leaving", draft(None), "leaving is about to be removed"),
            ("picky", draft(None), "caep:session-revoked is not sent to this peer"),
            ("picky", claims(json!({})), "https://types.example/e is not sent to this peer"),
            ("picky", Event::Signed(foreign), "https://types.example/e is not sent to this peer"),
            ("open", typed("caep:session-revokd"), "did you mean caep:session-revoked?"),
            ("open", typed("nonsense"), "is unknown"),
            ("open", typed("urn:a b"), "expected a URI"),
            ("open", Event::new("caep:session-revoked", json!({"format": "email"})), "lacks its `email`"),
            ("open", draft(Some("")), "claim `jti` is empty"),
            ("open", draft(Some(&"x".repeat(51))), "claim `jti` has 51 bytes, expected at most 50"),
            ("open", claims(json!({"iss": "https://them.example"})), "claim `iss` must be ours"),
            ("open", claims(json!({"sub": "x"})), "claim `sub` is not allowed"),
            ("open", claims(json!({"more": "x".repeat(2_000)})), "would be longer than 2000 bytes"),
            ("open", Event::Signed("no.se.t".to_owned()), "set: "),
            ("open", Event::Signed("x".repeat(2_001)), "set: longer than 2000 bytes"),
            ("full", draft(None), "SETs wait for this peer already"),
        ] {
            let refused = both.submit(peer, event).await.unwrap_err();
            assert!(refused.contains(expected), "{expected}: {refused}");
        }
        let mut long = Draft {
            event_type: "urn:x:y".to_owned(),
            sub_id: json!({"format": "opaque", "id": "x"}),
            ..Draft::default()
        };
        long.event.insert("more".to_owned(), "x".repeat(2_000).into());
        let refused = both.submit("open", Event::Draft(long)).await.unwrap_err();
        assert!(refused.contains("would be longer than 2000 bytes"), "{refused}");
        for transceiver in &both.transceivers {
            assert_eq!(transceiver.peer("open").await.unwrap().queued, 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_disk_and_the_end_are_told_as_to_a_call_of_many() {
        let both = Both::start().await;
        for store in &both.stores {
            store.fills_up.store(true, Ordering::Relaxed);
        }
        for _ in 0..2 {
            // Noticed by the commit the first time, and beforehand the second.
            let refused = both.submit("open", draft(None)).await.unwrap_err();
            assert!(refused.contains("the disk of the store is full"), "{refused}");
        }
        for store in &both.stores {
            store.fills_up.store(false, Ordering::Relaxed);
            store.full.store(false, Ordering::Relaxed);
        }
        // Until its actor has tried again.
        tokio::time::sleep(Duration::from_secs(1)).await;
        both.submit("open", draft(None)).await.unwrap();
        for transceiver in &both.transceivers {
            transceiver.shutdown(Duration::ZERO).await;
        }
        assert_eq!(both.submit("open", draft(None)).await.unwrap_err(), "shutting down");
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_disk_is_full_whoever_hands_in_is_told_at_once_and_all_else_waits() {
        let both = Both::start().await;
        let (store, transceiver) = (&both.stores[0], &both.transceivers[0]);
        let handle = transceiver.0.find("open").unwrap().partner.handle();
        let signed = || {
            let checked = transceiver.0.check("open", draft(None)).unwrap();
            vec![transceiver.0.bench(&transceiver.0.keys.signer()).sign(checked).unwrap()]
        };
        store.commit_takes.store(200, Ordering::Relaxed);
        let mut first = std::pin::pin!(handle.send(signed(), true));
        assert!(timeout(Duration::from_millis(100), &mut first).await.is_err(), "its commit goes on");
        store.fills_up.store(true, Ordering::Relaxed);
        let started = Instant::now();
        let second = handle.send(signed(), true);
        assert_eq!(tokio::join!(first, second), (Ok(()), Err(SendError::StorageFull)));
        assert!(started.elapsed() <= Duration::from_millis(100), "{:?}", started.elapsed());
        let mut pause = std::pin::pin!(handle.operate(Act::Pause));
        let mut resume = std::pin::pin!(handle.operate(Act::Resume));
        for round in 0..6 {
            for act in [&mut pause, &mut resume] {
                assert!(timeout(Duration::from_millis(400), act).await.is_err(), "there is no room for it");
            }
            // As when something small of another peer's still fits.
            store.healthy_anyway.store(round % 2 > 0, Ordering::Relaxed);
            let started = Instant::now();
            assert_eq!(handle.send(signed(), true).await, Err(SendError::StorageFull));
            assert_eq!(started.elapsed(), Duration::ZERO);
            // Whoever asks for the figures now and then does not wait that long, and keeps nobody from being told.
            for _ in 0..1_000 {
                assert!(handle.stats().now_or_never().is_none());
            }
        }
        store.fills_up.store(false, Ordering::Relaxed);
        store.full.store(false, Ordering::Relaxed);
        resume.await.unwrap();
        pause.await.unwrap();
        let stats = handle.stats().await.unwrap();
        assert!(!stats.paused, "the pause came first");
        assert_eq!(stats.counts.queued, 2, "one was accepted all the same: whoever was told may hand it in again");
    }
}

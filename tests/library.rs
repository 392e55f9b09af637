//! The library as an application embeds it: two Transceivers in one process, over real sockets and TLS.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use pushpull::auth::Secret;
use pushpull::set::events::Filter;
use pushpull::set::{Algorithm, KeySet, SigningKey};
use pushpull::store::Memory;
use pushpull::transceiver::{DialConfig, Event, KeySource, PeerConfig, Transceiver};
use pushpull::wire::net::{Allow, Target};
use serde_json::json;
use tokio::net::TcpListener;

const ISSUERS: [&str; 2] = ["https://a.example", "https://b.example"];

/// Two Transceivers; the first dials the second.
async fn pair(http_only: bool) -> [Transceiver; 2] {
    let folder = tempfile::tempdir().unwrap();
    let mut keys = Vec::new();
    for name in ["a", "b"] {
        let (key, _) = SigningKey::generate(Algorithm::Es256, &format!("{name}-1")).unwrap();
        let jwks = KeySet::of([key.public_jwk()]).to_json().to_string();
        std::fs::write(folder.path().join(name), jwks).unwrap();
        keys.push(key);
    }
    let listeners = [bind().await, bind().await];
    let address = listeners[1].local_addr().unwrap();
    let token = Secret::mint().unwrap();
    let mut transceivers = Vec::new();
    // The one that listens first: a dialler that is turned away once makes do with HTTP for a while.
    for (index, (listener, key)) in listeners.into_iter().zip(keys).enumerate().rev() {
        let (other, name) = [(1, "b"), (0, "a")][index];
        let transceiver = Transceiver::builder(ISSUERS[index])
            .signing_key(key)
            .store(Arc::new(Memory::new()))
            .allow(Allow::parse(["127.0.0.0/8"]).unwrap())
            .listen(listener, None)
            .start()
            .await
            .unwrap();
        let target = Target::parse(&format!("ws://{address}/pushpull")).unwrap();
        let dial = DialConfig { target, pin: None, token: Some(token.clone()), http_only };
        transceiver
            .add_peer(PeerConfig {
                name: name.to_owned(),
                issuer: ISSUERS[other].to_owned(),
                keys: KeySource::File(folder.path().join(name)),
                audience: None,
                dial: (index == 0).then_some(dial),
                accept_tokens: if index == 1 { vec![token.clone()] } else { Vec::new() },
                send: Filter::all(),
                accept: Filter::all(),
            })
            .await
            .unwrap();
        transceivers.push(transceiver);
    }
    transceivers.reverse();
    transceivers.try_into().map_err(|_| ()).unwrap()
}

async fn bind() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn event(number: usize) -> Event {
    Event::new("caep:session-revoked", json!({"format": "opaque", "id": format!("subject-{number}")}))
}

async fn events_go_both_ways(http_only: bool) {
    let [a, b] = pair(http_only).await;
    let count = 50;
    for number in 0..count {
        a.send("b", event(number)).await.unwrap();
        b.send("a", event(number)).await.unwrap();
    }
    for (receiver, sender) in [(&b, "a"), (&a, "b")] {
        let mut inbox = receiver.inbox("test");
        let mut seen = std::collections::HashSet::new();
        while seen.len() < count {
            let received = tokio::time::timeout(Duration::from_secs(20), inbox.next()).await.unwrap().unwrap();
            assert_eq!((&*received.peer, received.redelivered), (sender, false));
            assert!(seen.insert(received.claims["sub_id"]["id"].clone()), "handed over twice");
            received.confirm().await.unwrap();
        }
    }
    for (transceiver, peer) in [(&a, "b"), (&b, "a")] {
        let verified = transceiver.verify(peer, Duration::from_secs(20)).await.unwrap();
        let status = transceiver.peer(peer).await.unwrap();
        assert_eq!((status.acked, status.queued, status.received), (count as u64 + 1, 0, count as u64));
        assert_eq!(transceiver.event(&verified.jti).await.unwrap()[0].state.as_str(), "acked");
        assert_eq!(status.transport, if http_only { "http" } else { "websocket" });
    }
    assert!(a.shutdown(Duration::from_secs(5)).await);
    assert!(b.shutdown(Duration::from_secs(5)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_go_both_ways_over_one_websocket() {
    events_go_both_ways(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_go_both_ways_over_http_when_only_one_side_dials() {
    events_go_both_ways(true).await;
}

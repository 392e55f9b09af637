//! The library as an application embeds it: two Transceivers in one process, over real sockets and TLS.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use pushpull::auth::Secret;
use pushpull::set::events::Filter;
use pushpull::set::{Algorithm, Draft, Jti, KeySet, SigningKey};
use pushpull::store::Memory;
use pushpull::transceiver::{DialConfig, Event, KeySource, Method, PeerConfig, Submission, SubmitFault, Transceiver};
use pushpull::wire::net::{Allow, Target};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const ISSUERS: [&str; 2] = ["https://a.example", "https://b.example"];

/// Two Transceivers; the first dials the second.
async fn pair(method: Method) -> [Transceiver; 2] {
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
        let dial = DialConfig { target, pin: None, token: Some(token.clone()), method };
        transceiver
            .add_peer(PeerConfig {
                name: name.to_owned(),
                issuer: ISSUERS[other].to_owned(),
                keys: KeySource::File(folder.path().join(name)),
                audience: None,
                accept_audience: None,
                dial: (index == 0).then_some(dial),
                collect: None,
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

async fn events_go_both_ways(method: Method) {
    let [a, b] = pair(method).await;
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
            assert!(seen.insert(received.claims()["sub_id"]["id"].clone()), "handed over twice");
            received.confirm().await.unwrap();
        }
    }
    for (transceiver, peer) in [(&a, "b"), (&b, "a")] {
        let verified = transceiver.verify(peer, Duration::from_secs(20)).await.unwrap();
        let status = transceiver.peer(peer).await.unwrap();
        assert_eq!((status.acked, status.queued, status.received), (count as u64 + 1, 0, count as u64));
        assert_eq!(transceiver.event(&verified.jti).await.unwrap()[0].state.as_str(), "acked");
        assert_eq!(status.transport, method.as_str());
    }
    assert!(a.shutdown(Duration::from_secs(5)).await);
    assert!(b.shutdown(Duration::from_secs(5)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_go_both_ways_over_one_websocket() {
    events_go_both_ways(Method::Websocket).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_go_both_ways_over_http_when_only_one_side_dials() {
    events_go_both_ways(Method::Http).await;
}

/// With two partners two commits are needed; what is wrong with one must be found before the other is made.
#[tokio::test]
async fn a_call_for_two_partners_is_taken_as_a_whole_or_not_at_all() {
    let (key, _) = SigningKey::generate(Algorithm::Es256, "a-1").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let jwks = folder.path().join("jwks.json");
    std::fs::write(&jwks, KeySet::of([key.public_jwk()]).to_json().to_string()).unwrap();
    let outbox = pushpull::peer::Config { outbox_max: 2, ..pushpull::peer::Config::default() };
    let engine = pushpull::engine::Config { peer: Arc::new(outbox), ..pushpull::engine::Config::default() };
    let builder = Transceiver::builder(ISSUERS[0]).signing_key(key).store(Arc::new(Memory::new()));
    let transceiver = builder.engine(engine).start().await.unwrap();
    for name in ["b", "c"] {
        let (send, accept) = (Filter::all(), Filter::all());
        let (issuer, keys) = (format!("https://{name}.example"), KeySource::File(jwks.clone()));
        let (name, audience, dial, collect, accept_tokens) = (name.to_owned(), None, None, None, Vec::new());
        let peer = PeerConfig {
            name,
            issuer,
            keys,
            audience,
            accept_audience: None,
            dial,
            collect,
            accept_tokens,
            send,
            accept,
        };
        transceiver.add_peer(peer).await.unwrap();
    }
    let submission = |peer: &str, jti: Option<&str>, number: usize| {
        let draft = Draft {
            event_type: "caep:session-revoked".to_owned(),
            sub_id: json!({"format": "opaque", "id": number.to_string()}),
            jti: jti.map(Jti::from),
            ..Draft::default()
        };
        Submission { peer: peer.to_owned(), event: Event::Draft(draft) }
    };
    let conflict = vec![submission("b", None, 1), submission("c", Some("j"), 1), submission("c", Some("j"), 2)];
    let error = transceiver.submit(conflict).await.unwrap_err();
    assert!(error.index == 2 && matches!(error.fault, SubmitFault::Conflict(_)), "{error:?}");
    let too_many =
        vec![submission("b", None, 1), submission("c", None, 1), submission("c", None, 2), submission("c", None, 3)];
    let error = transceiver.submit(too_many).await.unwrap_err();
    assert!(error.index == 1 && matches!(error.fault, SubmitFault::OutboxFull { max: 2 }), "{error:?}");
    for peer in ["b", "c"] {
        assert_eq!(transceiver.peer(peer).await.unwrap().queued, 0, "{peer}");
    }
    let repeated = vec![submission("b", None, 1), submission("c", Some("j"), 1), submission("c", Some("j"), 1)];
    assert_eq!(transceiver.submit(repeated).await.unwrap().len(), 3);
    assert_eq!(transceiver.peer("c").await.unwrap().queued, 1, "the same twice is one");
}

/// A partner that comes while peers are still being added must not be told that its token is unknown.
#[tokio::test]
async fn who_comes_before_the_doors_open_waits() {
    let (key, _) = SigningKey::generate(Algorithm::Es256, "a-1").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let jwks = folder.path().join("jwks.json");
    std::fs::write(&jwks, KeySet::of([key.public_jwk()]).to_json().to_string()).unwrap();
    let listener = bind().await;
    let mut partner = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let builder = Transceiver::builder(ISSUERS[0]).signing_key(key).store(Arc::new(Memory::new()));
    let transceiver = builder.listen(listener, None).closed().start().await.unwrap();
    let token = Secret::mint().unwrap();
    let request = format!(
        "POST /pushpull HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: 2\r\nconnection: close\r\n\r\n{{}}",
        token.expose()
    );
    partner.write_all(request.as_bytes()).await.unwrap();
    // A server that was up would have answered by now: every task gets many turns.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let peer = PeerConfig {
        name: "b".to_owned(),
        issuer: ISSUERS[1].to_owned(),
        keys: KeySource::File(jwks),
        audience: None,
        accept_audience: None,
        dial: None,
        collect: None,
        accept_tokens: vec![token],
        send: Filter::all(),
        accept: Filter::all(),
    };
    transceiver.add_peer(peer).await.unwrap();
    transceiver.open();
    let mut answer = String::new();
    tokio::time::timeout(Duration::from_secs(10), partner.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

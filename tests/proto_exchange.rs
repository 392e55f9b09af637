//! The exchanges that the specifications print, replayed byte by byte against a Transceiver in the role of either side: the
//! drafts' requests, responses and WebSocket handshake, RFC 8935's pushes and answers, RFC 8936's polls and answers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use pushpull::auth::Secret;
use pushpull::set::events::Filter;
use pushpull::set::{Algorithm, ErrorCode, SigningKey};
use pushpull::store::Memory;
use pushpull::transceiver::{DialConfig, Event, KeySource, Method, PeerConfig, Transceiver};
use pushpull::transport::pushpull::Config;
use pushpull::wire::net::{Allow, Target};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

const DEADLINE: Duration = Duration::from_secs(30);

fn example(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("proto-examples").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A Transceiver whose only partner is the issuer of the draft's figures.
async fn transceiver(token: &Secret, dial: Option<(Method, String)>) -> (Transceiver, std::net::SocketAddr) {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("jwks.json");
    fs::write(&keys, example("sets/jwks.json")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (key, _) = SigningKey::generate(Algorithm::EdDsa, "k").unwrap();
    let transceiver = Transceiver::builder("https://us.example")
        .signing_key(key)
        .store(Arc::new(Memory::new()))
        .allow(Allow::parse(["127.0.0.1"]).unwrap())
        .pushpull(Config {
            speak_interval: Duration::from_millis(200),
            poll_hold: Duration::from_millis(200),
            ..Config::default()
        })
        .listen(listener, None)
        .start()
        .await
        .unwrap();
    let dial = dial.map(|(method, url)| {
        let target = Target::parse(&url).unwrap();
        DialConfig { target, pin: None, token: Some(token.clone()), method }
    });
    transceiver
        .add_peer(PeerConfig {
            name: "scim".to_owned(),
            issuer: "https://scim.example.com".to_owned(),
            keys: KeySource::File(keys),
            audience: None,
            accept_audience: None,
            dial,
            collect: None,
            accept_tokens: vec![token.clone()],
            send: Filter::all(),
            accept: Filter::all(),
        })
        .await
        .unwrap();
    (transceiver, address)
}

/// The printed message with the parts that differ from server to server replaced: the path and the credentials.
fn addressed(message: &str, path: &str, token: &Secret) -> String {
    let mut lines = Vec::new();
    let (head, body) = message.split_once("\n\n").unwrap_or((message, ""));
    let mut authorised = !message.starts_with("POST ");
    for line in head.trim_end().lines().map(str::trim_start) {
        lines.push(match line.split_once(' ') {
            Some(("POST", _)) => format!("POST {path} HTTP/1.1"),
            Some(("Authorization:", _)) => {
                authorised = true;
                format!("Authorization: Bearer {}", token.expose())
            }
            _ => line.to_owned(),
        });
    }
    if !authorised {
        lines.push(format!("Authorization: Bearer {}", token.expose()));
    }
    if !body.is_empty() || message.starts_with("HTTP/1.1 202") {
        lines.push(format!("Content-Length: {}", body.len()));
    }
    format!("{}\r\n\r\n{body}", lines.join("\r\n"))
}

/// Status line, headers in lower case, and a body of `content-length` bytes.
async fn read_message(stream: &mut BufReader<TcpStream>) -> (String, BTreeMap<String, String>, Vec<u8>) {
    let mut first = String::new();
    stream.read_line(&mut first).await.unwrap();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    (first.trim_end().to_owned(), headers, body)
}

/// Every SET of the draft's figures is signed with a key that nobody publishes, with HS256 or not at all.
fn assert_refused(answer: &Value, sets: &Value) {
    for jti in sets.as_object().unwrap().keys() {
        assert_eq!(answer["setErrs"][jti]["err"], ErrorCode::InvalidKey.as_str(), "{jti}: {answer}");
    }
    assert_eq!(answer.get("ack"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_drafts_request_is_answered_with_a_communication_object() {
    let token = Secret::mint().unwrap();
    let (_transceiver, address) = transceiver(&token, None).await;
    let request = example("pushpull/http/request.http");
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    stream.write_all(addressed(&request, "/pushpull", &token).as_bytes()).await.unwrap();
    let (status, headers, body) = tokio::time::timeout(DEADLINE, read_message(&mut stream)).await.unwrap();
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert_eq!(headers["content-type"], "application/json");
    let sent: Value = serde_json::from_str(request.split_once("\n\n").unwrap().1).unwrap();
    assert_refused(&serde_json::from_slice(&body).unwrap(), &sent["sets"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sets_of_the_drafts_response_are_answered_in_the_next_request() {
    let token = Secret::mint().unwrap();
    let partner = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/pushpull", partner.local_addr().unwrap());
    let (_transceiver, _) = transceiver(&token, Some((Method::Http, url))).await;
    let printed = example("pushpull/http/response.http");
    let response = addressed(&printed, "/pushpull", &token);
    let sets: Value = serde_json::from_str(printed.split_once("\n\n").unwrap().1).unwrap();
    let answering = async {
        let (stream, _) = partner.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let (first, headers, body) = read_message(&mut stream).await;
        assert_eq!(first, "POST /pushpull HTTP/1.1");
        assert_eq!(headers["authorization"], format!("Bearer {}", token.expose()));
        let asked: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(asked.as_object().unwrap().keys().collect::<Vec<_>>(), ["maxResponseEvents"]);
        stream.write_all(response.as_bytes()).await.unwrap();
        let (_, _, body) = read_message(&mut stream).await;
        assert_refused(&serde_json::from_slice(&body).unwrap(), &sets["sets"]);
    };
    tokio::time::timeout(DEADLINE, answering).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_printed_handshake_opens_a_websocket_that_carries_the_printed_object() {
    let token = Secret::mint().unwrap();
    let (_transceiver, address) = transceiver(&token, None).await;
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    let request = addressed(&example("websocket/handshake-request.http"), "/pushpull", &token);
    stream.write_all(request.as_bytes()).await.unwrap();
    let (status, headers, _) = tokio::time::timeout(DEADLINE, read_message(&mut stream)).await.unwrap();
    let printed = example("websocket/handshake-response.http");
    let mut printed = printed.trim_end().lines();
    assert_eq!(Some(status.as_str()), printed.next());
    for line in printed {
        let (name, value) = line.split_once(": ").unwrap();
        assert_eq!(headers[&name.to_ascii_lowercase()], value, "{name}");
    }
    let message = example("websocket/message.json");
    let mut socket = WebSocketStream::from_raw_socket(stream.into_inner(), Role::Client, None).await;
    socket.send(Message::text(message.clone())).await.unwrap();
    let answer = tokio::time::timeout(DEADLINE, socket.next()).await.unwrap().unwrap().unwrap();
    let sent: Value = serde_json::from_str(&message).unwrap();
    assert_refused(&serde_json::from_str(answer.to_text().unwrap()).unwrap(), &sent["sets"]);
}

/// Sends what is printed there; the answer.
async fn asked(file: &str, path: &str) -> (String, BTreeMap<String, String>, Vec<u8>) {
    let token = Secret::mint().unwrap();
    let (_transceiver, address) = transceiver(&token, None).await;
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    stream.write_all(addressed(&example(file), path, &token).as_bytes()).await.unwrap();
    tokio::time::timeout(DEADLINE, read_message(&mut stream)).await.unwrap()
}

/// The JSON that is printed in a message.
fn printed_json(file: &str) -> Value {
    serde_json::from_str(example(file).split_once("\n\n").unwrap().1).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_push_of_rfc_8935_is_refused_in_the_printed_form() {
    let (status, headers, body) = asked("rfc8935/http/request.http", "/push").await;
    assert_eq!(status, "HTTP/1.1 400 Bad Request");
    assert_eq!((headers["content-type"].as_str(), headers["content-language"].as_str()), ("application/json", "en"));
    let error: Value = serde_json::from_slice(&body).unwrap();
    // It is signed with HS256.
    assert_eq!(error["err"], ErrorCode::InvalidKey.as_str());
    assert!(error["description"].is_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answers_of_rfc_8935_settle_what_was_pushed_or_leave_it_queued() {
    for (file, state) in [
        ("rfc8935/http/accepted.http", Some("acked")),
        ("rfc8935/http/error-invalid_key.http", Some("refused")),
        // Its `err` is in truth invalid_issuer.
        ("rfc8935/http/error-access_denied.http", Some("refused")),
        ("rfc8935/http/error-authentication_failed.http", None),
    ] {
        let token = Secret::mint().unwrap();
        let partner = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/Events", partner.local_addr().unwrap());
        let (transceiver, _) = transceiver(&token, Some((Method::Push, url))).await;
        let event = Event::new("caep:session-revoked", serde_json::json!({"format": "opaque", "id": "x"}));
        let jti = transceiver.send("scim", event).await.unwrap();
        let answering = async {
            let mut stream = BufReader::new(partner.accept().await.unwrap().0);
            let (first, headers, body) = read_message(&mut stream).await;
            assert_eq!(first, "POST /Events HTTP/1.1");
            assert_eq!(headers["content-type"], "application/secevent+jwt");
            assert_eq!(headers["accept"], "application/json");
            assert_eq!(String::from_utf8(body).unwrap().split('.').count(), 3);
            stream.write_all(addressed(&example(file), "", &token).as_bytes()).await.unwrap();
            // Whoever has no verdict comes again, and to an answer that says so.
            state.is_some() || !read_message(&mut stream).await.0.is_empty()
        };
        assert!(tokio::time::timeout(DEADLINE, answering).await.unwrap(), "{file}");
        let settled = async {
            loop {
                let now = transceiver.event(&jti).await.unwrap()[0].state.as_str();
                if state.is_none_or(|state| state == now) {
                    break now;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let now = tokio::time::timeout(DEADLINE, settled).await.unwrap();
        assert!(state.is_some() || ["queued", "in_flight"].contains(&now), "{file}: {now}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_polls_of_rfc_8936_are_answered_in_the_printed_form() {
    for poll in ["poll", "poll-default", "poll-with-ack", "poll-with-errors", "acknowledge-only"] {
        let (status, headers, body) = asked(&format!("rfc8936/http/{poll}.http"), "/poll").await;
        assert_eq!(
            (status.as_str(), headers["content-type"].as_str()),
            ("HTTP/1.1 200 OK", "application/json"),
            "{poll}"
        );
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(answer, printed_json("rfc8936/http/response-empty.http"), "{poll}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sets_of_rfc_8936_are_answered_in_the_next_poll() {
    let token = Secret::mint().unwrap();
    let partner = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/Events", partner.local_addr().unwrap());
    let (_transceiver, _) = transceiver(&token, Some((Method::Poll, url))).await;
    let answering = async {
        let mut stream = BufReader::new(partner.accept().await.unwrap().0);
        let (first, _, body) = read_message(&mut stream).await;
        assert_eq!(first, "POST /Events HTTP/1.1");
        let poll: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&poll["returnImmediately"], poll.get("ack")), (&false.into(), None));
        let response = addressed(&example("rfc8936/http/response.http"), "", &token);
        stream.write_all(response.as_bytes()).await.unwrap();
        let (_, headers, body) = read_message(&mut stream).await;
        assert!(headers.contains_key("content-language"));
        assert_refused(&serde_json::from_slice(&body).unwrap(), &printed_json("rfc8936/http/response.http")["sets"]);
    };
    tokio::time::timeout(DEADLINE, answering).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_request_of_multi_set_push_is_answered_for_each_of_its_sets() {
    let request = example("multi-push/request.json");
    let token = Secret::mint().unwrap();
    let (_transceiver, address) = transceiver(&token, None).await;
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    let message = format!("POST / HTTP/1.1\nHost: x\nContent-Type: application/json\n\n{request}");
    stream.write_all(addressed(&message, "/multi-push", &token).as_bytes()).await.unwrap();
    let (status, _, body) = tokio::time::timeout(DEADLINE, read_message(&mut stream)).await.unwrap();
    assert_eq!(status, "HTTP/1.1 202 Accepted");
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["ack"], serde_json::json!([]));
    let sets: Value = serde_json::from_str(&request).unwrap();
    let refused = answer["setErrs"].as_object().unwrap();
    assert!(sets["sets"].as_object().unwrap().keys().all(|jti| refused.contains_key(jti)), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verdicts_of_multi_set_push_on_what_nobody_sent_are_ignored() {
    let token = Secret::mint().unwrap();
    let partner = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/Events", partner.local_addr().unwrap());
    let (transceiver, _) = transceiver(&token, Some((Method::MultiPush, url))).await;
    let event = Event::new("caep:session-revoked", serde_json::json!({"format": "opaque", "id": "x"}));
    let jti = transceiver.send("scim", event).await.unwrap();
    let answering = async {
        let mut stream = BufReader::new(partner.accept().await.unwrap().0);
        for file in ["response-ack-and-errors", "response-ack"] {
            let (_, _, body) = read_message(&mut stream).await;
            let request: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(request.as_object().unwrap().keys().collect::<Vec<_>>(), ["sets"]);
            let response = addressed(&example(&format!("multi-push/http/{file}.http")), "", &token);
            stream.write_all(response.as_bytes()).await.unwrap();
        }
        // It asks once more for the verdict that has not come.
        read_message(&mut stream).await;
    };
    tokio::time::timeout(DEADLINE, answering).await.unwrap();
    let state = transceiver.event(&jti).await.unwrap()[0].state.as_str();
    assert!(["queued", "in_flight"].contains(&state), "{state}");
}

//! The exchanges that the draft prints, replayed byte by byte against a Transceiver: its request, its response, its
//! WebSocket handshake.

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
use pushpull::transceiver::{DialConfig, KeySource, PeerConfig, Transceiver};
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
async fn transceiver(token: &Secret, dial: Option<String>) -> (Transceiver, std::net::SocketAddr) {
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
        .pushpull(Config { speak_interval: Duration::from_millis(200), ..Config::default() })
        .listen(listener, None)
        .start()
        .await
        .unwrap();
    let dial = dial.map(|url| DialConfig {
        target: Target::parse(&url).unwrap(),
        pin: None,
        token: Some(token.clone()),
        http_only: true,
    });
    transceiver
        .add_peer(PeerConfig {
            name: "scim".to_owned(),
            issuer: "https://scim.example.com".to_owned(),
            keys: KeySource::File(keys),
            audience: None,
            dial,
            accept_tokens: vec![token.clone()],
            send: Filter::all(),
            accept: Filter::all(),
        })
        .await
        .unwrap();
    (transceiver, address)
}

/// The printed message with the parts that differ from server to server replaced: the path and the credentials.
fn addressed(message: &str, token: &Secret) -> String {
    let mut lines = Vec::new();
    let (head, body) = message.split_once("\n\n").unwrap_or((message, ""));
    for line in head.trim_end().lines() {
        lines.push(match line.split_once(' ') {
            Some(("POST", _)) => "POST /pushpull HTTP/1.1".to_owned(),
            Some(("Authorization:", _)) => format!("Authorization: Bearer {}", token.expose()),
            _ => line.to_owned(),
        });
    }
    if !body.is_empty() {
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
    stream.write_all(addressed(&request, &token).as_bytes()).await.unwrap();
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
    let (_transceiver, _) = transceiver(&token, Some(url)).await;
    let printed = example("pushpull/http/response.http");
    let response = addressed(&printed, &token);
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
    let request = addressed(&example("websocket/handshake-request.http"), &token);
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

//! What partners meet before any SET is looked at: methods, headers, limits, the handshake, the end of the service.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::common::daemon::{Daemon, Plan, SMALL_LIMITS};
use crate::common::http::{Message, is_error, request};
use crate::common::partner::{Partner, verdict};
use crate::common::responder::Responder;
use crate::common::socket::{Came, Socket};
use crate::common::soon;

async fn scene(tls: bool) -> (Partner, Daemon) {
    let partner = Partner::new("globex");
    let daemon = Plan::new(tls).with(SMALL_LIMITS).with_peer(&partner, "").start().await;
    (partner, daemon)
}

/// Asks the listener for partners, on a connection of its own.
async fn ask(daemon: &Daemon, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Message {
    let mut wire = daemon.connect().await;
    let answer = soon(path, wire.ask(method, path, headers, body.as_bytes())).await.unwrap();
    answer.unwrap_or_else(|| panic!("{method} {path}: no answer"))
}

async fn each_wrong_request_has_its_status(tls: bool) {
    let (partner, daemon) = scene(tls).await;
    let bearer = partner.bearer();
    let auth = ("Authorization", bearer.as_str());
    let json_type = ("Content-Type", "application/json");
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "GET"] {
        let answer = ask(&daemon, method, "/pushpull", &[auth], "").await;
        is_error(&answer, 405);
        assert!(answer.header("allow").is_some_and(|allow| allow.contains("POST")), "{method}: {answer:?}");
    }
    let answer = ask(&daemon, "POST", "/jwks.json", &[], "").await;
    is_error(&answer, 405);
    assert!(answer.header("allow").is_some_and(|allow| allow.contains("GET")), "{answer:?}");
    for path in ["/", "/pushpull/", "/PUSHPULL", "/nothing", "/api/v1/peers", "/livez", "/metrics"] {
        is_error(&ask(&daemon, "POST", path, &[auth, json_type], "{}").await, 404);
    }
    for wrong in ["text/plain", "application/secevent+jwt", "application/json; charset=iso-8859-1", "application/jsonp"]
    {
        is_error(&ask(&daemon, "POST", "/pushpull", &[auth, ("Content-Type", wrong)], "{}").await, 415);
    }
    is_error(&ask(&daemon, "POST", "/pushpull", &[auth], "{}").await, 415);
    is_error(&ask(&daemon, "POST", "/pushpull", &[auth, json_type, json_type], "{}").await, 415);
    for encoding in ["gzip", "br", "identity"] {
        let headers = [auth, json_type, ("Content-Encoding", encoding)];
        is_error(&ask(&daemon, "POST", "/pushpull", &headers, "{}").await, 415);
    }
    for origin in ["https://evil.example", "null", "http://localhost"] {
        is_error(&ask(&daemon, "POST", "/pushpull", &[auth, json_type, ("Origin", origin)], "{}").await, 403);
    }
    for right in
        ["application/json; charset=utf-8", "Application/JSON;charset=\"UTF-8\"; v=1", "application/json ; x=y"]
    {
        let answer = ask(&daemon, "POST", "/pushpull", &[auth, ("Content-Type", right)], "{}").await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, "{}"), "{right}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("content-language"), Some("en"));
    }
}

#[tokio::test]
async fn each_wrong_request_has_its_status_without_tls() {
    each_wrong_request_has_its_status(false).await;
}

#[tokio::test]
async fn each_wrong_request_has_its_status_with_tls() {
    each_wrong_request_has_its_status(true).await;
}

#[tokio::test]
async fn nobody_without_a_known_token_gets_in() {
    let (partner, daemon) = scene(true).await;
    let object = json!({"sets": {"good": partner.set("good")}}).to_string();
    let (right, ours) = (partner.bearer(), format!("Bearer {}", partner.our_token));
    let wrong = [
        None,
        Some("Bearer wrong"),
        Some("Bearer "),
        Some("Basic Z2xvYmV4Ongx"),
        Some(&right[..right.len() - 1]),
        Some(ours.as_str()),
        Some(daemon.admin_token()),
    ];
    for token in wrong {
        let mut headers = vec![("Content-Type", "application/json")];
        headers.extend(token.map(|token| ("Authorization", token)));
        for path in ["/pushpull", "/multi-push", "/push", "/poll"] {
            let answer = ask(&daemon, "POST", path, &headers, &object).await;
            is_error(&answer, 401);
            let challenge = answer.header("www-authenticate").unwrap();
            assert!(challenge.starts_with("Bearer"), "{challenge}");
            assert_eq!(answer.json()["err"], "authentication_failed", "{path}");
        }
        let credentials: Vec<_> = token.map(|token| ("Authorization", token)).into_iter().collect();
        let Err(answer) = Socket::knock(&daemon, &credentials, &[]).await else {
            panic!("{token:?} opens a WebSocket")
        };
        is_error(&answer, 401);
        assert!(answer.header("www-authenticate").is_some());
    }
    let twice =
        [("Authorization", right.as_str()), ("Authorization", right.as_str()), ("Content-Type", "application/json")];
    is_error(&ask(&daemon, "POST", "/pushpull", &twice, &object).await, 401);
    assert_eq!(daemon.totals("globex").await["received"], 0);
    // And with the right one, the very same object goes through.
    let answer = partner.exchange(&daemon, &serde_json::from_str(&object).unwrap()).await;
    assert_eq!(verdict(&answer, "good").as_deref(), Some("ack"));
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_sent() {
    let (partner, daemon) = scene(false).await;
    let bearer = partner.bearer();
    let auth = ("Authorization", bearer.as_str());
    let json_type = ("Content-Type", "application/json");
    let mut wire = daemon.connect().await;
    // A head alone, which promises a gigabyte.
    let head = request("POST", "/pushpull", &[auth, json_type, ("Content-Length", "1000000000")], b"");
    wire.write(&head).await.unwrap();
    is_error(&soon("an answer", wire.read()).await.expect("an answer before any of the body"), 413);
    // Without a token, not even that is told.
    let mut wire = daemon.connect().await;
    wire.write(&request("POST", "/pushpull", &[json_type, ("Content-Length", "1000000000")], b"")).await.unwrap();
    is_error(&soon("an answer", wire.read()).await.expect("an answer before any of the body"), 401);
    // In chunks, which promise nothing.
    let mut wire = daemon.connect().await;
    let head =
        request("POST", "/pushpull", &[auth, json_type, ("Transfer-Encoding", "chunked"), ("Content-Length", "")], b"");
    let head = String::from_utf8(head).unwrap().replace("Content-Length: \r\n", "");
    wire.write(head.as_bytes()).await.unwrap();
    let chunk = format!("2000\r\n{}\r\n", " ".repeat(0x2000));
    for _ in 0..9 {
        // The daemon may have had enough before all is sent.
        let _ = wire.write(chunk.as_bytes()).await;
    }
    is_error(&soon("an answer", wire.read()).await.expect("an answer"), 413);
    // A head without end.
    let mut wire = daemon.connect().await;
    let filler = "x".repeat(40 << 10);
    let head = request("POST", "/pushpull", &[auth, json_type, ("X-Filler", &filler)], b"{}");
    let _ = wire.write(&head).await;
    assert_eq!(soon("an answer", wire.read()).await.expect("an answer").status(), 431);
    partner.exchange(&daemon, &json!({})).await;
}

#[tokio::test]
async fn nobody_is_asked_for_a_body_that_will_not_be_read() {
    let (partner, daemon) = scene(true).await;
    let bearer = partner.bearer();
    let auth = ("Authorization", bearer.as_str());
    let common = [("Content-Type", "application/json"), ("Expect", "100-continue")];
    let cases = [
        (401, vec![("Content-Length", "2")]),
        (401, vec![("Content-Length", "2"), ("Authorization", "Bearer somebody-elses-token-0123456789abcdef")]),
        (403, vec![("Content-Length", "2"), auth, ("Origin", "https://evil.example")]),
        (413, vec![("Content-Length", "99999999"), auth]),
        (100, vec![("Content-Length", "2"), auth]),
    ];
    for (status, more) in cases {
        let mut wire = daemon.connect().await;
        let bytes = request("POST", "/pushpull", &[&common[..], &more].concat(), b"");
        wire.write(&bytes).await.unwrap();
        let answer = soon("an answer", wire.read_head()).await.unwrap();
        assert_eq!(answer.status(), status, "{more:?}: {answer:?}");
        if status == 100 {
            wire.write(b"{}").await.unwrap();
            assert_eq!(soon("an answer", wire.read()).await.unwrap().status(), 200);
        }
    }
}

#[tokio::test]
async fn http_2_is_not_spoken_here() {
    for tls in [false, true] {
        let (partner, daemon) = scene(tls).await;
        let mut wire = daemon.connect().await;
        wire.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        assert!(soon("the end", wire.ended()).await, "closed without a word of either protocol");
        let upgrade = [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABk")];
        assert_eq!(ask(&daemon, "GET", "/jwks.json", &upgrade, "").await.status(), 200, "an offer is passed over");
        partner.exchange(&daemon, &json!({})).await;
    }
}

#[tokio::test]
async fn a_handshake_that_is_not_ours_is_refused_before_the_101() {
    let (partner, daemon) = scene(true).await;
    let bearer = partner.bearer();
    let auth = ("Authorization", bearer.as_str());
    let refused = async |more: &[(&str, &str)], without: &[&str], status: u16| {
        let mut headers = vec![auth];
        headers.extend_from_slice(more);
        let Err(answer) = Socket::knock(&daemon, &headers, without).await else { panic!("{more:?}: it is open") };
        is_error(&answer, status);
        answer
    };
    let answer = refused(&[("Sec-WebSocket-Version", "8")], &[], 426).await;
    assert_eq!(answer.header("sec-websocket-version"), Some("13"));
    refused(&[], &["Sec-WebSocket-Version"], 426).await;
    refused(&[], &["Sec-WebSocket-Protocol"], 400).await;
    refused(&[("Sec-WebSocket-Protocol", "chat")], &[], 400).await;
    refused(&[("Sec-WebSocket-Key", "short")], &[], 400).await;
    refused(&[], &["Sec-WebSocket-Key"], 400).await;
    refused(&[("Origin", "https://evil.example")], &[], 403).await;
    let several = [auth, ("Sec-WebSocket-Protocol", "chat, pushpull")];
    let Ok((mut socket, answer)) = Socket::knock(&daemon, &several, &[]).await else { panic!("it is refused") };
    assert_eq!(answer.header("sec-websocket-protocol"), Some("pushpull"), "exactly the one that is spoken");
    assert!(answer.header("sec-websocket-extensions").is_none());
    socket.frame(Frame::Ping(b"are you there".to_vec().into())).await;
    assert!(matches!(socket.next().await, Came::Pong(bytes) if bytes == b"are you there"));
    let compressed = [auth, ("Sec-WebSocket-Extensions", "permessage-deflate")];
    let Ok((_, answer)) = Socket::knock(&daemon, &compressed, &[]).await else { panic!("it is refused") };
    assert!(answer.header("sec-websocket-extensions").is_none(), "{answer:?}");
}

#[tokio::test]
async fn a_binary_message_closes_the_websocket_without_effect() {
    let (partner, daemon) = scene(true).await;
    daemon.send("globex", "ours").await;
    let object = json!({"sets": {"good": partner.set("good")}, "ack": ["ours"]});
    let mut socket = Socket::open(&daemon, &partner).await;
    socket.object_with(|object| object["sets"].get("ours").map(drop)).await;
    socket.frame(Frame::binary(object.to_string().into_bytes())).await;
    assert_eq!(socket.close_code().await, Some(1003));
    assert_eq!(daemon.state("in", "globex", "good").await, None);
    assert_ne!(daemon.state("out", "globex", "ours").await.as_deref(), Some("acked"));
    let mut socket = Socket::open(&daemon, &partner).await;
    socket.object_with(|object| object["sets"].get("ours").map(drop)).await;
    socket.send(&object).await;
    socket.object_with(|object| verdict(object, "good")).await;
    daemon.settled("globex", "ours", "acked").await;
}

#[tokio::test]
async fn a_request_whose_sender_then_shuts_its_side_down_is_answered() {
    for tls in [false, true] {
        let (partner, daemon) = scene(tls).await;
        let object = json!({"sets": {"last": partner.set("last")}}).to_string();
        let bearer = partner.bearer();
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        let mut wire = daemon.connect().await;
        wire.write(&request("POST", "/pushpull", &headers, object.as_bytes())).await.unwrap();
        wire.stream.shutdown().await.unwrap();
        let answer = soon("an answer", wire.read()).await.unwrap_or_else(|| panic!("no answer, TLS {tls}"));
        assert_eq!(verdict(&answer.json(), "last").as_deref(), Some("ack"), "TLS {tls}");
        assert!(soon("the end", wire.ended()).await, "TLS {tls}");
    }
}

#[tokio::test]
async fn max_response_events_is_kept_to() {
    let (partner, daemon) = scene(false).await;
    let jtis: Vec<String> = (0..5).map(|number| format!("event-{number}")).collect();
    daemon.send_all("globex", &jtis).await;
    let count = |object: &serde_json::Value| object["sets"].as_object().map_or(0, serde_json::Map::len);
    let none = partner.exchange(&daemon, &json!({"maxResponseEvents": 0, "sets": {"x": partner.set("x")}})).await;
    assert_eq!((count(&none), verdict(&none, "x").as_deref()), (0, Some("ack")));
    assert_eq!(count(&partner.exchange(&daemon, &json!({"maxResponseEvents": 1})).await), 1);
    assert_eq!(count(&partner.exchange(&daemon, &json!({"maxResponseEvents": 2.0})).await), 2);
    assert_eq!(count(&partner.exchange(&daemon, &json!({"maxResponseEvents": 1e30})).await), 2);
    // All are under way; each was sent once.
    assert_eq!(daemon.totals("globex").await["queued"], 5);
    partner.exchange(&daemon, &json!({"ack": jtis})).await;
    assert_eq!(daemon.totals("globex").await["acked"], 5);
}

#[tokio::test]
async fn an_answer_comes_within_a_second_also_without_the_partners_keys() {
    let (responder, partner) = (Responder::listen().await, Partner::new("globex"));
    let keys = format!("jwks_uri = \"{}\"", responder.jwks_uri());
    let daemon = Plan::new(false).with_peer(&partner, &keys).start().await;
    let mut wire = daemon.connect().await;
    let object = json!({"sets": {"event": partner.set("event")}}).to_string();
    for _ in 0..3 {
        let asked = tokio::time::Instant::now();
        let answer = partner.post_on(&mut wire, object.as_bytes()).await;
        let took = asked.elapsed();
        assert!(took < Duration::from_millis(1300), "{took:?}");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "{}"), "no verdict, neither way");
    }
    assert!(daemon.inbox().await.is_empty());
    responder.publish(Some(partner.jwks()));
    crate::common::until("a verdict", async || {
        verdict(&partner.exchange(&daemon, &serde_json::from_str(&object).unwrap()).await, "event")
    })
    .await;
    assert_eq!(daemon.inbox().await.len(), 1);
}

#[tokio::test]
async fn an_answer_has_the_verdicts_on_its_own_request_whatever_else_is_open() {
    // A WebSocket, and an Initiator of ours whose requests lead nowhere.
    let (partner, other) = (Partner::new("globex"), Partner::new("initech"));
    let nowhere = Responder::listen().await;
    let plan = Plan::new(false).with("[delivery]\nspeak_interval = \"10m\"");
    let daemon = plan.with_peer(&partner, "").with_peer(&other, &nowhere.keys("http")).start().await;
    let mut socket = Socket::open(&daemon, &partner).await;
    for partner in [&partner, &other] {
        for number in 0..5 {
            let jti = format!("event-{number}");
            let answer = partner.exchange(&daemon, &json!({"sets": {&jti: partner.set(&jti)}})).await;
            assert_eq!(answer, json!({"ack": [jti]}), "{}", partner.name);
        }
    }
    socket.send(&json!({"sets": {"last": partner.set("last")}})).await;
    assert_eq!(socket.object().await, json!({"ack": ["last"]}), "and nothing of the others");
}

#[tokio::test]
async fn one_connection_carries_many_requests_and_ends_with_garbage() {
    let (partner, daemon) = scene(true).await;
    let mut wire = daemon.connect().await;
    for number in 0..20 {
        let jti = format!("event-{number}");
        let answer =
            partner.post_on(&mut wire, json!({"sets": {&jti: partner.set(&jti)}}).to_string().as_bytes()).await;
        assert_eq!(verdict(&answer.json(), &jti).as_deref(), Some("ack"));
    }
    // An error does not end it, as long as the requests can be told apart.
    assert_eq!(partner.post_on(&mut wire, b"{").await.status(), 400);
    assert_eq!(partner.post_on(&mut wire, b"{}").await.status(), 200);
    // A refused request and a smuggled one behind it.
    let object = json!({"sets": {"smuggled": partner.set("smuggled")}}).to_string();
    let bearer = partner.bearer();
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let mut bytes =
        request("POST", "/pushpull", &[("Content-Type", "application/json"), ("Content-Length", "9")], b"{}");
    bytes.extend_from_slice(b"\x00\x01garbage\r\n\r\n");
    bytes.extend(request("POST", "/pushpull", &headers, object.as_bytes()));
    wire.write(&bytes).await.unwrap();
    assert_eq!(soon("an answer", wire.read()).await.unwrap().status(), 401);
    if let Some(next) = soon("an answer or the end", wire.read()).await {
        assert_eq!(next.status(), 400, "garbage is no request");
    }
    assert!(soon("the end", wire.ended()).await);
    assert_eq!(daemon.state("in", "globex", "smuggled").await, None);
    // Two lengths, or a length and chunks: nobody knows where it ends.
    for more in [("Content-Length", "5"), ("Transfer-Encoding", "chunked")] {
        let mut wire = daemon.connect().await;
        let headers = [headers[0], headers[1], ("Content-Length", "2"), more];
        wire.write(&request("POST", "/pushpull", &headers, object.as_bytes())).await.unwrap();
        let answer = soon("an answer", wire.read()).await;
        assert!(answer.as_ref().is_none_or(|answer| answer.status() == 400), "{more:?}: {answer:?}");
    }
    assert_eq!(daemon.state("in", "globex", "smuggled").await, None);
}

#[tokio::test]
async fn our_public_keys_are_shown_to_everybody() {
    let (partner, daemon) = scene(true).await;
    let answer = ask(&daemon, "GET", "/jwks.json", &[], "").await;
    assert_eq!((answer.status(), answer.header("content-type")), (200, Some("application/json")));
    let keys = answer.json()["keys"].as_array().unwrap().clone();
    assert_eq!(keys.len(), 1);
    assert!(keys[0].get("d").is_none(), "a private key is shown");
    daemon.send("globex", "ours").await;
    let token = partner.fetch(&daemon, "ours").await;
    let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(keys[0].clone()).unwrap();
    let key = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
    let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    rules.set_required_spec_claims(&["iss", "aud"]);
    rules.set_audience(&["https://globex.example"]);
    rules.set_issuer(&[crate::common::daemon::ISSUER]);
    let set = jsonwebtoken::decode::<serde_json::Value>(&token, &key, &rules).unwrap();
    assert_eq!((&set.claims["jti"], set.header.typ.as_deref()), (&json!("ours"), Some("secevent+jwt")));
    assert_eq!(set.header.kid.as_deref(), keys[0]["kid"].as_str());
    assert!(set.claims.get("exp").is_none() && set.claims.get("sub").is_none());
}

#[tokio::test]
async fn a_stop_closes_websockets_as_going_away_after_the_last_verdict() {
    let (partner, mut daemon) = scene(false).await;
    let mut socket = Socket::open(&daemon, &partner).await;
    let jtis: Vec<String> = (0..20).map(|number| format!("event-{number}")).collect();
    let sets: serde_json::Map<_, _> = jtis.iter().map(|jti| (jti.clone(), partner.set(jti).into())).collect();
    socket.send(&json!({ "sets": sets })).await;
    socket.object_with(|object| verdict(object, "event-0")).await;
    // The last object and the signal meet.
    socket.send(&json!({"sets": {"last": partner.set("last")}})).await;
    daemon.terminate();
    let (mut acked, mut code) = (false, None);
    loop {
        match socket.next().await {
            Came::Object(object) => acked |= verdict(&object, "last").is_some(),
            Came::Close(close) => code = Some(close),
            Came::Gone => break,
            Came::Pong(_) => {}
        }
        if code.is_some() {
            break;
        }
    }
    assert!(matches!(code, Some(1001 | 1012)), "{code:?}");
    assert_eq!(daemon.ended().await.code(), Some(0));
    daemon.restart().await;
    let received = daemon.state("in", "globex", "last").await.is_some();
    assert!(received || !acked, "acked and not stored");
    // Whatever came of it then: said again, it is acked and there once.
    let answer = partner.exchange(&daemon, &json!({"sets": {"last": partner.set("last")}})).await;
    assert!(received || verdict(&answer, "last").is_some(), "{answer}");
    assert_eq!(daemon.inbox().await.len(), 21);
}

/// A partner that stops says what it owes and closes. Its words and its close frame come in one breath.
#[tokio::test]
async fn what_a_partner_says_right_before_it_closes_counts() {
    let (partner, daemon) = scene(false).await;
    daemon.send("globex", "ours").await;
    let mut socket = Socket::open(&daemon, &partner).await;
    socket.object_with(|object| object["sets"].get("ours").map(drop)).await;
    let sets: serde_json::Map<_, _> =
        (0..20).map(|number| format!("theirs-{number}")).map(|jti| (jti.clone(), partner.set(&jti).into())).collect();
    socket.send(&json!({"ack": ["ours"], "sets": sets})).await;
    socket.frame(Frame::Close(None)).await;
    daemon.settled("globex", "ours", "acked").await;
    assert_eq!(daemon.inbox().await.len(), 20);
}

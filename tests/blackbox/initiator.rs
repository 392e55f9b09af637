//! Our daemon as Initiator: whatever the partner answers, nothing is settled but by its word, and nothing is lost.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::common::daemon::{Daemon, Plan};
use crate::common::partner::{Partner, verdict};
use crate::common::responder::{Request, Responder};
use crate::common::socket::{Came, Socket};
use crate::common::{PATIENCE, soon, until};

/// Ask often, so that the tests are quick; but do not send again without cause.
pub(super) const DELIVERY: &str =
    "[delivery]\nspeak_interval = \"100ms\"\nretry_first = \"1m\"\nping_interval = \"500ms\"\n";

pub(super) async fn dialling(transport: &str, delivery: &str) -> (Responder, Partner, Daemon) {
    to(Responder::listen().await, transport, delivery).await
}

pub(super) async fn dialling_websockets() -> (Responder, Partner, Daemon) {
    let responder = Responder::listen().await;
    responder.take_websockets();
    to(responder, "websocket", DELIVERY).await
}

pub(super) async fn to(responder: Responder, transport: &str, delivery: &str) -> (Responder, Partner, Daemon) {
    let partner = Partner::new("globex");
    let plan = Plan::new(false).with(delivery).with_peer(&partner, &responder.keys(transport));
    let daemon = plan.start().await;
    (responder, partner, daemon)
}

/// Status, header fields, body.
type Answer = (u16, &'static [(&'static str, &'static str)], &'static str);

/// What a partner can answer instead of a Communication Object.
const WRONG_ANSWERS: &[Answer] = &[
    (200, &[("Content-Type", "text/html")], "<html>Please log in</html>"),
    (200, &[("Content-Type", "application/json")], "[]"),
    (200, &[("Content-Type", "application/json")], r#"{"ack":["poison"],"ack":["$JTI"]}"#),
    (200, &[("Content-Type", "application/json")], r#"{"ack":["$JTI"],"setErrs":{"$JTI":{"err":"invalid_key"}}}"#),
    (200, &[("Content-Encoding", "gzip")], r#"{"ack":["$JTI"]}"#),
    (201, &[], r#"{"ack":["$JTI"]}"#),
    (202, &[], r#"{"ack":["$JTI"]}"#),
    (204, &[], ""),
    (301, &[("Location", "/elsewhere")], ""),
    (302, &[("Location", "/elsewhere")], r#"{"ack":["$JTI"]}"#),
    (307, &[("Location", "/elsewhere")], ""),
    (308, &[("Location", "/elsewhere")], ""),
    (400, &[], r#"{"err":"authentication_failed","description":"expired"}"#),
    (400, &[], r#"{"err":"access_denied","description":"not now"}"#),
    (401, &[("WWW-Authenticate", "Bearer")], r#"{"err":"authentication_failed","description":"d"}"#),
    (403, &[], r#"{"err":"access_denied","description":"d"}"#),
    (404, &[], "not here"),
    (500, &[], r#"{"ack":["$JTI"]}"#),
    (502, &[], "<html>bad gateway</html>"),
];

#[tokio::test]
async fn a_wrong_answer_settles_nothing_and_is_recovered_from() {
    let mut plan = Plan::new(false).with(DELIVERY);
    let mut scripts = Vec::new();
    for (number, answer) in WRONG_ANSWERS.iter().enumerate() {
        let (responder, partner) = (Responder::listen().await, Partner::new(&format!("partner-{number}")));
        plan = plan.with_peer(&partner, &responder.keys("http"));
        scripts.push((responder, partner, answer));
    }
    let daemon = plan.start().await;
    let daemon = &daemon;
    let playing = scripts.into_iter().map(|(mut responder, partner, (status, headers, body))| async move {
        let (peer, what) = (partner.name.as_str(), format!("{status} {body}"));
        daemon.send(peer, "event").await;
        let request = responder.request_with("event").await;
        let first = request.object()["sets"].clone();
        request.answer(*status, headers, &body.replace("$JTI", "event"));
        let again = responder.request_with("event").await;
        assert_eq!(again.message.path(), "/pushpull", "{what}: a redirect was followed");
        assert_eq!(again.object()["sets"], first, "{what}: the same SET has other bytes");
        let state = daemon.state("out", peer, "event").await.unwrap();
        assert!(["queued", "in_flight"].contains(&state.as_str()), "{what}: {state}");
        again.ack();
        daemon.settled(peer, "event", "acked").await;
        let totals = daemon.totals(peer).await;
        assert_eq!(
            (&totals["acked"], &totals["refused"], &totals["dead"]),
            (&json!(1), &json!(0), &json!(0)),
            "{what}"
        );
    });
    join_all(playing).await;
}

#[tokio::test]
async fn what_a_partner_has_for_us_is_asked_for_at_once_and_again_after_a_failure() {
    let (mut responder, partner, daemon) = dialling("http", "[delivery]\nspeak_interval = \"1h\"\n").await;
    responder.request().await.lose();
    responder.request().await.answer(503, &[], "");
    let set = partner.set("waiting");
    responder.request().await.answer_object(&json!({"sets": {"waiting": set}}));
    assert_eq!(responder.request().await.object()["ack"], json!(["waiting"]));
    assert_eq!(daemon.inbox().await, [("globex".to_owned(), "waiting".to_owned())]);
}

#[tokio::test]
async fn http_goes_on_while_the_opening_of_a_websocket_hangs() {
    let (mut responder, _partner, daemon) = dialling("websocket", "[delivery]\nspeak_interval = \"1h\"\n").await;
    responder.request().await.answer_object(&json!({}));
    let refused = responder.handshakes_refused();
    responder.swallow_websockets();
    until("a handshake that hangs", || async { (responder.handshakes_refused() > refused).then_some(()) }).await;
    daemon.send("globex", "meanwhile").await;
    let request = responder.request_within(Duration::from_secs(5)).await;
    assert!(request.is_some(), "nothing leaves by HTTP until the handshake is given up");
}

#[tokio::test]
async fn websockets_that_open_and_break_off_make_way_for_http() {
    let (mut responder, _partner, daemon) = dialling("websocket", DELIVERY).await;
    responder.request().await.answer_object(&json!({}));
    responder.take_websockets();
    daemon.send("globex", "event").await;
    // What lies between lets them open and cuts them without a word.
    let cutting = async {
        loop {
            drop(responder.socket().await);
            if let Some(request) = responder.request_within(Duration::from_millis(200)).await {
                return request;
            }
        }
    };
    let mut request = tokio::time::timeout(Duration::from_secs(60), cutting).await.expect("HTTP is never tried");
    while request.jtis().is_empty() {
        request.answer_object(&json!({}));
        request = responder.request().await;
    }
    request.ack();
    daemon.settled("globex", "event", "acked").await;
}

#[tokio::test]
async fn requests_are_what_the_draft_asks_for() {
    let (mut responder, partner, daemon) = dialling("http", DELIVERY).await;
    daemon.send("globex", "event").await;
    let request = responder.request_with("event").await;
    let (object, head) = (request.object(), &request.message);
    assert_eq!((head.method(), head.path()), ("POST", "/pushpull"));
    assert_eq!(head.header("content-type"), Some("application/json"));
    assert_eq!(head.header("authorization"), Some(format!("Bearer {}", partner.our_token).as_str()));
    assert_eq!(head.header("host"), Some(responder.address.to_string().as_str()));
    assert!(head.header("content-encoding").is_none() && head.header("accept-encoding").is_none());
    assert!(object["maxResponseEvents"].as_u64().is_some_and(|max| max > 0), "{object}");
    assert_eq!(object["sets"].as_object().unwrap().len(), 1);
    request.ack();
    daemon.settled("globex", "event", "acked").await;
}

/// Answers until every one of these is acked or this many requests were made; a batch with `poison` is refused.
async fn refuse_what_holds(poison: &str, status: u16, responder: &mut Responder, jtis: &[String]) -> usize {
    let (mut requests, mut acked) = (0, std::collections::BTreeSet::new());
    while acked.len() + 1 < jtis.len() {
        let request = responder.request().await;
        let got = request.jtis();
        if got.is_empty() {
            request.answer_object(&json!({}));
            continue;
        }
        requests += 1;
        assert!(requests < 60, "no end of it: {got:?}");
        if got.iter().any(|jti| jti == poison) {
            request.answer(status, &[], r#"{"err":"invalid_request","description":"cannot parse"}"#);
        } else {
            acked.extend(request.ack());
        }
    }
    requests
}

async fn one_poison_set_hurts_only_itself(status: u16) {
    let quick = "[delivery]\nspeak_interval = \"100ms\"\nretry_first = \"50ms\"\nretry_max = \"100ms\"\n\
        attempts_max = 3\ngive_up_after = \"100ms\"\n";
    let (mut responder, _, daemon) = dialling("http", quick).await;
    daemon.admin("POST", "/api/v1/peers/globex/pause", None).await;
    let jtis: Vec<String> = (0..32).map(|number| format!("event-{number:02}")).collect();
    daemon.send_all("globex", &jtis).await;
    daemon.admin("POST", "/api/v1/peers/globex/resume", None).await;
    let refusing = refuse_what_holds("event-13", status, &mut responder, &jtis);
    let requests = soon("all the others", refusing).await;
    // 32 SETs: five halvings, two requests each, and the first; the poison may come again meanwhile.
    assert!(requests <= 16, "{requests} requests to find one SET of 32");
    for jti in jtis.iter().filter(|jti| *jti != "event-13") {
        daemon.settled("globex", jti, "acked").await;
    }
    // Alone it is tried as often as any other, never with others, and then given up.
    daemon.send("globex", "later").await;
    let mut later = false;
    let started = tokio::time::Instant::now();
    while daemon.state("out", "globex", "event-13").await.as_deref() != Some("dead") {
        assert!(started.elapsed() < PATIENCE, "it is not given up");
        let Some(request) = responder.request_within(Duration::from_millis(300)).await else { continue };
        let got = request.jtis();
        if got.iter().any(|jti| jti == "event-13") {
            assert_eq!(got.len(), 1, "the poison travels with others: {got:?}");
            request.answer(status, &[], r#"{"err":"invalid_request","description":"cannot parse"}"#);
        } else {
            later |= got.iter().any(|jti| jti == "later");
            request.ack();
        }
    }
    assert!(later || daemon.state("out", "globex", "later").await.as_deref() != Some("dead"));
    assert_eq!(daemon.totals("globex").await["dead"], 1);
}

#[tokio::test]
async fn one_poison_set_in_a_batch_hurts_only_itself() {
    one_poison_set_hurts_only_itself(400).await;
}

#[tokio::test]
async fn one_set_too_large_for_the_partner_hurts_only_itself() {
    one_poison_set_hurts_only_itself(413).await;
}

#[tokio::test]
async fn a_lost_answer_makes_the_same_bytes_leave_again() {
    let (mut responder, partner, daemon) = dialling("http", DELIVERY).await;
    for round in 0..3 {
        let jti = format!("event-{round}");
        daemon.send("globex", &jti).await;
        let request = responder.request_with(&jti).await;
        let token = request.object()["sets"][&jti].clone();
        request.lose();
        let again = responder.request_with(&jti).await;
        assert_eq!(again.object()["sets"][&jti], token);
        again.ack();
        daemon.settled("globex", &jti, "acked").await;
    }
    // A verdict of ours that was on the way of a lost exchange leaves again, too.
    let theirs = json!({"sets": {"theirs": partner.set("theirs")}});
    responder.request().await.answer_object(&theirs);
    for _ in 0..2 {
        let request = next_with_ack(&mut responder, "theirs").await;
        request.lose();
    }
    next_with_ack(&mut responder, "theirs").await.answer_object(&json!({}));
    assert_eq!(daemon.inbox().await.len(), 1);
}

async fn next_with_ack(responder: &mut Responder, jti: &str) -> Request {
    responder.request_that(|object| verdict(object, jti).as_deref() == Some("ack")).await
}

#[tokio::test]
async fn verdicts_in_an_answer_settle_and_unknown_ones_do_nothing() {
    let (mut responder, _, daemon) = dialling("http", DELIVERY).await;
    daemon.admin("POST", "/api/v1/peers/globex/pause", None).await;
    daemon.send_all("globex", &["good", "bad", "open"].map(str::to_owned)).await;
    daemon.admin("POST", "/api/v1/peers/globex/resume", None).await;
    let request = responder.request_with("good").await;
    assert_eq!(request.jtis().len(), 3);
    let error = json!({"err": "invalid_audience", "description": "not for me"});
    request.answer_object(&json!({
        "ack": ["good", "good", "never-sent", "x".repeat(500)],
        "setErrs": {"bad": error, "unheard-of": error},
        "unknown": {"members": ["are", "ignored"]},
    }));
    daemon.settled("globex", "good", "acked").await;
    daemon.settled("globex", "bad", "refused").await;
    let record = daemon.record("out", "globex", "bad").await.unwrap();
    assert_eq!((&record["err"], &record["description"]), (&json!("invalid_audience"), &json!("not for me")));
    assert_eq!(daemon.state("out", "globex", "open").await.as_deref(), Some("in_flight"));
    let totals = daemon.totals("globex").await;
    assert_eq!((&totals["acked"], &totals["refused"], &totals["queued"]), (&json!(1), &json!(1), &json!(1)));
    // A missing description is accepted; the answer to another exchange counts as well.
    responder.request().await.answer_object(&json!({"setErrs": {"open": {"err": "own_code"}}}));
    daemon.settled("globex", "open", "refused").await;
}

#[tokio::test]
async fn sets_in_an_answer_are_answered_in_the_next_request() {
    let (mut responder, partner, daemon) = dialling("http", DELIVERY).await;
    let mut claims = partner.claims("bad");
    claims.insert("aud".to_owned(), json!("https://else.example"));
    let sets = json!({"good": partner.set("good"), "bad": partner.sign(&claims)});
    let asked = responder.request().await;
    assert!(asked.object()["sets"].as_object().is_none_or(|sets| sets.is_empty()));
    asked.answer_object(&json!({"sets": sets}));
    for round in ["first", "again"] {
        let request = next_with_ack(&mut responder, "good").await;
        assert_eq!(verdict(&request.object(), "bad").as_deref(), Some("invalid_audience"), "{round}");
        // As if our verdicts had been lost: they are repeated.
        request.answer_object(&json!({"sets": sets}));
    }
    assert_eq!(daemon.inbox().await, [("globex".to_owned(), "good".to_owned())]);
}

/// How many SETs the request allows in its answer.
pub(super) fn wanted(request: &Request) -> u64 {
    request.object()["maxResponseEvents"].as_u64().unwrap()
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_asked_for_in_smaller_parts() {
    let limits = "[limits]\nobject_bytes_max = \"4KiB\"\nset_bytes_max = \"4KiB\"\nsets_per_object_max = 16\n";
    let (mut responder, partner, daemon) = dialling("http", &format!("{DELIVERY}{limits}")).await;
    let sets: Vec<(String, String)> =
        (0..16).map(|n| format!("large-{n}")).map(|jti| (jti.clone(), partner.set(&jti))).collect();
    let (mut asked, mut acked) = (Vec::new(), HashSet::new());
    // As a partner does that has a backlog: each answer holds as much as it may, until it is acked.
    while daemon.inbox().await.len() < sets.len() {
        let request = responder.request().await;
        let object = request.object();
        asked.push(wanted(&request));
        acked.extend(sets.iter().filter(|(jti, _)| verdict(&object, jti).is_some()).map(|(jti, _)| jti));
        let waiting = sets.iter().filter(|(jti, _)| !acked.contains(jti));
        let most = usize::try_from(wanted(&request)).unwrap();
        let part: serde_json::Map<_, _> =
            waiting.take(most).map(|(jti, compact)| (jti.clone(), json!(compact))).collect();
        request.answer_object(&json!({"sets": part}));
        assert!(asked.len() < 200, "{asked:?}");
    }
    asked.dedup();
    assert_eq!(asked[0], 16);
    assert!(asked.windows(2).all(|pair| pair[1] * 2 == pair[0]), "{asked:?}");
}

#[tokio::test]
async fn without_a_websocket_http_serves_and_the_websocket_is_tried_again() {
    let (mut responder, partner, daemon) = dialling("websocket", DELIVERY).await;
    daemon.send("globex", "by-http").await;
    responder.request_with("by-http").await.ack();
    daemon.settled("globex", "by-http", "acked").await;
    assert!(responder.handshakes_refused() >= 1);
    assert_eq!(daemon.get("/api/v1/peers/globex").await["transport"], "http");
    responder.take_websockets();
    // HTTP goes on meanwhile, and nobody has to wait for the WebSocket.
    let opened = async {
        loop {
            if let Some(request) = responder.request_within(Duration::from_millis(50)).await {
                request.answer_object(&json!({}));
            }
            if let Ok(opened) = tokio::time::timeout(Duration::from_millis(1), responder.socket()).await {
                return opened;
            }
        }
    };
    let (handshake, mut socket) = soon("a WebSocket", opened).await;
    assert_eq!(handshake.path(), "/pushpull");
    assert_eq!(handshake.header("sec-websocket-protocol"), Some("pushpull"));
    assert_eq!(handshake.header("authorization"), Some(format!("Bearer {}", partner.our_token).as_str()));
    daemon.send("globex", "by-websocket").await;
    socket.object_with(|object| object["sets"].get("by-websocket").map(drop)).await;
    socket.send(&json!({"ack": ["by-websocket"]})).await;
    daemon.settled("globex", "by-websocket", "acked").await;
    assert_eq!(daemon.get("/api/v1/peers/globex").await["transport"], "websocket");
}

#[tokio::test]
async fn a_half_dead_websocket_is_found_and_its_sets_leave_by_the_next() {
    let (mut responder, _, daemon) = dialling_websockets().await;
    let (_, mut first) = responder.socket().await;
    daemon.send("globex", "event").await;
    let token = first.object_with(|object| object["sets"]["event"].as_str().map(str::to_owned)).await;
    // From here on nobody reads, so no ping is answered.
    let silent_since = tokio::time::Instant::now();
    let (_, mut second) = responder.socket().await;
    let found = silent_since.elapsed();
    assert!(found < Duration::from_secs(5), "found after {found:?}, expected about twice the ping interval");
    assert!(found >= Duration::from_millis(400), "given up after {found:?} without patience");
    let again = second.object_with(|object| object["sets"]["event"].as_str().map(str::to_owned)).await;
    assert_eq!(again, token);
    second.send(&json!({"ack": ["event"]})).await;
    daemon.settled("globex", "event", "acked").await;
    drop(first);
}

#[tokio::test]
async fn a_partner_that_dialled_us_and_went_silent_is_given_up_too() {
    let partner = Partner::new("globex");
    let daemon = Plan::new(false).with(DELIVERY).with_peer(&partner, "").start().await;
    let silent = Socket::open(&daemon, &partner).await;
    let transport = async || daemon.get("/api/v1/peers/globex").await;
    until("the link", async || (transport().await["link"] == "up").then_some(())).await;
    let since = tokio::time::Instant::now();
    daemon.send("globex", "event").await;
    until("the end of the link", async || (transport().await["transport"] != "websocket").then_some(())).await;
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    partner.fetch(&daemon, "event").await;
    drop(silent);
}

#[tokio::test]
async fn an_idle_websocket_whose_pings_are_answered_stays() {
    let responder = Responder::listen().await;
    responder.take_websockets();
    // Long enough that a busy machine answers in time.
    let (mut responder, _, daemon) = to(responder, "websocket", "[delivery]\nping_interval = \"2s\"\n").await;
    let (_, mut only) = responder.socket().await;
    let quiet = tokio::time::timeout(Duration::from_secs(6), only.next()).await;
    assert!(quiet.is_err(), "{quiet:?} although there was nothing to say");
    daemon.send("globex", "event").await;
    only.object_with(|object| object["sets"].get("event").map(drop)).await;
    only.send(&json!({"ack": ["event"]})).await;
    daemon.settled("globex", "event", "acked").await;
}

#[tokio::test]
async fn a_verdict_is_repeated_on_the_next_websocket() {
    let (mut responder, partner, daemon) = dialling_websockets().await;
    let mut claims = partner.claims("bad");
    claims.insert("aud".to_owned(), json!("https://else.example"));
    let object = json!({"sets": {"good": partner.set("good"), "bad": partner.sign(&claims)}});
    for round in 0..3 {
        let (_, mut socket) = responder.socket().await;
        socket.send(&object).await;
        let answer = socket.object_with(|object| object.get("ack").map(|_| object.clone())).await;
        assert_eq!(verdict(&answer, "good").as_deref(), Some("ack"), "{round}");
        assert_eq!(verdict(&answer, "bad").as_deref(), Some("invalid_audience"), "{round}");
        drop(socket);
    }
    assert_eq!(daemon.inbox().await.len(), 1);
}

#[tokio::test]
async fn a_partner_that_talks_nonsense_on_the_websocket_is_left_and_dialled_again() {
    let (mut responder, _, daemon) = dialling_websockets().await;
    daemon.send("globex", "event").await;
    for (nonsense, code) in [(Frame::text("{"), 1007), (Frame::binary(b"{}".to_vec()), 1003)] {
        let (_, mut socket) = responder.socket().await;
        socket.object_with(|object| object["sets"].get("event").map(drop)).await;
        socket.frame(nonsense).await;
        assert_eq!(socket.close_code().await, Some(code));
    }
    let (_, mut socket) = responder.socket().await;
    socket.object_with(|object| object["sets"].get("event").map(drop)).await;
    socket.send(&json!({"ack": ["event"]})).await;
    daemon.settled("globex", "event", "acked").await;
}

#[tokio::test]
async fn a_partner_that_closes_because_of_an_object_gets_it_in_parts() {
    let (mut responder, _, daemon) = dialling_websockets().await;
    daemon.admin("POST", "/api/v1/peers/globex/pause", None).await;
    let jtis: Vec<String> = (0..8).map(|number| format!("event-{number}")).collect();
    daemon.send_all("globex", &jtis).await;
    daemon.admin("POST", "/api/v1/peers/globex/resume", None).await;
    let mut sockets = 0;
    'dialled: loop {
        let (_, mut socket) = responder.socket().await;
        sockets += 1;
        assert!(sockets < 20, "no end of it");
        loop {
            let came = tokio::time::timeout(Duration::from_secs(1), socket.next()).await;
            let Ok(Came::Object(object)) = came else { break 'dialled };
            let got: Vec<String> = object["sets"].as_object().unwrap().keys().cloned().collect();
            if got.iter().any(|jti| jti == "event-5") {
                let close =
                    tokio_tungstenite::tungstenite::protocol::CloseFrame { code: 1007.into(), reason: "".into() };
                socket.frame(Frame::Close(Some(close))).await;
                while !matches!(socket.next().await, Came::Gone | Came::Close(_)) {}
                break;
            }
            socket.send(&json!({"ack": got})).await;
        }
    }
    for jti in jtis.iter().filter(|jti| *jti != "event-5") {
        daemon.settled("globex", jti, "acked").await;
    }
    until("the poison to be alone", async || {
        let state = daemon.state("out", "globex", "event-5").await;
        (state.as_deref() == Some("queued")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_partner_that_turns_on_an_extension_gets_http() {
    let mut responder = Responder::listen().await;
    responder.take_websockets();
    responder.add_to_handshakes("Sec-WebSocket-Extensions: permessage-deflate\r\n");
    let partner = Partner::new("globex");
    let daemon = Plan::new(false).with_peer(&partner, &responder.keys("websocket")).start().await;
    daemon.send("globex", "event").await;
    responder.request_with("event").await.ack();
    daemon.settled("globex", "event", "acked").await;
}

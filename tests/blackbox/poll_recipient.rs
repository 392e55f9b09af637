//! `transport = "poll"` (RFC 8936 §2): SETs are asked for, and each has its verdict told, however the partner behaves.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::initiator::{dialling, to};
use crate::common::daemon::{Daemon, Plan};
use crate::common::partner::{Partner, verdict};
use crate::common::responder::{Request, Responder};
use crate::common::socket::Socket;
use crate::common::{soon, until};

/// A partner that does not wait for SETs is asked again soon, so that the tests are quick.
const EAGER: &str = "[delivery]\nspeak_interval = \"100ms\"\n";

/// 200 and these SETs.
fn give(request: Request, sets: &Value) {
    request.answer_object(&json!({ "sets": sets }));
}

/// A SET for somebody else.
fn misdirected(partner: &Partner, jti: &str) -> String {
    let mut claims = partner.claims(jti);
    claims.insert("aud".to_owned(), json!("https://else.example"));
    partner.sign(&claims)
}

/// The next request that tells the verdict on this SET.
async fn telling(responder: &mut Responder, jti: &str) -> Request {
    let coming = async {
        loop {
            let request = responder.request().await;
            if verdict(&request.object(), jti).is_some() {
                return request;
            }
            give(request, &json!({}));
        }
    };
    soon("the verdict", coming).await
}

fn is_long_poll(request: &Request) -> bool {
    request.object()["returnImmediately"] == false
}

async fn stored(daemon: &Daemon) -> Vec<String> {
    daemon.inbox().await.into_iter().map(|(_, jti)| jti).collect()
}

#[tokio::test]
async fn polls_are_what_rfc_8936_asks_for() {
    let (mut responder, partner, _daemon) = dialling("poll", "").await;
    let request = responder.request().await;
    let (object, head) = (request.object(), &request.message);
    assert_eq!((head.method(), head.path()), ("POST", "/poll"));
    assert_eq!(head.header("content-type"), Some("application/json"));
    assert_eq!(head.header("accept"), Some("application/json"));
    assert_eq!(head.header("authorization"), Some(format!("Bearer {}", partner.our_token).as_str()));
    for name in ["content-encoding", "accept-encoding", "content-language"] {
        assert!(head.header(name).is_none(), "{name}: {head:?}");
    }
    assert_eq!(object["returnImmediately"], false);
    assert!(object["maxEvents"].as_u64().is_some_and(|max| max > 0), "{object}");
    assert_eq!(object.as_object().unwrap().len(), 2, "no verdicts yet: {object}");
}

#[tokio::test]
async fn sets_of_an_answer_are_stored_and_acked_in_the_next_poll() {
    let (mut responder, partner, daemon) = dialling("poll", "").await;
    let mut sets = json!({"event-0": partner.set("event-0"), "event-1": partner.set("event-1")});
    give(responder.request().await, &sets);
    let given = Instant::now();
    let request = responder.request().await;
    assert!(request.at.duration_since(given) < Duration::from_secs(1));
    let object = request.object();
    assert!(["event-0", "event-1"].iter().all(|jti| verdict(&object, jti).as_deref() == Some("ack")), "{object}");
    assert!(object.get("setErrs").is_none(), "{object}");
    assert_eq!(stored(&daemon).await, ["event-0", "event-1"]);
    // What was acked comes again all the same, and something new with it. There is more, so the next poll does not wait.
    sets["event-2"] = json!(partner.set("event-2"));
    request.answer_object(&json!({"sets": sets, "moreAvailable": true, "strange": [null]}));
    let object = responder.request().await.object();
    for jti in ["event-0", "event-1", "event-2"] {
        assert_eq!(verdict(&object, jti).as_deref(), Some("ack"), "{object}");
    }
    assert_eq!(stored(&daemon).await, ["event-0", "event-1", "event-2"], "each once");
}

#[tokio::test]
async fn a_bad_set_is_refused_alone_and_in_a_language() {
    let (mut responder, partner, daemon) = dialling("poll", "").await;
    let mut disguised = partner.claims("disguised");
    disguised.insert("jti".to_owned(), json!("somebody-else"));
    let sets = json!({
        "good": partner.set("good"), "bad": misdirected(&partner, "bad"), "nonsense": "x.y.z",
        "disguised": partner.sign(&disguised),
    });
    give(responder.request().await, &sets);
    for round in ["first", "again"] {
        let request = telling(&mut responder, "good").await;
        let object = request.object();
        let codes = [("bad", "invalid_audience"), ("nonsense", "invalid_request"), ("disguised", "invalid_request")];
        for (jti, code) in codes {
            assert_eq!(verdict(&object, jti).as_deref(), Some(code), "{round}: {object}");
            assert!(object["setErrs"][jti]["description"].as_str().is_some_and(|text| !text.is_empty()), "{object}");
        }
        assert_eq!(request.message.header("content-language"), Some("en"), "{round}");
        give(request, &sets);
    }
    assert_eq!(stored(&daemon).await, ["good"]);
    assert_eq!(daemon.state("in", "globex", "bad").await.as_deref(), Some("refused"));
}

#[tokio::test]
async fn acks_do_not_wait_for_a_poll_that_hangs() {
    let (mut responder, partner, daemon) = dialling("poll", "").await;
    let hanging = responder.request().await;
    // There is a verdict to tell meanwhile, because the partner has a second way to us.
    let mut socket = Socket::open(&daemon, &partner).await;
    socket.send(&json!({"sets": {"good": partner.set("good"), "bad": misdirected(&partner, "bad")}})).await;
    let request = tokio::select! {
        came = socket.next() => panic!("{came:?}"),
        request = responder.request() => request,
    };
    // From here on there is no other way to tell them.
    drop(socket);
    let transport = async || daemon.get("/api/v1/peers/globex").await["transport"].clone();
    until("the end of the socket", async || (transport().await != "websocket").then_some(())).await;
    let object = request.object();
    assert_eq!((&object["maxEvents"], &object["returnImmediately"]), (&json!(0), &json!(true)), "{object}");
    assert_eq!(verdict(&object, "good").as_deref(), Some("ack"), "{object}");
    assert_eq!(verdict(&object, "bad").as_deref(), Some("invalid_audience"), "{object}");
    assert_eq!(request.message.header("content-language"), Some("en"));
    // One that was not taken is repeated, and a SET that comes although none was asked for is taken.
    request.answer(500, &[], "");
    let again = responder.request().await;
    assert_eq!(again.object(), object);
    give(again, &json!({"unasked": partner.set("unasked")}));
    let more = responder.request().await;
    assert!(!is_long_poll(&more));
    assert_eq!(more.object()["ack"], json!(["unasked"]));
    give(more, &json!({}));
    assert_eq!(stored(&daemon).await, ["good", "unasked"]);
    // The first poll has hung all the while, and brings what it was for.
    give(hanging, &json!({"late": partner.set("late")}));
    let next = telling(&mut responder, "late").await;
    assert!(is_long_poll(&next));
    assert_eq!(next.object()["ack"], json!(["late"]), "nothing of it is told twice");
}

/// Status, header fields, body; 0 for a connection that ends without an answer.
type Answer = (u16, &'static [(&'static str, &'static str)], &'static str);

/// What a partner can answer instead of SETs.
const WRONG_ANSWERS: &[Answer] = &[
    (200, &[("Content-Type", "text/html")], "<html>Please log in</html>"),
    (200, &[], ""),
    (200, &[], "[]"),
    (200, &[], r#"{"sets":null}"#),
    (200, &[], r#"{"sets":{"other":"x"},"sets":{}}"#),
    (200, &[("Content-Encoding", "gzip")], r#"{"sets":{}}"#),
    (202, &[], r#"{"sets":{}}"#),
    (204, &[], ""),
    (301, &[("Location", "/elsewhere")], ""),
    (400, &[], r#"{"err":"invalid_request","description":"d"}"#),
    (401, &[("WWW-Authenticate", "Bearer")], ""),
    (403, &[], ""),
    (404, &[], "not here"),
    (429, &[("Retry-After", "1")], ""),
    (500, &[], r#"{"sets":{}}"#),
    (502, &[], "<html>bad gateway</html>"),
    (503, &[("Retry-After", "1")], ""),
    (0, &[], ""),
];

#[tokio::test]
async fn after_a_wrong_answer_the_verdicts_are_told_again_in_a_while() {
    let mut plan = Plan::new(false).with(EAGER);
    let mut scripts = Vec::new();
    for (number, answer) in WRONG_ANSWERS.iter().enumerate() {
        let (responder, partner) = (Responder::listen().await, Partner::new(&format!("partner-{number}")));
        plan = plan.with_peer(&partner, &responder.keys("poll"));
        scripts.push((responder, partner, answer));
    }
    let daemon = plan.start().await;
    let daemon = &daemon;
    let playing = scripts.into_iter().map(|(mut responder, partner, (status, headers, body))| async move {
        let what = format!("{status} {body}");
        give(responder.request().await, &json!({"event": partner.set("event")}));
        let request = telling(&mut responder, "event").await;
        let mut told = Instant::now();
        match *status {
            // A connection that ends under a request is tried once more at once; after that there is a pause.
            0 => {
                request.lose();
                let again = responder.request().await;
                told = Instant::now();
                again.lose();
            }
            status => request.answer(status, headers, body),
        }
        let again = responder.request().await;
        assert_eq!(again.message.path(), "/poll", "{what}: a redirect was followed");
        let waited = again.at.duration_since(told);
        let least = match *status {
            429 | 503 => 950,
            // It may be for what it held, of which there is less in the next one.
            400 => 15,
            _ => 450,
        };
        assert!(waited >= Duration::from_millis(least), "{what}: again after {waited:?}");
        let told_again = verdict(&again.object(), "event");
        if *status == 400 {
            // It minds this verdict, and gets it again when it asks for it again.
            assert_eq!(told_again, None, "{what}: {}", again.object());
            give(again, &json!({"event": partner.set("event"), "another": partner.set("another")}));
            // Together or one after the other: there are fewer in a poll after it minded some.
            let mut missing = BTreeSet::from(["event", "another"]);
            while !missing.is_empty() {
                let next = soon("the verdicts", responder.request()).await;
                missing.retain(|jti| verdict(&next.object(), jti).is_none());
                give(next, &json!({}));
            }
            return;
        }
        assert_eq!(told_again.as_deref(), Some("ack"), "{what}: {}", again.object());
        give(again, &json!({"another": partner.set("another")}));
        let next = telling(&mut responder, "another").await;
        assert_eq!(next.object()["ack"], json!(["another"]), "{what}: told once it was heard");
    });
    join_all(playing).await;
    let expected = 2 * WRONG_ANSWERS.len();
    assert_eq!(daemon.inbox().await.len(), expected, "each partner's two, once");
}

#[tokio::test]
async fn a_partner_that_does_not_wait_for_sets_is_not_hammered() {
    let (mut responder, _, _daemon) = dialling("poll", "[delivery]\nspeak_interval = \"500ms\"\n").await;
    let end = Instant::now() + Duration::from_secs(2);
    let mut polls = 0;
    while let Ok(request) = tokio::time::timeout_at(end, responder.request()).await {
        polls += 1;
        give(request, &json!({}));
    }
    assert!((2..=6).contains(&polls), "{polls} polls in two seconds");
}

#[tokio::test]
async fn after_a_poll_that_waited_the_next_comes_at_once() {
    let (mut responder, partner, daemon) = dialling("poll", "[delivery]\nspeak_interval = \"1h\"\n").await;
    let request = responder.request().await;
    // A partner that waits for SETs is not a partner that answers at once that there are none.
    tokio::time::sleep(Duration::from_millis(700)).await;
    give(request, &json!({}));
    let next = tokio::time::timeout(Duration::from_secs(2), responder.request()).await.expect("another poll");
    give(next, &json!({"event": partner.set("event")}));
    assert_eq!(responder.request().await.object()["ack"], json!(["event"]));
    assert_eq!(stored(&daemon).await, ["event"]);
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_asked_for_in_smaller_parts() {
    let limits = "[limits]\nobject_bytes_max = \"4KiB\"\nset_bytes_max = \"4KiB\"\nsets_per_object_max = 16\n";
    let (mut responder, partner, daemon) = dialling("poll", &format!("{EAGER}{limits}")).await;
    let mut waiting: Vec<(String, String)> =
        (0..16).map(|n| format!("large-{n}")).map(|jti| (jti.clone(), partner.set(&jti))).collect();
    let mut asked = Vec::new();
    // As a partner does that has a backlog: each answer holds as much as it may, until it is acked.
    while !waiting.is_empty() {
        let request = responder.request().await;
        let object = request.object();
        waiting.retain(|(jti, _)| verdict(&object, jti).is_none());
        let most = object["maxEvents"].as_u64().unwrap();
        if most > 0 {
            asked.push(most);
        }
        let part = waiting.iter().take(usize::try_from(most).unwrap());
        let part: Map<_, _> = part.map(|(jti, compact)| (jti.clone(), json!(compact))).collect();
        give(request, &Value::Object(part));
        assert!(asked.len() < 200, "{asked:?}");
    }
    asked.dedup();
    assert_eq!(asked[0], 16);
    assert!(asked.windows(2).all(|pair| pair[1] * 2 == pair[0]), "{asked:?}");
    assert_eq!(daemon.inbox().await.len(), 16);
}

#[tokio::test]
async fn what_was_stored_and_not_told_before_a_restart_is_told_when_it_comes_again() {
    let (mut responder, partner, mut daemon) = dialling("poll", EAGER).await;
    let sets = json!({"good": partner.set("good"), "bad": misdirected(&partner, "bad")});
    give(responder.request().await, &sets);
    // The verdicts are on their way when we go, and nobody hears them.
    let unheard = telling(&mut responder, "good").await;
    daemon.kill().await;
    drop(unheard);
    daemon.restart().await;
    assert_eq!(stored(&daemon).await, ["good"]);
    give(responder.request().await, &sets);
    let object = telling(&mut responder, "good").await.object();
    assert_eq!(verdict(&object, "good").as_deref(), Some("ack"), "{object}");
    assert_eq!(verdict(&object, "bad").as_deref(), Some("invalid_audience"), "{object}");
    assert_eq!(stored(&daemon).await, ["good"], "once");
}

#[tokio::test]
async fn without_the_partners_keys_a_set_has_no_verdict_and_later_it_has() {
    let (mut responder, partner) = (Responder::listen().await, Partner::new("globex"));
    let keys = format!("jwks_uri = \"{}\"\n{}", responder.jwks_uri(), responder.keys("poll"));
    let daemon = Plan::new(false).with(EAGER).with_peer(&partner, &keys).start().await;
    let sets = json!({"event": partner.set("event")});
    for _ in 0..2 {
        let request = responder.request().await;
        assert_eq!(verdict(&request.object(), "event"), None);
        give(request, &sets);
    }
    assert!(stored(&daemon).await.is_empty());
    responder.publish(Some(partner.jwks()));
    let coming = async {
        loop {
            let request = responder.request().await;
            if verdict(&request.object(), "event").is_some() {
                return request.object();
            }
            give(request, &sets);
        }
    };
    assert_eq!(soon("a verdict", coming).await["ack"], json!(["event"]));
    assert_eq!(stored(&daemon).await, ["event"]);
}

#[tokio::test]
async fn verdicts_on_our_sets_have_no_place_in_an_answer() {
    let (mut responder, partner, daemon) = dialling("poll", EAGER).await;
    daemon.send("globex", "ours").await;
    // It was given out, so a verdict on it would mean something.
    partner.poll(&daemon, &json!({})).await;
    let request = responder.request().await;
    request.answer_object(&json!({"sets": {"event": partner.set("event")}, "ack": ["ours"]}));
    telling(&mut responder, "event").await;
    assert_ne!(daemon.state("out", "globex", "ours").await.as_deref(), Some("acked"));
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_poll_that_hangs_and_tells_what_it_owes() {
    let (mut responder, partner, mut daemon) = to(Responder::listen().await, "poll", EAGER).await;
    give(responder.request().await, &json!({"event": partner.set("event")}));
    let hanging = telling(&mut responder, "event").await;
    daemon.terminate();
    let stopped = Instant::now();
    // Nobody knows whether the ack in the poll was heard, so it is told once more, by a request that does not wait.
    let mut told = BTreeSet::new();
    let ending = async {
        let answering = async {
            loop {
                let request = responder.request().await;
                assert!(!is_long_poll(&request), "a poll that waits although we stop");
                told.insert(request.object()["ack"].to_string());
                give(request, &json!({}));
            }
        };
        tokio::select! {
            status = daemon.ended() => status,
            () = answering => unreachable!("it has no end"),
        }
    };
    assert_eq!(soon("the end", ending).await.code(), Some(0));
    assert!(stopped.elapsed() < Duration::from_secs(10), "{:?}", stopped.elapsed());
    assert_eq!(told, BTreeSet::from([json!(["event"]).to_string()]));
    drop(hanging);
    daemon.restart().await;
    assert_eq!(stored(&daemon).await, ["event"]);
    give(responder.request().await, &json!({"event": partner.set("event")}));
    assert_eq!(telling(&mut responder, "event").await.object()["ack"], json!(["event"]));
    assert_eq!(stored(&daemon).await, ["event"], "once");
}

#[tokio::test]
async fn verdicts_that_are_too_many_for_the_partner_are_told_in_smaller_parts() {
    let (mut responder, partner, daemon) = dialling("poll", EAGER).await;
    let jtis: BTreeSet<String> = (0..32).map(|number| format!("event-{number:02}")).collect();
    let sets: Map<_, _> = jtis.iter().map(|jti| (jti.clone(), partner.set(jti).into())).collect();
    give(responder.request().await, &Value::Object(sets));
    let (mut acked, mut refused) = (BTreeSet::new(), 0);
    let telling = async {
        while acked.len() < jtis.len() {
            let request = responder.request().await;
            let acks = request.object()["ack"].as_array().cloned().unwrap_or_default();
            if acks.len() > 5 {
                refused += 1;
                request.answer([413, 400][refused % 2], &[], "");
            } else {
                acked.extend(acks.iter().map(|jti| jti.as_str().unwrap().to_owned()));
                give(request, &json!({}));
            }
        }
    };
    soon("all acks", telling).await;
    assert_eq!(acked, jtis);
    // After each that was taken it may be twice as many again.
    assert!(refused <= 20, "{refused} polls to learn how many are too many");
    assert_eq!(daemon.inbox().await.len(), 32);
}

/// Hands out the same SETs for so long whatever it is told: how often it was polled.
async fn stay_deaf(responder: &mut Responder, sets: &Value, time: Duration) -> usize {
    let (deadline, mut polls) = (Instant::now() + time, 0);
    while let Some(request) = responder.request_within(deadline.saturating_duration_since(Instant::now())).await {
        give(request, sets);
        polls += 1;
    }
    polls
}

#[tokio::test]
async fn a_partner_that_hands_out_again_what_it_was_answered_is_polled_less_and_less() {
    let (mut responder, partner, daemon) = dialling("poll", "").await;
    let mut sets = json!({"event": partner.set("event"), "bad": misdirected(&partner, "bad")});
    let polls = stay_deaf(&mut responder, &sets, Duration::from_secs(2)).await;
    assert!((3..=12).contains(&polls), "{polls} polls in two seconds");
    // Its verdicts are told all the same, and something new ends the pauses.
    sets["news"] = json!(partner.set("news"));
    give(telling(&mut responder, "event").await, &sets);
    let given = Instant::now();
    let request = responder.request().await;
    assert!(request.at.duration_since(given) < Duration::from_secs(1));
    assert_eq!(verdict(&request.object(), "news").as_deref(), Some("ack"));
    give(request, &json!({}));
    assert_eq!(stored(&daemon).await, ["event", "news"]);
}

#[tokio::test]
async fn a_partner_that_takes_no_verdicts_is_polled_less_and_less() {
    let (mut responder, partner, daemon) = dialling("poll", "").await;
    let sets = json!({"event": partner.set("event")});
    let (deadline, mut polls) = (Instant::now() + Duration::from_secs(2), 0);
    while let Some(request) = responder.request_within(deadline.saturating_duration_since(Instant::now())).await {
        polls += 1;
        match verdict(&request.object(), "event") {
            Some(_) => request.answer(400, &[], r#"{"err":"invalid_request","description":"no acks, please"}"#),
            None => give(request, &sets),
        }
    }
    assert!((3..=20).contains(&polls), "{polls} polls in two seconds");
    assert_eq!(stored(&daemon).await, ["event"]);
}

#[tokio::test]
async fn acks_that_are_answered_with_what_they_ack_do_not_chase_one_another() {
    let (mut responder, partner, daemon) = dialling("poll", "").await;
    let _hanging = responder.request().await;
    // There is a verdict to tell meanwhile, because the partner has a second way to us.
    let mut socket = Socket::open(&daemon, &partner).await;
    let sets = json!({"event": partner.set("event")});
    // Told by the socket, it is asked for once more.
    let request = loop {
        socket.send(&json!({ "sets": sets })).await;
        tokio::select! {
            request = responder.request() => break request,
            _ = socket.next() => {}
        }
    };
    assert_eq!(verdict(&request.object(), "event").as_deref(), Some("ack"));
    drop(socket);
    let transport = async || daemon.get("/api/v1/peers/globex").await["transport"].clone();
    until("the end of the socket", async || (transport().await != "websocket").then_some(())).await;
    give(request, &sets);
    let acks = stay_deaf(&mut responder, &sets, Duration::from_secs(2)).await;
    assert!((1..=4).contains(&acks), "{acks} acknowledgements in two seconds");
    assert_eq!(stored(&daemon).await, ["event"]);
}

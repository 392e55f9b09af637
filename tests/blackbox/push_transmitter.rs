//! `transport = "push"` (RFC 8935 §2): a SET a request, settled by a 202 or by a 400 that names a fault of the SET, and by
//! nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::Instant;

use super::initiator::dialling;
use crate::common::daemon::{Daemon, ISSUER, Plan};
use crate::common::partner::{Partner, opened};
use crate::common::responder::{Request, Responder};
use crate::common::{soon, until};

/// A SET without a verdict is soon tried again.
const QUICK: &str = "[delivery]\nretry_first = \"100ms\"\nretry_max = \"200ms\"\n";

/// One whose answer takes its time is not sent again meanwhile.
const PATIENT: &str = "[delivery]\nretry_first = \"1m\"\n";

/// Hands in all of these before the first of them leaves.
async fn send_together(daemon: &Daemon, jtis: &[String]) {
    daemon.admin("POST", "/api/v1/peers/globex/pause", None).await;
    daemon.send_all("globex", jtis).await;
    daemon.admin("POST", "/api/v1/peers/globex/resume", None).await;
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("event-{number:02}")).collect()
}

fn accept(request: Request) -> String {
    let jti = request.pushed();
    request.answer(202, &[], "");
    jti
}

#[tokio::test]
async fn requests_are_what_rfc_8935_asks_for() {
    let (mut responder, partner, daemon) = dialling("push", PATIENT).await;
    daemon.send("globex", "event").await;
    let request = responder.request().await;
    let head = &request.message;
    assert_eq!((head.method(), head.path()), ("POST", "/push"));
    assert_eq!(head.header("content-type"), Some("application/secevent+jwt"));
    assert_eq!(head.header("accept"), Some("application/json"));
    assert!(head.header("accept-language").is_some_and(|language| language.starts_with("en")), "{head:?}");
    assert_eq!(head.header("authorization"), Some(format!("Bearer {}", partner.our_token).as_str()));
    assert_eq!(head.header("host"), Some(responder.address.to_string().as_str()));
    for name in ["content-encoding", "accept-encoding", "expect", "origin", "content-language"] {
        assert!(head.header(name).is_none(), "{name}: {head:?}");
    }
    let (header, claims) = opened(&head.text());
    assert_eq!(header["typ"], "secevent+jwt");
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!(ISSUER), &json!(partner.issuer)));
    assert_eq!(claims["jti"], "event");
    accept(request);
    daemon.settled("globex", "event", "acked").await;
    // A SET that is handed in whole leaves whole, and nothing with it.
    let set = partner.set("theirs");
    let handed = daemon.admin("POST", "/api/v1/events", Some(&json!({"peer": "globex", "set": set}))).await;
    assert_eq!(handed.status(), 202, "{}", handed.text());
    let request = responder.request().await;
    assert_eq!(request.message.text(), set);
    accept(request);
    daemon.settled("globex", "theirs", "acked").await;
}

#[tokio::test]
async fn a_registered_code_about_the_set_refuses_it_and_a_202_acks_it() {
    let (mut responder, _, daemon) = dialling("push", QUICK).await;
    let codes = ["invalid_request", "invalid_key", "invalid_issuer", "invalid_audience", "invalid_state"];
    for code in codes {
        daemon.send("globex", code).await;
        let request = responder.push_of(code).await;
        // The type of the body is no more than a hint, and some partners leave it out.
        let headers: &[_] = if code == "invalid_key" { &[] } else { &[("Content-Type", "application/json")] };
        request.answer(400, headers, &json!({"err": code, "description": "for this reason"}).to_string());
        daemon.settled("globex", code, "refused").await;
        let record = daemon.record("out", "globex", code).await.unwrap();
        assert_eq!((&record["err"], &record["description"]), (&json!(code), &json!("for this reason")));
    }
    daemon.send("globex", "undescribed").await;
    responder.push_of("undescribed").await.answer(400, &[], r#"{"err":"invalid_request"}"#);
    daemon.settled("globex", "undescribed", "refused").await;
    daemon.send("globex", "good").await;
    accept(responder.push_of("good").await);
    daemon.settled("globex", "good", "acked").await;
    // What is settled does not come again.
    assert!(responder.request_within(Duration::from_millis(500)).await.is_none());
    let totals = daemon.totals("globex").await;
    assert_eq!((&totals["acked"], &totals["refused"], &totals["queued"]), (&json!(1), &json!(6), &json!(0)));
}

#[tokio::test]
async fn a_202_is_an_ack_whatever_its_body_is() {
    let (mut responder, _, daemon) = dialling("push", PATIENT).await;
    let large = |bytes: usize| "x".repeat(bytes);
    let bodies: [(&[_], String); 5] = [
        (&[], "thank you".to_owned()),
        (&[], large((64 << 10) + 1)),
        (&[], large(4 << 20)),
        (&[("Content-Encoding", "gzip")], "\u{1f}".to_owned()),
        (&[("Content-Type", "application/json")], r#"{"err":"invalid_request","description":"or not"}"#.to_owned()),
    ];
    for (number, (headers, body)) in bodies.into_iter().enumerate() {
        let jti = format!("event-{number}");
        daemon.send("globex", &jti).await;
        let request = responder.request().await;
        assert_eq!(request.pushed(), jti, "once each");
        request.answer(202, headers, &body);
        daemon.settled("globex", &jti, "acked").await;
    }
    assert!(responder.request_within(Duration::from_millis(500)).await.is_none());
    // A page of any length is no reason to overhear what stands before it.
    daemon.send("globex", "busy").await;
    let request = responder.push_of("busy").await;
    let told = Instant::now();
    request.answer(503, &[("Retry-After", "2")], &large(4 << 20));
    let again = responder.push_of("busy").await;
    let waited = again.at.duration_since(told);
    assert!(waited >= Duration::from_millis(1900), "again after {waited:?}");
    accept(again);
    daemon.settled("globex", "busy", "acked").await;
}

/// Status, header fields, body.
type Answer = (u16, &'static [(&'static str, &'static str)], &'static str);

/// Stands for a connection that ends without an answer.
const LOST: u16 = 0;

/// Whatever these say, it is no verdict on a SET.
const NO_VERDICTS: &[Answer] = &[
    (400, &[], r#"{"err":"authentication_failed","description":"expired"}"#),
    (400, &[], r#"{"err":"access_denied","description":"not now"}"#),
    (400, &[], r#"{"err":"our_own_code","description":"not registered"}"#),
    (400, &[], r#"{"err":"Invalid_Request","description":"codes differ by case"}"#),
    (400, &[], r#"{"error":"invalid_request"}"#),
    (400, &[], r#"{"err":"invalid_request","err":"invalid_key"}"#),
    (400, &[("Content-Type", "text/html")], "<html>invalid_request</html>"),
    (400, &[], ""),
    (200, &[("Content-Type", "text/html")], "<html>Please log in</html>"),
    (200, &[], ""),
    (201, &[], ""),
    (204, &[], ""),
    (301, &[("Location", "/elsewhere")], ""),
    (307, &[("Location", "/elsewhere")], ""),
    (401, &[("WWW-Authenticate", "Bearer")], r#"{"err":"invalid_request","description":"d"}"#),
    (403, &[], r#"{"err":"invalid_request","description":"d"}"#),
    (404, &[], "not here"),
    (405, &[("Allow", "GET")], ""),
    (408, &[], ""),
    (409, &[], r#"{"err":"invalid_request","description":"known already"}"#),
    (413, &[], ""),
    (415, &[], ""),
    (429, &[], ""),
    (500, &[], r#"{"err":"invalid_request","description":"d"}"#),
    (502, &[], "<html>bad gateway</html>"),
    (503, &[], ""),
    (504, &[], ""),
    (LOST, &[], ""),
];

#[tokio::test]
async fn whatever_is_no_verdict_settles_nothing_and_the_same_bytes_leave_again() {
    let mut plan = Plan::new(false).with(QUICK);
    let mut scripts = Vec::new();
    for (number, answer) in NO_VERDICTS.iter().enumerate() {
        let (responder, partner) = (Responder::listen().await, Partner::new(&format!("partner-{number}")));
        plan = plan.with_peer(&partner, &responder.keys("push"));
        scripts.push((responder, partner, answer));
    }
    let daemon = plan.start().await;
    let daemon = &daemon;
    let playing = scripts.into_iter().map(|(mut responder, partner, (status, headers, body))| async move {
        let (peer, what) = (partner.name.as_str(), format!("{status} {body}"));
        daemon.send(peer, "event").await;
        let request = responder.request().await;
        let first = request.message.body.clone();
        match *status {
            LOST => request.lose(),
            status => request.answer(status, headers, body),
        }
        let again = responder.request().await;
        assert_eq!(again.message.path(), "/push", "{what}: a redirect was followed");
        assert_eq!(again.message.body, first, "{what}: the same SET has other bytes");
        let state = daemon.state("out", peer, "event").await.unwrap();
        assert!(["queued", "in_flight"].contains(&state.as_str()), "{what}: {state}");
        accept(again);
        daemon.settled(peer, "event", "acked").await;
        let totals = daemon.totals(peer).await;
        let ended = (&totals["acked"], &totals["refused"], &totals["dead"]);
        assert_eq!(ended, (&json!(1), &json!(0), &json!(0)), "{what}");
    });
    join_all(playing).await;
}

async fn patience_is_kept(status: u16) {
    let (mut responder, _, daemon) = dialling("push", QUICK).await;
    daemon.send("globex", "event").await;
    let request = responder.request().await;
    let told = Instant::now();
    request.answer(status, &[("Retry-After", "2")], "");
    let told_of = async || (daemon.get("/api/v1/peers/globex").await["link"] == "down").then_some(());
    until("the answer to be heard", told_of).await;
    daemon.send("globex", "meanwhile").await;
    let mut left = BTreeSet::new();
    while left.len() < 2 {
        let request = responder.request().await;
        let waited = request.at.duration_since(told);
        assert!(waited >= Duration::from_millis(1900), "{status}: {} leaves after {waited:?}", request.pushed());
        left.insert(accept(request));
    }
    daemon.settled("globex", "event", "acked").await;
    daemon.settled("globex", "meanwhile", "acked").await;
}

#[tokio::test]
async fn nothing_leaves_before_the_time_is_over_that_a_503_or_a_429_asks_for() {
    tokio::join!(patience_is_kept(503), patience_is_kept(429), patience_is_kept(502));
}

async fn one_set_stays_away(status: u16) {
    let (mut responder, _, daemon) = dialling("push", QUICK).await;
    daemon.send("globex", "event").await;
    let request = responder.push_of("event").await;
    let told = Instant::now();
    request.answer(status, &[("Retry-After", "2")], "");
    daemon.send("globex", "meanwhile").await;
    let request = responder.request().await;
    assert_eq!(request.pushed(), "meanwhile", "{status}: it comes again before its time");
    assert!(told.elapsed() < Duration::from_millis(1900), "{status}: it holds up another one");
    accept(request);
    let request = responder.request().await;
    let waited = request.at.duration_since(told);
    assert!(waited >= Duration::from_millis(1900), "{status}: again after {waited:?}");
    accept(request);
    daemon.settled("globex", "event", "acked").await;
}

#[tokio::test]
async fn a_set_does_not_come_again_before_the_time_is_over_that_an_answer_without_a_verdict_asks_for() {
    tokio::join!(one_set_stays_away(500), one_set_stays_away(409), one_set_stays_away(413), one_set_stays_away(400));
}

#[tokio::test]
async fn nothing_leaves_before_the_time_is_over_that_is_asked_for_with_many_sets() {
    let (mut responder, _, daemon) = dialling("push", QUICK).await;
    send_together(&daemon, &names(16)).await;
    let mut told = Instant::now();
    for _ in 0..16 {
        let request = responder.request().await;
        told = Instant::now();
        request.answer(500, &[("Retry-After", "3")], "");
    }
    // One that has failed nowhere yet: now it is the partner who asks for patience.
    daemon.send("globex", "meanwhile").await;
    let request = responder.request().await;
    let waited = request.at.duration_since(told);
    assert!(waited >= Duration::from_millis(2900), "{} leaves after {waited:?}", request.pushed());
}

#[tokio::test]
async fn several_requests_are_under_way_at_once_and_no_more_than_sixteen() {
    let (mut responder, _, daemon) = dialling("push", PATIENT).await;
    let jtis = names(40);
    send_together(&daemon, &jtis).await;
    let mut open = Vec::new();
    for _ in 0..16 {
        open.push(responder.request().await);
    }
    let one_more = responder.request_within(Duration::from_millis(300)).await;
    assert!(one_more.is_none(), "a seventeenth request");
    let mut pushed: Vec<String> = Vec::new();
    while pushed.len() < jtis.len() {
        // Each answer makes room for one, in whatever order they come.
        pushed.push(accept(open.pop().unwrap()));
        if pushed.len() + open.len() < jtis.len() {
            open.push(responder.request().await);
        }
    }
    pushed.sort();
    assert_eq!(pushed, jtis, "each once");
    until("all acked", async || (daemon.totals("globex").await["acked"] == 40).then_some(())).await;
}

/// Sends many of which one comes to nothing by this, and then one more.
async fn one_does_not_stall_the_others(fail: impl Fn(Request)) {
    let (mut responder, _, daemon) = dialling("push", QUICK).await;
    let jtis = names(60);
    send_together(&daemon, &jtis).await;
    let (mut accepted, mut failed) = (BTreeSet::new(), 0);
    let others = async {
        while accepted.len() + 1 < jtis.len() {
            let request = responder.request().await;
            match request.pushed().as_str() {
                "event-03" => {
                    failed += 1;
                    fail(request);
                }
                _ => drop(accepted.insert(accept(request))),
            }
        }
    };
    let started = Instant::now();
    soon("all the others", others).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(failed > 0);
    until("the others acked", async || (daemon.totals("globex").await["acked"] == 59).then_some(())).await;
    // It is tried on and on, alone by now, and what comes after it does not wait for that.
    for _ in 0..8 {
        fail(responder.request().await);
    }
    daemon.send("globex", "later").await;
    let sent = Instant::now();
    let later = async {
        loop {
            let request = responder.request().await;
            if request.pushed() == "later" {
                return request;
            }
            fail(request);
        }
    };
    let request = soon("the later one", later).await;
    let waited = sent.elapsed();
    assert!(waited < Duration::from_millis(900), "it waits {waited:?} behind one that is not answered");
    accept(request);
    daemon.settled("globex", "later", "acked").await;
    accept(responder.push_of("event-03").await);
    daemon.settled("globex", "event-03", "acked").await;
}

#[tokio::test]
async fn one_set_that_is_never_answered_does_not_stall_the_others() {
    one_does_not_stall_the_others(|request| request.answer(500, &[], "")).await;
}

#[tokio::test]
async fn one_set_at_which_the_partner_breaks_off_does_not_stall_the_others() {
    one_does_not_stall_the_others(Request::lose).await;
}

#[tokio::test]
async fn a_lost_answer_makes_the_same_bytes_leave_again_also_after_a_restart() {
    let (mut responder, _, mut daemon) = dialling("push", QUICK).await;
    daemon.send("globex", "event").await;
    let request = responder.request().await;
    let body = request.message.body.clone();
    request.lose();
    let request = responder.request().await;
    assert_eq!(request.message.body, body);
    // This time it is we who go before the answer comes.
    daemon.kill().await;
    request.answer(202, &[], "");
    daemon.restart().await;
    let request = responder.request().await;
    assert_eq!(request.message.body, body);
    accept(request);
    daemon.settled("globex", "event", "acked").await;
    assert_eq!(daemon.totals("globex").await["acked"], 1);
}

#[tokio::test]
async fn a_stop_among_requests_loses_nothing_of_what_they_carry() {
    let (mut responder, _, mut daemon) = dialling("push", PATIENT).await;
    let jtis = names(3);
    send_together(&daemon, &jtis).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(responder.request().await);
    }
    daemon.terminate();
    open.into_iter().for_each(|request| drop(accept(request)));
    assert_eq!(daemon.ended().await.code(), Some(0));
    daemon.restart().await;
    // Whether or not the answers were heard, none of them is waited for any more.
    let all = async {
        while daemon.totals("globex").await["acked"] != 3 {
            if let Some(request) = responder.request_within(Duration::from_millis(50)).await {
                accept(request);
            }
        }
    };
    soon("all acked", all).await;
    assert_eq!(daemon.totals("globex").await["refused"], 0);
}

#[tokio::test]
async fn a_verification_event_is_pushed_like_any_other_and_its_verdict_is_told() {
    let (mut responder, _, daemon) = dialling("push", PATIENT).await;
    for (answer, code) in [((202, ""), 200), ((400, r#"{"err":"invalid_state","description":"unasked"}"#), 502)] {
        let verifying = daemon.admin("POST", "/api/v1/peers/globex/verify", None);
        let answering = async {
            let request = responder.request().await;
            let (_, claims) = opened(&request.message.text());
            assert!(claims["events"].to_string().contains("event-type/verification"), "{claims}");
            request.answer(answer.0, &[], answer.1);
        };
        let (verified, ()) = tokio::join!(verifying, answering);
        assert_eq!(verified.status(), code, "{}", verified.text());
    }
}

#[tokio::test]
async fn a_stop_takes_no_longer_than_promised_although_a_push_hangs_and_the_set_is_kept() {
    let (mut responder, _, mut daemon) = dialling("push", PATIENT).await;
    daemon.send("globex", "event").await;
    let hanging = responder.request().await;
    daemon.terminate();
    let told = Instant::now();
    assert_eq!(daemon.ended().await.code(), Some(0));
    // The promise is 20 s; the rest is for the machine.
    assert!(told.elapsed() <= Duration::from_secs(21), "{:?}", told.elapsed());
    assert_eq!(hanging.pushed(), "event");
    daemon.restart().await;
    accept(responder.push_of("event").await);
    daemon.settled("globex", "event", "acked").await;
}

/// What a partner answers, and what of it is told.
async fn tells_nothing_of_its_own(transport: &str) {
    let (mut responder, _, daemon) = dialling(transport, QUICK).await;
    // Enough that it is the link's fault.
    send_together(&daemon, &names(12)).await;
    let answer = json!({"err": "unknown_user_anaglobexexample", "description": "anaglobexexample"}).to_string();
    let troubled = async {
        loop {
            if let Some(request) = responder.request_within(Duration::from_millis(50)).await {
                request.answer(400, &[], &answer);
            }
            let status = daemon.get("/api/v1/peers/globex").await;
            if status["link"] == "down" {
                return status.to_string();
            }
        }
    };
    let seen = soon("the trouble", troubled).await + &daemon.log().join("\n");
    assert!(seen.contains("400") && seen.contains("no verdict") == (transport == "push"), "{seen}");
    assert!(!seen.contains("anaglobex"), "{seen}");
}

#[tokio::test]
async fn a_code_of_the_partners_own_may_hold_a_subject_and_stands_in_no_log_or_status() {
    tokio::join!(tells_nothing_of_its_own("push"), tells_nothing_of_its_own("multi-push"));
}

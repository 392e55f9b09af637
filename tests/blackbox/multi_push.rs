//! Multi-set push (draft-deshpande-secevent-http-multi-set-push-02), both sides: many SETs a request, and verdicts that may
//! come with a later answer.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::initiator::dialling;
use super::refusals;
use crate::common::daemon::{Daemon, Plan};
use crate::common::doors::Door;
use crate::common::faults::OBJECT_FAULTS;
use crate::common::http::{Message, is_error, request};
use crate::common::link::Link;
use crate::common::partner::{Partner, verdict};
use crate::common::responder::{Request, Responder};
use crate::common::{soon, until};

/// One whose verdict takes its time is not sent again meanwhile.
const PATIENT: &str = "[delivery]\nretry_first = \"1m\"\n";

/// Posts these bytes, on a connection of their own.
async fn post(daemon: &Daemon, partner: &Partner, body: &[u8]) -> Message {
    partner.post_to(&mut daemon.connect().await, "/multi-push", "application/json", body).await
}

#[tokio::test]
async fn an_answer_has_its_acks_even_if_there_are_none() {
    let partner = Partner::new("globex");
    let daemon = refusals::daemon(&partner, true).await;
    let answer = post(&daemon, &partner, br#"{"sets":{}}"#).await;
    assert_eq!((answer.status(), answer.json()), (202, json!({"ack": []})));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("content-language"), Some("en"));
    let bad = json!({"sets": {"bad": "nonsense"}}).to_string();
    let answer = post(&daemon, &partner, bad.as_bytes()).await.json();
    assert_eq!((&answer["ack"], verdict(&answer, "bad").as_deref()), (&json!([]), Some("invalid_request")));
    let good = json!({"sets": {"good": partner.set("good")}});
    assert_eq!(partner.push_many(&daemon, &good).await, json!({"ack": ["good"]}));
}

#[tokio::test]
async fn a_bad_set_is_refused_alone_and_the_others_are_not() {
    let partner = Partner::new("globex");
    let daemon = refusals::daemon(&partner, false).await;
    refusals::a_bad_set_is_refused_alone(&daemon, &partner, Link::multi_push(&daemon, &partner)).await;
}

#[tokio::test]
async fn the_first_verdict_on_a_jti_stands() {
    let partner = Partner::new("globex");
    let daemon = refusals::daemon(&partner, false).await;
    refusals::the_first_verdict_on_a_jti_stands(&daemon, &partner, Link::multi_push(&daemon, &partner)).await;
}

#[tokio::test]
async fn a_malformed_request_has_no_effect() {
    let partner = Partner::new("globex");
    let daemon = refusals::daemon(&partner, false).await;
    for (number, fault) in OBJECT_FAULTS.iter().enumerate() {
        let good = format!("good-{number}");
        let set = format!("{}:{}", Value::from(good.clone()), Value::from(partner.set(&good)));
        let answer = post(&daemon, &partner, &fault.bytes(&set, "ours")).await;
        is_error(&answer, fault.status);
        let code = if fault.name == "too many SETs" { "too_many_sets" } else { "invalid_request" };
        assert_eq!(answer.json()["err"], code, "{}", fault.name);
        assert_eq!(daemon.state("in", "globex", &good).await, None, "{}: its SET counts", fault.name);
    }
    for without_sets in [r#"{}"#, r#"{"ack":["ours"]}"#, r#"{"SETS":{}}"#] {
        let answer = post(&daemon, &partner, without_sets.as_bytes()).await;
        is_error(&answer, 400);
        assert_eq!(answer.json()["err"], "invalid_request", "{without_sets}");
    }
    assert_eq!(daemon.totals("globex").await["received"], 0);
    // As many as are taken are taken, and at once.
    let sets: serde_json::Map<_, _> =
        (0..20).map(|number| format!("event-{number}")).map(|jti| (jti.clone(), partner.set(&jti).into())).collect();
    let answer = partner.push_many(&daemon, &json!({ "sets": sets })).await;
    assert_eq!(answer["ack"].as_array().unwrap().len(), 20, "{answer}");
}

#[tokio::test]
async fn each_wrong_request_has_its_status() {
    let partner = Partner::new("globex");
    let daemon = refusals::daemon(&partner, false).await;
    let (path, media, too_long) = ("/multi-push", "application/json", (64 << 10) + 1);
    let door = Door { daemon: &daemon, partner: &partner, path, media, too_long };
    door.is_kept().await;
    door.takes(202, |_| json!({"sets": {}}).to_string()).await;
}

#[tokio::test]
async fn verdicts_on_our_sets_have_no_place_in_a_request() {
    let partner = Partner::new("globex");
    let daemon = refusals::daemon(&partner, false).await;
    daemon.send("globex", "ours").await;
    partner.fetch(&daemon, "ours").await;
    let answer = partner.push_many(&daemon, &json!({"sets": {"good": partner.set("good")}, "ack": ["ours"]})).await;
    assert_eq!(answer, json!({"ack": ["good"]}));
    assert_eq!(daemon.state("out", "globex", "ours").await.as_deref(), Some("in_flight"));
}

#[tokio::test]
async fn without_the_partners_keys_there_is_no_verdict_and_later_there_is() {
    let (responder, partner) = (Responder::listen().await, Partner::new("globex"));
    let keys = format!("jwks_uri = \"{}\"", responder.jwks_uri());
    let daemon = Plan::new(false).with_peer(&partner, &keys).start().await;
    let object = json!({"sets": {"event": partner.set("event")}});
    let asked = Instant::now();
    assert_eq!(partner.push_many(&daemon, &object).await, json!({"ack": []}));
    assert!(asked.elapsed() < Duration::from_millis(1300), "{:?}", asked.elapsed());
    assert_eq!(partner.push_many(&daemon, &json!({"sets": {}})).await, json!({"ack": []}));
    assert!(daemon.inbox().await.is_empty());
    responder.publish(Some(partner.jwks()));
    until("a verdict", async || {
        let answer = partner.push_many(&daemon, &object).await;
        (answer == json!({"ack": ["event"]})).then_some(())
    })
    .await;
    assert_eq!(daemon.inbox().await.len(), 1);
}

#[tokio::test]
async fn verdicts_that_could_not_leave_otherwise_are_collected_by_an_empty_request() {
    let (mut responder, partner, daemon) = dialling("http", "[delivery]\nspeak_interval = \"1h\"\n").await;
    let mut bad = partner.claims("bad");
    bad.insert("aud".to_owned(), json!("https://else.example"));
    let sets = json!({"good": partner.set("good"), "bad": partner.sign(&bad)});
    responder.request().await.answer_object(&json!({ "sets": sets }));
    let telling = responder.request_that(|object| verdict(object, "good").is_some()).await;
    telling.answer(503, &[("Retry-After", "60")], "");
    // They come for them sooner than we try again.
    let answer = until("the verdicts", async || {
        let answer = partner.push_many(&daemon, &json!({"sets": {}})).await;
        (answer != json!({"ack": []})).then_some(answer)
    });
    let answer = answer.await;
    assert_eq!(verdict(&answer, "good").as_deref(), Some("ack"), "{answer}");
    assert_eq!(verdict(&answer, "bad").as_deref(), Some("invalid_audience"), "{answer}");
    assert_eq!(partner.push_many(&daemon, &json!({"sets": {}})).await, json!({"ack": []}), "once they are told");
}

#[tokio::test]
async fn whoever_goes_before_the_answer_hears_it_when_it_sends_again() {
    let partner = Partner::new("globex");
    let mut daemon = refusals::daemon(&partner, false).await;
    let object = json!({"sets": {"event": partner.set("event"), "bad": "nonsense"}});
    let bearer = partner.bearer();
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let mut wire = daemon.connect().await;
    wire.write(&request("POST", "/multi-push", &headers, object.to_string().as_bytes())).await.unwrap();
    drop(wire);
    until("the SET", async || (daemon.inbox().await.len() == 1).then_some(())).await;
    for round in ["at once", "after a restart"] {
        let answer = partner.push_many(&daemon, &object).await;
        assert_eq!(verdict(&answer, "event").as_deref(), Some("ack"), "{round}: {answer}");
        assert_eq!(verdict(&answer, "bad").as_deref(), Some("invalid_request"), "{round}: {answer}");
        if round == "at once" {
            daemon.kill().await;
            daemon.restart().await;
        }
    }
    assert_eq!(daemon.inbox().await.len(), 1);
}

/// 202 and these verdicts.
fn answer(request: Request, object: &Value) {
    request.answer(202, &[("Content-Type", "application/json")], &object.to_string());
}

/// 202 and an ack of each of its SETs; their jtis.
fn ack(request: Request) -> Vec<String> {
    let jtis = request.jtis();
    answer(request, &json!({"ack": jtis}));
    jtis
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("event-{number:02}")).collect()
}

/// Hands in all of these before the first of them leaves.
async fn send_together(daemon: &Daemon, jtis: &[String]) {
    daemon.admin("POST", "/api/v1/peers/globex/pause", None).await;
    daemon.send_all("globex", jtis).await;
    daemon.admin("POST", "/api/v1/peers/globex/resume", None).await;
}

#[tokio::test]
async fn requests_are_what_the_draft_asks_for() {
    let (mut responder, partner, daemon) = dialling("multi-push", PATIENT).await;
    let jtis = names(3);
    send_together(&daemon, &jtis).await;
    let request = responder.request().await;
    let (object, head) = (request.object(), &request.message);
    assert_eq!((head.method(), head.path()), ("POST", "/multi-push"));
    assert_eq!(head.header("content-type"), Some("application/json"));
    assert_eq!(head.header("accept"), Some("application/json"));
    assert_eq!(head.header("authorization"), Some(format!("Bearer {}", partner.our_token).as_str()));
    assert!(head.header("content-encoding").is_none() && head.header("accept-encoding").is_none());
    assert_eq!(object.as_object().unwrap().len(), 1, "{object}");
    assert_eq!(request.jtis(), jtis);
    ack(request);
    until("all acked", async || (daemon.totals("globex").await["acked"] == 3).then_some(())).await;
    // Nothing is asked for when nothing is open.
    assert!(responder.request_within(Duration::from_secs(1)).await.is_none());
}

#[tokio::test]
async fn late_verdicts_are_asked_for_with_an_empty_request() {
    let (mut responder, _, daemon) = dialling("multi-push", PATIENT).await;
    send_together(&daemon, &names(3)).await;
    answer(responder.request().await, &json!({"ack": ["event-01"]}));
    for verdicts in [
        json!({"ack": []}),
        json!({"ack": ["event-00"]}),
        json!({"ack": [], "setErrs": {"event-02": {"err": "invalid_key"}}}),
    ] {
        let probe = tokio::time::timeout(Duration::from_secs(3), responder.request()).await.expect("a question");
        assert_eq!(probe.object(), json!({"sets": {}}));
        answer(probe, &verdicts);
    }
    daemon.settled("globex", "event-00", "acked").await;
    daemon.settled("globex", "event-01", "acked").await;
    daemon.settled("globex", "event-02", "refused").await;
    assert!(responder.request_within(Duration::from_secs(1)).await.is_none(), "all is answered");
}

#[tokio::test]
async fn unknown_jtis_are_ignored_and_a_description_may_be_missing() {
    let (mut responder, partner, daemon) = dialling("multi-push", PATIENT).await;
    send_together(&daemon, &names(3)).await;
    let error = json!({"err": "invalid_audience", "description": "not for me"});
    answer(
        responder.request().await,
        &json!({
            "ack": ["event-00", "event-00", "never-sent"],
            "setErrs": {"event-01": error, "event-02": {"err": "their_own"}, "unheard-of": error},
            "sets": {"theirs": partner.set("theirs")},
            "more": {"members": ["are", "ignored"]},
        }),
    );
    daemon.settled("globex", "event-00", "acked").await;
    for (jti, err, description) in [("event-01", "invalid_audience", "not for me"), ("event-02", "their_own", "")] {
        daemon.settled("globex", jti, "refused").await;
        let record = daemon.record("out", "globex", jti).await.unwrap();
        assert_eq!(record["err"], err);
        assert_eq!(record["description"].as_str().unwrap_or_default(), description);
    }
    // The draft has no SETs in answers: nobody would tell what became of them.
    assert!(daemon.inbox().await.is_empty());
    let totals = daemon.totals("globex").await;
    assert_eq!((&totals["acked"], &totals["refused"], &totals["queued"]), (&json!(1), &json!(2), &json!(0)));
}

/// Status, header fields, body; 0 for a connection that ends without an answer.
type Answer = (u16, &'static [(&'static str, &'static str)], &'static str);

/// Whatever these say, it settles nothing.
const NO_VERDICTS: &[Answer] = &[
    (200, &[("Content-Type", "application/json")], r#"{"ack":["event"]}"#),
    (201, &[], r#"{"ack":["event"]}"#),
    (202, &[("Content-Type", "text/html")], "<html>Please log in</html>"),
    (202, &[], ""),
    (202, &[], r#"["event"]"#),
    (202, &[], r#"{"ack":["event"],"ack":[]}"#),
    (202, &[], r#"{"ack":["event"],"setErrs":{"event":{"err":"invalid_key"}}}"#),
    (202, &[], r#"{"ack":["event"],"setErrs":{"event-2":{"description":"without err"}}}"#),
    (204, &[], ""),
    (301, &[("Location", "/elsewhere")], ""),
    (400, &[], r#"{"err":"authentication_failed","description":"expired"}"#),
    (400, &[], r#"{"err":"access_denied","description":"not now"}"#),
    (400, &[], r#"{"err":"invalid_request","description":"cannot parse"}"#),
    (401, &[("WWW-Authenticate", "Bearer")], ""),
    (403, &[], r#"{"err":"access_denied","description":"d"}"#),
    (404, &[], "not here"),
    (413, &[], ""),
    (429, &[], ""),
    (500, &[], r#"{"ack":["event"]}"#),
    (503, &[("Retry-After", "1")], ""),
    (0, &[], ""),
];

#[tokio::test]
async fn whatever_is_no_verdict_settles_nothing_and_the_same_bytes_leave_again() {
    let mut plan = Plan::new(false).with("[delivery]\nretry_first = \"200ms\"\n");
    let mut scripts = Vec::new();
    for (number, answer) in NO_VERDICTS.iter().enumerate() {
        let (responder, partner) = (Responder::listen().await, Partner::new(&format!("partner-{number}")));
        plan = plan.with_peer(&partner, &responder.keys("multi-push"));
        scripts.push((responder, partner, answer));
    }
    let daemon = plan.start().await;
    let daemon = &daemon;
    let playing = scripts.into_iter().map(|(mut responder, partner, (status, headers, body))| async move {
        let (peer, what) = (partner.name.as_str(), format!("{status} {body}"));
        daemon.send(peer, "event").await;
        let request = responder.request().await;
        let (first, told) = (request.object(), Instant::now());
        match *status {
            0 => request.lose(),
            status => request.answer(status, headers, body),
        }
        let again = responder.request().await;
        assert_eq!(again.message.path(), "/multi-push", "{what}: a redirect was followed");
        assert_eq!(again.object(), first, "{what}: the same SET has other bytes");
        let waited = again.at.duration_since(told);
        assert!(*status != 503 || waited >= Duration::from_millis(950), "{what}: again after {waited:?}");
        let state = daemon.state("out", peer, "event").await.unwrap();
        assert!(["queued", "in_flight"].contains(&state.as_str()), "{what}: {state}");
        ack(again);
        daemon.settled(peer, "event", "acked").await;
        let totals = daemon.totals(peer).await;
        let ended = (&totals["acked"], &totals["refused"], &totals["dead"]);
        assert_eq!(ended, (&json!(1), &json!(0), &json!(0)), "{what}");
    });
    join_all(playing).await;
}

async fn batches_shrink_to_what_the_partner_takes(status: u16, body: &str) {
    let limits = "[limits]\nsets_per_object_max = 32\n";
    let (mut responder, _, daemon) = dialling("multi-push", &format!("{PATIENT}{limits}")).await;
    let jtis = names(80);
    send_together(&daemon, &jtis[..40]).await;
    let (mut sizes, mut acked) = (Vec::new(), BTreeSet::new());
    while acked.len() < 80 {
        let request = responder.request().await;
        let size = request.jtis().len();
        sizes.push(size);
        if size > 5 {
            request.answer(status, &[], body);
        } else {
            acked.extend(ack(request));
        }
        if acked.len() == 40 {
            send_together(&daemon, &jtis[40..]).await;
        }
    }
    assert_eq!(sizes[..4], [32, 16, 8, 4], "{status}: halves until it fits");
    assert!(sizes[4..].iter().all(|size| *size <= 4), "{status}: what was found is kept: {sizes:?}");
    assert!(sizes.len() <= 3 + 20 + 4, "{status}: and made use of: {sizes:?}");
    until("all acked", async || (daemon.totals("globex").await["acked"] == 80).then_some(())).await;
    assert_eq!(daemon.totals("globex").await["refused"], 0, "{status}");
}

#[tokio::test]
async fn batches_that_are_too_large_for_the_partner_shrink_and_stay_small() {
    tokio::join!(
        batches_shrink_to_what_the_partner_takes(413, r#"{"err":"too_many_sets","description":"at most 5"}"#),
        batches_shrink_to_what_the_partner_takes(413, ""),
        batches_shrink_to_what_the_partner_takes(400, r#"{"err":"too_many_sets","description":"at most 5"}"#),
    );
}

#[tokio::test]
async fn a_set_that_is_always_refused_as_a_request_does_not_stall_the_others() {
    let quick = "[delivery]\nretry_first = \"50ms\"\nretry_max = \"100ms\"\n";
    let (mut responder, _, daemon) = dialling("multi-push", quick).await;
    daemon.send("globex", "poison").await;
    for _ in 0..10 {
        let request = responder.request().await;
        assert_eq!(request.jtis(), ["poison"]);
        request.answer(400, &[], "");
    }
    daemon.send("globex", "later").await;
    let sent = Instant::now();
    let later = async {
        loop {
            let request = responder.request().await;
            if request.jtis() == ["later"] {
                return request;
            }
            request.answer(400, &[], "");
        }
    };
    let request = soon("the later one", later).await;
    let waited = sent.elapsed();
    assert!(waited < Duration::from_millis(900), "it waits {waited:?} behind one that the partner minds");
    ack(request);
    daemon.settled("globex", "later", "acked").await;
}

//! `POST /poll` (RFC 8936 §2) as a partner meets it: SETs when there are some, acks that count at once, and nothing lost by
//! whoever goes away.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout};

use crate::common::daemon::{Daemon, Plan, SMALL_LIMITS, write};
use crate::common::doors::Door;
use crate::common::http::{Message, Wire, is_error, request};
use crate::common::partner::{Partner, opened};
use crate::common::{soon, until};

/// What was polled is not given out again while a test looks at something else.
const PATIENT: &str = "[delivery]\nretry_first = \"1m\"\n";

/// What was polled and not acked is soon given out again.
const QUICK: &str = "[delivery]\nretry_first = \"200ms\"\nretry_max = \"200ms\"\n";

async fn scene(delivery: &str) -> (Partner, Daemon) {
    let partner = Partner::new("globex");
    let daemon = Plan::new(false).with(SMALL_LIMITS).with(delivery).with_peer(&partner, "").start().await;
    (partner, daemon)
}

/// Polls, and leaves the answer to be read later.
async fn begin(daemon: &Daemon, partner: &Partner, poll: &Value) -> Wire {
    let mut wire = daemon.connect().await;
    let bearer = partner.bearer();
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    wire.write(&request("POST", "/poll", &headers, poll.to_string().as_bytes())).await.unwrap();
    wire
}

/// The answer to a poll that was begun.
async fn end(mut wire: Wire) -> Value {
    let answer = soon("the answer to a poll", wire.read()).await.expect("an answer");
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.json()
}

/// Nothing comes for a while.
async fn waits(wire: &mut Wire) {
    let early = timeout(Duration::from_millis(300), wire.read_head()).await;
    assert!(early.is_err(), "{early:?} comes before there is anything");
}

async fn post(daemon: &Daemon, partner: &Partner, body: &[u8]) -> Message {
    partner.post_to(&mut daemon.connect().await, "/poll", "application/json", body).await
}

fn jtis(answer: &Value) -> BTreeSet<String> {
    answer["sets"].as_object().expect("`sets`").keys().cloned().collect()
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("event-{number:02}")).collect()
}

fn at_once() -> Value {
    json!({"returnImmediately": true})
}

#[tokio::test]
async fn a_poll_waits_and_is_answered_as_soon_as_there_is_a_set() {
    let (partner, daemon) = scene(PATIENT).await;
    let mut waiting = begin(&daemon, &partner, &json!({})).await;
    waits(&mut waiting).await;
    daemon.send("globex", "event").await;
    let sent = Instant::now();
    let answer = soon("the answer", waiting.read()).await.unwrap();
    assert!(sent.elapsed() < Duration::from_secs(1), "{:?}", sent.elapsed());
    assert_eq!((answer.status(), answer.header("content-type")), (200, Some("application/json")));
    let answer = answer.json();
    assert_eq!(answer.as_object().unwrap().len(), 1, "no more than `sets`: {answer}");
    let (header, claims) = opened(answer["sets"]["event"].as_str().unwrap());
    assert_eq!((&header["typ"], &claims["jti"]), (&json!("secevent+jwt"), &json!("event")));
    // The same connection takes the next poll, and its ack.
    let body = json!({"ack": ["event"], "returnImmediately": true}).to_string();
    let answer = partner.post_to(&mut waiting, "/poll", "application/json", body.as_bytes()).await;
    assert_eq!(answer.json(), json!({"sets": {}}));
    daemon.settled("globex", "event", "acked").await;
}

#[tokio::test]
async fn a_poll_that_may_not_wait_is_answered_at_once() {
    let (partner, daemon) = scene(PATIENT).await;
    let asked = Instant::now();
    assert_eq!(partner.poll(&daemon, &at_once()).await, json!({"sets": {}}));
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    daemon.send("globex", "event").await;
    assert_eq!(jtis(&partner.poll(&daemon, &at_once()).await), BTreeSet::from(["event".to_owned()]));
    assert_eq!(partner.poll(&daemon, &at_once()).await, json!({"sets": {}}), "it is under way");
}

#[tokio::test]
async fn max_events_is_kept_to_and_more_is_told_of_until_the_last() {
    let (partner, daemon) = scene(PATIENT).await;
    daemon.send_all("globex", &names(3)).await;
    let mut got = BTreeSet::new();
    for more in [true, true, false] {
        let answer = partner.poll(&daemon, &json!({"maxEvents": 1})).await;
        assert_eq!(jtis(&answer).len(), 1, "{answer}");
        assert_eq!(answer.get("moreAvailable"), more.then_some(&json!(true)), "{answer}");
        got.extend(jtis(&answer));
    }
    assert_eq!(got.into_iter().collect::<Vec<_>>(), names(3));
    // We do not give out more than an object of ours may hold, whatever the partner would take.
    daemon.send_all("globex", &(10..40).map(|number| format!("more-{number}")).collect::<Vec<_>>()).await;
    let answer = partner.poll(&daemon, &json!({"maxEvents": 1e30})).await;
    assert_eq!((jtis(&answer).len(), &answer["moreAvailable"]), (20, &json!(true)));
    let answer = partner.poll(&daemon, &json!({"maxEvents": 12.0})).await;
    assert_eq!((jtis(&answer).len(), answer.get("moreAvailable")), (10, None));
}

#[tokio::test]
async fn a_poll_for_no_events_acknowledges_and_has_none() {
    let (partner, daemon) = scene(PATIENT).await;
    daemon.send_all("globex", &names(3)).await;
    partner.poll(&daemon, &json!({"maxEvents": 2})).await;
    let poll = json!({"maxEvents": 0, "returnImmediately": true, "ack": ["event-00", "event-01"]});
    let answer = partner.poll(&daemon, &poll).await;
    assert_eq!(answer["sets"], json!({}));
    daemon.settled("globex", "event-00", "acked").await;
    daemon.settled("globex", "event-01", "acked").await;
    assert_eq!(jtis(&partner.poll(&daemon, &at_once()).await), BTreeSet::from(["event-02".to_owned()]));
    // Without `returnImmediately` it waits until there is one, and still has none.
    let mut waiting = begin(&daemon, &partner, &json!({"maxEvents": 0, "ack": ["event-02"]})).await;
    daemon.settled("globex", "event-02", "acked").await;
    waits(&mut waiting).await;
    daemon.send("globex", "event-03").await;
    assert_eq!(end(waiting).await, json!({"sets": {}, "moreAvailable": true}));
    assert_eq!(jtis(&partner.poll(&daemon, &at_once()).await), BTreeSet::from(["event-03".to_owned()]));
}

#[tokio::test]
async fn verdicts_count_before_the_sets_of_the_answer_are_chosen() {
    let (partner, daemon) = scene(QUICK).await;
    daemon.send_all("globex", &names(3)).await;
    let (mut open, mut rounds): (BTreeSet<String>, _) = (names(3).into_iter().collect(), 0);
    let mut verdicts =
        json!({"ack": ["event-00"], "setErrs": {"event-01": {"err": "invalid_key", "description": "d"}}});
    // All three are due again and again. From the poll that answers two of them on, only the third is.
    until("all three at once", async || (jtis(&partner.poll(&daemon, &at_once()).await).len() == 3).then_some(()))
        .await;
    until("all three to be due again", async || {
        let status = daemon.get("/api/v1/peers/globex").await;
        (status["in_flight"] == 0).then_some(())
    })
    .await;
    open.retain(|jti| jti == "event-02");
    while rounds < 3 {
        let mut poll = at_once();
        poll.as_object_mut().unwrap().extend(verdicts.as_object_mut().unwrap().clone());
        let got = jtis(&partner.poll(&daemon, &poll).await);
        assert!(got.is_subset(&open), "{got:?} although two are answered");
        rounds += usize::from(!got.is_empty());
        verdicts = json!({});
    }
    assert_eq!(daemon.state("out", "globex", "event-00").await.as_deref(), Some("acked"));
    let refused = daemon.record("out", "globex", "event-01").await.unwrap();
    assert_eq!(
        (&refused["state"], &refused["err"], &refused["description"]),
        (&json!("refused"), &json!("invalid_key"), &json!("d"))
    );
}

#[tokio::test]
async fn unknown_jtis_are_ignored_and_null_is_as_good_as_nothing() {
    let (partner, daemon) = scene(PATIENT).await;
    let error = json!({"err": "their_own"});
    let strange = json!({
        "ack": ["never-sent", "never-sent", "event"], "setErrs": {"unheard-of": error},
        "maxEvents": 5, "returnImmediately": true, "more": {"members": [null]},
    });
    assert_eq!(partner.poll(&daemon, &strange).await, json!({"sets": {}}));
    daemon.send("globex", "event").await;
    // An ack of what was not given out yet is one of something else.
    assert_eq!(daemon.state("out", "globex", "event").await.as_deref(), Some("queued"));
    let nulls = json!({"maxEvents": null, "returnImmediately": null, "ack": null, "setErrs": null});
    assert_eq!(jtis(&partner.poll(&daemon, &nulls).await).len(), 1);
    let mut waiting = begin(&daemon, &partner, &nulls).await;
    waits(&mut waiting).await;
    // A verdict by one poll counts, whatever another one is waiting for.
    let refusing = json!({"setErrs": {"event": error}, "returnImmediately": true});
    partner.poll(&daemon, &refusing).await;
    daemon.settled("globex", "event", "refused").await;
    assert_eq!(daemon.record("out", "globex", "event").await.unwrap()["err"], "their_own");
    daemon.send("globex", "another").await;
    assert_eq!(jtis(&end(waiting).await), BTreeSet::from(["another".to_owned()]));
    // Once more, for something that has ended.
    assert_eq!(partner.poll(&daemon, &json!({"ack": ["event"], "returnImmediately": true})).await, json!({"sets": {}}));
    assert_eq!(daemon.state("out", "globex", "event").await.as_deref(), Some("refused"));
}

#[tokio::test]
async fn a_malformed_poll_has_no_effect() {
    let (partner, daemon) = scene(PATIENT).await;
    daemon.send_all("globex", &names(2)).await;
    let given = partner.poll(&daemon, &json!({"maxEvents": 1})).await;
    assert_eq!(jtis(&given), BTreeSet::from(["event-00".to_owned()]));
    let polls = [
        r#""#,
        r#"[]"#,
        r#""{}""#,
        r#"{"ack":["event-00"]"#,
        r#"{"ack":["event-00"]} {}"#,
        r#"{"ack":["event-00"],}"#,
        r#"{"ack":["event-00"],"maxEvents":-1}"#,
        r#"{"ack":["event-00"],"maxEvents":1.5}"#,
        r#"{"ack":["event-00"],"maxEvents":"1"}"#,
        r#"{"ack":["event-00"],"maxEvents":true}"#,
        r#"{"ack":["event-00"],"maxEvents":[1]}"#,
        r#"{"ack":["event-00"],"returnImmediately":"true"}"#,
        r#"{"ack":["event-00"],"returnImmediately":1}"#,
        r#"{"ack":["event-00",1]}"#,
        r#"{"ack":["event-00",null]}"#,
        r#"{"ack":["event-00",""]}"#,
        r#"{"ack":"event-00"}"#,
        r#"{"ack":{"event-00":true}}"#,
        r#"{"ack":["event-00"],"setErrs":[]}"#,
        r#"{"ack":["event-00"],"setErrs":{"x":"invalid_key"}}"#,
        r#"{"ack":["event-00"],"setErrs":{"x":{"description":"without err"}}}"#,
        r#"{"ack":["event-00"],"setErrs":{"x":{"err":1}}}"#,
        r#"{"ack":["event-00"],"setErrs":{"x":{"err":"a"},"x":{"err":"a"}}}"#,
        r#"{"ack":["event-00"],"setErrs":{"event-00":{"err":"invalid_key"}}}"#,
        r#"{"ack":["event-00"],"ack":["event-00"]}"#,
        r#"{"ack":["event-00"],"maxEvents":1,"maxEvents":1}"#,
        r#"{"ack":["event-00"],"x":1,"\u0078":1}"#,
    ];
    for poll in polls {
        let answer = post(&daemon, &partner, poll.as_bytes()).await;
        is_error(&answer, 400);
        assert_eq!(answer.json()["err"], "invalid_request", "{poll}");
    }
    is_error(&post(&daemon, &partner, b"{\"ack\":[\"event-00\"],\"x\":\"\xff\"}").await, 400);
    let padded = format!("{{\"ack\":[\"event-00\"],\"x\":\"{}\"}}", "x".repeat(64 << 10));
    is_error(&post(&daemon, &partner, padded.as_bytes()).await, 413);
    let state = daemon.state("out", "globex", "event-00").await;
    assert_eq!(state.as_deref(), Some("in_flight"), "an ack of a malformed poll counts");
    assert_eq!(daemon.state("out", "globex", "event-01").await.as_deref(), Some("queued"), "one was given out");
}

#[tokio::test]
async fn each_wrong_request_has_its_status() {
    let (partner, daemon) = scene(PATIENT).await;
    let too_long = (64 << 10) + 1;
    let door = Door { daemon: &daemon, partner: &partner, path: "/poll", media: "application/json", too_long };
    door.is_kept().await;
    door.takes(200, |_| at_once().to_string()).await;
}

#[tokio::test]
async fn whoever_goes_away_while_waiting_or_before_reading_loses_nothing() {
    let (partner, daemon) = scene(QUICK).await;
    let mut waiting = begin(&daemon, &partner, &json!({})).await;
    waits(&mut waiting).await;
    drop(waiting);
    daemon.send_all("globex", &names(2)).await;
    let mut got = BTreeSet::new();
    until("the SETs", async || {
        let answer = partner.poll(&daemon, &at_once()).await;
        (!jtis(&answer).is_empty()).then_some(())
    })
    .await;
    // These are not acked, and the next ones ask and go before there is an answer.
    for _ in 0..5 {
        drop(begin(&daemon, &partner, &json!({})).await);
    }
    let collecting = async {
        while got.len() < 2 {
            let answer = partner.poll(&daemon, &json!({"ack": got})).await;
            got.extend(jtis(&answer));
        }
    };
    soon("both SETs", collecting).await;
    partner.poll(&daemon, &json!({"ack": got, "returnImmediately": true})).await;
    until("both acked", async || (daemon.totals("globex").await["acked"] == 2).then_some(())).await;
}

#[tokio::test]
async fn two_that_poll_at_once_never_get_the_same_set() {
    let (partner, daemon) = scene(PATIENT).await;
    for round in 0..5 {
        let mut waiting = Vec::new();
        for _ in 0..2 {
            waiting.push(begin(&daemon, &partner, &json!({"maxEvents": 5})).await);
        }
        let sent: Vec<String> = (0..8).map(|number| format!("event-{round}-{number}")).collect();
        daemon.send_all("globex", &sent).await;
        let mut got: Vec<String> = Vec::new();
        for wire in waiting {
            got.extend(jtis(&end(wire).await));
        }
        assert!(got.len() >= 8, "there were eight for the two of them: {got:?}");
        let once: BTreeSet<&String> = got.iter().collect();
        assert_eq!(once.len(), got.len(), "{got:?}");
        assert!(sent.iter().all(|jti| once.contains(jti)), "{got:?}");
    }
}

#[tokio::test]
async fn what_is_not_acked_comes_again_with_the_same_bytes_but_not_at_once() {
    let (partner, daemon) = scene("[delivery]\nretry_first = \"500ms\"\n").await;
    daemon.send("globex", "event").await;
    let first = partner.poll(&daemon, &json!({})).await;
    let given = Instant::now();
    assert_eq!(partner.poll(&daemon, &at_once()).await, json!({"sets": {}}));
    let again = partner.poll(&daemon, &json!({})).await;
    assert_eq!(again["sets"], first["sets"]);
    assert!(given.elapsed() >= Duration::from_millis(500), "after {:?}", given.elapsed());
    partner.poll(&daemon, &json!({"ack": ["event"], "returnImmediately": true})).await;
    daemon.settled("globex", "event", "acked").await;
}

#[tokio::test]
async fn what_is_not_acked_outlives_a_restart() {
    let (partner, mut daemon) = scene(PATIENT).await;
    daemon.send_all("globex", &names(3)).await;
    let first = partner.poll(&daemon, &json!({"maxEvents": 2})).await;
    partner.poll(&daemon, &json!({"ack": ["event-00"], "maxEvents": 0, "returnImmediately": true})).await;
    daemon.settled("globex", "event-00", "acked").await;
    daemon.kill().await;
    daemon.restart().await;
    let mut got = partner.poll(&daemon, &json!({})).await;
    while got["sets"].as_object().unwrap().len() < 2 {
        let more = partner.poll(&daemon, &json!({})).await["sets"].clone();
        got["sets"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    }
    assert_eq!(jtis(&got).into_iter().collect::<Vec<_>>(), names(3)[1..]);
    assert_eq!(got["sets"]["event-01"], first["sets"]["event-01"], "the same bytes");
    partner.poll(&daemon, &json!({"ack": names(3), "returnImmediately": true})).await;
    until("all acked", async || (daemon.totals("globex").await["acked"] == 3).then_some(())).await;
}

#[tokio::test]
async fn a_stop_answers_whoever_waits() {
    let (partner, mut daemon) = scene(PATIENT).await;
    daemon.send("globex", "event").await;
    partner.poll(&daemon, &at_once()).await;
    let mut waiting = Vec::new();
    for poll in [json!({}), json!({"maxEvents": 0}), json!({"maxEvents": 1})] {
        waiting.push(begin(&daemon, &partner, &poll).await);
    }
    waits(&mut waiting[0]).await;
    // Whether this ack was heard is not for sure, so it has to come again.
    let mut telling = begin(&daemon, &partner, &json!({"ack": ["event"]})).await;
    daemon.settled("globex", "event", "acked").await;
    daemon.terminate();
    let stopped = Instant::now();
    for wire in waiting {
        assert_eq!(end(wire).await, json!({"sets": {}}));
    }
    let answer = soon("an answer", telling.read()).await.expect("an answer");
    assert!([200, 503].contains(&answer.status()), "{answer:?}");
    assert_eq!(daemon.ended().await.code(), Some(0));
    assert!(stopped.elapsed() < Duration::from_secs(5), "{:?}", stopped.elapsed());
}

#[tokio::test]
async fn a_paused_peer_is_given_nothing_and_its_acks_count() {
    let (partner, daemon) = scene(PATIENT).await;
    daemon.send_all("globex", &names(2)).await;
    partner.poll(&daemon, &json!({"maxEvents": 1})).await;
    daemon.admin("POST", "/api/v1/peers/globex/pause", None).await;
    let poll = json!({"ack": ["event-00"], "returnImmediately": true});
    assert_eq!(partner.poll(&daemon, &poll).await, json!({"sets": {}}));
    daemon.settled("globex", "event-00", "acked").await;
    let mut waiting = begin(&daemon, &partner, &json!({})).await;
    waits(&mut waiting).await;
    daemon.admin("POST", "/api/v1/peers/globex/resume", None).await;
    assert_eq!(jtis(&end(waiting).await), BTreeSet::from(["event-01".to_owned()]));
}

#[tokio::test]
async fn a_poll_whose_sender_has_gone_does_not_take_what_the_next_one_waits_for() {
    let (partner, daemon) = scene(PATIENT).await;
    for _ in 0..3 {
        let mut gone = begin(&daemon, &partner, &json!({})).await;
        waits(&mut gone).await;
    }
    let mut waiting = begin(&daemon, &partner, &json!({})).await;
    waits(&mut waiting).await;
    daemon.send("globex", "event").await;
    let sent = Instant::now();
    assert_eq!(jtis(&end(waiting).await), BTreeSet::from(["event".to_owned()]));
    assert!(sent.elapsed() < Duration::from_secs(1), "{:?}", sent.elapsed());
}

#[tokio::test]
async fn too_many_polls_at_once_are_turned_away_and_their_verdicts_count_all_the_same() {
    let (partner, daemon) = scene(PATIENT).await;
    daemon.send("globex", "first").await;
    assert!(jtis(&end(begin(&daemon, &partner, &json!({"returnImmediately": true})).await).await).contains("first"));
    let mut waiting = Vec::new();
    for _ in 0..32 {
        waiting.push(begin(&daemon, &partner, &json!({})).await);
    }
    let turned_away = until("a poll too many", async || {
        let mut wire = begin(&daemon, &partner, &json!({"ack": ["first"]})).await;
        let answer = timeout(Duration::from_millis(500), wire.read()).await.ok()?.expect("an answer");
        (answer.status() == 429).then_some(answer)
    })
    .await;
    assert!(turned_away.header("retry-after").is_some());
    daemon.settled("globex", "first", "acked").await;
    // Whoever only acknowledges waits for nothing.
    let at_once = begin(&daemon, &partner, &json!({"returnImmediately": true, "maxEvents": 0})).await;
    assert_eq!(end(at_once).await, json!({"sets": {}}));
}

#[tokio::test]
async fn a_poll_whose_sender_has_ended_takes_no_sets() {
    let (partner, daemon) = scene(PATIENT).await;
    let mut wire = begin(&daemon, &partner, &json!({})).await;
    // In order: its side of the connection ends, and nothing tells whether it still listens.
    wire.stream.shutdown().await.unwrap();
    assert_eq!(end(wire).await, json!({"sets": {}}));
    daemon.send("globex", "event").await;
    assert_eq!(daemon.record("out", "globex", "event").await.unwrap()["attempts"], 0);
    let next = begin(&daemon, &partner, &json!({"returnImmediately": true})).await;
    assert!(jtis(&end(next).await).contains("event"));
}

#[tokio::test]
async fn whoever_waits_with_a_token_that_was_taken_from_it_is_given_nothing() {
    let (mut partner, daemon) = scene(PATIENT).await;
    let mut waiting = begin(&daemon, &partner, &json!({})).await;
    waits(&mut waiting).await;
    // A request whose headers came in time, and the rest later.
    let (mut late, bearer) = (daemon.connect().await, partner.bearer());
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json"), ("Content-Length", "26")];
    late.write(&request("POST", "/poll", &headers, br#"{"returnImmed"#)).await.unwrap();
    waits(&mut late).await;
    partner.token = "from-globex-a-new-token-0123456789abcdef".to_owned();
    write(&daemon.dir().join("from-globex.token"), &partner.token);
    assert_eq!(daemon.reload().await.0, ["peer globex: accept token changed"]);
    daemon.send("globex", "event").await;
    late.write(br#"iately":true}"#).await.unwrap();
    for mut wire in [waiting, late] {
        let answer = soon("an answer", wire.read()).await.expect("an answer");
        is_error(&answer, 401);
        assert!(answer.header("www-authenticate").is_some(), "{answer:?}");
    }
    assert_eq!(jtis(&partner.poll(&daemon, &at_once()).await), BTreeSet::from(["event".to_owned()]));
}

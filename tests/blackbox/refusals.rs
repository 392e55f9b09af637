//! Every fault has its defined answer, over both bindings, and costs nobody else anything.

use serde_json::{Value, json};

use crate::common::daemon::{Daemon, Plan, SMALL_LIMITS};
use crate::common::faults::{ACCEPT, OBJECT_FAULTS, SET_FAULTS};
use crate::common::link::Link;
use crate::common::partner::{Partner, verdict};

/// SETs of ours are not sent again while a table is worked through.
const PATIENT: &str = "[delivery]\nretry_first = \"2m\"\n";

async fn daemon(partner: &Partner, tls: bool) -> Daemon {
    Plan::new(tls).with(SMALL_LIMITS).with(PATIENT).with_peer(partner, ACCEPT).start().await
}

async fn a_bad_set_is_refused_alone(daemon: &Daemon, partner: &Partner, mut link: Link<'_>) {
    let mut delivered = Vec::new();
    for (number, fault) in SET_FAULTS.iter().enumerate() {
        let name = fault.name;
        let (good, bad) = (format!("good-{number}"), format!("bad-{number}"));
        let token = (fault.make)(partner, &bad);
        let object = json!({"sets": {&bad: token, &good: partner.set(&good)}});
        for round in ["first", "second"] {
            let answer = link.say(&object).await;
            assert_eq!(verdict(&answer, &good).as_deref(), Some("ack"), "{name}, {round}: {answer}");
            assert_eq!(verdict(&answer, &bad).as_deref(), fault.verdict, "{name}, {round}: {answer}");
            if fault.verdict.is_some_and(|verdict| verdict != "ack") {
                let description = answer["setErrs"][&bad]["description"].as_str();
                assert!(description.is_some_and(|text| !text.is_empty()), "{name}: {answer}");
                assert!(!answer.to_string().contains("subject of"), "{name}: tells whom it is about: {answer}");
            }
        }
        let state = daemon.state("in", &partner.name, &bad).await;
        match fault.verdict {
            None => assert_eq!(state, None, "{name}"),
            Some("ack") => delivered.push(bad),
            Some(code) => {
                assert_eq!(state.as_deref(), Some("refused"), "{name}");
                let record = daemon.record("in", &partner.name, &bad).await.unwrap();
                assert_eq!(record["err"], code, "{name}");
            }
        }
        delivered.push(good);
    }
    let mut inbox: Vec<String> = daemon.inbox().await.into_iter().map(|(_, jti)| jti).collect();
    inbox.sort();
    delivered.sort();
    assert_eq!(inbox, delivered, "exactly the good ones, once");
}

#[tokio::test]
async fn a_bad_set_is_refused_alone_over_http() {
    let partner = Partner::new("globex");
    let daemon = daemon(&partner, true).await;
    a_bad_set_is_refused_alone(&daemon, &partner, Link::http(&daemon, &partner)).await;
}

#[tokio::test]
async fn a_bad_set_is_refused_alone_over_websocket() {
    let partner = Partner::new("globex");
    let daemon = daemon(&partner, false).await;
    a_bad_set_is_refused_alone(&daemon, &partner, Link::websocket(&daemon, &partner).await).await;
}

async fn a_void_object_has_no_effect(daemon: &Daemon, partner: &Partner, mut link: Link<'_>) {
    let peer = &partner.name;
    daemon.send(peer, "ours").await;
    link.fetch("ours").await;
    for (number, fault) in OBJECT_FAULTS.iter().enumerate() {
        let (name, good) = (fault.name, format!("good-{number}"));
        let before = daemon.totals(peer).await;
        let set = format!("{}:{}", Value::from(good.clone()), Value::from(partner.set(&good)));
        let answer = link.say_void(&fault.bytes(&set, "ours")).await;
        assert_eq!(answer, link.answer(fault.status, fault.code), "{name}");
        assert_eq!(daemon.totals(peer).await, before, "{name}: something has changed");
        assert_eq!(daemon.state("in", peer, &good).await, None, "{name}: its SET counts");
        // The same SET in an object that is none the worse.
        let answer = link.say(&json!({"sets": {&good: partner.set(&good)}})).await;
        assert_eq!(verdict(&answer, &good).as_deref(), Some("ack"), "{name}: {answer}");
    }
    let state = daemon.state("out", peer, "ours").await.unwrap();
    assert!(["in_flight", "queued"].contains(&state.as_str()), "{state}");
    // The ack would have counted: alone, it does.
    link.say(&json!({"ack": ["ours"], "sets": {"last": partner.set("last")}})).await;
    daemon.settled(peer, "ours", "acked").await;
}

#[tokio::test]
async fn a_void_object_has_no_effect_over_http() {
    let partner = Partner::new("globex");
    let daemon = daemon(&partner, true).await;
    a_void_object_has_no_effect(&daemon, &partner, Link::http(&daemon, &partner)).await;
}

#[tokio::test]
async fn a_void_object_has_no_effect_over_websocket() {
    let partner = Partner::new("globex");
    let daemon = daemon(&partner, false).await;
    a_void_object_has_no_effect(&daemon, &partner, Link::websocket(&daemon, &partner).await).await;
}

//! Every fault has its defined answer, over both bindings, and costs nobody else anything.

use serde_json::{Value, json};

use crate::common::daemon::{Daemon, Plan, SMALL_LIMITS};
use crate::common::faults::{ACCEPT, OBJECT_FAULTS, SET_FAULTS};
use crate::common::link::Link;
use crate::common::partner::{Key, Partner, verdict};
use crate::common::responder::Responder;
use crate::common::until;

/// SETs of ours are not sent again while a table is worked through.
const PATIENT: &str = "[delivery]\nretry_first = \"2m\"\n";

pub(super) async fn daemon(partner: &Partner, tls: bool) -> Daemon {
    Plan::new(tls).with(SMALL_LIMITS).with(PATIENT).with_peer(partner, ACCEPT).start().await
}

pub(super) async fn a_bad_set_is_refused_alone(daemon: &Daemon, partner: &Partner, mut link: Link<'_>) {
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
    let log = daemon.log().join("\n");
    for secret in ["subject of", partner.token.as_str(), partner.our_token.as_str(), daemon.admin_token(), "eyJ"] {
        assert!(!log.contains(secret), "{secret:?} stands in the log");
    }
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

/// A SET by a key that nobody knows yet waits for the keys; those by a known one do not wait with it.
async fn a_new_key_gets_no_verdict_until_the_keys_can_be_had(websocket: bool) {
    let (responder, partner) = (Responder::listen().await, Partner::new("globex"));
    responder.publish(Some(partner.jwks()));
    let keys = format!("jwks_uri = \"{}\"", responder.jwks_uri());
    let daemon = Plan::new(websocket).with_peer(&partner, &keys).start().await;
    // Only then, or the SET itself makes the daemon ask, which it does but twice a minute.
    let known = |log: Vec<String>| log.iter().any(|line| line.contains("the partner's keys are there"));
    until("the keys", async || known(daemon.log()).then_some(())).await;
    assert!(responder.jwks_asked() > 0);
    let mut link = if websocket { Link::websocket(&daemon, &partner).await } else { Link::http(&daemon, &partner) };
    let mut newer = Partner::new("globex");
    newer.key = Key::new("globex-2");
    responder.publish(None);
    let both = json!({"sets": {"by-new": newer.set("by-new"), "by-old": partner.set("by-old")}});
    let answer = link.say(&both).await;
    assert_eq!((verdict(&answer, "by-new"), verdict(&answer, "by-old").as_deref()), (None, Some("ack")));
    assert_eq!(daemon.state("in", "globex", "by-new").await, None);
    responder.publish(Some(json!({"keys": [newer.key.jwk()]})));
    let answer = link.say(&both).await;
    assert_eq!(verdict(&answer, "by-new").as_deref(), Some("ack"), "{answer}");
    // The old key is withdrawn now: its SETs are refused, but what was acked stays acked.
    assert_eq!(verdict(&answer, "by-old").as_deref(), Some("ack"), "{answer}");
    assert_eq!(daemon.inbox().await.len(), 2);
}

#[tokio::test]
async fn a_new_key_gets_no_verdict_until_the_keys_can_be_had_over_http() {
    a_new_key_gets_no_verdict_until_the_keys_can_be_had(false).await;
}

#[tokio::test]
async fn a_new_key_gets_no_verdict_until_the_keys_can_be_had_over_websocket() {
    a_new_key_gets_no_verdict_until_the_keys_can_be_had(true).await;
}

pub(super) async fn the_first_verdict_on_a_jti_stands(daemon: &Daemon, partner: &Partner, mut link: Link<'_>) {
    let mut changed = partner.claims("good");
    changed.insert("txn".to_owned(), json!("other bytes"));
    let mut bad = partner.claims("bad");
    bad.insert("aud".to_owned(), json!("https://else.example"));
    let (good, other) = (partner.set("good"), partner.sign(&changed));
    let (bad, healed) = (partner.sign(&bad), partner.set("bad"));
    for (first, second) in [(&good, &bad), (&good, &bad), (&other, &healed), (&good, &healed)] {
        let answer = link.say(&json!({"sets": {"good": first, "bad": second}})).await;
        assert_eq!(verdict(&answer, "good").as_deref(), Some("ack"), "{answer}");
        assert_eq!(verdict(&answer, "bad").as_deref(), Some("invalid_audience"), "{answer}");
    }
    // Refused with the same name: an acked jti stays acked even then.
    let answer = link.say(&json!({"sets": {"good": "nonsense", "bad": "nonsense"}})).await;
    assert_eq!(verdict(&answer, "good").as_deref(), Some("ack"), "{answer}");
    assert_eq!(verdict(&answer, "bad").as_deref(), Some("invalid_audience"), "{answer}");
    let sets = daemon.get("/api/v1/inbox").await["sets"].as_array().unwrap().clone();
    assert_eq!(sets.len(), 1, "once, and with the first content");
    assert_eq!(sets[0]["set"], json!(good));
    assert!(daemon.log().iter().any(|line| line.contains("known jtis came with other bytes")), "no word in the log");
}

#[tokio::test]
async fn the_first_verdict_on_a_jti_stands_over_http() {
    let partner = Partner::new("globex");
    let daemon = daemon(&partner, false).await;
    the_first_verdict_on_a_jti_stands(&daemon, &partner, Link::http(&daemon, &partner)).await;
}

#[tokio::test]
async fn the_first_verdict_on_a_jti_stands_over_websocket_and_over_a_restart() {
    let partner = Partner::new("globex");
    let mut daemon = daemon(&partner, true).await;
    the_first_verdict_on_a_jti_stands(&daemon, &partner, Link::websocket(&daemon, &partner).await).await;
    daemon.kill().await;
    daemon.restart().await;
    let object = json!({"sets": {"good": "nonsense", "bad": partner.set("bad")}});
    let answer = partner.exchange(&daemon, &object).await;
    assert_eq!(verdict(&answer, "good").as_deref(), Some("ack"), "{answer}");
    assert_eq!(verdict(&answer, "bad").as_deref(), Some("invalid_audience"), "{answer}");
    assert_eq!(daemon.inbox().await.len(), 1);
}

/// Whoever may speak to us must not be able to fill our disk with what we say about it.
#[tokio::test]
async fn a_flood_of_faults_is_a_few_lines_in_the_log() {
    let partner = Partner::new("globex");
    let daemon = daemon(&partner, false).await;
    let mut link = Link::websocket(&daemon, &partner).await;
    for round in 0..40 {
        let (new, other) = (format!("new-{round}"), format!("other bytes {round}"));
        let answer = link.say(&json!({"sets": {new.as_str(): "nonsense", "known": other}})).await;
        assert_eq!(verdict(&answer, &new).as_deref(), Some("invalid_request"), "{answer}");
        assert_eq!(verdict(&answer, "known").as_deref(), Some("invalid_request"), "{answer}");
    }
    for _ in 0..40 {
        drop(Link::websocket(&daemon, &partner).await);
    }
    for said in ["known jtis came with other bytes", "refused SETs", "link up, the partner dialled"] {
        let lines = daemon.log().iter().filter(|line| line.contains(said)).count();
        assert!((1..=20).contains(&lines), "{said}: {lines} lines");
    }
}

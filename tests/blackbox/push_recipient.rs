//! `POST /push` (RFC 8935 §2) as a partner meets it: 202 for what is durable here, 400 for what never will be, 503 until then.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::refusals;
use crate::common::daemon::{Daemon, ISSUER, Plan};
use crate::common::doors::Door;
use crate::common::faults::SET_FAULTS;
use crate::common::http::{Message, Wire, is_error, request};
use crate::common::partner::{Partner, verdict};
use crate::common::responder::Responder;
use crate::common::socket::Socket;
use crate::common::{soon, until};

const SET: &str = "application/secevent+jwt";

async fn scene() -> (Partner, Daemon) {
    let partner = Partner::new("globex");
    let daemon = refusals::daemon(&partner, false).await;
    (partner, daemon)
}

/// A 202 with nothing in it.
#[track_caller]
fn is_accepted(answer: &Message, what: &str) {
    assert_eq!((answer.status(), answer.text().as_str()), (202, ""), "{what}: {answer:?}");
}

/// The answer as far as it has to be the same for the same SET.
fn told(answer: &Message) -> (u16, Option<String>, String) {
    (answer.status(), answer.header("content-type").map(str::to_owned), answer.text())
}

async fn owed(daemon: &Daemon) -> u64 {
    daemon.get("/api/v1/peers/globex").await["owed"].as_u64().unwrap()
}

#[tokio::test]
async fn a_set_is_there_once_its_202_has_come_whatever_happens_then() {
    let (partner, mut daemon) = scene().await;
    let set = partner.set("event");
    is_accepted(&partner.push(&daemon, set.as_bytes()).await, "the first time");
    daemon.kill().await;
    daemon.restart().await;
    assert_eq!(daemon.get("/api/v1/inbox").await["sets"][0]["set"], json!(set));
    is_accepted(&partner.push(&daemon, set.as_bytes()).await, "again");
    assert_eq!(daemon.inbox().await, [("globex".to_owned(), "event".to_owned())]);
}

#[tokio::test]
async fn every_202_holds_when_the_daemon_is_killed_among_many_pushes() {
    let (partner, mut daemon) = scene().await;
    let (address, bearer) = (daemon.address(), partner.bearer());
    let pushing = join_all((0..8).map(|lane| {
        let (partner, bearer) = (&partner, bearer.as_str());
        async move {
            let mut accepted = Vec::new();
            let mut wire = Wire::new(TcpStream::connect(address).await.unwrap());
            for number in 0.. {
                let jti = format!("event-{lane}-{number}");
                let headers = [("Authorization", bearer), ("Content-Type", SET)];
                match wire.ask("POST", "/push", &headers, partner.set(&jti).as_bytes()).await {
                    Ok(Some(answer)) => is_accepted(&answer, &jti),
                    // It has been killed.
                    Ok(None) | Err(_) => break,
                }
                accepted.push(jti);
            }
            accepted
        }
    }));
    let killing = async {
        until("some SETs", async || (daemon.inbox().await.len() >= 100).then_some(())).await;
        daemon.kill().await;
    };
    let (accepted, ()) = tokio::join!(pushing, killing);
    let accepted: Vec<String> = accepted.into_iter().flatten().collect();
    assert!(accepted.len() >= 92, "all but those under way, of which the inbox held some");
    daemon.restart().await;
    let inbox = daemon.inbox().await;
    let jtis: BTreeSet<&String> = inbox.iter().map(|(_, jti)| jti).collect();
    assert_eq!(jtis.len(), inbox.len(), "some are there twice");
    let lost: Vec<&String> = accepted.iter().filter(|jti| !jtis.contains(jti)).collect();
    assert!(lost.is_empty(), "accepted and gone: {lost:?}");
}

#[tokio::test]
async fn each_fault_of_a_set_has_its_code_and_a_repeat_hears_the_same() {
    let (partner, daemon) = scene().await;
    let mut stored = Vec::new();
    for (number, fault) in SET_FAULTS.iter().enumerate() {
        let (name, jti) = (fault.name, format!("event-{number}"));
        let set = (fault.make)(&partner, &jti);
        let first = partner.push(&daemon, set.as_bytes()).await;
        let again = partner.push(&daemon, set.as_bytes()).await;
        assert_eq!(told(&again), told(&first), "{name}");
        match fault.verdict {
            // By itself it has no other name than its own.
            Some(_) if name == "jti other than its name" => {
                is_accepted(&first, name);
                stored.push(format!("{jti}-other"));
            }
            Some(_) if name == "too long" => is_error(&first, 413),
            Some("ack") => {
                is_accepted(&first, name);
                stored.push(jti);
            }
            Some(code) => {
                is_error(&first, 400);
                assert_eq!(first.json()["err"], code, "{name}");
                assert!(!first.text().contains("subject of"), "{name}: tells whom it is about: {}", first.text());
            }
            None => {
                is_error(&first, 503);
                assert!(first.header("retry-after").is_some(), "{name}: {first:?}");
            }
        }
    }
    let inbox: Vec<String> = daemon.inbox().await.into_iter().map(|(_, jti)| jti).collect();
    assert_eq!(inbox, stored, "exactly the good ones, once");
    assert_eq!(owed(&daemon).await, 0);
}

#[tokio::test]
async fn the_first_verdict_on_a_jti_stands_whatever_comes_under_it_later() {
    let (partner, mut daemon) = scene().await;
    let mut changed = partner.claims("good");
    changed.insert("txn".to_owned(), json!("other bytes"));
    let mut bad = partner.claims("bad");
    bad.insert("aud".to_owned(), json!("https://else.example"));
    let good = partner.set("good");
    is_accepted(&partner.push(&daemon, good.as_bytes()).await, "good");
    let refused = partner.push(&daemon, partner.sign(&bad).as_bytes()).await;
    assert_eq!((refused.status(), &refused.json()["err"]), (400, &json!("invalid_audience")));
    for round in ["at once", "after a restart"] {
        is_accepted(&partner.push(&daemon, partner.sign(&changed).as_bytes()).await, round);
        let healed = partner.push(&daemon, partner.set("bad").as_bytes()).await;
        assert_eq!(told(&healed), told(&refused), "{round}");
        if round == "at once" {
            daemon.kill().await;
            daemon.restart().await;
        }
    }
    let sets = daemon.get("/api/v1/inbox").await["sets"].as_array().unwrap().clone();
    assert_eq!(sets.len(), 1, "once, and with the first content");
    assert_eq!(sets[0]["set"], json!(good));
}

#[tokio::test]
async fn a_body_that_is_no_set_is_refused_and_leaves_nothing() {
    let (partner, daemon) = scene().await;
    let without = |name: &str, value: Option<serde_json::Value>| {
        let mut claims = partner.claims("event");
        claims.remove(name);
        claims.extend(value.map(|value| (name.to_owned(), value)));
        partner.sign(&claims)
    };
    let set = partner.set("event");
    let bodies = [
        Vec::new(),
        b"nonsense".to_vec(),
        b"..".to_vec(),
        b"{}".to_vec(),
        json!({"sets": {"event": set}}).to_string().into_bytes(),
        json!(set).to_string().into_bytes(),
        format!("{set}\n{set}").into_bytes(),
        format!("{set}{set}").into_bytes(),
        format!(" {set}").into_bytes(),
        [set.as_bytes(), b"\xff"].concat(),
        without("jti", None).into_bytes(),
        without("jti", Some(json!(""))).into_bytes(),
        without("jti", Some(json!(7))).into_bytes(),
        without("jti", Some(json!("j".repeat(65)))).into_bytes(),
    ];
    let before = daemon.totals("globex").await;
    for body in &bodies {
        let text = String::from_utf8_lossy(body);
        for round in ["first", "again"] {
            let answer = partner.push(&daemon, body).await;
            is_error(&answer, 400);
            assert_eq!(answer.json()["err"], "invalid_request", "{round}: {text}");
        }
    }
    assert_eq!(daemon.totals("globex").await, before);
    assert_eq!(daemon.state("in", "globex", "event").await, None);
    // And the same SET alone is none the worse for it, also when the line ends as lines do.
    is_accepted(&partner.push(&daemon, format!("{set}\r\n").as_bytes()).await, "with the end of a line");
    assert_eq!(daemon.get("/api/v1/inbox").await["sets"][0]["set"], json!(set));
}

#[tokio::test]
async fn each_wrong_request_has_its_status() {
    let (partner, daemon) = scene().await;
    let door = Door { daemon: &daemon, partner: &partner, path: "/push", media: SET, too_long: (8 << 10) + 1 };
    door.is_kept().await;
    assert_eq!(daemon.totals("globex").await["received"], 0);
    door.takes(202, |number| partner.set(&format!("event-{number}"))).await;
    assert_eq!(daemon.inbox().await.len(), 6);
}

#[tokio::test]
async fn a_set_in_chunks_is_taken_up_to_the_same_length() {
    let (partner, daemon) = scene().await;
    let bearer = partner.bearer();
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", SET), ("Transfer-Encoding", "chunked")];
    let head = request("POST", "/push", &headers, b"");
    let head = String::from_utf8(head).unwrap().replace("Content-Length: 0\r\n", "");
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let set = partner.set("event");
    let (left, right) = set.split_at(100);
    let mut wire = daemon.connect().await;
    wire.write(format!("{head}{}{}0\r\n\r\n", chunk(left), chunk(right)).as_bytes()).await.unwrap();
    is_accepted(&soon("an answer", wire.read()).await.unwrap(), "in two chunks");
    let mut wire = daemon.connect().await;
    wire.write(head.as_bytes()).await.unwrap();
    for _ in 0..9 {
        // It may have had enough before all is sent.
        let _ = wire.write(chunk(&"x".repeat(1024)).as_bytes()).await;
    }
    is_error(&soon("an answer", wire.read()).await.expect("an answer"), 413);
}

#[tokio::test]
async fn without_the_partners_keys_it_is_a_503_and_nothing_is_owed_then_or_later() {
    let (responder, partner) = (Responder::listen().await, Partner::new("globex"));
    let keys = format!("jwks_uri = \"{}\"", responder.jwks_uri());
    let daemon = Plan::new(false).with_peer(&partner, &keys).start().await;
    let set = partner.set("event");
    for _ in 0..2 {
        let asked = Instant::now();
        let answer = partner.push(&daemon, set.as_bytes()).await;
        let took = asked.elapsed();
        is_error(&answer, 503);
        assert!(answer.header("retry-after").is_some_and(|after| after.parse::<u32>().is_ok()), "{answer:?}");
        assert!(took < Duration::from_millis(1300), "{took:?}");
        assert_eq!(owed(&daemon).await, 0);
    }
    assert!(daemon.inbox().await.is_empty());
    responder.publish(Some(partner.jwks()));
    let accepted = until("the keys", async || {
        let answer = partner.push(&daemon, set.as_bytes()).await;
        (answer.status() != 503).then_some(answer)
    });
    is_accepted(&accepted.await, "with the keys");
    assert_eq!(daemon.inbox().await.len(), 1);
    assert_eq!(owed(&daemon).await, 0);
    assert_eq!(partner.exchange(&daemon, &json!({})).await, json!({}));
    assert_eq!(partner.push_many(&daemon, &json!({"sets": {}})).await, json!({"ack": []}));
}

#[tokio::test]
async fn verdicts_on_pushed_sets_are_told_to_their_pushes_alone() {
    let (partner, daemon) = scene().await;
    let mut socket = Socket::open(&daemon, &partner).await;
    let mut bad = partner.claims("bad");
    bad.insert("aud".to_owned(), json!("https://else.example"));
    for number in 0..5 {
        is_accepted(&partner.push(&daemon, partner.set(&format!("event-{number}")).as_bytes()).await, "a good one");
        assert_eq!(partner.push(&daemon, partner.sign(&bad).as_bytes()).await.status(), 400);
    }
    // Whoever goes before the answer comes sends it again, and hears it then.
    for number in 0..5 {
        let (bearer, jti) = (partner.bearer(), format!("left-{number}"));
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", SET)];
        let mut wire = daemon.connect().await;
        wire.write(&request("POST", "/push", &headers, partner.set(&jti).as_bytes())).await.unwrap();
        drop(wire);
    }
    until("the SETs of those that have gone", async || (daemon.inbox().await.len() == 10).then_some(())).await;
    until("nothing owed", async || (owed(&daemon).await == 0).then_some(())).await;
    assert_eq!(partner.exchange(&daemon, &json!({})).await, json!({}));
    assert_eq!(partner.push_many(&daemon, &json!({"sets": {}})).await, json!({"ack": []}));
    socket.send(&json!({"sets": {"last": partner.set("last")}})).await;
    assert_eq!(socket.object().await, json!({"ack": ["last"]}), "and nothing of the pushes");
    is_accepted(&partner.push(&daemon, partner.set("left-0").as_bytes()).await, "again");
    assert_eq!(daemon.inbox().await.len(), 11);
}

#[tokio::test]
async fn many_pushes_at_once_have_each_its_own_verdict() {
    let (partner, daemon) = scene().await;
    let (daemon, partner) = (&daemon, &partner);
    let pushes = (0..48).map(|number| async move {
        let jti = format!("event-{number}");
        let mut claims = partner.claims(&jti);
        let (name, value, expected) = match number % 3 {
            0 => ("txn", "good", 202),
            1 => ("aud", "https://else.example", 400),
            _ => ("iss", "https://else.example", 400),
        };
        claims.insert(name.to_owned(), json!(value));
        let answer = partner.push(daemon, partner.sign(&claims).as_bytes()).await;
        assert_eq!(answer.status(), expected, "{jti}: {}", answer.text());
        if expected == 400 {
            let code = if name == "aud" { "invalid_audience" } else { "invalid_issuer" };
            assert_eq!(answer.json()["err"], code, "{jti}");
        }
    });
    join_all(pushes).await;
    assert_eq!(daemon.inbox().await.len(), 16);
    // What was pushed is known by every other way, too.
    let again = partner.exchange(daemon, &json!({"sets": {"event-0": partner.set("event-0"), "event-1": "x"}})).await;
    assert_eq!(verdict(&again, "event-0").as_deref(), Some("ack"), "{again}");
    assert_eq!(verdict(&again, "event-1").as_deref(), Some("invalid_audience"), "{again}");
}

#[tokio::test]
async fn a_full_inbox_is_a_503_until_there_is_room() {
    let partner = Partner::new("globex");
    let daemon = Plan::new(false).with("[limits]\ninbox_max = 2\n").with_peer(&partner, "").start().await;
    // Made before the SETs, or they are kept for whoever is yet to come.
    daemon.get("/api/v1/inbox?consumer=app").await;
    for jti in ["event-0", "event-1"] {
        is_accepted(&partner.push(&daemon, partner.set(jti).as_bytes()).await, jti);
    }
    let refused = partner.push(&daemon, partner.set("event-2").as_bytes()).await;
    is_error(&refused, 503);
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    is_accepted(&partner.push(&daemon, partner.set("event-0").as_bytes()).await, "one that is there");
    assert_eq!(owed(&daemon).await, 0);
    let sets = daemon.get("/api/v1/inbox?consumer=app").await["sets"].as_array().unwrap().clone();
    let confirm = json!({"consumer": "app", "up_to": sets.last().unwrap()["seq"]});
    let confirmed = daemon.admin("POST", "/api/v1/inbox/confirm", Some(&confirm)).await;
    assert!(confirmed.status() < 300, "{}", confirmed.text());
    until("room", async || {
        let answer = partner.push(&daemon, partner.set("event-2").as_bytes()).await;
        (answer.status() == 202).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_verification_event_is_accepted_and_reaches_no_inbox() {
    let (partner, daemon) = scene().await;
    let mut claims = partner.claims("verification");
    let event = "https://schemas.openid.net/secevent/ssf/event-type/verification";
    claims.insert("events".to_owned(), json!({event: {}}));
    claims.insert("sub_id".to_owned(), json!({"format": "opaque", "id": partner.issuer}));
    let set = partner.sign(&claims);
    for round in ["first", "again"] {
        is_accepted(&partner.push(&daemon, set.as_bytes()).await, round);
    }
    assert!(daemon.inbox().await.is_empty());
}

#[tokio::test]
async fn a_push_whose_body_breaks_off_is_no_verdict() {
    let (partner, daemon) = scene().await;
    let set = partner.set("half");
    let mut wire = daemon.connect().await;
    let head = format!(
        "POST /push HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\nContent-Type: {SET}\r\nTransfer-Encoding: chunked\r\n\r\n",
        partner.bearer()
    );
    wire.write(format!("{head}{:x}\r\n{set}\r\nno chunk\r\n", set.len()).as_bytes()).await.unwrap();
    let answer = soon("an answer", wire.read()).await;
    assert!(answer.as_ref().is_none_or(|answer| answer.status() == 408), "{answer:?}");
    assert_eq!(daemon.state("in", "globex", "half").await, None);
    is_accepted(&partner.push(&daemon, set.as_bytes()).await, "the whole of it");
}

#[tokio::test]
async fn a_partner_may_name_us_by_an_audience_of_its_own() {
    let partner = Partner::new("globex");
    let daemon = Plan::new(false).with_peer(&partner, "accept_audience = \"rx/stream-1\"").start().await;
    for (jti, aud, status) in [("theirs", "rx/stream-1", 202), ("ours", ISSUER, 400)] {
        let mut claims = partner.claims(jti);
        claims.insert("aud".to_owned(), json!(aud));
        let answer = partner.push(&daemon, partner.sign(&claims).as_bytes()).await;
        assert_eq!(answer.status(), status, "{jti}: {}", answer.text());
    }
    assert_eq!(daemon.inbox().await, [("globex".to_owned(), "theirs".to_owned())]);
}

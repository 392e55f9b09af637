//! Partners that choose their own pace: too many requests, too many messages, too much garbage, too slow a message.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use super::initiator::dialling;
use crate::common::daemon::{Daemon, Plan};
use crate::common::http::request;
use crate::common::partner::{Partner, verdict};
use crate::common::socket::{Came, Socket};
use crate::common::{soon, until};

/// One that floods and one that does not, at these limits.
async fn scene(limits: &str) -> (Partner, Partner, Daemon) {
    let (loud, calm) = (Partner::new("globex"), Partner::new("initech"));
    let plan = Plan::new(false).with(limits).with_peer(&loud, "").with_peer(&calm, "");
    (loud, calm, plan.start().await)
}

fn sets(partner: &Partner, jtis: &[String]) -> Value {
    let sets: Map<_, _> = jtis.iter().map(|jti| (jti.clone(), partner.set(jti).into())).collect();
    json!({"sets": sets})
}

#[tokio::test]
async fn too_many_requests_are_answered_429_and_nothing_is_lost_by_coming_back() {
    let (loud, calm, daemon) = scene("[limits]\nrequests_per_second_max = 5\n").await;
    let mut wait = None;
    for n in 0..100 {
        let answer = loud.post(&daemon, sets(&loud, &[format!("burst-{n}")]).to_string().as_bytes()).await;
        if answer.status() != 200 {
            assert_eq!(answer.status(), 429, "{answer:?}");
            assert!(answer.json()["err"].is_string() && answer.json()["description"].is_string(), "{}", answer.text());
            assert!(n >= 10, "two seconds' worth is free: {n}");
            wait = Some((n, answer.header("retry-after").expect("how long").parse::<u64>().unwrap()));
            break;
        }
    }
    let (refused, seconds) = wait.expect("a limit");
    assert!((1..=2).contains(&seconds), "{seconds}");
    let bearer = loud.bearer();
    let headers =
        [("Authorization", bearer.as_str()), ("Content-Type", "application/json"), ("Content-Length", "9999")];
    let status = async || {
        let mut wire = daemon.connect().await;
        wire.write(&request("POST", "/pushpull", &headers, b"")).await.unwrap();
        soon("an answer before the body", wire.read_head()).await.unwrap().status()
    };
    let websocket = async || match Socket::knock(&daemon, &[("Authorization", &bearer)], &[]).await {
        Ok(_) => 101,
        Err(answer) => answer.status(),
    };
    // A token comes back every fifth of a second; nobody is fast enough to find one each time.
    until("a 429 before the body", async || (status().await == 429).then_some(())).await;
    until("a 429 for a handshake", async || (websocket().await == 429).then_some(())).await;
    for n in 0..5 {
        let jti = format!("calm-{n}");
        let answer = calm.exchange(&daemon, &sets(&calm, std::slice::from_ref(&jti))).await;
        assert_eq!(verdict(&answer, &jti).as_deref(), Some("ack"));
    }
    sleep(Duration::from_secs(seconds)).await;
    let jti = format!("burst-{refused}");
    let answer = loud.exchange(&daemon, &sets(&loud, std::slice::from_ref(&jti))).await;
    assert_eq!(verdict(&answer, &jti).as_deref(), Some("ack"));
    let from_loud = daemon.inbox().await.into_iter().filter(|(peer, _)| peer == "globex").count();
    assert_eq!(from_loud, refused + 1, "each SET once");
}

#[tokio::test]
async fn a_partner_may_have_eight_websockets_and_the_ninth_is_told_so() {
    let (greedy, modest, daemon) = scene("").await;
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(Socket::open(&daemon, &greedy).await);
    }
    let bearer = greedy.bearer();
    let ninth = async || Socket::knock(&daemon, &[("Authorization", &bearer)], &[]).await;
    let Err(refusal) = ninth().await else { panic!("the ninth is open") };
    assert_eq!((refusal.status(), refusal.header("retry-after")), (503, Some("1")));
    assert!(
        refusal.json()["description"].as_str().is_some_and(|why| why.contains("8 WebSockets")),
        "{}",
        refusal.text()
    );
    let _other = Socket::open(&daemon, &modest).await;
    open.pop();
    until("a place that has become free", async || ninth().await.ok().map(drop)).await;
}

#[tokio::test]
async fn too_many_messages_are_slowed_down_then_closed_1013_and_nothing_is_lost() {
    let (loud, calm, daemon) = scene("[limits]\nmessages_per_second_max = 20\n").await;
    let (mut flood, mut other) = (Socket::open(&daemon, &loud).await, Socket::open(&daemon, &calm).await);
    let began = Instant::now();
    let jtis: Vec<String> = (0..400).map(|n| format!("loud-{n}")).collect();
    for jti in &jtis {
        flood.send(&sets(&loud, std::slice::from_ref(jti))).await;
    }
    let reading = async {
        let mut acked = std::collections::BTreeSet::new();
        loop {
            match flood.next().await {
                Came::Object(object) => {
                    acked.extend(jtis.iter().filter(|jti| verdict(&object, jti).is_some()).cloned());
                }
                Came::Close(code) => return (Some(code), acked, began.elapsed()),
                Came::Gone => return (None, acked, began.elapsed()),
                Came::Pong(_) => {}
            }
        }
    };
    let serving = async {
        let mut slowest = Duration::ZERO;
        for n in 0..20 {
            let (jti, asked) = (format!("calm-{n}"), Instant::now());
            other.send(&sets(&calm, std::slice::from_ref(&jti))).await;
            other.object_with(|object| verdict(object, &jti)).await;
            slowest = slowest.max(asked.elapsed());
            sleep(Duration::from_millis(200)).await;
        }
        slowest
    };
    let ((code, acked, after), slowest) = tokio::join!(reading, serving);
    assert_eq!(code, Some(1013));
    assert!(after > Duration::from_secs(10), "it was given time to slow down: {after:?}");
    assert!(acked.len() >= 40 && acked.len() < jtis.len(), "{} of {}", acked.len(), jtis.len());
    assert!(slowest < Duration::from_secs(2), "another partner waits for nobody: {slowest:?}");
    sleep(Duration::from_secs(2)).await;
    let mut again = Socket::open(&daemon, &loud).await;
    let mut missing: Vec<String> = jtis.iter().filter(|jti| !acked.contains(*jti)).cloned().collect();
    again.send(&sets(&loud, &missing)).await;
    again
        .object_with(|object| {
            missing.retain(|jti| verdict(object, jti).is_none());
            missing.is_empty().then_some(())
        })
        .await;
    let from_loud = daemon.inbox().await.into_iter().filter(|(peer, _)| peer == "globex").count();
    assert_eq!(from_loud, jtis.len(), "each SET once");
}

#[tokio::test]
async fn garbage_gets_no_verdict_for_a_while_and_neither_harms_a_good_set_nor_another_partner() {
    let (loud, calm, daemon) = scene("").await;
    let garbage: Map<_, _> = (0..900).map(|n| (format!("garbage-{n}"), json!("e30.e30.AA"))).collect();
    let garbage = json!({"sets": garbage});
    let mut silent = false;
    for _ in 0..10 {
        let answer = loud.exchange(&daemon, &garbage).await;
        silent |= answer["setErrs"].as_object().is_none_or(|errors| errors.len() < 900);
        let jti = "known";
        let object = sets(&calm, &[jti.to_owned()]);
        assert_eq!(verdict(&calm.exchange(&daemon, &object).await, jti).as_deref(), Some("ack"));
    }
    // What has a verdict keeps it, verified or not; what is new waits and is then taken.
    let fresh: Map<_, _> = (0..900).map(|n| (format!("more-{n}"), json!("e30.e30.AA"))).collect();
    for _ in 0..5 {
        let answer = loud.exchange(&daemon, &json!({"sets": fresh})).await;
        silent |= answer["setErrs"].as_object().is_none_or(|errors| errors.len() < 900);
    }
    assert!(silent, "garbage without end is not looked at without end");
    let good = sets(&loud, &["good".to_owned()]);
    until("the good SET to be taken", async || verdict(&loud.exchange(&daemon, &good).await, "good")).await;
    let taken = daemon.inbox().await;
    assert!(taken.contains(&("globex".to_owned(), "good".to_owned())), "{taken:?}");
}

/// A text frame of so many bytes, whose mask changes nothing.
fn frame_head(len: usize) -> Vec<u8> {
    let mut head = vec![0x81, 0x80 | 127];
    head.extend((len as u64).to_be_bytes());
    head.extend([0; 4]);
    head
}

#[tokio::test]
async fn a_large_message_by_a_slow_link_is_served_however_long_it_takes() {
    let partner = Partner::new("globex");
    let delivery = "[delivery]\nping_interval = \"500ms\"\n";
    let daemon = Plan::new(false).with(delivery).with_peer(&partner, "").start().await;
    let mut wire = Socket::open_raw(&daemon, &partner).await;
    let object = sets(&partner, &["slow".to_owned()]).to_string();
    let message = format!("{object}{}", " ".repeat(150_000 - object.len())).into_bytes();
    wire.write(&frame_head(message.len())).await.unwrap();
    let began = Instant::now();
    for part in message.chunks(3000) {
        wire.write(part).await.expect("it is not closed");
        sleep(Duration::from_millis(60)).await;
    }
    assert!(began.elapsed() > Duration::from_secs(2), "longer than silence may last");
    let mut socket = Socket::over(wire, tokio_tungstenite::tungstenite::protocol::Role::Client).await;
    socket.object_with(|object| verdict(object, "slow")).await;
}

/// How many lines it has logged with this message.
fn lines(daemon: &Daemon, message: &str) -> usize {
    let entries = daemon.log().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    entries.filter(|entry| entry["message"] == message).count()
}

/// A SET without an answer is soon sent again.
const QUICK: &str = "[delivery]\nretry_first = \"100ms\"\nretry_max = \"200ms\"\n";

#[tokio::test]
async fn a_partner_that_fails_and_recovers_all_the_time_fills_no_log() {
    let (mut responder, _, daemon) = dialling("multi-push", QUICK).await;
    let jtis: Vec<_> = (0..200).map(|n| format!("event-{n}")).collect();
    daemon.send_all("globex", &jtis).await;
    for turn in 0..40 {
        let refused = loop {
            let request = responder.request().await;
            if request.jtis().len() > 1 {
                break request;
            }
            request.answer(202, &[], "{}");
        };
        refused.answer(400, &[], &json!({"err": format!("no_{turn}"), "description": "not now"}).to_string());
        let request = responder.request().await;
        let acked: Vec<_> = request.jtis().into_iter().take(1).collect();
        request.answer(202, &[], &json!({"ack": acked}).to_string());
    }
    let (down, up) = (lines(&daemon, "link down"), lines(&daemon, "link up"));
    assert!((1..=10).contains(&down) && up <= 11, "{down} times down, {up} times up");
    let ending = async {
        while daemon.totals("globex").await["queued"] != 0 {
            if let Some(request) = responder.request_within(Duration::from_millis(50)).await {
                let acked = request.jtis();
                request.answer(202, &[], &json!({"ack": acked}).to_string());
            }
        }
    };
    soon("all settled", ending).await;
    assert_eq!(daemon.get("/api/v1/peers/globex").await["link"], "up");
}

#[tokio::test]
async fn sets_that_a_partner_gives_no_verdict_on_fill_no_log() {
    let (mut responder, _, daemon) = dialling("push", QUICK).await;
    let jtis: Vec<_> = (0..40).map(|n| format!("event-{n}")).collect();
    daemon.send_all("globex", &jtis).await;
    for turn in 0..40 {
        responder.request().await.answer(if turn % 2 == 0 { 500 } else { 202 }, &[], "");
    }
    let ending = async {
        while daemon.totals("globex").await["queued"] != 0 {
            if let Some(request) = responder.request_within(Duration::from_millis(50)).await {
                request.answer(202, &[], "");
            }
        }
    };
    soon("all settled", ending).await;
    let lines = lines(&daemon, "no verdict");
    assert!((1..=10).contains(&lines), "{lines} lines");
}

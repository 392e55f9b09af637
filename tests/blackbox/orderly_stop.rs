//! A daemon that is told to stop: whatever its partners do meanwhile, that is no trouble of the link.

use serde_json::{Value, json};

use super::initiator::DELIVERY;
use crate::common::daemon::{Daemon, Plan, event};
use crate::common::partner::Partner;
use crate::common::responder::{Request, Responder};
use crate::common::{soon, until};

/// How a partner answers whatever it is asked.
type Answer = fn(Request);

/// A partner by each method that answers requests.
const METHODS: [(&str, Answer); 4] = [
    ("http", |request| drop(request.ack())),
    ("push", |request| request.answer(202, &[], "")),
    ("multi-push", |request| {
        let acks = json!({"ack": request.jtis()}).to_string();
        request.answer(202, &[("Content-Type", "application/json")], &acks);
    }),
    ("poll", |request| request.answer_object(&json!({"sets": {}}))),
];

/// So many lines of the log are about that.
async fn logged(daemon: &Daemon, what: &str, count: usize) {
    let lines = || daemon.log().iter().filter(|line| line.contains(what)).count();
    until(what, async || (lines() >= count).then_some(())).await;
}

async fn answering(responder: &mut Responder, answer: Answer) {
    loop {
        answer(responder.request().await);
    }
}

#[tokio::test]
async fn an_orderly_stop_is_no_trouble_of_the_link() {
    let mut plan = Plan::new(false).with(DELIVERY);
    let mut partners = Vec::new();
    for (method, answer) in METHODS {
        let responder = Responder::listen().await;
        plan = plan.with_peer(&Partner::new(method), &responder.keys(method));
        partners.push((method, responder, answer));
    }
    let mut websocket = Responder::listen().await;
    websocket.take_websockets();
    let mut slow = Responder::listen().await;
    plan = plan.with_peer(&Partner::new("websocket"), &websocket.keys("websocket"));
    let mut daemon = plan.with_peer(&Partner::new("slow"), &slow.keys("push")).start().await;
    let (_, socket) = websocket.socket().await;
    // While this one is waited for, the conversations with the others are over.
    daemon.send("slow", "event").await;
    let last = slow.request().await;
    let mut open = Vec::new();
    for (method, responder, _) in &mut partners {
        if matches!(*method, "push" | "multi-push") {
            daemon.send(method, "event").await;
        }
        open.push(responder.request().await);
    }
    daemon.terminate();
    logged(&daemon, "conversation drained", 2).await;
    for ((_, _, answer), request) in partners.iter().zip(open) {
        answer(request);
    }
    drop(socket);
    let ending = async {
        let all =
            futures_util::future::join_all(partners.iter_mut().map(|(_, other, answer)| answering(other, *answer)));
        let drained = async {
            logged(&daemon, "conversation drained", 5).await;
            // The answers may be read after that.
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        };
        tokio::select! {
            () = drained => {}
            _ = all => {}
        }
    };
    soon("the end of all conversations but one", ending).await;
    last.answer(202, &[], "");
    let (status, log) = daemon.ended_telling().await;
    assert_eq!(status.code(), Some(0));
    let level = |line: &str| serde_json::from_str::<Value>(line).unwrap()["level"].as_str().unwrap_or("?").to_owned();
    let loud: Vec<_> = log.iter().filter(|line| !["DEBUG", "INFO"].contains(&level(line).as_str())).collect();
    assert!(loud.is_empty(), "{loud:#?}");
}

/// The opposite of one: a `rm pushpull.db-wal` while it runs ends the daemon, and costs nothing that it has accepted.
#[cfg(unix)]
#[tokio::test]
async fn a_daemon_whose_log_is_removed_ends_and_starts_again_with_all_that_it_has_accepted() {
    let partner = Partner::new("globex");
    let mut daemon = Plan::new(false).with_peer(&partner, "").start().await;
    daemon.send("globex", "before").await;
    std::fs::remove_file(daemon.dir().join("pushpull.db-wal")).unwrap();
    let refused = daemon.admin("POST", "/api/v1/events", Some(&event("globex", "after"))).await;
    assert_eq!(refused.status(), 503, "{}", refused.text());
    until("it says why", async || {
        let is_told =
            |line: &String| line.contains("was removed or replaced while it was in use") && line.contains("is safe");
        daemon.log().iter().any(is_told).then_some(())
    })
    .await;
    assert_eq!(daemon.ended().await.code(), Some(70));
    daemon.restart().await;
    assert_eq!(daemon.state("out", "globex", "before").await.as_deref(), Some("queued"));
}

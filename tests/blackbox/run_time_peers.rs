//! Partners that are removed, paused and added again while the daemon runs.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::common::daemon::{Daemon, Plan, event, program};
use crate::common::partner::{Partner, verdict};
use crate::common::socket::Socket;
use crate::common::until;
use crate::dead_letters::give_up;

/// The body that adds this partner, which comes to us; makes the files that it names.
fn addition(daemon: &Daemon, partner: &Partner) -> Value {
    partner.block(daemon.dir(), "");
    let file = |name: String| daemon.dir().join(name).display().to_string();
    let name = &partner.name;
    json!({"name": name, "definition": {
        "issuer": partner.issuer, "transport": "none", "jwks_file": file(format!("{name}.jwks.json")),
        "accept_token_file": file(format!("from-{name}.token")),
    }})
}

async fn add(daemon: &Daemon, partner: &Partner) {
    let answer = daemon.admin("POST", "/api/v1/peers", Some(&addition(daemon, partner))).await;
    assert_eq!(answer.status(), 201, "{}", answer.text());
}

async fn scene() -> (Partner, Daemon) {
    let daemon = Plan::new(false).with("[delivery]\nretry_first = \"2m\"").start().await;
    let partner = Partner::new("late");
    add(&daemon, &partner).await;
    (partner, daemon)
}

/// Asks for the removal: status, code (if it is a problem) and the whole answer.
async fn remove(daemon: &Daemon, query: &str) -> (u16, String, Value) {
    let answer = daemon.admin("DELETE", &format!("/api/v1/peers/late{query}"), None).await;
    let body = answer.json();
    (answer.status(), body["code"].as_str().unwrap_or_default().to_owned(), body)
}

#[tokio::test]
async fn a_removed_partner_is_shut_out_within_five_seconds_and_its_queue_goes_on_when_it_comes_again() {
    let (partner, mut daemon) = scene().await;
    let mut socket = Socket::open(&daemon, &partner).await;
    daemon.send("late", "one").await;
    let token = socket.object_with(|object| object["sets"]["one"].as_str().map(str::to_owned)).await;
    socket.send(&json!({"sets": {"theirs": partner.set("theirs")}})).await;
    socket.object_with(|object| verdict(object, "theirs")).await;

    let (status, code, problem) = remove(&daemon, "").await;
    assert_eq!((status, code.as_str()), (409, "peer_has_queue"));
    assert!(problem["detail"].as_str().unwrap().contains("1 SET"), "{problem}");
    assert_eq!(partner.post(&daemon, b"{}").await.status(), 200, "it was not removed");

    let begun = Instant::now();
    let (status, _, gone) = remove(&daemon, "?keep_queue=true").await;
    assert_eq!((status, &gone["queued"]), (200, &json!(1)), "{gone}");
    assert_eq!(gone["definition"]["issuer"], partner.issuer, "what is needed to undo it");
    assert_eq!(socket.close_code().await, Some(1008));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(partner.post(&daemon, b"{}").await.status(), 401);
    let answer = daemon.admin("POST", "/api/v1/events", Some(&event("late", "two"))).await;
    assert_eq!((answer.status(), &answer.json()["code"]), (404, &json!("no_such_peer")));
    assert_eq!(remove(&daemon, "").await.1, "no_such_peer");
    assert_eq!(daemon.inbox().await, [("late".to_owned(), "theirs".to_owned())], "what was received stays");

    daemon.terminate();
    daemon.ended().await;
    daemon.restart().await;
    assert_eq!(partner.post(&daemon, b"{}").await.status(), 401, "it is gone for good");
    add(&daemon, &partner).await;
    assert_eq!(partner.fetch(&daemon, "one").await, token, "the queue goes on with the same bytes");
    partner.exchange(&daemon, &json!({"ack": ["one"]})).await;
    daemon.settled("late", "one", "acked").await;
}

#[tokio::test]
async fn a_queue_is_emptied_first_and_nothing_more_is_taken_meanwhile() {
    let (partner, daemon) = scene().await;
    let mut socket = Socket::open(&daemon, &partner).await;
    daemon.send("late", "one").await;
    socket.object_with(|object| object["sets"].get("one").map(drop)).await;

    assert_eq!(remove(&daemon, "?drain=100ms").await.1, "timed_out");
    daemon.send("late", "two").await;
    socket.object_with(|object| object["sets"].get("two").map(drop)).await;

    let removing = remove(&daemon, "?drain=30s");
    let emptying = async {
        until("the queue to be closed", async || {
            let answer = daemon.admin("POST", "/api/v1/events", Some(&event("late", "two"))).await;
            (answer.status() == 409 && answer.json()["code"] == "peer_leaving").then_some(())
        })
        .await;
        socket.send(&json!({"ack": ["one", "two"]})).await;
        socket.close_code().await
    };
    let ((status, _, gone), code) = tokio::join!(removing, emptying);
    assert_eq!((status, &gone["queued"], code), (200, &json!(0), Some(1008)), "{gone}");
}

#[tokio::test]
async fn nothing_is_resent_or_reissued_to_a_partner_whose_queue_is_being_emptied() {
    // What is sent twice is given up, what is not sent waits.
    let settings =
        "[delivery]\nretry_first = \"50ms\"\nretry_max = \"50ms\"\nattempts_max = 2\ngive_up_after = \"1s\"\n";
    let daemon = Plan::new(false).with(settings).start().await;
    let partner = Partner::new("late");
    add(&daemon, &partner).await;
    daemon.send("late", "dead").await;
    give_up(&daemon, &partner, "dead").await;
    daemon.send("late", "waits").await;
    let removing = remove(&daemon, "?drain=30s");
    let beside = async {
        until("the queue to be closed", async || {
            let answer = daemon.admin("POST", "/api/v1/events", Some(&event("late", "waits"))).await;
            (answer.status() == 409 && answer.json()["code"] == "peer_leaving").then_some(())
        })
        .await;
        for verb in ["resend", "reissue"] {
            let answer = daemon.admin("POST", &format!("/api/v1/dead-letters/dead/{verb}"), None).await;
            assert_eq!((answer.status(), &answer.json()["code"]), (409, &json!("peer_leaving")), "{verb}");
        }
        partner.fetch(&daemon, "waits").await;
        partner.exchange(&daemon, &json!({"ack": ["waits"]})).await;
    };
    let ((status, _, gone), ()) = tokio::join!(removing, beside);
    assert_eq!((status, &gone["queued"]), (200, &json!(0)), "{gone}");

    let left = daemon.get("/api/v1/dead-letters?peer=late").await["dead_letters"][0].clone();
    assert_eq!((&left["can_resend"], &left["can_reissue"]), (&json!(false), &json!(false)), "{left}");
    assert_eq!(left["command"], "pushpull dlq discard dead");
    for verb in ["resend", "reissue"] {
        let answer = daemon.admin("POST", &format!("/api/v1/dead-letters/dead/{verb}"), None).await;
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(answer.status() == 409 && detail.contains("late is not configured any more"), "{verb}: {detail}");
        let body = json!({"peer": "late", "dry_run": true});
        let tried = daemon.admin("POST", &format!("/api/v1/dead-letters/{verb}"), Some(&body)).await.json();
        assert_eq!((&tried["count"], tried["failed"].as_array().map(Vec::len)), (&json!(0), Some(1)), "{tried}");
    }
    let discards = (0..8).map(|_| daemon.admin("POST", "/api/v1/dead-letters/dead/discard", None));
    let answers: Vec<u16> = join_all(discards).await.iter().map(|answer| answer.status()).collect();
    assert!(answers.contains(&200) && answers.iter().all(|status| [200, 409].contains(status)), "{answers:?}");
}

#[tokio::test]
async fn a_paused_partner_keeps_its_queue_from_being_emptied_and_stays_paused_across_a_reload() {
    let (partner, mut daemon) = scene().await;
    assert_eq!(daemon.admin("POST", "/api/v1/peers/late/pause", None).await.status(), 200);
    daemon.send("late", "one").await;
    let (_, code, problem) = remove(&daemon, "?drain=30s").await;
    assert_eq!(code, "peer_has_queue");
    assert!(problem["detail"].as_str().unwrap().contains("paused"), "{problem}");
    daemon.reload().await;
    daemon.terminate();
    daemon.ended().await;
    daemon.restart().await;
    let answer = partner.exchange(&daemon, &json!({})).await;
    assert!(answer["sets"].get("one").is_none(), "{answer}");
    assert_eq!(daemon.admin("POST", "/api/v1/peers/late/resume", None).await.status(), 200);
    partner.fetch(&daemon, "one").await;
}

#[tokio::test]
async fn a_partner_of_the_file_is_removed_by_its_block_alone_and_can_be_paused() {
    let partner = Partner::new("late");
    let daemon = Plan::new(false).with_peer(&partner, "").start().await;
    let (status, code, problem) = remove(&daemon, "?keep_queue=true").await;
    assert_eq!((status, code.as_str()), (409, "peer_in_file"));
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("pushpull.toml, line 1"), "{detail}");
    assert_eq!(partner.post(&daemon, b"{}").await.status(), 200);
    assert_eq!(daemon.admin("POST", "/api/v1/peers/late/pause", None).await.status(), 200);
}

#[tokio::test]
async fn requests_that_are_under_way_while_their_partner_is_removed_all_end() {
    let (partner, daemon) = scene().await;
    let posts = futures_util::future::join_all((0..20).map(|number| {
        let (partner, daemon) = (&partner, &daemon);
        async move {
            let jti = format!("theirs-{number}");
            let body = json!({"sets": {&jti: partner.set(&jti)}}).to_string();
            (jti, partner.post(daemon, body.as_bytes()).await)
        }
    }));
    let (answers, (status, ..)) = tokio::join!(posts, remove(&daemon, ""));
    assert_eq!(status, 200);
    let inbox = daemon.inbox().await;
    for (jti, answer) in answers {
        assert!([200, 401, 503].contains(&answer.status()), "{}", answer.text());
        let acked = answer.status() == 200 && verdict(&answer.json(), &jti).is_some();
        assert!(!acked || inbox.iter().any(|(_, stored)| *stored == jti), "{jti} was acked and is not there");
    }
}

#[tokio::test]
async fn a_partner_that_comes_and_goes_while_it_sends_has_each_set_stored_once() {
    let (partner, daemon) = scene().await;
    let jtis: Vec<String> = (0..40).map(|number| format!("theirs-{number}")).collect();
    let sending = async {
        for jti in &jtis {
            let body = json!({"sets": {jti: partner.set(jti)}}).to_string();
            until("an ack", async || {
                let answer = partner.post(&daemon, body.as_bytes()).await;
                (answer.status() == 200 && verdict(&answer.json(), jti).as_deref() == Some("ack")).then_some(())
            })
            .await;
        }
    };
    let coming_and_going = async {
        for _ in 0..5 {
            assert_eq!(remove(&daemon, "?keep_queue=true").await.0, 200);
            add(&daemon, &partner).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::join!(sending, coming_and_going);
    let stored: Vec<String> = daemon.inbox().await.into_iter().map(|(_, jti)| jti).collect();
    assert_eq!(stored, jtis);
}

#[tokio::test]
async fn a_partner_whose_files_are_gone_can_be_taken_out_without_a_daemon() {
    let (partner, mut daemon) = scene().await;
    daemon.send("late", "one").await;
    let file = daemon.dir().join("pushpull.toml").display().to_string();
    let rm = |more: &[&str]| {
        let words = ["peer", "rm", "late", "-c", &file].into_iter().chain(more.iter().copied()).collect::<Vec<_>>();
        let output = program(&words);
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    daemon.terminate();
    daemon.ended().await;
    std::fs::remove_file(daemon.dir().join("from-late.token")).unwrap();
    let (code, said) = daemon.rival().await;
    assert!(code == Some(3) && said.contains("added at run time") && said.contains("pushpull peer rm late"), "{said}");

    let (code, said) = rm(&[]);
    assert!(code == Some(7) && said.contains("error[peer_has_queue]: 1 SETs wait for late"), "{said}");
    let (code, said) = rm(&["--keep-queue"]);
    assert!(code == Some(0) && said.contains("1 SETs queued") && said.contains("issuer = "), "{said}");
    let (code, said) = rm(&["--keep-queue"]);
    assert!(code == Some(6) && said.contains("error[no_such_peer]"), "{said}");
    daemon.restart().await;
    assert_eq!(remove(&daemon, "").await.1, "no_such_peer");
    add(&daemon, &partner).await;
    assert!(!partner.fetch(&daemon, "one").await.is_empty(), "its queue goes on");
}

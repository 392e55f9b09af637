//! The commands for dead letters and for the story of one event, run by an operator against the real daemon.

use serde_json::{Value, json};

use crate::common::daemon::{Daemon, Plan, event};
use crate::common::link::Link;
use crate::common::partner::Partner;
use crate::dead_letters::{PATIENT, fetch_all, refuse};

/// A daemon whose partner has refused these with `invalid_key`.
async fn scene(jtis: &[&str]) -> (Partner, Daemon) {
    let partner = Partner::new("globex");
    let daemon = Plan::new(false).with(PATIENT).with_peer(&partner, "").start().await;
    let jtis: Vec<String> = jtis.iter().map(|jti| (*jti).to_owned()).collect();
    daemon.send_all("globex", &jtis).await;
    let mut link = Link::http(&daemon, &partner);
    fetch_all(&mut link, &jtis).await;
    refuse(&daemon, &partner, &mut link, &jtis, "invalid_key", 1).await;
    (partner, daemon)
}

#[tokio::test]
async fn the_commands_lead_from_the_refusal_to_the_ack() {
    let (partner, daemon) = scene(&["first"]).await;
    let mut link = Link::http(&daemon, &partner);
    let (_, shown) = daemon.cli(&["event", "show", "first"]).await;
    assert!(
        shown.contains("refused by globex: invalid_key") && shown.contains("pushpull dlq reissue first"),
        "{shown}"
    );
    let (_, shown) = daemon.cli(&["dlq", "ls"]).await;
    assert!(shown.starts_with("1 × invalid_key from globex, since "), "{shown}");
    let (_, shown) = daemon.cli(&["dlq", "show", "first"]).await;
    assert!(shown.contains("subject of first") && shown.contains("we do not know that key"), "{shown}");
    let (code, shown) = daemon.cli(&["dlq", "resend", "first"]).await;
    assert!(code == Some(7) && shown.contains("error[resend_refused]"), "{code:?} {shown}");
    let (code, shown) = daemon.cli(&["dlq", "reissue", "--peer", "globex", "--reason", "invalid_key"]).await;
    assert!(code == Some(2) && shown.contains("1 dead letter would be reissued"), "{code:?} {shown}");
    let (code, shown) =
        daemon.cli(&["dlq", "reissue", "--peer", "globex", "--reason", "invalid_key", "--yes", "--json"]).await;
    assert_eq!(code, Some(0), "{shown}");
    let new = serde_json::from_str::<Value>(&shown).unwrap()["dead_letters"][0]["reissued_as"].clone();
    let new = new.as_str().unwrap();
    link.fetch(new).await;
    partner.exchange(&daemon, &json!({"ack": [new]})).await;
    daemon.settled("globex", new, "acked").await;
    let (_, shown) = daemon.cli(&["event", "show", "first"]).await;
    assert!(shown.contains(&format!("reissued as {new}")), "{shown}");
    let (code, _) = daemon.cli(&["dlq", "show", "first"]).await;
    assert_eq!(code, Some(7));
    let (code, shown) = daemon.cli(&["dlq", "discard", "nothing"]).await;
    assert!(code == Some(6) && shown.contains("error[no_such_event]"), "{code:?} {shown}");
    let answer = daemon.admin("POST", "/api/v1/events", Some(&event("globex", "first"))).await;
    assert_eq!(answer.status(), 202, "the submission is known, and nothing is queued twice");
    assert_eq!(daemon.totals("globex").await["queued"], 0);
}

#[tokio::test]
async fn what_could_not_be_done_shows_in_the_exit_code() {
    let (_, daemon) = scene(&["a", "b", "c", "d"]).await;
    let (code, shown) = daemon.cli(&["dlq", "discard", "a", "nothing"]).await;
    assert_eq!(code, Some(10), "{shown}");
    assert!(shown.contains("a  discarded") && shown.contains("error[no_such_event]"), "{shown}");
    let (code, shown) = daemon.cli(&["dlq", "reissue", "a", "nothing"]).await;
    assert_eq!(code, Some(7), "{shown}");
    let (code, shown) = daemon.cli(&["dlq", "resend", "--all", "--yes"]).await;
    assert!(code == Some(7) && shown.contains("0 of 3 resent"), "{code:?} {shown}");
    let (code, shown) = daemon.cli(&["dlq", "discard"]).await;
    assert!(code == Some(2) && shown.contains("pushpull dlq ls"), "{code:?} {shown}");
    let (code, shown) = daemon.cli(&["dlq", "resend", "b", "--dry-run"]).await;
    assert!(code == Some(7) && shown.contains("error[resend_refused]"), "{code:?} {shown}");
    let (code, shown) = daemon.cli(&["dlq", "reissue", "b", "--dry-run"]).await;
    assert!(code == Some(0) && shown.contains("b  would be reissued"), "{code:?} {shown}");
    assert_eq!(daemon.get("/api/v1/peers/globex").await["dead_letters"], 3, "a dry run changes nothing");
    let (code, shown) = daemon.cli(&["dlq", "discard", "--peer", "globex", "--yes"]).await;
    assert!(code == Some(0) && shown.contains("3 of 3 discarded"), "{code:?} {shown}");
    let (code, shown) = daemon.cli(&["dlq", "ls", "nobody"]).await;
    assert!(code == Some(6) && shown.contains("error[no_such_peer]"), "{code:?} {shown}");
    let (code, shown) = daemon.cli(&["event", "show", "nothing"]).await;
    assert!(code == Some(6) && shown.contains("error[no_such_event]"), "{code:?} {shown}");
}

#[tokio::test]
async fn what_is_listed_is_json_when_that_is_asked_for() {
    let (_, daemon) = scene(&["a", "b"]).await;
    let (_, shown) = daemon.cli(&["dlq", "ls", "--json"]).await;
    let groups: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&groups["groups"][0]["count"], &groups["groups"][0]["reason"]), (&json!(2), &json!("invalid_key")));
    let (_, shown) = daemon.cli(&["dlq", "ls", "globex", "--all", "--json"]).await;
    let letters: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(letters.iter().map(|letter| letter["jti"].as_str().unwrap()).collect::<Vec<_>>(), ["a", "b"]);
    let (_, shown) = daemon.cli(&["dlq", "ls", "--all"]).await;
    assert!(shown.starts_with("a  globex  invalid_key  2") && shown.contains("caep:session-revoked"), "{shown}");
    let (_, shown) = daemon.cli(&["event", "show", "a", "--json"]).await;
    let record: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(record["records"][0]["command"], "pushpull dlq reissue a");
    let (_, shown) = daemon.cli(&["dlq", "show", "a", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["claims"]["jti"], "a");
    let (code, shown) = daemon.cli(&["dlq", "ls", "--reason", "too_old"]).await;
    assert!(code == Some(0) && shown == "no dead letters\n", "{code:?} {shown}");
}

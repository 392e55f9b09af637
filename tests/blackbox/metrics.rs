//! What `/metrics` and `status` show is what happened, and nobody but the operator can make a series.

use serde_json::json;

use crate::common::daemon::{Daemon, Plan};
use crate::common::http::Message;
use crate::common::partner::{Partner, verdict};
use crate::common::until;
use crate::exposition::Exposition;

async fn scene() -> (Partner, Daemon) {
    let partner = Partner::new("globex");
    let daemon = Plan::new(true).with("[delivery]\nretry_first = \"2m\"").with_peer(&partner, "").start().await;
    (partner, daemon)
}

async fn scrape(daemon: &Daemon, accept: &str) -> Message {
    let answer = daemon.admin_raw("GET", "/metrics", &[("Accept", accept)], b"").await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer
}

async fn exposed(daemon: &Daemon) -> Exposition {
    Exposition::read(&scrape(daemon, "").await.text(), false)
}

/// Something of every kind: acked, refused, received, doubled, refused by us.
async fn a_day(partner: &Partner, daemon: &Daemon) {
    for jti in ["out-1", "out-2", "out-3"] {
        daemon.send("globex", jti).await;
        partner.fetch(daemon, jti).await;
    }
    let error = |err: &str| json!({"err": err, "description": "d"});
    let verdicts =
        json!({"ack": ["out-1"], "setErrs": {"out-2": error("invalid_key"), "out-3": error("their_own_code")}});
    partner.exchange(daemon, &verdicts).await;
    daemon.settled("globex", "out-3", "refused").await;
    let set = partner.set("in-1");
    for _ in 0..2 {
        let answer = partner.exchange(daemon, &json!({"sets": {"in-1": set}})).await;
        assert_eq!(verdict(&answer, "in-1").as_deref(), Some("ack"));
    }
    let mut claims = partner.claims("in-2");
    claims.insert("aud".to_owned(), json!("https://else.example"));
    let answer = partner.exchange(daemon, &json!({"sets": {"in-2": partner.sign(&claims)}})).await;
    assert_eq!(verdict(&answer, "in-2").as_deref(), Some("invalid_audience"));
}

#[tokio::test]
async fn the_exposition_is_valid_in_both_formats_and_counts_what_happened() {
    let (partner, daemon) = scene().await;
    let first = exposed(&daemon).await;
    assert_eq!(first.value("pushpull_sets_acked_total{peer=\"globex\"}"), 0.0, "it is there before the first event");
    a_day(&partner, &daemon).await;
    daemon.send("globex", "out-4").await;

    let open = scrape(&daemon, "application/openmetrics-text; version=1.0.0").await;
    assert_eq!(open.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let plain = scrape(&daemon, "text/plain").await;
    assert_eq!(plain.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let (open, plain) = (Exposition::read(&open.text(), true), Exposition::read(&plain.text(), false));
    let without = |exposition: &Exposition| exposition.names();
    assert_eq!(without(&open), without(&plain), "both formats have the same series");
    for (series, value) in [
        ("pushpull_sets_accepted_total{peer=\"globex\",event_type=\"caep:session-revoked\"}", 4.0),
        ("pushpull_sets_acked_total{peer=\"globex\"}", 1.0),
        ("pushpull_sets_rejected_total{peer=\"globex\",code=\"invalid_key\"}", 1.0),
        ("pushpull_sets_rejected_total{peer=\"globex\",code=\"other\"}", 1.0),
        ("pushpull_sets_received_total{peer=\"globex\",event_type=\"caep:session-revoked\"}", 1.0),
        ("pushpull_sets_duplicate_total{peer=\"globex\"}", 1.0),
        ("pushpull_sets_invalid_total{peer=\"globex\",code=\"invalid_audience\"}", 1.0),
        ("pushpull_sets_sent_total{peer=\"globex\",transport=\"http\"}", 3.0),
        ("pushpull_queue_sets{peer=\"globex\"}", 1.0),
        ("pushpull_dead_letters{peer=\"globex\"}", 2.0),
        ("pushpull_inbox_sets{}", 1.0),
        ("pushpull_delivery_duration_seconds_count{peer=\"globex\"}", 1.0),
        ("pushpull_ack_latency_seconds_count{peer=\"globex\"}", 3.0),
        ("pushpull_receive_duration_seconds_count{peer=\"globex\"}", 3.0),
        ("pushpull_sign_duration_seconds_count{alg=\"ES256\"}", 4.0),
        ("pushpull_verify_duration_seconds_count{}", 3.0),
        ("pushpull_peer_state{peer=\"globex\",direction=\"out\",state=\"up\"}", 1.0),
        ("pushpull_peer_state{peer=\"globex\",direction=\"out\",state=\"down\"}", 0.0),
        ("pushpull_jwks_fetches_total{peer=\"globex\",outcome=\"ok\"}", 0.0),
        ("pushpull_peer_scraped{peer=\"globex\"}", 1.0),
    ] {
        assert_eq!(plain.value(series), value, "{series}");
    }
    for series in [
        "process_resident_memory_bytes{}",
        "process_cpu_seconds_total{}",
        "process_open_fds{}",
        "pushpull_store_commit_duration_seconds_count{}",
        "pushpull_received_bytes_total{peer=\"globex\",transport=\"http\"}",
        "pushpull_peer_last_ack_timestamp_seconds{peer=\"globex\"}",
        "pushpull_peer_connected_timestamp_seconds{peer=\"globex\"}",
    ] {
        assert!(plain.value(series) > 0.0, "{series}");
    }
    let ahead = plain.value("pushpull_cert_expiry_timestamp_seconds{use=\"server\"}");
    assert!(ahead > crate::common::partner::now() as f64, "our certificate is valid for a while: {ahead}");
    let later = exposed(&daemon).await;
    for (series, value) in plain.counters() {
        assert!(later.value(series) >= *value, "{series} has gone back");
    }
}

#[tokio::test]
async fn metrics_need_the_token() {
    let (_, daemon) = scene().await;
    let mut wire = daemon.connect_admin().await;
    assert_eq!(wire.ask("GET", "/metrics", &[], b"").await.unwrap().unwrap().status(), 401);
}

#[tokio::test]
async fn a_hostile_partner_makes_no_series() {
    let (partner, daemon) = scene().await;
    a_day(&partner, &daemon).await;
    strange(&partner, &daemon, 0).await;
    let before = exposed(&daemon).await;
    for number in 1..25 {
        strange(&partner, &daemon, number).await;
    }
    let after = exposed(&daemon).await;
    assert_eq!(before.names(), after.names());
    assert!(after.series.keys().all(|series| !series.contains("strange")), "{:?}", after.names());
    let routes = after.series.keys().filter(|series| series.starts_with("pushpull_http_") && series.contains("_count"));
    assert!(routes.count() < 40, "{:?}", after.series.keys().collect::<Vec<_>>());
}

/// Event types, jtis, kids, codes, paths and methods that nobody has heard of.
async fn strange(partner: &Partner, daemon: &Daemon, number: usize) {
    let jti = format!("strange-jti-{number}");
    let mut claims = partner.claims(&jti);
    claims.insert("events".to_owned(), json!({(format!("https://strange.example/type-{number}")): {}}));
    let answer = partner.exchange(daemon, &json!({"sets": {&jti: partner.sign(&claims)}})).await;
    assert_eq!(verdict(&answer, &jti).as_deref(), Some("ack"));
    let jti = format!("strange-kid-{number}");
    let header = json!({"typ": "secevent+jwt", "alg": "ES256", "kid": format!("strange-{number}")});
    let token = partner.key.sign(&header, &serde_json::Value::Object(partner.claims(&jti)).to_string());
    let error = json!({"err": format!("strange_{number}"), "description": format!("strange {number}")});
    partner.exchange(daemon, &json!({"sets": {&jti: token}, "setErrs": {"unheard-of": error}, "ack": [&jti]})).await;
    let ours = format!("ours-{number}");
    daemon.send("globex", &ours).await;
    partner.fetch(daemon, &ours).await;
    partner.exchange(daemon, &json!({"setErrs": {&ours: error}})).await;
    daemon.settled("globex", &ours, "refused").await;
    let mut wire = daemon.connect().await;
    let (path, method) = (format!("/strange/{number}"), format!("STRANGE{number}"));
    assert_eq!(wire.ask("GET", &path, &[], b"").await.unwrap().unwrap().status(), 404);
    let mut wire = daemon.connect().await;
    let bearer = partner.bearer();
    let answer = wire.ask(&method, "/pushpull", &[("Authorization", &bearer)], b"").await.unwrap().unwrap();
    assert_eq!(answer.status(), 405);
}

#[tokio::test]
async fn status_tells_each_direction_and_its_last_verdicts() {
    let (partner, daemon) = scene().await;
    let fresh = daemon.get("/api/v1/peers/globex").await;
    assert_eq!((&fresh["link"], &fresh["advice"]["code"]), (&json!("down"), &json!("link_down")), "{fresh}");
    assert!(fresh["advice"]["why"].as_str().unwrap().contains("comes to us"), "{fresh}");
    assert_eq!((&fresh["out"]["last_ack_at"], &fresh["in"]["last_received_at"]), (&json!(null), &json!(null)));
    a_day(&partner, &daemon).await;
    daemon.send("globex", "out-4").await;
    let status = daemon.get("/api/v1/peers/globex").await;
    assert_eq!((&status["link"], &status["advice"]), (&json!("up"), &json!(null)), "{status}");
    let (out, incoming) = (&status["out"], &status["in"]);
    assert_eq!((&out["queued"], &out["acked"], &out["refused"]), (&json!(1), &json!(1), &json!(2)));
    assert_eq!(out["last_refusal"]["err"], "other", "what a partner invents is shown with the event alone: {out}");
    assert_eq!((&incoming["received"], &incoming["rejected"], &incoming["owed"]), (&json!(1), &json!(1), &json!(0)));
    for at in [&out["last_ack_at"], &incoming["last_received_at"], &incoming["last_verdict_at"], &status["since"]] {
        assert!(at.as_str().is_some_and(|at| at.ends_with('Z')), "{status}");
    }
    assert_eq!((&status["keys"]["count"], &status["keys"]["trouble"]), (&json!(1), &json!(null)));
    daemon.admin("POST", "/api/v1/peers/globex/pause", None).await;
    let paused = daemon.get("/api/v1/peers/globex").await;
    assert_eq!((&paused["out"]["state"], &paused["in"]["state"]), (&json!("paused"), &json!("up")), "{paused}");
    assert_eq!(paused["advice"]["fix"], "pushpull peer resume globex");
}

#[tokio::test]
async fn the_oldest_set_is_told_also_when_it_is_on_disk_alone() {
    let (_, mut daemon) = scene().await;
    daemon.admin("POST", "/api/v1/peers/globex/pause", None).await;
    daemon.send("globex", "waiting").await;
    daemon.kill().await;
    daemon.restart().await;
    until("the oldest SET's age", async || {
        daemon.get("/api/v1/peers/globex").await["oldest_seconds"].as_u64().filter(|age| *age >= 1)
    })
    .await;
}

//! The operator's and the application's side: submissions, the inbox and its consumers, peers, and who may ask.

use serde_json::{Value, json};

use crate::common::daemon::{Daemon, Plan, event};
use crate::common::http::Message;
use crate::common::partner::{Partner, SESSION_REVOKED};
use crate::common::responder::Responder;
use crate::common::{soon, until};

async fn scene() -> (Partner, Daemon) {
    let partner = Partner::new("globex");
    let plan = Plan::new(false).with("[delivery]\nretry_first = \"2m\"");
    let daemon = plan.with_peer(&partner, "send = [\"caep:*\"]").start().await;
    (partner, daemon)
}

/// A problem in its one form.
#[track_caller]
fn is_problem(answer: &Message, status: u16, code: &str) -> Value {
    assert_eq!(answer.status(), status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    let problem = answer.json();
    assert_eq!((&problem["status"], &problem["code"]), (&json!(status), &json!(code)), "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
    problem
}

const NDJSON: [(&str, &str); 1] = [("Content-Type", "application/x-ndjson")];

async fn submit_lines(daemon: &Daemon, lines: &[Value]) -> Message {
    let text: Vec<String> = lines.iter().map(Value::to_string).collect();
    daemon.admin_raw("POST", "/api/v1/events", &NDJSON, text.join("\n").as_bytes()).await
}

async fn submit(daemon: &Daemon, submission: &Value) -> Message {
    daemon.admin("POST", "/api/v1/events", Some(submission)).await
}

fn claims_of(token: &str) -> Value {
    use base64::Engine as _;
    let claims = token.split('.').nth(1).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test]
async fn an_event_is_taken_in_each_of_its_three_forms() {
    let (partner, daemon) = scene().await;
    let draft = json!({"peer": "globex", "type": "caep:session-revoked", "sub_id": {"format": "opaque", "id": "1"}, "txn": "t"});
    let answer = submit(&daemon, &draft).await;
    assert_eq!(answer.status(), 202, "{}", answer.text());
    let named = answer.json()["jtis"][0].as_str().unwrap().to_owned();
    let claims = claims_of(&partner.fetch(&daemon, &named).await);
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!("https://us.example"), &json!("https://globex.example")));
    assert_eq!((&claims["txn"], &claims["sub_id"]["id"]), (&json!("t"), &json!("1")));
    assert!(claims["iat"].is_number() && claims["events"].get(SESSION_REVOKED).is_some(), "{claims}");

    let own = json!({"events": {SESSION_REVOKED: {}}, "jti": "own", "iat": 1_700_000_000, "aud": ["x"], "sub_id": {"format": "opaque", "id": "2"}});
    assert_eq!(submit(&daemon, &json!({"peer": "globex", "claims": own})).await.json()["jtis"], json!(["own"]));
    let claims = claims_of(&partner.fetch(&daemon, "own").await);
    assert_eq!((&claims["iat"], &claims["aud"]), (&json!(1_700_000_000), &json!(["x"])), "given ones stay");

    let signed = Partner::new("somebody").set("signed");
    assert_eq!(submit(&daemon, &json!({"peer": "globex", "set": signed})).await.json()["jtis"], json!(["signed"]));
    assert_eq!(partner.fetch(&daemon, "signed").await, signed, "not a byte is changed");
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_with_its_reason() {
    let (_, daemon) = scene().await;
    let subject = json!({"format": "opaque", "id": "canary-subject"});
    for (submission, status, code) in [
        (json!({"peer": "nobody", "type": "caep:session-revoked", "sub_id": subject}), 404, "no_such_peer"),
        (json!({"peer": "globex", "type": "risc:account-disabled", "sub_id": subject}), 400, "type_not_sent"),
        (json!({"peer": "globex", "type": "caep:session-revoked"}), 400, "invalid_request"),
        (json!({"peer": "globex", "type": "nonsense", "sub_id": subject}), 400, "invalid_event"),
        (json!({"peer": "globex", "type": "caep:session-revokd", "sub_id": subject}), 400, "invalid_event"),
        (
            json!({"peer": "globex", "claims": {"iss": "https://not.us", "events": {SESSION_REVOKED: {}}, "sub_id": subject}}),
            400,
            "invalid_event",
        ),
        (
            json!({"peer": "globex", "type": "caep:session-revoked", "sub_id": subject, "jit": "x"}),
            400,
            "invalid_request",
        ),
        (json!({"peer": "globex", "claims": {"sub_id": subject}}), 400, "invalid_event"),
        (json!({"peer": "globex", "set": "a.b.c"}), 400, "invalid_event"),
        (json!({"type": "caep:session-revoked", "sub_id": subject}), 400, "invalid_request"),
        (json!([]), 400, "invalid_request"),
    ] {
        let problem = is_problem(&submit(&daemon, &submission).await, status, code);
        assert!(!problem.to_string().contains("canary"), "it tells whom it is about: {problem}");
    }
    let plain = [("Content-Type", "text/plain")];
    let answer = daemon.admin_raw("POST", "/api/v1/events", &plain, event("globex", "x").to_string().as_bytes()).await;
    is_problem(&answer, 400, "invalid_request");
    let twice = br#"{"peer":"globex","peer":"globex","set":"x"}"#;
    let answer = daemon.admin_raw("POST", "/api/v1/events", &[("Content-Type", "application/json")], twice).await;
    is_problem(&answer, 400, "invalid_request");
    assert_eq!(daemon.totals("globex").await["queued"], 0);
    assert!(!daemon.log().join("\n").contains("canary"), "the log tells whom it is about");
}

#[tokio::test]
async fn many_lines_are_all_taken_or_none() {
    let (_, daemon) = scene().await;
    let good = |jti: &str| event("globex", jti);
    let unsent = json!({"peer": "globex", "type": "risc:account-disabled", "sub_id": {"format": "opaque", "id": "1"}});
    for bad in [json!({"peer": "nobody", "set": "x"}), unsent, json!("nonsense"), json!({"peer": "globex"})] {
        let answer = submit_lines(&daemon, &[good("one"), good("two"), bad, good("four")]).await;
        assert_eq!((answer.status() / 100, &answer.json()["line"]), (4, &json!(3)), "{}", answer.text());
        assert_eq!(daemon.totals("globex").await["queued"], 0);
        assert_eq!(daemon.state("out", "globex", "one").await, None);
    }
    let text = format!("\n{}\n\n{}\nnonsense", good("one"), good("two"));
    let answer = daemon.admin_raw("POST", "/api/v1/events", &NDJSON, text.as_bytes()).await;
    assert_eq!(answer.json()["line"], 5, "empty lines are counted, as an editor does");
    let answer = submit_lines(&daemon, &[good("one"), good("two"), good("three")]).await;
    assert_eq!(answer.json()["jtis"], json!(["one", "two", "three"]));
    assert_eq!(daemon.totals("globex").await["queued"], 3);
    // One jti for two things in one request: none is taken.
    let mut other = good("four");
    other["txn"] = json!("other");
    is_problem(&submit_lines(&daemon, &[good("five"), good("four"), other]).await, 409, "jti_conflict");
    assert_eq!(daemon.state("out", "globex", "five").await, None);
    assert_eq!(daemon.admin_raw("POST", "/api/v1/events", &NDJSON, b"").await.json()["jtis"], json!([]));
}

#[tokio::test]
async fn the_same_submission_again_changes_nothing_and_another_is_a_conflict() {
    let (partner, mut daemon) = scene().await;
    let mut other = event("globex", "event");
    other["event"]["event_timestamp"] = json!(1);
    for round in 0..3 {
        daemon.send("globex", "event").await;
        is_problem(&submit(&daemon, &other).await, 409, "jti_conflict");
        assert_eq!(daemon.totals("globex").await["queued"], 1, "{round}");
        if round == 1 {
            daemon.kill().await;
            daemon.restart().await;
        }
    }
    partner.fetch(&daemon, "event").await;
    partner.exchange(&daemon, &json!({"ack": ["event"]})).await;
    daemon.settled("globex", "event", "acked").await;
    // Not even after its end.
    daemon.send("globex", "event").await;
    is_problem(&submit(&daemon, &other).await, 409, "jti_conflict");
    assert_eq!(daemon.totals("globex").await["queued"], 0);
}

/// (seq, jti, redelivered) of what a consumer reads.
async fn read(daemon: &Daemon, query: &str) -> Vec<(u64, String, bool)> {
    let sets = daemon.get(&format!("/api/v1/inbox?{query}")).await["sets"].as_array().unwrap().clone();
    let row = |set: &Value| {
        let jti = set["jti"].as_str().unwrap().to_owned();
        assert_eq!(set["claims"]["jti"], jti);
        (set["seq"].as_u64().unwrap(), jti, set["redelivered"].as_bool().unwrap())
    };
    sets.iter().map(row).collect()
}

fn jtis(rows: &[(u64, String, bool)]) -> Vec<&str> {
    rows.iter().map(|(_, jti, _)| jti.as_str()).collect()
}

async fn receive(partner: &Partner, daemon: &Daemon, jtis: &[&str]) {
    for jti in jtis {
        partner.exchange(daemon, &json!({"sets": {*jti: partner.set(jti)}})).await;
    }
}

#[tokio::test]
async fn a_consumer_gets_everything_again_that_it_has_not_confirmed() {
    let (partner, mut daemon) = scene().await;
    receive(&partner, &daemon, &["a", "b", "c"]).await;
    let first = read(&daemon, "consumer=app&max=2").await;
    assert_eq!((jtis(&first), first[0].2, first[1].2), (vec!["a", "b"], false, false));
    daemon.kill().await;
    daemon.restart().await;
    let again = read(&daemon, "consumer=app").await;
    assert_eq!(jtis(&again), ["a", "b", "c"]);
    assert!(again[0].2 && again[1].2, "handed over before: {again:?}");
    let confirm = json!({"consumer": "app", "up_to": again[1].0});
    assert_eq!(daemon.admin("POST", "/api/v1/inbox/confirm", Some(&confirm)).await.status(), 200);
    daemon.kill().await;
    daemon.restart().await;
    assert_eq!(jtis(&read(&daemon, "consumer=app").await), ["c"]);
    // Going on behind what was read, without a word about it.
    assert_eq!(jtis(&read(&daemon, &format!("consumer=app&after={}", again[0].0)).await), ["b", "c"][1..]);
    // A position never goes back.
    let back = json!({"consumer": "app", "up_to": 0});
    daemon.admin("POST", "/api/v1/inbox/confirm", Some(&back)).await;
    assert_eq!(jtis(&read(&daemon, "consumer=app").await), ["c"]);
}

#[tokio::test]
async fn consumers_do_not_disturb_each_other_and_looking_changes_nothing() {
    let (partner, daemon) = scene().await;
    receive(&partner, &daemon, &["a", "b"]).await;
    for _ in 0..2 {
        let seen = read(&daemon, "max=10").await;
        assert_eq!((jtis(&seen), seen[0].2), (vec!["a", "b"], false), "no consumer, no trace");
    }
    let rows = read(&daemon, "consumer=one").await;
    daemon.admin("POST", "/api/v1/inbox/confirm", Some(&json!({"consumer": "one", "up_to": rows[1].0}))).await;
    assert!(read(&daemon, "consumer=one").await.is_empty());
    let other = read(&daemon, "consumer=two").await;
    assert_eq!((jtis(&other), other[0].2), (vec!["a", "b"], false), "two has its own position");
    assert_eq!(
        daemon.get("/api/v1/consumers").await,
        json!({"consumers": [
            {"name": "one", "confirmed": 2, "handed_out": 2, "behind": 0},
            {"name": "two", "confirmed": 0, "handed_out": 2, "behind": 2},
        ], "end": 2})
    );
    let (code, listed) = daemon.cli(&["consumer", "ls"]).await;
    assert!(code == Some(0) && listed.contains("two") && listed.contains("BEHIND"), "{listed}");
    assert_eq!(daemon.cli(&["consumer", "rm", "three"]).await.0, Some(6));
    assert_eq!(daemon.admin("DELETE", "/api/v1/consumers/two", None).await.status(), 200);
    is_problem(&daemon.admin("DELETE", "/api/v1/consumers/two", None).await, 404, "no_such_consumer");
    for (query, status) in [
        ("max=x", 400),
        ("max=0", 400),
        ("consumer=", 400),
        ("wait=5", 400),
        ("nonsense=1", 400),
        ("after=-1", 400),
        ("after=3", 400),
        ("consumer=a&consumer=b", 400),
    ] {
        is_problem(&daemon.admin("GET", &format!("/api/v1/inbox?{query}"), None).await, status, "invalid_request");
    }
    let nobody = json!({"consumer": "nobody", "up_to": 1});
    let answer = daemon.admin("POST", "/api/v1/inbox/confirm", Some(&nobody)).await;
    assert!(matches!(answer.status(), 200 | 400 | 404), "{}", answer.text());
    is_problem(
        &daemon.admin("POST", "/api/v1/inbox/confirm", Some(&json!({"consumer": "one"}))).await,
        400,
        "invalid_request",
    );
}

#[tokio::test]
async fn a_waiting_reader_is_woken_by_the_first_set() {
    let (partner, daemon) = scene().await;
    let started = tokio::time::Instant::now();
    assert!(read(&daemon, "consumer=app&wait=300ms").await.is_empty());
    assert!(started.elapsed() >= std::time::Duration::from_millis(290));
    let started = tokio::time::Instant::now();
    let (rows, ()) = tokio::join!(read(&daemon, "consumer=app&wait=30s"), async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        receive(&partner, &daemon, &["a"]).await;
    });
    assert_eq!(jtis(&rows), ["a"]);
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "it waited to the end");
}

#[tokio::test]
async fn the_record_of_a_jti_tells_both_directions() {
    let (partner, daemon) = scene().await;
    daemon.send("globex", "both").await;
    assert_eq!(daemon.state("out", "globex", "both").await.as_deref(), Some("queued"));
    partner.fetch(&daemon, "both").await;
    assert_eq!(daemon.state("out", "globex", "both").await.as_deref(), Some("in_flight"));
    receive(&partner, &daemon, &["both"]).await;
    partner.exchange(&daemon, &json!({"setErrs": {"both": {"err": "access_denied", "description": "no"}}})).await;
    daemon.settled("globex", "both", "refused").await;
    let answer = daemon.get("/api/v1/events/both").await;
    assert_eq!((&answer["jti"], answer["records"].as_array().unwrap().len()), (&json!("both"), 2));
    let out = daemon.record("out", "globex", "both").await.unwrap();
    assert_eq!((&out["err"], &out["description"]), (&json!("access_denied"), &json!("no")));
    let whats: Vec<_> = out["timeline"].as_array().unwrap().iter().map(|moment| moment["what"].clone()).collect();
    assert_eq!(whats, ["accepted", "refused"]);
    assert_eq!(daemon.state("in", "globex", "both").await.as_deref(), Some("received"));
    is_problem(&daemon.admin("GET", "/api/v1/events/unknown", None).await, 404, "no_such_event");
}

#[tokio::test]
async fn a_pause_holds_sets_back_and_survives_a_restart() {
    let (partner, mut daemon) = scene().await;
    assert_eq!(daemon.admin("POST", "/api/v1/peers/globex/pause", None).await.status(), 200);
    daemon.send("globex", "held").await;
    daemon.kill().await;
    daemon.restart().await;
    assert_eq!(daemon.get("/api/v1/peers/globex").await["link"], "paused");
    // What the partner sends is answered all the same.
    let answer = partner.exchange(&daemon, &json!({"sets": {"theirs": partner.set("theirs")}})).await;
    assert_eq!(answer, json!({"ack": ["theirs"]}));
    assert_eq!(daemon.admin("POST", "/api/v1/peers/globex/resume", None).await.status(), 200);
    partner.fetch(&daemon, "held").await;
    is_problem(&daemon.admin("POST", "/api/v1/peers/nobody/pause", None).await, 404, "no_such_peer");
    is_problem(&daemon.admin("GET", "/api/v1/peers/nobody", None).await, 404, "no_such_peer");
}

#[tokio::test]
async fn verifying_sends_a_set_of_its_own_type_and_waits_for_the_answer() {
    let partner = Partner::new("globex");
    let mut responder = Responder::listen().await;
    let delivery = "[delivery]\nspeak_interval = \"100ms\"";
    let daemon = Plan::new(false).with(delivery).with_peer(&partner, &responder.keys("http")).start().await;
    for (err, status) in [(None, 200), (Some("invalid_state"), 502)] {
        let (answer, ()) = tokio::join!(daemon.admin("POST", "/api/v1/peers/globex/verify", None), async {
            loop {
                let request = responder.request().await;
                let Some(jti) = request.jtis().pop() else {
                    request.answer_object(&json!({}));
                    continue;
                };
                let claims = claims_of(request.object()["sets"][&jti].as_str().unwrap());
                let types: Vec<_> = claims["events"].as_object().unwrap().keys().cloned().collect();
                assert_eq!(types, ["https://schemas.openid.net/secevent/ssf/event-type/verification"]);
                assert_eq!(claims["sub_id"], json!({"format": "opaque", "id": "https://us.example"}));
                match err {
                    None => drop(request.ack()),
                    Some(err) => request.answer_object(&json!({"setErrs": {&jti: {"err": err, "description": "d"}}})),
                }
                return;
            }
        });
        assert_eq!(answer.status(), status, "{}", answer.text());
        assert!(status != 200 || answer.json()["ms"].is_number());
        assert!(status != 502 || answer.json()["code"] == "refused_by_peer");
    }
    // Theirs is acked, whatever `accept` says, and is nobody else's business.
    let verification = "https://schemas.openid.net/secevent/ssf/event-type/verification";
    let mut claims = partner.claims("check");
    claims.insert("events".to_owned(), json!({verification: {}}));
    let answer = partner.exchange(&daemon, &json!({"sets": {"check": partner.sign(&claims)}})).await;
    assert_eq!(answer["ack"], json!(["check"]));
    assert!(daemon.inbox().await.is_empty());
}

#[tokio::test]
async fn the_api_is_for_those_with_the_token_and_no_web_page() {
    let (_, daemon) = scene().await;
    let ask = async |method: &str, path: &str, headers: &[(&str, &str)]| {
        let mut wire = daemon.connect_admin().await;
        soon(path, wire.ask(method, path, headers, b"")).await.unwrap().unwrap()
    };
    let bearer = format!("Bearer {}", daemon.admin_token());
    let auth = ("Authorization", bearer.as_str());
    for path in ["/api/v1/peers", "/api/v1/inbox", "/api/v1/events/x", "/api/v1/nothing", "/nothing"] {
        let answer = ask("GET", path, &[]).await;
        is_problem(&answer, 401, "no_token");
        assert!(answer.header("www-authenticate").is_some_and(|challenge| challenge.starts_with("Bearer")));
        is_problem(&ask("GET", path, &[("Authorization", "Bearer wrong")]).await, 401, "wrong_token");
        is_problem(&ask("GET", path, &[("Authorization", "Basic eDp5")]).await, 401, "wrong_token");
    }
    for host in ["evil.example", "evil.example:8480", "127.0.0.1.evil.example", ""] {
        is_problem(&ask("GET", "/api/v1/peers", &[auth, ("Host", host)]).await, 421, "foreign_host");
        is_problem(&ask("GET", "/livez", &[("Host", host)]).await, 421, "foreign_host");
    }
    for origin in ["https://evil.example", "null", "http://localhost.evil.example"] {
        is_problem(&ask("GET", "/api/v1/peers", &[auth, ("Origin", origin)]).await, 403, "foreign_origin");
    }
    for host in ["localhost", "LOCALHOST:1", "127.0.0.1:8480", "[::1]:8480"] {
        assert_eq!(ask("GET", "/api/v1/peers", &[auth, ("Host", host)]).await.status(), 200, "{host}");
    }
    assert_eq!(ask("GET", "/api/v1/peers", &[auth, ("Origin", "http://localhost:8480")]).await.status(), 200);
    for probe in ["/livez", "/readyz"] {
        let answer = ask("GET", probe, &[]).await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, "ok\n"), "{probe} needs no token");
    }
    is_problem(&ask("GET", "/api/v1/nothing", &[auth]).await, 404, "not_found");
    is_problem(&ask("DELETE", "/api/v1/peers", &[auth]).await, 405, "method_not_allowed");
    // What partners present opens nothing here.
    let partner = Partner::new("globex").bearer();
    is_problem(&ask("GET", "/api/v1/peers", &[("Authorization", &partner)]).await, 401, "wrong_token");
}

#[tokio::test]
async fn a_peer_that_is_added_while_it_runs_is_there_after_a_restart() {
    let (_, mut daemon) = scene().await;
    let late = Partner::new("late");
    // Makes the files; the block itself is not written anywhere.
    late.block(daemon.dir(), "");
    let definition = json!({
        "issuer": late.issuer, "jwks_file": "late.jwks.json", "transport": "none", "accept_token_file": "from-late.token",
    });
    let addition = json!({"name": "late", "definition": definition});
    let add = async |daemon: &Daemon, addition: &Value| daemon.admin("POST", "/api/v1/peers", Some(addition)).await;
    assert_eq!(late.post(&daemon, b"{}").await.status(), 401);
    for (wrong, code) in [
        (json!({"name": "late", "definition": {"issuer": late.issuer, "transport": "none"}}), "invalid_peer"),
        (json!({"name": "No Slug", "definition": definition}), "invalid_peer"),
        (json!({"name": "late", "definition": {"isuer": "x"}}), "invalid_peer"),
        (json!({"name": "late"}), "invalid_request"),
    ] {
        is_problem(&add(&daemon, &wrong).await, 400, code);
    }
    assert_eq!(late.post(&daemon, b"{}").await.status(), 401, "nothing of a refused addition is left");
    let mut taken = addition.clone();
    taken["name"] = json!("globex");
    is_problem(&add(&daemon, &taken).await, 409, "conflict");
    taken = addition.clone();
    taken["definition"]["accept_token_file"] = json!("from-globex.token");
    is_problem(&add(&daemon, &taken).await, 409, "conflict");
    assert_eq!(add(&daemon, &addition).await.status(), 201);
    is_problem(&add(&daemon, &addition).await, 409, "conflict");
    receive(&late, &daemon, &["one"]).await;
    daemon.send("late", "ours").await;
    daemon.kill().await;
    daemon.restart().await;
    late.fetch(&daemon, "ours").await;
    receive(&late, &daemon, &["two"]).await;
    let names: Vec<Value> = daemon.get("/api/v1/peers").await["peers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|peer| peer["name"].clone())
        .collect();
    assert_eq!(names, ["globex", "late"]);
    assert_eq!(daemon.inbox().await.len(), 2);
}

#[tokio::test]
async fn two_daemons_on_one_database_are_refused() {
    let (partner, daemon) = scene().await;
    let (code, said) = daemon.rival().await;
    assert_eq!(code, Some(70), "{said}");
    assert!(said.contains("pushpull.db"), "it does not name the file: {said}");
    assert!(said.contains("error[database_unusable]") && said.contains("stop that process"), "{said}");
    receive(&partner, &daemon, &["still-works"]).await;
    assert_eq!(daemon.inbox().await.len(), 1);
}

#[tokio::test]
async fn nothing_is_accepted_while_the_daemon_stops() {
    let (partner, mut daemon) = scene().await;
    for number in 0..50 {
        daemon.send("globex", &format!("event-{number}")).await;
    }
    daemon.terminate();
    assert_eq!(daemon.ended().await.code(), Some(0));
    daemon.restart().await;
    // What was accepted before is still there, all of it.
    assert_eq!(daemon.totals("globex").await["queued"], 50);
    let got = until("all of it", async || {
        let answer = partner.exchange(&daemon, &json!({})).await;
        answer["sets"].as_object().map(serde_json::Map::len)
    })
    .await;
    assert_eq!(got, 50);
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_named_and_left_alone() {
    let (partner, mut daemon) = scene().await;
    receive(&partner, &daemon, &["before"]).await;
    daemon.terminate();
    daemon.ended().await;
    let path = daemon.dir().join("pushpull.db");
    let version = |change: &str| {
        let file = rusqlite::Connection::open(&path).unwrap();
        assert_eq!(file.execute(change, []).unwrap(), 1);
    };
    version("UPDATE schema SET version = version + 1000");
    let before = std::fs::read(&path).unwrap();
    // The rival of a daemon that has ended is one more start.
    let (code, said) = daemon.rival().await;
    assert_eq!(code, Some(70), "{said}");
    assert!(said.contains("error[database_unusable]") && said.contains("pushpull.db"), "{said}");
    assert!(said.contains("run the program that wrote it"), "{said}");
    assert!(!said.contains("disk"), "the disk is not at fault: {said}");
    assert!(std::fs::read(&path).unwrap() == before, "it was changed");
    version("UPDATE schema SET version = version - 1000");
    daemon.restart().await;
    assert_eq!(daemon.inbox().await.len(), 1);
}

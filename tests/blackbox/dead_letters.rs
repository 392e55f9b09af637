//! Dead letters from the partner's refusal or silence to their end, over both bindings and through crashes.

use serde_json::{Value, json};

use crate::common::daemon::{Daemon, Plan};
use crate::common::http::Message;
use crate::common::link::Link;
use crate::common::partner::Partner;
use crate::common::until;

/// SETs are given up soon.
pub(crate) const IMPATIENT: &str =
    "[delivery]\nretry_first = \"50ms\"\nretry_max = \"100ms\"\nattempts_max = 2\ngive_up_after = \"300ms\"\n";

/// Nothing is sent twice while a test runs.
pub(crate) const PATIENT: &str = "[delivery]\nretry_first = \"2m\"\n";

fn claims_of(token: &str) -> Value {
    part(token, 1)
}

fn part(token: &str, number: usize) -> Value {
    use base64::Engine as _;
    let text = token.split('.').nth(number).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[track_caller]
fn is_problem(answer: &Message, status: u16, code: &str) -> Value {
    assert_eq!(answer.status(), status, "{}", answer.text());
    let problem = answer.json();
    assert_eq!(problem["code"], code, "{problem}");
    problem
}

async fn act(daemon: &Daemon, jti: &str, verb: &str) -> Message {
    daemon.admin("POST", &format!("/api/v1/dead-letters/{jti}/{verb}"), None).await
}

async fn done(daemon: &Daemon, jti: &str, verb: &str) -> Value {
    let answer = act(daemon, jti, verb).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.json()
}

async fn dead_letters(daemon: &Daemon, query: &str) -> Vec<Value> {
    daemon.get(&format!("/api/v1/dead-letters{query}")).await["dead_letters"].as_array().unwrap().clone()
}

/// The partner fetches these, which come in one go.
pub(crate) async fn fetch_all(link: &mut Link<'_>, jtis: &[String]) {
    link.fetch(jtis.last().unwrap()).await;
}

/// The partner refuses these; an honest SET goes along, so that there is an answer.
pub(crate) async fn refuse(
    daemon: &Daemon,
    partner: &Partner,
    link: &mut Link<'_>,
    jtis: &[String],
    err: &str,
    number: u32,
) {
    let errors: serde_json::Map<String, Value> =
        jtis.iter().map(|jti| (jti.clone(), json!({"err": err, "description": "we do not know that key"}))).collect();
    let own = format!("theirs-{number}");
    link.say(&json!({"sets": {&own: partner.set(&own)}, "setErrs": errors})).await;
    for jti in jtis {
        daemon.settled(&partner.name, jti, "refused").await;
    }
}

/// The partner fetches this and says nothing until it is given up; its token.
pub(crate) async fn give_up(daemon: &Daemon, partner: &Partner, jti: &str) -> String {
    let token = partner.fetch(daemon, jti).await;
    until("it is given up", async || {
        partner.exchange(daemon, &json!({})).await;
        (daemon.state("out", &partner.name, jti).await.as_deref() == Some("dead")).then_some(())
    })
    .await;
    token
}

async fn a_refused_set_is_reissued_and_acked(daemon: &Daemon, partner: &Partner, mut link: Link<'_>) {
    daemon.send("globex", "first").await;
    let token = link.fetch("first").await;
    refuse(daemon, partner, &mut link, &["first".to_owned()], "invalid_key", 1).await;

    let listed = dead_letters(daemon, "?peer=globex&reason=invalid_key").await;
    assert_eq!(listed.len(), 1);
    let letter = &listed[0];
    assert_eq!(
        (&letter["jti"], &letter["reason"], &letter["err"]),
        (&json!("first"), &json!("invalid_key"), &json!("invalid_key"))
    );
    assert_eq!((&letter["can_resend"], &letter["can_reissue"]), (&json!(false), &json!(true)));
    assert_eq!(letter["types"], json!(["caep:session-revoked"]));
    assert_eq!((&letter["who_acts"], &letter["command"]), (&json!("you"), &json!("pushpull dlq reissue first")));
    assert!(!letter.to_string().contains("subject of"), "a list tells whom it is about: {letter}");
    assert!(dead_letters(daemon, "?reason=too_old").await.is_empty());
    let groups = daemon.get("/api/v1/dead-letters?by=reason").await["groups"].clone();
    assert_eq!((&groups[0]["count"], &groups[0]["example"]), (&json!(1), &json!("first")), "{groups}");
    assert_eq!(groups[0]["command"], "pushpull dlq reissue --peer globex --reason=invalid_key");
    let whole = daemon.get("/api/v1/dead-letters/first").await;
    assert_eq!((&whole["set"], &whole["claims"]), (&json!(token), &claims_of(&token)));
    assert_eq!(daemon.get("/api/v1/peers/globex").await["dead_letters"], 1);

    let problem = is_problem(&act(daemon, "first", "resend").await, 409, "resend_refused");
    assert_eq!(problem["fix"], "`pushpull dlq reissue first` says the same in a new SET.");

    let new = done(daemon, "first", "reissue").await["reissued_as"].as_str().unwrap().to_owned();
    assert_eq!(done(daemon, "first", "reissue").await["reissued_as"], *new, "asked again, it is the same one");
    let (old, again) = (claims_of(&token), claims_of(&link.fetch(&new).await));
    assert_eq!(again["jti"], *new);
    assert!(again["iat"].as_i64() >= old["iat"].as_i64());
    for same in ["iss", "aud", "txn", "events", "sub_id"] {
        assert_eq!(again[same], old[same], "{same}");
    }
    link.say(&json!({"ack": [new], "sets": {"theirs-2": partner.set("theirs-2")}})).await;
    daemon.settled("globex", &new, "acked").await;

    assert!(dead_letters(daemon, "").await.is_empty());
    let totals = daemon.totals("globex").await;
    assert_eq!(
        (&totals["refused"], &totals["acked"], &totals["queued"]),
        (&json!(1), &json!(1), &json!(0)),
        "{totals}"
    );
    let [old, new_record] =
        [daemon.record("out", "globex", "first").await.unwrap(), daemon.record("out", "globex", &new).await.unwrap()];
    assert_eq!((&old["state"], &old["reissued_as"]), (&json!("refused"), &json!(new)));
    assert_eq!((&new_record["state"], &new_record["reissue_of"]), (&json!("acked"), &json!("first")));
    let told: Vec<&str> = old["timeline"].as_array().unwrap().iter().map(|m| m["what"].as_str().unwrap()).collect();
    assert_eq!(told, ["accepted", "refused", "reissued"]);
    assert!(old.get("command").is_none(), "nobody has to act any more: {old}");
    is_problem(&act(daemon, "first", "discard").await, 409, "not_a_dead_letter");
    is_problem(&act(daemon, "nothing", "resend").await, 404, "no_such_event");
    let log = daemon.log().join("\n");
    assert!(!log.contains("subject of"), "the log tells whom it is about");
}

#[tokio::test]
async fn a_refused_set_is_reissued_and_acked_over_http() {
    let partner = Partner::new("globex");
    let daemon = Plan::new(false).with(PATIENT).with_peer(&partner, "").start().await;
    a_refused_set_is_reissued_and_acked(&daemon, &partner, Link::http(&daemon, &partner)).await;
}

#[tokio::test]
async fn a_refused_set_is_reissued_and_acked_over_websocket() {
    let partner = Partner::new("globex");
    let daemon = Plan::new(false).with(PATIENT).with_peer(&partner, "").start().await;
    let link = Link::websocket(&daemon, &partner).await;
    a_refused_set_is_reissued_and_acked(&daemon, &partner, link).await;
}

#[tokio::test]
async fn what_was_never_answered_is_resent_with_the_same_bytes_and_acked_once() {
    let partner = Partner::new("globex");
    let mut daemon = Plan::new(false).with(IMPATIENT).with_peer(&partner, "").start().await;
    daemon.send("globex", "first").await;
    let token = give_up(&daemon, &partner, "first").await;
    let letter = &dead_letters(&daemon, "").await[0];
    assert_eq!((&letter["reason"], &letter["can_resend"]), (&json!("attempts_exhausted"), &json!(true)));
    assert!(letter["attempts"].as_u64() >= Some(2), "{letter}");
    // A late answer is not taken for the end of it.
    partner.exchange(&daemon, &json!({"ack": ["first"]})).await;
    assert_eq!(daemon.state("out", "globex", "first").await.as_deref(), Some("dead"));
    daemon.kill().await;
    daemon.restart().await;
    assert_eq!(done(&daemon, "first", "resend").await["done"], "resent");
    assert!(dead_letters(&daemon, "").await.is_empty());
    is_problem(&act(&daemon, "first", "resend").await, 409, "not_a_dead_letter");
    assert_eq!(partner.fetch(&daemon, "first").await, token, "every transmission has the same bytes");
    partner.exchange(&daemon, &json!({"ack": ["first"]})).await;
    daemon.settled("globex", "first", "acked").await;
    let record = daemon.record("out", "globex", "first").await.unwrap();
    let told: Vec<&str> = record["timeline"].as_array().unwrap().iter().map(|m| m["what"].as_str().unwrap()).collect();
    assert_eq!(told, ["accepted", "dead", "resent", "acked"], "both series are told");
    let totals = daemon.totals("globex").await;
    assert_eq!((&totals["acked"], &totals["dead"], &totals["queued"]), (&json!(1), &json!(1), &json!(0)), "{totals}");
    let answer = partner.exchange(&daemon, &json!({})).await;
    assert!(answer["sets"].get("first").is_none(), "it has ended: {answer}");
}

#[tokio::test]
async fn somebody_elses_set_can_be_resent_and_signed_anew_by_nobody_here() {
    let (partner, author) = (Partner::new("globex"), Partner::new("author"));
    let daemon = Plan::new(false).with(IMPATIENT).with_peer(&partner, "").start().await;
    let relay = async |jti: &str| {
        let token = author.set(jti);
        let answer = daemon.admin("POST", "/api/v1/events", Some(&json!({"peer": "globex", "set": token}))).await;
        assert_eq!(answer.status(), 202, "{}", answer.text());
        token
    };
    let token = relay("silent").await;
    give_up(&daemon, &partner, "silent").await;
    let problem = is_problem(&act(&daemon, "silent", "reissue").await, 409, "foreign_issuer");
    assert!(problem["detail"].as_str().unwrap().contains("https://author.example"), "{problem}");
    done(&daemon, "silent", "resend").await;
    assert_eq!(partner.fetch(&daemon, "silent").await, token);
    partner.exchange(&daemon, &json!({"ack": ["silent"]})).await;
    daemon.settled("globex", "silent", "acked").await;

    relay("refused").await;
    partner.fetch(&daemon, "refused").await;
    partner.exchange(&daemon, &json!({"setErrs": {"refused": {"err": "invalid_issuer", "description": "who?"}}})).await;
    daemon.settled("globex", "refused", "refused").await;
    is_problem(&act(&daemon, "refused", "resend").await, 409, "resend_refused");
    is_problem(&act(&daemon, "refused", "reissue").await, 409, "foreign_issuer");
    assert_eq!(daemon.record("out", "globex", "refused").await.unwrap()["command"], "pushpull dlq discard refused");
    assert_eq!(done(&daemon, "refused", "discard").await["done"], "discarded");
    assert!(dead_letters(&daemon, "").await.is_empty());
    let record = daemon.record("out", "globex", "refused").await.unwrap();
    assert_eq!(record["state"], "refused", "its end stays as it was");
    assert!(record["discarded_at"].is_string(), "{record}");
    is_problem(&act(&daemon, "refused", "discard").await, 409, "not_a_dead_letter");
}

#[tokio::test]
async fn a_crash_around_a_reissue_leaves_exactly_one_new_set() {
    let partner = Partner::new("globex");
    let mut daemon = Plan::new(false).with(PATIENT).with_peer(&partner, "").start().await;
    let jtis: Vec<String> = (0..4).map(|number| format!("first-{number}")).collect();
    daemon.send_all("globex", &jtis).await;
    let mut link = Link::http(&daemon, &partner);
    fetch_all(&mut link, &jtis).await;
    refuse(&daemon, &partner, &mut link, &jtis, "invalid_key", 1).await;
    drop(link);
    for (number, jti) in jtis.iter().enumerate() {
        let told = if number == 0 {
            // Right after the answer.
            Some(done(&daemon, jti, "reissue").await["reissued_as"].clone())
        } else {
            // Somewhere on the way: the answer may not come.
            let mut wire = daemon.connect_admin().await;
            let bearer = format!("Bearer {}", daemon.admin_token());
            let path = format!("/api/v1/dead-letters/{jti}/reissue");
            let headers = [("Authorization", bearer.as_str())];
            let asked = wire.ask("POST", &path, &headers, b"");
            let _ = tokio::time::timeout(std::time::Duration::from_millis(2 * number as u64), asked).await;
            None
        };
        daemon.kill().await;
        daemon.restart().await;
        let new = done(&daemon, jti, "reissue").await["reissued_as"].clone();
        assert!(told.is_none_or(|told| told == new), "what was answered is kept");
        assert_eq!(done(&daemon, jti, "reissue").await["reissued_as"], new);
        let totals = daemon.totals("globex").await;
        assert_eq!(totals["queued"], json!(number + 1), "one new SET for each: {totals}");
        assert_eq!(daemon.get("/api/v1/peers/globex").await["dead_letters"], json!(jtis.len() - number - 1));
    }
}

#[tokio::test]
async fn a_jti_that_is_dead_with_two_peers_wants_the_peer_named() {
    let (a, b) = (Partner::new("a"), Partner::new("b"));
    let daemon = Plan::new(false).with(PATIENT).with_peer(&a, "").with_peer(&b, "").start().await;
    for partner in [&a, &b] {
        daemon.send(&partner.name, "both").await;
        let jtis = ["both".to_owned()];
        partner.fetch(&daemon, "both").await;
        refuse(&daemon, partner, &mut Link::http(&daemon, partner), &jtis, "invalid_audience", 1).await;
    }
    let problem = is_problem(&act(&daemon, "both", "reissue").await, 409, "several_peers");
    assert!(problem["detail"].as_str().unwrap().contains("a, b"), "{problem}");
    let answer = daemon.admin("POST", "/api/v1/dead-letters/both/reissue", Some(&json!({"peer": "b"}))).await;
    assert_eq!((answer.status(), &answer.json()["peer"]), (200, &json!("b")));
    assert_eq!(done(&daemon, "both", "discard?peer=a").await["peer"], "a");
    is_problem(&act(&daemon, "both", "discard?peer=nobody").await, 404, "no_such_peer");
    assert!(dead_letters(&daemon, "").await.is_empty());
}

#[tokio::test]
async fn many_are_dealt_with_in_portions_and_each_but_once() {
    let partner = Partner::new("globex");
    let daemon = Plan::new(false).with(PATIENT).with_peer(&partner, "").start().await;
    let jtis: Vec<String> = (0..25).map(|number| format!("e-{number:02}")).collect();
    daemon.send_all("globex", &jtis).await;
    let mut link = Link::http(&daemon, &partner);
    fetch_all(&mut link, &jtis).await;
    refuse(&daemon, &partner, &mut link, &jtis[..20], "invalid_audience", 1).await;
    refuse(&daemon, &partner, &mut link, &jtis[20..], "invalid_request", 2).await;
    let bulk = async |verb: &str, body: Value| {
        let answer = daemon.admin("POST", &format!("/api/v1/dead-letters/{verb}"), Some(&body)).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer.json()
    };
    is_problem(&daemon.admin("POST", "/api/v1/dead-letters/discard", Some(&json!({}))).await, 400, "invalid_request");
    is_problem(&daemon.admin("POST", "/api/v1/dead-letters/burn", Some(&json!({"all": true}))).await, 404, "not_found");
    let tried = bulk("reissue", json!({"peer": "globex", "reason": "invalid_audience", "dry_run": true})).await;
    assert_eq!((&tried["count"], &tried["dry_run"], &tried["next"]), (&json!(20), &json!(true), &Value::Null));
    assert_eq!(dead_letters(&daemon, "?max=3").await.len(), 3);
    assert_eq!(dead_letters(&daemon, "").await.len(), 25, "a dry run changes nothing");
    let refused = bulk("resend", json!({"reason": "invalid_audience"})).await;
    assert_eq!((&refused["count"], &refused["failed"][0]["code"]), (&json!(0), &json!("resend_refused")));
    // The partner refuses the new ones at once, and those are not taken in again by the next portion.
    let mut body = json!({"peer": "globex", "reason": "invalid_audience", "max": 12});
    let (mut new, mut rounds) = (Vec::new(), 0);
    loop {
        let answer = bulk("reissue", body.clone()).await;
        rounds += 1;
        let some: Vec<String> = answer["dead_letters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|letter| letter["reissued_as"].as_str().unwrap().to_owned())
            .collect();
        fetch_all(&mut link, &some).await;
        refuse(&daemon, &partner, &mut link, &some, "invalid_audience", 10 + rounds).await;
        new.extend(some);
        let Some(next) = answer["next"].as_str() else { break };
        body["after"] = next.into();
    }
    assert_eq!((new.len(), rounds), (20, 2));
    assert_eq!(bulk("discard", json!({"all": true})).await["count"], 25);
    let totals = daemon.totals("globex").await;
    assert_eq!((&totals["refused"], &totals["queued"]), (&json!(45), &json!(0)));
    assert!(dead_letters(&daemon, "").await.is_empty());
}

#[tokio::test]
async fn pages_of_dead_letters_cover_every_one_once() {
    let partner = Partner::new("globex");
    let daemon = Plan::new(false).with(PATIENT).with_peer(&partner, "").start().await;
    let jtis: Vec<String> = (0..11).map(|number| format!("e-{number:02}")).collect();
    daemon.send_all("globex", &jtis).await;
    let mut link = Link::http(&daemon, &partner);
    fetch_all(&mut link, &jtis).await;
    refuse(&daemon, &partner, &mut link, &jtis, "invalid_audience", 1).await;
    let (mut met, mut after) = (Vec::new(), String::new());
    loop {
        let page = daemon.get(&format!("/api/v1/dead-letters?max=4{after}")).await;
        met.extend(
            page["dead_letters"].as_array().unwrap().iter().map(|letter| letter["jti"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    met.sort();
    assert_eq!(met, jtis);
    for wrong in ["?after=x", "?max=x", "?max=0", "?by=peer", "?nonsense=1"] {
        let answer = daemon.admin("GET", &format!("/api/v1/dead-letters{wrong}"), None).await;
        is_problem(&answer, 400, "invalid_request");
    }
    is_problem(&daemon.admin("GET", "/api/v1/dead-letters?peer=nobody", None).await, 404, "no_such_peer");
}

#[tokio::test]
async fn what_a_withdrawn_key_has_signed_is_not_resent_but_can_be_reissued() {
    let partner = Partner::new("globex");
    let daemon = Plan::new(false).with(IMPATIENT).with_peer(&partner, "").start().await;
    daemon.send("globex", "first").await;
    let token = give_up(&daemon, &partner, "first").await;
    let rotated = daemon.admin("POST", "/api/v1/keys/rotate", Some(&json!({"kid": "second", "now": true}))).await;
    assert_eq!(rotated.status(), 202, "{}", rotated.text());
    let retired = daemon.admin("POST", "/api/v1/keys/us-1/retire", Some(&json!({"now": true}))).await;
    assert_eq!(retired.status() / 100, 2, "{}", retired.text());
    let letter = &dead_letters(&daemon, "").await[0];
    assert_eq!((&letter["can_resend"], &letter["command"]), (&json!(false), &json!("pushpull dlq reissue first")));
    let problem = is_problem(&act(&daemon, "first", "resend").await, 409, "key_not_published");
    assert!(problem["fix"].as_str().unwrap().contains("pushpull dlq reissue first"), "{problem}");
    let new = done(&daemon, "first", "reissue").await["reissued_as"].as_str().unwrap().to_owned();
    let again = partner.fetch(&daemon, &new).await;
    assert_eq!(part(&again, 0)["kid"], "second");
    assert_eq!(claims_of(&again)["txn"], claims_of(&token)["txn"]);
}

#[tokio::test]
async fn many_at_once_tell_of_those_whose_rows_are_damaged() {
    let partner = Partner::new("globex");
    let mut daemon = Plan::new(false).with(IMPATIENT).with_peer(&partner, "").start().await;
    for jti in ["first", "second"] {
        daemon.send("globex", jti).await;
        give_up(&daemon, &partner, jti).await;
    }
    daemon.terminate();
    daemon.ended().await;
    let file = rusqlite::Connection::open(daemon.dir().join("pushpull.db")).unwrap();
    let changed = "UPDATE dead_letter SET row = x'00' WHERE key = (SELECT min(key) FROM dead_letter)";
    assert_eq!(file.execute(changed, []).unwrap(), 1);
    drop(file);
    daemon.restart().await;
    let answer = daemon.admin("POST", "/api/v1/dead-letters/discard", Some(&json!({"all": true}))).await.json();
    assert_eq!((&answer["count"], &answer["damaged"]), (&json!(1), &json!(1)), "{answer}");
    assert_eq!(answer["dead_letters"][0]["jti"], "second");
    // By its name it can be taken out.
    done(&daemon, "first", "discard").await;
    assert_eq!(daemon.get("/api/v1/peers/globex").await["dead_letters"], 0);
}

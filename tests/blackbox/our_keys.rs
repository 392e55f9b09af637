//! Our own keys change while SETs wait and travel: every unsettled SET can be verified with what we publish at that
//! moment, through rotations, crashes and a partner that is away.

use std::collections::BTreeMap;
use std::time::Duration;

use pushpull::clock::{Clock as _, SystemClock};
use pushpull::set::{self, KeySet, Policy, Profile, events::Filter};
use serde_json::{Value, json};

use crate::common::daemon::{Daemon, ISSUER, Plan, program};
use crate::common::http::Message;
use crate::common::partner::Partner;
use crate::common::{soon, until};

/// A daemon and a partner that comes to it, or does not.
async fn scene_with(publish_wait: &str) -> (Partner, Daemon) {
    let partner = Partner::new("globex");
    let config =
        format!("[keys]\npublish_wait = \"{publish_wait}\"\n[delivery]\nretry_first = \"200ms\"\nretry_max = \"1s\"");
    let daemon = Plan::new(false).with(&config).with_peer(&partner, "").start().await;
    (partner, daemon)
}

async fn scene() -> (Partner, Daemon) {
    scene_with("600ms").await
}

/// What partners see of our keys.
async fn jwks(daemon: &Daemon) -> Value {
    let mut wire = daemon.connect().await;
    soon("our keys", wire.ask("GET", "/jwks.json", &[], b"")).await.unwrap().expect("an answer").json()
}

fn kids(jwks: &Value) -> Vec<String> {
    jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

async fn published(daemon: &Daemon) -> Vec<String> {
    kids(&jwks(daemon).await)
}

async fn rotate(daemon: &Daemon, order: &Value) -> Value {
    let answer = daemon.admin("POST", "/api/v1/keys/rotate", Some(order)).await;
    assert_eq!(answer.status(), 202, "{}", answer.text());
    answer.json()
}

async fn retire(daemon: &Daemon, kid: &str, now: bool) -> Message {
    daemon.admin("POST", &format!("/api/v1/keys/{kid}/retire"), Some(&json!({"now": now}))).await
}

/// `kid state` of each key.
async fn states(daemon: &Daemon) -> Vec<String> {
    let keys = daemon.get("/api/v1/keys").await["keys"].as_array().unwrap().clone();
    let text = |key: &Value| format!("{} {}", key["kid"].as_str().unwrap(), key["state"].as_str().unwrap());
    keys.iter().map(text).collect()
}

fn kid_of(compact: &str) -> String {
    set::decode(compact).unwrap().0["kid"].as_str().unwrap().to_owned()
}

/// What a partner with these keys says of a SET of ours.
fn verifies(compact: &str, keys: &Value, partner: &Partner) -> bool {
    let policy = Policy {
        issuer: ISSUER.to_owned(),
        audience: partner.issuer.clone(),
        accept: Filter::all(),
        jti_bytes_max: 512,
        set_bytes_max: 1 << 20,
        profile: Profile::Ssf,
    };
    let keys = KeySet::parse(keys.to_string().as_bytes()).unwrap();
    set::verify(&compact.into(), None, &policy, &keys, SystemClock::new().now()).is_ok()
}

fn jtis(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{name}-{number}")).collect()
}

#[tokio::test]
async fn a_rotation_publishes_first_signs_later_and_keeps_the_old_key_as_long_as_it_is_needed() {
    let (globex, daemon) = scene_with("2s").await;
    daemon.send("globex", "before").await;
    let before = globex.fetch(&daemon, "before").await;
    assert_eq!(kid_of(&before), "us-1");
    let rotated = rotate(&daemon, &json!({})).await;
    assert_eq!(
        (&rotated["kid"], &rotated["state"], &rotated["from"]),
        (&json!("us-2"), &json!("next"), &json!("us-1"))
    );
    assert_eq!(published(&daemon).await, ["us-1", "us-2"], "at once");
    daemon.send("globex", "meanwhile").await;
    assert_eq!(kid_of(&globex.fetch(&daemon, "meanwhile").await), "us-1", "not known to partners yet");
    until("the new key to sign", async || states(&daemon).await.contains(&"us-2 active".to_owned()).then_some(()))
        .await;
    daemon.send("globex", "after").await;
    let after = globex.fetch(&daemon, "after").await;
    assert_eq!(kid_of(&after), "us-2");
    let keys = jwks(&daemon).await;
    assert!(verifies(&before, &keys, &globex) && verifies(&after, &keys, &globex));
    globex.exchange(&daemon, &json!({"ack": ["meanwhile", "after"]})).await;
    // "before" is still unsettled, however long it takes: far longer than the wait here.
    let refused = retire(&daemon, "us-1", false).await;
    assert_eq!((refused.status(), &refused.json()["code"]), (409, &json!("key_in_use")));
    assert!(refused.text().contains("1 peer still has some: globex"), "{}", refused.text());
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(published(&daemon).await, ["us-1", "us-2"]);
    assert!(daemon.dir().join("keys/us-1.pem").exists());
    globex.exchange(&daemon, &json!({"ack": ["before"]})).await;
    until("the old key to go", async || (published(&daemon).await == ["us-2"]).then_some(())).await;
    assert_eq!(states(&daemon).await, ["us-2 active", "us-1 retired"]);
    assert!(!daemon.dir().join("keys/us-1.pem").exists(), "nobody needs its secret any more");
}

/// Invariant I19, attacked: SETs wait for a partner that is down while keys rotate and the daemon is killed; whatever it
/// is given when it comes back, our keys of that moment verify it.
#[tokio::test]
async fn what_waits_for_a_partner_that_is_away_can_be_verified_when_it_comes_back() {
    let (globex, mut daemon) = scene().await;
    let mut all = Vec::new();
    for round in 1..=4 {
        let named = jtis(&format!("round-{round}"), 5);
        daemon.send_all("globex", &named).await;
        all.extend(named);
        let now = round != 2;
        rotate(&daemon, &json!({"now": now})).await;
        // At once after the answer, or in the middle of the wait.
        if round == 3 {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        daemon.kill().await;
        daemon.restart().await;
        if !now {
            until("the rotation to go on", async || {
                states(&daemon).await.contains(&"us-3 active".to_owned()).then_some(())
            })
            .await;
        }
    }
    daemon.send("globex", "last").await;
    all.push("last".to_owned());
    // Every cache time has passed several times; none of it may count while SETs wait.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(published(&daemon).await, ["us-1", "us-2", "us-3", "us-4", "us-5"]);
    let given = everything(&globex, &daemon, &all).await;
    let keys = jwks(&daemon).await;
    let mut signers = Vec::new();
    for jti in &all {
        assert!(verifies(&given[jti], &keys, &globex), "{jti}, signed with {}", kid_of(&given[jti]));
        signers.push(kid_of(&given[jti]));
    }
    signers.dedup();
    assert_eq!(signers, ["us-1", "us-2", "us-3", "us-4", "us-5"], "each round was signed with the key of its time");
    globex.exchange(&daemon, &json!({"ack": all})).await;
    until("the old keys to go", async || (published(&daemon).await == ["us-5"]).then_some(())).await;
    assert_eq!(daemon.totals("globex").await["acked"], all.len());
}

#[tokio::test]
async fn a_kill_at_any_moment_of_a_rotation_leaves_one_key_that_signs_and_every_set_verifiable() {
    let (globex, mut daemon) = scene().await;
    let mut all = Vec::new();
    for round in 0..14 {
        all.push(daemon.send("globex", &format!("round-{round}")).await);
        let order = json!({"now": round % 3 != 2});
        let ordered = daemon.admin("POST", "/api/v1/keys/rotate", Some(&order));
        let _ = tokio::time::timeout(Duration::from_millis(round * 3), ordered).await;
        daemon.kill().await;
        daemon.restart().await;
        let (states, published) = (states(&daemon).await, published(&daemon).await);
        let active: Vec<_> = states.iter().filter_map(|state| state.strip_suffix(" active")).collect();
        assert!(active.len() == 1 && published.contains(&active[0].to_owned()), "{states:?} {published:?}");
    }
    let given = everything(&globex, &daemon, &all).await;
    let keys = jwks(&daemon).await;
    for (jti, compact) in &given {
        assert!(verifies(compact, &keys, &globex), "{jti}, signed with {}", kid_of(compact));
    }
    assert!(keys["keys"].as_array().unwrap().len() > 3, "some of the rotations took place: {keys}");
    globex.exchange(&daemon, &json!({"ack": all})).await;
    until("all but what is to come to go", async || {
        states(&daemon).await.iter().all(|state| !state.ends_with(" retiring")).then_some(())
    })
    .await;
}

/// All that waits for this partner, by jti.
async fn everything(partner: &Partner, daemon: &Daemon, jtis: &[String]) -> BTreeMap<String, String> {
    let giving = async {
        let mut given = BTreeMap::new();
        while given.len() < jtis.len() {
            let object = partner.exchange(daemon, &json!({})).await;
            for (jti, compact) in object["sets"].as_object().into_iter().flatten() {
                given.insert(jti.clone(), compact.as_str().unwrap().to_owned());
            }
        }
        given
    };
    soon("everything that waited", giving).await
}

#[tokio::test]
async fn a_stolen_key_can_be_taken_out_at_once_with_what_that_costs() {
    let (globex, daemon) = scene().await;
    daemon.send("globex", "signed with it").await;
    assert_eq!(retire(&daemon, "us-1", true).await.json()["code"], "key_signs");
    let rotated = rotate(&daemon, &json!({"now": true, "alg": "EdDSA", "kid": "fresh"})).await;
    assert_eq!((&rotated["state"], &rotated["alg"]), (&json!("active"), &json!("EdDSA")));
    daemon.send("globex", "signed anew").await;
    let gone = retire(&daemon, "us-1", true).await;
    assert_eq!((gone.status(), &gone.json()["state"]), (200, &json!("retired")));
    let keys = jwks(&daemon).await;
    assert_eq!(kids(&keys), ["fresh"]);
    assert!(!verifies(&globex.fetch(&daemon, "signed with it").await, &keys, &globex), "as was said");
    assert!(verifies(&globex.fetch(&daemon, "signed anew").await, &keys, &globex));
    assert!(!daemon.dir().join("keys/us-1.pem").exists());
    let log = daemon.log().join("\n");
    assert!(log.contains("key_withdrawn") && log.contains("key_not_fetched_yet"), "both are worth a warning");
}

#[tokio::test]
async fn orders_that_make_no_sense_are_refused_with_their_codes() {
    let (_, daemon) = scene_with("20m").await;
    let post = async |path: &str, order: Value| {
        let answer = daemon.admin("POST", path, Some(&order)).await;
        (answer.status(), answer.json()["code"].as_str().unwrap_or_default().to_owned())
    };
    let rotate_path = "/api/v1/keys/rotate";
    let invalid = (400, "invalid_request".to_owned());
    assert_eq!(post(rotate_path, json!({"now": "yes"})).await, invalid);
    assert_eq!(post(rotate_path, json!({"alg": "HS256"})).await, invalid);
    assert_eq!(post(rotate_path, json!({"kid": "../x"})).await, invalid);
    assert_eq!(post(rotate_path, json!({"when": "now"})).await, invalid);
    assert_eq!(post("/api/v1/keys/nobody/retire", json!({})).await, (404, "no_such_key".to_owned()));
    assert_eq!(post(rotate_path, json!({"kid": "us-1"})).await, (409, "key_signs".to_owned()));
    assert_eq!(published(&daemon).await, ["us-1"], "none of it had an effect");
    // No body at all is fine.
    let answer = daemon.admin_raw("POST", rotate_path, &[], b"").await;
    assert_eq!(answer.status(), 202, "{}", answer.text());
    assert_eq!(post(rotate_path, json!({})).await, (409, "rotation_under_way".to_owned()));
    assert_eq!(post("/api/v1/keys/us-2/retire", json!({})).await.0, 200, "called off");
    assert_eq!(post(rotate_path, json!({"kid": "us-2"})).await, (409, "key_rotated_away".to_owned()));
    assert_eq!(published(&daemon).await, ["us-1"]);
}

#[tokio::test]
async fn the_commands_tell_where_each_key_stands_and_end_with_the_fixed_codes() {
    let (globex, mut daemon) = scene().await;
    let token = daemon.dir().join("admin.token").display().to_string();
    let admin = daemon.admin_address().to_string();
    let run = |arguments: &[&str], code: i32| {
        let mut all = arguments.to_vec();
        all.extend(["--admin", &admin, "--token-file", &token]);
        let output = program(&all);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {out}{err}");
        (out, err)
    };
    daemon.send("globex", "old").await;
    let (out, notes) = run(&["key", "rotate", "--now"], 0);
    assert!(
        out.contains("us-2") && notes.contains("careful") && notes.contains("key retire us-1 --now"),
        "{out}{notes}"
    );
    until("the queue to be looked at", async || {
        run(&["key", "ls"], 0).0.contains("SETs that it signed, at globex").then_some(())
    })
    .await;
    assert!(run(&["key", "retire", "us-2"], 7).1.contains("error[key_signs]"));
    let in_use = run(&["key", "retire", "us-1"], 7).1;
    assert!(in_use.contains("error[key_in_use]") && in_use.contains("globex") && in_use.contains("--now"), "{in_use}");
    assert!(run(&["key", "retire", "us-9"], 6).1.contains("error[no_such_key]"));
    // What `key new` makes, the running daemon takes when it is told to.
    let config = daemon.dir().join("pushpull.toml").display().to_string();
    let made = program(&["key", "new", "--kid", "mine", "-c", &config]);
    assert!(made.status.success() && String::from_utf8_lossy(&made.stderr).contains("key rotate --kid mine"));
    let (out, _) = run(&["key", "rotate", "--kid", "mine", "--json"], 0);
    let rotated: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&rotated["kid"], &rotated["state"]), (&json!("mine"), &json!("next")));
    published(&daemon).await;
    let listed: Value = serde_json::from_str(&run(&["key", "ls", "--json"], 0).0).unwrap();
    let mine = listed["keys"].as_array().unwrap().iter().find(|key| key["kid"] == "mine").unwrap().clone();
    assert!(mine["fetches"] == 1 && mine["fetched_at"].is_string() && mine["since"].is_string(), "{mine}");
    globex.fetch(&daemon, "old").await;
    globex.exchange(&daemon, &json!({"ack": ["old"]})).await;
    until("the old ones to go", async || (published(&daemon).await == ["mine"]).then_some(())).await;
    daemon.kill().await;
    assert!(run(&["key", "rotate"], 4).1.contains("a running daemon"));
    // The files alone say the same, and that nothing else is needed to start again.
    let offline = program(&["key", "ls", "--json", "-c", &config]);
    let listed: Value = serde_json::from_slice(&offline.stdout).unwrap();
    let states: Vec<_> = listed["keys"].as_array().unwrap().iter().map(|key| key["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["active", "retired", "retired"], "{listed}");
    assert!(program(&["serve", "--check", "-c", &config]).status.success());
}

/// Two daemons, each with its own organisation, which send to each other.
async fn pair(websocket: bool) -> [Daemon; 2] {
    const ISSUERS: [&str; 2] = ["https://a.example", "https://b.example"];
    let config = "[keys]\npublish_wait = \"1500ms\"\n[delivery]\nretry_first = \"300ms\"\nretry_max = \"1s\"\nspeak_interval = \"50ms\"";
    let daemons = [
        Plan::of(ISSUERS[0], false).with(config).start().await,
        Plan::of(ISSUERS[1], false).with(config).start().await,
    ];
    // The one that is dialled first.
    for (index, name) in [(1, "a"), (0, "b")] {
        let (own, other) = (&daemons[index], &daemons[1 - index]);
        let file = own.dir().join("shared.token");
        crate::common::daemon::write(&file, "a-token-that-both-know-0123456789");
        let (scheme, transport) = if websocket { ("ws", "websocket") } else { ("http", "http") };
        let mut definition = json!({
            "issuer": ISSUERS[1 - index],
            "jwks_uri": format!("http://{}/jwks.json", other.address()),
            "jwks_refresh": "1s",
            "transport": "none",
        });
        if index == 0 {
            definition["transport"] = json!(transport);
            definition["endpoint"] = json!(format!("{scheme}://{}/pushpull", other.address()));
            definition["token_file"] = json!(file);
        } else {
            definition["accept_token_file"] = json!(file);
        }
        let added = json!({"name": name, "definition": definition});
        let answer = own.admin("POST", "/api/v1/peers", Some(&added)).await;
        assert_eq!(answer.status(), 201, "{}", answer.text());
    }
    daemons
}

/// Sends batches until told to stop; how many SETs it were.
async fn load(daemon: &Daemon, peer: &str, stop: &tokio::sync::watch::Receiver<bool>) -> usize {
    let mut sent = 0;
    while !*stop.borrow() {
        let named: Vec<String> = (sent..sent + 10).map(|number| format!("{peer}-{number}")).collect();
        daemon.send_all(peer, &named).await;
        sent += named.len();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sent
}

async fn rotations_under_load(websocket: bool) {
    let daemons = pair(websocket).await;
    let [a, b] = &daemons;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let rotating = async {
        // Now, and with the wait; on both sides, also at the same time.
        for now in [true, false, true, false] {
            let orders = [json!({"now": now}), json!({"now": !now})];
            let (one, other) = tokio::join!(rotate(a, &orders[0]), rotate(b, &orders[1]));
            for (daemon, rotated) in [(a, one), (b, other)] {
                let active = format!("{} active", rotated["kid"].as_str().unwrap());
                until(&active, async || states(daemon).await.contains(&active).then_some(())).await;
            }
        }
        stop.send_replace(true);
    };
    let (to_b, to_a, ()) = tokio::join!(load(a, "b", &stopped), load(b, "a", &stopped), rotating);
    assert!(to_b > 50 && to_a > 50, "there was load: {to_b} and {to_a}");
    for (daemon, peer, sent, received) in [(a, "b", to_b, to_a), (b, "a", to_a, to_b)] {
        let totals = until("everything to be settled", async || {
            let totals = daemon.totals(peer).await;
            (totals["queued"] == 0 && totals["received"] == received).then_some(totals)
        })
        .await;
        assert_eq!((&totals["acked"], &totals["refused"], &totals["dead"]), (&json!(sent), &json!(0), &json!(0)));
        assert_eq!(totals["rejected"], 0);
        until("only the newest key to be left", async || (published(daemon).await.len() == 1).then_some(())).await;
        let states = states(daemon).await;
        assert!(states.len() == 5 && states[0].ends_with("-5 active"), "{states:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_rotations_under_load_in_both_directions_cost_no_set_over_websocket() {
    rotations_under_load(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_rotations_under_load_in_both_directions_cost_no_set_over_http() {
    rotations_under_load(false).await;
}

#[tokio::test]
async fn a_reload_publishes_a_new_key_file_and_follows_keys_active() {
    let (_, daemon) = scene().await;
    let file = daemon.dir().join("pushpull.toml");
    let made = program(&["key", "new", "--kid", "us-2", "-c", file.to_str().unwrap()]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert_eq!(published(&daemon).await, ["us-1"], "a file alone changes nothing");
    let (changes, restart) = daemon.reload().await;
    assert!(changes.iter().any(|change| change.contains("us-2")) && restart.is_empty(), "{changes:?} {restart:?}");
    assert_eq!(published(&daemon).await, ["us-1", "us-2"]);
    assert!(states(&daemon).await.contains(&"us-1 active".to_owned()));

    let text = std::fs::read_to_string(&file).unwrap().replace("[keys]\n", "[keys]\nactive = \"us-2\"\n");
    std::fs::write(&file, text).unwrap();
    let (changes, restart) = daemon.reload().await;
    assert!(!changes.is_empty() && restart.is_empty(), "{changes:?} {restart:?}");
    until("us-2 signs", async || states(&daemon).await.contains(&"us-2 active".to_owned()).then_some(())).await;
    let (changes, _) = daemon.reload().await;
    assert!(changes.is_empty(), "the same again changes nothing: {changes:?}");
}

/// A SET that is queued must not become unverifiable because somebody replaced a file.
#[tokio::test]
async fn another_key_under_the_same_name_is_refused_by_reload_and_start_and_what_is_queued_stays_verifiable() {
    let (globex, mut daemon) = scene().await;
    daemon.send("globex", "queued").await;
    let (before, file) = (jwks(&daemon).await, daemon.dir().join("keys/us-1.pem"));
    let good = std::fs::read_to_string(&file).unwrap();
    let (_, pem) = set::SigningKey::generate(set::Algorithm::Es256, "us-1").unwrap();
    std::fs::write(&file, pem.as_bytes()).unwrap();
    let answer = daemon.admin("POST", "/api/v1/reload", None).await;
    assert_eq!((answer.status(), &answer.json()["code"]), (422, &json!("reload_failed")), "{}", answer.text());
    let problems = answer.json()["problems"].to_string();
    for part in ["keys/us-1.pem", "us-1", "restore the file", "pushpull key rotate --kid NAME"] {
        assert!(problems.contains(part), "{part}: {problems}");
    }
    assert_eq!(jwks(&daemon).await, before);
    daemon.kill().await;
    let (code, text) = daemon.rival().await;
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("key_name_used") && text.contains("us-1.pem") && text.contains("restore the file"), "{text}");
    std::fs::write(&file, good).unwrap();
    daemon.restart().await;
    let queued = globex.fetch(&daemon, "queued").await;
    assert_eq!(jwks(&daemon).await, before);
    assert!(verifies(&queued, &before, &globex));
}

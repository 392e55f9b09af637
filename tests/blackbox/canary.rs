//! A whole day at `trace`: no content, subject, bearer or key material in logs, metrics, errors or status.

use std::process::Output;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::common::daemon::{Daemon, Plan, program};
use crate::common::faults::OBJECT_FAULTS;
use crate::common::partner::{Key, Partner, SESSION_REVOKED, encode, verdict};
use crate::common::responder::Responder;
use crate::common::socket::Socket;
use crate::common::until;

/// Stands in everything that must not be told. Its encoded form is looked for too.
const CANARY: &str = "canary-7f3a91";

/// Stands in issuers, audiences and event types: the partner that sent them is told them, and nobody else.
const ADDRESS: &str = "address-7f3a91";

/// Everything that people see without having asked for a payload.
#[derive(Default)]
struct Seen(Vec<(String, String)>);

impl Seen {
    fn note(&mut self, place: &str, text: impl Into<String>) {
        self.0.push((place.to_owned(), text.into()));
    }

    fn ran(&mut self, place: &str, output: &Output) {
        self.note(
            place,
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
        );
    }

    fn is_clean(&self, secrets: &[String]) {
        let mut leaks = Vec::new();
        for (place, text) in &self.0 {
            let address = (!place.starts_with("setErr")).then(|| ADDRESS.to_owned());
            for secret in secrets.iter().chain(&address) {
                for line in text.lines().filter(|line| line.contains(secret.as_str())) {
                    leaks.push(format!("{place}: {secret:?} in {line:.400}"));
                }
            }
        }
        assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
    }
}

/// One flat JSON object: time, level, message, and fields beside them.
fn is_shaped(line: &str) {
    let entry: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let members = entry.as_object().unwrap();
    for name in ["timestamp", "level", "message"] {
        assert!(members[name].is_string(), "{line}");
    }
    assert!(members.values().all(|value| !value.is_object() && !value.is_array()), "{line}");
    let grave = ["WARN", "ERROR"].contains(&members["level"].as_str().unwrap());
    assert!(!grave || members["code"].is_string(), "no code: {line}");
}

/// What every token with this text in it holds, wherever in it the text begins: the digits that no neighbour changes.
fn in_base64(text: &str) -> [String; 3] {
    [0, 1, 2].map(|shift| {
        let whole = encode(&[&b"xx"[..shift], text.as_bytes()].concat());
        whole[(shift * 8).div_ceil(6)..(shift + text.len()) * 8 / 6].to_owned()
    })
}

fn submission(peer: &str, jti: &str) -> Value {
    json!({
        "peer": peer, "jti": jti, "type": "caep:session-revoked", "txn": format!("txn-{CANARY}"),
        "sub_id": {"format": "email", "email": format!("{CANARY}@subject.example")},
        "event": {"event_timestamp": 1_700_000_000, "reason_admin": {"en": format!("because {CANARY}")}},
    })
}

fn with_canary(partner: &Partner, jti: &str) -> serde_json::Map<String, Value> {
    let mut claims = partner.claims(jti);
    claims.insert("sub_id".to_owned(), json!({"format": "opaque", "id": format!("{CANARY}-in")}));
    claims.insert("txn".to_owned(), json!(CANARY));
    claims.insert("extra".to_owned(), json!({"secret": CANARY}));
    claims.insert("events".to_owned(), json!({SESSION_REVOKED: {"reason_admin": {"en": CANARY}}}));
    claims
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_day_at_trace_tells_no_content_and_no_secret() {
    // Also with the dependencies named that are known to print whole messages below info: they write to `log`, which the
    // daemon does not collect. Whoever bridges the two has to look at what comes out here.
    let level = "trace,hyper=trace,hyper_util=trace,tungstenite=trace,tokio_tungstenite=trace,rustls=trace,mio=trace";
    let (secrets, seen, daemon) = day(level).await;
    seen.is_clean(&secrets);
    // It has really travelled: who asks for a payload, or for the record of an event, is shown it.
    assert!(daemon.get("/api/v1/inbox").await.to_string().contains(CANARY));
    assert!(daemon.get("/api/v1/events/refused").await.to_string().contains(CANARY));
}

/// The same over a WebSocket: both ways, what is malformed, and a close whose reason repeats what was said.
async fn by_websocket(daemon: &Daemon, caller: &Partner, secrets: &mut Vec<String>) {
    let mut socket = Socket::open(daemon, caller).await;
    socket.send(&json!({"sets": {"ws-good": caller.sign(&with_canary(caller, "ws-good"))}})).await;
    socket.object_with(|object| (verdict(object, "ws-good").as_deref() == Some("ack")).then_some(())).await;
    let answer = daemon.admin("POST", "/api/v1/events", Some(&submission("caller", "ws-out"))).await;
    assert_eq!(answer.status(), 202);
    let token = socket.object_with(|object| object["sets"]["ws-out"].as_str().map(str::to_owned)).await;
    secrets.push(token.split('.').nth(1).unwrap().to_owned());
    let error = json!({"err": CANARY, "description": CANARY});
    socket.send(&json!({"setErrs": {"ws-out": error}})).await;
    daemon.settled("caller", "ws-out", "refused").await;
    let frame = CloseFrame { code: 1007.into(), reason: format!("what is {CANARY}?").into() };
    socket.frame(Frame::Close(Some(frame))).await;
    assert_eq!(socket.close_code().await, Some(1007));
    for text in [format!("{{\"{CANARY}\": 1, \"{CANARY}\": 2}}"), format!("[\"{CANARY}\"]")] {
        let mut socket = Socket::open(daemon, caller).await;
        socket.send_bytes(text.as_bytes()).await;
        assert_eq!(socket.close_code().await, Some(1007));
    }
}

async fn day(level: &str) -> (Vec<String>, Seen, Daemon) {
    let mut seen = Seen::default();
    let mut responder = Responder::listen().await;
    let (mut caller, mut dialled) = (Partner::new("caller"), Partner::new("dialled"));
    for partner in [&mut caller, &mut dialled] {
        partner.token = format!("{CANARY}-token-from-{}-0123456789abcdef", partner.name);
        partner.our_token = format!("{CANARY}-token-to-{}-0123456789abcdef", partner.name);
    }
    responder.publish(Some(dialled.jwks()));
    let delivery = "[delivery]\nspeak_interval = \"100ms\"\nretry_first = \"50ms\"\nretry_max = \"100ms\"\nattempts_max = 1\ngive_up_after = \"1s\"";
    let keys = format!("{}\njwks_uri = \"{}\"\nsend = [\"caep:*\"]", responder.keys("http"), responder.jwks_uri());
    let mut daemon = Plan::new(true)
        .with(delivery)
        .with_peer(&caller, "send = [\"caep:*\"]\naccept = [\"caep:session-revoked\"]")
        .with_peer(&dialled, &keys)
        .at_level(level)
        .start()
        .await;
    let private = std::fs::read_dir(daemon.dir().join("keys")).unwrap().next().unwrap().unwrap().path();
    let pem = std::fs::read_to_string(private).unwrap();
    let mut secrets = vec![CANARY.to_owned(), daemon.admin_token().to_owned()];
    secrets.extend(in_base64(CANARY));
    secrets.extend(pem.lines().filter(|line| !line.starts_with('-')).map(str::to_owned));

    // Sent and acked, refused with descriptions that repeat what they were given, and given up.
    for jti in ["acked", "refused", "dead"] {
        let answer = daemon.admin("POST", "/api/v1/events", Some(&submission("dialled", jti))).await;
        assert_eq!(answer.status(), 202, "{}", answer.text());
        seen.note("answer to a submission", answer.text());
    }
    let mut settled = false;
    while !settled {
        let request = responder.request().await;
        let jtis = request.jtis();
        // A token that we signed must not be told either: it holds all of it.
        for (jti, token) in request.object()["sets"].as_object().into_iter().flatten() {
            let token = token.as_str().unwrap();
            secrets.push(token.split('.').nth(1).unwrap().to_owned());
            assert!(!jti.contains(CANARY));
        }
        let mut object = json!({"ack": [], "setErrs": {}});
        if jtis.contains(&"acked".to_owned()) {
            object["ack"] = json!(["acked"]);
        }
        if jtis.contains(&"refused".to_owned()) {
            let description = format!("we know nobody called {CANARY}@subject.example");
            object["setErrs"] = json!({"refused": {"err": format!("no_{CANARY}"), "description": description}});
        }
        request.answer_object(&object);
        settled = daemon.state("out", "dialled", "dead").await.as_deref() == Some("dead")
            && daemon.state("out", "dialled", "refused").await.as_deref() == Some("refused");
    }
    // Answers that are no answers, each with something of ours in it.
    for (status, body) in [
        (200, format!("<html>{CANARY}</html>")),
        (200, format!("{{\"{CANARY}\": 1, \"{CANARY}\": 2}}")),
        (200, format!("{{\"ack\": [\"{CANARY}\"], \"sets\": {{\"{CANARY}\": 7}}}}")),
        (400, format!("{{\"err\": \"{CANARY}\", \"description\": \"{CANARY}\"}}")),
        (500, CANARY.to_owned()),
        (401, CANARY.to_owned()),
    ] {
        responder.request().await.answer(status, &[("X-Echo", CANARY)], &body);
    }

    // Received: good, doubled with other bytes, refused for each reason, malformed, with a wrong key.
    let object = json!({"sets": {"good": caller.sign(&with_canary(&caller, "good"))}});
    assert_eq!(verdict(&caller.exchange(&daemon, &object).await, "good").as_deref(), Some("ack"));
    let mut changed = with_canary(&caller, "good");
    changed.insert("more".to_owned(), json!(CANARY));
    caller.exchange(&daemon, &json!({"sets": {"good": caller.sign(&changed)}})).await;
    for (jti, claim, value) in [
        ("aud", "aud", json!(format!("https://{ADDRESS}.example"))),
        ("iss", "iss", json!(format!("https://{ADDRESS}.example"))),
        ("sub", "sub_id", json!({"format": CANARY, CANARY: CANARY})),
        ("event", "events", json!({(format!("https://{ADDRESS}.example/type")): {CANARY: CANARY}})),
        ("iat", "iat", json!(CANARY)),
        ("toe", "toe", json!(CANARY)),
    ] {
        let mut claims = with_canary(&caller, jti);
        claims.insert(claim.to_owned(), value);
        let answer = caller.exchange(&daemon, &json!({"sets": {jti: caller.sign(&claims)}})).await;
        seen.note(&format!("setErr for {jti}"), answer.to_string());
    }
    let stranger = Key::new("unknown");
    let token = stranger.sign(&stranger.header(), &Value::Object(with_canary(&caller, "key")).to_string());
    seen.note("setErr for key", caller.exchange(&daemon, &json!({"sets": {"key": token}})).await.to_string());
    for text in [
        format!("{{\"{CANARY}\""),
        format!("{{\"sets\": {{\"j\": \"{CANARY}.{CANARY}.{CANARY}\"}}}}"),
        format!("{{\"{CANARY}\": 1, \"{CANARY}\": 2}}"),
        format!("{{\"setErrs\": {{\"j\": \"{CANARY}\"}}}}"),
        format!("[\"{CANARY}\"]"),
    ] {
        let answer = caller.post(&daemon, text.as_bytes()).await;
        seen.note("answer to what is malformed", answer.text());
    }
    for fault in OBJECT_FAULTS {
        let set = format!("\"j\":\"{}\"", caller.sign(&with_canary(&caller, "j")));
        let answer = caller.post(&daemon, &fault.bytes(&set, "acked")).await;
        seen.note(fault.name, answer.text());
    }
    let mut wire = daemon.connect().await;
    let wrong = format!("Bearer {CANARY}");
    let answer = wire.ask("POST", "/pushpull", &[("Authorization", &wrong)], CANARY.as_bytes()).await.unwrap().unwrap();
    seen.note("wrong bearer", answer.text());

    by_websocket(&daemon, &caller, &mut secrets).await;

    // The operator's side: errors of the API and of the commands.
    for (method, path, body) in [
        (
            "POST",
            "/api/v1/events",
            json!({"peer": "nobody", "type": "caep:session-revoked", "sub_id": {"format": "opaque", "id": CANARY}}),
        ),
        (
            "POST",
            "/api/v1/events",
            json!({"peer": "dialled", "type": "caep:session-revoked", "sub_id": {"format": CANARY, "id": 7, "email": CANARY}}),
        ),
        ("POST", "/api/v1/events", json!({"peer": "dialled", "type": "caep:session-revoked", "sub_id": CANARY})),
        (
            "POST",
            "/api/v1/events",
            json!({"peer": "dialled", "type": "caep:session-revoked", "sub_id": {"format": "email", "email": 1}, "event": CANARY}),
        ),
        ("POST", "/api/v1/events", json!({"peer": "dialled", "claims": {"events": CANARY, "sub_id": CANARY}})),
        (
            "POST",
            "/api/v1/events",
            json!({"peer": "dialled", "claims": {"events": {SESSION_REVOKED: CANARY}, "sub": CANARY, "iat": CANARY}}),
        ),
        ("POST", "/api/v1/events", json!({"peer": "dialled", "set": format!("{CANARY}.{CANARY}.{CANARY}")})),
        (
            "POST",
            "/api/v1/events",
            json!({"peer": "dialled", "jti": "acked", "type": "caep:session-revoked", "sub_id": {"format": "opaque", "id": CANARY}}),
        ),
        ("POST", "/api/v1/inbox/confirm", json!({"consumer": "siem", "up_to": CANARY})),
    ] {
        let answer = daemon.admin(method, path, Some(&body)).await;
        seen.note("answer of the API", answer.text());
    }
    let answer = daemon
        .admin_raw(
            "POST",
            "/api/v1/events",
            &[("Content-Type", "application/json")],
            format!("{{\"x\": {CANARY}").as_bytes(),
        )
        .await;
    seen.note("error of the API", answer.text());
    let mut wire = daemon.connect_admin().await;
    let answer = wire.ask("GET", "/metrics", &[("Authorization", &wrong)], b"").await.unwrap().unwrap();
    seen.note("wrong admin token", answer.text());
    let config = daemon.dir().join("pushpull.toml");
    let (config, admin) = (config.to_str().unwrap().to_owned(), daemon.admin_address().to_string());
    let token = daemon.dir().join("admin.token").to_str().unwrap().to_owned();
    let wrong_token = daemon.dir().join("wrong.token");
    crate::common::daemon::write(&wrong_token, &format!("{CANARY}-0123456789abcdef0123456789abcdef"));
    let at = ["-c", config.as_str(), "--admin", admin.as_str()];
    for (command, token) in [
        (vec!["status"], token.as_str()),
        (vec!["status", "dialled"], &token),
        (vec!["status", "--json"], &token),
        (vec!["peer", "show", "caller"], &token),
        (vec!["status"], wrong_token.to_str().unwrap()),
        (vec!["send", "dialled", "caep:session-revoked", "--subject", "mail:canary-7f3a91"], &token),
        (vec!["send", "dialled", "caep:sesion-revoked", "--subject", "email:canary-7f3a91@x.example"], &token),
        (vec!["send", "nobody", "caep:session-revoked", "--subject", "email:canary-7f3a91@x.example"], &token),
        (vec!["send", "dialled", "risc:account-purged", "--subject", "opaque:canary-7f3a91"], &token),
    ] {
        let arguments: Vec<&str> = command.iter().copied().chain(at).chain(["--token-file", token]).collect();
        let ran = tokio::task::block_in_place(|| program(&arguments));
        seen.ran(&command.join(" "), &ran);
    }

    // Keys that change and vanish, a restart with a full queue, and the end.
    responder.publish(None);
    let answer = daemon.admin("POST", "/api/v1/events", Some(&submission("caller", "queued"))).await;
    assert_eq!(answer.status(), 202);
    seen.note("log before the restart", daemon.log().join("\n"));
    daemon.kill().await;
    daemon.restart().await;
    let asked = responder.jwks_asked();
    responder.publish(Some(
        json!({"keys": [{"kty": "EC", "d": CANARY, "kid": CANARY, "crv": "P-256", "x": CANARY, "y": CANARY}]}),
    ));
    until("a look at the keys", async || (responder.jwks_asked() > asked).then_some(())).await;
    for format in ["", "application/openmetrics-text"] {
        let answer = daemon.admin_raw("GET", "/metrics", &[("Accept", format)], b"").await;
        seen.note("metrics", answer.text());
    }
    for path in ["/api/v1/peers", "/readyz", "/livez"] {
        seen.note(path, daemon.admin("GET", path, None).await.text());
    }
    daemon.log().iter().for_each(|line| is_shaped(line));
    let log = daemon.log().join("\n");
    assert!(log.contains("\"TRACE\"") || log.contains("\"DEBUG\""), "the log is not at its lowest level");
    seen.note("log after the restart", log);
    (secrets, seen, daemon)
}

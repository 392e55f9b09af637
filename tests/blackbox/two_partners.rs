//! What one partner says about another's SETs changes nothing, and tells it nothing.

use serde_json::{Value, json};

use crate::common::daemon::{Daemon, Plan};
use crate::common::link::Link;
use crate::common::partner::{Partner, verdict};
use crate::common::until;

/// A daemon with two partners, and a SET for each way: `to-a` (transmitted to a), `queued-a` (not transmitted).
struct Scene {
    a: Partner,
    b: Partner,
    daemon: Daemon,
}

impl Scene {
    async fn new() -> Self {
        let (a, b) = (Partner::new("a"), Partner::new("b"));
        let plan = Plan::new(false).with("[delivery]\nretry_first = \"2m\"");
        let daemon = plan.with_peer(&a, "").with_peer(&b, "").start().await;
        Self { a, b, daemon }
    }

    /// Transmits these to `a`, and leaves `queued-a` behind.
    async fn transmit(&self, jtis: &[&str]) {
        for jti in jtis {
            self.daemon.send("a", jti).await;
            self.a.fetch(&self.daemon, jti).await;
        }
        self.daemon.send("a", "queued-a").await;
    }

    async fn is_unsettled(&self, jti: &str) {
        let record = self.daemon.record("out", "a", jti).await.unwrap();
        let state = record["state"].as_str().unwrap();
        assert!(["queued", "in_flight"].contains(&state), "{jti}: {record}");
        assert!(self.daemon.record("out", "b", jti).await.is_none(), "{jti} has become b's");
    }
}

/// Everything that b tries, each with a SET of its own so that an answer has to come.
fn tries(b: &Partner) -> Vec<Value> {
    let own = |number: usize| {
        let jti = format!("own-{number}");
        json!({&jti: b.set(&jti)})
    };
    let error = json!({"err": "invalid_key", "description": "forged"});
    vec![
        json!({"sets": own(0), "ack": ["to-a-1", "to-a-2", "queued-a"]}),
        json!({"sets": own(1), "setErrs": {"to-a-1": error, "to-a-2": error, "queued-a": error}}),
        json!({"sets": own(2), "ack": ["to-a-1"], "setErrs": {"to-a-2": error}}),
        json!({"sets": own(3), "ack": (0..2000).map(|number| format!("guess-{number}")).collect::<Vec<_>>()}),
        json!({"sets": own(4), "ack": ["to-a-1\u{0}", "TO-A-1", " to-a-1"]}),
    ]
}

async fn anothers_verdicts_change_nothing(scene: &Scene, mut link: Link<'_>) {
    scene.transmit(&["to-a-1", "to-a-2"]).await;
    let before = scene.daemon.totals("a").await;
    for (number, object) in tries(&scene.b).into_iter().enumerate() {
        let answer = link.say(&object).await;
        assert_eq!(answer, json!({"ack": [format!("own-{number}")]}), "the answer tells something");
    }
    assert_eq!(scene.daemon.totals("a").await, before);
    for jti in ["to-a-1", "to-a-2", "queued-a"] {
        scene.is_unsettled(jti).await;
    }
    let of_b = scene.daemon.totals("b").await;
    assert_eq!((&of_b["acked"], &of_b["refused"], &of_b["queued"]), (&json!(0), &json!(0), &json!(0)));
    // The one to whom they were sent decides, each for itself.
    let error = json!({"err": "invalid_audience", "description": "really"});
    scene.a.exchange(&scene.daemon, &json!({"ack": ["to-a-1"], "setErrs": {"to-a-2": error}})).await;
    scene.daemon.settled("a", "to-a-1", "acked").await;
    scene.daemon.settled("a", "to-a-2", "refused").await;
    // And a late word of another does not turn it.
    link.say(&json!({"sets": {"own-9": scene.b.set("own-9")}, "setErrs": {"to-a-1": error}, "ack": ["to-a-2"]})).await;
    scene.daemon.settled("a", "to-a-1", "acked").await;
    scene.daemon.settled("a", "to-a-2", "refused").await;
}

#[tokio::test]
async fn anothers_verdicts_change_nothing_over_http() {
    let scene = Scene::new().await;
    anothers_verdicts_change_nothing(&scene, Link::http(&scene.daemon, &scene.b)).await;
}

#[tokio::test]
async fn anothers_verdicts_change_nothing_over_websocket() {
    let scene = Scene::new().await;
    let link = Link::websocket(&scene.daemon, &scene.b).await;
    anothers_verdicts_change_nothing(&scene, link).await;
}

#[tokio::test]
async fn answers_are_the_same_whether_or_not_anothers_sets_exist() {
    let scene = Scene::new().await;
    scene.transmit(&["to-a-1", "to-a-2"]).await;
    let error = json!({"err": "invalid_key", "description": "forged"});
    let ask = async |jti: &str| {
        let (acked, refused) = (json!({"ack": [jti]}), json!({"setErrs": {jti: error}}));
        let mut answers = Vec::new();
        for object in [acked, refused] {
            let answer = scene.b.post(&scene.daemon, object.to_string().as_bytes()).await;
            let headers: Vec<_> =
                answer.headers.into_iter().filter(|(name, _)| !name.eq_ignore_ascii_case("date")).collect();
            answers.push((answer.first, headers, answer.body));
        }
        answers
    };
    let nothing = ask("no-such-jti").await;
    for jti in ["to-a-1", "queued-a"] {
        assert_eq!(ask(jti).await, nothing, "{jti}");
    }
}

#[tokio::test]
async fn acks_of_what_was_never_transmitted_settle_nothing() {
    let scene = Scene::new().await;
    scene.daemon.admin("POST", "/api/v1/peers/a/pause", None).await;
    scene.daemon.send("a", "early").await;
    // Its own SET even, but a cannot know it: it guesses.
    let answer = scene.a.exchange(&scene.daemon, &json!({"ack": ["early"]})).await;
    assert_eq!(answer, json!({}));
    scene.is_unsettled("early").await;
    scene.daemon.admin("POST", "/api/v1/peers/a/resume", None).await;
    scene.a.fetch(&scene.daemon, "early").await;
    scene.a.exchange(&scene.daemon, &json!({"ack": ["early"]})).await;
    scene.daemon.settled("a", "early", "acked").await;
    // Again, and as a setErr: too late, both.
    let error = json!({"err": "invalid_key", "description": "changed its mind"});
    scene.a.exchange(&scene.daemon, &json!({"ack": ["early"]})).await;
    scene.a.exchange(&scene.daemon, &json!({"setErrs": {"early": error}})).await;
    scene.daemon.settled("a", "early", "acked").await;
    let totals = scene.daemon.totals("a").await;
    assert_eq!((&totals["acked"], &totals["refused"], &totals["queued"]), (&json!(1), &json!(0), &json!(0)));
}

#[tokio::test]
async fn one_jti_from_two_partners_is_two_sets() {
    let scene = Scene::new().await;
    for partner in [&scene.a, &scene.b] {
        let answer = partner.exchange(&scene.daemon, &json!({"sets": {"same": partner.set("same")}})).await;
        assert_eq!(verdict(&answer, "same").as_deref(), Some("ack"));
    }
    let mut inbox = scene.daemon.inbox().await;
    inbox.sort();
    assert_eq!(inbox, [("a".to_owned(), "same".to_owned()), ("b".to_owned(), "same".to_owned())]);
    // One refused and one accepted, too.
    let mut claims = scene.a.claims("mixed");
    claims.insert("aud".to_owned(), json!("https://else.example"));
    let refused = scene.a.exchange(&scene.daemon, &json!({"sets": {"mixed": scene.a.sign(&claims)}})).await;
    let acked = scene.b.exchange(&scene.daemon, &json!({"sets": {"mixed": scene.b.set("mixed")}})).await;
    assert_eq!(verdict(&refused, "mixed").as_deref(), Some("invalid_audience"));
    assert_eq!(verdict(&acked, "mixed").as_deref(), Some("ack"));
    // And ours to both of them under one name: each answers for itself.
    scene.daemon.send("a", "ours").await;
    scene.daemon.send("b", "ours").await;
    let (to_a, to_b) = (scene.a.fetch(&scene.daemon, "ours").await, scene.b.fetch(&scene.daemon, "ours").await);
    assert_ne!(to_a, to_b, "another audience");
    scene.b.exchange(&scene.daemon, &json!({"ack": ["ours"]})).await;
    scene.daemon.settled("b", "ours", "acked").await;
    until("a's to be unsettled", async || {
        (scene.daemon.state("out", "a", "ours").await.as_deref() != Some("acked")).then_some(())
    })
    .await;
    let error = json!({"err": "invalid_key", "description": "no"});
    scene.a.exchange(&scene.daemon, &json!({"setErrs": {"ours": error}})).await;
    scene.daemon.settled("a", "ours", "refused").await;
    scene.daemon.settled("b", "ours", "acked").await;
}

#[tokio::test]
async fn a_partner_cannot_send_anothers_sets() {
    let scene = Scene::new().await;
    // A relay: a SET that b has really signed, brought by a.
    let answer = scene.a.exchange(&scene.daemon, &json!({"sets": {"relayed": scene.b.set("relayed")}})).await;
    assert_eq!(verdict(&answer, "relayed").as_deref(), Some("invalid_issuer"));
    // With a's issuer and b's key.
    let claims = Value::Object(scene.a.claims("forged")).to_string();
    let token = scene.b.key.sign(&scene.b.key.header(), &claims);
    let answer = scene.a.exchange(&scene.daemon, &json!({"sets": {"forged": token}})).await;
    assert_eq!(verdict(&answer, "forged").as_deref(), Some("invalid_key"));
    assert!(scene.daemon.inbox().await.is_empty());
    // The refusal of a's copy does not stand in the way of b's own.
    let answer = scene.b.exchange(&scene.daemon, &json!({"sets": {"relayed": scene.b.set("relayed")}})).await;
    assert_eq!(verdict(&answer, "relayed").as_deref(), Some("ack"));
}

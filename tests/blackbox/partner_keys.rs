//! The partner changes its keys while SETs are under way: none is refused for it, none is lost, and a key that it took
//! back verifies no more.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::daemon::{Daemon, Plan};
use crate::common::link::Link;
use crate::common::partner::{Key, Partner, verdict};
use crate::common::responder::Responder;
use crate::common::{soon, until};

/// A partner that comes to us, and where it publishes its keys.
struct Scene {
    partner: Partner,
    next: Key,
    publisher: Responder,
    daemon: Daemon,
}

impl Scene {
    async fn new(refresh: &str) -> Self {
        let (partner, next, publisher) = (Partner::new("p"), Key::new("p-2"), Responder::listen().await);
        publisher.publish(Some(partner.jwks()));
        let keys = format!("jwks_uri = \"{}\"\njwks_refresh = \"{refresh}\"", publisher.jwks_uri());
        let daemon = Plan::new(false).with_peer(&partner, &keys).start().await;
        Self { partner, next, publisher, daemon }
    }

    /// A SET that the new key signed.
    fn new_set(&self, jti: &str) -> String {
        self.next.sign(&self.next.header(), &Value::Object(self.partner.claims(jti)).to_string())
    }

    /// An object with these SETs, by the old key or by the new one.
    fn object(&self, old: &[&str], new: &[&str]) -> Value {
        let old = old.iter().map(|jti| ((*jti).to_owned(), json!(self.partner.set(jti))));
        let new = new.iter().map(|jti| ((*jti).to_owned(), json!(self.new_set(jti))));
        json!({"sets": old.chain(new).collect::<serde_json::Map<_, _>>()})
    }

    fn publish(&self, keys: &[&Key]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        self.publisher.publish(Some(json!({"keys": keys})));
    }

    /// Waits until keys that are published from now on must have been fetched.
    async fn refreshed(&self) {
        let before = self.publisher.jwks_asked();
        until("two more fetches", async || (self.publisher.jwks_asked() >= before + 2).then_some(())).await;
    }

    async fn received(&self, jtis: &[&str]) {
        let mut inbox: Vec<String> = self.daemon.inbox().await.into_iter().map(|(_, jti)| jti).collect();
        inbox.sort();
        assert_eq!(inbox, jtis);
        assert_eq!(self.daemon.totals("p").await["rejected"], 0);
    }
}

async fn a_rotation_costs_no_set(scene: &Scene, mut link: Link<'_>) {
    let first = link.say(&scene.object(&["a"], &[])).await;
    assert_eq!(verdict(&first, "a").as_deref(), Some("ack"));
    // The new key signs, the old one's SETs are still coming, and the keys cannot be had.
    scene.publisher.publish(None);
    let mixed = link.say(&scene.object(&["b", "c"], &["m", "n"])).await;
    for (jti, expected) in [("b", Some("ack")), ("c", Some("ack")), ("m", None), ("n", None)] {
        assert_eq!(verdict(&mixed, jti).as_deref(), expected, "{jti}: {mixed}");
    }
    scene.received(&["a", "b", "c"]).await;
    scene.publish(&[&scene.partner.key, &scene.next]);
    // What got no answer is sent again, as a Transceiver does, with more of both kinds.
    let more = scene.object(&["d"], &["m", "n", "o"]);
    let acked = async {
        loop {
            let answer = link.say(&more).await;
            let verdicts = ["d", "m", "n", "o"].map(|jti| verdict(&answer, jti));
            assert!(verdicts.iter().flatten().all(|verdict| verdict == "ack"), "{answer}");
            if verdicts.iter().all(Option::is_some) {
                break;
            }
        }
    };
    soon("the new key's SETs to be acked", acked).await;
    scene.received(&["a", "b", "c", "d", "m", "n", "o"]).await;
}

#[tokio::test]
async fn a_rotation_while_the_keys_cannot_be_fetched_costs_no_set_over_http() {
    let scene = Scene::new("1s").await;
    a_rotation_costs_no_set(&scene, Link::http(&scene.daemon, &scene.partner)).await;
}

#[tokio::test]
async fn a_rotation_while_the_keys_cannot_be_fetched_costs_no_set_over_websocket() {
    let scene = Scene::new("1s").await;
    let link = Link::websocket(&scene.daemon, &scene.partner).await;
    a_rotation_costs_no_set(&scene, link).await;
}

async fn a_new_key_is_fetched_for_the_first_set_that_needs_it(scene: &Scene, mut link: Link<'_>) {
    link.say(&scene.object(&["a"], &[])).await;
    let asked = scene.publisher.jwks_asked();
    scene.publish(&[&scene.partner.key, &scene.next]);
    let mixed = link.say(&scene.object(&["b"], &["m", "n"])).await;
    for jti in ["b", "m", "n"] {
        let answered = verdict(&mixed, jti);
        // Over a WebSocket acks may come one after the other.
        assert!(answered.is_none_or(|verdict| verdict == "ack"), "{mixed}");
        until(&format!("{jti} to be received"), async || {
            (scene.daemon.state("in", "p", jti).await.as_deref() == Some("received")).then_some(())
        })
        .await;
    }
    assert_eq!(scene.publisher.jwks_asked(), asked + 1, "one fetch for all of them, long before the refresh");
    scene.received(&["a", "b", "m", "n"]).await;
}

#[tokio::test]
async fn a_new_key_is_fetched_for_the_first_set_that_needs_it_over_http() {
    let scene = Scene::new("10m").await;
    a_new_key_is_fetched_for_the_first_set_that_needs_it(&scene, Link::http(&scene.daemon, &scene.partner)).await;
}

#[tokio::test]
async fn a_new_key_is_fetched_for_the_first_set_that_needs_it_over_websocket() {
    let scene = Scene::new("10m").await;
    let link = Link::websocket(&scene.daemon, &scene.partner).await;
    a_new_key_is_fetched_for_the_first_set_that_needs_it(&scene, link).await;
}

async fn a_withdrawn_key_is_told_from_an_outage(scene: &Scene, mut link: Link<'_>) {
    scene.publish(&[&scene.partner.key, &scene.next]);
    scene.refreshed().await;
    let both = link.say(&scene.object(&["a"], &[])).await;
    assert_eq!(verdict(&both, "a").as_deref(), Some("ack"));
    // Refreshes that fail take no key away.
    scene.publisher.publish(None);
    scene.refreshed().await;
    let outage = link.say(&scene.object(&["b"], &[])).await;
    assert_eq!(verdict(&outage, "b").as_deref(), Some("ack"));
    // One that succeeds without the key does.
    scene.publish(&[&scene.next]);
    scene.refreshed().await;
    let withdrawn = link.say(&scene.object(&["c"], &[])).await;
    assert_eq!(verdict(&withdrawn, "c").as_deref(), Some("invalid_key"));
    let good = link.say(&scene.object(&[], &["m"])).await;
    assert_eq!(verdict(&good, "m").as_deref(), Some("ack"));
    // What had been received before is answered as ever.
    let known = link.say(&scene.object(&["a"], &[])).await;
    assert_eq!(verdict(&known, "a").as_deref(), Some("ack"));
    assert_eq!(scene.daemon.totals("p").await["rejected"], 1);
    let mut inbox: Vec<String> = scene.daemon.inbox().await.into_iter().map(|(_, jti)| jti).collect();
    inbox.sort();
    assert_eq!(inbox, ["a", "b", "m"]);
}

#[tokio::test]
async fn a_withdrawn_key_is_told_from_an_outage_over_http() {
    let scene = Scene::new("1s").await;
    a_withdrawn_key_is_told_from_an_outage(&scene, Link::http(&scene.daemon, &scene.partner)).await;
}

#[tokio::test]
async fn a_withdrawn_key_is_told_from_an_outage_over_websocket() {
    let scene = Scene::new("1s").await;
    let link = Link::websocket(&scene.daemon, &scene.partner).await;
    a_withdrawn_key_is_told_from_an_outage(&scene, link).await;
}

/// Slower than anybody waits for it.
const SLOW: Duration = Duration::from_millis(1500);

/// The SET of the new key gets no verdict while a slow server is asked; the one that its copies get in the end.
async fn in_the_end(jti: &str, publish: impl AsyncFnOnce(&Scene)) -> String {
    let scene = Scene::new("10m").await;
    let mut link = Link::http(&scene.daemon, &scene.partner);
    link.say(&scene.object(&["a"], &[])).await;
    scene.publisher.publish_slowly(SLOW);
    publish(&scene).await;
    // A copy is the same token; signing it once more would make another one.
    let object = scene.object(&[], &[jti]);
    assert_eq!(verdict(&link.say(&object).await, jti), None, "nobody knows yet");
    first_verdict(&mut link, &object, jti).await
}

/// Says the same until there is a verdict.
async fn first_verdict(link: &mut Link<'_>, object: &Value, jti: &str) -> String {
    for _ in 0..20 {
        if let Some(verdict) = verdict(&link.say(object).await, jti) {
            return verdict;
        }
        tokio::time::sleep(SLOW / 4).await;
    }
    panic!("{jti} never got a verdict");
}

#[tokio::test]
async fn a_set_of_an_unknown_key_is_refused_however_slow_the_key_server_is() {
    assert_eq!(in_the_end("m", async |_| ()).await, "invalid_key");
}

#[tokio::test]
async fn keys_that_came_too_late_for_one_copy_verify_the_next() {
    let publish = async |scene: &Scene| scene.publish(&[&scene.partner.key, &scene.next]);
    assert_eq!(in_the_end("n", publish).await, "ack");
}

#[tokio::test]
async fn a_key_that_is_published_between_two_copies_is_asked_for_before_anything_is_refused() {
    let scene = Scene::new("1s").await;
    let mut link = Link::http(&scene.daemon, &scene.partner);
    link.say(&scene.object(&["a"], &[])).await;
    let early = scene.object(&[], &["m"]);
    scene.publisher.publish(None);
    assert_eq!(verdict(&link.say(&early).await, "m"), None, "nobody knows yet");
    // A refresh brings keys that are newer than the first copy, and its key is published only then.
    scene.publish(&[&scene.partner.key]);
    scene.refreshed().await;
    scene.publish(&[&scene.partner.key, &scene.next]);
    assert_eq!(first_verdict(&mut link, &early, "m").await, "ack");
}

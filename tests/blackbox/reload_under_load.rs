//! Reloads that change endpoint, tokens and filters under load in both directions: nothing is lost, nothing doubled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pushpull::auth::Secret;
use pushpull::set::{Algorithm, KeySet, SigningKey, events::Filter};
use pushpull::store::Memory;
use pushpull::transceiver::{DialConfig, Event, KeySource, Method, PeerConfig, Submission, Transceiver};
use pushpull::wire::net::{Allow, Target};
use serde_json::json;

use crate::common::daemon::{ISSUER, Plan, write};
use crate::common::until;

const ROUNDS: usize = 12;
const BATCH: usize = 50;

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned(), "the test").unwrap()
}

#[tokio::test]
async fn reloads_under_load_in_both_directions_lose_and_double_nothing() {
    let (key, _) = SigningKey::generate(Algorithm::Es256, "globex-1").unwrap();
    let jwks = KeySet::of([key.public_jwk()]).to_json().to_string();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let globex = Transceiver::builder("https://globex.example")
        .signing_key(key)
        .store(Arc::new(Memory::new()))
        .allow(Allow::parse(["127.0.0.0/8"]).unwrap())
        .listen(listener, None)
        .start()
        .await
        .unwrap();

    let plan = Plan::new(false).with("[delivery]\nretry_first = \"500ms\"");
    let daemon = plan.start().await;
    write(&daemon.dir().join("globex.jwks.json"), &jwks);
    // What the daemon has of its partner in a round, and the partner of it.
    let block = |round: usize| {
        write(&daemon.dir().join("globex.token"), &format!("to-globex-{}", round % 3));
        write(&daemon.dir().join("from-globex.token"), &format!("from-globex-{}", round % 2));
        let (scheme, transport) = if round % 4 == 3 { ("http", "http") } else { ("ws", "websocket") };
        let filter = if round.is_multiple_of(2) { "*" } else { "caep:*" };
        format!(
            "[[peer]]\nname = \"globex\"\nissuer = \"https://globex.example\"\njwks_file = \"globex.jwks.json\"\n\
             transport = \"{transport}\"\nendpoint = \"{scheme}://127.0.0.1:{port}/pushpull\"\n\
             token_file = \"globex.token\"\naccept_token_file = \"from-globex.token\"\naccept = [\"{filter}\"]\n"
        )
    };
    let url = |scheme: &str, path: &str| Target::parse(&format!("{scheme}://{}{path}", daemon.address())).unwrap();
    let us = |round: usize| PeerConfig {
        name: "us".to_owned(),
        issuer: ISSUER.to_owned(),
        keys: KeySource::Url { target: url("http", "/jwks.json"), pin: None, refresh: Duration::from_secs(600) },
        audience: None,
        accept_audience: None,
        dial: (round % 3 != 2).then(|| DialConfig {
            target: url("ws", "/pushpull"),
            pin: None,
            token: Some(secret(&format!("from-globex-{}", round % 2))),
            method: Method::Websocket,
        }),
        // Its own reload comes a little later than the daemon's.
        collect: None,
        accept_tokens: (0..3).map(|number| secret(&format!("to-globex-{number}"))).collect(),
        send: Filter::all(),
        accept: Filter::all(),
    };
    let base = std::fs::read_to_string(daemon.dir().join("pushpull.toml")).unwrap();
    daemon.edit(|_| format!("{base}{}", block(0)));
    assert_eq!(daemon.reload().await.0, ["peer globex added"]);
    globex.add_peer(us(0)).await.unwrap();

    for round in 1..=ROUNDS {
        let ours: Vec<String> = (0..BATCH).map(|number| format!("ours-{round}-{number}")).collect();
        let theirs = (0..BATCH).map(|number| Submission {
            peer: "us".to_owned(),
            event: Event::Claims(
                json!({
                    "jti": format!("theirs-{round}-{number}"), "sub_id": {"format": "opaque", "id": "1"},
                    "events": {crate::common::partner::SESSION_REVOKED: {}},
                })
                .as_object()
                .unwrap()
                .clone(),
            ),
        });
        let sending = async {
            daemon.send_all("globex", &ours).await;
            globex.submit(theirs.collect()).await.unwrap();
        };
        let reloading = async {
            daemon.edit(|_| format!("{base}{}", block(round)));
            // Twice at once: one waits for the other.
            daemon.hang_up();
            daemon.reload().await;
            globex.replace_peer(us(round)).await.unwrap();
        };
        tokio::join!(sending, reloading);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let log = daemon.log();
    let told = |what: &str| log.iter().filter(|line| line.contains(what)).count();
    assert_eq!(told("reload: peer globex: accept, accept token"), ROUNDS, "each round changed something");
    assert_eq!(told("\"reloaded\""), 2 * ROUNDS + 1, "both reloads of each round were done");

    let expected = ROUNDS * BATCH;
    until("everything to be settled", async || {
        let (there, here) = (globex.peer("us").await.unwrap(), daemon.totals("globex").await);
        (there.queued == 0 && here["queued"] == 0).then_some(())
    })
    .await;
    let totals = daemon.totals("globex").await;
    assert_eq!(
        (&totals["acked"], &totals["refused"], &totals["dead"]),
        (&json!(expected), &json!(0), &json!(0)),
        "{totals}"
    );
    let mut counted = BTreeMap::new();
    for (_, jti) in daemon.inbox().await {
        *counted.entry(jti).or_insert(0) += 1;
    }
    assert!(counted.values().all(|times| *times == 1), "doubled: {counted:?}");
    assert_eq!(counted.len(), expected, "lost by the daemon");
    let mut inbox = globex.inbox("test");
    let mut received = BTreeMap::new();
    for _ in 0..expected {
        let set = tokio::time::timeout(Duration::from_secs(10), inbox.next()).await.expect("one was lost").unwrap();
        *received.entry(set.jti.as_str().to_owned()).or_insert(0) += 1;
    }
    assert!(received.values().all(|times| *times == 1), "doubled: {received:?}");
    assert!(tokio::time::timeout(Duration::from_millis(300), inbox.next()).await.is_err(), "one too many");
    globex.shutdown(Duration::from_secs(5)).await;
}

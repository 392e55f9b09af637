//! Every token of the attack corpus meets the verifier by itself, and a whole Transceiver over HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pushpull::clock::{Clock as _, SystemClock};
use pushpull::set::events::Filter;
use pushpull::set::{Fault, Jti, KeySet, Policy, Profile, verify};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::keys::Keys;
use crate::receiver::{OURS, PARTNER, Receiver, THEIRS, TYPE};
use crate::recipe::{Attack, Kitchen};

/// The corpus, by kind of attack.
fn corpus() -> BTreeMap<String, Vec<Attack>> {
    toml::from_str(include_str!("attacks.toml")).unwrap_or_else(|error| panic!("attacks.toml: {error}"))
}

/// An entry made into a token.
struct Dish<'a> {
    /// `kind: name`.
    label: String,
    attack: &'a Attack,
    /// Its name in `sets`.
    under: String,
    token: Arc<str>,
}

fn dishes<'a>(corpus: &'a BTreeMap<String, Vec<Attack>>, kitchen: &Kitchen) -> Vec<Dish<'a>> {
    let all = corpus.iter().flat_map(|(kind, attacks)| attacks.iter().map(move |attack| (kind, attack)));
    all.enumerate()
        .map(|(number, (kind, attack))| {
            let jti = format!("attack-{number}");
            let under = if attack.under.is_empty() { jti.clone() } else { attack.under.replace("$JTI", &jti) };
            let token = kitchen.token(attack, &jti).into();
            Dish { label: format!("{kind}: {}", attack.name), attack, under, token }
        })
        .collect()
}

fn policy() -> Policy {
    Policy {
        issuer: THEIRS.to_owned(),
        audience: OURS.to_owned(),
        accept: Filter::new(&[TYPE.to_owned()]).unwrap(),
        jti_bytes_max: 512,
        set_bytes_max: 256 << 10,
        profile: Profile::Ssf,
    }
}

/// The verifier's word, as the corpus writes it.
fn judge(token: &Arc<str>, under: &str, keys: &KeySet) -> String {
    match verify(token, Some(&Jti::from(under)), &policy(), keys, SystemClock::new().now()) {
        Ok(_) => "ack".to_owned(),
        Err(Fault::Refused(refusal) | Fault::Key(refusal)) => refusal.code.to_string(),
        Err(Fault::NotNow(_)) => "none".to_owned(),
    }
}

/// What an answer says of one name.
fn verdict(answer: &Value, name: &str) -> String {
    let acked = answer["ack"].as_array().is_some_and(|acks| acks.iter().any(|ack| ack == name));
    let err = answer["setErrs"][name]["err"].as_str();
    assert!(!(acked && err.is_some()), "both verdicts on {name}: {answer}");
    if acked { "ack".to_owned() } else { err.unwrap_or("none").to_owned() }
}

#[test]
fn the_corpus_is_large_and_says_everything_once() {
    let corpus = corpus();
    let kitchen = Kitchen { keys: Keys::new(), canary: "http://127.0.0.1:1".to_owned() };
    let dishes = dishes(&corpus, &kitchen);
    let attacks = dishes.iter().filter(|dish| !dish.label.starts_with("control")).count();
    assert!(attacks >= 230, "{attacks}");
    let labels: BTreeSet<&str> = dishes.iter().map(|dish| dish.label.as_str()).collect();
    assert_eq!(labels.len(), dishes.len(), "two entries of one name");
    // But for their jtis and the time all would be the same token, were their recipes not different.
    let mut seen = BTreeMap::new();
    for attack in corpus.values().flatten() {
        let recipe = format!("{attack:?}").replace(&format!("name: {:?}", attack.name), "");
        if let Some(other) = seen.insert(recipe, &attack.name) {
            panic!("{:?} and {other:?} are the same", attack.name);
        }
    }
    assert!(corpus["control"].iter().all(|attack| attack.verdict == "ack"));
}

#[test]
fn the_verifier_judges_every_token_as_the_corpus_says() {
    let kitchen = Kitchen { keys: Keys::new(), canary: "http://127.0.0.1:1".to_owned() };
    let keys = KeySet::parse(kitchen.keys.jwks().as_bytes()).unwrap();
    let corpus = corpus();
    let mut faults = Vec::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for dish in dishes(&corpus, &kitchen) {
        let found = judge(&dish.token, &dish.under, &keys);
        *counts.entry(&dish.attack.verdict).or_default() += 1;
        if found != dish.attack.verdict {
            faults.push(format!("{}: {found}, {} was expected", dish.label, dish.attack.verdict));
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    println!("attack corpus, the verifier: {counts:?}");
}

#[tokio::test]
async fn a_transceiver_answers_every_token_as_the_corpus_says_and_visits_nobody() {
    let panics = Arc::new(AtomicUsize::new(0));
    let usual = std::panic::take_hook();
    let counter = Arc::clone(&panics);
    std::panic::set_hook(Box::new(move |info| {
        counter.fetch_add(1, Ordering::SeqCst);
        usual(info);
    }));
    let canary = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = canary.local_addr().unwrap();
    let kitchen = Kitchen { keys: Keys::new(), canary: format!("http://{address}") };
    let receiver = Receiver::start(&kitchen.keys.jwks()).await;
    let corpus = corpus();
    let (mut faults, mut delivered, mut rejected) = (Vec::new(), BTreeMap::new(), 0);
    for dish in dishes(&corpus, &kitchen) {
        let before = match dish.attack.after.as_str() {
            "" => None,
            "honest" => Some((kitchen.honest(&dish.under), "ack")),
            // One for somebody else.
            "refused" => Some((kitchen.meant_for_others(&dish.under), "invalid_audience")),
            other => panic!("{}: {other:?} cannot come before", dish.label),
        };
        // The first verdict stands, and so does the first content.
        let (first, expected) = match &before {
            Some((token, verdict)) => (token.as_str(), *verdict),
            None => (&*dish.token, dish.attack.verdict.as_str()),
        };
        for token in before.iter().map(|(token, _)| token.as_str()).chain([&*dish.token, &*dish.token]) {
            let (status, answer) = receiver.post(json!({"sets": {&dish.under: token}}).to_string().as_bytes()).await;
            assert_eq!(status, 200, "{}: {answer}", dish.label);
            let found = verdict(&serde_json::from_str(&answer).unwrap(), &dish.under);
            if found != expected {
                faults.push(format!("{}: {found}, {expected} was expected: {answer}", dish.label));
            }
        }
        match expected {
            "ack" => drop(delivered.insert(dish.under.clone(), first.to_owned())),
            "none" => {}
            _ => rejected += 1,
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));

    let status = receiver.transceiver.peer(PARTNER).await.unwrap();
    assert_eq!((status.received, status.rejected), (delivered.len() as u64, rejected));
    let mut inbox = receiver.transceiver.inbox("test");
    for _ in 0..delivered.len() {
        let received = timeout(Duration::from_secs(30), inbox.next()).await.expect("one more").unwrap();
        let first = delivered.remove(received.jti.as_str());
        assert_eq!(first.as_deref(), Some(&*received.set), "{}: other content than the first", received.jti);
        received.confirm().await.unwrap();
    }
    assert!(timeout(Duration::from_millis(200), inbox.next()).await.is_err(), "more than was acked");

    assert!(timeout(Duration::from_millis(200), canary.accept()).await.is_err(), "somebody has followed an address");
    // Somebody who had done so would have been seen.
    let visitor = TcpStream::connect(address).await.unwrap();
    let (_, seen) = timeout(Duration::from_secs(5), canary.accept()).await.expect("a visitor is seen").unwrap();
    assert_eq!(seen, visitor.local_addr().unwrap());
    assert_eq!(panics.load(Ordering::SeqCst), 0, "something has panicked");
    assert!(receiver.transceiver.shutdown(Duration::from_secs(5)).await);
    println!("attack corpus, a Transceiver: {} acked, {rejected} refused", status.received);
}

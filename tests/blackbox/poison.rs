//! A partner that refuses whole requests for one SET in them: how many requests it takes to find that one, counted where they
//! arrive.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::initiator::dialling;
use crate::common::daemon::Daemon;
use crate::common::responder::{Request, Responder};
use crate::common::{soon, until};

/// SETs in the batch.
const SETS: usize = 1_000;

/// Each halving costs two requests at most, and where one half of an odd part was taken, the other one less: 2 × log2(1000).
const EXTRA_MAX: usize = 19;

/// The one that is found waits for so long, and no request is for anything but what waits: each one counts.
const UNHURRIED: &str = "[delivery]\nspeak_interval = \"1h\"\nretry_first = \"10s\"\nretry_max = \"10s\"\n";

fn ack(request: Request, status: u16) -> Vec<String> {
    let jtis = request.jtis();
    request.answer(status, &[("Content-Type", "application/json")], &json!({"ack": jtis}).to_string());
    jtis
}

fn refuse(request: Request) {
    request.answer(400, &[], r#"{"err":"invalid_request","description":"cannot parse"}"#);
}

/// A partner that is about to get these SETs in one request.
async fn about_to_get(jtis: &[String], transport: &str, taken: u16) -> (Responder, Daemon) {
    let (mut responder, _, daemon) = dialling(transport, UNHURRIED).await;
    // The first question of an Initiator, which has nothing to say yet.
    if transport == "http" {
        ack(responder.request().await, taken);
    }
    daemon.admin("POST", "/api/v1/peers/globex/pause", None).await;
    daemon.send_all("globex", jtis).await;
    daemon.admin("POST", "/api/v1/peers/globex/resume", None).await;
    (responder, daemon)
}

/// Acks with this status whatever does not hold the SET at this place.
async fn it_is_found(transport: &str, taken: u16, place: usize) {
    let what = format!("{transport}, the SET at {place}");
    let jtis: Vec<String> = (0..SETS).map(|number| format!("event-{number:03}")).collect();
    let (mut responder, daemon) = about_to_get(&jtis, transport, taken).await;
    let poison = &jtis[place];
    let (mut sizes, mut arrived, mut alone) = (Vec::new(), BTreeSet::new(), false);
    let finding = async {
        while arrived.len() < SETS - 1 || !alone {
            let request = responder.request().await;
            let got = request.jtis();
            sizes.push(got.len());
            if got.contains(poison) {
                alone |= got.len() == 1;
                refuse(request);
            } else {
                for jti in ack(request, taken) {
                    assert!(arrived.insert(jti.clone()), "{what}: {jti} arrived twice");
                }
            }
        }
    };
    soon("all the others", finding).await;
    assert_eq!(sizes[0], SETS, "{what}: all of them in one request");
    // One request was needed in any case.
    let extra = sizes.len() - 1;
    assert!(extra <= EXTRA_MAX, "{what}: {extra} extra requests: {sizes:?}");
    until("the others acked", async || (daemon.totals("globex").await["acked"] == SETS - 1).then_some(())).await;
    let totals = daemon.totals("globex").await;
    assert_eq!((&totals["refused"], &totals["dead"], &totals["queued"]), (&json!(0), &json!(0), &json!(1)), "{what}");
    // It leaves alone from now on, and what is handed in meanwhile does not wait for it.
    daemon.send("globex", "later").await;
    let later = async {
        loop {
            let request = responder.request().await;
            match request.jtis().as_slice() {
                [jti] if jti == "later" => return drop(ack(request, taken)),
                [jti] if jti == poison => refuse(request),
                others => panic!("{what}: {others:?}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(3), later).await.expect("the later one");
    let request = responder.request().await;
    assert_eq!(request.jtis(), [poison.as_str()], "{what}");
    ack(request, taken);
    daemon.settled("globex", poison, "acked").await;
}

#[tokio::test]
async fn one_poison_set_in_a_thousand_costs_few_requests_and_no_other_sets_delivery_where_many_are_pushed() {
    tokio::join!(
        it_is_found("multi-push", 202, 0),
        it_is_found("multi-push", 202, 637),
        it_is_found("multi-push", 202, 999)
    );
}

#[tokio::test]
async fn one_poison_set_in_a_thousand_costs_few_requests_and_no_other_sets_delivery_over_http() {
    tokio::join!(it_is_found("http", 200, 0), it_is_found("http", 200, 637), it_is_found("http", 200, 999));
}

async fn its_halves_wait_as_the_partner_asks(transport: &str, taken: u16) {
    let jtis = ["one", "other"].map(str::to_owned);
    let (mut responder, daemon) = about_to_get(&jtis, transport, taken).await;
    let whole = responder.request().await;
    assert_eq!(whole.jtis(), jtis, "{transport}");
    let asked = tokio::time::Instant::now();
    whole.answer(400, &[("Retry-After", "2")], r#"{"err":"invalid_request","description":"cannot parse"}"#);
    for jti in &jtis {
        let half = responder.request().await;
        assert!(half.at - asked >= Duration::from_millis(1900), "{transport}: {jti} after {:?}", half.at - asked);
        assert_eq!(half.jtis(), [jti.as_str()], "{transport}");
        ack(half, taken);
        daemon.settled("globex", jti, "acked").await;
    }
}

#[tokio::test]
async fn the_halves_of_a_refused_batch_wait_as_the_partner_asks() {
    tokio::join!(
        its_halves_wait_as_the_partner_asks("http", 200),
        its_halves_wait_as_the_partner_asks("multi-push", 202)
    );
}

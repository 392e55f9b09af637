//! Partners that hand out again and again what they were answered, or what cannot be answered now: they are asked less and less,
//! by whichever method.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::common::partner::{Partner, now, verdict};
use crate::common::responder::Responder;
use crate::initiator::dialling;

/// A SET that gets no verdict now: its `iat` lies ahead, by more than clocks differ and less than no clock would.
fn undecided(partner: &Partner, jti: &str) -> String {
    let mut claims = partner.claims(jti);
    claims.insert("iat".to_owned(), json!(now() + 600));
    partner.sign(&claims)
}

/// Answers everything with these SETs for two seconds: how often it was asked, and whether it was told of this one.
async fn stay_deaf(responder: &mut Responder, sets: &Value, told_of: &str) -> (usize, bool) {
    let (deadline, mut requests, mut told) = (Instant::now() + Duration::from_secs(2), 0, false);
    while let Some(request) = responder.request_within(deadline.saturating_duration_since(Instant::now())).await {
        told |= verdict(&request.object(), told_of).is_some();
        request.answer_object(&json!({ "sets": sets }));
        requests += 1;
    }
    (requests, told)
}

#[tokio::test]
async fn answered_sets_among_others_that_get_no_verdict_do_not_make_requests_chase_one_another() {
    for transport in ["poll", "http"] {
        let (mut responder, partner, daemon) = dialling(transport, "").await;
        let sets = json!({"event": partner.set("event"), "ahead": undecided(&partner, "ahead")});
        let (requests, told) = stay_deaf(&mut responder, &sets, "event").await;
        assert!((3..=20).contains(&requests) && told, "{transport}: {requests} requests in two seconds");
        assert_eq!(daemon.inbox().await.len(), 1);
    }
}

#[tokio::test]
async fn a_partner_that_does_not_heed_verdicts_over_http_is_asked_less_and_less_and_told_of_news_at_once() {
    let (mut responder, partner, daemon) = dialling("http", "").await;
    // The second stands under another name than its own, so that a partner may not find our answer to it.
    let sets = json!({"event": partner.set("event"), "elsewhere": partner.set("other")});
    let (requests, told) = stay_deaf(&mut responder, &sets, "elsewhere").await;
    assert!((3..=20).contains(&requests) && told, "{requests} requests in two seconds");
    // What is ours leaves all the same.
    daemon.send("globex", "ours").await;
    let deadline = Instant::now() + Duration::from_secs(10);
    let request = loop {
        let request = responder.request_within(deadline.saturating_duration_since(Instant::now())).await;
        let request = request.expect("our SET leaves");
        if request.object()["sets"].get("ours").is_some() {
            break request;
        }
        request.answer_object(&json!({ "sets": sets }));
    };
    request.answer_object(&json!({"ack": ["ours"]}));
    // Something new ends the pauses.
    let news = json!({"news": partner.set("news")});
    let mut given = None;
    loop {
        let request = responder.request_within(Duration::from_secs(20)).await.expect("it is asked again");
        if verdict(&request.object(), "news").is_some() {
            let waited = given.map(|given: Instant| request.at.duration_since(given));
            assert!(waited.is_some_and(|waited| waited < Duration::from_secs(1)), "{waited:?}");
            break;
        }
        given = Some(Instant::now());
        request.answer_object(&json!({ "sets": news }));
    }
}

//! Our daemon between WebSocket and HTTP: a change from one to the other loses nothing, waits for nothing, and forgets
//! nothing that was learned of the partner.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, timeout};

use super::initiator::{dialling, wanted};
use crate::common::partner::verdict;
use crate::common::responder::{Request, Responder};

const SELDOM: &str = "[delivery]\nspeak_interval = \"1h\"\nretry_first = \"1m\"\n";

/// So many WebSockets that do not last, and HTTP is used instead.
const CUTS_MAX: usize = 4;

/// Four WebSockets that do not last, with the pauses before each, and one after exchanges that failed.
const GIVES_UP_WITHIN: Duration = Duration::from_secs(150);

/// Lets WebSockets open and cuts them until HTTP is used instead: the request, and how long it came after the one before, if
/// that came at this time. What comes over HTTP before the first WebSocket is answered with this status.
async fn cut_websockets(responder: &mut Responder, mut before: Instant, status: u16) -> (Request, Duration) {
    responder.take_websockets();
    let mut cuts = 0;
    let cutting = async {
        loop {
            if let Ok((_, socket)) = timeout(Duration::from_millis(5), responder.socket()).await {
                drop(socket);
                cuts += 1;
                if cuts == CUTS_MAX {
                    // Another one, opened while HTTP pauses, would be one more that has to be cut.
                    responder.refuse_websockets(404);
                }
            }
            match responder.request_within(Duration::from_millis(5)).await {
                Some(request) if cuts > 0 => return (request, before),
                Some(request) => {
                    before = request.at;
                    request.answer(status, &[], "{}");
                }
                None => {}
            }
        }
    };
    let (request, before) = timeout(GIVES_UP_WITHIN, cutting).await.expect("HTTP is used in the end");
    responder.refuse_websockets(404);
    let after = request.at - before;
    (request, after)
}

#[tokio::test]
async fn a_websocket_is_used_at_once_although_an_exchange_is_under_way_which_loses_nothing() {
    let (mut responder, partner, daemon) = dialling("websocket", SELDOM).await;
    responder.request().await.answer_object(&json!({}));
    daemon.send("globex", "slow").await;
    let request = responder.request_with("slow").await;
    responder.take_websockets();
    let (_, mut socket) = responder.socket().await;
    socket.send(&json!({"sets": {"quick": partner.set("quick")}})).await;
    let acked = socket.object_with(|object| verdict(object, "quick"));
    let acked = timeout(Duration::from_secs(5), acked).await;
    assert_eq!(acked.expect("the WebSocket waits for the exchange"), "ack");
    daemon.send("globex", "other").await;
    let other = socket.object_with(|object| object["sets"].get("other").map(|_| object["sets"].clone()));
    let sets = timeout(Duration::from_secs(5), other).await.expect("what is sent waits for the exchange");
    assert!(sets.get("slow").is_none(), "it is under way, and not lost");
    request.answer_object(&json!({"ack": ["slow"], "sets": {"late": partner.set("late")}}));
    assert_eq!(socket.object_with(|object| verdict(object, "late")).await, "ack");
    daemon.settled("globex", "slow", "acked").await;
    assert_eq!(daemon.get("/api/v1/peers/globex").await["transport"], "websocket");
}

#[tokio::test]
async fn websockets_that_break_off_do_not_cut_the_pause_after_exchanges_that_failed() {
    let (mut responder, _, _daemon) = dialling("websocket", SELDOM).await;
    let request = responder.request().await;
    let before = request.at;
    request.answer(503, &[("Retry-After", "20")], "");
    let (_, after) = cut_websockets(&mut responder, before, 503).await;
    // That it is not begun anew either is for the unit tests to show.
    assert!(after >= Duration::from_secs(20), "HTTP is tried again after {after:?}");
}

#[tokio::test]
async fn an_answer_too_large_is_asked_for_in_parts_soon_and_also_after_websockets_that_broke_off() {
    let limits = "[limits]\nobject_bytes_max = \"4KiB\"\nset_bytes_max = \"4KiB\"\nsets_per_object_max = 16\n";
    let (mut responder, _, _daemon) = dialling("websocket", &format!("{SELDOM}{limits}")).await;
    let first = responder.request().await;
    assert_eq!(wanted(&first), 16);
    first.answer(200, &[("Content-Type", "application/json")], &" ".repeat(8 << 10));
    let second = responder.request_within(Duration::from_secs(5)).await.expect("what is there is not left for an hour");
    assert_eq!(wanted(&second), 8);
    second.answer_object(&json!({}));
    let (again, _) = cut_websockets(&mut responder, Instant::now(), 200).await;
    assert_eq!(wanted(&again), 8, "the large answer is still there, as far as we know");
}

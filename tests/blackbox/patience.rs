//! Our daemon as Initiator of a partner that has too much to do: it waits as long as it is asked to.

use std::time::Duration;

use serde_json::json;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::initiator::{DELIVERY, dialling, dialling_websockets, to};
use crate::common::responder::Responder;
use crate::common::until;

async fn a_partner_that_asks_for_patience_gets_it(status: u16, seconds: &str) {
    let (mut responder, _, daemon) = dialling("http", DELIVERY).await;
    daemon.send("globex", "event").await;
    let request = responder.request_with("event").await;
    let asked = tokio::time::Instant::now();
    request.answer(status, &[("Retry-After", seconds)], "");
    let mut again = responder.request().await;
    let pause = again.at - asked;
    assert!(pause >= Duration::from_millis(2900), "{status}: asked again after {pause:?}");
    if again.jtis().is_empty() {
        // The pause is over for the link a moment before the SET has been read again.
        again.answer_object(&json!({}));
        again = responder.request_with("event").await;
    }
    again.ack();
    daemon.settled("globex", "event", "acked").await;
}

#[tokio::test]
async fn an_overloaded_partner_gets_the_pause_that_it_asks_for() {
    tokio::join!(
        a_partner_that_asks_for_patience_gets_it(503, "3"),
        a_partner_that_asks_for_patience_gets_it(429, "3")
    );
}

#[tokio::test]
async fn a_handshake_that_is_asked_for_patience_makes_http_wait_too() {
    let responder = Responder::listen().await;
    responder.refuse_websockets(429);
    responder.add_to_handshakes("Retry-After: 3\r\n");
    let (mut responder, _, daemon) = to(responder, "websocket", DELIVERY).await;
    until("a handshake", async || (responder.handshakes_refused() > 0).then_some(())).await;
    let asked = tokio::time::Instant::now();
    daemon.send("globex", "event").await;
    let request = responder.request().await;
    assert!(request.at - asked >= Duration::from_millis(2500), "asked again after {:?}", request.at - asked);
    let jtis = request.ack();
    if jtis.is_empty() {
        responder.request_with("event").await.ack();
    }
    daemon.settled("globex", "event", "acked").await;
}

#[tokio::test]
async fn an_overloaded_partner_is_not_dialled_again_at_once() {
    let (mut responder, _, daemon) = dialling_websockets().await;
    let (_, mut first) = responder.socket().await;
    daemon.send("globex", "event").await;
    first.object_with(|object| object["sets"].get("event").map(drop)).await;
    let closed = tokio::time::Instant::now();
    first.frame(Frame::Close(Some(CloseFrame { code: CloseCode::Again, reason: "".into() }))).await;
    let (_, mut second) = responder.socket().await;
    assert!(closed.elapsed() >= Duration::from_millis(1900), "dialled again after {:?}", closed.elapsed());
    second.object_with(|object| object["sets"].get("event").map(drop)).await;
    second.send(&json!({"ack": ["event"]})).await;
    daemon.settled("globex", "event", "acked").await;
}

#[tokio::test]
async fn an_absurd_retry_after_holds_no_set_for_ever() {
    let (mut responder, _, daemon) = dialling("http", DELIVERY).await;
    daemon.send("globex", "event").await;
    let nonsense = [("Retry-After", "-5")];
    responder.request_with("event").await.answer(503, &nonsense, "");
    responder.request_with("event").await.ack();
    daemon.settled("globex", "event", "acked").await;
}

async fn verified_at_once(transport: &str, taken: u16) {
    let (mut responder, _, daemon) = dialling(transport, "[delivery]\nspeak_interval = \"1h\"\n").await;
    if transport == "http" {
        responder.request().await.answer_object(&json!({}));
    }
    daemon.send("globex", "event").await;
    responder.request().await.answer(503, &[("Retry-After", "3600")], "");
    let early = responder.request_within(Duration::from_millis(700)).await;
    assert!(early.is_none(), "{transport}: within the hour that was asked for");
    let answering = async {
        loop {
            let request = responder.request().await;
            let ack = json!({"ack": request.jtis()});
            request.answer(taken, &[], &ack.to_string());
        }
    };
    let verifying = async {
        let verified = daemon.admin("POST", "/api/v1/peers/globex/verify", None).await;
        assert_eq!(verified.status(), 200, "{transport}: {}", verified.text());
        daemon.settled("globex", "event", "acked").await;
    };
    tokio::select! {
        () = verifying => {}
        () = answering => unreachable!("it never ends"),
    }
}

/// `status` advises it once the partner is mended, and an hour's wait may be left of what it had asked for.
#[tokio::test]
async fn to_verify_a_partner_ends_the_rest_that_it_has_asked_for() {
    tokio::join!(verified_at_once("http", 200), verified_at_once("push", 202), verified_at_once("multi-push", 202));
}

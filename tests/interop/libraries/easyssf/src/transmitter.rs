//! easyssf-test's transmitter, which works in-process, behind a socket. A line of standard input names a kind of SET to
//! queue, which is told as `queued JTI`; or it is `tell`, which is answered by what has been said about SETs so far.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use axum::{Router, serve as serve_on};
use easyssf_receiver::http::{SsfHttpClient, SsfHttpRequest};
use easyssf_test::{TestSigningKey, TestTransmitter, subjects};
use serde_json::{Map, json};

use crate::{Error, each_line, listen};

const EVENT: &str = "CaepSessionRevoked";

/// Serves polls and keys until standard input ends.
pub async fn serve() -> Result<(), Error> {
    let transmitter = TestTransmitter::new();
    transmitter.set_long_poll_hold(Duration::from_secs(5));
    let app = Router::new().fallback(answer).with_state(transmitter.clone());
    let server = serve_on(listen().await?, app);
    tokio::select! {
        ended = server => ended?,
        () = each_line(move |line| if line == "tell" { tell(&transmitter) } else { queue(&transmitter, &line) }) => {}
    }
    Ok(())
}

fn tell(transmitter: &TestTransmitter) {
    let told = json!({
        "acknowledged": transmitter.acknowledged_sets(),
        "errors": transmitter.reported_errors().into_iter().collect::<Map<_, _>>(),
        "left": transmitter.queued_set_count(),
    });
    println!("told {told}");
}

/// Queues one SET: `sound`, or with one fault.
fn queue(transmitter: &TestTransmitter, kind: &str) {
    let subject = Some(subjects::iss_sub(transmitter.issuer(), "alice"));
    let mut claims = transmitter.set_claims(EVENT, subject);
    match kind {
        "another-audience" => claims["aud"] = json!("https://other.example"),
        "another-issuer" => claims["iss"] = json!("https://mallory.example"),
        "no-subject" => drop(claims.remove("sub_id")),
        _ => {}
    }
    let set = match kind {
        "another-key" => {
            let key = TestSigningKey::generate(1024, "unpublished");
            TestTransmitter::sign(&key, Some(TestTransmitter::SECEVENT_JWT_TYPE), &claims)
        }
        "no-type" => TestTransmitter::sign(transmitter.key(), None, &claims),
        "no-signature" => TestTransmitter::unsigned(&claims),
        _ => transmitter.sign_set(&claims),
    };
    let jti = claims["jti"].as_str().expect("a text");
    transmitter.queue_set(&set);
    println!("queued {jti}");
}

/// Carries a request to the transmitter and its answer back.
async fn answer(State(transmitter): State<TestTransmitter>, request: Request) -> Response {
    let url = format!("https://transmitter.example{}", request.uri()).parse().expect("a URL");
    let mut asked = SsfHttpRequest::of(request.method().as_str(), url);
    for (name, value) in request.headers() {
        asked = asked.with_header(name.as_str(), value.to_str().unwrap_or_default());
    }
    let body = to_bytes(request.into_body(), 1 << 24).await.unwrap_or_default();
    asked.body = Some(String::from_utf8_lossy(&body).into_owned());
    let answered = transmitter.execute(asked).await.expect("it never fails");
    let mut response = Response::new(Body::from(answered.body));
    *response.status_mut() = StatusCode::from_u16(answered.status).expect("a status");
    for (name, value) in &answered.headers {
        let name: HeaderName = name.parse().expect("a name");
        response.headers_mut().append(name, HeaderValue::from_str(value).expect("a value"));
    }
    response
}

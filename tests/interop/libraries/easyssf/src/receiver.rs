//! easyssf-receiver: it takes pushes, or polls, and verifies what comes. One line on standard output for each SET that it
//! hands to its application.

use std::{env, time::Duration};

use easyssf_receiver::config::{SsfDeliveryMethodConfig, SsfReceiverConfig, SsfTransmitterConfig};
use easyssf_receiver::event::SsfEventContext;
use easyssf_receiver::http::{SsfHttpClient, SsfHttpRequest, SsfHttpResponse};
use easyssf_receiver::{BoxError, SsfReceiver};
use easyssf_receiver_axum::push_router_for;

use crate::{Error, each_line, listen};

/// Takes pushes at `/push` until standard input ends.
pub async fn take_pushes() -> Result<(), Error> {
    let mut config = config()?;
    let transmitter = &mut config.transmitter;
    transmitter.push.expected_auth_header = Some(format!("Bearer {}", env::var("TOKEN")?));
    transmitter.push.endpoint_path = "/push".to_owned();
    let receiver = receiver(config)?;
    receiver.start();
    let server = axum::serve(listen().await?, push_router_for(&receiver));
    tokio::select! {
        ended = server => ended?,
        () = each_line(drop) => receiver.shutdown().await,
    }
    Ok(())
}

/// Polls until standard input ends, then acknowledges what it still owes.
pub async fn poll(url: &str, waits: bool) -> Result<(), Error> {
    let mut config = config()?;
    let SsfTransmitterConfig { delivery_method, transmitter_access_token, poll, .. } = &mut config.transmitter;
    *delivery_method = SsfDeliveryMethodConfig::Poll;
    *transmitter_access_token = Some(env::var("TOKEN")?);
    poll.endpoint_url = Some(url.parse()?);
    poll.initial_delay = Duration::ZERO;
    poll.interval = Duration::from_secs(1);
    poll.max_events = 20;
    poll.long_polling = waits;
    let receiver = receiver(config)?;
    receiver.start();
    each_line(drop).await;
    receiver.shutdown().await;
    Ok(())
}

/// What the environment says of the SETs to come: `ISSUER`, `AUDIENCE`, `JWKS_URL` and, where it is not RS256, `ALG`.
fn config() -> Result<SsfReceiverConfig, Error> {
    let mut config = SsfReceiverConfig::for_transmitter(&env::var("ISSUER")?);
    let transmitter = &mut config.transmitter;
    transmitter.transmitter_jwks_url = Some(env::var("JWKS_URL")?.parse()?);
    transmitter.expected_audience = Some(env::var("AUDIENCE")?);
    if let Ok(alg) = env::var("ALG") {
        transmitter.set_validation.accepted_algorithms = vec![alg];
    }
    Ok(config)
}

fn receiver(config: SsfReceiverConfig) -> Result<SsfReceiver, Error> {
    let handler = |context: SsfEventContext| async move {
        println!("SET {}", context.event_token().jti());
        Ok(())
    };
    Ok(SsfReceiver::builder(config).http_client(Plain).handler(handler).build()?)
}

/// Carries the crate's requests over plain HTTP. The crate's own client brings a TLS library along, which takes long to build.
struct Plain;

#[async_trait::async_trait]
impl SsfHttpClient for Plain {
    async fn execute(&self, request: SsfHttpRequest) -> Result<SsfHttpResponse, BoxError> {
        tokio::task::spawn_blocking(move || exchange(request)).await?
    }
}

fn exchange(request: SsfHttpRequest) -> Result<SsfHttpResponse, BoxError> {
    let timeout = request.timeout.unwrap_or(Duration::from_secs(5));
    let mut call = ureq::request_url(&request.method, &request.url).timeout(timeout);
    for (name, value) in &request.headers {
        call = call.set(name, value);
    }
    let called = match request.body {
        Some(body) => call.send_string(&body),
        None => call.call(),
    };
    let answer = match called {
        Ok(answer) | Err(ureq::Error::Status(_, answer)) => answer,
        Err(error) => return Err(error.into()),
    };
    let value = |name: &String| (name.clone(), answer.header(name).unwrap_or_default().to_owned());
    let headers = answer.headers_names().iter().map(value).collect();
    Ok(SsfHttpResponse { status: answer.status(), headers, body: answer.into_string()? })
}

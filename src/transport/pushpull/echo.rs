//! A WebSocket of ours on which whatever comes goes back, for suites of tests that speak WebSocket and not push-pull.
//! Handshake, limits, watch, reading, writing and closing are those of the real links. The program never uses it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderValue, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::Message;

use super::accept::{check, socket, switching};
use super::dialler::Refused;
use super::elastic::Elastic;
use super::websocket::{End, Hearing, Speaking, Wire};
use super::{Config, Dial, SUBPROTOCOL};
use crate::clock::Clock;
use crate::engine::{Bucket, Empty, Rate};

/// Answers a handshake as `GET /pushpull` of a partner is answered, but for the subprotocol: the suites offer none.
pub fn answer(mut request: Request<Body>, config: Arc<Config>, clock: Arc<dyn Clock>) -> Response<Body> {
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    let accept = match check(request.version(), request.headers()) {
        Ok(accept) => accept,
        Err(refusal) => return refusal,
    };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(io) = upgraded.await {
            run(socket(TokioIo::new(io), &config).await, config, clock).await;
        }
    });
    let mut response = switching(accept);
    response.headers_mut().remove(SEC_WEBSOCKET_PROTOCOL);
    response
}

/// Dials as a partner is dialled, again but for the subprotocol, and echoes until the connection ends: how it ended, or
/// why there was none.
pub async fn dial(dial: &Dial, config: Arc<Config>) -> Result<String, String> {
    let mut request = dial.request().map_err(|error| error.to_string())?;
    request.headers_mut().remove(SEC_WEBSOCKET_PROTOCOL);
    match dial.open_by(request, &config).await {
        Ok(socket) => Ok(run(socket, config, Arc::clone(&dial.clock)).await),
        Err(Refused::Unreachable(why) | Refused::Handshake(why) | Refused::Busy(why, _)) => Err(why),
    }
}

async fn run<S>(socket: Elastic<S>, config: Arc<Config>, clock: Arc<dyn Clock>) -> String
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (heard, to_say) = mpsc::channel(1);
    let (said, left) = mpsc::channel(1);
    // Held to the end: it is never time to stop.
    let (_running, stop) = watch::channel(false);
    let ear = Ear { heard, left, messages: Bucket::default(), clock };
    let mut wire = Wire::new(socket, ear, config, stop, None);
    let end = wire.converse(&mut Mouth { to_say, said }).await;
    wire.part(&end).await;
    end.farewell().why
}

/// Passes every message on, and waits until it has gone back: only then the next one is read, so that what was well said
/// is answered before what follows breaks the connection.
struct Ear {
    heard: mpsc::Sender<Message>,
    left: mpsc::Receiver<()>,
    messages: Bucket,
    clock: Arc<dyn Clock>,
}

impl Hearing for Ear {
    fn pay(&self, rate: Rate) -> Result<(), Empty> {
        self.messages.take(rate, self.now())
    }

    async fn hear(&mut self, message: Message) -> Result<(), End> {
        // A mouth that is gone has ended the connection by itself.
        if self.heard.send(message).await.is_ok() {
            self.left.recv().await;
        }
        Ok(())
    }
}

impl Ear {
    fn now(&self) -> Duration {
        self.clock.now().mono
    }
}

struct Mouth {
    to_say: mpsc::Receiver<Message>,
    said: mpsc::Sender<()>,
}

impl Speaking for Mouth {
    async fn next(&mut self) -> Option<Result<Message, End>> {
        self.to_say.recv().await.map(Ok)
    }

    async fn left(&mut self, _: usize) {
        // Nobody waits for it any more when the connection has ended.
        let _ = self.said.send(()).await;
    }

    fn alive(&mut self) {}
}

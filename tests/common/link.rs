//! One table of faults, two bindings: how a partner says something, and how it hears that this was void.

use serde_json::Value;

use super::daemon::Daemon;
use super::http::is_error;
use super::partner::Partner;
use super::socket::Socket;

/// A partner's way to the daemon.
pub(crate) enum Link<'d> {
    /// A request for each object.
    Http(&'d Daemon, &'d Partner),
    /// The same by multi-set push, which has no SETs for us.
    MultiPush(&'d Daemon, &'d Partner),
    /// One WebSocket, opened anew after it was closed.
    WebSocket(&'d Daemon, &'d Partner, Box<Socket>),
}

impl<'d> Link<'d> {
    pub(crate) fn http(daemon: &'d Daemon, partner: &'d Partner) -> Self {
        Self::Http(daemon, partner)
    }

    pub(crate) fn multi_push(daemon: &'d Daemon, partner: &'d Partner) -> Self {
        Self::MultiPush(daemon, partner)
    }

    pub(crate) async fn websocket(daemon: &'d Daemon, partner: &'d Partner) -> Self {
        Self::WebSocket(daemon, partner, Box::new(Socket::open(daemon, partner).await))
    }

    /// Waits for a SET of ours.
    pub(crate) async fn fetch(&mut self, jti: &str) -> String {
        match self {
            Self::Http(daemon, partner) | Self::MultiPush(daemon, partner) => partner.fetch(daemon, jti).await,
            Self::WebSocket(_, _, socket) => {
                socket.object_with(|object| object["sets"][jti].as_str().map(str::to_owned)).await
            }
        }
    }

    /// Says something that is accepted; the verdicts that come back.
    pub(crate) async fn say(&mut self, object: &Value) -> Value {
        match self {
            Self::Http(daemon, partner) => partner.exchange(daemon, object).await,
            Self::MultiPush(daemon, partner) => partner.push_many(daemon, object).await,
            Self::WebSocket(_, _, socket) => {
                socket.send(object).await;
                let verdicts = |object: &Value| object.get("ack").is_some() || object.get("setErrs").is_some();
                socket.object_with(|object| verdicts(object).then(|| object.clone())).await
            }
        }
    }

    /// Says something that is void as a whole: the status of the answer, or the code with which the WebSocket closes.
    pub(crate) async fn say_void(&mut self, bytes: &[u8]) -> u16 {
        match self {
            Self::Http(daemon, partner) => {
                let answer = partner.post(daemon, bytes).await;
                is_error(&answer, answer.status());
                answer.status()
            }
            Self::MultiPush(daemon, partner) => {
                let mut wire = daemon.connect().await;
                let answer = partner.post_to(&mut wire, "/multi-push", "application/json", bytes).await;
                is_error(&answer, answer.status());
                answer.status()
            }
            Self::WebSocket(daemon, partner, socket) => {
                socket.send_bytes(bytes).await;
                let code = socket.close_code().await.expect("a code");
                **socket = Socket::open(daemon, partner).await;
                code
            }
        }
    }

    /// Which of the two answers to a void object counts here.
    pub(crate) fn answer(&self, status: u16, code: u16) -> u16 {
        match self {
            Self::Http(..) | Self::MultiPush(..) => status,
            Self::WebSocket(..) => code,
        }
    }
}

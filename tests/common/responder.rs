//! A partner that is dialled: each request waits for the test to say how it is answered.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::Either;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::http::{Message, Wire};
use super::partner::opened;
use super::socket::Socket;
use super::soon;

/// A listening partner, without TLS. It also publishes keys.
pub(crate) struct Responder {
    pub(crate) address: SocketAddr,
    behaviour: Arc<Mutex<Behaviour>>,
    requests: mpsc::UnboundedReceiver<Request>,
    sockets: mpsc::UnboundedReceiver<(Message, Socket)>,
}

/// What it does by itself.
#[derive(Default)]
struct Behaviour {
    /// The status that refuses WebSockets; none accepts them.
    refuse_websocket: Option<u16>,
    /// WebSockets get no answer at all, not even a refusal.
    swallow_websocket: bool,
    /// Header lines that nobody asked for, in the answer to a handshake.
    handshake_extra: &'static str,
    /// What `/jwks.json` shows; a 503 without it.
    jwks: Option<Value>,
    /// How long it thinks before it shows them.
    jwks_after: Duration,
    handshakes_refused: usize,
    jwks_asked: usize,
}

/// A POST that waits for its answer.
pub(crate) struct Request {
    pub(crate) message: Message,
    pub(crate) at: Instant,
    reply: oneshot::Sender<Option<Vec<u8>>>,
}

impl Responder {
    /// Listens. WebSockets are refused with a 404 until [`Responder::take_websockets`].
    pub(crate) async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let behaviour = Arc::new(Mutex::new(Behaviour { refuse_websocket: Some(404), ..Behaviour::default() }));
        let (asked, requests) = mpsc::unbounded_channel();
        let (opened, sockets) = mpsc::unbounded_channel();
        let shared = Arc::clone(&behaviour);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, Arc::clone(&shared), asked.clone(), opened.clone()));
            }
        });
        Self { address, behaviour, requests, sockets }
    }

    /// Keys of the `[[peer]]` block that lead here.
    pub(crate) fn keys(&self, transport: &str) -> String {
        let (scheme, path) = match transport {
            "push" | "multi-push" | "poll" => ("http", transport),
            "websocket" => ("ws", "pushpull"),
            _ => ("http", "pushpull"),
        };
        format!("transport = \"{transport}\"\nendpoint = \"{scheme}://{}/{path}\"", self.address)
    }

    pub(crate) fn jwks_uri(&self) -> String {
        format!("http://{}/jwks.json", self.address)
    }

    /// From now on these are the published keys; none at all makes it a 503.
    pub(crate) fn publish(&self, jwks: Option<Value>) {
        self.behaviour.lock().unwrap().jwks = jwks;
    }

    /// From now on an answer with keys takes so long.
    pub(crate) fn publish_slowly(&self, after: Duration) {
        self.behaviour.lock().unwrap().jwks_after = after;
    }

    /// How often the keys were asked for.
    pub(crate) fn jwks_asked(&self) -> usize {
        self.behaviour.lock().unwrap().jwks_asked
    }

    /// From now on WebSockets are refused with this status.
    pub(crate) fn refuse_websockets(&self, status: u16) {
        self.behaviour.lock().unwrap().refuse_websocket = Some(status);
    }

    pub(crate) fn take_websockets(&self) {
        self.behaviour.lock().unwrap().refuse_websocket = None;
    }

    /// From now on handshakes are read and not answered. They count as refused.
    pub(crate) fn swallow_websockets(&self) {
        self.behaviour.lock().unwrap().swallow_websocket = true;
    }

    /// Answers handshakes with these header lines too, also those that it refuses.
    pub(crate) fn add_to_handshakes(&self, lines: &'static str) {
        self.behaviour.lock().unwrap().handshake_extra = lines;
    }

    pub(crate) fn handshakes_refused(&self) -> usize {
        self.behaviour.lock().unwrap().handshakes_refused
    }

    /// The next request.
    pub(crate) async fn request(&mut self) -> Request {
        soon("a request", self.requests.recv()).await.unwrap()
    }

    /// The next request that has this SET; those before it are answered with an empty object.
    pub(crate) async fn request_with(&mut self, jti: &str) -> Request {
        self.request_that(|object| object["sets"].get(jti).is_some()).await
    }

    /// The next request whose object is so; those before it are answered with an empty object.
    pub(crate) async fn request_that(&mut self, is_so: impl Fn(&Value) -> bool) -> Request {
        let coming = async {
            loop {
                let request = self.request().await;
                if is_so(&request.object()) {
                    return request;
                }
                request.answer_object(&json!({}));
            }
        };
        soon("the request that was expected", coming).await
    }

    /// The next push of this SET; those of others before it are taken.
    pub(crate) async fn push_of(&mut self, jti: &str) -> Request {
        let coming = async {
            loop {
                let request = self.request().await;
                if request.pushed() == jti {
                    return request;
                }
                request.answer(202, &[], "");
            }
        };
        soon("the push that was expected", coming).await
    }

    /// A request that comes within this time, if one does.
    pub(crate) async fn request_within(&mut self, time: Duration) -> Option<Request> {
        tokio::time::timeout(time, self.requests.recv()).await.ok().flatten()
    }

    /// The next WebSocket that is opened, or the next request, whichever comes first.
    pub(crate) async fn socket_or_request(&mut self) -> Either<Socket, Request> {
        let coming = async {
            tokio::select! {
                Some((_, socket)) = self.sockets.recv() => Either::Left(socket),
                Some(request) = self.requests.recv() => Either::Right(request),
            }
        };
        soon("a WebSocket or a request", coming).await
    }

    /// The next WebSocket that is opened.
    pub(crate) async fn socket(&mut self) -> (Message, Socket) {
        soon("a WebSocket", self.sockets.recv()).await.unwrap()
    }
}

impl Request {
    /// The Communication Object in it.
    pub(crate) fn object(&self) -> Value {
        self.message.json()
    }

    /// The jtis of its SETs.
    pub(crate) fn jtis(&self) -> Vec<String> {
        if self.message.header("Content-Type") == Some("application/secevent+jwt") {
            return vec![self.pushed()];
        }
        self.object()["sets"].as_object().map(|sets| sets.keys().cloned().collect()).unwrap_or_default()
    }

    /// The jti of the SET that its body is.
    pub(crate) fn pushed(&self) -> String {
        let (_, claims) = opened(&self.message.text());
        claims["jti"].as_str().unwrap().to_owned()
    }

    pub(crate) fn answer(self, status: u16, headers: &[(&str, &str)], body: &str) {
        let mut text = format!("HTTP/1.1 {status} Whatever\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let _ = self.reply.send(Some(format!("{text}\r\n{body}").into_bytes()));
    }

    /// 200 and this object.
    pub(crate) fn answer_object(self, object: &Value) {
        self.answer(200, &[("Content-Type", "application/json")], &object.to_string());
    }

    /// 200 and an ack of each of its SETs; their jtis.
    pub(crate) fn ack(self) -> Vec<String> {
        let jtis = self.jtis();
        self.answer_object(&json!({"ack": jtis}));
        jtis
    }

    /// Closes the connection without an answer.
    pub(crate) fn lose(self) {
        let _ = self.reply.send(None);
    }
}

async fn converse(
    stream: TcpStream,
    behaviour: Arc<Mutex<Behaviour>>,
    asked: mpsc::UnboundedSender<Request>,
    opened: mpsc::UnboundedSender<(Message, Socket)>,
) {
    let mut wire = Wire::new(stream);
    while let Some(message) = wire.read().await {
        if message.header("upgrade").is_some() {
            let (refusal, swallow) = {
                let behaviour = behaviour.lock().unwrap();
                (behaviour.refuse_websocket, behaviour.swallow_websocket)
            };
            if swallow {
                behaviour.lock().unwrap().handshakes_refused += 1;
                let _ = wire.read().await;
                return;
            }
            let extra = behaviour.lock().unwrap().handshake_extra;
            if let Some(status) = refusal {
                behaviour.lock().unwrap().handshakes_refused += 1;
                let refusal = format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n{extra}\r\n");
                let _ = wire.write(refusal.as_bytes()).await;
                continue;
            }
            let accept = derive_accept_key(message.header("sec-websocket-key").unwrap().as_bytes());
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: pushpull\r\n{extra}\r\n"
            );
            let _ = wire.write(answer.as_bytes()).await;
            let _ = opened.send((message, Socket::over(wire, Role::Server).await));
            return;
        }
        if message.method() == "GET" {
            let (jwks, after) = {
                let mut behaviour = behaviour.lock().unwrap();
                behaviour.jwks_asked += 1;
                (behaviour.jwks.clone(), behaviour.jwks_after)
            };
            tokio::time::sleep(after).await;
            let (status, body) = jwks.map_or((503, String::new()), |jwks| (200, jwks.to_string()));
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = wire.write(answer.as_bytes()).await;
            continue;
        }
        let (reply, answer) = oneshot::channel();
        let _ = asked.send(Request { message, at: Instant::now(), reply });
        match answer.await {
            Ok(Some(bytes)) => {
                let _ = wire.write(&bytes).await;
            }
            // Lost, or the test is over.
            Ok(None) | Err(_) => return,
        }
    }
}

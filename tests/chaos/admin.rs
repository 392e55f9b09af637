//! A client of a daemon's admin API that takes it in its stride when the daemon is dead.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Speaks to one daemon, over one kept connection.
pub(crate) struct Client {
    address: String,
    token: String,
    /// And when it was last used.
    connection: Option<(SendRequest<Full<Bytes>>, Instant)>,
    /// What a call waits for.
    phase: Mutex<&'static str>,
}

/// An answer, whatever its status.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

/// There was no answer: whether the request had its effect is unknown.
pub(crate) struct NoAnswer;

/// A connection that was not used for so long is not used again: the daemon may just be closing it.
const IDLE: Duration = Duration::from_secs(2);

/// A call that takes longer is worth a line: every call to a live daemon is answered long before, and a dead one's
/// connections are reset.
const SLOW: Duration = Duration::from_secs(10);

/// Longest time for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

impl Client {
    pub(crate) fn new(address: String, token: String) -> Self {
        Self { address, token, connection: None, phase: Mutex::new("") }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<Answer, NoAnswer> {
        self.call(Method::GET, path, "application/json", Bytes::new()).await
    }

    pub(crate) async fn post(&mut self, path: &str, media: &str, body: String) -> Result<Answer, NoAnswer> {
        self.call(Method::POST, path, media, body.into()).await
    }

    /// The document at `path`, whatever the status; null if there is no answer for a long time.
    pub(crate) async fn document(&mut self, path: &str) -> Value {
        let asking = async {
            loop {
                match self.get(path).await {
                    Ok(answer) if answer.status != 503 => return answer.json(),
                    Ok(_) | Err(NoAnswer) => sleep(Duration::from_millis(50)).await,
                }
            }
        };
        timeout(PATIENCE, asking).await.unwrap_or_default()
    }

    async fn call(&mut self, method: Method, path: &str, media: &str, body: Bytes) -> Result<Answer, NoAnswer> {
        // A connection whose last request was given up must not be used again.
        let connection = self.connection.take();
        let what = format!("{method} {path}");
        let mut calling = Box::pin(async {
            let mut connection = match connection {
                Some((connection, used)) if !connection.is_closed() && used.elapsed() < IDLE => connection,
                _ => self.connect().await?,
            };
            self.waits_for("the connection to be ready");
            connection.ready().await.map_err(|_| NoAnswer)?;
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header(HOST, &self.address)
                .header(AUTHORIZATION, format!("Bearer {}", self.token))
                .header(CONTENT_TYPE, media)
                .body(Full::new(body))
                .expect("the request is well-formed");
            self.waits_for("the head of the answer");
            let response = connection.send_request(request).await.map_err(|_| NoAnswer)?;
            let status = response.status().as_u16();
            self.waits_for("the body of the answer");
            let body = response.into_body().collect().await.map_err(|_| NoAnswer)?.to_bytes();
            Ok((connection, Answer { status, body }))
        });
        let called = match timeout(SLOW, &mut calling).await {
            Ok(called) => called,
            Err(_) => {
                self.tell_slow(&what);
                timeout(PATIENCE, &mut calling).await.map_err(|_| NoAnswer)?
            }
        };
        drop(calling);
        let (connection, answer) = called?;
        self.connection = Some((connection, Instant::now()));
        Ok(answer)
    }

    fn waits_for(&self, phase: &'static str) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// What a call waits for, and what the system knows of the connections to this daemon: state 01 is established, 02 a SYN
    /// without an answer, 0A a listener with the length of its queue.
    fn tell_slow(&self, what: &str) {
        let phase = *self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        println!("  {} {what}: waits for {phase} since {SLOW:?}", self.address);
        let port = self.address.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()).unwrap_or_default();
        let port = format!(":{port:04X} ");
        let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        for socket in sockets.lines().filter(|line| line.contains(&port)) {
            println!("    {}", socket.trim());
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, NoAnswer> {
        self.waits_for("a connection");
        let stream = TcpStream::connect(&self.address).await.map_err(|_| NoAnswer)?;
        stream.set_nodelay(true).map_err(|_| NoAnswer)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|_| NoAnswer)?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

impl Answer {
    /// The JSON in it; null when there is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        format!("{} {}", self.status, String::from_utf8_lossy(&self.body))
    }
}

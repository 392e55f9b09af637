//! A small HTTP/1.1 client for one target: kept connections, bounded answers, no redirects, no compression. A 3xx is
//! an answer like any other.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout, timeout_at};

use super::dial::{ConnectError, Dialer};
use super::pin::Pin;
use super::target::Target;

/// Speaks to one target.
///
/// A connection carries one exchange at a time. When an exchange is over, its connection is kept for the next; requests
/// made at the same time get connections of their own.
#[derive(Debug)]
pub struct Client {
    dialer: Arc<Dialer>,
    target: Target,
    pin: Option<Pin>,
    kept: Mutex<Vec<Connection>>,
}

/// What one exchange may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest body of an answer, in bytes.
    pub body_bytes_max: usize,
    /// Longest time from the call to the last byte of the answer, connecting included.
    pub timeout: Duration,
    /// Longest time from when there is a connection, where that is to be less: then how long it takes to connect does not count.
    pub answer: Option<Duration>,
    /// Status and header fields are an answer whatever becomes of the body: one that is too long, broken off, compressed or
    /// too slow counts as empty, and its connection is not kept.
    pub head_counts: bool,
}

impl Limits {
    /// Until when a connection that is there now has to bring the answer, and what it is called if it does not.
    fn answer_by(&self, deadline: Instant) -> (Instant, Error) {
        let answer = self.answer.unwrap_or(self.timeout);
        (deadline.min(Instant::now() + answer), Error::TimedOut(answer))
    }
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status, whatever it is.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Why there is no answer. The partner may have seen the request in every case but [`Error::Connect`] and
/// [`Error::Unsendable`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The answer did not come in time.
    #[error("no complete answer came within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The connection broke before the answer was complete.
    #[error("the connection broke before the answer was complete: {0}")]
    Lost(String),
    /// What came is not HTTP.
    #[error("the answer is not HTTP/1.1: {0}")]
    Malformed(String),
    /// The answer is larger than we read.
    #[error("the answer is larger than {max} bytes")]
    TooLarge {
        /// The limit.
        max: usize,
    },
    /// The answer is compressed although we never ask for it.
    #[error("the answer has a Content-Encoding, which is never asked for and not read")]
    Encoded,
    /// The request cannot be built: a programming error.
    #[error("the request cannot be built: {0}")]
    Unsendable(String),
}

impl Client {
    /// A client for this target; with `pin`, it speaks to the holder of that key only. Connects at the first request.
    pub fn new(dialer: Arc<Dialer>, target: Target, pin: Option<Pin>) -> Self {
        Self { dialer, target: target.with_http_scheme(), pin, kept: Mutex::default() }
    }

    /// The target.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Posts a body.
    ///
    /// A request that meets a kept connection which the partner has just closed is sent once more on a new one, so the
    /// partner may see it twice; our protocols make that harmless. Dropping the future closes the connection.
    pub async fn post(&self, headers: HeaderMap, body: Bytes, limits: Limits) -> Result<Response, Error> {
        self.exchange(Method::POST, headers, body, limits).await
    }

    /// Gets the target. Everything said of [`Client::post`] holds.
    pub async fn get(&self, headers: HeaderMap, limits: Limits) -> Result<Response, Error> {
        self.exchange(Method::GET, headers, Bytes::new(), limits).await
    }

    async fn exchange(
        &self,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
        limits: Limits,
    ) -> Result<Response, Error> {
        let request = self.request(method, headers, body)?;
        let deadline = Instant::now() + limits.timeout;
        let work = async {
            if let Some(mut kept) = self.take() {
                let (by, late) = limits.answer_by(deadline);
                match timeout_at(by, kept.head(request.clone())).await.unwrap_or(Err(late)) {
                    Ok(answer) => return self.finish(kept, answer, limits, by).await,
                    Err(Error::Lost(_)) => {}
                    Err(other) => return Err(other),
                }
            }
            let mut fresh = Connection::open(self.dialer.connect(&self.target, self.pin.as_ref()).await?).await?;
            let (by, late) = limits.answer_by(deadline);
            let answer = timeout_at(by, fresh.head(request)).await.unwrap_or(Err(late))?;
            self.finish(fresh, answer, limits, by).await
        };
        timeout_at(deadline, work).await.unwrap_or(Err(Error::TimedOut(limits.timeout)))
    }

    fn request(&self, method: Method, headers: HeaderMap, body: Bytes) -> Result<Request<Full<Bytes>>, Error> {
        let unsendable = |error: http::Error| Error::Unsendable(error.to_string());
        let host = HeaderValue::try_from(self.target.authority()).map_err(|error| unsendable(error.into()))?;
        let mut request = Request::builder()
            .method(method)
            .uri(self.target.path().as_str())
            .body(Full::new(body))
            .map_err(unsendable)?;
        *request.headers_mut() = headers;
        request.headers_mut().insert(HOST, host);
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
        Ok(request)
    }

    async fn finish(
        &self,
        connection: Connection,
        answer: http::Response<Incoming>,
        limits: Limits,
        deadline: Instant,
    ) -> Result<Response, Error> {
        let (head, body) = answer.into_parts();
        let reading = async {
            let plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
            if !head.headers.get_all(CONTENT_ENCODING).iter().all(plain) {
                return Err(Error::Encoded);
            }
            read(body, limits.body_bytes_max).await
        };
        let body = if limits.head_counts {
            // Before the deadline of the whole exchange, or the head would be lost with it.
            let patience = (deadline.saturating_duration_since(Instant::now()) / 2).min(BODY_WITHIN);
            timeout(patience, reading).await.unwrap_or(Err(Error::TimedOut(patience)))
        } else {
            reading.await
        };
        let body = match body {
            Ok(body) => {
                self.keep(connection);
                body
            }
            Err(_) if limits.head_counts => Bytes::new(),
            Err(error) => return Err(error),
        };
        Ok(Response { status: head.status, headers: head.headers, body })
    }

    fn take(&self) -> Option<Connection> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|connection| !connection.sender.is_closed() && connection.idle_since.elapsed() < IDLE_MAX);
        kept.pop()
    }

    fn keep(&self, mut connection: Connection) {
        connection.idle_since = Instant::now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX && !connection.sender.is_closed() {
            kept.push(connection);
        }
    }
}

/// One connection and the task that drives it.
#[derive(Debug)]
struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: tokio::task::AbortHandle,
    idle_since: Instant,
}

impl Connection {
    async fn open(stream: super::Stream) -> Result<Self, Error> {
        let mut builder = http1::Builder::new();
        builder.max_header_size(HEADER_BYTES_MAX);
        let (sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|error| Error::Lost(error.to_string()))?;
        let driver = tokio::spawn(async {
            // Its end is reported to whoever waits for an answer; without one there is nobody to tell.
            let _ = connection.await;
        });
        Ok(Self { sender, driver: driver.abort_handle(), idle_since: Instant::now() })
    }

    /// Sends the request and waits for the head of the answer. [`Error::Lost`] says that not even a head came.
    async fn head(&mut self, request: Request<Full<Bytes>>) -> Result<http::Response<Incoming>, Error> {
        self.sender.ready().await.map_err(judge)?;
        self.sender.send_request(request).await.map_err(judge)
    }
}

impl Drop for Connection {
    /// A partner that stopped reading would hold the driver, and with it the request, for ever.
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn read(mut body: Incoming, max: usize) -> Result<Bytes, Error> {
    if body.size_hint().lower() > max as u64 {
        return Err(Error::TooLarge { max });
    }
    let mut whole = bytes::BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(judge)?.into_data() else { continue };
        if whole.len() + data.len() > max {
            return Err(Error::TooLarge { max });
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

fn judge(error: hyper::Error) -> Error {
    if error.is_parse() { Error::Malformed(error.to_string()) } else { Error::Lost(error.to_string()) }
}

const AGENT: &str = concat!("pushpull/", env!("CARGO_PKG_VERSION"));
/// Kept connections; more than a push transmitter has requests under way are no use.
const KEPT_MAX: usize = 16;
/// Servers commonly close idle connections after 60 to 75 seconds; being first avoids the race.
const IDLE_MAX: Duration = Duration::from_secs(50);
const HEADER_BYTES_MAX: usize = 32 * 1024;
/// How long the rest of an answer is waited for whose head says enough.
const BODY_WITHIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;

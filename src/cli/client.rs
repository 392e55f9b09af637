//! A client of the daemon's admin API: HTTP/1.1 over one kept connection, and what its refusals mean for the exit code.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::auth::Secret;
use crate::codes::{Code, Who};

use super::output::clean;
use super::{Error, Exit};

/// How long the daemon may take for an answer, beyond what it was asked to wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest answer that is read; an inbox page of large SETs stays far below.
const BODY_BYTES_MAX: usize = 1 << 30;

/// Speaks to one daemon.
pub(super) struct Client {
    address: String,
    token: Secret,
    connection: Option<SendRequest<Full<Bytes>>>,
    /// Somebody has taken a connection at that address.
    reached: bool,
    connections: u64,
}

/// An answer, whatever its status.
pub(super) struct Response {
    pub(super) status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// There was no answer. The daemon may have seen the request all the same.
#[derive(Debug)]
pub(super) struct NoAnswer {
    address: String,
    fault: String,
    /// There is a daemon: what it was asked may have been done.
    pub(super) reached: bool,
}

/// A request.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    /// Path and query, already encoded.
    pub(super) path: &'a str,
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
    /// How long the daemon was asked to wait before it answers.
    pub(super) wait: Duration,
}

impl Call<'_> {
    pub(super) fn get(path: &str) -> Call<'_> {
        Call { method: Method::GET, path, content_type: "", body: Bytes::new(), wait: Duration::ZERO }
    }

    pub(super) fn delete(path: &str) -> Call<'_> {
        Call { method: Method::DELETE, ..Call::get(path) }
    }

    pub(super) fn post<'a>(path: &'a str, content_type: &'static str, body: impl Into<Bytes>) -> Call<'a> {
        Call { method: Method::POST, path, content_type, body: body.into(), wait: Duration::ZERO }
    }

    pub(super) fn post_json<'a>(path: &'a str, body: &Value) -> Call<'a> {
        Call::post(path, "application/json", body.to_string())
    }

    pub(super) fn waiting(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }
}

impl Client {
    pub(super) fn new(address: String, token: Secret) -> Self {
        Self { address, token, connection: None, reached: false, connections: 0 }
    }

    /// Makes a request and takes the answer, which must be a success, as JSON.
    pub(super) async fn json(&mut self, call: Call<'_>) -> Result<Value, Error> {
        self.call(&call).await?.into_json()
    }

    /// How many connections there have been. Behind another one there may be another daemon, or another store.
    pub(super) fn connections(&self) -> u64 {
        self.connections
    }

    /// Makes a request by the connection that there is; `None` if the daemon has closed it.
    pub(super) async fn call_kept(&mut self, call: &Call<'_>) -> Option<Result<Response, NoAnswer>> {
        self.timed(call, false).await.transpose()
    }

    /// Makes a request. A connection that the daemon has closed meanwhile is replaced, once.
    pub(super) async fn call(&mut self, call: &Call<'_>) -> Result<Response, NoAnswer> {
        let answer = self.timed(call, true).await?;
        answer.ok_or_else(|| self.no_answer("no connection".to_owned()))
    }

    fn no_answer(&self, fault: String) -> NoAnswer {
        NoAnswer { address: self.address.clone(), fault, reached: self.reached }
    }

    async fn timed(&mut self, call: &Call<'_>, may_connect: bool) -> Result<Option<Response>, NoAnswer> {
        let limit = call.wait + PATIENCE;
        let answer = tokio::time::timeout(limit, self.exchange(call, may_connect)).await;
        answer.unwrap_or_else(|_| Err(format!("no answer within {} s", limit.as_secs()))).map_err(|fault| {
            self.connection = None;
            self.no_answer(fault)
        })
    }

    /// `None` where there is no connection and none may be made.
    async fn exchange(&mut self, call: &Call<'_>, may_connect: bool) -> Result<Option<Response>, String> {
        if let Some(connection) = &mut self.connection {
            if connection.ready().await.is_ok() {
                match connection.send_request(request(&self.address, &self.token, call)?).await {
                    Ok(answer) => return read(answer).await.map(Some),
                    // Never left this process: the kept connection had been closed.
                    Err(error) if error.is_canceled() => {}
                    Err(error) => return Err(format!("the connection broke: {error}")),
                }
            }
            self.connection = None;
        }
        if !may_connect {
            return Ok(None);
        }
        let mut connection = connect(&self.address).await?;
        self.reached = true;
        self.connections += 1;
        let answer = connection.send_request(request(&self.address, &self.token, call)?).await;
        let answer = answer.map_err(|error| format!("the connection broke: {error}"))?;
        self.connection = Some(connection);
        read(answer).await.map(Some)
    }
}

async fn connect(address: &str) -> Result<SendRequest<Full<Bytes>>, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => error.to_string(),
    })?;
    // Without it a request in two writes waits for the other side's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let (connection, driver) = handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // Ends by itself when the sender is dropped or the daemon closes; errors surface at the request.
    tokio::spawn(driver);
    Ok(connection)
}

fn request(address: &str, token: &Secret, call: &Call<'_>) -> Result<Request<Full<Bytes>>, String> {
    let mut request = Request::builder()
        .method(call.method.clone())
        .uri(call.path)
        .header(header::HOST, address)
        .header(header::AUTHORIZATION, token.to_bearer())
        .header(header::ACCEPT, "application/json");
    if !call.content_type.is_empty() {
        request = request.header(header::CONTENT_TYPE, HeaderValue::from_static(call.content_type));
    }
    request.body(Full::new(call.body.clone())).map_err(|error| error.to_string())
}

async fn read(answer: http::Response<hyper::body::Incoming>) -> Result<Response, String> {
    let (head, body) = answer.into_parts();
    let body =
        Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|error| format!("the answer broke off: {error}"))?;
    Ok(Response { status: head.status, headers: head.headers, body: body.to_bytes() })
}

impl Response {
    /// The body of a success as JSON; everything else as the error that it is.
    pub(super) fn into_json(self) -> Result<Value, Error> {
        if !self.status.is_success() {
            return Err(self.into_error());
        }
        serde_json::from_slice(&self.body).map_err(|_| {
            Error::failed("the daemon's answer is no JSON").fix("is it really a pushpull daemon that --admin names?")
        })
    }

    /// How long the daemon asks us to stay away.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        crate::wire::net::retry_after(&self.headers, crate::clock::Timestamp::default())
    }

    /// The members of a problem document; empty when the answer is none.
    pub(super) fn problem(&self) -> serde_json::Map<String, Value> {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// What a refusal says, in one line.
    pub(super) fn detail(&self) -> String {
        let problem = self.problem();
        let texts = ["detail", "title", "description"].into_iter().filter_map(|name| problem.get(name)?.as_str());
        texts.map(clean).next().unwrap_or_else(|| format!("the daemon answered {}", self.status))
    }

    /// The error that a refusal is.
    pub(super) fn into_error(self) -> Error {
        let problem = self.problem();
        let (exit, fix) = match self.status.as_u16() {
            401 | 403 => {
                (Exit::NotAllowed, Some("name the daemon's token with --token-file, or its configuration with -c"))
            }
            404 => (Exit::NotFound, None),
            409 => (Exit::Conflict, None),
            422 => (Exit::ConfigInvalid, None),
            421 => (Exit::NotAllowed, Some("add the host name to admin.hosts, or use an address with --admin")),
            502 => (Exit::PartnerRefused, None),
            504 => (Exit::TimedOut, None),
            _ => (Exit::Failed, None),
        };
        let error = Error::new(exit, self.detail());
        let text = |name: &str| problem.get(name).and_then(Value::as_str);
        let error = match (text("code"), text("code").and_then(Code::find)) {
            (_, Some(code)) => error.code(code),
            // A newer daemon knows codes that we do not.
            (Some(code), None) => error.found(format!("HTTP {}, code {}", self.status.as_u16(), clean(code))),
            (None, None) => error.found(format!("HTTP {}", self.status.as_u16())),
        };
        let error = match text("who_acts") {
            Some(who) if who != Who::You.as_str() => error.who_acts(clean(who)),
            _ => error,
        };
        match text("fix").map(clean).or(fix.map(str::to_owned)) {
            Some(fix) => error.fix(fix),
            None => error,
        }
    }
}

impl From<NoAnswer> for Error {
    fn from(no_answer: NoAnswer) -> Self {
        Self::new(Exit::Unreachable, format!("no daemon answers on {}", no_answer.address))
            .found(no_answer.fault)
            .fix("is `pushpull serve` running? Name its address with --admin, or its configuration with -c")
    }
}

/// A path segment or query value: everything but unreserved characters is escaped (RFC 3986 §2.3).
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Response {
        let status = StatusCode::from_u16(status).unwrap();
        Response { status, headers: HeaderMap::new(), body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    #[test]
    fn a_refusal_becomes_the_exit_code_of_its_kind() {
        for (status, exit) in [
            (400, Exit::Failed),
            (401, Exit::NotAllowed),
            (403, Exit::NotAllowed),
            (404, Exit::NotFound),
            (409, Exit::Conflict),
            (500, Exit::Failed),
            (502, Exit::PartnerRefused),
            (503, Exit::Failed),
            (504, Exit::TimedOut),
        ] {
            assert_eq!(answer(status, "").into_json().expect_err("no success").exit, exit, "{status}");
        }
    }

    #[test]
    fn a_problem_document_is_shown_with_its_code_and_without_control_characters() {
        let body = r#"{"code":"unknown-peer","detail":"there is no peer \u001b[2Jglobx","title":"not found"}"#;
        let text = answer(404, body).into_error().to_string();
        assert!(text.starts_with("error[not_found]: there is no peer \\u{1b}[2Jglobx"), "{text}");
        assert!(text.contains("code unknown-peer"), "a code of a newer daemon is shown all the same: {text}");
    }

    #[test]
    fn identifiers_are_escaped_in_paths() {
        assert_eq!(escape("a/b?c=d ü"), "a%2Fb%3Fc%3Dd%20%C3%BC");
        assert_eq!(escape("01939f2e-7c1a"), "01939f2e-7c1a");
    }
}

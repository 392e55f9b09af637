//! HTTP/1.1 by hand, both sides: every byte that is sent is the test's own choice.

use std::io;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// A connection, plain or TLS.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Any connection.
pub(crate) type Stream = Box<dyn Io>;

/// A request or an answer, whole.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// The request line or the status line.
    pub(crate) first: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// The status of an answer.
    pub(crate) fn status(&self) -> u16 {
        self.first.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The method of a request.
    pub(crate) fn method(&self) -> &str {
        self.first.split(' ').next().unwrap()
    }

    /// The path of a request.
    pub(crate) fn path(&self) -> &str {
        self.first.split(' ').nth(1).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One connection and what has been read of it too far.
pub(crate) struct Wire {
    pub(crate) stream: Stream,
    pub(crate) buffer: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: impl Io + 'static) -> Self {
        Self { stream: Box::new(stream), buffer: Vec::new() }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The next message; `None` when the connection ended before it was complete.
    pub(crate) async fn read(&mut self) -> Option<Message> {
        let mut message = self.read_head().await?;
        let length = message.header("content-length").map_or(0, |length| length.parse().unwrap());
        assert!(message.header("transfer-encoding").is_none(), "chunks are not spoken here: {message:?}");
        while self.buffer.len() < length {
            self.more().await?;
        }
        message.body = self.buffer.drain(..length).collect();
        Some(message)
    }

    /// The next message's head; its body stays unread.
    pub(crate) async fn read_head(&mut self) -> Option<Message> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let head = String::from_utf8(self.buffer.drain(..end).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let first = lines.next().unwrap().to_owned();
        let field = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        Some(Message { first, headers: lines.filter_map(field).collect(), body: Vec::new() })
    }

    /// Whether the other side has ended the connection without another byte.
    pub(crate) async fn ended(&mut self) -> bool {
        self.buffer.is_empty() && self.more().await.is_none()
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Option<Message>> {
        let request = request(method, path, headers, body);
        self.write(&request).await?;
        Ok(self.read().await)
    }

    async fn more(&mut self) -> Option<()> {
        let read = self.stream.read_buf(&mut self.buffer).await.ok()?;
        (read > 0).then_some(())
    }
}

/// The bytes of a request. `Host` and `Content-Length` are added unless they are given.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let given = |name: &str| headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    if !given("host") {
        head.push_str("Host: localhost\r\n");
    }
    if !given("content-length") && (!body.is_empty() || method == "POST") {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut bytes = (head + "\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// An error in the one form that there is.
#[track_caller]
pub(crate) fn is_error(answer: &Message, status: u16) {
    assert_eq!(answer.status(), status, "{answer:?} {}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"), "{answer:?}");
    assert_eq!(answer.header("content-language"), Some("en"), "{answer:?}");
    let error = answer.json();
    assert!(error["err"].is_string() && error["description"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
    assert_eq!(error.as_object().unwrap().len(), 2, "{error}");
}

//! A partner's end of a WebSocket.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::Frame as RawFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::daemon::Daemon;
use super::http::{Message, Stream, Wire};
use super::partner::Partner;
use super::soon;

/// The key of every handshake; its answer is known.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// What came by a WebSocket.
#[derive(Debug)]
pub(crate) enum Came {
    /// A text message, which is JSON.
    Object(Value),
    /// A pong.
    Pong(Vec<u8>),
    /// The daemon closed it with this code.
    Close(u16),
    /// The connection is gone without a word.
    Gone,
}

/// An open WebSocket.
pub(crate) struct Socket(WebSocketStream<Stream>);

impl Socket {
    /// Opens one to the daemon, with what a partner sends.
    pub(crate) async fn open(daemon: &Daemon, partner: &Partner) -> Self {
        let bearer = partner.bearer();
        match Self::knock(daemon, &[("Authorization", &bearer)], &[]).await {
            Ok((socket, _)) => socket,
            Err(refusal) => panic!("no WebSocket: {refusal:?} {}", refusal.text()),
        }
    }

    /// Opens one and leaves every byte of it to the test.
    pub(crate) async fn open_raw(daemon: &Daemon, partner: &Partner) -> Wire {
        let bearer = partner.bearer();
        match Self::handshake(daemon, &[("Authorization", &bearer)], &[]).await {
            (wire, answer) if answer.status() == 101 => wire,
            (_, answer) => panic!("no WebSocket: {answer:?} {}", answer.text()),
        }
    }

    /// Tries to open one, with these header fields added and those left out. The daemon's answer either way.
    pub(crate) async fn knock(
        daemon: &Daemon,
        more: &[(&str, &str)],
        without: &[&str],
    ) -> Result<(Self, Message), Message> {
        let (wire, answer) = Self::handshake(daemon, more, without).await;
        if answer.status() != 101 {
            return Err(answer);
        }
        assert_eq!(answer.header("sec-websocket-accept"), Some(derive_accept_key(KEY.as_bytes()).as_str()));
        Ok((Self::over(wire, Role::Client).await, answer))
    }

    async fn handshake(daemon: &Daemon, more: &[(&str, &str)], without: &[&str]) -> (Wire, Message) {
        let usual = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", KEY),
            ("Sec-WebSocket-Protocol", "pushpull"),
        ];
        let replaced =
            |name: &str| without.contains(&name) || more.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
        let mut headers: Vec<_> = usual.into_iter().filter(|(name, _)| !replaced(name)).collect();
        headers.extend_from_slice(more);
        let mut wire = daemon.connect().await;
        let answer = soon("a handshake", wire.ask("GET", "/pushpull", &headers, b"")).await.unwrap();
        (wire, answer.expect("an answer to the handshake"))
    }

    /// Goes on with a connection whose handshake is done.
    pub(crate) async fn over(wire: Wire, role: Role) -> Self {
        Self(WebSocketStream::from_partially_read(wire.stream, wire.buffer, role, None).await)
    }

    pub(crate) async fn send(&mut self, object: &Value) {
        self.frame(Frame::text(object.to_string())).await;
    }

    /// Sends a text message of these bytes, UTF-8 or not.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        let frame = RawFrame::message(bytes.to_vec(), OpCode::Data(Data::Text), true);
        self.frame(Frame::Frame(frame)).await;
    }

    /// Sends anything. That the daemon may be gone already shows when reading.
    pub(crate) async fn frame(&mut self, frame: Frame) {
        let _ = soon("sending", self.0.send(frame)).await;
    }

    /// The next thing that comes, pings aside, which are answered.
    pub(crate) async fn next(&mut self) -> Came {
        loop {
            match soon("a frame", self.0.next()).await {
                Some(Ok(Frame::Text(text))) => return Came::Object(serde_json::from_str(&text).unwrap()),
                Some(Ok(Frame::Pong(bytes))) => return Came::Pong(bytes.to_vec()),
                Some(Ok(Frame::Close(Some(close)))) => return Came::Close(close.code.into()),
                Some(Ok(Frame::Close(None))) | Some(Err(_)) | None => return Came::Gone,
                Some(Ok(Frame::Ping(_))) => soon("a pong", self.0.flush()).await.unwrap(),
                Some(Ok(other)) => panic!("{other:?}"),
            }
        }
    }

    /// The next object.
    pub(crate) async fn object(&mut self) -> Value {
        match self.next().await {
            Came::Object(object) => object,
            other => panic!("expected an object, {other:?} came"),
        }
    }

    /// Reads on to the next object of which this can be told.
    pub(crate) async fn object_with<T>(&mut self, mut what: impl FnMut(&Value) -> Option<T>) -> T {
        let coming = async {
            loop {
                if let Some(found) = what(&self.object().await) {
                    return found;
                }
            }
        };
        soon("the object that was expected", coming).await
    }

    /// Reads on to the end; its code.
    pub(crate) async fn close_code(&mut self) -> Option<u16> {
        loop {
            match self.next().await {
                Came::Close(code) => return Some(code),
                Came::Gone => return None,
                Came::Object(_) | Came::Pong(_) => {}
            }
        }
    }
}

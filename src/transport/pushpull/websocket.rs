//! One WebSocket, either end, whatever is said on it: reading and writing, limits, pings, and an orderly end.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt as _, SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};

use super::Config;
use super::elastic::{self, Elastic};
use super::watched::GivenUp;
use crate::engine::{Empty, Rate};
use crate::peer::Ending;
use crate::transport::Pass;

/// How a connection ended.
pub(super) struct Farewell {
    /// In words, for the log.
    pub(super) why: String,
    /// It broke off, and nobody had closed it.
    pub(super) broke_off: bool,
    /// The partner has too much to do, and asks for patience (1013).
    pub(super) overloaded: bool,
    /// What it carried leaves again in parts, or without the SET that was found: the sooner, the better for all others.
    pub(super) parted: bool,
    /// We went away, as when the daemon stops: nothing is wrong with the partner.
    pub(super) left: bool,
}

/// How long a partner may send more messages than it may, slowed down, until it is told to come back later.
const OVERLOAD_MAX: Duration = Duration::from_secs(10);

/// How long the closing handshake may take.
pub(super) const CLOSING: Duration = Duration::from_secs(2);

/// Buffers and limits of a connection: small while idle ([`Elastic`]), bounded always.
pub(super) fn settings(config: &Config) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(elastic::IDLE_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * config.limits.object_bytes_max + (64 << 10))
        .max_message_size(Some(config.limits.object_bytes_max))
        .max_frame_size(Some(config.limits.object_bytes_max))
}

/// What becomes of the messages that come.
pub(super) trait Hearing: Send {
    /// Pays for one message out of what its sender has left.
    fn pay(&self, rate: Rate) -> Result<(), Empty>;

    /// Takes a text or binary message in. While it waits nothing is read, and TCP pushes back.
    fn hear(&mut self, message: Message) -> impl Future<Output = Result<(), End>> + Send;
}

/// What there is to say.
pub(super) trait Speaking: Send {
    /// The next message, once there is one. `None` when the conversation has ended. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Option<Result<Message, End>>> + Send;

    /// It has left; it was so long.
    fn left(&mut self, length: usize) -> impl Future<Output = ()> + Send;

    /// The other side was heard, if only by a pong.
    fn alive(&mut self);
}

/// An open connection.
pub(super) struct Wire<S, H> {
    reader: Reader<S, H>,
    writer: Writer<S>,
    /// Told by the reader to the writer: the partner was heard.
    heard: Notify,
}

impl<S, H> Wire<S, H>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Hearing,
{
    pub(super) fn new(
        socket: Elastic<S>,
        hearing: H,
        config: Arc<Config>,
        stop: watch::Receiver<bool>,
        pass: Option<Pass>,
    ) -> Self {
        let (sink, stream) = socket.split();
        let reader = Reader { stream, hearing, config: Arc::clone(&config), pass: pass.clone() };
        Self { reader, writer: Writer { sink, config, stop, pass }, heard: Notify::new() }
    }

    /// Hears and speaks until either side ends it. `stop` turning true closes it as going away; a `pass` that is revoked,
    /// as not authorised any more.
    pub(super) async fn converse(&mut self, speaking: &mut impl Speaking) -> End {
        let writing = self.writer.run(speaking, &self.heard);
        tokio::select! {
            end = self.reader.run(&self.heard) => end,
            end = writing => end,
        }
    }

    /// What has become of the messages.
    pub(super) fn hearing(&mut self) -> &mut H {
        &mut self.reader.hearing
    }

    /// Says good-bye, for a while.
    pub(super) async fn part(self, end: &End) {
        if let Ok(socket) = self.writer.sink.reunite(self.reader.stream) {
            let _ = timeout(CLOSING, part(socket, end)).await;
        }
    }
}

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum End {
    /// We close it: with this code, because of this.
    Ours(CloseCode, String),
    /// The partner closed it, with this code if it gave one.
    Theirs(Option<CloseCode>, String),
    /// It broke.
    Broke(String),
    /// Nobody is there any more, or nobody who reads.
    Silent(String),
}

impl End {
    /// The close code, whoever gave it; none when it broke.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Ours(code, _) | Self::Theirs(Some(code), _) => Some(u16::from(*code)),
            Self::Theirs(None, _) | Self::Broke(_) | Self::Silent(_) => None,
        }
    }

    /// The partner met an error of its own, or broke off: perhaps at what it was sent.
    pub(super) fn is_fault(&self) -> bool {
        matches!(self, Self::Theirs(Some(CloseCode::Error), _) | Self::Broke(_))
    }

    /// In words.
    pub(super) fn why(&self) -> &str {
        match self {
            Self::Ours(_, why) | Self::Theirs(_, why) | Self::Broke(why) | Self::Silent(why) => why,
        }
    }

    pub(super) fn ending(&self) -> Ending {
        match self {
            // The partner minds an object; which one, only smaller ones will tell.
            Self::Theirs(Some(CloseCode::Invalid), _) => Ending::REJECTED,
            Self::Theirs(Some(CloseCode::Size), _) => Ending::Rejected { retry_after: Duration::ZERO, too_large: true },
            _ => Ending::Lost { retry_after: Duration::ZERO },
        }
    }

    pub(super) fn farewell(self) -> Farewell {
        let broke_off = matches!(self, Self::Broke(_) | Self::Silent(_));
        let overloaded = matches!(self, Self::Theirs(Some(CloseCode::Again), _));
        let left = matches!(self, Self::Ours(CloseCode::Away, _));
        let why = match self {
            Self::Ours(code, why) => format!("we closed it ({}): {why}", u16::from(code)),
            Self::Theirs(Some(code), why) => format!("the partner closed it ({}): {why}", u16::from(code)),
            Self::Theirs(None, why) => format!("the partner closed it: {why}"),
            Self::Broke(why) | Self::Silent(why) => format!("it broke: {why}"),
        };
        Farewell { why, broke_off, overloaded, left, parted: false }
    }
}

struct Reader<S, H> {
    stream: SplitStream<Elastic<S>>,
    hearing: H,
    config: Arc<Config>,
    pass: Option<Pass>,
}

impl<S, H> Reader<S, H>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Hearing,
{
    async fn run(&mut self, heard: &Notify) -> End {
        loop {
            // How long that may take is watched below: here a message that keeps coming looks like silence.
            let message = tokio::select! {
                biased;
                // The writer still says what is owed, and closes.
                () = revoked(&mut self.pass) => return std::future::pending().await,
                message = self.stream.next() => message,
            };
            let message = match message {
                None => return End::Broke("end of stream".to_owned()),
                Some(Err(error)) => return blame(error),
                Some(Ok(message)) => message,
            };
            heard.notify_one();
            if let Err(end) = self.pay().await {
                return end;
            }
            match message {
                message @ (Message::Text(_) | Message::Binary(_)) => {
                    if let Err(end) = self.hearing.hear(message).await {
                        return end;
                    }
                }
                Message::Close(frame) => return closed_by_partner(frame),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    /// Pays for a message of whatever kind. Waits while the partner has nothing to pay with: then nothing is read, and
    /// TCP pushes back. Who has to be slowed down for too long is told so.
    async fn pay(&self) -> Result<(), End> {
        while let Err(empty) = self.hearing.pay(self.config.message_rate()) {
            if empty.lasting > OVERLOAD_MAX {
                let why = format!("more than {} messages a second", self.config.messages_per_second_max);
                return Err(End::Ours(CloseCode::Again, why));
            }
            sleep(empty.wait).await;
        }
        Ok(())
    }
}

struct Writer<S> {
    sink: SplitSink<Elastic<S>, Message>,
    config: Arc<Config>,
    stop: watch::Receiver<bool>,
    pass: Option<Pass>,
}

impl<S> Writer<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    async fn run(&mut self, speaking: &mut impl Speaking, heard: &Notify) -> End {
        let mut ping = tokio::time::interval_at(Instant::now() + self.config.ping_interval, self.config.ping_interval);
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut stop, mut pass) = (self.stop.clone(), self.pass.clone());
        loop {
            let message = tokio::select! {
                message = speaking.next() => match message {
                    None => return stopped(self.pass.as_ref()),
                    Some(Err(end)) => return end,
                    Some(Ok(message)) => message,
                },
                () = heard.notified() => {
                    speaking.alive();
                    continue;
                }
                _ = ping.tick() => Message::Ping(bytes::Bytes::new()),
                _ = stop.wait_for(|stop| *stop) => return End::Ours(CloseCode::Away, "shutting down".to_owned()),
                () = expelled(&mut pass) => return stopped(pass.as_ref()),
            };
            let speaks = !matches!(message, Message::Ping(_));
            let length = message.len();
            // `send` is feed and flush in one: an object already holds everything there was to say.
            let sending = timeout(self.config.exchange_within, self.sink.send(message));
            let sent = tokio::select! {
                biased;
                sent = sending => sent,
                // However slowly somebody reads: a token that means nothing any more gets nothing more.
                () = expelled(&mut pass) => return stopped(pass.as_ref()),
            };
            match sent {
                Err(_) => return End::Silent("the partner does not read what we write".to_owned()),
                Ok(Err(error)) => return blame(error),
                Ok(Ok(())) if speaks => {
                    // What was heard while it left says nothing about it.
                    if heard.notified().now_or_never().is_some() {
                        speaking.alive();
                    }
                    speaking.left(length).await;
                }
                Ok(Ok(())) => {}
            }
        }
    }
}

/// The end of a connection whose conversation has ended, or whose token means nothing any more.
pub(super) fn stopped(pass: Option<&Pass>) -> End {
    match pass {
        Some(pass) if pass.is_revoked() => {
            End::Ours(CloseCode::Policy, "not authorised any more: this token means nothing here".to_owned())
        }
        _ => End::Ours(CloseCode::Away, "shutting down".to_owned()),
    }
}

/// Waits until what came with this pass is not taken in any more. What we dialled ourselves has none.
async fn revoked(pass: &mut Option<Pass>) {
    match pass {
        Some(pass) => pass.revoked().await,
        None => std::future::pending().await,
    }
}

/// Waits until the connection has to close.
async fn expelled(pass: &mut Option<Pass>) {
    match pass {
        Some(pass) => pass.expelled().await,
        None => std::future::pending().await,
    }
}

/// Says good-bye as far as the other side still listens (RFC 6455 §7.1.1).
pub(super) async fn part<S>(mut socket: Elastic<S>, end: &End) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match end {
        End::Ours(code, why) => {
            let reason: String = why.chars().filter(|c| !c.is_control()).take(100).collect();
            let reason = if reason.len() <= 120 { reason.into() } else { "".into() };
            socket.send(Message::Close(Some(CloseFrame { code: *code, reason }))).await?;
        }
        // Our reply to the partner's close frame has been ready since that was read; it only has to leave.
        End::Theirs(..) => SinkExt::close(&mut socket).await?,
        End::Broke(_) | End::Silent(_) => return SinkExt::close(&mut socket).await,
    }
    // To close with unread bytes would reset the connection, and our close frame might be lost with its reason.
    let Some(mut stream) = socket.into_inner() else { return Ok(()) };
    stream.shutdown().await?;
    // Not in the future, which lasts as long as the connection.
    let mut discarded = vec![0; 4096];
    while stream.read(&mut discarded).await? > 0 {}
    Ok(())
}

fn closed_by_partner(frame: Option<CloseFrame>) -> End {
    match frame {
        // Its reason is a text of the partner's, which may repeat what it was sent: neither logs nor status show it.
        Some(frame) => End::Theirs(Some(frame.code), meaning(frame.code).to_owned()),
        None => End::Theirs(None, "it gave no code".to_owned()),
    }
}

/// What a close code says (RFC 6455 §7.4.1).
fn meaning(code: CloseCode) -> &'static str {
    match u16::from(code) {
        1000 => "it has nothing more to say",
        1001 | 1012 => "it is going away",
        1002 => "it minds how we speak WebSocket",
        1003 => "it minds a binary message",
        1007 => "it minds an object as malformed",
        1008 => "it does not let us in any more",
        1009 => "an object was too big for it",
        1011 => "it met an error of its own",
        1013 => "it is overloaded",
        _ => "a code without a meaning here",
    }
}

/// Whose fault an error of the WebSocket layer is, and what to answer.
fn blame(error: Error) -> End {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => End::Ours(CloseCode::Size, error.to_string()),
        Error::Utf8(_) => End::Ours(CloseCode::Invalid, "text message is not UTF-8".to_owned()),
        Error::Io(error) if GivenUp::in_error(&error) == Some(GivenUp::TooSlow) => {
            End::Ours(CloseCode::Again, error.to_string())
        }
        Error::Io(error) if GivenUp::in_error(&error).is_some() => End::Silent(error.to_string()),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) | Error::Io(_) | Error::ConnectionClosed => {
            End::Broke(error.to_string())
        }
        Error::Protocol(_) => End::Ours(CloseCode::Protocol, error.to_string()),
        other => End::Broke(other.to_string()),
    }
}

#[cfg(test)]
mod tests;

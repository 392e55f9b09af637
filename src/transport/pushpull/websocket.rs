//! One WebSocket, either end: objects out by one slot, objects in as they come, pings, and an orderly end.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::{Config, encode};
use crate::engine::{Handle, Partner, Slot};
use crate::peer::{Ending, SlotId};
use crate::wire;

/// How a connection ended, in words for the log.
pub(super) type Farewell = String;

/// Objects of one connection that are inspected at the same time.
const INSPECTIONS_MAX: usize = 4;

/// How long the closing handshake may take.
const CLOSING: Duration = Duration::from_secs(2);

/// Buffers and limits of a connection: small while idle, bounded always.
pub(super) fn settings(config: &Config) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4 << 10)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * config.limits.object_bytes_max + (64 << 10))
        .max_message_size(Some(config.limits.object_bytes_max))
        .max_frame_size(Some(config.limits.object_bytes_max))
}

/// Runs a connection until either side ends it. `stop` turning true closes it as going away.
pub(super) async fn run<S>(
    socket: WebSocketStream<S>,
    partner: Arc<Partner>,
    config: Arc<Config>,
    stop: watch::Receiver<bool>,
) -> Farewell
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handle = partner.handle();
    let Ok(mut slot) = handle.open_slot(config.socket_spec(), None).await else {
        return "shutting down".to_owned();
    };
    partner.update_link(|link| {
        link.sockets += 1;
        (link.trouble, link.socketless) = (None, None);
    });
    let (sink, stream) = socket.split();
    let (alive, heard) = mpsc::channel(1);
    let reader = Reader {
        stream,
        handle,
        partner: Arc::clone(&partner),
        config: Arc::clone(&config),
        slot: slot.id(),
        alive,
        inspections: JoinSet::new(),
    };
    let mut writer = Writer { sink, config, stop };
    let end = {
        let writing = writer.run(&mut slot, heard);
        tokio::select! {
            end = reader.run() => end,
            end = writing => end,
        }
    };
    partner.update_link(|link| link.sockets -= 1);
    slot.close(end.ending());
    writer.part(&end).await;
    end.farewell()
}

/// Why a connection ends.
#[derive(Debug)]
enum End {
    /// We close it: with this code, because of this.
    Ours(CloseCode, String),
    /// The partner closed it, or it broke.
    Theirs(Option<CloseCode>, String),
}

impl End {
    fn ending(&self) -> Ending {
        match self {
            // The partner minds an object; which one, only smaller ones will tell.
            Self::Theirs(Some(CloseCode::Invalid | CloseCode::Size), _) => Ending::Rejected,
            _ => Ending::Lost { retry_after: Duration::ZERO },
        }
    }

    fn farewell(self) -> Farewell {
        match self {
            Self::Ours(code, why) => format!("we closed it ({}): {why}", u16::from(code)),
            Self::Theirs(Some(code), why) => format!("the partner closed it ({}): {why}", u16::from(code)),
            Self::Theirs(None, why) => format!("it broke: {why}"),
        }
    }
}

struct Reader<S> {
    stream: SplitStream<WebSocketStream<S>>,
    handle: Handle,
    partner: Arc<Partner>,
    config: Arc<Config>,
    slot: SlotId,
    /// Tells the writer, which owns the slot, that the partner was heard.
    alive: mpsc::Sender<()>,
    inspections: JoinSet<()>,
}

impl<S> Reader<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    async fn run(mut self) -> End {
        loop {
            let silence_max = self.config.ping_interval * 2;
            let message = match timeout_at(Instant::now() + silence_max, self.stream.next()).await {
                Err(_) => return End::Theirs(None, format!("nothing was heard for {} s", silence_max.as_secs())),
                Ok(None) => return End::Theirs(None, "end of stream".to_owned()),
                Ok(Some(Err(error))) => return blame(error),
                Ok(Some(Ok(message))) => message,
            };
            let _ = self.alive.try_send(());
            match message {
                Message::Text(text) => {
                    if let Err(end) = self.arrived(&text).await {
                        return end;
                    }
                }
                Message::Binary(_) => {
                    return End::Ours(CloseCode::Unsupported, "binary message: only text is spoken".to_owned());
                }
                Message::Close(frame) => return closed_by_partner(frame),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    /// Takes one object in. Waits while too much of this partner is unfinished: then nothing is read, and TCP pushes
    /// back.
    async fn arrived(&mut self, text: &Utf8Bytes) -> Result<(), End> {
        let object = wire::parse(text.as_bytes(), &self.config.limits).map_err(|malformed| {
            let code = if malformed.kind.is_too_big() { CloseCode::Size } else { CloseCode::Invalid };
            End::Ours(code, malformed.to_string())
        })?;
        let stopped = |_| End::Ours(CloseCode::Away, "shutting down".to_owned());
        let room = self.handle.arrival_room(text.len()).await.map_err(stopped)?;
        while self.inspections.len() >= INSPECTIONS_MAX {
            self.inspections.join_next().await;
        }
        let (partner, handle, slot) = (Arc::clone(&self.partner), self.handle.clone(), self.slot);
        let patience = self.config.patience();
        self.inspections.spawn(async move {
            // A stopped actor shows in the slot, which ends this connection.
            let _ = partner.bring(&handle, Some(slot), object, room, patience).await;
        });
        Ok(())
    }
}

struct Writer<S> {
    sink: SplitSink<WebSocketStream<S>, Message>,
    config: Arc<Config>,
    stop: watch::Receiver<bool>,
}

impl<S> Writer<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    async fn run(&mut self, slot: &mut Slot, mut heard: mpsc::Receiver<()>) -> End {
        let mut ping = tokio::time::interval_at(Instant::now() + self.config.ping_interval, self.config.ping_interval);
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stop = self.stop.clone();
        loop {
            let message = tokio::select! {
                object = slot.next() => match object {
                    None => return End::Ours(CloseCode::Away, "shutting down".to_owned()),
                    Some(object) => match Utf8Bytes::try_from(encode(&object, None)) {
                        Ok(text) => Message::Text(text),
                        Err(error) => return End::Ours(CloseCode::Error, error.to_string()),
                    },
                },
                Some(()) = heard.recv() => {
                    slot.alive();
                    continue;
                }
                _ = ping.tick() => Message::Ping(bytes::Bytes::new()),
                _ = stop.wait_for(|stop| *stop) => return End::Ours(CloseCode::Away, "shutting down".to_owned()),
            };
            let speaks = matches!(message, Message::Text(_));
            // `send` is feed and flush in one: an object already holds everything there was to say.
            match timeout(self.config.exchange_within, self.sink.send(message)).await {
                Err(_) => return End::Theirs(None, "the partner does not read what we write".to_owned()),
                Ok(Err(error)) => return blame(error),
                Ok(Ok(())) if speaks => slot.ready().await,
                Ok(Ok(())) => {}
            }
        }
    }

    /// Says good-bye as far as the other side still listens.
    async fn part(&mut self, end: &End) {
        let frame = match end {
            End::Ours(code, why) => {
                let reason: String = why.chars().filter(|c| !c.is_control()).take(100).collect();
                Some(CloseFrame { code: *code, reason: if reason.len() <= 120 { reason.into() } else { "".into() } })
            }
            End::Theirs(..) => None,
        };
        let _ = timeout(CLOSING, async {
            self.sink.send(Message::Close(frame)).await?;
            self.sink.close().await
        })
        .await;
    }
}

fn closed_by_partner(frame: Option<CloseFrame>) -> End {
    match frame {
        Some(frame) => {
            let reason: String = frame.reason.chars().filter(|c| !c.is_control()).take(120).collect();
            End::Theirs(Some(frame.code), reason)
        }
        None => End::Theirs(None, "closed without a code".to_owned()),
    }
}

/// Whose fault an error of the WebSocket layer is, and what to answer.
fn blame(error: Error) -> End {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => End::Ours(CloseCode::Size, error.to_string()),
        Error::Utf8(_) => End::Ours(CloseCode::Invalid, "text message is not UTF-8".to_owned()),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) | Error::Io(_) | Error::ConnectionClosed => {
            End::Theirs(None, error.to_string())
        }
        Error::Protocol(_) => End::Ours(CloseCode::Protocol, error.to_string()),
        other => End::Theirs(None, other.to_string()),
    }
}

//! A WebSocket whose buffers are large while it is busy, and as small after a burst as they were before it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{FutureExt as _, Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::watched::Watched;

/// The WebSocket layer keeps its buffers as large as the largest message that went through them, for as long as it lives,
/// and has no call to make them smaller, nor to read in larger pieces. But its whole state is those buffers and where in a
/// message it is: on a connection that rests between two messages there is nothing in it, and a new one goes on as well.
///
/// It looks whenever there is nothing more to read, so it needs no timer: on a connection that idles, that is after the next
/// ping or pong.
pub(super) struct Elastic<S> {
    /// Boxed, since it is moved about with futures. None only while it is replaced.
    socket: Option<Box<WebSocketStream<Watched<S>>>>,
    role: Role,
    /// When the last message came or began to leave, until the buffers are small again.
    busy_at: Option<Instant>,
    /// So much is to be read at once from now on.
    wanted: Option<usize>,
    /// A close frame has come or begun to leave, or the connection is broken: there is more to its state then.
    ending: bool,
}

/// What is read at once on a connection that idles: a ping has two bytes, and an object with a few verdicts fits as well.
pub(super) const IDLE_BYTES: usize = 1 << 10;

/// What is read at once on a busy one: as much as a TLS record holds.
const BUSY_BYTES: usize = 16 << 10;

/// After a pause of so long a burst is over.
const REST: Duration = Duration::from_secs(1);

impl<S: AsyncRead + AsyncWrite + Unpin> Elastic<S> {
    /// `role` is ours in this connection.
    pub(super) fn new(socket: WebSocketStream<Watched<S>>, role: Role) -> Self {
        // A client's first buffer is the one of its handshake.
        let wanted = (role == Role::Client).then_some(IDLE_BYTES);
        Self { socket: Some(Box::new(socket)), role, busy_at: None, wanted, ending: false }
    }

    /// The bytes under it. What it has read already is lost.
    pub(super) fn into_inner(self) -> Option<Watched<S>> {
        self.socket.map(|socket| socket.into_inner())
    }

    /// Notes what a message does to the buffers.
    fn note(&mut self, message: &Message) {
        match message {
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Close(_) => self.ending = true,
            Message::Text(_) | Message::Binary(_) | Message::Frame(_) => self.busy_at = Some(Instant::now()),
        }
    }

    /// What is to be read at once from now on, if that has to change, or if the buffers may have grown for nothing.
    fn due(&self) -> Option<usize> {
        let is_over = || self.busy_at.is_some_and(|at| at.elapsed() >= REST);
        self.wanted.or_else(|| is_over().then_some(IDLE_BYTES))
    }

    /// Has other buffers from now on if that is due and nothing is in them. True if so: the new socket has not been read from
    /// yet. To be called when there is nothing more to read: then all that came has been taken out.
    fn renew(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(read_bytes) = self.due().filter(|_| !self.ending) else { return false };
        let Some(socket) = &mut self.socket else { return false };
        // Not even a pong of ours may be under way. An error shows when next something is read or written.
        let at_rest =
            socket.get_ref().is_between_messages() && matches!(socket.poll_flush_unpin(cx), Poll::Ready(Ok(())));
        if !at_rest {
            return false;
        }
        let settings = socket.get_config().read_buffer_size(read_bytes);
        let bytes = self.socket.take().map(|socket| socket.into_inner());
        let renewed = bytes.and_then(|bytes| {
            // There is no handshake in it, so it does not wait.
            WebSocketStream::from_raw_socket(bytes, self.role, Some(settings)).now_or_never()
        });
        self.socket = renewed.map(Box::new);
        self.wanted = None;
        if read_bytes == IDLE_BYTES {
            self.busy_at = None;
        }
        true
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for Elastic<S> {
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            let Some(socket) = &mut this.socket else { return Poll::Ready(None) };
            match socket.poll_next_unpin(cx) {
                Poll::Ready(came) => {
                    match &came {
                        Some(Ok(message)) => {
                            let at_once = socket.get_config().read_buffer_size;
                            if at_once < BUSY_BYTES && message.len() > at_once {
                                this.wanted = Some(BUSY_BYTES);
                            }
                            this.note(message);
                        }
                        Some(Err(_)) | None => this.ending = true,
                    }
                    return Poll::Ready(came);
                }
                // A new one has to be asked once, or it would wake nobody.
                Poll::Pending if this.renew(cx) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Message> for Elastic<S> {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.with(|socket| socket.poll_ready_unpin(cx))
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let this = self.get_mut();
        this.note(&message);
        let socket = this.socket.as_mut().ok_or(Error::AlreadyClosed)?;
        socket.start_send_unpin(message)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.with(|socket| socket.poll_flush_unpin(cx))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        this.ending = true;
        Pin::new(this).with(|socket| socket.poll_close_unpin(cx))
    }
}

impl<S> Elastic<S> {
    fn with(
        self: Pin<&mut Self>,
        ask: impl FnOnce(&mut WebSocketStream<Watched<S>>) -> Poll<Result<(), Error>>,
    ) -> Poll<Result<(), Error>>
    where
        S: Unpin,
    {
        match &mut self.get_mut().socket {
            Some(socket) => ask(socket),
            None => Poll::Ready(Err(Error::AlreadyClosed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::advance;

    use super::*;
    use crate::transport::pushpull::{Config, websocket};

    /// Our end of a connection that holds so many bytes on their way, and the partner's.
    async fn ends(bytes_max: usize) -> (Elastic<DuplexStream>, DuplexStream) {
        let (here, there) = duplex(bytes_max);
        let watched = Watched::accepted(here, Duration::from_secs(3600));
        let settings = websocket::settings(&Config::default());
        let socket = WebSocketStream::from_raw_socket(watched, Role::Server, Some(settings)).await;
        (Elastic::new(socket, Role::Server), there)
    }

    async fn partner(there: DuplexStream) -> WebSocketStream<DuplexStream> {
        WebSocketStream::from_raw_socket(there, Role::Client, None).await
    }

    /// So much is read at once.
    fn at_once(ours: &Elastic<DuplexStream>) -> usize {
        ours.socket.as_ref().unwrap().get_config().read_buffer_size
    }

    /// A text message of so many bytes, masked with zeros.
    fn frame(len: usize) -> Vec<u8> {
        [&[0x81, 0xff][..], &(len as u64).to_be_bytes(), &[0; 4], &vec![b'x'; len]].concat()
    }

    #[track_caller]
    fn nothing_comes(ours: &mut Elastic<DuplexStream>) {
        assert!(ours.next().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn it_reads_in_large_pieces_while_it_is_busy_and_in_small_ones_when_that_is_over() {
        let (mut ours, there) = ends(1 << 20).await;
        let mut theirs = partner(there).await;
        for round in 0..3 {
            nothing_comes(&mut ours);
            assert_eq!(at_once(&ours), IDLE_BYTES, "in round {round}");
            let text = "x".repeat(100_000);
            theirs.send(Message::text(text.clone())).await.unwrap();
            assert_eq!(ours.next().await.unwrap().unwrap(), Message::text(text.clone()));
            nothing_comes(&mut ours);
            assert_eq!(at_once(&ours), BUSY_BYTES);
            ours.send(Message::text(text.clone())).await.unwrap();
            assert_eq!(theirs.next().await.unwrap().unwrap(), Message::text(text));
            advance(REST / 2).await;
            nothing_comes(&mut ours);
            assert_eq!(at_once(&ours), BUSY_BYTES, "the next may follow");
            advance(REST).await;
            theirs.send(Message::Ping(Vec::new().into())).await.unwrap();
            assert!(ours.next().await.unwrap().unwrap().is_ping());
            nothing_comes(&mut ours);
            assert!(theirs.next().await.unwrap().unwrap().is_pong());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn in_the_middle_of_a_message_its_buffers_stay_as_they_are() {
        let (mut ours, mut theirs) = ends(1 << 20).await;
        let second = frame(50_000);
        theirs.write_all(&[frame(100_000), second[..20_000].to_vec()].concat()).await.unwrap();
        assert_eq!(ours.next().await.unwrap().unwrap().len(), 100_000);
        nothing_comes(&mut ours);
        advance(REST * 2).await;
        nothing_comes(&mut ours);
        assert_eq!(at_once(&ours), IDLE_BYTES);
        theirs.write_all(&second[20_000..]).await.unwrap();
        assert_eq!(ours.next().await.unwrap().unwrap().len(), 50_000);
        nothing_comes(&mut ours);
        assert_eq!(at_once(&ours), BUSY_BYTES);
        // Fragments of one message, and a pause between them.
        theirs.write_all(&[0x01, 0x81, 0, 0, 0, 0, b'a']).await.unwrap();
        nothing_comes(&mut ours);
        advance(REST * 2).await;
        nothing_comes(&mut ours);
        theirs.write_all(&[0x80, 0x81, 0, 0, 0, 0, b'b']).await.unwrap();
        assert_eq!(ours.next().await.unwrap().unwrap(), Message::text("ab"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_about_to_leave_is_not_forgotten() {
        let (mut ours, there) = ends(64).await;
        let mut theirs = partner(there).await;
        assert!(ours.send(Message::text("x".repeat(10_000))).now_or_never().is_none(), "it is under way");
        theirs.send(Message::Ping(b"there?".to_vec().into())).await.unwrap();
        advance(REST * 2).await;
        assert!(ours.next().await.unwrap().unwrap().is_ping());
        nothing_comes(&mut ours);
        let reading = async {
            assert_eq!(theirs.next().await.unwrap().unwrap().len(), 10_000);
            assert_eq!(theirs.next().await.unwrap().unwrap(), Message::Pong(b"there?".to_vec().into()));
        };
        tokio::select! {
            came = ours.next() => panic!("{came:?}"),
            () = reading => {}
        }
    }
}

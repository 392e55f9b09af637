//! The bytes under a WebSocket: gives up a partner that is silent, and one that begins a message and does not go on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::frames::Frames;
use crate::transport::patience::Patience;

/// Why a partner was given up; the source of the error with which reading fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum GivenUp {
    /// Not even a pong came.
    #[error("nothing was heard for {} s", .0.as_secs())]
    Silent(Duration),
    /// Signs of life in between do not count.
    #[error("a message came too slowly")]
    TooSlow,
}

impl GivenUp {
    /// Finds it in an error of reading.
    pub(super) fn in_error(error: &io::Error) -> Option<Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref()).copied()
    }
}

/// How long a message may stand still, all pauses together, as a request's body may.
const PATIENCE: Duration = Duration::from_secs(10);

/// The slowest rate of a message that is patiently read to its end, in bytes per second.
const RATE_MIN: u32 = 16 << 10;

/// What a frame in the middle of a message costs: as much as sixteen bytes of it earn. A flood of frames that bring less
/// would keep a core busy for hardly any progress.
const FRAGMENT: Duration = Duration::from_millis(1);

/// A stream that is watched. Only the time in which its reader waits counts, so a busy reader costs the partner nothing.
#[derive(Debug)]
pub(super) struct Watched<S> {
    inner: S,
    frames: Frames,
    silence_max: Duration,
    patience: Patience,
    waiting_since: Option<Instant>,
    until: Option<Pin<Box<Sleep>>>,
    given_up: bool,
}

impl<S> Watched<S> {
    /// A connection whose next byte begins a frame.
    pub(super) fn accepted(inner: S, silence_max: Duration) -> Self {
        Self::new(inner, Frames::begun(), silence_max, PATIENCE)
    }

    /// A connection by which the answer to our handshake will come first. Until then nothing is watched.
    pub(super) fn dialled(inner: S, silence_max: Duration) -> Self {
        Self::new(inner, Frames::after_handshake(), silence_max, PATIENCE)
    }

    fn new(inner: S, frames: Frames, silence_max: Duration, patience: Duration) -> Self {
        let patience = Patience::new(patience, RATE_MIN);
        Self { inner, frames, silence_max, patience, waiting_since: None, until: None, given_up: false }
    }

    /// Whether the last byte that was read ended a message, or a frame between two.
    pub(super) fn is_between_messages(&self) -> bool {
        !self.given_up && !self.frames.in_handshake() && !self.frames.in_message()
    }

    /// Waits, but not for ever.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<GivenUp> {
        // Silence is silence, also in the middle of a message.
        let slow = self.frames.in_message().then(|| self.patience.left()).filter(|left| *left < self.silence_max);
        let within = slow.unwrap_or(self.silence_max);
        if self.waiting_since.is_none() {
            let now = Instant::now();
            let deadline = now + within;
            self.waiting_since = Some(now);
            match &mut self.until {
                Some(until) => until.as_mut().reset(deadline),
                None => self.until = Some(Box::pin(sleep(within))),
            }
        }
        if let Some(until) = &mut self.until {
            ready!(until.as_mut().poll(cx));
        }
        Poll::Ready(if slow.is_some() { GivenUp::TooSlow } else { GivenUp::Silent(self.silence_max) })
    }

    /// Takes note of what came after a wait.
    fn note(&mut self, bytes: &[u8]) -> Result<(), GivenUp> {
        let waited = self.waiting_since.take().map_or(Duration::ZERO, |since| since.elapsed());
        if self.frames.in_message() {
            self.patience.spend(waited);
        }
        let news = self.frames.follow(bytes);
        if news.message_ended {
            self.patience.renew();
        }
        self.patience.earn(news.payload);
        self.patience.spend(FRAGMENT.saturating_mul(news.fragments));
        if self.frames.in_message() && self.patience.left().is_zero() { Err(GivenUp::TooSlow) } else { Ok(()) }
    }

    fn give_up(&mut self, why: GivenUp) -> Poll<io::Result<()>> {
        // What still comes is read to the end of the connection without a look at it.
        self.given_up = true;
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let outcome = Pin::new(&mut this.inner).poll_read(cx, buf);
        if this.given_up || (outcome.is_pending() && this.frames.in_handshake()) {
            return outcome;
        }
        match outcome {
            Poll::Ready(Ok(())) => match this.note(&buf.filled()[before..]) {
                Ok(()) => Poll::Ready(Ok(())),
                Err(why) => {
                    // An error has read nothing.
                    buf.set_filled(before);
                    this.give_up(why)
                }
            },
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let why = ready!(this.wait(cx));
                this.give_up(why)
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    const SHORT: Duration = Duration::from_millis(300);
    const LONG: Duration = Duration::from_secs(60);

    /// A partner's end, and ours.
    fn ends(silence_max: Duration, patience: Duration) -> (DuplexStream, Watched<DuplexStream>) {
        let (theirs, ours) = duplex(1 << 20);
        (theirs, Watched::new(ours, Frames::begun(), silence_max, patience))
    }

    /// Why it is given up, unless it ends.
    async fn verdict(ours: &mut Watched<DuplexStream>) -> Option<GivenUp> {
        let mut read = Vec::new();
        ours.read_to_end(&mut read).await.err().map(|error| GivenUp::in_error(&error).unwrap())
    }

    /// Writes this again and again until nobody listens.
    fn repeat(mut theirs: DuplexStream, first: &'static [u8], then: &'static [u8], pause: Duration) {
        tokio::spawn(async move {
            let _ = theirs.write_all(first).await;
            while theirs.write_all(then).await.is_ok() {
                tokio::time::sleep(pause).await;
            }
        });
    }

    #[tokio::test]
    async fn silence_in_the_middle_of_a_message_is_silence() {
        let (mut theirs, mut ours) = ends(SHORT, LONG);
        theirs.write_all(&[0x81, 0x85, 0, 0, 0, 0, b'a']).await.unwrap();
        let verdict = tokio::time::timeout(SHORT * 10, verdict(&mut ours)).await;
        assert_eq!(verdict.expect("not a minute later"), Some(GivenUp::Silent(SHORT)));
    }

    #[tokio::test]
    async fn silence_is_given_up_and_pings_are_not_silence() {
        let (_theirs, mut ours) = ends(SHORT, LONG);
        assert_eq!(verdict(&mut ours).await, Some(GivenUp::Silent(SHORT)));
        let (theirs, mut ours) = ends(SHORT, LONG);
        repeat(theirs, &[], &[0x89, 0], SHORT / 6);
        assert!(tokio::time::timeout(SHORT * 3, verdict(&mut ours)).await.is_err());
    }

    #[tokio::test]
    async fn whatever_keeps_a_message_from_its_end_is_given_up() {
        let quick = Duration::from_millis(10);
        let cases: [(&str, &[u8], &[u8]); 6] = [
            ("a header that stops", &[0x81], &[]),
            ("a payload byte by byte", &[0x81, 126, 0xff, 0xff], b"x"),
            ("a header byte by byte", &[0x81, 127], &[0]),
            ("a fragment and then pings", &[0x01, 1, b'x'], &[0x89, 0]),
            ("fragments of a byte", &[0x01, 0], &[0x00, 1, b'x']),
            ("a ping that stops", &[0x89, 5], &[]),
        ];
        for (what, first, then) in cases {
            let (theirs, mut ours) = ends(LONG, SHORT);
            repeat(theirs, first, then, quick);
            let verdict = tokio::time::timeout(SHORT * 30, verdict(&mut ours)).await;
            assert_eq!(verdict, Ok(Some(GivenUp::TooSlow)), "{what}");
        }
    }

    #[tokio::test]
    async fn a_flood_of_empty_or_tiny_fragments_is_no_progress() {
        for then in [&[0x00, 0, 0x89, 0][..], &[0x00, 1, b'x'], &[0x00, 7, 1, 2, 3, 4, 5, 6, 7]] {
            let (theirs, mut ours) = ends(LONG, SHORT);
            repeat(theirs, &[0x01, 0], then, Duration::ZERO);
            assert_eq!(verdict(&mut ours).await, Some(GivenUp::TooSlow));
        }
        let (theirs, mut ours) = ends(LONG, SHORT);
        repeat(theirs, &[0x01, 0], &[[0x00, 100].as_slice(), &[b'x'; 100]].concat().leak()[..], Duration::ZERO);
        assert!(tokio::time::timeout(SHORT * 5, verdict(&mut ours)).await.is_err(), "small ones are");
    }

    #[tokio::test]
    async fn a_message_that_keeps_coming_outlasts_silence_and_patience() {
        let (theirs, mut ours) = ends(SHORT, SHORT);
        // 200 KB at 40 KB/s or somewhat less, in one frame.
        repeat(theirs, &[0x81, 127, 0, 0, 0, 0, 0, 3, 0, 0], &[b'x'; 2000], Duration::from_millis(50));
        assert!(tokio::time::timeout(SHORT * 6, verdict(&mut ours)).await.is_err());
    }

    #[tokio::test]
    async fn after_it_is_given_up_the_rest_is_read_without_complaint() {
        let (mut theirs, mut ours) = ends(SHORT, SHORT);
        assert!(verdict(&mut ours).await.is_some());
        theirs.write_all(b"late").await.unwrap();
        drop(theirs);
        assert_eq!(verdict(&mut ours).await, None);
    }
}

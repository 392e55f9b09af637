//! A connection's socket as the HTTP engine sees it: notices activity, ends writes that stand still, and closes so that
//! the last answer arrives. Lives on, with its place among the connections, when the connection is upgraded.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep};

use super::Limits;
use super::doors::Ticket;
use crate::wire::net::Stream;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// Between two requests.
    Idle,
    /// In a request's head, or before the first byte.
    Head,
    /// In a request whose body is not read to its end, or its handler or its answer. These have their own limits.
    Busy,
    /// The same, and the whole request is there.
    Answering,
}

/// What a connection is doing, and since when.
#[derive(Debug)]
pub(super) struct Activity {
    doing: Mutex<Doing>,
    /// Tells that the other side has ended.
    news: Notify,
}

#[derive(Debug)]
struct Doing {
    phase: Phase,
    since: Instant,
    /// The other side has ended, of which the engine, here, has yet to hear.
    ended: Option<Waker>,
    /// The reader of the body, while it waits for more.
    wanting: Option<Waker>,
    /// The body is not complete and cannot become so.
    cut: bool,
}

impl Activity {
    pub(super) fn new() -> Self {
        let (phase, since) = (Phase::Head, Instant::now());
        let doing = Mutex::new(Doing { phase, since, ended: None, wanting: None, cut: false });
        Self { doing, news: Notify::new() }
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.lock().enter(phase);
    }

    /// The request has been read to its end.
    pub(super) fn request_ended(&self) {
        let mut doing = self.lock();
        if doing.phase == Phase::Busy {
            doing.enter(Phase::Answering);
        }
    }

    /// Nothing of the request's body is there at the moment, and more is wanted.
    pub(super) fn body_wanted(&self, waker: &Waker) {
        let mut doing = self.lock();
        match doing.ended.take() {
            Some(engine) if doing.phase == Phase::Busy => {
                doing.cut = true;
                engine.wake();
            }
            ended => (doing.ended, doing.wanting) = (ended, Some(waker.clone())),
        }
    }

    /// Whether the whole request is there, and its answer not yet gone.
    pub(super) fn is_answering(&self) -> bool {
        self.lock().phase == Phase::Answering
    }

    fn bytes_came(&self) {
        let mut doing = self.lock();
        if doing.phase == Phase::Idle {
            doing.enter(Phase::Head);
        }
    }

    /// The other side has ended: whether it may have done so after its request, and waits for the answer. Wakes when the
    /// engine has to hear of it.
    fn hears_out(&self, engine: &Waker) -> bool {
        let mut doing = self.lock();
        let may_be_whole = doing.phase == Phase::Answering || (doing.phase == Phase::Busy && !doing.cut);
        if may_be_whole {
            doing.ended = Some(engine.clone());
            self.news.notify_waiters();
            // Only the body's reader can tell, by what it has already been given.
            if let Some(wanting) = doing.wanting.take() {
                wanting.wake();
            }
        }
        may_be_whole
    }

    /// Waits until the other side has ended, as long as the request is being answered.
    pub(super) async fn ended(&self) {
        loop {
            let mut news = std::pin::pin!(self.news.notified());
            // From here on nothing is missed.
            news.as_mut().enable();
            if self.lock().ended.is_some() {
                return;
            }
            news.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Doing> {
        self.doing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a phase has lasted too long, and says which.
    pub(super) async fn overdue(&self, limits: &Limits) -> Phase {
        loop {
            let (phase, since) = {
                let doing = self.lock();
                (doing.phase, doing.since)
            };
            let allowed = match phase {
                Phase::Idle => limits.idle_timeout,
                Phase::Head => limits.header_timeout,
                Phase::Busy | Phase::Answering => Duration::MAX,
            };
            let left = allowed.saturating_sub(since.elapsed());
            if left.is_zero() {
                return phase;
            }
            // A head that begins during this sleep cannot be overdue before its end, so nobody needs to wake us.
            sleep(left.min(limits.header_timeout)).await;
        }
    }
}

impl Doing {
    fn enter(&mut self, phase: Phase) {
        (self.phase, self.since) = (phase, Instant::now());
        (self.wanting, self.cut) = (None, false);
        if let Some(engine) = self.ended.take() {
            engine.wake();
        }
    }
}

/// The socket.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Stream,
    activity: Arc<Activity>,
    write_timeout: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    lingering: Option<Linger>,
    answers_half_closed: bool,
    _ticket: Ticket,
}

/// After our last word: reads on while something still comes. Closing a socket with unread bytes resets the connection,
/// and a partner that writes its whole request before it reads would lose the answer that says why.
#[derive(Debug)]
struct Linger {
    /// Begins anew with whatever comes.
    quiet: Pin<Box<Sleep>>,
    until: Instant,
    bytes_left: usize,
}

impl Linger {
    fn new() -> Self {
        Self { quiet: Box::pin(sleep(QUIET)), until: Instant::now() + LINGER, bytes_left: LINGER_BYTES_MAX }
    }

    fn goes_on(&mut self, cx: &mut Context<'_>) -> bool {
        self.bytes_left > 0 && Instant::now() < self.until && self.quiet.as_mut().poll(cx).is_pending()
    }

    fn heard(&mut self, bytes: usize) {
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.quiet.as_mut().reset(Instant::now() + QUIET);
    }
}

impl Socket {
    pub(super) fn new(
        stream: Stream,
        activity: Arc<Activity>,
        write_timeout: Duration,
        ticket: Ticket,
        answers_half_closed: bool,
    ) -> Self {
        Self { stream, activity, write_timeout, stalled: None, lingering: None, answers_half_closed, _ticket: ticket }
    }

    /// Turns a write that has been waiting for too long into an error.
    fn hurry<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let timeout = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the partner stopped reading"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let outcome = Pin::new(&mut this.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            this.activity.bytes_came();
        } else if this.answers_half_closed
            && matches!(outcome, Poll::Ready(Ok(())))
            && this.activity.hears_out(cx.waker())
        {
            // The engine would take it for the end of the connection, and there is still an answer to come. (Its own
            // `half_close` reads nothing at all meanwhile: a reset, or TLS cut short, would not be noticed before the
            // answer has been given for delivered.)
            return Poll::Pending;
        }
        outcome
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.hurry(cx, outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.hurry(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_flush(cx);
        this.hurry(cx, outcome)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            let outcome = Pin::new(&mut this.stream).poll_shutdown(cx);
            std::task::ready!(this.hurry(cx, outcome))?;
        }
        let linger = this.lingering.get_or_insert_with(Linger::new);
        while linger.goes_on(cx) {
            let mut discarded = [std::mem::MaybeUninit::uninit(); 4096];
            let mut buf = ReadBuf::uninit(&mut discarded);
            match std::task::ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => linger.heard(buf.filled().len()),
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Nothing came for so long: the partner has said what it had to say, or has gone.
const QUIET: Duration = Duration::from_millis(500);
/// However slowly it goes on.
const LINGER: Duration = Duration::from_secs(10);
/// Several times what a partner may send at once by default, so that it learns that it was too much.
const LINGER_BYTES_MAX: usize = 16 << 20;

//! A request's body that must keep coming: slow is fine, standing still is not.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::Limits;

/// The body came too slowly. Handlers find it as the source of the error with which reading the body fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the request's body came too slowly")]
pub struct TooSlow;

/// A body with patience. Only the time in which its reader waits for it counts, so a busy handler costs the partner
/// nothing.
#[derive(Debug)]
pub(super) struct Paced {
    inner: Incoming,
    patience: Patience,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    complete: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Patience {
    left: Duration,
    most: Duration,
    rate_min: u32,
}

impl Paced {
    pub(super) fn new(inner: Incoming, limits: &Limits) -> Self {
        let most = limits.body_patience;
        let patience = Patience { left: most, most, rate_min: limits.body_rate_min.max(1) };
        let complete = Arc::new(AtomicBool::new(inner.is_end_stream()));
        Self { inner, patience, waiting: None, complete }
    }

    /// Turns true when the body has been read to its end.
    pub(super) fn complete(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.complete)
    }
}

impl Patience {
    fn spend(&mut self, waited: Duration) {
        self.left = self.left.saturating_sub(waited);
    }

    fn earn(&mut self, bytes: usize) {
        let earned = Duration::from_secs_f64(bytes as f64 / f64::from(self.rate_min));
        self.left = self.left.saturating_add(earned).min(self.most);
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            if let Some((since, _)) = this.waiting.take() {
                this.patience.spend(since.elapsed());
            }
            if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref) {
                this.patience.earn(data.len());
            }
            if frame.is_none() || this.inner.is_end_stream() {
                this.complete.store(true, Ordering::Relaxed);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let left = this.patience.left;
        let (_, until) = this.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(left))));
        ready!(until.as_mut().poll(cx));
        Poll::Ready(Some(Err(TooSlow.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_earn_patience_at_the_lowest_rate_but_never_more_than_at_the_start() {
        let second = Duration::from_secs(1);
        let mut patience = Patience { left: 10 * second, most: 10 * second, rate_min: 1000 };
        patience.earn(1_000_000);
        assert_eq!(patience.left, 10 * second);
        for _ in 0..100 {
            patience.spend(second);
            patience.earn(1000);
        }
        assert_eq!(patience.left, 10 * second, "exactly the lowest rate lasts for ever");
        for _ in 0..19 {
            patience.spend(second);
            patience.earn(500);
        }
        assert_eq!(patience.left, second / 2, "half of it lasts twice the patience");
    }
}

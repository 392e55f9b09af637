//! A request's body that must keep coming: slow is fine, standing still is not.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::Limits;
use super::socket::Activity;
use crate::transport::patience::Patience;

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
    activity: Arc<Activity>,
}

impl Paced {
    pub(super) fn new(inner: Incoming, limits: &Limits, activity: Arc<Activity>) -> Self {
        let patience = Patience::new(limits.body_patience, limits.body_rate_min);
        if inner.is_end_stream() {
            activity.request_ended();
        }
        Self { inner, patience, waiting: None, activity }
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
                this.activity.request_ended();
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        this.activity.body_wanted(cx.waker());
        let left = this.patience.left();
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

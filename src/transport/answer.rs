//! The body of an answer that carries SETs or verdicts: whether they left is known only when it has.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use hyper::body::{Frame, SizeHint};

use crate::engine::Slot;
use crate::metrics::{PeerMetrics, Transport};
use crate::peer::Ending;

/// What an answer is made of.
pub(super) struct Content {
    pub(super) bytes: Bytes,
    /// SETs in it.
    pub(super) sets: usize,
    pub(super) transport: Transport,
}

/// The answer with this body, which leaves by `slot`.
pub(super) fn answer(status: StatusCode, content: Content, slot: Slot, metrics: Arc<PeerMetrics>) -> Response<Body> {
    let Content { bytes, sets, transport } = content;
    let answer = Answer { length: bytes.len(), bytes: Some(bytes), slot: Some(slot), sets, transport, metrics };
    let mut response = Response::new(Body::new(answer));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static("en"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The body of an answer. What it carries counts as delivered once the connection has taken it to write; a client that
/// has gone before loses it, and the core sends it again.
struct Answer {
    bytes: Option<Bytes>,
    slot: Option<Slot>,
    sets: usize,
    length: usize,
    transport: Transport,
    metrics: Arc<PeerMetrics>,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.bytes.is_none()
            && let Some(slot) = self.slot.take()
        {
            self.metrics.sent(self.transport, self.sets, self.length);
            slot.close(Ending::Delivered);
        }
    }
}

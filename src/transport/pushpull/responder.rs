//! The Responder over HTTP (draft §HTTP Request Response Binding): one slot a request.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Config, encode};
use crate::cpu;
use crate::engine::{ArrivalRoom, Handle, Partner, Slot};
use crate::metrics::{PeerMetrics, Transport};
use crate::peer::{Ending, Transmission, WaitsFor};
use crate::transport::reply;
use crate::wire;

/// The longest time for a request's body.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// Lets a partner's request in, or answers that it makes too many (429), whatever the request is. Before its body is read.
pub fn admit(partner: &Partner, config: &Config) -> Result<(), Response<Body>> {
    partner.requests.take(config.request_rate(), partner.now()).map_err(|empty| {
        let what =
            format!("more than {} requests a second: nothing is lost, send it again", config.requests_per_second_max);
        reply::too_many(&what, empty.wait)
    })
}

/// Answers one `POST /pushpull` of a partner that has identified itself.
///
/// What it brought takes effect only as a whole: a malformed object has none (400, 413).
pub async fn exchange(partner: Arc<Partner>, config: Arc<Config>, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let bytes_max = match check_headers(&head.headers, config.limits.object_bytes_max) {
        Ok(bytes_max) => bytes_max,
        Err(refusal) => return refusal,
    };
    // Room comes before the body: however many requests a partner makes at once, their bodies stay within its bounds.
    let handle = partner.handle();
    let Some(room) = handle.try_arrival_room(bytes_max) else {
        return reply::overloaded("busy: too much of what you sent is unfinished");
    };
    let body = match read(body, config.limits.object_bytes_max).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    partner.metrics.received_bytes(Transport::Http, body.len());
    let object = match partner.inspector().read(body, config.limits).await {
        Ok(object) => object,
        Err(malformed) => return refuse(&malformed),
    };
    partner.note_request();
    let deadline = Instant::now() + config.answer_within;
    match timeout_at(deadline, converse(&partner, &config, handle, object, room)).await {
        Ok(response) => response,
        Err(_) => reply::overloaded("busy: no answer within a second, nothing is lost, send it again"),
    }
}

async fn converse(
    partner: &Arc<Partner>,
    config: &Config,
    handle: Handle,
    object: wire::Object,
    room: ArrivalRoom,
) -> Response<Body> {
    let sets_max = object.max_response_events.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
    let spec = config.exchange_spec(sets_max, WaitsFor::Answers);
    let Ok(mut slot) = handle.open_slot(spec, Some(config.hold())).await else {
        return reply::overloaded("stopping");
    };
    let (id, patience, bringer) = (slot.id(), config.patience(), Arc::clone(partner));
    // On its own, so that verdicts which come too late for this answer still count.
    let bringing = async move {
        let _ = bringer.bring(&handle, Some(id), object, room, patience).await;
    };
    tokio::spawn(cpu::throughout(cpu::Stage::Frame, bringing));
    let Some(answer) = slot.next().await else {
        return reply::overloaded("stopping");
    };
    let mut response = Response::new(Body::new(Answer::new(&answer, slot, Arc::clone(&partner.metrics))));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static("en"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What can be told from the headers alone, before the body is read: how long it is at most, or why it is not wanted.
fn check_headers(headers: &HeaderMap, body_bytes_max: usize) -> Result<usize, Response<Body>> {
    let unsupported = |what: &str| reply::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request", what);
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(unsupported("Content-Encoding is not supported: send the body as it is"));
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let media = types.next().and_then(|value| value.to_str().ok()).unwrap_or_default();
    if types.next().is_some() || !is_json(media) {
        return Err(unsupported("Content-Type must be application/json (in UTF-8)"));
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let length = length.map_or(body_bytes_max, |length| usize::try_from(length).unwrap_or(usize::MAX));
    if length > body_bytes_max { Err(too_large(body_bytes_max)) } else { Ok(length) }
}

/// `application/json`, with any parameters but another charset than UTF-8.
fn is_json(media: &str) -> bool {
    let mut parts = media.split(';').map(str::trim);
    let json = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    json && parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    })
}

async fn read(body: Body, bytes_max: usize) -> Result<Bytes, Response<Body>> {
    let refuse = |what| reply::error(StatusCode::BAD_REQUEST, "invalid_request", what);
    match timeout(BODY_WITHIN, Limited::new(body, bytes_max).collect()).await {
        Err(_) => Err(reply::error(StatusCode::REQUEST_TIMEOUT, "invalid_request", "the body came too slowly")),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(bytes_max)),
        Ok(Err(_)) => Err(refuse("the body could not be read")),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}

fn refuse(malformed: &wire::Malformed) -> Response<Body> {
    let status = if malformed.kind.is_too_big() { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
    reply::error(status, "invalid_request", &malformed.to_string())
}

fn too_large(bytes_max: usize) -> Response<Body> {
    reply::error(
        StatusCode::PAYLOAD_TOO_LARGE,
        "invalid_request",
        &format!("the body is larger than {bytes_max} bytes: send fewer SETs at once"),
    )
}

/// The body of an answer. What it carries counts as delivered once the connection has taken it to write; a client that
/// has gone before loses it, and the core sends it again.
struct Answer {
    bytes: Option<Bytes>,
    slot: Option<Slot>,
    sets: usize,
    length: usize,
    metrics: Arc<PeerMetrics>,
}

impl Answer {
    fn new(object: &Transmission, slot: Slot, metrics: Arc<PeerMetrics>) -> Self {
        let bytes = encode(object, None);
        Self { sets: object.sets.len(), length: bytes.len(), bytes: Some(bytes), slot: Some(slot), metrics }
    }
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
            self.metrics.sent(Transport::Http, self.sets, self.length);
            slot.close(Ending::Delivered);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_recognised_with_parameters_and_in_utf8_alone() {
        for good in ["application/json", "Application/JSON", "application/json; charset=UTF-8", "application/json;v=1"]
        {
            assert!(is_json(good), "{good}");
        }
        for bad in
            ["", "text/json", "application/json; charset=latin1", "application/secevent+jwt", "application/jsonx"]
        {
            assert!(!is_json(bad), "{bad}");
        }
    }
}

//! The Responder over HTTP (draft §HTTP Request Response Binding): one slot a request.

use std::sync::Arc;

use axum::body::Body;
use http::{Request, Response, StatusCode};

use super::{Config, encode};
use crate::engine::Partner;
use crate::metrics::Transport;
use crate::peer::WaitsFor;
use crate::transport::answer::{self, Content};
use crate::transport::directory::Pass;
use crate::transport::request::{self, Media, Visit};

/// Answers one `POST /pushpull` of a partner that has identified itself.
///
/// What it brought takes effect only as a whole: a malformed object has none (400, 413).
pub async fn exchange(
    partner: Arc<Partner>,
    pass: &Pass,
    config: Arc<Config>,
    request: Request<Body>,
) -> Response<Body> {
    let bytes_max = config.limits.object_bytes_max;
    let received = request::receive(&partner, pass, request, Media::Json, bytes_max, Transport::Http).await;
    let Visit { handle, room, body } = match received {
        Ok(visit) => visit,
        Err(refusal) => return refusal,
    };
    let object = match partner.inspector().read(body, config.limits).await {
        Ok(object) => object,
        Err(malformed) => return request::refuse(&malformed),
    };
    partner.note_request(Transport::Http);
    let sets_max = object.max_response_events.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
    let (bringer, to, patience) = (Arc::clone(&partner), handle.clone(), config.patience());
    let bring = |slot| async move { bringer.bring(&to, Some(slot), object, room, patience).await };
    let spec = config.exchange_spec(sets_max, WaitsFor::Answers);
    let (slot, answer) = match request::converse(&config, &handle, spec, bring).await {
        Ok(said) => said,
        Err(refusal) => return refusal,
    };
    let content = Content { bytes: encode(&answer, None), sets: answer.sets.len(), transport: Transport::Http };
    answer::answer(StatusCode::OK, content, slot, Arc::clone(&partner.metrics))
}

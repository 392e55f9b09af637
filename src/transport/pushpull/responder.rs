//! The Responder over HTTP (draft §HTTP Request Response Binding): one slot a request.

use std::sync::Arc;

use axum::body::Body;
use http::{Request, Response, StatusCode};
use tokio::time::{Instant, timeout_at};

use super::{Config, encode};
use crate::cpu;
use crate::engine::{ArrivalRoom, Handle, Partner};
use crate::metrics::Transport;
use crate::peer::WaitsFor;
use crate::transport::answer::{self, Content};
use crate::transport::reply;
use crate::transport::request::{self, Media, Visit};
use crate::wire;

/// Answers one `POST /pushpull` of a partner that has identified itself.
///
/// What it brought takes effect only as a whole: a malformed object has none (400, 413).
pub async fn exchange(partner: Arc<Partner>, config: Arc<Config>, request: Request<Body>) -> Response<Body> {
    let received = request::receive(&partner, request, Media::Json, config.limits.object_bytes_max, Transport::Http);
    let Visit { handle, room, body } = match received.await {
        Ok(visit) => visit,
        Err(refusal) => return refusal,
    };
    let object = match partner.inspector().read(body, config.limits).await {
        Ok(object) => object,
        Err(malformed) => return request::refuse(&malformed),
    };
    partner.note_request(Transport::Http);
    let deadline = Instant::now() + config.answer_within;
    match timeout_at(deadline, converse(&partner, &config, handle, object, room)).await {
        Ok(response) => response,
        Err(_) => request::too_late(),
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
    let content = Content { bytes: encode(&answer, None), sets: answer.sets.len(), transport: Transport::Http };
    answer::answer(StatusCode::OK, content, slot, Arc::clone(&partner.metrics))
}

//! The Receiver: one slot a request, for whatever verdicts are owed.

use std::sync::Arc;

use axum::body::Body;
use http::{Request, Response, StatusCode};

use crate::engine::Partner;
use crate::metrics::Transport;
use crate::peer::WaitsFor;
use crate::transport::answer::{self, Content};
use crate::transport::directory::Pass;
use crate::transport::pushpull::{Config, verdicts};
use crate::transport::reply;
use crate::transport::request::{self, Media, Visit};
use crate::wire::{self, Kind, Malformed};

/// Answers one `POST /multi-push` of a partner that has identified itself: 202 and the verdicts there are, on these SETs or on
/// earlier ones. A malformed request has no effect (400, 413).
pub(in crate::transport) async fn receive(
    partner: Arc<Partner>,
    pass: &Pass,
    config: Arc<Config>,
    request: Request<Body>,
) -> Response<Body> {
    let bytes_max = config.limits.object_bytes_max;
    let received = request::receive(&partner, pass, request, Media::Json, bytes_max, Transport::MultiPush).await;
    let Visit { handle, room, body } = match received {
        Ok(visit) => visit,
        Err(refusal) => return refusal,
    };
    let limits = config.limits;
    let object = match partner.inspector().read_as(body, move |body| wire::parse_multi_push(body, &limits)).await {
        Ok(object) => object,
        Err(malformed) => return refuse(&malformed),
    };
    partner.note_request(Transport::MultiPush);
    let (bringer, to, patience) = (Arc::clone(&partner), handle.clone(), config.patience());
    let bring = |slot| async move { bringer.bring(&to, Some(slot), object, room, patience).await };
    let spec = config.exchange_spec(0, WaitsFor::Answers);
    let (slot, answer) = match request::converse(&config, &handle, spec, bring).await {
        Ok(said) => said,
        Err(refusal) => return refusal,
    };
    let (acks, errors) = verdicts(&answer);
    let bytes = wire::write_verdicts(acks, errors).into();
    let content = Content { bytes, sets: 0, transport: Transport::MultiPush };
    answer::answer(StatusCode::ACCEPTED, content, slot, Arc::clone(&partner.metrics))
}

/// The draft has a code of its own for one SET too many.
fn refuse(malformed: &Malformed) -> Response<Body> {
    match malformed.kind {
        Kind::TooManySets => reply::error(StatusCode::PAYLOAD_TOO_LARGE, "too_many_sets", &malformed.to_string()),
        _ => request::refuse(malformed),
    }
}

//! The Recipient (RFC 8935 §2): one slot a request, for the verdict on the one SET that it brings.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use serde_json::Value;

use crate::engine::Partner;
use crate::metrics::Transport;
use crate::peer::{Ending, SlotSpec, Verdict, Verdicts, WaitsFor};
use crate::set::{ErrorCode, Jti, Refusal, decode};
use crate::transport::directory::Pass;
use crate::transport::pushpull::Config;
use crate::transport::reply;
use crate::transport::request::{self, Media, Visit};
use crate::wire::Limits;

/// Answers one `POST /push` of a partner that has identified itself: 202 once the SET is durable here, 400 with the reason if
/// it never will be, 503 if neither is known within a second.
pub(in crate::transport) async fn receive(
    partner: Arc<Partner>,
    pass: &Pass,
    config: Arc<Config>,
    request: Request<Body>,
) -> Response<Body> {
    let bytes_max = config.limits.set_bytes_max;
    let received = request::receive(&partner, pass, request, Media::Set, bytes_max, Transport::Push).await;
    let Visit { handle, room, body } = match received {
        Ok(visit) => visit,
        Err(refusal) => return refusal,
    };
    let set = match named(&body, &config.limits) {
        Ok(set) => set,
        Err(refusal) => return refuse(&refusal),
    };
    partner.note_request(Transport::Push);
    let spec = SlotSpec { sets_max: 0, bytes_max: 0, verdicts: Verdicts::Own, waits_for: WaitsFor::Answers, by: None };
    let (bringer, to, patience) = (Arc::clone(&partner), handle.clone(), config.patience());
    let bring = |slot| async move { bringer.bring_one(&to, slot, set, room, patience).await };
    let (slot, mut answer) = match request::converse(&config, &handle, spec, bring).await {
        Ok(said) => said,
        Err(refusal) => return refusal,
    };
    // If it does not arrive, the SET comes again and is told the same.
    slot.close(Ending::Delivered);
    match answer.verdicts.pop() {
        Some((_, Verdict::Acked)) => accepted(),
        Some((_, Verdict::Refused(refusal))) => refuse(&refusal),
        None => reply::overloaded("no verdict on this SET yet: nothing is lost, send it again"),
    }
}

/// The SET under the jti that it bears itself. Whatever else is wrong with it is for the verifier to say.
fn named(body: &Bytes, limits: &Limits) -> Result<(Jti, Arc<str>), Refusal> {
    let refuse = |what: String| Refusal::new(ErrorCode::InvalidRequest, what);
    let text =
        std::str::from_utf8(body).map_err(|_| refuse("the body is no compact SET: it is not UTF-8".to_owned()))?;
    // Some clients end a body as they end a line.
    let compact = text.trim_end_matches(['\r', '\n']);
    let (_, claims) = decode(compact)?;
    match claims.get("jti").and_then(Value::as_str) {
        None | Some("") => Err(refuse("claim `jti` is missing, empty or no string".to_owned())),
        Some(jti) if jti.len() > limits.jti_bytes_max => {
            Err(refuse(format!("claim `jti` is longer than {} bytes", limits.jti_bytes_max)))
        }
        Some(jti) => Ok((Jti::from(jti), compact.into())),
    }
}

/// 202 with an empty body (RFC 8935 §2.2).
fn accepted() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

/// 400 with the reason (RFC 8935 §2.3).
fn refuse(refusal: &Refusal) -> Response<Body> {
    reply::error(StatusCode::BAD_REQUEST, refusal.code.as_str(), &refusal.description)
}

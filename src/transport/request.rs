//! What every endpoint asks of a request before it looks at its contents: whose it is, how often, of what kind, how long.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time::timeout;

use super::directory::Pass;
use super::{pushpull, reply};
use crate::auth::Unauthorised;
use crate::cpu;
use crate::engine::{ArrivalRoom, Handle, Partner, Slot, Stopped};
use crate::metrics::Transport;
use crate::peer::{SlotId, SlotSpec, Transmission};
use crate::wire;

/// The longest time for a request's body.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// What the body has to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Media {
    /// `application/json`.
    Json,
    /// `application/secevent+jwt`, one SET (RFC 8417 §7.2).
    Set,
}

impl Media {
    fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Set => "application/secevent+jwt",
        }
    }

    /// Whether this names it, with any parameters but another charset than UTF-8.
    fn is_named_by(self, text: &str) -> bool {
        let mut parts = text.split(';').map(str::trim);
        let same = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case(self.as_str()));
        same && parts.all(|parameter| match parameter.split_once('=') {
            Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
                value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
            }
            _ => true,
        })
    }
}

/// A request that has been let in, whole.
pub(super) struct Visit {
    /// Reaches the partner's actor.
    pub(super) handle: Handle,
    /// Room there for what the request brings.
    pub(super) room: ArrivalRoom,
    pub(super) body: Bytes,
}

/// Takes a request in: what is wrong with it is told from its headers if that can be.
pub(super) async fn receive(
    partner: &Partner,
    pass: &Pass,
    request: Request<Body>,
    wanted: Media,
    bytes_max: usize,
    transport: Transport,
) -> Result<Visit, Response<Body>> {
    let (head, body) = request.into_parts();
    let length_max = check_headers(&head.headers, wanted, bytes_max)?;
    // Room comes before the body: however many requests a partner makes at once, their bodies stay within its bounds.
    let handle = partner.handle();
    let Some(room) = handle.try_arrival_room(length_max) else {
        return Err(reply::overloaded("busy: too much of what you sent is unfinished"));
    };
    let body = read(body, wanted, bytes_max).await?;
    // It may have taken its time, and the token may have lost its meaning since the headers came.
    if pass.is_revoked() {
        return Err(revoked());
    }
    partner.metrics.received_bytes(transport, body.len());
    Ok(Visit { handle, room, body })
}

/// Offers a slot for the answer, has what the request held brought to the actor, and waits for what there is to say: the
/// answers' own time, and then a 503.
pub(super) async fn converse<F>(
    config: &pushpull::Config,
    handle: &Handle,
    spec: SlotSpec,
    bring: impl FnOnce(SlotId) -> F,
) -> Result<(Slot, Transmission), Response<Body>>
where
    F: Future<Output = Result<(), Stopped>> + Send + 'static,
{
    let talking = async {
        let mut slot = handle.open_slot(spec, Some(config.hold())).await.ok()?;
        let bringing = bring(slot.id());
        let bringing = async move {
            // A stopped actor shows in the slot.
            let _ = bringing.await;
        };
        // On its own: whoever asked may have gone, or verdicts come too late for this answer, and all of it counts the same.
        tokio::spawn(cpu::throughout(cpu::Stage::Frame, bringing));
        let object = slot.next().await?;
        Some((slot, object))
    };
    match timeout(config.answer_within, talking).await {
        Ok(Some(said)) => Ok(said),
        Ok(None) => Err(reply::overloaded("stopping")),
        Err(_) => Err(too_late()),
    }
}

/// What is said to whoever presented a token that means nothing any more.
pub(super) fn revoked() -> Response<Body> {
    reply::unauthorised(Unauthorised::Unknown)
}

/// What is said when there is no answer in time.
pub(super) fn too_late() -> Response<Body> {
    reply::overloaded("busy: no answer within a second, nothing is lost, send it again")
}

/// Lets a partner's request in, or answers that it makes too many (429), whatever the request is. Before its body is read.
pub(super) fn admit(partner: &Partner, config: &pushpull::Config) -> Result<(), Response<Body>> {
    partner.requests.take(config.request_rate(), partner.now()).map_err(|empty| {
        let what =
            format!("more than {} requests a second: nothing is lost, send it again", config.requests_per_second_max);
        reply::too_many(&what, empty.wait)
    })
}

/// What can be told from the headers alone, before the body is read: how long it is at most, or why it is not wanted.
fn check_headers(headers: &HeaderMap, wanted: Media, body_bytes_max: usize) -> Result<usize, Response<Body>> {
    let unsupported = |what: &str| reply::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request", what);
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(unsupported("Content-Encoding is not supported: send the body as it is"));
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let media = types.next().and_then(|value| value.to_str().ok()).unwrap_or_default();
    if types.next().is_some() || !wanted.is_named_by(media) {
        return Err(unsupported(&format!("Content-Type must be {} (in UTF-8)", wanted.as_str())));
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let length = length.map_or(body_bytes_max, |length| usize::try_from(length).unwrap_or(usize::MAX));
    if length > body_bytes_max { Err(too_large(wanted, body_bytes_max)) } else { Ok(length) }
}

/// The whole body.
async fn read(body: Body, wanted: Media, bytes_max: usize) -> Result<Bytes, Response<Body>> {
    let slow =
        || reply::error(StatusCode::REQUEST_TIMEOUT, "invalid_request", "the body did not come to its end in time");
    let refuse = |what| reply::error(StatusCode::BAD_REQUEST, "invalid_request", what);
    match timeout(BODY_WITHIN, Limited::new(body, bytes_max).collect()).await {
        Err(_) => Err(slow()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(wanted, bytes_max)),
        // That says nothing of a pushed SET, on which a 400 with a registered code would be the last word.
        Ok(Err(_)) if wanted == Media::Set => Err(slow()),
        Ok(Err(_)) => Err(refuse("the body could not be read")),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}

/// The body is not what it should be.
pub(super) fn refuse(malformed: &wire::Malformed) -> Response<Body> {
    let status = if malformed.kind.is_too_big() { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
    reply::error(status, "invalid_request", &malformed.to_string())
}

fn too_large(wanted: Media, bytes_max: usize) -> Response<Body> {
    let what = match wanted {
        Media::Json => format!("the body is larger than {bytes_max} bytes: send fewer SETs at once"),
        Media::Set => format!("the SET is larger than {bytes_max} bytes, which is the most that is taken here"),
    };
    reply::error(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request", &what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_recognised_with_parameters_and_in_utf8_alone() {
        for good in ["application/json", "Application/JSON", "application/json; charset=UTF-8", "application/json;v=1"]
        {
            assert!(Media::Json.is_named_by(good), "{good}");
        }
        for bad in
            ["", "text/json", "application/json; charset=latin1", "application/secevent+jwt", "application/jsonx"]
        {
            assert!(!Media::Json.is_named_by(bad), "{bad}");
        }
        assert!(Media::Set.is_named_by("application/secevent+jwt; charset=utf-8"));
        assert!(!Media::Set.is_named_by("application/jwt"));
    }
}

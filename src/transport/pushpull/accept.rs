//! The Responder's side of the WebSocket handshake (RFC 6455 §4.2, draft §Pushpull Subprotocol Handshake).

use std::sync::Arc;

use axum::body::Body;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tracing::{info, warn};

use super::elastic::Elastic;
use super::watched::Watched;
use super::{Config, SUBPROTOCOL, objects, websocket};
use crate::codes::Code;
use crate::cpu;
use crate::engine::{Partner, Seat};
use crate::transport::{Pass, reply};

/// WebSockets of one partner at the same time, those that we dialled too (docs/configuration.md). Both of its nodes, and a
/// few that it does not yet know to be dead.
const SOCKETS_MAX: usize = 8;

/// Answers `GET /pushpull` of a partner that has identified itself: 101 and a WebSocket, or why not.
pub fn upgrade(
    partner: Arc<Partner>,
    pass: Pass,
    config: Arc<Config>,
    mut request: Request<Body>,
    stop: watch::Receiver<bool>,
) -> Response<Body> {
    let accept = match check(request.version(), request.headers()) {
        Ok(accept) => accept,
        Err(refusal) => return refusal,
    };
    // Taken before the 101, so that a burst of handshakes cannot get past the limit.
    let Some(seat) = partner.seat_among(SOCKETS_MAX) else {
        let why =
            format!("{SOCKETS_MAX} WebSockets are open between us, and a partner may have no more: close one first");
        return reply::overloaded(&why);
    };
    let upgraded = hyper::upgrade::on(&mut request);
    let told = partner.note_connection();
    let conversing = async move {
        let io = match upgraded.await {
            Ok(io) => TokioIo::new(io),
            Err(error) => {
                if told.is_some() {
                    warn!(peer = %partner.name, code = %Code::LinkDown, transport = "websocket", why = %error, "the WebSocket handshake broke off");
                }
                return;
            }
        };
        if let Some(count) = told {
            info!(peer = %partner.name, transport = "websocket", count, "link up, the partner dialled");
        }
        let why = Box::pin(converse(io, seat, config, stop, Some(pass))).await;
        if told.is_some() {
            info!(peer = %partner.name, transport = "websocket", why, "link down, the partner had dialled");
        }
    };
    tokio::spawn(cpu::throughout(cpu::Stage::Frame, conversing));
    switching(accept)
}

/// The WebSocket on a connection whose handshake is over.
pub(super) async fn socket<S>(io: S, config: &Config) -> Elastic<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let watched = Watched::accepted(io, config.silence_max());
    let settings = Some(websocket::settings(config));
    Elastic::new(WebSocketStream::from_raw_socket(watched, Role::Server, settings).await, Role::Server)
}

/// The answer with which a connection becomes a WebSocket.
pub(super) fn switching(accept: HeaderValue) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    response
}

/// Speaks over a connection whose handshake is over until it ends, and says why it did. Public for the fuzzers alone,
/// which have no network.
#[doc(hidden)]
pub async fn converse<S>(
    io: S,
    seat: Seat,
    config: Arc<Config>,
    stop: watch::Receiver<bool>,
    pass: Option<Pass>,
) -> String
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    objects::run(socket(io, &config).await, seat, config, stop, pass).await.why
}

/// The value for `Sec-WebSocket-Accept`, or the refusal.
pub(super) fn check(version: Version, headers: &HeaderMap) -> Result<HeaderValue, Response<Body>> {
    let bad = |what: &str| reply::error(StatusCode::BAD_REQUEST, "invalid_request", what);
    if !lists(headers, UPGRADE, "websocket") {
        return Err(reply::method_not_allowed("POST"));
    }
    if !lists(headers, CONNECTION, "upgrade") {
        return Err(bad("the Connection header does not list Upgrade"));
    }
    if version != Version::HTTP_11 {
        return Err(bad("a connection is upgraded by HTTP/1.1 only"));
    }
    // Its bytes would be taken for the first frames by one side and not by the other.
    if headers.contains_key(TRANSFER_ENCODING) || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0") {
        return Err(bad("a WebSocket handshake has no body"));
    }
    let mut versions = headers.get_all(SEC_WEBSOCKET_VERSION).iter();
    if versions.next().is_none_or(|version| version != "13") || versions.next().is_some() {
        let mut response =
            reply::error(StatusCode::UPGRADE_REQUIRED, "invalid_request", "only version 13 of WebSocket is spoken");
        response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return Err(response);
    }
    // Exactly: what we answer has to be a name that the partner wrote (RFC 6455 §4.1), and theirs might differ in case.
    if !values(headers, SEC_WEBSOCKET_PROTOCOL).any(|value| value == SUBPROTOCOL) {
        return Err(bad("the Sec-WebSocket-Protocol header does not list pushpull"));
    }
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    match (keys.next(), keys.next()) {
        (Some(key), None) if is_key(key) => {
            HeaderValue::try_from(derive_accept_key(key.as_bytes())).map_err(|_| bad("Sec-WebSocket-Key is invalid"))
        }
        _ => Err(bad("Sec-WebSocket-Key must be there once, with 16 bytes in base64")),
    }
}

/// 16 bytes in base64: 22 digits and two `=`.
fn is_key(key: &HeaderValue) -> bool {
    let key = key.as_bytes();
    key.len() == 24
        && key.ends_with(b"==")
        && key[..22].iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/'))
}

/// Whether the header's values hold this one, in any case.
fn lists(headers: &HeaderMap, name: HeaderName, wanted: &str) -> bool {
    values(headers, name).any(|value| value.eq_ignore_ascii_case(wanted))
}

/// The header's comma-separated values, however many lines they are on.
fn values(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(version: Version, more: &[(HeaderName, &'static str)]) -> Option<u16> {
        offering("pushpull", version, more)
    }

    fn offering(subprotocols: &'static str, version: Version, more: &[(HeaderName, &'static str)]) -> Option<u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (UPGRADE, "websocket"),
            (CONNECTION, "keep-alive, Upgrade"),
            (SEC_WEBSOCKET_VERSION, "13"),
            (SEC_WEBSOCKET_PROTOCOL, subprotocols),
            (SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        for (name, value) in more {
            headers.append(name, HeaderValue::from_static(value));
        }
        check(version, &headers).err().map(|refusal| refusal.status().as_u16())
    }

    #[test]
    fn a_handshake_that_two_readers_could_take_differently_is_refused() {
        assert_eq!(status(Version::HTTP_11, &[]), None);
        assert_eq!(status(Version::HTTP_11, &[(CONTENT_LENGTH, "0")]), None);
        assert_eq!(status(Version::HTTP_10, &[]), Some(400));
        assert_eq!(status(Version::HTTP_11, &[(CONTENT_LENGTH, "5")]), Some(400));
        assert_eq!(status(Version::HTTP_11, &[(TRANSFER_ENCODING, "chunked")]), Some(400));
        assert_eq!(status(Version::HTTP_11, &[(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")]), Some(400));
        assert_eq!(status(Version::HTTP_11, &[(SEC_WEBSOCKET_VERSION, "8")]), Some(426));
    }

    #[test]
    fn the_subprotocol_has_to_be_offered_by_the_very_name_that_is_answered() {
        assert_eq!(offering("soap,pushpull", Version::HTTP_11, &[]), None);
        assert_eq!(offering("soap", Version::HTTP_11, &[(SEC_WEBSOCKET_PROTOCOL, " pushpull ")]), None);
        for other in ["", "soap", "Pushpull", "pushpull.v2", "push pull"] {
            assert_eq!(offering(other, Version::HTTP_11, &[]), Some(400), "{other}");
        }
    }
}

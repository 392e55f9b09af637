//! One connection from handshake to close: feeds requests to the router and ends what takes too long.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONNECTION, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tower::ServiceExt as _;

use super::doors::Ticket;
use super::pace::Paced;
use super::socket::{Activity, Phase, Socket};
use super::{OtherSide, Remote, Server, Stage};
use crate::wire::net::{Stream, tune};

/// Serves one connection until it ends, is upgraded, breaks a limit, or the server has gone away.
pub(super) async fn serve(
    server: Server,
    tcp: TcpStream,
    remote: Remote,
    ticket: Ticket,
    mut stages: watch::Receiver<Stage>,
) {
    let mut gone = stages.clone();
    let conversation = async {
        let shaking = handshake(&server, tcp, remote);
        let stream = tokio::select! {
            stream = shaking => stream,
            // Nothing has been asked yet, so nothing is lost.
            () = draining(&mut stages) => None,
        };
        if let Some(stream) = stream {
            converse(&server, stream, remote, ticket, stages).await;
        }
    };
    tokio::select! {
        () = conversation => {}
        () = gone_away(&mut gone) => {}
    }
}

async fn draining(stages: &mut watch::Receiver<Stage>) {
    let _ = stages.wait_for(|stage| *stage == Stage::Draining).await;
}

/// Waiting for a stage that does not exist fails when the server has dropped the sender.
async fn gone_away(stages: &mut watch::Receiver<Stage>) {
    let _ = stages.wait_for(|_| false).await;
}

async fn handshake(server: &Server, tcp: TcpStream, remote: Remote) -> Option<Stream> {
    // Without these options the connection still works, only slower.
    let _ = tune(&tcp);
    let Some(tls) = &server.tls else { return Some(tcp.into()) };
    let acceptor = tokio_rustls::TlsAcceptor::from(tls.load_full());
    match timeout(server.limits.handshake_timeout, acceptor.accept(tcp)).await {
        Ok(Ok(stream)) => Some(stream.into()),
        Ok(Err(error)) => {
            tracing::debug!(listener = server.name, remote = %remote.0, why = %error, "the TLS handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!(listener = server.name, remote = %remote.0, "the TLS handshake took too long");
            None
        }
    }
}

async fn converse(server: &Server, stream: Stream, remote: Remote, ticket: Ticket, mut stages: watch::Receiver<Stage>) {
    let limits = &server.limits;
    let activity = Arc::new(Activity::new());
    let socket = Socket::new(stream, activity.clone(), limits.write_timeout, ticket, server.answers_half_closed);
    let service = service_fn(|request: Request<Incoming>| {
        // At once, and not when the answer is first asked for: the engine reads on before that.
        activity.enter(Phase::Busy);
        let request = request.map(|body| Paced::new(body, &server.limits, activity.clone()));
        answer(server, remote, activity.clone(), request)
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    let buffer = BUFFER_BYTES_MAX.max(limits.header_bytes_max);
    // The engine's own timeout cannot tell an idle connection from a slow head; `Activity` can.
    builder.header_read_timeout(None).max_header_size(limits.header_bytes_max).max_buf_size(buffer);
    let connection = builder.serve_connection(TokioIo::new(socket), service).with_upgrades();
    tokio::pin!(connection);
    let mut last_request = false;
    loop {
        tokio::select! {
            outcome = connection.as_mut() => {
                if let Err(error) = outcome {
                    tracing::debug!(listener = server.name, remote = %remote.0, why = %error, "the connection ended early");
                }
                return;
            }
            phase = activity.overdue(limits) => {
                if phase == Phase::Idle {
                    connection.as_mut().graceful_shutdown();
                    let _ = timeout(GOODBYE, connection.as_mut()).await;
                } else {
                    tracing::debug!(listener = server.name, remote = %remote.0, "no complete request came in time");
                }
                return;
            }
            () = draining(&mut stages), if !last_request => {
                last_request = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn answer(
    server: &Server,
    remote: Remote,
    activity: Arc<Activity>,
    request: Request<Paced>,
) -> Result<Response<Answer>, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(remote);
    request.extensions_mut().insert(OtherSide(Arc::clone(&activity)));
    let busy = Busy(Arc::clone(&activity));
    if is_ambiguous(request.version(), request.headers()) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::BAD_REQUEST;
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        return Ok(response.map(|body| Answer { body, _busy: busy }));
    }
    let mut response = server.router.clone().oneshot(request).await?;
    // With a body that nobody has read the engine closes the connection. A client that is not told so sends its next
    // request into the void.
    if !activity.is_answering() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| Answer { body, _busy: busy }))
}

/// What the engine lets pass although a proxy before us may have read it differently: no host or two of them (RFC 9112
/// §3.2), and a body that is encoded in more ways than chunks (§6.1).
fn is_ambiguous(version: Version, headers: &HeaderMap) -> bool {
    let hosts = headers.get_all(HOST).iter().count();
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let chunked = |coding: &HeaderValue| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    let plain = codings.next().is_none_or(chunked) && codings.next().is_none();
    hosts > 1 || (hosts == 0 && version == Version::HTTP_11) || !plain
}

/// An answer's body; when it is over, the connection idles.
struct Answer {
    body: Body,
    _busy: Busy,
}

struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.enter(Phase::Idle);
    }
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Bounds what one connection buffers on its way in.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// For the TLS goodbye of a connection that idled.
const GOODBYE: Duration = Duration::from_secs(1);

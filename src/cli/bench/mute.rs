//! The partner that takes whatever it is sent, answers pings, and never says a word.

use futures_util::StreamExt as _;
use http::header::{AUTHORIZATION, HOST, SEC_WEBSOCKET_PROTOCOL};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::auth::Secret;
use crate::cli::Error;
use crate::transport::pushpull::SUBPROTOCOL;
use crate::wire::net::{Allow, Dialer, Pin, Stream, Target};

/// Opens its WebSocket; the task reads until it is aborted.
pub(super) async fn connect(address: &str, pin: Option<&str>, token: &Secret) -> Result<JoinHandle<()>, Error> {
    let mut socket = open(address, pin, token).await?;
    Ok(tokio::spawn(async move { while let Some(Ok(_)) = socket.next().await {} }))
}

/// Opens a WebSocket to a side, as a partner that is none.
pub(super) async fn open(address: &str, pin: Option<&str>, token: &Secret) -> Result<WebSocketStream<Stream>, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::failed(format!("a WebSocket of a partner: {error}"));
    let url = format!("{}://{address}/pushpull", if pin.is_some() { "wss" } else { "ws" });
    let target = Target::parse(&url).map_err(|error| failed(&error))?;
    let pin = pin.map(Pin::parse).transpose().map_err(|error| failed(&error))?;
    let dialer = Dialer::new(Allow::parse(["127.0.0.0/8"]).map_err(|error| failed(&error))?);
    let stream = dialer.connect(&target, pin.as_ref()).await.map_err(|error| failed(&error))?;
    let mut request = url.into_client_request().map_err(|error| failed(&error))?;
    let headers = request.headers_mut();
    headers.insert(HOST, target.authority().parse().map_err(|error| failed(&error))?);
    headers.insert(AUTHORIZATION, token.to_bearer());
    headers.insert(SEC_WEBSOCKET_PROTOCOL, http::HeaderValue::from_static(SUBPROTOCOL));
    let (socket, _) = client_async(request, stream).await.map_err(|error| failed(&error))?;
    Ok(socket)
}

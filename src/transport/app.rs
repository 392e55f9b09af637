//! What partners reach: the routes of the public listener.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::any;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ORIGIN};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tokio::sync::watch;

use super::directory::Directory;
use super::{pushpull, reply};

/// What the routes need.
pub struct App {
    /// Who may call.
    pub directory: Arc<Directory>,
    /// Limits and intervals of push-pull.
    pub pushpull: Arc<pushpull::Config>,
    /// Our public keys, as `/jwks.json` shows them.
    pub jwks: ArcSwap<Bytes>,
    /// Turns true when WebSockets have to close.
    pub stop: watch::Receiver<bool>,
}

/// The routes of the public listener. Everything else is a 404.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/pushpull", any(pushpull_endpoint))
        .route("/jwks.json", any(jwks))
        .fallback(|| async { reply::not_found() })
        .with_state(app)
}

async fn pushpull_endpoint(State(app): State<Arc<App>>, request: Request<Body>) -> Response<Body> {
    if request.headers().contains_key(ORIGIN) {
        // Only browsers send it, and no page in a browser is a Transceiver.
        return reply::error(StatusCode::FORBIDDEN, "access_denied", "browsers may not use this endpoint");
    }
    let partner = match app.directory.caller(request.headers()) {
        Ok(partner) => partner,
        Err(refusal) => return refusal,
    };
    let config = Arc::clone(&app.pushpull);
    if let Err(refusal) = pushpull::admit(&partner, &config) {
        return refusal;
    }
    match *request.method() {
        Method::POST => pushpull::exchange(partner, config, request).await,
        Method::GET => pushpull::upgrade(partner, config, request, app.stop.clone()),
        _ => reply::method_not_allowed("POST"),
    }
}

/// Public, so that partners can verify what we sign.
async fn jwks(State(app): State<Arc<App>>, request: Request<Body>) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return reply::method_not_allowed("GET, HEAD");
    }
    let body: Bytes = app.jwks.load().as_ref().clone();
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response
}

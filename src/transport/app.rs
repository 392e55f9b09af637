//! What partners reach: the routes of the public listener.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, State};
use axum::middleware::{self, Next};
use axum::routing::any;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ORIGIN};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tokio::sync::watch;

use super::directory::{Directory, Pass};
use super::{multi_push, poll, push, pushpull, reply, request};
use crate::auth::KeyRing;
use crate::clock::Clock;
use crate::engine::Partner;
use crate::metrics::Metrics;

/// What the routes need.
pub struct App {
    /// Who may call.
    pub directory: Arc<Directory>,
    /// Limits and intervals of push-pull.
    pub pushpull: Arc<ArcSwap<pushpull::Config>>,
    /// Our keys, whose public halves `/jwks.json` shows.
    pub keys: Arc<KeyRing>,
    /// For when they were fetched.
    pub clock: Arc<dyn Clock>,
    /// Turns true when WebSockets have to close.
    pub stop: watch::Receiver<bool>,
}

/// Who calls, for how long it may, and by what limits.
type Admitted = (Arc<Partner>, Pass, Arc<pushpull::Config>);

/// The routes of the public listener. Everything else is a 404.
pub fn router(app: Arc<App>, metrics: &Metrics) -> Router {
    Router::new()
        .route("/pushpull", any(pushpull_endpoint))
        .route("/push", any(push_endpoint))
        .route("/multi-push", any(multi_push_endpoint))
        .route("/poll", any(poll_endpoint))
        .route("/jwks.json", any(jwks))
        .fallback(|| async { reply::not_found() })
        .layer(middleware::from_fn_with_state(metrics.clone(), measure))
        .with_state(app)
}

/// Measures how long a request takes to be answered, by its route: whoever asks for what is not there asks for `other`.
pub async fn measure(State(metrics): State<Metrics>, request: axum::extract::Request, next: Next) -> Response<Body> {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let started = tokio::time::Instant::now();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    metrics.answered(route, method.as_str(), response.status().as_u16(), started.elapsed());
    response
}

async fn pushpull_endpoint(State(app): State<Arc<App>>, request: Request<Body>) -> Response<Body> {
    let (partner, pass, config) = match app.admit(&request) {
        Ok(admitted) => admitted,
        Err(refusal) => return refusal,
    };
    match *request.method() {
        Method::POST => pushpull::exchange(partner, &pass, config, request).await,
        Method::GET => pushpull::upgrade(partner, pass, config, request, app.stop.clone()),
        _ => reply::method_not_allowed("POST"),
    }
}

async fn push_endpoint(State(app): State<Arc<App>>, request: Request<Body>) -> Response<Body> {
    match app.admit_post(&request) {
        Ok((partner, pass, config)) => push::receive(partner, &pass, config, request).await,
        Err(refusal) => refusal,
    }
}

async fn multi_push_endpoint(State(app): State<Arc<App>>, request: Request<Body>) -> Response<Body> {
    match app.admit_post(&request) {
        Ok((partner, pass, config)) => multi_push::receive(partner, &pass, config, request).await,
        Err(refusal) => refusal,
    }
}

async fn poll_endpoint(State(app): State<Arc<App>>, request: Request<Body>) -> Response<Body> {
    match app.admit_post(&request) {
        Ok((partner, pass, config)) => poll::answer_poll(partner, pass, config, request, app.stop.clone()).await,
        Err(refusal) => refusal,
    }
}

impl App {
    /// Who calls, if it may. Looks at no body.
    fn admit(&self, request: &Request<Body>) -> Result<Admitted, Response<Body>> {
        if request.headers().contains_key(ORIGIN) {
            // Only browsers send it, and no page in a browser is a Transceiver.
            return Err(reply::error(StatusCode::FORBIDDEN, "access_denied", "browsers may not use this endpoint"));
        }
        let (partner, pass) = self.directory.caller(request.headers())?;
        let config = self.pushpull.load_full();
        request::admit(&partner, &config)?;
        Ok((partner, pass, config))
    }

    /// The same where nothing but POST is of use.
    fn admit_post(&self, request: &Request<Body>) -> Result<Admitted, Response<Body>> {
        let admitted = self.admit(request)?;
        match *request.method() {
            Method::POST => Ok(admitted),
            _ => Err(reply::method_not_allowed("POST")),
        }
    }
}

/// Public, so that partners can verify what we sign.
async fn jwks(State(app): State<Arc<App>>, request: Request<Body>) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return reply::method_not_allowed("GET, HEAD");
    }
    let mut response = Response::new(Body::from(app.keys.jwks()));
    if *request.method() == Method::GET {
        app.keys.note_fetch(app.clock.now().wall);
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response
}

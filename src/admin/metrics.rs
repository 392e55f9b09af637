//! `GET /metrics`: the exposition, in the format that is asked for.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response};

use super::Admin;
use super::problem::Problem;
use crate::metrics::Format;

pub(super) async fn expose(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response<Body> {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = Format::wanted(accept);
    let Ok(text) = admin.transceiver.expose(format).await else {
        return Problem::unavailable("the metrics could not be written").respond();
    };
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

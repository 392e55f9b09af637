//! Answers to partners that are not Communication Objects (RFC 8935 §2.3, draft §Error Response).

use std::time::Duration;

use axum::body::Body;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};

use crate::auth::Unauthorised;
use crate::wire;

/// An error in the form of RFC 8935 §2.3.
pub(super) fn error(status: StatusCode, err: &str, description: &str) -> Response<Body> {
    json(status, wire::error_body(err, description))
}

/// An answer with this body.
pub(super) fn json(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static("en"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// 401: the caller is not known.
pub(super) fn unauthorised(why: Unauthorised) -> Response<Body> {
    let mut response =
        error(StatusCode::UNAUTHORIZED, "authentication_failed", "no known bearer token in the Authorization header");
    response.headers_mut().insert(WWW_AUTHENTICATE, why.www_authenticate());
    response
}

/// 503: come again in a second.
pub(super) fn overloaded(description: &str) -> Response<Body> {
    let mut response = error(StatusCode::SERVICE_UNAVAILABLE, "invalid_request", description);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// 429: come again after this time.
pub(super) fn too_many(description: &str, wait: Duration) -> Response<Body> {
    let mut response = error(StatusCode::TOO_MANY_REQUESTS, "invalid_request", description);
    // In whole seconds. By then there is room for more than one request.
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().saturating_add(1)));
    response
}

/// 405: only `allowed`.
pub(super) fn method_not_allowed(allowed: &'static str) -> Response<Body> {
    let mut response =
        error(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", &format!("this endpoint takes {allowed} only"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// 404: nothing here.
pub(super) fn not_found() -> Response<Body> {
    error(StatusCode::NOT_FOUND, "invalid_request", "there is nothing at this path")
}

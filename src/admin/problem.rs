//! Errors of the admin API: `application/problem+json` (RFC 9457) with a stable `code`.

use axum::body::Body;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use crate::store;
use crate::transceiver::{SubmitError, SubmitFault};

/// What is wrong, for a program (`code`) and for a person (`detail`).
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    /// The line of an NDJSON body, from 1.
    line: Option<usize>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), line: None }
    }

    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    pub(super) fn no_such_peer(name: &str) -> Self {
        let detail = format!("there is no peer {name:?}: `pushpull peer ls` shows those there are");
        Self::new(StatusCode::NOT_FOUND, "no_such_peer", detail)
    }

    pub(super) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    }

    pub(super) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not take that method")
    }

    pub(super) fn misdirected() -> Self {
        let detail = "the Host header names none of ours: use a loopback name, or add the name to admin.hosts";
        Self::new(StatusCode::MISDIRECTED_REQUEST, "foreign_host", detail)
    }

    pub(super) fn foreign_origin() -> Self {
        Self::new(StatusCode::FORBIDDEN, "foreign_origin", "web pages of other sites may not use this API")
    }

    pub(super) fn no_token() -> Self {
        let detail = "send the content of admin.token_file as Authorization: Bearer …";
        Self::new(StatusCode::UNAUTHORIZED, "no_token", detail)
    }

    pub(super) fn wrong_token() -> Self {
        let detail = "the bearer token is not the one in admin.token_file";
        Self::new(StatusCode::UNAUTHORIZED, "wrong_token", detail)
    }

    pub(super) fn at_line(mut self, line: usize) -> Self {
        self.line = Some(line);
        self
    }

    pub(super) fn respond(self) -> Response<Body> {
        let mut problem = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("error"),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        if let (Some(line), Value::Object(members)) = (self.line, &mut problem) {
            members.insert("line".to_owned(), json!(line));
        }
        let mut response = json_response(self.status, &problem);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"pushpull admin\""));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        let detail = error.to_string();
        match error.fault {
            SubmitFault::NoSuchPeer(_) => Self::new(StatusCode::NOT_FOUND, "no_such_peer", detail),
            SubmitFault::Invalid(_) => Self::new(StatusCode::BAD_REQUEST, "invalid_event", detail),
            SubmitFault::NotSent(_) => Self::new(StatusCode::BAD_REQUEST, "type_not_sent", detail),
            SubmitFault::Conflict(_) => Self::new(StatusCode::CONFLICT, "jti_conflict", detail),
            SubmitFault::OutboxFull { .. } => Self::new(StatusCode::SERVICE_UNAVAILABLE, "outbox_full", detail),
            SubmitFault::StorageFull => Self::new(StatusCode::SERVICE_UNAVAILABLE, "storage_full", detail),
            SubmitFault::StorageFailed => Self::new(StatusCode::SERVICE_UNAVAILABLE, "storage_failed", detail),
            SubmitFault::Stopped => Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", detail),
        }
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        let detail = error.to_string();
        match error {
            store::Error::Full => Self::new(StatusCode::SERVICE_UNAVAILABLE, "storage_full", detail),
            store::Error::Invalid(_) => Self::new(StatusCode::BAD_REQUEST, "invalid_request", detail),
            _ => Self::new(StatusCode::SERVICE_UNAVAILABLE, "storage_failed", detail),
        }
    }
}

/// A JSON answer.
pub(super) fn json_response(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

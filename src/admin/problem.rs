//! Errors of the admin API: `application/problem+json` (RFC 9457) with a stable `code`.

use axum::body::Body;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use crate::codes::Code;
use crate::store;
use crate::transceiver::{SubmitError, SubmitFault};

/// What is wrong, for a program (`code`) and for a person (`detail`).
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: Code,
    detail: String,
    /// What to do, where the code's own remedy is not the best there is.
    fix: Option<String>,
    /// The line of an NDJSON body, from 1.
    line: Option<usize>,
    /// What is wrong in several places, one text each.
    problems: Vec<String>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: Code, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), fix: None, line: None, problems: Vec::new() }
    }

    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::InvalidRequest, detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, Code::NotFound, detail)
    }

    pub(super) fn no_such_peer(name: &str) -> Self {
        let detail = format!("there is no peer {name:?}: `pushpull peer ls` shows those there are");
        Self::new(StatusCode::NOT_FOUND, Code::NoSuchPeer, detail)
    }

    pub(super) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, Code::Conflict, detail)
    }

    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, detail)
    }

    pub(super) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, Code::TooLarge, detail)
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, Code::MethodNotAllowed, "this path does not take that method")
    }

    pub(super) fn misdirected() -> Self {
        let detail = "the Host header names none of ours: use a loopback name, or add the name to admin.hosts";
        Self::new(StatusCode::MISDIRECTED_REQUEST, Code::ForeignHost, detail)
    }

    pub(super) fn foreign_origin() -> Self {
        Self::new(StatusCode::FORBIDDEN, Code::ForeignOrigin, "web pages of other sites may not use this API")
    }

    pub(super) fn no_token() -> Self {
        let detail = "send the content of admin.token_file as Authorization: Bearer …";
        Self::new(StatusCode::UNAUTHORIZED, Code::NoToken, detail)
    }

    pub(super) fn wrong_token() -> Self {
        let detail = "the bearer token is not the one in admin.token_file";
        Self::new(StatusCode::UNAUTHORIZED, Code::WrongToken, detail)
    }

    pub(super) fn code(&self) -> Code {
        self.code
    }

    /// A better remedy than the code's own.
    pub(super) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// All that is wrong, where it is more than one thing.
    pub(super) fn listing(mut self, problems: Vec<String>) -> Self {
        self.problems = problems;
        self
    }

    pub(super) fn at_line(mut self, line: usize) -> Self {
        self.line = Some(line);
        self
    }

    pub(super) fn respond(self) -> Response<Body> {
        let entry = self.code.entry();
        let mut problem = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("error"),
            "status": self.status.as_u16(),
            "code": self.code.as_str(),
            "detail": self.detail,
            "who_acts": entry.who.as_str(),
            "fix": self.fix.as_deref().unwrap_or(entry.remedy),
        });
        if let (Some(line), Value::Object(members)) = (self.line, &mut problem) {
            members.insert("line".to_owned(), json!(line));
        }
        if let (false, Value::Object(members)) = (self.problems.is_empty(), &mut problem) {
            members.insert("problems".to_owned(), json!(self.problems));
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
        Self::from_fault(&error.fault, error.to_string())
    }
}

impl Problem {
    /// What could not be submitted.
    pub(super) fn from_fault(fault: &SubmitFault, detail: String) -> Self {
        match fault {
            SubmitFault::NoSuchPeer(_) => Self::new(StatusCode::NOT_FOUND, Code::NoSuchPeer, detail),
            SubmitFault::Leaving(_) => Self::new(StatusCode::CONFLICT, Code::PeerLeaving, detail),
            SubmitFault::Invalid(_) => Self::new(StatusCode::BAD_REQUEST, Code::InvalidEvent, detail),
            SubmitFault::NotSent(_) => Self::new(StatusCode::BAD_REQUEST, Code::TypeNotSent, detail),
            SubmitFault::Conflict(_) => Self::new(StatusCode::CONFLICT, Code::JtiConflict, detail),
            SubmitFault::OutboxFull { .. } => Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::OutboxFull, detail),
            SubmitFault::StorageFull => Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::StorageFull, detail),
            SubmitFault::StorageFailed => Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::StorageFailed, detail),
            SubmitFault::Stopped => Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Stopping, detail),
        }
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        let detail = error.to_string();
        match error {
            store::Error::Full => Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::StorageFull, detail),
            store::Error::Invalid(_) => Self::new(StatusCode::BAD_REQUEST, Code::InvalidRequest, detail),
            _ => Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::StorageFailed, detail),
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

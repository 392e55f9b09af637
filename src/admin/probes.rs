//! `/livez` and `/readyz`, for whoever supervises the process. They need no token and tell nothing but yes or no.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;

use super::Admin;

/// The process turns.
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// It can take and send SETs: the store is writable and it is not shutting down. A partner that is down is no reason.
pub(super) async fn ready(State(admin): State<Arc<Admin>>) -> (StatusCode, &'static str) {
    if admin.transceiver.ready() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: the disk is full, or the process is stopping\n")
    }
}

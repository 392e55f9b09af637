//! `POST /api/v1/reload`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use http::{Response, StatusCode};
use serde_json::json;

use super::Admin;
use super::problem::{Problem, json_response};
use crate::codes::Code;

/// Rereads the configuration and says what that changed.
pub(super) async fn reload(State(admin): State<Arc<Admin>>) -> Response<Body> {
    match admin.steward.reload().await {
        Ok(reloaded) => {
            json_response(StatusCode::OK, &json!({ "changes": reloaded.changes, "restart": reloaded.restart }))
        }
        Err(problems) => {
            let detail = match problems.len() {
                1 => "the configuration cannot be used, and nothing has changed".to_owned(),
                many => format!("the configuration cannot be used for {many} reasons, and nothing has changed"),
            };
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, Code::ReloadFailed, detail).listing(problems).respond()
        }
    }
}

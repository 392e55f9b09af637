//! `/livez` and `/readyz`, for whoever supervises the process. They need no token and tell nothing but what is wrong.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use tokio::time::{Instant, sleep, timeout};

use super::Admin;

/// What was found out last, and when: anybody may ask, and finding out costs a write to the disk.
pub(super) type Standing = tokio::sync::Mutex<Option<(Instant, Vec<&'static str>)>>;

/// For how long the last answer stands.
const STANDS_FOR: Duration = Duration::from_millis(500);

/// How long the process may take to turn once.
const TURN: Duration = Duration::from_secs(2);

/// The process turns: a new task gets its turn, and its timer goes off.
pub(super) async fn live() -> (StatusCode, &'static str) {
    match timeout(TURN, tokio::spawn(sleep(Duration::from_millis(1)))).await {
        Ok(Ok(())) => (StatusCode::OK, "ok\n"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "not live: the process does not turn\n"),
    }
}

/// It can take and send SETs: the store is writable, partners are let in, and it is not shutting down. A partner that is
/// down is no reason. Every check that fails has a line.
pub(super) async fn ready(State(admin): State<Arc<Admin>>) -> (StatusCode, String) {
    let mut standing = admin.standing.lock().await;
    let fresh = standing.as_ref().filter(|(at, _)| at.elapsed() < STANDS_FOR);
    let obstacles = match fresh {
        Some((_, obstacles)) => obstacles.clone(),
        None => {
            let obstacles = admin.transceiver.obstacles().await;
            *standing = Some((Instant::now(), obstacles.clone()));
            obstacles
        }
    };
    if obstacles.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{}\n", obstacles.join("\n")))
}

//! The operator's floor: the JSON API, probes, and who may use them. It decides nothing about SETs.

mod body;
mod dead_letters;
mod events;
mod inbox;
mod keys;
mod metrics;
mod peers;
mod probes;
mod problem;
mod reload;
mod replay;
mod steward;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::routing::{any, delete, get, post};
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, Response};

use crate::auth::{Bearers, Secret};
use crate::transceiver::Transceiver;
use crate::transport::measure;
use problem::Problem;
pub use steward::{AddFault, Reloaded, Removal, RemoveFault, Steward, Terms};

/// What the routes need.
pub struct Admin {
    transceiver: Transceiver,
    bearers: Bearers<()>,
    /// Host names, without port, that requests may be addressed to.
    hosts: Vec<String>,
    steward: Arc<dyn Steward>,
    standing: probes::Standing,
}

impl Admin {
    /// The operator's floor over this Transceiver. `hosts` are further names it answers to, beside loopback ones.
    pub fn new(transceiver: Transceiver, token: &Secret, hosts: &[String], steward: Arc<dyn Steward>) -> Arc<Self> {
        let mut bearers = Bearers::new();
        // The first token cannot be taken.
        let _ = bearers.insert(token, ());
        let loopback = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let hosts = loopback.into_iter().chain(hosts.iter().map(|host| host.to_ascii_lowercase())).collect();
        Arc::new(Self { transceiver, bearers, hosts, steward, standing: probes::Standing::default() })
    }
}

/// The routes of the admin listener.
pub fn router(admin: Arc<Admin>) -> Router {
    let guarded = Router::new()
        .route("/api/v1/events", post(events::submit))
        .route("/api/v1/events/{jti}", get(events::show))
        .route("/api/v1/dead-letters", get(dead_letters::list))
        .route("/api/v1/dead-letters/{jti}", get(dead_letters::show).post(dead_letters::many))
        .route("/api/v1/dead-letters/{jti}/{verb}", post(dead_letters::one))
        .route("/api/v1/inbox", get(inbox::read))
        .route("/api/v1/inbox/confirm", post(inbox::confirm))
        .route("/api/v1/consumers", get(inbox::consumers))
        .route("/api/v1/consumers/{name}", delete(inbox::forget))
        .route("/metrics", get(metrics::expose))
        .route("/api/v1/peers", get(peers::list).post(peers::add))
        .route("/api/v1/peers/{name}", get(peers::show).delete(peers::remove))
        .route("/api/v1/peers/{name}/pause", post(peers::pause))
        .route("/api/v1/peers/{name}/resume", post(peers::resume))
        .route("/api/v1/peers/{name}/verify", post(peers::verify))
        .route("/api/v1/peers/{name}/replay", post(replay::replay))
        .route("/api/v1/keys", get(keys::list))
        .route("/api/v1/keys/rotate", post(keys::rotate))
        .route("/api/v1/keys/{kid}/retire", post(keys::retire))
        .route("/api/v1/reload", post(reload::reload))
        .fallback(any(|| async { Problem::not_found("there is nothing at this path").respond() }))
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed().respond() })
        .layer(middleware::from_fn_with_state(Arc::clone(&admin), authenticate));
    Router::new()
        .route("/livez", get(probes::live))
        .route("/readyz", get(probes::ready))
        .merge(guarded)
        .layer(middleware::from_fn_with_state(Arc::clone(&admin), same_site))
        .layer(middleware::from_fn_with_state(admin.transceiver.metrics().clone(), measure))
        .with_state(admin)
}

/// Keeps web pages out, whatever they got a browser to connect to: a foreign `Host` (DNS rebinding) or `Origin`.
async fn same_site(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response<Body> {
    let headers = request.headers();
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).map(without_port);
    if !host.is_some_and(|host| admin.hosts.contains(&host)) {
        return Problem::misdirected().respond();
    }
    if let Some(origin) = headers.get(ORIGIN) {
        let origin =
            origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| without_port(host));
        if !origin.is_some_and(|origin| admin.hosts.contains(&origin)) {
            return Problem::foreign_origin().respond();
        }
    }
    next.run(request).await
}

/// Nothing but the probes is for everybody.
async fn authenticate(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response<Body> {
    match admin.bearers.identify(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(_) if has_credentials(request.headers()) => Problem::wrong_token().respond(),
        Err(_) => Problem::no_token().respond(),
    }
}

fn has_credentials(headers: &HeaderMap) -> bool {
    headers.contains_key(AUTHORIZATION)
}

fn without_port(host: &str) -> String {
    let bare = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => match host.split_once(':') {
            // Behind the colon of `name:x@other` stands no port, and `name` is not the host.
            Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
            _ => host,
        },
    };
    bare.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_a_host_does_not_matter() {
        for (host, bare) in [("LocalHost:8480", "localhost"), ("[::1]:8480", "::1"), ("127.0.0.1", "127.0.0.1")] {
            assert_eq!(without_port(host), bare);
        }
        for host in ["localhost:80@evil.example", "localhost:a", "localhost@evil.example:80"] {
            assert_ne!(without_port(host), "localhost", "{host}");
        }
    }
}

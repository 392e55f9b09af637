//! The accept loop of both listeners: limits and timeouts for whatever connects, so that handlers only meet requests
//! with a complete head and a body that keeps coming. HTTP/1.1 only, plain or TLS.

mod connection;
mod doors;
mod pace;
mod socket;

use crate::codes::Code;
use crate::cpu;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use doors::Doors;
pub use pace::TooSlow;

/// How much a listener takes from whom. The defaults suit a listener on the Internet.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at the same time (default 4096). Raise it, and the process's limit of open files, for more partners.
    pub connections_max: usize,
    /// Connections at the same time from one IPv4 address or IPv6 /64 network (default 256). Loopback is exempt, since
    /// behind a reverse proxy on the same host everybody comes from there.
    pub connections_per_address_max: usize,
    /// Longest request head in bytes (default 32 KiB); beyond it the answer is 431.
    pub header_bytes_max: usize,
    /// Longest time from the first byte of a head, or from the connection, to its last (default 10 s).
    pub header_timeout: Duration,
    /// Longest TLS handshake (default 10 s).
    pub handshake_timeout: Duration,
    /// How long a connection may idle between two requests (default 75 s). Not for upgraded connections.
    pub idle_timeout: Duration,
    /// How long a write may make no progress (default 30 s). For upgraded connections too.
    pub write_timeout: Duration,
    /// How long a request's body may stand still, all pauses together (default 10 s). Every byte that comes earns time
    /// back at `body_rate_min`.
    pub body_patience: Duration,
    /// Slowest rate of a body that is patiently read to its end, in bytes per second (default 16 KiB).
    pub body_rate_min: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            connections_per_address_max: 256,
            header_bytes_max: 32 << 10,
            header_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            body_patience: Duration::from_secs(10),
            body_rate_min: 16 << 10,
        }
    }
}

/// Who is at the other end of the connection, in every request's extensions. An IPv4 client of a dual-stack listener
/// appears with its IPv4 address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Remote(pub SocketAddr);

/// Whether the other end of the connection still listens, in every request's extensions: for handlers that take their time.
#[derive(Clone, Debug)]
pub(super) struct OtherSide(Arc<socket::Activity>);

impl OtherSide {
    /// Waits until it has ended its side, as far as it may have done so and still wait for the answer.
    pub(super) async fn ended(&self) {
        self.0.ended().await;
    }
}

/// What a listener serves, and how.
#[derive(Clone, Debug)]
pub struct Server {
    name: &'static str,
    router: Router,
    tls: Option<Arc<ArcSwap<rustls::ServerConfig>>>,
    limits: Arc<Limits>,
    answers_half_closed: bool,
}

/// What the connections are told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Open,
    /// Finish the request at hand, then close.
    Draining,
}

impl Server {
    /// A plaintext server with default limits; `name` is for the log.
    pub fn new(name: &'static str, router: Router) -> Self {
        Self { name, router, tls: None, limits: Arc::default(), answers_half_closed: false }
    }

    /// Speaks TLS. A configuration stored later is used from the next connection on.
    pub fn with_tls(mut self, config: Arc<ArcSwap<rustls::ServerConfig>>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Uses these limits.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = Arc::new(limits);
        self
    }

    /// Answers also clients that have shut down their side after a request. Only for handlers that soon have an answer: by
    /// an orderly close whoever is gone looks the same, and is then waited for in vain.
    pub fn answering_half_closed(mut self) -> Self {
        self.answers_half_closed = true;
        self
    }

    /// Serves until `stop`; then takes no more connections, closes idle ones, lets requests at hand finish for up to
    /// `grace`, and drops what is left.
    ///
    /// Upgraded connections belong to their handlers, which must end them within the grace; it is over early when all
    /// connections are gone, upgraded ones included. Dropping the future drops all connections but those.
    pub async fn run(self, listener: TcpListener, stop: impl Future<Output = ()>, grace: Duration) {
        let doors = Doors::new(self.name, self.limits.clone());
        // Connections end when the sender goes away, whichever way this future ends.
        let (stage, stages) = watch::channel(Stage::Open);
        let mut failing = false;
        tokio::pin!(stop);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut stop => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((tcp, address)) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!(listener = self.name, "connections are accepted again");
                    }
                    let remote = Remote(SocketAddr::new(address.ip().to_canonical(), address.port()));
                    if let Some(ticket) = doors.admit(remote.0.ip()) {
                        let serving = connection::serve(self.clone(), tcp, remote, ticket, stages.clone());
                        tokio::spawn(cpu::throughout(cpu::Stage::Frame, serving));
                    }
                }
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(
                            code = %Code::CannotAccept,
                            listener = self.name,
                            why = %error,
                            "no connection can be accepted: is the limit of open files too low? Trying on"
                        );
                    }
                    // The connection stays in the queue, so trying at once would only spin.
                    tokio::select! {
                        () = &mut stop => break,
                        () = sleep(ACCEPT_PAUSE) => {}
                    }
                }
            }
        }
        drop(listener);
        stage.send_replace(Stage::Draining);
        // What is left after the grace is dropped together with `stage`.
        let _ = timeout(grace, doors.all_closed()).await;
    }
}

/// Errors of a connection that broke while it waited in the queue; the listener itself is fine.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused | ErrorKind::TimedOut
    )
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;

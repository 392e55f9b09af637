//! The delivery methods by which we reach a partner.

use std::sync::Arc;

use tokio::sync::watch;

use super::caller::Caller;
use super::pushpull::{Config, Dial};
use super::{multi_push, poll, push, pushpull};
use crate::engine::Partner;
use crate::metrics::Transport;

/// How a partner is reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// Push-pull over a WebSocket; over HTTP while none can be had.
    Websocket,
    /// Push-pull over HTTP alone.
    Http,
    /// Push (RFC 8935): we send, one SET a request.
    Push,
    /// Multi-set push: we send, many SETs a request.
    MultiPush,
    /// Poll (RFC 8936): we collect.
    Poll,
}

impl Method {
    /// As the configuration, labels and log lines have it.
    pub fn as_str(self) -> &'static str {
        self.transport().as_str()
    }

    /// What we send reaches the partner by it.
    pub fn carries_ours(self) -> bool {
        self != Self::Poll
    }

    fn transport(self) -> Transport {
        match self {
            Self::Websocket => Transport::Websocket,
            Self::Http => Transport::Http,
            Self::Push => Transport::Push,
            Self::MultiPush => Transport::MultiPush,
            Self::Poll => Transport::Poll,
        }
    }
}

/// Keeps the link by this method until `stop` turns true; exchanges under way are finished, but for a poll that waits.
pub async fn dial(
    method: Method,
    dial: Arc<Dial>,
    partner: Arc<Partner>,
    config: Arc<Config>,
    stop: watch::Receiver<bool>,
) {
    let seed = dial.clock.now().wall.0 ^ u64::from(partner.id.0);
    let caller = |what| Arc::new(Caller::new(&dial, &partner, &config, method.transport(), what));
    match method {
        Method::Websocket | Method::Http => pushpull::dial(dial, partner, config, stop).await,
        Method::Push => push::run(caller("push endpoint (RFC 8935)"), seed, stop).await,
        Method::MultiPush => multi_push::run(caller("multi-set push endpoint"), seed, stop).await,
        Method::Poll => poll::run(caller("poll endpoint (RFC 8936)"), seed, stop).await,
    }
}

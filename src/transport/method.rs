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
    // Boxed, as a task is as large as the largest that it may have to do: every idle WebSocket kept room for a poll.
    match method {
        Method::Websocket | Method::Http => pushpull::dial(dial, partner, config, stop).await,
        Method::Push => Box::pin(push::run(caller("push endpoint (RFC 8935)"), seed, stop)).await,
        Method::MultiPush => Box::pin(multi_push::run(caller("multi-set push endpoint"), seed, stop)).await,
        Method::Poll => Box::pin(poll::run(caller("poll endpoint (RFC 8936)"), seed, stop)).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a call of this makes.
    fn size_of_future<F, R>(_: F) -> usize
    where
        F: Fn(Method, Arc<Dial>, Arc<Partner>, Arc<Config>, watch::Receiver<bool>) -> R,
    {
        size_of::<R>()
    }

    #[test]
    fn the_task_of_a_link_has_no_room_for_what_it_does_not_do() {
        let size = size_of_future(dial);
        assert!((64..=2_048).contains(&size), "{size} bytes");
    }
}

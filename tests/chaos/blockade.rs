//! Blocks WebSockets in the middle of a run, proves that HTTP does the work meanwhile, and frees them again.

use std::fmt;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::accounts::statuses;
use crate::proxy::Passed;
use crate::world::{BY_BLOCKADE, Violation, World};

/// What was seen of it.
pub(crate) struct Blockade {
    from: Duration,
    to: Duration,
    /// From the blockade's start to both sides' saying that HTTP is in use, and from its end to WebSocket.
    http_after: Duration,
    websocket_after: Duration,
    /// SETs acked to each side between HTTP's being seen in use and the blockade's end.
    acked_over_http: [u64; 2],
    before: Passed,
    during: Passed,
    after: Passed,
}

/// The part of all the work that is done when the blockade begins, and when it may end.
const BEGIN: f64 = 0.3;
const END: f64 = 0.6;
/// The parts of the events that may be submitted before HTTP is in use, and before WebSockets are back, but for the rest of a
/// batch: each of the three stretches has something to do, mostly.
const FIRST: f64 = 0.4;
const SECOND: f64 = 0.8;
/// How long either side may take to see that another way is to be used.
const CHANGED_WITHIN: Duration = Duration::from_secs(120);
/// A SET is longer than this on the wire.
const SET_BYTES_LEAST: u64 = 300;
/// SETs that must have gone over HTTP in each direction.
const ACKED_LEAST: u64 = 50;

/// Does nothing without a proxy.
pub(crate) async fn run(world: &World) -> Result<Option<Blockade>, Violation> {
    let Some(proxy) = &world.proxy else { return Ok(None) };
    world.may_submit[BY_BLOCKADE].send_replace(FIRST);
    until(world, BEGIN).await;
    let before = proxy.passed();
    proxy.block(true);
    let from = world.started.elapsed();
    let http_after = until_both_use(world, "http").await?;
    let cut = proxy.passed();
    let acked = acked(world).await?;
    world.may_submit[BY_BLOCKADE].send_replace(SECOND);
    until(world, END).await;
    let mut acked_over_http = [0; 2];
    // Where HTTP was in use already, after a kill, some seconds pass before a WebSocket is tried again, and refused.
    while acked_over_http.iter().any(|acked| *acked < ACKED_LEAST) || proxy.passed().refused == before.refused {
        let now = self::acked(world).await?;
        acked_over_http = [now[0].saturating_sub(acked[0]), now[1].saturating_sub(acked[1])];
        sleep(Duration::from_millis(50)).await;
    }
    let blocked = proxy.passed();
    proxy.block(false);
    let to = world.started.elapsed();
    let websocket_after = until_both_use(world, "websocket").await?;
    let (freed, kills, rest) = (proxy.passed(), world.kills(), world.to_be_accepted() as u64);
    world.may_submit[BY_BLOCKADE].send_replace(f64::INFINITY);
    until(world, 1.0).await;
    let last = proxy.passed().since(freed);
    let (during, after) = (blocked.since(cut), proxy.passed().since(blocked));
    let seen = Blockade { from, to, http_after, websocket_after, acked_over_http, before, during, after };
    let sound = blocked.refused > before.refused
        && (during.tunnels, during.tunnel_bytes) == (0, 0)
        && during.request_bytes > 0
        && after.tunnels > 0
        // A kill may bring HTTP back for a while, because the proxy answers for a dead daemon; and of a batch that is just being
        // submitted some may have left before, or all that there was.
        && (rest == 0 || last.tunnel_bytes > rest / 2 * SET_BYTES_LEAST || world.kills() > kills);
    if !sound {
        return Err(Violation::new(format!(
            "the proxy saw something else: {seen}, at last {last}, of {rest} SETs to be sent"
        )));
    }
    Ok(Some(seen))
}

async fn until(world: &World, progress: f64) {
    while world.progress() < progress {
        sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until both admin APIs say that the link is up by this transport, however often they are killed meanwhile.
async fn until_both_use(world: &World, transport: &str) -> Result<Duration, Violation> {
    let begun = Instant::now();
    while begun.elapsed() < CHANGED_WITHIN {
        if let Some(statuses) = statuses(world).await
            && statuses.iter().all(|status| status["link"] == "up" && status["transport"] == transport)
        {
            return Ok(begun.elapsed());
        }
        sleep(Duration::from_millis(50)).await;
    }
    let found = statuses(world).await;
    Err(Violation::new(format!("the two do not use {transport} within {CHANGED_WITHIN:?}: {found:?}")))
}

async fn acked(world: &World) -> Result<[u64; 2], Violation> {
    let deadline = Instant::now() + CHANGED_WITHIN;
    while Instant::now() < deadline {
        if let Some(statuses) = statuses(world).await {
            return Ok(statuses.map(|status: Value| status["acked"].as_u64().unwrap_or(0)));
        }
        sleep(Duration::from_millis(20)).await;
    }
    Err(Violation::new("a daemon does not tell its counts"))
}

impl fmt::Display for Blockade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [alpha, beta] = self.acked_over_http;
        write!(
            f,
            "from {:.1?} to {:.1?}; HTTP in use after {:.1?}, acked by it {alpha} and {beta}; WebSocket again after {:.1?}\n  \
             proxy          before: {}\n                 during: {}\n                 after:  {}",
            self.from, self.to, self.http_after, self.websocket_after, self.before, self.during, self.after,
        )
    }
}

//! Keeps the link to a partner that we dial: by WebSocket if that can be had, by HTTP as long as it cannot.

use std::sync::Arc;
use std::time::Duration;

use http::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderValue, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::handshake::client::{Request, generate_key};
use tokio_tungstenite::tungstenite::protocol::Role;
use tracing::{info, warn};

use super::elastic::Elastic;
use super::initiator::Initiator;
use super::watched::Watched;
use super::{Config, SUBPROTOCOL, objects, websocket};
use crate::auth::Secret;
use crate::clock::Clock;
use crate::codes::Code;
use crate::engine::{Partner, Restraint, Seat};
use crate::metrics::Transport;
use crate::transport::caller::{Caller, not_let_in};
use crate::transport::experience::{Exchange, Experience};
use crate::wire::net::{Backoff, Dialer, Pin, Stream, Target, retry_after};

/// Where and how to reach a partner.
#[derive(Clone)]
pub struct Dial {
    /// Makes connections.
    pub dialer: Arc<Dialer>,
    /// The partner's push-pull endpoint.
    pub target: Target,
    /// Its public key, if pinned.
    pub pin: Option<Pin>,
    /// The bearer that we present.
    pub token: Option<Secret>,
    /// Never try WebSocket (`transport = "http"`).
    pub http_only: bool,
    /// Which of the partner's endpoints it is, as the configuration calls it, where it has two; what is told of a link's
    /// trouble begins with it.
    pub name: Option<&'static str>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Why there is no WebSocket.
pub(super) enum Refused {
    /// The partner cannot be reached at all; HTTP would fare no better.
    Unreachable(String),
    /// It can be reached and does not speak WebSocket, at least not now.
    Handshake(String),
    /// It asks for patience: nothing at all for so long.
    Busy(String, Duration),
}

/// What came of an attempt.
pub(super) type Opened<S = Stream> = Result<Elastic<S>, Refused>;

/// A connection that lived this long was a good one: the next attempt comes soon.
const GOOD: Duration = Duration::from_secs(10);

/// The least pause after a partner said that it is overloaded (1013), which says nothing about how long.
const OVERLOADED: Duration = Duration::from_secs(2);

/// So many in a row that broke off sooner, and HTTP is used for a while.
const BROKEN_MAX: u32 = 4;

/// The pause before the next part of a batch at which a partner breaks off, and how many such pauses there may be until a
/// connection lasts. A batch has only so many halves, and a few bad SETs may be in it.
const PARTED: Duration = Duration::from_millis(200);
const HURRIED_MAX: u32 = 64;

/// The longest time for the opening handshake, TCP and TLS included.
const OPENING: Duration = Duration::from_secs(10);

/// Exchanges over HTTP that are not over, and need not be for a WebSocket to be used; and when each has ended.
type Overtaken = JoinSet<(Exchange, Duration)>;

/// Keeps the link until `stop` turns true; exchanges under way are finished.
pub async fn run(dial: Arc<Dial>, partner: Arc<Partner>, config: Arc<Config>, stop: watch::Receiver<bool>) {
    let seed = dial.clock.now().wall.0 ^ u64::from(partner.id.0);
    let mut experience = Experience::new(seed, config.limits.sets_per_object_max);
    if dial.http_only {
        if let Some(under_way) = Box::pin(dial.initiator(&partner, &config).run(stop, &mut experience)).await {
            under_way.await;
        }
        return;
    }
    let mut overtaken = Overtaken::new();
    keep(&dial, &partner, &config, stop, seed, &mut experience, &mut overtaken).await;
    while overtaken.join_next().await.is_some() {}
}

async fn keep(
    dial: &Dial,
    partner: &Arc<Partner>,
    config: &Arc<Config>,
    mut stop: watch::Receiver<bool>,
    seed: u64,
    experience: &mut Experience,
    overtaken: &mut Overtaken,
) {
    let mut reconnect = Backoff::new(Duration::from_millis(200), Duration::from_secs(30), seed);
    let mut upgrade = Backoff::new(config.websocket_retry_first, config.websocket_retry_max, seed);
    let mut opened = None;
    let (mut broken, mut hurried) = (0, 0);
    let mut lines = Lines::default();
    let mut connected_before = false;
    loop {
        let attempt = match opened.take() {
            Some(opened) => opened,
            None => tokio::select! {
                // Boxed, as all that is only done now and then: the task of a partner is as large as the largest of it.
                opened = Box::pin(dial.open(config)) => opened,
                _ = stop.wait_for(|stop| *stop) => return,
            },
        };
        let pause = match attempt {
            Ok(socket) => {
                let since = Instant::now();
                if std::mem::replace(&mut connected_before, true) {
                    partner.metrics.reconnects.add(1);
                }
                // From here on HTTP is not used, so nothing that it achieved says anything about the link.
                partner.update_link(|link| link.exchanged_at = None);
                lines.up(partner);
                let (seat, settings) = (partner.seat(), Arc::clone(config));
                let farewell = Box::pin(objects::run(socket, seat, settings, stop.clone(), None)).await;
                if *stop.borrow() || partner.is_retired() {
                    return;
                }
                // What they had come to is older than what the WebSocket has shown.
                while let Some(exchange) = overtaken.try_join_next() {
                    let _ = exchange.map(|(exchange, at)| experience.learn(&exchange, at));
                }
                if since.elapsed() >= GOOD && !farewell.overloaded {
                    reconnect.reset();
                    upgrade.reset();
                    experience.reset();
                    broken = 0;
                }
                broken += u32::from(farewell.broke_off);
                if broken < BROKEN_MAX {
                    if !farewell.left {
                        lines.down(dial, partner, &farewell.why);
                    }
                    let least = if farewell.overloaded { OVERLOADED } else { Duration::ZERO };
                    hurried = if since.elapsed() >= GOOD { 0 } else { hurried + 1 };
                    let hurries = farewell.parted && hurried <= HURRIED_MAX;
                    if hurries { PARTED } else { reconnect.pause().max(least) }
                } else {
                    // Something on the way lets them open and then cuts them.
                    broken = 0;
                    socketless(partner, &format!("WebSockets do not last: {}", farewell.why));
                    opened =
                        Box::pin(dial.bridge(partner, config, &mut upgrade, experience, overtaken, stop.clone())).await;
                    Duration::ZERO
                }
            }
            Err(Refused::Unreachable(why)) => {
                lines.down(dial, partner, &why);
                reconnect.pause()
            }
            Err(Refused::Busy(why, wait)) => {
                socketless(partner, &why);
                let pausing = tokio::time::sleep(wait);
                tokio::select! {
                    () = pausing => {}
                    () = partner.hurried() => {}
                    _ = stop.wait_for(|stop| *stop) => return,
                }
                opened =
                    Box::pin(dial.bridge(partner, config, &mut upgrade, experience, overtaken, stop.clone())).await;
                Duration::ZERO
            }
            Err(Refused::Handshake(why)) => {
                socketless(partner, &why);
                opened =
                    Box::pin(dial.bridge(partner, config, &mut upgrade, experience, overtaken, stop.clone())).await;
                if !experience.last_failed() {
                    // There was a partner: something that takes connections and resets them is none.
                    reconnect.reset();
                }
                Duration::ZERO
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = partner.hurried() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

impl Dial {
    /// Uses HTTP until a WebSocket can be had again, or until the partner cannot be reached at all; `None` when it is
    /// time to stop. An exchange under way is finished, beside the WebSocket if there is one.
    async fn bridge(
        &self,
        partner: &Arc<Partner>,
        config: &Arc<Config>,
        upgrade: &mut Backoff,
        experience: &mut Experience,
        overtaken: &mut Overtaken,
        mut stop: watch::Receiver<bool>,
    ) -> Option<Opened> {
        let (enough, mut until) = watch::channel(false);
        let initiator = self.initiator(partner, config);
        let exchanges = async {
            // One exchange after the other, also after one that a WebSocket has overtaken.
            let catching_up = async {
                while let Some(exchange) = overtaken.join_next().await {
                    let _ = exchange.map(|(exchange, at)| experience.learn(&exchange, at));
                }
            };
            tokio::select! {
                () = catching_up => {}
                _ = until.wait_for(|enough| *enough) => return None,
            }
            initiator.run(until, experience).await
        };
        // Beside the exchanges: an attempt may hang for long where WebSockets are swallowed without an answer.
        let attempts = async {
            let end = async {
                let mut least = Duration::ZERO;
                loop {
                    tokio::time::sleep(upgrade.pause().max(least)).await;
                    least = Duration::ZERO;
                    match self.open(config).await {
                        Err(Refused::Handshake(why)) => socketless(partner, &why),
                        Err(Refused::Busy(why, wait)) => {
                            socketless(partner, &why);
                            least = wait;
                        }
                        end => return end,
                    }
                }
            };
            let end = tokio::select! {
                end = end => Some(end),
                _ = stop.wait_for(|stop| *stop) => None,
            };
            let _ = enough.send(true);
            end
        };
        let (under_way, end) = tokio::join!(exchanges, attempts);
        match (under_way, &end) {
            // It may take as long as `exchange_within`, and what it carries arrives. Nobody has to wait for that.
            (Some(under_way), Some(Ok(_))) => {
                let partner = Arc::clone(partner);
                overtaken.spawn(async move { (under_way.await, partner.now()) });
            }
            (Some(under_way), _) => drop(initiator.conclude(&under_way.await, experience)),
            (None, _) => {}
        }
        end
    }

    fn initiator(&self, partner: &Arc<Partner>, config: &Arc<Config>) -> Arc<Initiator> {
        Arc::new(Initiator::new(Caller::new(self, partner, config, Transport::Http, "push-pull endpoint")))
    }

    async fn open(&self, config: &Config) -> Opened {
        let request = self.request().map_err(|error| Refused::Handshake(error.to_string()))?;
        self.open_by(request, config).await
    }

    /// Connects, and asks for a WebSocket with this request.
    pub(super) async fn open_by(&self, request: Request, config: &Config) -> Opened {
        let connecting = timeout(OPENING, self.dialer.connect(&self.target, self.pin.as_ref()));
        let stream = match connecting.await {
            Err(_) => return Err(Refused::Unreachable(format!("no connection within {} s", OPENING.as_secs()))),
            Ok(Err(error)) => return Err(Refused::Unreachable(error.to_string())),
            Ok(Ok(stream)) => stream,
        };
        self.shake_hands(stream, request, config).await
    }

    async fn shake_hands<S>(&self, stream: S, request: Request, config: &Config) -> Opened<S>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let watched = Watched::dialled(stream, config.silence_max());
        let handshake = client_async_with_config(request, watched, Some(websocket::settings(config)));
        match timeout(OPENING, handshake).await {
            // RFC 6455 §4.1: what we never asked for would change what the frames mean.
            Ok(Ok((_, answer))) if answer.headers().contains_key(SEC_WEBSOCKET_EXTENSIONS) => {
                Err(Refused::Handshake("the partner turned on a WebSocket extension that was not asked for".to_owned()))
            }
            Ok(Ok((socket, _))) => Ok(Elastic::new(socket, Role::Client)),
            Ok(Err(Error::Http(response))) => {
                let status = response.status().as_u16();
                let hint = if matches!(status, 401 | 403) {
                    format!(": {}", not_let_in(self.token.as_ref()))
                } else {
                    String::new()
                };
                let why = format!("the partner answered {status}{hint}");
                Err(match (status, retry_after(response.headers(), self.clock.now())) {
                    (429, Some(wait)) => Refused::Busy(why, wait),
                    _ => Refused::Handshake(why),
                })
            }
            Ok(Err(error)) => Err(Refused::Handshake(error.to_string())),
            Err(_) => Err(Refused::Handshake(format!("no answer within {} s", OPENING.as_secs()))),
        }
    }

    /// Shakes hands over this stream and speaks over it until it ends; says why it did, or why there is no WebSocket. For
    /// the fuzzers alone, which have no network.
    #[doc(hidden)]
    pub async fn converse<S>(
        &self,
        stream: S,
        seat: Seat,
        config: Arc<Config>,
        stop: watch::Receiver<bool>,
    ) -> Result<String, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let request = self.request().map_err(|error| error.to_string())?;
        match self.shake_hands(stream, request, &config).await {
            Ok(socket) => Ok(objects::run(socket, seat, config, stop, None).await.why),
            Err(Refused::Unreachable(why) | Refused::Handshake(why) | Refused::Busy(why, _)) => Err(why),
        }
    }

    pub(super) fn request(&self) -> Result<Request, http::Error> {
        let target = self.target.clone().with_websocket_scheme();
        let mut request = http::Request::builder()
            .method("GET")
            .uri(format!("{}://{}{}", if target.is_secure() { "wss" } else { "ws" }, target.authority(), target.path()))
            .header(HOST, target.authority())
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, generate_key())
            .header(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL))
            .header(USER_AGENT, concat!("pushpull/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.to_bearer());
        }
        request.body(())
    }
}

/// One line per change of state, not one per attempt; and few where it changes all the time.
#[derive(Default)]
struct Lines {
    restraint: Restraint,
    /// The last line was held back.
    held: bool,
}

impl Lines {
    fn down(&mut self, dial: &Dial, partner: &Partner, why: &str) {
        let told = dial.name.map(|name| format!("{name}: {why}"));
        let why = told.as_deref().unwrap_or(why);
        let mut news = false;
        partner.update_link(|link| {
            news = link.note_trouble(why);
            link.exchanged_at = None;
        });
        // One that was held back is written later, if it still holds.
        if !news && !self.held {
            return;
        }
        let admitted = self.restraint.admit(usize::from(news), partner.now());
        self.held = admitted.is_none();
        if let Some(count) = admitted {
            let peer = &partner.name;
            warn!(%peer, code = %Code::LinkDown, transport = "websocket", count, why, "link down");
        }
    }

    /// It is up: news unless nobody has heard that it was down.
    fn up(&mut self, partner: &Partner) {
        if !std::mem::take(&mut self.held) {
            info!(peer = %partner.name, transport = "websocket", "link up");
        }
    }
}

fn socketless(partner: &Partner, why: &str) {
    let mut news = false;
    partner.update_link(|link| news = link.note_socketless(why));
    if news {
        warn!(peer = %partner.name, code = %Code::NoWebsocket, transport = "websocket", why, "no WebSocket, using HTTP");
    }
}

//! The Initiator over HTTP: one exchange after the other, as often as there is something to say or to ask.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LANGUAGE, CONTENT_TYPE, HeaderMap, HeaderValue};
use tokio::sync::watch;
use tracing::{info, warn};

use super::{Config, Wanted, encode};
use crate::auth::Secret;
use crate::codes::Code;
use crate::engine::{Handle, Partner, Slot};
use crate::metrics::Transport;
use crate::peer::{Ending, Transmission, WaitsFor};
use crate::wire;
use crate::wire::net::{self, Backoff, Client, retry_after};

/// Exchanges objects with one partner until `stop` turns true.
pub(super) struct Initiator {
    pub(super) partner: Arc<Partner>,
    pub(super) client: Client,
    pub(super) token: Option<Secret>,
    pub(super) config: Arc<Config>,
    pub(super) clock: Arc<dyn crate::clock::Clock>,
}

/// How soon to ask for what is overdue: time enough for our own backlog to be read and to go along.
const ASK_SOON: Duration = Duration::from_millis(100);

/// How long until an actor that has ended is asked for anew.
const SUCCESSOR: Duration = Duration::from_secs(1);

/// Exchanges that failed in a row, and the pauses between them. They outlive a change from HTTP to attempts at a WebSocket
/// and back: else each change would begin with short pauses again, and a partner that is down be dialled too often.
#[derive(Debug)]
pub struct Failures {
    pauses: Backoff,
    last_failed: bool,
}

impl Failures {
    /// None yet.
    pub fn new(seed: u64) -> Self {
        let pauses = Backoff::new(Duration::from_millis(500), Duration::from_secs(60), seed);
        Self { pauses, last_failed: false }
    }

    /// The partner is there.
    pub fn reset(&mut self) {
        self.pauses.reset();
        self.last_failed = false;
    }

    /// Whether the last exchange failed.
    pub fn last_failed(&self) -> bool {
        self.last_failed
    }

    /// One more has failed: how long to wait before the next.
    pub fn pause(&mut self) -> Duration {
        self.last_failed = true;
        self.pauses.pause()
    }
}

/// How one exchange went.
enum Exchange {
    Done,
    /// The partner minds the batch; go on with smaller ones, soon.
    Rejected(String),
    /// The answer was too large, and fewer SETs are asked for now; ask again, soon.
    Oversized(String),
    /// Try again after a pause.
    Failed {
        why: String,
        retry_after: Duration,
    },
}

impl Initiator {
    /// Runs until `stop` turns true; the exchange under way is finished first.
    pub(super) async fn run(&self, mut stop: watch::Receiver<bool>, seed: u64, failures: &mut Failures) {
        if failures.last_failed() {
            tokio::select! {
                () = tokio::time::sleep(failures.pause()) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
        let mut rejections = Backoff::new(Duration::from_millis(20), Duration::from_secs(60), seed);
        // Whatever a partner that cannot dial has for us waits until we ask, so that is what to do first, and first again
        // after a failure.
        let mut overdue = true;
        let mut wanted = Wanted::new(self.config.limits.sets_per_object_max);
        loop {
            let handle = self.partner.handle();
            let spec = self.config.exchange_spec(usize::MAX, WaitsFor::Anything);
            let taking = async {
                let mut slot = handle.open_slot(spec, self.ask_after(overdue)).await.ok()?;
                let object = slot.next().await?;
                Some((slot, object))
            };
            let taken = tokio::select! {
                taken = taking => taken,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let Some((slot, object)) = taken else {
                // The actor has ended: for good if the process is stopping, else the next handle reaches a new one.
                tokio::select! {
                    () = tokio::time::sleep(SUCCESSOR) => continue,
                    _ = stop.wait_for(|stop| *stop) => return,
                }
            };
            let exchange = self.exchange(&handle, slot, &object, &mut wanted).await;
            overdue = matches!(exchange, Exchange::Failed { .. } | Exchange::Oversized(_));
            let pause = match exchange {
                Exchange::Done => {
                    failures.reset();
                    rejections.reset();
                    self.recovered();
                    continue;
                }
                Exchange::Rejected(why) | Exchange::Oversized(why) => {
                    self.failed(&why);
                    rejections.pause()
                }
                Exchange::Failed { why, retry_after } => {
                    self.failed(&why);
                    failures.pause().max(retry_after)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// When to ask although there is nothing to say. A partner that has just been here by itself needs no asking yet.
    fn ask_after(&self, overdue: bool) -> Option<Duration> {
        let interval = self.config.speak_interval;
        let link = self.partner.link();
        if link.sockets > 0 {
            return None;
        }
        let seen = link.requested_at.is_some_and(|at| self.partner.now().saturating_sub(at) < interval);
        Some(match (seen, overdue) {
            (true, _) => interval * 3,
            (false, true) => interval.min(ASK_SOON),
            (false, false) => interval,
        })
    }

    async fn exchange(&self, handle: &Handle, slot: Slot, object: &Transmission, wanted: &mut Wanted) -> Exchange {
        let asked = wanted.ask(self.partner.now());
        let body = encode(object, Some(asked));
        let sent = body.len();
        let limits =
            net::Limits { body_bytes_max: self.config.limits.object_bytes_max, timeout: self.config.exchange_within };
        let response = match self.client.post(self.headers(object), body, limits).await {
            Ok(response) => response,
            Err(error @ net::Error::TooLarge { .. }) => {
                wanted.too_large(self.partner.now());
                return too_large(slot, &error, asked, Duration::ZERO);
            }
            Err(error) => return lose(slot, error.to_string(), Duration::ZERO),
        };
        let metrics = &self.partner.metrics;
        metrics.sent(Transport::Http, object.sets.len(), sent);
        metrics.received_bytes(Transport::Http, response.body.len());
        let pause = retry_after(&response.headers, self.clock.now().latest()).unwrap_or_default();
        match response.status {
            StatusCode::OK => match self.partner.inspector().read(response.body.clone(), self.config.limits).await {
                Ok(answer) => self.take_in(handle, slot, answer, response.body.len()).await,
                Err(malformed) if malformed.kind.is_too_big() => {
                    wanted.too_large(self.partner.now());
                    too_large(slot, &malformed, asked, pause)
                }
                Err(malformed) => {
                    lose(slot, format!("the partner's answer is no Communication Object: {malformed}"), pause)
                }
            },
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => {
                let error = wire::parse_error_body(&response.body);
                let code = error.as_ref().map_or("", |error| error.err.as_str());
                let why = format!("the partner refused the object ({}){}", response.status.as_u16(), shown(code));
                // These two are about us, not about the object, and may pass (an expired token).
                if matches!(code, "authentication_failed" | "access_denied") {
                    return lose(slot, why, pause);
                }
                slot.close(Ending::Rejected);
                Exchange::Rejected(why)
            }
            status => lose(slot, explain(status), pause),
        }
    }

    /// The partner's answer: first what it holds, then that the exchange is complete. To the actor that asked: another
    /// one knows nothing of this slot.
    async fn take_in(&self, handle: &Handle, slot: Slot, answer: wire::Object, bytes: usize) -> Exchange {
        let stopped = || Exchange::Failed { why: "shutting down".to_owned(), retry_after: Duration::ZERO };
        let Ok(room) = handle.arrival_room(bytes).await else { return stopped() };
        let brought = self.partner.bring(handle, Some(slot.id()), answer, room, self.config.patience()).await;
        if brought.is_err() {
            return stopped();
        }
        slot.close(Ending::Delivered);
        Exchange::Done
    }

    fn headers(&self, object: &Transmission) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if !object.verdicts.is_empty() {
            headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static("en"));
        }
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, token.to_bearer());
        }
        headers
    }

    fn recovered(&self) {
        let now = self.partner.now();
        let first = self.partner.link().exchanged_at.is_none();
        let mut trouble = None;
        self.partner.update_link(|link| {
            link.exchanged_at = Some(now);
            trouble = link.trouble.take();
        });
        if trouble.is_some() || first {
            info!(peer = %self.partner.name, transport = "http", "link up");
        }
    }

    /// One line per change of state, not one per failure.
    fn failed(&self, why: &str) {
        let mut news = false;
        self.partner.update_link(|link| {
            news = link.note_trouble(why);
            link.exchanged_at = None;
        });
        if news {
            warn!(peer = %self.partner.name, code = %Code::LinkDown, transport = "http", why, "link down");
        }
    }
}

fn lose(slot: Slot, why: String, retry_after: Duration) -> Exchange {
    slot.close(Ending::Lost { retry_after });
    Exchange::Failed { why, retry_after }
}

/// One SET that is too large alone is for an operator to allow, and no reason to hurry.
fn too_large(slot: Slot, error: &impl std::fmt::Display, asked: u64, retry_after: Duration) -> Exchange {
    let why = |remedy| format!("the partner's answer is too large: {error}; {asked} SETs were asked for ({remedy})");
    if asked <= 1 {
        return lose(slot, why("raise limits.object_bytes_max"), retry_after);
    }
    slot.close(Ending::Lost { retry_after: Duration::ZERO });
    Exchange::Oversized(why("fewer are asked for now"))
}

fn explain(status: StatusCode) -> String {
    let hint = match status.as_u16() {
        401 | 403 => ": it does not accept our token (token_file of this peer)",
        404 | 405 => ": there is no push-pull endpoint at this address (endpoint of this peer)",
        300..=399 => ": it redirects, and redirects are never followed (endpoint of this peer)",
        429 | 503 => ": it is overloaded or stopping, and asks for patience",
        _ => "",
    };
    format!("the partner answered {}{hint}", status.as_u16())
}

fn shown(code: &str) -> String {
    if code.is_empty() {
        return String::new();
    }
    let code: String = code.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(40).collect();
    format!(" with err {code}")
}

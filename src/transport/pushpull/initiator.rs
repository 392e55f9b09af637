//! The Initiator over HTTP: one exchange after the other, as often as there is something to say or to ask.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LANGUAGE, CONTENT_TYPE, HeaderMap, HeaderValue};
use tokio::sync::watch;
use tracing::{info, warn};

use super::experience::{Exchange, Experience};
use super::{Config, encode};
use crate::auth::Secret;
use crate::codes::Code;
use crate::engine::{Handle, Partner, Slot};
use crate::metrics::Transport;
use crate::peer::{Ending, Transmission, WaitsFor};
use crate::wire;
use crate::wire::net::{self, Client, retry_after};

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

/// An exchange that has begun.
pub(super) type UnderWay = Pin<Box<dyn Future<Output = Exchange> + Send>>;

impl Initiator {
    /// Runs until `stop` turns true; the exchange that is then under way is for the caller to finish.
    pub(super) async fn run(
        self: &Arc<Self>,
        mut stop: watch::Receiver<bool>,
        experience: &mut Experience,
    ) -> Option<UnderWay> {
        if let Some(pause) = experience.pause(self.partner.now()) {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stop.wait_for(|stop| *stop) => return None,
            }
        }
        // Whatever a partner that cannot dial has for us waits until we ask, so that is what to do first, and first again
        // after a failure.
        let mut overdue = true;
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
                _ = stop.wait_for(|stop| *stop) => return None,
            };
            let Some((slot, object)) = taken else {
                // The actor has ended: for good if the process is stopping, else the next handle reaches a new one.
                tokio::select! {
                    () = tokio::time::sleep(SUCCESSOR) => continue,
                    _ = stop.wait_for(|stop| *stop) => return None,
                }
            };
            let asked = experience.ask(self.partner.now());
            let mut under_way: UnderWay = Box::pin(Arc::clone(self).exchange(handle, slot, object, asked));
            let exchange = tokio::select! {
                biased;
                exchange = &mut under_way => exchange,
                _ = stop.wait_for(|stop| *stop) => return Some(under_way),
            };
            overdue = matches!(exchange, Exchange::Failed { .. } | Exchange::Oversized { .. });
            let Some(pause) = self.conclude(&exchange, experience) else { continue };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stop.wait_for(|stop| *stop) => return None,
            }
        }
    }

    /// Says how the link fares after this exchange, and learns from it: the pause before the next.
    pub(super) fn conclude(&self, exchange: &Exchange, experience: &mut Experience) -> Option<Duration> {
        match exchange {
            Exchange::Done => self.recovered(),
            Exchange::Rejected(why) | Exchange::Oversized { why, .. } | Exchange::Failed { why, .. } => {
                self.failed(why)
            }
        }
        experience.learn(exchange, self.partner.now())
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

    async fn exchange(self: Arc<Self>, handle: Handle, slot: Slot, object: Transmission, asked: u64) -> Exchange {
        let body = encode(&object, Some(asked));
        let sent = body.len();
        let limits =
            net::Limits { body_bytes_max: self.config.limits.object_bytes_max, timeout: self.config.exchange_within };
        let response = match self.client.post(self.headers(&object), body, limits).await {
            Ok(response) => response,
            Err(error @ net::Error::TooLarge { .. }) => return too_large(slot, &error, asked, Duration::ZERO),
            Err(error) => return lose(slot, error.to_string(), Duration::ZERO),
        };
        let metrics = &self.partner.metrics;
        metrics.sent(Transport::Http, object.sets.len(), sent);
        metrics.received_bytes(Transport::Http, response.body.len());
        let pause = retry_after(&response.headers, self.clock.now()).unwrap_or_default();
        match response.status {
            StatusCode::OK => match self.partner.inspector().read(response.body.clone(), self.config.limits).await {
                Ok(answer) => self.take_in(&handle, slot, answer, response.body.len()).await,
                Err(malformed) if malformed.kind.is_too_big() => too_large(slot, &malformed, asked, pause),
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

fn too_large(slot: Slot, error: &impl std::fmt::Display, asked: u64, retry_after: Duration) -> Exchange {
    let (remedy, retry_after) = match asked {
        ..=1 => ("raise limits.object_bytes_max", retry_after),
        _ => ("fewer are asked for now", Duration::ZERO),
    };
    let why = format!("the partner's answer is too large: {error}; {asked} SETs were asked for ({remedy})");
    slot.close(Ending::Lost { retry_after });
    Exchange::Oversized { why, asked, retry_after }
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

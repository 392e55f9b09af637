//! One partner's endpoint that we call over HTTP: the requests, and how the link fares by them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_LANGUAGE, AUTHORIZATION, CONTENT_LANGUAGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::sync::watch;
use tracing::{info, warn};

use super::experience::{Exchange, Experience};
use super::pushpull::{Config, Dial};
use crate::auth::Secret;
use crate::clock::Clock;
use crate::codes::Code;
use crate::engine::{Handle, Partner, Restraint, Slot};
use crate::metrics::Transport;
use crate::peer::{Blame, Ending, Inspected, Transmission};
use crate::set::{ErrorCode, Jti};
use crate::wire;
use crate::wire::net::{self, Client, Response, retry_after};

/// Calls one endpoint of one partner.
pub(super) struct Caller {
    pub(super) partner: Arc<Partner>,
    pub(super) config: Arc<Config>,
    client: Client,
    token: Option<Secret>,
    clock: Arc<dyn Clock>,
    transport: Transport,
    /// What is at the other end, as a remark on a 404 has it.
    what: &'static str,
    /// See [`Dial::name`].
    name: Option<&'static str>,
    standing: Mutex<Standing>,
}

/// How this caller fares. A partner may have two, and what one suffers is not over because the other fares well.
#[derive(Default)]
struct Standing {
    up: bool,
    trouble: Option<String>,
    /// Of lines that say why it is down: a partner can fail and recover in turn as often as it likes.
    restraint: Restraint,
    /// The last of these lines was held back.
    held: bool,
    /// The log says that it is down.
    said: bool,
}

/// What an answer may be like.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Expected {
    /// How long the partner may take, where that is not the time for an exchange.
    pub(super) within: Option<Duration>,
    /// How long from when there is a connection, where that is less.
    pub(super) answer: Option<Duration>,
    /// The longest that is read, where that is less than for an object.
    pub(super) bytes_max: Option<usize>,
    /// What it says stands in its head, whatever becomes of its body.
    pub(super) head_counts: bool,
}

/// What a 401 says.
pub const NOT_OUR_TOKEN: &str = "it does not accept our token (token_file of this peer)";

/// What it says where we have none.
const NO_TOKEN: &str = "we present no token (set token_file of this peer to what the partner gave you)";

/// What a 401 says, by what we present.
pub(super) fn not_let_in(token: Option<&Secret>) -> &'static str {
    if token.is_some() { NOT_OUR_TOKEN } else { NO_TOKEN }
}

/// How long until an actor that has ended is asked for anew.
const SUCCESSOR: Duration = Duration::from_secs(1);

impl Caller {
    pub(super) fn new(
        dial: &Dial,
        partner: &Arc<Partner>,
        config: &Arc<Config>,
        transport: Transport,
        what: &'static str,
    ) -> Self {
        Self {
            partner: Arc::clone(partner),
            config: Arc::clone(config),
            client: Client::new(Arc::clone(&dial.dialer), dial.target.clone(), dial.pin),
            token: dial.token.clone(),
            clock: Arc::clone(&dial.clock),
            transport,
            what,
            name: dial.name,
            standing: Mutex::default(),
        }
    }

    /// Posts a body of this media type.
    pub(super) async fn post(
        &self,
        media: &'static str,
        has_texts: bool,
        body: Bytes,
        expected: Expected,
    ) -> Result<Response, net::Error> {
        let limits = net::Limits {
            body_bytes_max: expected.bytes_max.unwrap_or(self.config.limits.object_bytes_max),
            timeout: expected.within.unwrap_or(self.config.exchange_within),
            answer: expected.answer,
            head_counts: expected.head_counts,
        };
        let response = self.client.post(self.headers(media, has_texts), body, limits).await?;
        self.partner.metrics.received_bytes(self.transport, response.body.len());
        Ok(response)
    }

    /// The same for an object, which is waited for less if it has SETs and the partner was silent to some.
    pub(super) async fn post_object(&self, object: &Transmission, body: Bytes) -> Result<Response, net::Error> {
        let has_texts = !object.verdicts.is_empty();
        let media = "application/json";
        let alone = match object.sets.as_slice() {
            [] => return self.post(media, has_texts, body, Expected::default()).await,
            [(jti, _)] => Some(jti),
            _ => None,
        };
        let (silence, began, usual) = (&self.partner.silence, self.partner.now(), self.config.exchange_within);
        let patience = silence.patience(usual, alone, began);
        let expected = Expected { answer: (patience < usual).then_some(patience), ..Expected::default() };
        let response = self.post(media, has_texts, body, expected).await;
        let now = self.partner.now();
        match &response {
            // What something on the way answers in its place tells nothing of the time that SETs take.
            Ok(response) if response.status.is_success() => silence.answered(now.saturating_sub(began), alone),
            Err(net::Error::TimedOut(waited)) => silence.fell(alone, *waited >= usual, now),
            Ok(_) | Err(_) => {}
        }
        response
    }

    /// Counts an object that has left and was answered.
    pub(super) fn note_sent(&self, sets: usize, bytes: usize) {
        self.partner.metrics.sent(self.transport, sets, bytes);
    }

    /// The pause that an answer asks for.
    pub(super) fn pause_asked(&self, response: &Response) -> Duration {
        retry_after(&response.headers, self.clock.now()).unwrap_or_default()
    }

    /// The exchange came to nothing although the partner was reached. What it carried is due again, and in parts if it looks as
    /// if that was why.
    pub(super) fn fail(&self, slot: Slot, object: &Transmission, why: String, retry_after: Duration) -> Exchange {
        let alone = match object.sets.as_slice() {
            [] => return lose(slot, why, retry_after),
            [(jti, _)] => Some(jti),
            _ => None,
        };
        let Some(blame) = self.partner.suspicion.failed(alone, self.partner.now()) else {
            return lose(slot, why, retry_after);
        };
        let blame = match blame {
            // It may be a verdict that it fails at; from the next time on they do not go with this SET.
            Blame::Set if !object.verdicts.is_empty() => Blame::Unknown,
            blame => blame,
        };
        slot.close(Ending::Failed { retry_after, blame });
        match alone {
            _ if blame == Blame::Partner => Exchange::Failed { why, retry_after },
            Some(jti) => {
                self.unanswered(jti, &why);
                // It alone waits for so long, and whatever else there is to say does not.
                Exchange::Rejected { why, retry_after: Duration::ZERO }
            }
            None => Exchange::Parted { why, retry_after },
        }
    }

    /// The same for an answer with a status that is no verdict.
    pub(super) fn fail_by(
        &self,
        slot: Slot,
        object: &Transmission,
        status: StatusCode,
        retry_after: Duration,
    ) -> Exchange {
        let why = self.explain(status);
        match holds_for_all(status) {
            true => lose(slot, why, retry_after),
            false => self.fail(slot, object, why, retry_after),
        }
    }

    /// The same for a request without an answer.
    pub(super) fn fail_without(&self, slot: Slot, object: &Transmission, error: &net::Error) -> Exchange {
        match error {
            // The partner had it, and perhaps something in it made it hang or break off.
            net::Error::TimedOut(_) | net::Error::Lost(_) => self.fail(slot, object, error.to_string(), Duration::ZERO),
            _ => lose(slot, error.to_string(), Duration::ZERO),
        }
    }

    /// The partner has taken so many SETs.
    pub(super) fn note_taken(&self, sets: usize) {
        // A question without any may be answered by one that breaks off at each of them.
        if sets > 0 {
            self.partner.suspicion.answered();
        }
    }

    /// Brings to the actor what an answer holds, then tells it that the exchange is complete. To the actor that asked:
    /// another one knows nothing of this slot.
    pub(super) async fn take_in(&self, handle: &Handle, slot: Slot, answer: wire::Object, bytes: usize) -> Exchange {
        let Ok(room) = handle.arrival_room(bytes).await else { return Exchange::Untold };
        let brought = self.partner.bring(handle, Some(slot.id()), answer, room, self.config.patience()).await;
        if brought.is_err() {
            return Exchange::Untold;
        }
        slot.close(Ending::Delivered);
        Exchange::Done
    }

    /// The same for verdicts that an answer stands for without naming them.
    pub(super) async fn settle(&self, handle: &Handle, slot: Slot, verdicts: Inspected) -> Exchange {
        let Ok(room) = handle.arrival_room(0).await else { return Exchange::Untold };
        if handle.arrived(Some(slot.id()), verdicts, room, self.partner.now()).await.is_err() {
            return Exchange::Untold;
        }
        slot.close(Ending::Delivered);
        Exchange::Done
    }

    /// Keeps to the pause after what went wrong; false when it is time to stop.
    pub(super) async fn rest(&self, experience: &mut Experience, stop: &mut watch::Receiver<bool>) -> bool {
        let Some(pause) = experience.pause(self.partner.now()) else { return true };
        tokio::select! {
            () = tokio::time::sleep(pause) => true,
            () = self.partner.hurried() => {
                experience.hurry();
                true
            }
            _ = stop.wait_for(|stop| *stop) => false,
        }
    }

    /// Waits until there may be an actor again; false when it is time to stop.
    pub(super) async fn successor(stop: &mut watch::Receiver<bool>) -> bool {
        tokio::select! {
            () = tokio::time::sleep(SUCCESSOR) => true,
            _ = stop.wait_for(|stop| *stop) => false,
        }
    }

    /// What a status says that is no verdict.
    pub(super) fn explain(&self, status: StatusCode) -> String {
        let hint = match status.as_u16() {
            401 | 403 => format!(": {}", not_let_in(self.token.as_ref())),
            404 | 405 => format!(": there is no {} at this address", self.what),
            300..=399 => {
                ": it redirects, and redirects are never followed (give the address that it redirects to)".to_owned()
            }
            429 | 503 => ": it is overloaded or stopping, and asks for patience".to_owned(),
            _ => String::new(),
        };
        format!("the partner answered {}{hint}", status.as_u16())
    }

    /// An exchange was completed.
    pub(super) fn recovered(&self) {
        let now = self.partner.now();
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let own = standing.trouble.take();
        let steady = std::mem::replace(&mut standing.up, true) && own.is_none();
        let (mut first, mut over) = (false, false);
        self.partner.update_link(|link| {
            first = link.exchanged_at.is_none();
            if !steady && (own.is_none() || own == link.trouble) {
                over = link.trouble.take().is_some();
            }
            // While another caller of this partner suffers, the link is not well.
            if link.trouble.is_none() {
                link.exchanged_at = Some(now);
            }
        });
        // A failure that was held back is over before anybody has heard of it.
        let unheard = std::mem::take(&mut standing.held) && !standing.said;
        if !steady && (first || over || own.is_some()) && !unheard {
            standing.said = false;
            info!(peer = %self.partner.name, transport = self.transport.as_str(), "link up");
        }
    }

    /// An exchange failed, for more than what it carried. One line per change of state, not one per failure, and few where it
    /// changes all the time; one that is held back is written later, if it still holds.
    pub(super) fn failed(&self, why: &str) {
        let told = self.name.map(|name| format!("{name}: {why}"));
        let why = told.as_deref().unwrap_or(why);
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.up = false;
        let known = standing.trouble.as_deref() == Some(why);
        standing.trouble = Some(why.to_owned());
        let mut news = false;
        self.partner.update_link(|link| {
            news = link.note_trouble(why);
            link.exchanged_at = None;
        });
        let changes = usize::from(news && !known);
        if changes == 0 && !standing.held {
            return;
        }
        let admitted = standing.restraint.admit(changes, self.partner.now());
        standing.held = admitted.is_none();
        if let Some(count) = admitted {
            standing.said = true;
            let (peer, transport) = (&self.partner.name, self.transport.as_str());
            warn!(%peer, code = %Code::LinkDown, transport, count, why, "link down");
        }
    }

    /// The partner gave no verdict on a SET, and the link is none the worse for it.
    pub(super) fn unanswered(&self, jti: &Jti, why: &str) {
        if let Some(count) = self.partner.note_unanswered() {
            let (peer, transport) = (&self.partner.name, self.transport.as_str());
            info!(%peer, %jti, transport, count, why, "no verdict");
        }
    }

    fn headers(&self, media: &'static str, has_texts: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT_LANGUAGE, HeaderValue::from_static("en"));
        if has_texts {
            headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static("en"));
        }
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, token.to_bearer());
        }
        headers
    }
}

/// The exchange came to nothing; what it carried is due again.
pub(super) fn lose(slot: Slot, why: String, retry_after: Duration) -> Exchange {
    slot.close(Ending::Lost { retry_after });
    Exchange::Failed { why, retry_after }
}

/// Whether what this status says holds for whatever is sent: it is about us, about the way there or about the partner's load. With
/// any other one it may be what was sent.
pub(super) fn holds_for_all(status: StatusCode) -> bool {
    let about_us = [401, 403, 404, 405, 407, 408, 421, 425, 429].contains(&status.as_u16());
    let about_it = status.is_server_error() && status != StatusCode::INTERNAL_SERVER_ERROR;
    status.is_redirection() || about_us || about_it
}

/// A partner's error code as a remark: one that is known. What it invents may hold what it was sent, and logs and status show
/// none of that.
pub(super) fn shown(code: &str) -> String {
    match code {
        "" => String::new(),
        TOO_MANY_SETS => format!(" with err {TOO_MANY_SETS}"),
        _ => match ErrorCode::from_name(code) {
            Some(known) => format!(" with err {}", known.as_str()),
            None => " with an err of its own".to_owned(),
        },
    }
}

/// The code of multi-set push for a batch that holds too many (draft -02 §Failure Response).
pub(super) const TOO_MANY_SETS: &str = "too_many_sets";

/// These two are about us, not about what was sent, and may pass (an expired token, a missing right).
pub(super) fn is_about_us(code: &str) -> bool {
    matches!(code, "authentication_failed" | "access_denied")
}

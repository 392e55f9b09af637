//! The Recipient (RFC 8936 §2.2): polls one after the other, each with the verdicts on what the last one brought; and beside a
//! poll that waits, requests that only acknowledge.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::engine::{Handle, Slot};
use crate::peer::{Ending, SlotSpec, Transmission, WaitsFor};
use crate::transport::caller::{Caller, Expected, is_about_us, lose};
use crate::transport::experience::{Exchange, Experience};
use crate::transport::pushpull::verdicts;
use crate::transport::told::Told;
use crate::wire;
use crate::wire::net;

/// How long a poll waits for the verdicts on what the last one brought, so that they can go along.
const VERDICTS_WITHIN: Duration = Duration::from_millis(50);

/// How long a partner may keep a poll waiting for SETs, beyond the time for any exchange.
const HELD_MAX: Duration = Duration::from_secs(60);

/// So many polls in a row may be held for longer than we wait before that is taken for a fault.
const HELD_TIMES: u32 = 3;

/// A partner that answers sooner that there is nothing does not wait for SETs: it is asked again in a while only.
const HELD_MIN: Duration = Duration::from_millis(500);

/// The pause after a request that only acknowledges has failed.
const AGAIN: Duration = Duration::from_secs(1);

/// Polls until `stop` turns true, or until the conversation is to end. A poll that waits is then given up: what its answer
/// may hold comes again, and the verdicts in it are told once more.
pub(in crate::transport) async fn run(caller: Arc<Caller>, seed: u64, mut stop: watch::Receiver<bool>) {
    let most = caller.config.limits.sets_per_object_max;
    let mut polling = Polling {
        experience: Experience::new(seed, most),
        next: Duration::ZERO,
        rest: Duration::ZERO,
        told: Mutex::default(),
        vain: 0,
        held: 0,
        caller,
    };
    while polling.turn(&mut stop).await {}
    polling.last_words().await;
}

struct Polling {
    caller: Arc<Caller>,
    experience: Experience,
    /// How soon the next poll leaves if there is no verdict to tell.
    next: Duration,
    /// How long nothing leaves at all before it.
    rest: Duration,
    /// What was answered and what came lately. Poll and acknowledgement note it at the same time, each for a moment.
    told: Mutex<Told>,
    /// Polls in a row that brought SETs, since a verdict was last told that had not been told before.
    vain: u32,
    /// Polls in a row that were held for longer than we wait.
    held: u32,
}

impl Polling {
    /// One poll. False when it is time to stop.
    async fn turn(&mut self, stop: &mut watch::Receiver<bool>) -> bool {
        if !self.caller.rest(&mut self.experience, stop).await {
            return false;
        }
        let handle = self.caller.partner.handle();
        if !self.rest.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(std::mem::take(&mut self.rest)) => {}
                () = handle.draining() => return false,
                _ = stop.wait_for(|stop| *stop) => return false,
            }
        }
        let taken = tokio::select! {
            taken = take(&self.caller, &handle, Some(self.next)) => taken,
            _ = stop.wait_for(|stop| *stop) => return false,
        };
        let Some((slot, object)) = taken else { return Caller::successor(stop).await };
        if self.told().note(&object) {
            self.vain = 0;
        }
        let asked = self.experience.ask(self.caller.partner.now());
        let (over, is_over) = watch::channel(false);
        let polling = async {
            let polled = self.poll(&handle, slot, &object, asked).await;
            let _ = over.send(true);
            polled
        };
        let polled = tokio::select! {
            (polled, ()) = async { tokio::join!(polling, self.acknowledge(&handle, is_over)) } => polled,
            // Nobody knows whether the verdicts in a poll that waits have been heard, and the end waits for that.
            () = handle.draining() => return false,
            _ = stop.wait_for(|stop| *stop) => return false,
        };
        let exchange = match polled {
            Polled::Sets { known } => {
                // Where none of them gets a verdict (a full inbox, keys that cannot be had) the same ones come again at once.
                let pause = VERDICTS_WITHIN.saturating_mul(1 << self.vain.min(10));
                let pause = pause.min(self.caller.config.speak_interval.max(VERDICTS_WITHIN));
                self.vain = self.vain.saturating_add(1);
                // So they do where it does not heed their verdicts, which are due at once.
                (self.rest, self.next) = if known { (pause, Duration::ZERO) } else { (Duration::ZERO, pause) };
                Exchange::Done
            }
            Polled::Held => {
                self.held += 1;
                self.next = Duration::ZERO;
                return true;
            }
            Polled::Nothing { waited } => {
                self.next = if waited { Duration::ZERO } else { self.caller.config.speak_interval };
                Exchange::Done
            }
            Polled::Failed(exchange) => exchange,
        };
        match &exchange {
            Exchange::Done => {
                self.held = 0;
                self.caller.recovered();
            }
            Exchange::Rejected { why, .. }
            | Exchange::Parted { why, .. }
            | Exchange::Oversized { why, .. }
            | Exchange::Failed { why, .. } => {
                self.next = Duration::ZERO;
                self.caller.failed(why);
            }
            Exchange::Untold => {}
        }
        self.experience.learn(&exchange, self.caller.partner.now());
        true
    }

    async fn poll(&self, handle: &Handle, slot: Slot, object: &Transmission, asked: u64) -> Polled {
        let began = Instant::now();
        let max = usize::try_from(asked).unwrap_or(usize::MAX);
        let response = match post(&self.caller, object, max, false).await {
            Ok(response) => response,
            Err(net::Error::TooLarge { max }) => {
                let why = format!("the partner's answer is larger than {max} bytes: fewer SETs are asked for now");
                slot.close(Ending::Lost { retry_after: Duration::ZERO });
                return Polled::Failed(Exchange::Oversized { why, asked, retry_after: Duration::ZERO });
            }
            // It may wait for SETs for longer than we do: that is no fault, once.
            Err(net::Error::TimedOut(_)) if object.verdicts.is_empty() && self.held < HELD_TIMES => {
                slot.close(Ending::Lost { retry_after: Duration::ZERO });
                return Polled::Held;
            }
            Err(error) => return Polled::Failed(lose(slot, error.to_string(), Duration::ZERO)),
        };
        let pause = self.caller.pause_asked(&response);
        if may_mind_verdicts(object, &response) {
            let why = format!("the partner refused the poll ({}), perhaps for its verdicts", response.status.as_u16());
            slot.close(Ending::Rejected { retry_after: pause, too_large: false });
            return Polled::Failed(Exchange::Rejected { why, retry_after: pause });
        }
        if response.status != StatusCode::OK {
            return Polled::Failed(lose(slot, self.caller.explain(response.status), pause));
        }
        let (length, limits) = (response.body.len(), self.caller.config.limits);
        let answer = match self.caller.partner.inspector().read(response.body, limits).await {
            // Verdicts have no place in it.
            Ok(answer) => wire::Object { acks: Vec::new(), errors: Vec::new(), ..answer },
            Err(malformed) if malformed.kind.is_too_big() => {
                let why = format!("the partner's answer is too large: {malformed}; fewer SETs are asked for now");
                slot.close(Ending::Lost { retry_after: pause });
                return Polled::Failed(Exchange::Oversized { why, asked, retry_after: pause });
            }
            Err(malformed) => {
                let why = format!("the partner's answer to a poll cannot be read: {malformed}");
                return Polled::Failed(lose(slot, why, pause));
            }
        };
        let (empty, known) = (answer.sets.is_empty(), self.knows(&answer));
        match self.caller.take_in(handle, slot, answer, length).await {
            Exchange::Done if empty => Polled::Nothing { waited: began.elapsed() >= HELD_MIN },
            Exchange::Done => Polled::Sets { known },
            failed => Polled::Failed(failed),
        }
    }

    /// Tells verdicts that become due while a poll waits, until that is over.
    async fn acknowledge(&self, handle: &Handle, mut is_over: watch::Receiver<bool>) {
        loop {
            let taken = tokio::select! {
                // First: what a poll that failed has not told is due again, but not before the pause after that.
                biased;
                _ = is_over.wait_for(|over| *over) => return,
                taken = take(&self.caller, handle, None) => taken,
            };
            let Some((slot, object)) = taken else { return };
            if let Err(retry_after) = self.tell(handle, slot, &object).await {
                tokio::select! {
                    () = tokio::time::sleep(AGAIN.max(retry_after)) => {}
                    _ = is_over.wait_for(|over| *over) => return,
                }
            }
        }
    }

    /// Tells the verdicts that are owed at the end.
    async fn last_words(&self) {
        let handle = self.caller.partner.handle();
        if let Some((slot, object)) = take(&self.caller, &handle, Some(VERDICTS_WITHIN)).await
            && !object.verdicts.is_empty()
        {
            let _ = self.tell(&handle, slot, &object).await;
        }
    }

    /// A request that only acknowledges. An error if the next has to wait, with what the partner asks for: it did not take it, or
    /// hands out again what it was answered. SETs that come with the answer although none were asked for are taken in all the same: there are
    /// transmitters that send one.
    async fn tell(&self, handle: &Handle, slot: Slot, object: &Transmission) -> Result<(), Duration> {
        self.told().note(object);
        let response = match post(&self.caller, object, 0, true).await {
            Ok(response) if response.status == StatusCode::OK => response,
            Ok(response) => {
                let retry_after = self.caller.pause_asked(&response);
                let minded = may_mind_verdicts(object, &response);
                slot.close(if minded {
                    Ending::Rejected { retry_after, too_large: false }
                } else {
                    Ending::Lost { retry_after }
                });
                return Err(retry_after);
            }
            Err(_) => {
                slot.close(Ending::Lost { retry_after: Duration::ZERO });
                return Err(Duration::ZERO);
            }
        };
        let length = response.body.len();
        // Whatever it holds, it is an answer: what was told has been heard.
        let answer = self.caller.partner.inspector().read(response.body, self.caller.config.limits).await;
        let answer = answer.unwrap_or_default();
        let answer = wire::Object { acks: Vec::new(), errors: Vec::new(), ..answer };
        let again = !answer.sets.is_empty() && self.told().has_told(answer.sets.iter().map(|(jti, _)| jti));
        match self.caller.take_in(handle, slot, answer, length).await {
            Exchange::Done if !again => Ok(()),
            _ => Err(Duration::ZERO),
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is nothing new in this answer.
    fn knows(&self, answer: &wire::Object) -> bool {
        self.told().are_known(answer.sets.iter().map(|(jti, _)| jti))
    }
}

enum Polled {
    Sets {
        /// None of them is new.
        known: bool,
    },
    Nothing {
        waited: bool,
    },
    /// It was held for longer than we wait.
    Held,
    Failed(Exchange),
}

/// The verdicts that are owed: as soon as there are some or, empty, after this time.
async fn take(caller: &Caller, handle: &Handle, by: Option<Duration>) -> Option<(Slot, Transmission)> {
    let spec: SlotSpec = caller.config.exchange_spec(0, WaitsFor::Anything);
    let mut slot = handle.open_slot(spec, by).await.ok()?;
    let object = slot.next().await?;
    Some((slot, object))
}

/// A request that is refused as a whole may be refused for its verdicts: there are fewer in the next.
fn may_mind_verdicts(object: &Transmission, response: &net::Response) -> bool {
    let refused = matches!(response.status, StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE);
    let about_us = || wire::parse_error_body(&response.body).is_some_and(|error| is_about_us(&error.err));
    refused && !object.verdicts.is_empty() && !about_us()
}

async fn post(
    caller: &Caller,
    object: &Transmission,
    max_events: usize,
    return_immediately: bool,
) -> Result<net::Response, net::Error> {
    let (acks, errors) = verdicts(object);
    let body = wire::write_poll(acks, errors, max_events, return_immediately);
    let length = body.len();
    let within = (!return_immediately).then(|| caller.config.exchange_within + HELD_MAX);
    let expected = Expected { within, ..Expected::default() };
    let response = caller.post("application/json", !object.verdicts.is_empty(), body.into(), expected).await?;
    caller.note_sent(0, length);
    Ok(response)
}

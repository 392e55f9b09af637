//! The Initiator over HTTP: one exchange after the other, as often as there is something to say or to ask.

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::watch;

use super::encode;
use crate::engine::{Handle, Slot};
use crate::peer::{Ending, Transmission, WaitsFor};
use crate::transport::caller::{Caller, is_about_us, lose, shown};
use crate::transport::experience::{Exchange, Experience};
use crate::transport::told::Told;
use crate::wire;
use crate::wire::net;

/// Exchanges objects with one partner until `stop` turns true.
pub(super) struct Initiator {
    caller: Caller,
    /// What was answered and what came lately.
    told: Mutex<Told>,
    /// Exchanges in a row in which nothing of ours left, and nothing new came.
    vain: AtomicU32,
}

/// The pause after the first exchange in vain; twice as long after each further one, up to the time after which a partner is asked
/// in any case.
const VAIN: Duration = Duration::from_millis(50);

/// How soon to ask for what is overdue: time enough for our own backlog to be read and to go along.
const ASK_SOON: Duration = Duration::from_millis(100);

/// An exchange that has begun.
pub(super) type UnderWay = Pin<Box<dyn Future<Output = Exchange> + Send>>;

impl Initiator {
    pub(super) fn new(caller: Caller) -> Self {
        Self { caller, told: Mutex::default(), vain: AtomicU32::new(0) }
    }

    /// Runs until `stop` turns true; the exchange that is then under way is for the caller to finish.
    pub(super) async fn run(
        self: &Arc<Self>,
        mut stop: watch::Receiver<bool>,
        experience: &mut Experience,
    ) -> Option<UnderWay> {
        if !self.caller.rest(experience, &mut stop).await {
            return None;
        }
        // Whatever a partner that cannot dial has for us waits until we ask, so that is what to do first, and first again
        // after a failure.
        let mut overdue = true;
        loop {
            let handle = self.caller.partner.handle();
            let spec = self.caller.config.exchange_spec(usize::MAX, WaitsFor::Anything);
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
                if Caller::successor(&mut stop).await {
                    continue;
                }
                return None;
            };
            let asked = experience.ask(self.caller.partner.now());
            let conversation = handle.clone();
            let mut under_way: UnderWay = Box::pin(Arc::clone(self).exchange(handle, slot, object, asked));
            let exchange = tokio::select! {
                biased;
                exchange = &mut under_way => exchange,
                _ = stop.wait_for(|stop| *stop) => return Some(under_way),
            };
            let rest = self.rest();
            // What is to be asked after a rest has been waited for.
            overdue = matches!(exchange, Exchange::Failed { .. } | Exchange::Oversized { .. }) || rest.is_some();
            let pause = self.conclude(&exchange, experience);
            if pause.is_none() && rest.is_none() {
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(pause.or(rest).unwrap_or_default()) => {}
                () = self.caller.partner.hurried(), if pause.is_some() => experience.hurry(),
                // The last verdicts are told with the least rest: a partner that does not listen hears them until we go.
                () = async { conversation.draining().await; tokio::time::sleep(VAIN).await }, if pause.is_none() => {}
                _ = stop.wait_for(|stop| *stop) => return None,
            }
        }
    }

    /// Says how the link fares after this exchange, and learns from it: the pause before the next.
    pub(super) fn conclude(&self, exchange: &Exchange, experience: &mut Experience) -> Option<Duration> {
        match exchange {
            Exchange::Done => self.caller.recovered(),
            Exchange::Rejected { why, .. }
            | Exchange::Parted { why, .. }
            | Exchange::Oversized { why, .. }
            | Exchange::Failed { why, .. } => self.caller.failed(why),
            Exchange::Untold => {}
        }
        experience.learn(exchange, self.caller.partner.now())
    }

    /// The pause that a partner gets which hands out again what it was answered, or what gets no verdict now. Each of its answers
    /// makes verdicts due, and they would make the next request leave at once.
    fn rest(&self) -> Option<Duration> {
        let vain = self.vain.load(Ordering::Relaxed);
        (vain > 0)
            .then(|| VAIN.saturating_mul(1 << (vain - 1).min(10)).min(self.caller.config.speak_interval.max(VAIN)))
    }

    /// Looks whether an answer to this holds anything new.
    fn weigh(&self, object: &Transmission, answer: &wire::Object) {
        let in_vain = object.sets.is_empty() && !answer.sets.is_empty() && {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.note(object);
            told.are_known(answer.sets.iter().map(|(jti, _)| jti))
        };
        if in_vain {
            self.vain.fetch_add(1, Ordering::Relaxed);
        } else {
            self.vain.store(0, Ordering::Relaxed);
        }
    }

    /// When to ask although there is nothing to say. A partner that has just been here by itself needs no asking yet.
    fn ask_after(&self, overdue: bool) -> Option<Duration> {
        let interval = self.caller.config.speak_interval;
        let link = self.caller.partner.link();
        if link.sockets > 0 {
            return None;
        }
        let seen = link.requested_at.is_some_and(|at| self.caller.partner.now().saturating_sub(at) < interval);
        Some(match (seen, overdue) {
            (true, _) => interval * 3,
            (false, true) => interval.min(ASK_SOON),
            (false, false) => interval,
        })
    }

    async fn exchange(self: Arc<Self>, handle: Handle, slot: Slot, object: Transmission, asked: u64) -> Exchange {
        let body = encode(&object, Some(asked));
        let sent = body.len();
        let response = match self.caller.post_object(&object, body).await {
            Ok(response) => response,
            Err(error @ net::Error::TooLarge { .. }) => return too_large(slot, &error, asked, Duration::ZERO),
            Err(error) => return self.caller.fail_without(slot, &object, &error),
        };
        self.caller.note_sent(object.sets.len(), sent);
        let pause = self.caller.pause_asked(&response);
        match response.status {
            StatusCode::OK => {
                match self.caller.partner.inspector().read(response.body.clone(), self.caller.config.limits).await {
                    Ok(answer) => {
                        self.weigh(&object, &answer);
                        self.caller.note_taken(object.sets.len());
                        self.caller.take_in(&handle, slot, answer, response.body.len()).await
                    }
                    Err(malformed) if malformed.kind.is_too_big() => too_large(slot, &malformed, asked, pause),
                    Err(malformed) => {
                        lose(slot, format!("the partner's answer is no Communication Object: {malformed}"), pause)
                    }
                }
            }
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => {
                let error = wire::parse_error_body(&response.body);
                let code = error.as_ref().map_or("", |error| error.err.as_str());
                let why = format!("the partner refused the object ({}){}", response.status.as_u16(), shown(code));
                if is_about_us(code) {
                    return lose(slot, why, pause);
                }
                let too_large = response.status == StatusCode::PAYLOAD_TOO_LARGE;
                slot.close(Ending::Rejected { retry_after: pause, too_large });
                match object.sets.len() {
                    0 => Exchange::Rejected { why, retry_after: pause },
                    // It alone waits for so long, and whatever else there is to say does not.
                    1 => Exchange::Rejected { why, retry_after: Duration::ZERO },
                    _ => Exchange::Parted { why, retry_after: pause },
                }
            }
            status => self.caller.fail_by(slot, &object, status, pause),
        }
    }
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

//! The Transmitter (RFC 8935 §2): some requests at a time, each with one SET.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http::StatusCode;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use crate::cpu;
use crate::engine::{Handle, Slot};
use crate::peer::{Blame, Ending, Inspected, SlotSpec, Transmission, Verdicts, WaitsFor};
use crate::set::{ErrorCode, Jti};
use crate::transport::caller::{Caller, Expected, holds_for_all, lose, shown};
use crate::transport::experience::{Exchange, Experience};
use crate::transport::minded::Minded;
use crate::wire;
use crate::wire::net::{self, Response};

/// Requests under way at the same time; as many connections are kept.
const REQUESTS_MAX: usize = 16;

/// After so long without a SET, one slot is enough.
const IDLE: Duration = Duration::from_secs(1);

/// Its answers hold an error at most, and a 202 is an ack whatever comes with it (RFC 8935 §2.2).
const ANSWER: Expected = Expected { within: None, answer: None, bytes_max: Some(64 << 10), head_counts: true };

/// Sends until `stop` turns true; requests under way are finished.
pub(in crate::transport) async fn run(caller: Arc<Caller>, seed: u64, mut stop: watch::Receiver<bool>) {
    let mut pushing = Pushing {
        experience: Experience::new(seed, 1),
        minded: Minded::default(),
        is_down: Arc::default(),
        requests: JoinSet::new(),
        failed_at: Duration::ZERO,
        caller,
    };
    pushing.until(&mut stop).await;
    while let Some(pushed) = pushing.requests.join_next().await {
        pushing.learn_from(pushed);
    }
}

struct Pushing {
    caller: Arc<Caller>,
    experience: Experience,
    /// SETs that got no verdict since one did. From many on, the link is told to be down.
    minded: Minded,
    /// So many got none that it is the partner.
    is_down: Arc<AtomicBool>,
    requests: JoinSet<Pushed>,
    /// When one last came to no verdict.
    failed_at: Duration,
}

/// What a request came to.
struct Pushed {
    jti: Option<Jti>,
    /// When it began (monotonic time).
    began: Duration,
    exchange: Exchange,
}

/// A slot that waits for a SET, and then the SET; none when the actor has ended.
type Waiting = FuturesUnordered<BoxFuture<'static, Option<(Handle, Slot, Transmission)>>>;

impl Pushing {
    async fn until(&mut self, stop: &mut watch::Receiver<bool>) {
        let mut waiting = Waiting::new();
        // When a SET last left.
        let mut last: Option<Instant> = None;
        loop {
            // While the partner fails, one request at a time finds out whether it still does.
            let at_once = if self.experience.last_failed() { 1 } else { REQUESTS_MAX };
            let pause = self.experience.pause(self.caller.partner.now());
            if self.requests.len() >= at_once || pause.is_some() {
                // An object that was about to come is due again.
                waiting = Waiting::new();
                tokio::select! {
                    Some(pushed) = self.requests.join_next() => self.learn_from(pushed),
                    () = tokio::time::sleep(pause.unwrap_or(Duration::MAX)), if pause.is_some() => {}
                    () = self.caller.partner.hurried(), if pause.is_some() => self.experience.hurry(),
                    _ = stop.wait_for(|stop| *stop) => return,
                }
                continue;
            }
            // With many slots open the actor hands out many SETs in one step. After a while without any one is enough.
            let is_idle = last.is_none_or(|last| last.elapsed() >= IDLE) && self.requests.is_empty();
            let wanted = if is_idle { 1 } else { at_once - self.requests.len() };
            while waiting.len() < wanted {
                waiting.push(take(Arc::clone(&self.caller)).boxed());
            }
            let taken = tokio::select! {
                // First: what has been handed over already is not to be given back.
                biased;
                Some(taken) = waiting.next() => Some(taken),
                Some(pushed) = self.requests.join_next() => {
                    self.learn_from(pushed);
                    None
                }
                () = tokio::time::sleep(IDLE), if waiting.len() > 1 && self.requests.is_empty() => {
                    (waiting, last) = (Waiting::new(), None);
                    None
                }
                _ = stop.wait_for(|stop| *stop) => return,
            };
            match taken {
                Some(Some((handle, slot, object))) => {
                    last = Some(Instant::now());
                    self.begin(handle, slot, object);
                }
                // The actor has ended: for good if the process is stopping, else the next handle reaches a new one.
                Some(None) if !Caller::successor(stop).await => return,
                Some(None) => waiting = Waiting::new(),
                None => {}
            }
        }
    }

    fn begin(&mut self, handle: Handle, slot: Slot, object: Transmission) {
        let (caller, began) = (Arc::clone(&self.caller), self.caller.partner.now());
        let is_down = Arc::clone(&self.is_down);
        let jti = object.sets.first().map(|(jti, _)| jti.clone());
        let pushed = async move { Pushed { jti, began, exchange: push(caller, handle, slot, object, is_down).await } };
        self.requests.spawn(cpu::throughout(cpu::Stage::Frame, pushed));
    }

    fn learn_from(&mut self, pushed: Result<Pushed, JoinError>) {
        // One that panicked has reported its slot lost.
        let Ok(Pushed { jti, began, mut exchange }) = pushed else { return };
        match &mut exchange {
            Exchange::Done => {
                self.minded.forget();
                self.is_down.store(false, Ordering::Relaxed);
                self.caller.recovered();
            }
            Exchange::Rejected { why, retry_after } => {
                if jti.is_some_and(|jti| !self.minded.note(jti)) {
                    return;
                }
                if self.minded.are_many() {
                    self.is_down.store(true, Ordering::Relaxed);
                    self.caller.failed(why);
                } else {
                    // The SET waits for so long, and nothing else does: it is not known yet that it is not its own doing.
                    *retry_after = Duration::ZERO;
                }
            }
            Exchange::Parted { why, .. } | Exchange::Oversized { why, .. } | Exchange::Failed { why, .. } => {
                self.caller.failed(why);
            }
            Exchange::Untold => return,
        }
        let now = self.caller.partner.now();
        if matches!(exchange, Exchange::Done) {
            // One that was under way when another failed says nothing about the partner now, and takes back no patience that
            // it has asked for.
            if began >= self.failed_at {
                self.experience.learn(&exchange, now);
            }
        } else if began < self.failed_at {
            self.experience.confirm(&exchange, now);
        } else {
            self.failed_at = now;
            self.experience.learn(&exchange, now);
        }
    }
}

async fn take(caller: Arc<Caller>) -> Option<(Handle, Slot, Transmission)> {
    let handle = caller.partner.handle();
    let mut slot = handle.open_slot(spec(&caller), None).await.ok()?;
    let object = slot.next().await?;
    Some((handle, slot, object))
}

fn spec(caller: &Caller) -> SlotSpec {
    SlotSpec {
        sets_max: 1,
        bytes_max: caller.config.limits.object_bytes_max,
        verdicts: Verdicts::None,
        waits_for: WaitsFor::Anything,
        by: None,
    }
}

async fn push(
    caller: Arc<Caller>,
    handle: Handle,
    slot: Slot,
    object: Transmission,
    is_down: Arc<AtomicBool>,
) -> Exchange {
    let Some((jti, compact)) = object.sets.into_iter().next() else {
        slot.close(Ending::Delivered);
        return Exchange::Done;
    };
    let body = Bytes::copy_from_slice(compact.as_bytes());
    let length = body.len();
    let (answer, retry_after) = match caller.post("application/secevent+jwt", false, body, ANSWER).await {
        Ok(response) => {
            caller.note_sent(1, length);
            (judge(&jti, &response), caller.pause_asked(&response))
        }
        Err(error @ (net::Error::Connect(_) | net::Error::Unsendable(_))) => {
            return lose(slot, error.to_string(), Duration::ZERO);
        }
        // The partner had it, and perhaps this very SET made it hang or break off.
        Err(error) => (Answer::NoVerdict(error.to_string()), Duration::ZERO),
    };
    match answer {
        Answer::NoVerdict(what) if is_down.load(Ordering::Relaxed) => {
            // It is not this SET, which has used up no attempt; or bad ones lie side by side, and others get their turn.
            slot.close(Ending::Failed { retry_after, blame: Blame::Partner });
            Exchange::Failed { why: format!("the partner gives no verdicts: {what}"), retry_after }
        }
        Answer::Verdict(verdict) => caller.settle(&handle, slot, verdict).await,
        Answer::NoVerdict(what) => {
            let why = format!("the partner gave no verdict on a SET: {what}");
            caller.unanswered(&jti, &why);
            slot.close(Ending::Rejected { retry_after, too_large: false });
            Exchange::Rejected { why, retry_after }
        }
        Answer::NotNow(status, what) => {
            let why = what.unwrap_or_else(|| caller.explain(status));
            lose(slot, why, retry_after)
        }
    }
}

/// What an answer says.
enum Answer {
    Verdict(Inspected),
    /// Nothing about this SET, though perhaps because of it: it is tried again, later and later.
    NoVerdict(String),
    /// Something about us, or about the partner: everything waits.
    NotNow(StatusCode, Option<String>),
}

/// Only a 202 is an ack and only a 400 with a registered code about the SET is a setErr (RFC 8935 §2.2 to §2.4): a setErr is
/// terminal, so whatever may pass is none.
fn judge(jti: &Jti, response: &Response) -> Answer {
    match response.status {
        StatusCode::ACCEPTED => Answer::Verdict(Inspected { acks: vec![jti.clone()], ..Inspected::default() }),
        StatusCode::BAD_REQUEST => {
            let Some(error) = wire::parse_error_body(&response.body) else {
                return Answer::NoVerdict("400, and it does not say why".to_owned());
            };
            match ErrorCode::from_name(&error.err) {
                Some(ErrorCode::AuthenticationFailed) => {
                    let what = "the partner answered 400 with err authentication_failed: it does not accept our token";
                    Answer::NotNow(response.status, Some(what.to_owned()))
                }
                // A right that is missing may be given, and what it is missing for may be this SET alone.
                Some(ErrorCode::AccessDenied) | None => Answer::NoVerdict(format!("400{}", shown(&error.err))),
                Some(_) => Answer::Verdict(Inspected { errors: vec![(jti.clone(), error)], ..Inspected::default() }),
            }
        }
        status if holds_for_all(status) => Answer::NotNow(status, None),
        status if status.is_success() => Answer::NoVerdict(format!("{}: only 202 is an ack", status.as_u16())),
        status => Answer::NoVerdict(status.as_u16().to_string()),
    }
}

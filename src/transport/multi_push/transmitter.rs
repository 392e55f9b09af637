//! The Transmitter: one request after the other, each with all that waits, or with nothing to ask for late verdicts.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::watch;

use crate::engine::{Handle, Slot};
use crate::peer::{Ending, SlotSpec, Transmission, Verdicts, WaitsFor};
use crate::set::Jti;
use crate::transport::caller::{Caller, TOO_MANY_SETS, is_about_us, lose, shown};
use crate::transport::experience::{Exchange, Experience};
use crate::transport::minded::Minded;
use crate::transport::wanted::Wanted;
use crate::wire;

/// When to ask for verdicts that did not come with the answer. Well before a SET is sent again for want of one.
const PROBE_AFTER: Duration = Duration::from_millis(400);

/// Sends until `stop` turns true; the request under way is finished.
pub(in crate::transport) async fn run(caller: Arc<Caller>, seed: u64, mut stop: watch::Receiver<bool>) {
    let most = caller.config.limits.sets_per_object_max;
    let mut batches = Batches {
        experience: Experience::new(seed, most),
        minded: Minded::default(),
        fitting: Wanted::new(most),
        unanswered: HashSet::new(),
        probes: 0,
        caller,
    };
    while batches.turn(&mut stop).await {}
}

struct Batches {
    caller: Arc<Caller>,
    experience: Experience,
    /// SETs that were refused alone since a request was taken.
    minded: Minded,
    /// SETs in a request: fewer where the partner has found one too large.
    fitting: Wanted,
    /// SETs that the partner took without a verdict.
    unanswered: HashSet<Jti>,
    /// Answers in a row without a verdict that was asked for.
    probes: u32,
}

impl Batches {
    /// One request, and the pause after it. False when it is time to stop.
    async fn turn(&mut self, stop: &mut watch::Receiver<bool>) -> bool {
        if !self.caller.rest(&mut self.experience, stop).await {
            return false;
        }
        let handle = self.caller.partner.handle();
        let sets_max = usize::try_from(self.fitting.ask(self.caller.partner.now())).unwrap_or(usize::MAX);
        let spec =
            SlotSpec { verdicts: Verdicts::None, ..self.caller.config.exchange_spec(sets_max, WaitsFor::Anything) };
        let by = (!self.unanswered.is_empty())
            .then(|| (PROBE_AFTER * 2_u32.saturating_pow(self.probes)).min(self.caller.config.speak_interval));
        let taking = async {
            let mut slot = handle.open_slot(spec, by).await.ok()?;
            let object = slot.next().await?;
            Some((slot, object))
        };
        let taken = tokio::select! {
            taken = taking => taken,
            _ = stop.wait_for(|stop| *stop) => return false,
        };
        let Some((slot, object)) = taken else { return Caller::successor(stop).await };
        let is_probe = object.sets.is_empty();
        let alone = match object.sets.as_slice() {
            [(jti, _)] => Some(jti.clone()),
            _ => None,
        };
        let mut exchange = self.exchange(&handle, slot, object).await;
        match &mut exchange {
            Exchange::Done => {
                self.minded.forget();
                self.caller.recovered();
            }
            // A partner that minds being asked is not asked for ever, and SETs are none the worse for it.
            Exchange::Rejected { .. } if is_probe => {
                self.asked_in_vain();
                return !*stop.borrow();
            }
            Exchange::Rejected { why, retry_after } if alone.is_some() => {
                if alone.is_some_and(|jti| !self.minded.note(jti)) {
                    return !*stop.borrow();
                }
                if !self.minded.are_many() {
                    // The SET waits for so long, and nothing else does: it is not known yet that it is not its own doing.
                    *retry_after = Duration::ZERO;
                }
                self.caller.failed(why);
            }
            Exchange::Rejected { why, .. }
            | Exchange::Parted { why, .. }
            | Exchange::Oversized { why, .. }
            | Exchange::Failed { why, .. } => {
                self.caller.failed(why);
            }
            Exchange::Untold => {}
        }
        self.experience.learn(&exchange, self.caller.partner.now());
        !*stop.borrow()
    }

    async fn exchange(&mut self, handle: &Handle, slot: Slot, object: Transmission) -> Exchange {
        let body = wire::write_sets(&object.sets);
        let (length, sets) = (body.len(), object.sets.len());
        let response = match self.caller.post_object(&object, body.into()).await {
            Ok(response) => response,
            Err(error) => return self.caller.fail_without(slot, &object, &error),
        };
        self.caller.note_sent(sets, length);
        let pause = self.caller.pause_asked(&response);
        match response.status {
            StatusCode::ACCEPTED => {
                let limits = self.caller.config.limits;
                match self.caller.partner.inspector().read(response.body.clone(), limits).await {
                    Ok(answer) => {
                        self.note(&object, &answer);
                        self.caller.note_taken(sets);
                        // It has no SETs for us: those that stand there all the same nobody would answer.
                        let answer = wire::Object { sets: Vec::new(), ..answer };
                        self.caller.take_in(handle, slot, answer, response.body.len()).await
                    }
                    Err(malformed) => lose(slot, format!("the partner's answer holds no verdicts: {malformed}"), pause),
                }
            }
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => {
                let error = wire::parse_error_body(&response.body);
                let code = error.as_ref().map_or("", |error| error.err.as_str());
                let why = format!("the partner refused the request ({}){}", response.status.as_u16(), shown(code));
                if is_about_us(code) {
                    return lose(slot, why, pause);
                }
                let too_large = response.status == StatusCode::PAYLOAD_TOO_LARGE || code == TOO_MANY_SETS;
                if too_large && sets > 1 {
                    // Nothing is wrong with any of them: they leave again, fewer at a time.
                    self.fitting.too_large(self.caller.partner.now(), sets);
                    slot.close(Ending::Lost { retry_after: Duration::ZERO });
                    return Exchange::Parted { why, retry_after: pause };
                }
                slot.close(Ending::Rejected { retry_after: pause, too_large });
                match sets {
                    ..=1 => Exchange::Rejected { why, retry_after: pause },
                    _ => Exchange::Parted { why, retry_after: pause },
                }
            }
            status => self.caller.fail_by(slot, &object, status, pause),
        }
    }

    fn note(&mut self, object: &Transmission, answer: &wire::Object) {
        let before = self.unanswered.len();
        self.unanswered.extend(object.sets.iter().map(|(jti, _)| jti.clone()));
        answer.acks.iter().chain(answer.errors.iter().map(|(jti, _)| jti)).for_each(|jti| {
            self.unanswered.remove(jti);
        });
        // Whoever does not know them any more will not answer them: what is sent again is asked for again.
        match object.sets.is_empty() && self.unanswered.len() >= before {
            true => self.asked_in_vain(),
            false => self.probes = 0,
        }
        if self.unanswered.is_empty() || self.unanswered.len() > UNANSWERED_MAX {
            self.unanswered = HashSet::new();
            self.probes = 0;
        }
    }
}

impl Batches {
    fn asked_in_vain(&mut self) {
        self.probes += 1;
        if self.probes > PROBES_MAX {
            self.unanswered = HashSet::new();
            self.probes = 0;
        }
    }
}

/// A partner that takes SETs and never answers is asked about so many at most.
const UNANSWERED_MAX: usize = 65_536;

/// So many questions in vain, and the SETs are left to their retries.
const PROBES_MAX: u32 = 8;

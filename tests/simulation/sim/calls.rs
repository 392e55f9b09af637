//! Methods that carry SETs one way, with the habits of `transport/push`, `transport/multi_push` and `transport/poll`: who
//! calls, and who answers.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use pushpull::engine::{ArrivalRoom, Handle};
use pushpull::metrics::Transport;
use pushpull::peer::{Ending, Inspected, SlotSpec, Verdicts, WaitsFor};
use pushpull::set::Jti;
use pushpull::transport::pushpull::{Config, Exchange, Experience};
use pushpull::wire;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::event::{Event, Org};
use super::exchange::{self, Answer, Reply, Way};
use super::life::Life;
use super::net::Parcel;
use super::objects;
use super::options::{Kind, Method};
use super::outgoing::{Leaving, Outgoing};

/// Pushes under way at the same time.
const PUSHES: u64 = 3;

/// How soon verdicts are asked for that did not come with the answer.
const PROBE_AFTER: Duration = Duration::from_millis(400);

/// So many questions in vain, and the SETs are left to their retries.
const PROBES_MAX: u32 = 8;

/// How long a poll waits for verdicts to take along.
const VERDICTS_WITHIN: Duration = Duration::from_millis(50);

/// How long a partner may keep a poll waiting, beyond the time for any exchange.
const HELD_MAX: Duration = Duration::from_secs(60);

/// A partner that answers sooner that there is nothing is asked again in a while only.
const HELD_MIN: Duration = Duration::from_millis(500);

/// How long until an actor that has ended is asked for anew, and a partner again that did not take verdicts.
const AGAIN: Duration = Duration::from_secs(1);

/// After so long a batch may be twice as large again.
const DOUBLED_AFTER: Duration = Duration::from_secs(600);

/// Makes the calls of this process to that partner, if there are any, for as long as it lives.
pub fn begin(life: &Arc<Life>, to: Org) {
    let pair = life.world.options.pair(life.org, to);
    let Kind::Calls(methods) = pair.kind else { return };
    let own = usize::from(pair.ends[0] != life.org);
    let seed = life.world.luck(&[41, u64::from(life.org.0), u64::from(to.0), life.number]).next_u64();
    let caller = |number: u64| Caller {
        life: Arc::clone(life),
        to,
        config: Arc::clone(life.config(to)),
        experience: Experience::new(seed ^ number, life.config(to).limits.sets_per_object_max),
    };
    match methods[own] {
        Method::Push => (0..PUSHES).for_each(|number| life.spawn(caller(number).push())),
        Method::MultiPush => life.spawn(caller(PUSHES).multi_push()),
        Method::Poll => {}
    }
    if methods[1 - own] == Method::Poll {
        life.spawn(caller(PUSHES + 1).poll());
    }
}

struct Caller {
    life: Arc<Life>,
    to: Org,
    config: Arc<Config>,
    experience: Experience,
}

impl Caller {
    async fn push(mut self) {
        loop {
            self.pause().await;
            let spec = self.spec(1, Verdicts::None);
            let Some((handle, slot, object, link)) = self.take(spec, None).await else { continue };
            let exchange = match self.ask(Way::Push, &object, Duration::ZERO).await {
                // In place of the 400 with a reason, which is hard to tell from one of something on the way.
                Some(Answer { status: 200 | 202, body, .. }) => self.take_in(&handle, slot, link, &body).await,
                Some(Answer { status: 400, body, .. }) if is_about_us(&body) => lose(slot, Duration::ZERO),
                Some(Answer { status: 400 | 413, .. }) => {
                    self.life.world.meet("push without a verdict");
                    slot.close(Ending::REJECTED);
                    rejected()
                }
                other => lose(slot, self.asked_for(&other)),
            };
            self.learn(&exchange);
        }
    }

    async fn multi_push(mut self) {
        let most = self.config.limits.sets_per_object_max;
        let (mut fitting, mut since) = (most, Instant::now());
        let (mut unanswered, mut probes) = (HashSet::<Jti>::new(), 0_u32);
        loop {
            self.pause().await;
            if fitting < most && since.elapsed() >= DOUBLED_AFTER {
                (fitting, since) = ((fitting * 2).min(most), Instant::now());
            }
            let by = (!unanswered.is_empty())
                .then(|| (PROBE_AFTER * 2_u32.saturating_pow(probes)).min(self.config.speak_interval));
            let spec = self.spec(fitting, Verdicts::None);
            let Some((handle, slot, object, link)) = self.take(spec, by).await else { continue };
            let answer = self.ask(Way::MultiPush, &object, Duration::ZERO).await;
            let exchange = match answer {
                Some(Answer { status: 202, body, .. }) => {
                    slot.answered();
                    let verdicts = wire::parse(&body.bytes, &self.config.limits).unwrap_or_default();
                    let before = unanswered.len();
                    unanswered.extend(sets(&object));
                    verdicts.acks.iter().chain(verdicts.errors.iter().map(|(jti, _)| jti)).for_each(|jti| {
                        unanswered.remove(jti);
                    });
                    probes = if object.sets == 0 && unanswered.len() >= before { probes + 1 } else { 0 };
                    if object.sets == 0 && unanswered.len() < before {
                        self.life.world.meet("late verdicts collected");
                    }
                    if probes > PROBES_MAX {
                        (unanswered, probes) = (HashSet::new(), 0);
                    }
                    self.take_in(&handle, slot, link, &body).await
                }
                Some(Answer { status: 400, body, .. }) if is_about_us(&body) => lose(slot, Duration::ZERO),
                Some(Answer { status: 413, .. }) if object.sets > 1 => {
                    self.life.world.meet("batch too large, halved");
                    (fitting, since) = ((object.sets / 2).clamp(1, fitting), Instant::now());
                    slot.close(Ending::Lost { retry_after: Duration::ZERO });
                    rejected()
                }
                Some(Answer { status: 400 | 413, .. }) => {
                    slot.close(Ending::REJECTED);
                    rejected()
                }
                other @ (None | Some(Answer { status: 500, .. })) => {
                    let pause = self.asked_for(&other);
                    match slot.fail(pause, false) {
                        true => rejected(),
                        false => Exchange::Failed { why: String::new(), retry_after: pause },
                    }
                }
                other => lose(slot, self.asked_for(&other)),
            };
            self.learn(&exchange);
        }
    }

    async fn poll(mut self) {
        let mut next = Duration::ZERO;
        loop {
            self.pause().await;
            let spec = self.spec(0, Verdicts::Any);
            let Some((handle, slot, object, link)) = self.take(spec, Some(next)).await else { continue };
            let max = usize::try_from(self.experience.ask(self.now())).unwrap_or(usize::MAX);
            let over = Notify::new();
            let (began, this) = (Instant::now(), &self);
            let polling = async {
                let answer = this.ask(Way::Poll { max, at_once: false }, &object, HELD_MAX).await;
                over.notify_one();
                answer
            };
            let (answer, ()) = tokio::join!(biased; polling, this.acknowledge(&over));
            let exchange = match answer {
                Some(Answer { status: 200, body, .. }) => {
                    let parsed = wire::parse(&body.bytes, &self.config.limits);
                    if parsed.as_ref().is_err_and(|malformed| malformed.kind.is_too_big()) {
                        slot.close(Ending::Lost { retry_after: Duration::ZERO });
                        objects::malformed(&self.life, self.to, link);
                        let (why, asked, retry_after) = (String::new(), max as u64, Duration::ZERO);
                        Exchange::Oversized { why, asked, retry_after }
                    } else {
                        let any = parsed.is_ok_and(|object| !object.sets.is_empty());
                        let waited = began.elapsed() >= HELD_MIN;
                        next = match (any, waited) {
                            (true, _) => VERDICTS_WITHIN,
                            (false, true) => Duration::ZERO,
                            (false, false) => self.config.speak_interval,
                        };
                        self.take_in(&handle, slot, link, &body).await
                    }
                }
                other => lose(slot, self.asked_for(&other)),
            };
            if !matches!(exchange, Exchange::Done) {
                next = Duration::ZERO;
            }
            self.learn(&exchange);
        }
    }

    /// Tells verdicts that become due while a poll waits.
    async fn acknowledge(&self, over: &Notify) {
        let mut is_over = std::pin::pin!(over.notified());
        loop {
            let spec = self.spec(0, Verdicts::Any);
            let taken = tokio::select! {
                biased;
                () = &mut is_over => return,
                taken = self.take(spec, None) => taken,
            };
            let Some((handle, slot, object, link)) = taken else { continue };
            self.life.world.meet("verdicts told beside a poll");
            match self.ask(Way::Poll { max: 0, at_once: true }, &object, Duration::ZERO).await {
                Some(Answer { status: 200, body, .. }) => drop(self.take_in(&handle, slot, link, &body).await),
                _ => {
                    drop(lose(slot, Duration::ZERO));
                    tokio::select! {
                        biased;
                        () = &mut is_over => return,
                        () = sleep(AGAIN) => {}
                    }
                }
            }
        }
    }

    fn spec(&self, sets_max: usize, verdicts: Verdicts) -> SlotSpec {
        let spec = self.config.exchange_spec(sets_max, WaitsFor::Anything);
        SlotSpec {
            verdicts,
            bytes_max: if sets_max == 1 { self.config.limits.object_bytes_max } else { spec.bytes_max },
            ..spec
        }
    }

    fn now(&self) -> Duration {
        self.life.partner(self.to).now()
    }

    async fn pause(&self) {
        if let Some(pause) = self.experience.pause(self.now()) {
            sleep(pause).await;
        }
        self.life.awake().await;
    }

    fn learn(&mut self, exchange: &Exchange) {
        let now = self.now();
        self.experience.learn(exchange, now);
    }

    async fn take(&self, spec: SlotSpec, by: Option<Duration>) -> Option<(Handle, Outgoing, Leaving, u64)> {
        let handle = self.life.partner(self.to).handle();
        let taking = async {
            let slot = handle.open_slot(spec, by).await.ok()?;
            let link = self.life.world.net.number(self.life.org, self.to);
            let mut slot = Outgoing::new(slot, &self.life, self.to, link, spec);
            let object = slot.next().await?;
            Some((slot, object, link))
        };
        match taking.await {
            Some((slot, object, link)) => Some((handle, slot, object, link)),
            None => {
                sleep(AGAIN).await;
                None
            }
        }
    }

    async fn ask(&self, way: Way, object: &Leaving, patience: Duration) -> Option<Answer> {
        self.life.awake().await;
        let request = exchange::request(&self.life.world, self.life.org, self.to, way, object.bytes.clone().into());
        let usual = self.config.exchange_within + patience;
        let answer = match way {
            Way::PushPull | Way::MultiPush => {
                exchange::within(&self.life, self.to, usual, (object.sets, object.alone.as_ref()), request).await
            }
            Way::Push | Way::Poll { .. } => timeout(usual, request).await.ok().flatten(),
        };
        self.life.awake().await;
        answer
    }

    /// What an answer asks for, as far as the product believes it.
    fn asked_for(&self, answer: &Option<Answer>) -> Duration {
        let pause = answer.as_ref().and_then(|answer| answer.retry_after);
        let value = pause.map(|pause| http::HeaderValue::from(pause.as_secs()));
        let headers = value.map(|value| http::HeaderMap::from_iter([(http::header::RETRY_AFTER, value)]));
        headers.and_then(|headers| wire::net::retry_after(&headers, self.now_shown())).unwrap_or_default()
    }

    fn now_shown(&self) -> pushpull::clock::Timestamp {
        pushpull::clock::Clock::now(&*self.life.clock)
    }

    async fn take_in(&self, handle: &Handle, slot: Outgoing, link: u64, body: &Parcel) -> Exchange {
        let bytes = body.bytes.len();
        let partner = self.life.partner(self.to);
        let Ok(answer) = partner.inspector().read(body.bytes.clone(), self.config.limits).await else {
            objects::malformed(&self.life, self.to, link);
            return lose(slot, Duration::ZERO);
        };
        if !objects::comes(&self.life, self.to, link, &answer) {
            return failed();
        }
        let Ok(room) = handle.arrival_room(bytes).await else { return failed() };
        let patience = self.config.patience();
        if !objects::bring(&self.life, self.to, partner, handle, slot.id(), (answer, room), patience).await {
            return failed();
        }
        slot.close(Ending::Delivered);
        Exchange::Done
    }
}

fn sets(object: &Leaving) -> Vec<Jti> {
    let parsed = wire::parse(&object.bytes, &wire::Limits::default()).unwrap_or_default();
    parsed.sets.into_iter().map(|(jti, _)| jti).collect()
}

fn is_about_us(body: &Parcel) -> bool {
    wire::parse_error_body(&body.bytes).is_some_and(|error| error.err == "authentication_failed")
}

fn lose(slot: Outgoing, retry_after: Duration) -> Exchange {
    slot.close(Ending::Lost { retry_after });
    Exchange::Failed { why: String::new(), retry_after }
}

fn rejected() -> Exchange {
    Exchange::Rejected { why: String::new(), retry_after: Duration::ZERO }
}

fn failed() -> Exchange {
    Exchange::Failed { why: String::new(), retry_after: Duration::ZERO }
}

/// Answers a request, which has been read, by the way on which it came.
pub async fn respond(
    life: Arc<Life>,
    from: Org,
    way: Way,
    (object, room): (wire::Object, ArrivalRoom),
    link: u64,
    mut reply: Reply,
) {
    let config = Arc::clone(life.config(from));
    let partner = Arc::clone(life.partner(from));
    let handle = partner.handle();
    let answering = async {
        match way {
            Way::PushPull => None,
            Way::Push => pushed(&life, from, &config, handle, object, room, link).await,
            Way::MultiPush => {
                partner.note_request(Transport::MultiPush);
                let spec = config.exchange_spec(0, WaitsFor::Answers);
                let (slot, answer) =
                    exchange::brought(&life, from, &config, handle, (object, room), link, spec).await?;
                Some((slot, 202, answer.bytes))
            }
            Way::Poll { max, at_once } => {
                partner.note_request(Transport::Poll);
                polled(&life, from, &config, handle, object, room, link, (max, at_once)).await
            }
        }
    };
    let within = if matches!(way, Way::Poll { .. }) { config.poll_hold + AGAIN } else { config.answer_within };
    let answered = tokio::select! {
        biased;
        answered = timeout(within, answering) => answered,
        // The server ends with its connection.
        () = closed(&mut reply) => return life.world.meet("client gone while it waited"),
    };
    match answered {
        Ok(Some((slot, status, bytes))) => {
            life.awake().await;
            if reply.is_closed() {
                return life.world.meet("client gone before its answer");
            }
            slot.close(Ending::Delivered);
            let _ = reply.send(Answer { status, body: bytes.into(), retry_after: None });
        }
        _ => drop(reply.send(Answer::status(503))),
    }
}

async fn closed(reply: &mut oneshot::Sender<Answer>) {
    reply.closed().await;
}

async fn pushed(
    life: &Arc<Life>,
    from: Org,
    config: &Config,
    handle: Handle,
    object: wire::Object,
    room: ArrivalRoom,
    link: u64,
) -> Option<(Outgoing, u16, bytes::Bytes)> {
    life.partner(from).note_request(Transport::Push);
    let spec = SlotSpec { verdicts: Verdicts::Own, ..config.exchange_spec(0, WaitsFor::Answers) };
    let slot = handle.open_slot(spec, Some(config.hold())).await.ok()?;
    let mut slot = Outgoing::new(slot, life, from, link, spec);
    let set = object.sets.into_iter().next()?;
    let (id, patience, bringer, worker) =
        (slot.id(), config.patience(), Arc::clone(life.partner(from)), Arc::clone(life));
    life.spawn(async move {
        if bringer.bring_one(&handle, id, set, room, patience).await.is_ok() {
            worker.note(&Event::Heard { org: worker.org, from });
        }
    });
    let answer = slot.next().await?;
    let said = wire::parse(&answer.bytes, &wire::Limits::default()).unwrap_or_default();
    if said.acks.is_empty() && said.errors.is_empty() {
        life.world.meet("push answered without a verdict");
        slot.close(Ending::Delivered);
        return None;
    }
    Some((slot, if said.errors.is_empty() { 202 } else { 200 }, answer.bytes))
}

#[expect(clippy::too_many_arguments, reason = "what a request is made of")]
async fn polled(
    life: &Arc<Life>,
    from: Org,
    config: &Config,
    handle: Handle,
    object: wire::Object,
    room: ArrivalRoom,
    link: u64,
    (max, at_once): (usize, bool),
) -> Option<(Outgoing, u16, bytes::Bytes)> {
    let waits_for = if at_once { WaitsFor::Answers } else { WaitsFor::Sets };
    let spec = SlotSpec { verdicts: Verdicts::None, ..config.exchange_spec(max, waits_for) };
    let verdicts = Inspected { acks: object.acks, errors: object.errors, ..Inspected::default() };
    let now = life.partner(from).now();
    let slot = if at_once {
        let slot = handle.open_slot(spec, Some(config.hold())).await.ok()?;
        handle.arrived(Some(slot.id()), verdicts, room, now).await.ok()?;
        slot
    } else {
        handle.arrived(None, verdicts, room, now).await.ok()?;
        handle.open_slot(spec, Some(config.poll_hold)).await.ok()?
    };
    let mut slot = Outgoing::new(slot, life, from, link, spec);
    life.note(&Event::Heard { org: life.org, from });
    let answer = slot.next().await?;
    if answer.sets > 0 {
        life.world.meet("poll answered with SETs");
    }
    Some((slot, 200, answer.bytes))
}

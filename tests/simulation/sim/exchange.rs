//! Requests and answers over pretend HTTP: what happens to them on the way, and the Responder with the habits of
//! `transport/pushpull/responder.rs`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pushpull::engine::{ArrivalRoom, Handle};
use pushpull::peer::{Ending, SlotSpec, WaitsFor};
use pushpull::set::Jti;
use pushpull::transport::pushpull as transport;
use pushpull::wire;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::calls;
use super::event::Org;
use super::life::Life;
use super::net::Parcel;
use super::objects;
use super::outgoing::{Leaving, Outgoing};
use super::world::World;

/// What a request is answered with.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Parcel,
    pub retry_after: Option<Duration>,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        let retry_after = matches!(status, 429 | 503).then(|| Duration::from_secs(1));
        Self { status, body: Bytes::new().into(), retry_after }
    }

    /// A 400 that is about who asked, and not about what was in the request.
    pub fn not_you() -> Self {
        Self {
            body: Bytes::from(wire::error_body("authentication_failed", "who are you?")).into(),
            ..Self::status(400)
        }
    }
}

/// Which endpoint a request is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    PushPull,
    Push,
    MultiPush,
    /// With its `maxEvents` and `returnImmediately`.
    Poll {
        max: usize,
        at_once: bool,
    },
}

/// The answer to a request, if it comes within the time that `transport/caller.rs` would wait: for SETs that is less than `usual` where
/// the partner has been silent to some.
pub async fn within(
    life: &Life,
    to: Org,
    usual: Duration,
    (sets, alone): (usize, Option<&Jti>),
    request: impl Future<Output = Option<Answer>>,
) -> Option<Answer> {
    if sets == 0 {
        return timeout(usual, request).await.ok().flatten();
    }
    let partner = life.partner(to);
    let began = partner.now();
    let patience = partner.silence.patience(usual, alone, began);
    if patience < usual {
        life.world.meet("less time for an answer");
    }
    let answer = timeout(patience, request).await;
    let now = partner.now();
    match &answer {
        Ok(Some(answer)) if answer.status < 300 => partner.silence.answered(now.saturating_sub(began), alone),
        Ok(_) => {}
        Err(_) => partner.silence.fell(alone, patience >= usual, now),
    }
    answer.ok().flatten()
}

/// Where an answer goes, and what is to become of the slot that gave it.
pub type Reply = oneshot::Sender<Answer>;

/// The longest that a request is under way when it is delayed.
const DELAY_MAX: u64 = 600;

/// Sends a request and waits for its answer; none when the connection breaks. Never ends when an answer is lost.
pub async fn request(world: &Arc<World>, from: Org, to: Org, way: Way, body: Parcel) -> Option<Answer> {
    let net = &world.net;
    let faults = &world.options.faults;
    let healed = world.is_healed();
    let strikes = |per_mille: u64| !healed && net.strikes(from, to, per_mille);
    sleep(net.latency(from, to)).await;
    if net.is_dark(from, to) {
        return std::future::pending().await;
    }
    if !world.member(to).answers() {
        return None;
    }
    if strikes(faults.refuse) {
        let (what, mut answer) = match net.below(from, to, 6) {
            0 => ("answered 400", Answer::status(400)),
            1 => ("answered 401", Answer::status(401)),
            2 => ("answered 413", Answer::status(413)),
            3 => ("answered 429", Answer::status(429)),
            4 => ("answered 400 authentication_failed", Answer::not_you()),
            _ => ("answered 503", Answer::status(503)),
        };
        world.fault(None, what);
        // Some ask for more than anybody grants.
        if answer.retry_after.is_some() && net.below(from, to, 2) == 0 {
            world.meet("absurd Retry-After");
            answer.retry_after = Some(Duration::from_secs(30 * 86_400));
        }
        return Some(answer);
    }
    if strikes(faults.drop) {
        world.fault(None, "request dropped");
        return std::future::pending().await;
    }
    let late = strikes(faults.delay).then(|| Duration::from_secs(net.below(from, to, DELAY_MAX)));
    if late.is_some() {
        world.fault(None, "request delayed");
    }
    if strikes(faults.duplicate) {
        world.fault(None, "request duplicated");
        deliver(world, (from, to), way, body.clone(), Duration::from_secs(net.below(from, to, 5)));
    }
    let answer = deliver(world, (from, to), way, body, late.unwrap_or_default()).await.ok()?;
    sleep(net.latency(to, from)).await;
    if net.is_dark(to, from) {
        return std::future::pending().await;
    }
    if strikes(faults.drop) {
        world.fault(None, "answer dropped");
        return std::future::pending().await;
    }
    if strikes(faults.truncate) && !answer.body.bytes.is_empty() {
        world.fault(None, "answer truncated");
        let length = net.below(from, to, answer.body.bytes.len() as u64) as usize;
        let body = Parcel { bytes: answer.body.bytes.slice(..length), broken: None };
        return Some(Answer { body, ..answer });
    }
    Some(answer)
}

/// Brings a request to whoever runs there then.
fn deliver(
    world: &Arc<World>,
    (from, to): (Org, Org),
    way: Way,
    body: Parcel,
    late: Duration,
) -> oneshot::Receiver<Answer> {
    let (reply, answer) = oneshot::channel();
    let world = Arc::clone(world);
    tokio::spawn(async move {
        sleep(late).await;
        let member = Arc::clone(world.member(to));
        drop(world);
        member.answer(from, way, body, reply);
    });
    answer
}

/// Answers one request of a partner.
pub async fn respond(life: Arc<Life>, from: Org, way: Way, body: Parcel, reply: Reply) {
    life.awake().await;
    let config = Arc::clone(life.config(from));
    let partner = Arc::clone(life.partner(from));
    let link = life.world.net.number(life.org, from);
    let handle = partner.handle();
    let Some(room) = handle.try_arrival_room(body.bytes.len()) else {
        life.world.meet("too much of a partner's unfinished");
        let _ = reply.send(Answer::status(503));
        return;
    };
    objects::broken(&life, from, link, &body);
    let object = match partner.inspector().read(body.bytes, config.limits).await {
        Ok(object) => object,
        Err(malformed) => {
            objects::malformed(&life, from, link);
            life.world.meet("malformed object answered");
            let _ = reply.send(Answer::status(if malformed.kind.is_too_big() { 413 } else { 400 }));
            return;
        }
    };
    if !objects::comes(&life, from, link, &object) {
        return;
    }
    if way != Way::PushPull {
        return calls::respond(life, from, way, (object, room), link, reply).await;
    }
    partner.note_request(pushpull::metrics::Transport::Http);
    let conversing = converse(&life, from, &config, handle, object, room, link);
    match timeout(config.answer_within, conversing).await {
        Ok(Some((slot, body))) => {
            life.awake().await;
            if reply.is_closed() {
                // The client has gone: dropping the slot says so.
                life.world.meet("client gone before its answer");
                return;
            }
            slot.close(Ending::Delivered);
            let _ = reply.send(Answer { status: 200, body, retry_after: None });
        }
        Ok(None) => drop(reply.send(Answer::status(503))),
        Err(_) => {
            life.world.meet("no answer within a second");
            drop(reply.send(Answer::status(503)));
        }
    }
}

async fn converse(
    life: &Arc<Life>,
    from: Org,
    config: &transport::Config,
    handle: Handle,
    object: wire::Object,
    room: ArrivalRoom,
    link: u64,
) -> Option<(Outgoing, Parcel)> {
    let sets_max = object.max_response_events.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
    let spec = config.exchange_spec(sets_max, WaitsFor::Answers);
    let (slot, answer) = brought(life, from, config, handle, (object, room), link, spec).await?;
    Some((slot, answer.bytes.into()))
}

/// What a slot of this kind has to say once the object that a request brought has been judged, or its time is over.
pub async fn brought(
    life: &Arc<Life>,
    from: Org,
    config: &transport::Config,
    handle: Handle,
    (object, room): (wire::Object, ArrivalRoom),
    link: u64,
    spec: SlotSpec,
) -> Option<(Outgoing, Leaving)> {
    let slot = handle.open_slot(spec, Some(config.hold())).await.ok()?;
    let mut slot = Outgoing::new(slot, life, from, link, spec);
    let (id, patience, bringer) = (slot.id(), config.patience(), Arc::clone(life.partner(from)));
    let worker = Arc::clone(life);
    life.spawn(async move {
        objects::bring(&worker, from, &bringer, &handle, id, (object, room), patience).await;
    });
    let answer = slot.next().await?;
    Some((slot, answer))
}

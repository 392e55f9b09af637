//! The Transmitter (RFC 8936 §2.3): one slot a poll, for SETs alone. Verdicts came with the poll.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response, StatusCode};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::engine::{ArrivalRoom, Handle, POLLS_MAX, Partner, Slot, Stopped};
use crate::metrics::Transport;
use crate::peer::{Inspected, SlotSpec, Transmission, Verdicts, WaitsFor};
use crate::transport::answer::{self, Content};
use crate::transport::directory::Pass;
use crate::transport::pushpull::Config;
use crate::transport::reply;
use crate::transport::request::{self, Media, Visit};
use crate::transport::server::OtherSide;
use crate::wire::{self, Poll};

/// Answers one `POST /poll` of a partner that has identified itself: with SETs, or with none after a while, or at once if it
/// asks for that. Its verdicts count before the SETs are chosen. A malformed poll has no effect (400, 413).
pub(in crate::transport) async fn answer_poll(
    partner: Arc<Partner>,
    mut pass: Pass,
    config: Arc<Config>,
    request: Request<Body>,
    mut stop: watch::Receiver<bool>,
) -> Response<Body> {
    let other_side = request.extensions().get::<OtherSide>().cloned();
    let bytes_max = config.limits.object_bytes_max;
    let received = request::receive(&partner, &pass, request, Media::Json, bytes_max, Transport::Poll).await;
    let Visit { handle, room, body } = match received {
        Ok(visit) => visit,
        Err(refusal) => return refusal,
    };
    let limits = config.limits;
    let poll = match partner.inspector().read_as(body, move |body| wire::parse_poll(body, &limits)).await {
        Ok(poll) => poll,
        Err(malformed) => return request::refuse(&malformed),
    };
    partner.note_request(Transport::Poll);
    let tells = !poll.acks.is_empty() || !poll.errors.is_empty();
    let place = if poll.return_immediately { None } else { partner.poll_place() };
    let waits = !poll.return_immediately;
    // What it tells counts whatever becomes of the rest.
    let opening = timeout(config.answer_within, open(&partner, &config, &handle, poll, room));
    let mut slot = match opening.await {
        Ok(Ok(slot)) => slot,
        // The actor has ended. What it was told nobody may have heard; whoever only waits has missed nothing.
        Ok(Err(_)) => return if tells { reply::overloaded("stopping") } else { without_sets() },
        Err(_) => return request::too_late(),
    };
    if waits && place.is_none() {
        let what = format!("more than {POLLS_MAX} polls wait at once: let one be answered first");
        return reply::too_many(&what, Duration::ZERO);
    }
    let within = config.answer_within + if waits { config.poll_hold } else { Duration::ZERO };
    let object = tokio::select! {
        answered = timeout(within, slot.next()) => match answered {
            Ok(Some(object)) => object,
            Ok(None) => return if tells { reply::overloaded("stopping") } else { without_sets() },
            Err(_) => return request::too_late(),
        },
        // What comes from now on is not for whoever presented this token.
        () = pass.revoked() => return request::revoked(),
        // Whoever waits for SETs is told that there are none, and comes again.
        _ = stop.wait_for(|stop| *stop) => return without_sets(),
        // It may be there still and wait for its answer, or it has gone: SETs would be lost on it.
        () = ended(other_side) => return without_sets(),
    };
    partner.note_request(Transport::Poll);
    respond(&partner, slot, &object)
}

/// Waits until whoever asked has ended its side of the connection, and what there is at the moment could have left.
async fn ended(other_side: Option<OtherSide>) {
    match other_side {
        Some(other_side) => other_side.ended().await,
        None => std::future::pending().await,
    }
    tokio::time::sleep(AT_HAND).await;
}

/// How long SETs that are there take to be chosen, at most.
const AT_HAND: Duration = Duration::from_millis(200);

/// Hands the verdicts to the actor, then offers a slot for SETs: in this order, or some of those that were just answered could
/// be chosen.
async fn open(
    partner: &Partner,
    config: &Config,
    handle: &Handle,
    poll: Poll,
    room: ArrivalRoom,
) -> Result<Slot, Stopped> {
    let sets_max = poll.max_events.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
    let spec = |waits_for| SlotSpec { verdicts: Verdicts::None, ..config.exchange_spec(sets_max, waits_for) };
    let verdicts = Inspected { acks: poll.acks, errors: poll.errors, ..Inspected::default() };
    if poll.return_immediately {
        // It speaks as soon as the actor has heard the verdicts, or once it has read what waits on disk.
        let slot = handle.open_slot(spec(WaitsFor::Answers), Some(config.hold())).await?;
        handle.arrived(Some(slot.id()), verdicts, room, partner.now()).await?;
        return Ok(slot);
    }
    handle.arrived(None, verdicts, room, partner.now()).await?;
    handle.open_slot(spec(WaitsFor::Sets), Some(config.poll_hold)).await
}

fn respond(partner: &Partner, slot: Slot, object: &Transmission) -> Response<Body> {
    let bytes = wire::write_poll_answer(&object.sets, object.more).into();
    let content = Content { bytes, sets: object.sets.len(), transport: Transport::Poll };
    answer::answer(StatusCode::OK, content, slot, Arc::clone(&partner.metrics))
}

fn without_sets() -> Response<Body> {
    reply::json(StatusCode::OK, wire::write_poll_answer(&[], false))
}

/// How long a poll waits for SETs. Shorter than idle connections live on most ways, and than a partner counts as there that
/// was not heard of.
pub(in crate::transport) const HOLD: Duration = Duration::from_secs(15);

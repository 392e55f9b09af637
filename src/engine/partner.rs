//! What a transport needs to know of one partner: how to reach its actor, how to judge what it sends, how it fares.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::bucket::Bucket;
use super::handle::{ArrivalRoom, Handle, Stopped};
use super::inspect::Inspector;
use super::recent::Last;
use super::restraint::Restraint;
use super::silence::Silence;
use super::supervisor::Supervisor;
use super::suspicion::Suspicion;
use crate::clock::Wall;
use crate::metrics::{PeerMetrics, Transport};
use crate::peer::{Inspected, PeerId, SlotId};
use crate::set::Jti;
use crate::wire::Object;

/// One configured partner, shared by all its transports.
pub struct Partner {
    /// Its name in our configuration.
    pub name: Arc<str>,
    /// Its number in our store.
    pub id: PeerId,
    /// Pays for the requests that it makes.
    pub requests: Bucket,
    /// Pays for the messages that it sends by WebSocket.
    pub messages: Bucket,
    /// Whether it is the SETs that make exchanges fail.
    pub suspicion: Suspicion,
    /// How long its answers to SETs are waited for.
    pub silence: Silence,
    /// Wakes those that rest after what went wrong.
    hurried: Notify,
    /// Places for its polls that wait for SETs.
    polls: Arc<Semaphore>,
    /// What is counted of it.
    pub metrics: Arc<PeerMetrics>,
    supervisor: Arc<Supervisor>,
    inspector: ArcSwap<Inspector>,
    /// It is no partner of ours any more.
    retired: AtomicBool,
    link: Mutex<Link>,
    /// Of lines about connections that it opens.
    restraint: Mutex<Restraint>,
    /// Of lines about single SETs without a verdict.
    unanswered: Mutex<Restraint>,
}

/// How the connection to a partner stands, in words for the operator.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Link {
    /// WebSocket connections that are open, in either direction.
    pub sockets: usize,
    /// When an exchange that we began over HTTP was last completed; none while they fail (monotonic time).
    pub exchanged_at: Option<Duration>,
    /// When the partner last came to us over HTTP (monotonic time).
    pub requested_at: Option<Duration>,
    /// Since when there is a connection, or none: WebSockets and exchanges that we began. Requests of the partner's
    /// own come and go, and are told by `requested_at`.
    pub since: Wall,
    /// By what it came then.
    pub requested_by: Option<Transport>,
    /// The first of its requests over HTTP since it was last away for long.
    pub requesting_since: Option<Wall>,
    /// Why the last attempt to reach it failed; none after a success.
    pub trouble: Option<String>,
    /// Why it takes no WebSocket although it can be reached; none while one is open.
    pub socketless: Option<String>,
}

impl Link {
    /// There is a WebSocket, or exchanges that we began are completed.
    pub fn is_connected(&self) -> bool {
        self.sockets > 0 || self.exchanged_at.is_some()
    }

    /// Notes why it could not be reached. True if that is news, and worth a line in the log.
    pub fn note_trouble(&mut self, why: &str) -> bool {
        replace(&mut self.trouble, why)
    }

    /// Notes why it takes no WebSocket; true if that is news. HTTP goes on meanwhile and fares well or badly on its own:
    /// in one place the two would be news to each other at every attempt.
    pub fn note_socketless(&mut self, why: &str) -> bool {
        replace(&mut self.socketless, why)
    }
}

fn replace(place: &mut Option<String>, why: &str) -> bool {
    let news = place.as_deref() != Some(why);
    *place = Some(why.to_owned());
    news
}

impl Partner {
    /// A partner whose actor is started when it is first needed.
    pub fn new(name: Arc<str>, id: PeerId, supervisor: Arc<Supervisor>, inspector: Inspector) -> Self {
        let metrics = supervisor.metrics().peer(&name);
        let link = Mutex::new(Link { since: supervisor.clock().now().wall, ..Link::default() });
        Self {
            name,
            id,
            metrics,
            requests: Bucket::default(),
            messages: Bucket::default(),
            suspicion: Suspicion::default(),
            silence: Silence::default(),
            hurried: Notify::new(),
            polls: Arc::new(Semaphore::new(POLLS_MAX)),
            supervisor,
            inspector: ArcSwap::from_pointee(inspector),
            retired: AtomicBool::new(false),
            link,
            restraint: Mutex::default(),
            unanswered: Mutex::default(),
        }
    }

    /// Reaches its actor. That of a retired partner has ended.
    pub fn handle(&self) -> Handle {
        self.supervisor.handle(self.id, &self.name, &self.retired)
    }

    /// Somebody has looked at it and wants to know now: whoever rests after what went wrong tries again at once, however much patience
    /// the partner has asked for.
    pub fn hurry(&self) {
        self.hurried.notify_waiters();
    }

    /// Waits for that. Cancel-safe: only who waits is woken.
    pub async fn hurried(&self) {
        self.hurried.notified().await;
    }

    /// Its published keys and our policy.
    pub fn inspector(&self) -> Arc<Inspector> {
        self.inspector.load_full()
    }

    /// Judges by other keys or another policy from the next object on.
    pub fn set_inspector(&self, inspector: Inspector) {
        self.inspector.store(Arc::new(inspector));
    }

    /// Ends its conversation for good: no new SETs leave, owed verdicts still do, for up to `within`. What is unsettled
    /// stays queued; another [`Partner`] of the same number goes on with it.
    pub async fn retire(&self, within: Duration) {
        self.supervisor.retire(self.id, &self.retired, within).await;
    }

    /// Whether it is no partner of ours any more.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    /// Judges an object and brings it to the actor. `patience` bounds the wait for newer keys.
    pub async fn bring(
        &self,
        handle: &Handle,
        slot: Option<SlotId>,
        object: Object,
        room: ArrivalRoom,
        patience: Duration,
    ) -> Result<(), Stopped> {
        let at = self.now();
        let inspected: Inspected = self.inspector().inspect(object, patience).await;
        handle.arrived(slot, inspected, room, at).await
    }

    /// Judges one SET that came by itself and brings it to the actor. Whoever sent it hears of the verdict in the answer
    /// to this request alone, by `slot`, and sends it again otherwise.
    pub async fn bring_one(
        &self,
        handle: &Handle,
        slot: SlotId,
        set: (Jti, Arc<str>),
        room: ArrivalRoom,
        patience: Duration,
    ) -> Result<(), Stopped> {
        let (at, object) = (self.now(), Object { sets: vec![set], ..Object::default() });
        let inspected = self.inspector().inspect(object, patience).await;
        handle.arrived(Some(slot), Inspected { asks_again: true, ..inspected }, room, at).await
    }

    /// How the connection stands.
    pub fn link(&self) -> Link {
        self.locked().clone()
    }

    /// Notes a change of the connection.
    pub fn update_link(&self, change: impl FnOnce(&mut Link)) {
        self.change(&mut self.locked(), change);
    }

    fn locked(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, link: &mut Link, change: impl FnOnce(&mut Link) -> T) -> T {
        let before = link.is_connected();
        let done = change(link);
        if link.is_connected() != before {
            link.since = self.supervisor.clock().now().wall;
        }
        done
    }

    /// Notes that it came to us over HTTP, by this method.
    pub fn note_request(&self, by: Transport) {
        let now = self.supervisor.clock().now();
        self.update_link(|link| {
            if link.requested_at.is_none_or(|at| now.mono.saturating_sub(at) > AWAY) {
                link.requesting_since = Some(now.wall);
            }
            (link.requested_at, link.requested_by) = (Some(now.mono), Some(by));
        });
    }

    /// What happened last.
    pub fn last(&self) -> Last {
        self.supervisor.recent(self.id).last()
    }

    /// Counts one more WebSocket connection.
    pub fn seat(self: &Arc<Self>) -> Seat {
        self.update_link(|link| link.sockets += 1);
        Seat(Arc::clone(self))
    }

    /// Counts one more WebSocket connection, unless there are `max` already.
    pub fn seat_among(self: &Arc<Self>, max: usize) -> Option<Seat> {
        let taken = self.change(&mut self.locked(), |link| {
            let free = link.sockets < max;
            link.sockets += usize::from(free);
            free
        });
        taken.then(|| Seat(Arc::clone(self)))
    }

    /// A place for one more of its polls, until that is dropped; none if too many wait already. Each holds a slot for as long
    /// as it waits, and they would crowd out what the application has to send.
    pub fn poll_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.polls).try_acquire_owned().ok()
    }

    /// Whether to log that it opened a connection, and how many it opened since that was last logged. It can do so as
    /// often as it likes.
    pub fn note_connection(&self) -> Option<usize> {
        self.restraint.lock().unwrap_or_else(PoisonError::into_inner).admit(1, self.now())
    }

    /// Whether to log that it gave no verdict on a single SET, and on how many since that was last logged.
    pub fn note_unanswered(&self) -> Option<usize> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner).admit(1, self.now())
    }

    /// The monotonic time now.
    pub fn now(&self) -> Duration {
        self.supervisor.clock().now().mono
    }
}

/// Polls of one partner that wait for SETs at the same time.
pub const POLLS_MAX: usize = 32;

/// Whoever has not come over HTTP for so long was away.
const AWAY: Duration = Duration::from_secs(60);

/// One WebSocket connection of a partner, counted until it is dropped: also after a panic, or the link would look up for
/// ever.
pub struct Seat(Arc<Partner>);

impl Seat {
    /// Whose connection it is.
    pub fn partner(&self) -> &Arc<Partner> {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.update_link(|link| link.sockets = link.sockets.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_two_troubles_in_turn_are_news_once_each() {
        let mut link = Link::default();
        let mut lines = 0;
        for _ in 0..5 {
            lines += usize::from(link.note_socketless("the partner answered 401"));
            lines += usize::from(link.note_trouble("the partner answered 401: it does not accept our token"));
        }
        assert_eq!(lines, 2);
        assert!(link.note_trouble("nobody listens there"));
    }
}

//! What a transport needs to know of one partner: how to reach its actor, how to judge what it sends, how it fares.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::bucket::Bucket;
use super::handle::{ArrivalRoom, Handle, Stopped};
use super::inspect::Inspector;
use super::restraint::Restraint;
use super::supervisor::Supervisor;
use crate::peer::{Inspected, PeerId, SlotId};
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
    supervisor: Arc<Supervisor>,
    inspector: Inspector,
    link: watch::Sender<Link>,
    /// Of lines about connections that it opens.
    restraint: Mutex<Restraint>,
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
    /// Why the last attempt to reach it failed; none after a success.
    pub trouble: Option<String>,
    /// Why it takes no WebSocket although it can be reached; none while one is open.
    pub socketless: Option<String>,
}

impl Link {
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
        Self {
            name,
            id,
            requests: Bucket::default(),
            messages: Bucket::default(),
            supervisor,
            inspector,
            link: watch::Sender::new(Link::default()),
            restraint: Mutex::default(),
        }
    }

    /// Reaches its actor.
    pub fn handle(&self) -> Handle {
        self.supervisor.handle(self.id, &self.name)
    }

    /// Its published keys and our policy.
    pub fn inspector(&self) -> &Inspector {
        &self.inspector
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
        let inspected: Inspected = self.inspector.inspect(object, patience).await;
        handle.arrived(slot, inspected, room).await
    }

    /// How the connection stands.
    pub fn link(&self) -> Link {
        self.link.borrow().clone()
    }

    /// Notes a change of the connection.
    pub fn update_link(&self, change: impl FnOnce(&mut Link)) {
        self.link.send_modify(change);
    }

    /// Counts one more WebSocket connection.
    pub fn seat(self: &Arc<Self>) -> Seat {
        self.update_link(|link| link.sockets += 1);
        Seat(Arc::clone(self))
    }

    /// Counts one more WebSocket connection, unless there are `max` already.
    pub fn seat_among(self: &Arc<Self>, max: usize) -> Option<Seat> {
        let taken = self.link.send_if_modified(|link| {
            let free = link.sockets < max;
            link.sockets += usize::from(free);
            free
        });
        taken.then(|| Seat(Arc::clone(self)))
    }

    /// Whether to log that it opened a connection, and how many it opened since that was last logged. It can do so as
    /// often as it likes.
    pub fn note_connection(&self) -> Option<usize> {
        self.restraint.lock().unwrap_or_else(PoisonError::into_inner).admit(1, self.now())
    }

    /// The monotonic time now.
    pub fn now(&self) -> Duration {
        self.supervisor.clock().now().mono
    }
}

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

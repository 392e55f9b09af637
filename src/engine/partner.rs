//! What a transport needs to know of one partner: how to reach its actor, how to judge what it sends, how it fares.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::handle::{ArrivalRoom, Handle, Stopped};
use super::inspect::Inspector;
use super::supervisor::Supervisor;
use crate::peer::{Inspected, PeerId, SlotId};
use crate::wire::Object;

/// One configured partner, shared by all its transports.
pub struct Partner {
    /// Its name in our configuration.
    pub name: Arc<str>,
    /// Its number in our store.
    pub id: PeerId,
    supervisor: Arc<Supervisor>,
    inspector: Inspector,
    link: watch::Sender<Link>,
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
}

impl Partner {
    /// A partner whose actor is started when it is first needed.
    pub fn new(name: Arc<str>, id: PeerId, supervisor: Arc<Supervisor>, inspector: Inspector) -> Self {
        Self { name, id, supervisor, inspector, link: watch::Sender::new(Link::default()) }
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

    /// The monotonic time now.
    pub fn now(&self) -> Duration {
        self.supervisor.clock().now().mono
    }
}

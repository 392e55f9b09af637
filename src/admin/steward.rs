//! What the admin API asks of whoever has put the process together, who alone knows the configuration.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::transceiver::Removed;

/// Changes what runs. What was begun is carried through, even if the answer is not waited for.
pub trait Steward: Send + Sync + 'static {
    /// Adds a peer by its definition (the keys of a `[[peer]]` block), at run time and for good.
    fn add_peer(&self, name: String, definition: Value) -> BoxFuture<'static, Result<(), AddFault>>;

    /// Removes a peer that was added at run time. Emptying its queue before, it can be called off.
    fn remove_peer(&self, name: String, terms: Terms) -> BoxFuture<'static, Result<Removal, RemoveFault>>;

    /// Rereads the configuration and all that it names. With an error nothing has changed: all that is wrong.
    fn reload(&self) -> BoxFuture<'static, Result<Reloaded, Vec<String>>>;
}

/// Why a peer was not added.
#[derive(Debug)]
pub enum AddFault {
    /// Its definition is wrong: all that is wrong with it.
    Invalid(String),
    /// There is one of this name, or its token is another peer's.
    Conflict(String),
    /// The store cannot take it now.
    Unavailable(String),
}

/// What is to become of the SETs that wait for a peer which is removed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Terms {
    /// Send them first, for so long at most. Nothing more is taken meanwhile.
    pub drain: Option<Duration>,
    /// Keep those that are left, for a peer of the same name.
    pub keep_queue: bool,
}

/// A peer that has gone.
#[derive(Debug)]
pub struct Removal {
    /// What is left of it.
    pub removed: Removed,
    /// Its definition, by which it can be added again.
    pub definition: Value,
}

/// Why a peer was not removed.
#[derive(Debug)]
pub enum RemoveFault {
    /// There is none of this name.
    NoSuchPeer,
    /// It stands in the configuration file: where.
    InFile(String),
    /// So many SETs wait for it.
    HasQueue(u64),
    /// So many SETs wait for it, and it is paused: its queue never empties.
    Paused(u64),
    /// So many SETs still waited for it when the time was over. It takes events again.
    NotDrained(u64),
    /// It cannot be done now.
    Unavailable(String),
}

/// What rereading the configuration came to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Reloaded {
    /// What has changed, one text each.
    pub changes: Vec<String>,
    /// What has changed in the file and needs a restart.
    pub restart: Vec<String>,
}

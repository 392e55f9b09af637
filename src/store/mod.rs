//! Where everything durable is kept: the data of conversations ([`Journal`]) and the list of peers ([`Registry`]).

mod archive;
mod horizon;
mod memory;
mod remember;
mod sqlite;
#[cfg(test)]
mod suite;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::clock::Wall;
use crate::peer::{DeadPage, Direction, InboxRow, Page, PeerId, Remembered, Saved, Select, Stretch, Write};
use crate::set::Jti;

pub use archive::{Archived, Bookmark, Keep, Leaf};
pub use horizon::Horizon;
pub use memory::Memory;
pub use remember::{DESCRIPTION_MAX, ERR_MAX};
pub use sqlite::{Options, Sqlite, exposed_database, is_foreign_database};

/// What a store call returns.
pub type Pending<'a, T> = BoxFuture<'a, Result<T, Error>>;

/// About so many bytes of SETs are read from the inbox at a time, and one SET in any case. Decoded they may take forty
/// times as much memory, and partners decide how large they are.
pub const INBOX_PAGE_BYTES_MAX: usize = 4 << 20;

/// Which holder of a peer's lease is writing. With one process it is always the first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Epoch(pub u64);

/// Why a store call failed, by what the caller does next.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The disk is full. Nothing of the call took effect; try again, it heals when there is room.
    #[error("store: the disk is full: free some space, nothing is lost and no restart is needed")]
    Full,
    /// The store cannot be trusted any more: stop the process, recovery from the log is the honest continuation.
    #[error("store: {0}")]
    Fatal(String),
    /// The request makes no sense to the store (an unknown consumer, a confirmation beyond the end).
    #[error("{0}")]
    Invalid(String),
}

/// The data plane. Few calls, all in batches.
///
/// Calls may be cancelled by dropping their future: one that was begun may still take effect, one that was never
/// awaited does not. What a call has returned as done, every later call sees. Nothing here blocks the async runtime.
/// After [`Error::Fatal`] every call fails.
pub trait Journal: Send + Sync + 'static {
    /// What is kept of this peer. Called once when its actor starts. It waits for commits of that peer which were begun
    /// and given up: they are in the answer, or never happen.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a peer that [`Registry::peer_id`] never named. [`Error::Full`] where what it waits for meets a full
    /// disk: ask again later.
    fn recover(&self, peer: PeerId) -> Pending<'_, Saved>;

    /// Makes these writes durable, all or nothing. When it returns `Ok`, a power cut cannot take them.
    ///
    /// A commit may be repeated, when nobody knows what became of it: what has taken effect before changes nothing and
    /// is not counted again. A SET that was answered once is not received again, and its first answer stands.
    /// Descriptions are remembered up to [`DESCRIPTION_MAX`], a partner's codes up to [`ERR_MAX`] bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Full`]: nothing took effect; repeat it later. [`Error::Invalid`] for an unknown peer or an impossible
    /// `seq`; nothing took effect.
    fn commit(&self, peer: PeerId, epoch: Epoch, writes: Arc<Vec<Write>>) -> Pending<'_, ()>;

    /// What is remembered of these jtis, in their order. Usually answered from RAM.
    fn known(&self, peer: PeerId, direction: Direction, jtis: Vec<Jti>) -> Pending<'_, Vec<Option<Remembered>>>;

    /// Rows of the outbox. [`Select::Seqs`] leaves [`Page::read_to`] at zero.
    fn read_outbox(&self, peer: PeerId, select: Select) -> Pending<'_, Page>;

    /// Up to `sets_max` of this peer's SETs that have left its queue since then: those that were acked are among them, as they
    /// were sent, for as long as they are kept ([`Journal::forget_settled`]). What became of one is in the memory of its jti.
    /// Read from [`Bookmark::default`] to the end, each SET that had left when the reading began, and was kept on, is met at
    /// least once; some that left earlier may be among them.
    ///
    /// A store need not keep them: then there are none.
    fn read_settled(&self, _peer: PeerId, _since: Wall, _from: Bookmark, _sets_max: usize) -> Pending<'_, Leaf> {
        Box::pin(async { Ok(Leaf::default()) })
    }

    /// What is kept of a job of this name with this peer ([`Journal::begin_job`]).
    fn job(&self, _peer: PeerId, _name: String) -> Pending<'_, Option<String>> {
        Box::pin(async { Ok(None) })
    }

    /// Keeps what a job is, durably, unless there is one of this name with this peer; what is kept. It is forgotten with the
    /// memory of that time ([`Journal::purge`]). A store need not keep any: then a job is what it is called each time.
    fn begin_job(&self, _peer: PeerId, _name: String, definition: String, _at: Wall) -> Pending<'_, String> {
        Box::pin(async { Ok(definition) })
    }

    /// Removes a bounded amount of what [`Journal::read_settled`] reads, the oldest first: what left its queue before
    /// `keep.since`, and as much as is needed to come down to `keep.bytes_max`. True if there is more to remove now.
    fn forget_settled(&self, _keep: Keep) -> Pending<'_, bool> {
        Box::pin(async { Ok(false) })
    }

    /// A stretch of the dead letters of all peers, in the order of their places.
    fn read_dead_letters(&self, stretch: Stretch) -> Pending<'_, DeadPage>;

    /// The dead letters of this peer at these places, as far as they still exist, in order of `seq`.
    fn dead_letters_at(&self, peer: PeerId, seqs: Vec<u64>) -> Pending<'_, DeadPage>;

    /// Up to `rows_max` received SETs of all peers behind `after` (default: behind what the consumer has confirmed, and
    /// never before that). Makes the consumer, at the oldest row kept, if there is none of that name. What is returned
    /// is marked handed out, durably, before it is returned; after a restart rows a little further on, or what came while
    /// it waited, may be marked too.
    ///
    /// There are fewer when they are large ([`INBOX_PAGE_BYTES_MAX`]). A damaged row is left out and logged.
    fn read_inbox(&self, consumer: String, after: Option<u64>, rows_max: usize) -> Pending<'_, Vec<Handed>>;

    /// Up to `rows_max` received SETs behind `after` (default: from the oldest kept), changing nothing. None of them says
    /// that it is redelivered.
    fn peek_inbox(&self, after: Option<u64>, rows_max: usize) -> Pending<'_, Vec<Handed>>;

    /// Moves the consumer's confirmed position to `up_to`, durably. Never back: a lower one changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if there is no such consumer, or `up_to` is beyond the end of the inbox.
    fn confirm(&self, consumer: String, up_to: u64) -> Pending<'_, ()>;

    /// All consumers and how far they are, by name.
    fn consumers(&self) -> Vec<ConsumerAt>;

    /// Forgets a consumer; false if there is none of that name.
    fn forget_consumer(&self, consumer: String) -> Pending<'_, bool>;

    /// Everything remembered of this jti, with any peer, in either direction: by peer, outgoing first.
    fn history(&self, jti: Jti) -> Pending<'_, Vec<(PeerId, Direction, Remembered)>>;

    /// Removes a bounded amount of what is no longer needed: inbox rows that every consumer has confirmed, memory older
    /// than `memory_before`. True if there is more to remove now.
    ///
    /// Without consumers inbox rows are kept, and damaged ones unless they were handed out before they were. Memory may be kept longer than asked, and is not
    /// taken from a SET that waits in an outbox. Dead letters are kept until an operator deals with them, with all that is
    /// known of them, whatever is forgotten of their jtis.
    fn purge(&self, memory_before: Wall) -> Pending<'_, bool>;

    /// Gives the file system back a bounded amount of what is free in the store's files, as after a long queue was drained; not
    /// all of it, since what comes next takes room again. Commits wait some milliseconds meanwhile. True if there is more to give
    /// back. A store need not do it.
    fn give_back(&self) -> Pending<'_, bool> {
        Box::pin(async { Ok(false) })
    }

    /// The time that was noted last ([`Journal::note_time`]); none if none ever was.
    fn last_time(&self) -> Pending<'_, Option<Wall>>;

    /// Notes durably that the clock was believed, and showed this. A process that starts by a clock which does not go on from
    /// here knows that one of the two was wrong. Also back: the newest note counts, and not the latest. `Error::Full` on a full
    /// disk, which leaves the note before.
    fn note_time(&self, at: Wall) -> Pending<'_, ()>;

    /// Writes something small durably, in the same way as a commit: it returns when the store still turns.
    ///
    /// # Errors
    ///
    /// [`Error::Full`]: it turns, and waits for room.
    fn probe(&self) -> Pending<'_, ()>;

    /// The `seq` of the newest inbox row (0: none yet); changes with every commit that adds some.
    fn inbox_tail(&self) -> watch::Receiver<u64>;

    /// Inbox rows kept and not yet confirmed by every consumer, without those known to be damaged: nobody is given them.
    fn inbox_len(&self) -> u64;

    /// False while the disk is full, until something could be written again, and for ever after a fatal error.
    fn healthy(&self) -> bool;

    /// It has failed for good, or is closed: that is why [`Journal::healthy`] is false, and not a full disk.
    fn failed(&self) -> bool;
}

/// How far a consumer of the inbox is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConsumerAt {
    /// Its name.
    pub name: String,
    /// It has confirmed everything up to this `seq`, durably.
    pub confirmed: u64,
    /// Nothing behind this `seq` was ever handed out to it.
    pub handed: u64,
}

/// A received SET as a consumer gets it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Handed {
    /// Its place in the inbox, over all peers: rises, may skip, never used again.
    pub seq: u64,
    /// Who sent it.
    pub peer: PeerId,
    /// The SET.
    pub row: InboxRow,
    /// This consumer may have been given it before and not have confirmed it.
    pub redelivered: bool,
}

/// The control plane: who the peers are.
pub trait Registry: Send + Sync + 'static {
    /// The number of this peer, made if the name is new.
    fn peer_id(&self, name: String) -> Pending<'_, PeerId>;

    /// Names of all peers that ever had a number.
    fn names(&self) -> Pending<'_, Vec<(PeerId, String)>>;

    /// Peers added at run time: name and definition, as given to [`Registry::add_peer`].
    fn added_peers(&self) -> Pending<'_, Vec<(String, String)>>;

    /// Stores a peer's definition; false (and no change) if one of that name is stored.
    fn add_peer(&self, name: String, definition: String) -> Pending<'_, bool>;

    /// Removes a stored definition; false if there is none. Its queue and history stay.
    fn remove_peer(&self, name: String) -> Pending<'_, bool>;
}

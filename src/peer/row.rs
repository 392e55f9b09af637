//! What is kept of a conversation: the rows and outcomes that a store holds for the core.

use std::sync::Arc;

use super::story::Story;
use crate::clock::Wall;
use crate::set::{Digest, Jti, Refusal, SetErr};

/// A partner, by the number the store gave its name. Numbers are never used again.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PeerId(pub u32);

/// Which way a SET travels, seen from here.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Direction {
    /// From us to the partner.
    Out,
    /// From the partner to us.
    In,
}

/// A SET that has been accepted for sending and is not settled.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OutboxRow {
    /// Its place in the queue to this peer: rises by one with every SET, starts at 1, never used again.
    pub seq: u64,
    /// Its identity.
    pub jti: Jti,
    /// The compact JWS.
    pub compact: Arc<str>,
    /// What was asked to be sent ([`crate::set::SignedSet::digest`]).
    pub digest: Digest,
    /// When it was accepted.
    pub accepted_at: Wall,
    /// Attempts so far, as far as they were written down: a crash may forget the last one (R10).
    pub attempts: u32,
    /// What it went through before it was queued, if it is not here for the first time.
    pub story: Story,
}

/// A SET that was refused or never answered, as it is kept for the operator to decide on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeadLetter {
    /// Its identity.
    pub jti: Jti,
    /// The compact JWS, as it was sent.
    pub compact: Arc<str>,
    /// How it ended, and all that is remembered with that; its `seq` is the dead letter's place.
    pub memory: Remembered,
}

/// A received SET on its way to the application.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InboxRow {
    /// Its identity in the partner's feed.
    pub jti: Jti,
    /// The compact JWS, as it was received and verified.
    pub compact: Arc<str>,
    /// Digest of `compact`, to notice the same `jti` with other bytes (R11).
    pub digest: Digest,
    /// When it was received.
    pub received_at: Wall,
}

/// Our answer to a received SET, for ever the same (R11).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Valid and durably stored here: goes out in `ack`.
    Acked,
    /// Refused: goes out in `setErrs`.
    Refused(Refusal),
}

/// How a SET that we sent ended. Exactly one of these, once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The partner acknowledged it.
    Acked,
    /// The partner answered with a setErr.
    Refused(SetErr),
    /// We gave up.
    Dead(DeathCause),
}

/// Why a SET that was never answered became a dead letter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeathCause {
    /// `attempts_max` and `give_up_after` are both exceeded.
    Attempts,
    /// It was unsettled for `age_max`.
    Age,
}

impl DeathCause {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Age => "age",
        }
    }
}

/// What a store remembers of one jti, in one direction, with one peer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Remembered {
    /// Of the submission (out) or the token (in).
    pub digest: Digest,
    /// Its place in the queue (out); 0 for `in`.
    pub seq: u64,
    /// When it was accepted (out) or received (in).
    pub since: Wall,
    /// What became of it.
    pub fate: Fate,
    /// What else befell it (out).
    pub story: Story,
}

/// Where a remembered SET stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fate {
    /// Out: waits in the outbox or is under way.
    Queued,
    /// Out: ended.
    Settled {
        /// How.
        outcome: Outcome,
        /// When.
        at: Wall,
        /// After how many attempts.
        attempts: u32,
    },
    /// In: answered, or about to be.
    Answered(Verdict),
}

/// What the core asks a store to make durable. Every write may be repeated without harm.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Write {
    /// A new SET to send: its row, and its memory as [`Fate::Queued`].
    Enqueue(OutboxRow),
    /// So many attempts were made of the SET at `seq`.
    Attempts {
        /// Its place in the queue.
        seq: u64,
        /// Attempts so far.
        attempts: u32,
    },
    /// The SET has ended: its row leaves the outbox (to the dead letters unless it was acked), its memory becomes
    /// [`Fate::Settled`].
    Settle {
        /// Its place in the queue.
        seq: u64,
        /// Its identity.
        jti: Jti,
        /// Of its submission.
        digest: Digest,
        /// When it had been accepted.
        accepted_at: Wall,
        /// How it ended.
        outcome: Outcome,
        /// When it ended.
        at: Wall,
        /// After how many attempts.
        attempts: u32,
        /// What it had gone through before.
        story: Story,
    },
    /// The dead letter at this place is gone. What is then remembered of its jti; nothing new when it names a SET that is
    /// queued, of which [`Write::Enqueue`] tells.
    Lift {
        /// Its place.
        seq: u64,
        /// Its identity.
        jti: Jti,
        /// What became of it.
        memory: Option<Remembered>,
    },
    /// A valid SET for the application: a row at the end of the inbox, and its memory as answered with an ack.
    Receive(InboxRow),
    /// A SET that we answered without handing it over: a refusal, or a verification event. Memory only.
    Answer {
        /// Its identity.
        jti: Jti,
        /// Of its token.
        digest: Digest,
        /// The answer.
        verdict: Verdict,
        /// When.
        at: Wall,
    },
    /// The operator paused (or resumed) sending to this peer.
    Paused(bool),
}

/// What a store gives back when a peer's actor starts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Saved {
    /// The `seq` for the next SET.
    pub next_seq: u64,
    /// Sending is paused.
    pub paused: bool,
    /// Totals since the peer was first seen.
    pub counts: Counts,
}

/// Totals of one peer, kept with its rows in the same commit. `queued` and `dead_letters` fall again, the others only
/// rise.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// SETs accepted and not settled.
    pub queued: u64,
    /// Acknowledged by the partner.
    pub acked: u64,
    /// Answered by the partner with a setErr.
    pub refused: u64,
    /// Given up.
    pub dead: u64,
    /// Received, valid, and put into the inbox.
    pub received: u64,
    /// Received and refused by us.
    pub rejected: u64,
    /// Refused or given up, and not yet dealt with by an operator.
    pub dead_letters: u64,
}

impl Counts {
    /// Counts one write that takes effect.
    pub fn apply(&mut self, write: &Write) {
        match write {
            Write::Enqueue(_) => self.queued += 1,
            Write::Settle { outcome, .. } => {
                self.queued = self.queued.saturating_sub(1);
                self.dead_letters += u64::from(*outcome != Outcome::Acked);
                match outcome {
                    Outcome::Acked => self.acked += 1,
                    Outcome::Refused(_) => self.refused += 1,
                    Outcome::Dead(_) => self.dead += 1,
                }
            }
            Write::Lift { .. } => self.dead_letters = self.dead_letters.saturating_sub(1),
            Write::Receive(_) => self.received += 1,
            Write::Answer { verdict: Verdict::Refused(_), .. } => self.rejected += 1,
            Write::Answer { .. } | Write::Attempts { .. } | Write::Paused(_) => {}
        }
    }
}

/// Which rows of the outbox to read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Select {
    /// Rows with a `seq` greater than `after`, in order, until either limit is reached (but at least one).
    After {
        /// Read behind this one.
        after: u64,
        /// At most so many rows.
        rows_max: usize,
        /// And about so many bytes of tokens.
        bytes_max: usize,
    },
    /// Exactly these, as far as they still exist.
    Seqs(Vec<u64>),
}

/// Rows read from the outbox.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Page {
    /// The rows, in order of `seq`.
    pub rows: Vec<OutboxRow>,
    /// [`Select::After`]: every row up to here was looked at. At the end of the outbox it is the last row's `seq`,
    /// or `after` when there was none.
    pub read_to: u64,
    /// Rows whose checksum does not match: never sent, never treated as absent (invariant I18).
    pub damaged: Vec<u64>,
}

/// The place of a dead letter among all there are: by peer, then by `seq`.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// The peer's number.
    pub peer: u32,
    /// Its `seq`.
    pub seq: u64,
}

impl Place {
    /// The dead letter of this `seq` with this peer.
    pub fn of(peer: PeerId, seq: u64) -> Self {
        Self { peer: peer.0, seq }
    }

    /// Behind all others.
    pub const LAST: Self = Self { peer: u32::MAX, seq: u64::MAX };

    /// The peer.
    pub fn peer(self) -> PeerId {
        PeerId(self.peer)
    }
}

/// Which dead letters to read, of all peers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stretch {
    /// Behind this place.
    pub after: Place,
    /// Up to this place and with it.
    pub up_to: Place,
    /// At most so many.
    pub rows_max: usize,
    /// And about so many bytes of tokens, but one in any case.
    pub bytes_max: usize,
}

/// Dead letters that were read.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DeadPage {
    /// In the order of their places.
    pub letters: Vec<(PeerId, DeadLetter)>,
    /// Those that are damaged: kept, shown as such, never sent, never treated as absent.
    pub damaged: Vec<Place>,
    /// Where to read on; `None` when everything was looked at.
    pub next: Option<Place>,
}

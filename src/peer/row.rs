//! What is kept of a conversation: the rows and outcomes that a store holds for the core.

use std::sync::Arc;

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

/// Totals of one peer, kept with its rows in the same commit. `queued` falls, the others only rise.
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
}

impl Counts {
    /// Counts one write that takes effect.
    pub fn apply(&mut self, write: &Write) {
        match write {
            Write::Enqueue(_) => self.queued += 1,
            Write::Settle { outcome, .. } => {
                self.queued = self.queued.saturating_sub(1);
                match outcome {
                    Outcome::Acked => self.acked += 1,
                    Outcome::Refused(_) => self.refused += 1,
                    Outcome::Dead(_) => self.dead += 1,
                }
            }
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

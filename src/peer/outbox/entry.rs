//! One unsettled SET as the core sees it.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Wall;
use crate::peer::input::SlotId;
use crate::peer::row::OutboxRow;
use crate::peer::story::Story;
use crate::set::{Digest, Jti};

/// An unsettled SET that the core has looked at.
#[derive(Clone, Debug)]
pub(in crate::peer) struct Entry {
    pub(in crate::peer) jti: Jti,
    pub(in crate::peer) digest: Digest,
    pub(in crate::peer) accepted_at: Wall,
    pub(in crate::peer) attempts: u32,
    /// What it went through before it was queued.
    pub(in crate::peer) story: Story,
    /// Pauses grow with transmissions, also with those that count for no attempt.
    pub(super) tries: u32,
    pub(super) token: Option<Arc<str>>,
    pub(super) token_bytes: usize,
    pub(super) state: State,
    /// The slot and time of its last transmission since the process started. Only if there was one are verdicts about
    /// it meant for us (R6).
    pub(super) sent: Option<(SlotId, Duration)>,
    /// That transmission has not been counted yet, neither as an attempt nor for nothing.
    pub(super) open: bool,
    /// The exchange that carried it was completed.
    pub(super) delivered: bool,
    /// How often an object with it alone was refused, or failed: from the first time on it never travels with others again.
    pub(super) alone: u8,
}

impl Entry {
    /// A SET as its row has it.
    pub(super) fn new(row: OutboxRow) -> Self {
        Self {
            jti: row.jti,
            digest: row.digest,
            accepted_at: row.accepted_at,
            attempts: row.attempts,
            story: row.story,
            tries: row.attempts,
            token_bytes: row.compact.len(),
            token: Some(row.compact),
            state: State::Fresh,
            sent: None,
            open: false,
            delivered: false,
            alone: 0,
        }
    }

    /// The slot and time of its last transmission, while that has not been counted.
    pub(super) fn via(&self) -> Option<(SlotId, Duration)> {
        self.sent.filter(|_| self.open)
    }

    /// Its last transmission was by this slot.
    pub(super) fn left_by(&self, slot: SlotId) -> bool {
        self.sent.is_some_and(|(via, _)| via == slot)
    }
}

/// Where an unsettled SET stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// In the queue, with its token.
    Fresh,
    /// Sent and within its time for an answer: counts in the window.
    InFlight {
        /// When the answer is late.
        late_at: Duration,
        /// Not its first transmission: counts in the retries' half.
        retry: bool,
        /// It left with a batch that is being bisected.
        suspect: bool,
    },
    /// Waits to be sent again; held by number, without its token.
    Waiting { due: Duration },
    /// Due, and its token has to be read.
    Unread,
    /// Due, with its token.
    Due,
    /// In a batch that is being bisected, with its token.
    Suspect,
}

/// What became of a SET whose time ran out.
#[derive(Debug, Eq, PartialEq)]
pub(in crate::peer) enum Expiry {
    /// Nothing to write.
    Quiet,
    /// Its number of attempts has changed and is worth writing.
    Attempted(u32),
    /// It has used up its attempts.
    Exhausted,
    /// It is older than `age_max`.
    TooOld,
}

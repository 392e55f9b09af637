//! What a [`super::Peer`] wants done.

use std::sync::Arc;
use std::time::Duration;

use super::input::SlotId;
use super::row::{Counts, Outcome, Select, Verdict, Write};
use crate::set::Jti;

/// The answer to all news since the last step.
#[derive(Debug, Default)]
pub struct Step {
    /// To be made durable, all or nothing, before any output is performed (R1).
    pub writes: Vec<Write>,
    /// To be done then, in this order.
    pub outputs: Vec<Output>,
    /// When to step again without news, and why (monotonic time).
    pub wake: Option<(Duration, Reason)>,
    /// Draining is over: nothing is owed any more.
    pub drained: bool,
    /// What it came to, for whoever counts; nothing is decided by it.
    pub figures: Figures,
}

/// What happened since the last step, as numbers that the writes do not tell.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Figures {
    /// SETs put into the inbox, by what they are counted by.
    pub received: Vec<(&'static str, u64)>,
    /// SETs answered again with their first verdict.
    pub duplicates: u64,
    /// SETs that left again, by what had become of them before.
    pub retries: Retries,
    /// From the last transmission to the verdict, of each SET that got one.
    pub ack_times: Vec<Duration>,
}

/// SETs that left again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Retries {
    /// Nobody had answered in time.
    pub no_answer: u64,
    /// The link or the exchange was lost.
    pub lost: u64,
    /// The partner had refused the object, which is being bisected.
    pub batch_refused: u64,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Hand this object to the slot.
    Transmit(SlotId, Transmission),
    /// Read the outbox; the rows come back as [`super::Input::OutboxRows`].
    ReadOutbox(Select),
    /// A SET of ours has ended.
    Settled {
        /// Which.
        jti: Jti,
        /// How.
        outcome: Outcome,
        /// From its acceptance to now.
        after: Duration,
    },
    /// What became of [`super::Act::Redrive`]: one for each, in their order.
    Redriven(Result<Redriven, Unfit>),
    /// SETs were put into the inbox.
    Received(usize),
    /// Something an operator may want to know of.
    Audit(Audit),
}

/// An operator's act on a dead letter is done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Redriven {
    /// It is queued again.
    Resent,
    /// It is said again under this jti.
    Reissued(Jti),
    /// It is gone.
    Discarded,
}

/// Why an operator's act on a dead letter was not done. Nothing has changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unfit {
    /// The partner has answered it: its jti must not be used again.
    Answered,
    /// It is no dead letter (any more).
    Gone,
    /// The outbox is full.
    NoRoom,
}

/// A Communication Object to send.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transmission {
    /// SETs with their compact tokens.
    pub sets: Vec<(Jti, Arc<str>)>,
    /// Our verdicts on received SETs.
    pub verdicts: Vec<(Jti, Verdict)>,
    /// More SETs could leave right away; only told to slots that carry no verdicts.
    pub more: bool,
}

/// Something unusual in the partner's behaviour. Never holds content.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Audit {
    /// Known jtis came again with other bytes; the first verdicts were repeated (R11). How many in one object, and the
    /// first of them.
    JtiConflict(usize, Jti),
    /// A verdict about SETs we never sent, or that are settled (R6). How many in one object.
    UnknownVerdicts(usize),
    /// SETs were refused: how many in one object, and the first with its code.
    Refused(usize, Jti, crate::set::ErrorCode),
    /// So many SETs that would not be handed over, refused ones and verification events, were beyond the rate and got no verdict.
    RefusalsSuppressed(usize),
    /// The inbox is full: so many SETs were neither stored nor answered (R5).
    InboxFull(usize),
    /// Rows of the outbox are damaged and will not be sent.
    Damaged(usize),
}

/// Why the core wants to be woken.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    /// A SET's retry is due.
    Retry,
    /// The time for an answer is over.
    AckWait,
    /// A slot must speak.
    SlotDue,
    /// A SET may have grown too old.
    Age,
    /// Draining need not wait for a slot any longer.
    Drain,
}

/// Figures about one conversation, for people.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    /// Totals.
    pub counts: Counts,
    /// SETs sent and within their time for an answer.
    pub in_flight: usize,
    /// SETs that wait to be sent again.
    pub waiting: usize,
    /// Verdicts that wait for a way out.
    pub owed: usize,
    /// When the oldest unsettled SET was accepted, as far as it is in memory.
    pub oldest: Option<crate::clock::Wall>,
    /// Sending is paused.
    pub paused: bool,
    /// SETs that may still be accepted ([`super::Peer::room`]).
    pub room: u64,
    /// Slots that are open.
    pub slots: usize,
    /// Outbox rows that are damaged.
    pub damaged: usize,
    /// The measured time from sending to verdict.
    pub ack_time: Option<Duration>,
}

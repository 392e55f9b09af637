//! The news a [`super::Peer`] can learn.

use std::sync::Arc;
use std::time::Duration;

use super::row::{DeadLetter, Page, Remembered};
use crate::clock::Wall;
use crate::set::{Digest, Jti, Refusal, SetErr, SignedSet};

/// Names a slot for as long as it is open. Never used again by the same actor.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SlotId(pub u64);

/// One piece of news. See [`super::Peer::handle_input`].
#[derive(Clone, Debug)]
pub enum Input {
    /// SETs to send, none of which the store knows yet (the actor has asked).
    Send(Vec<SignedSet>),
    /// A Communication Object from the partner.
    Arrived {
        /// The slot whose exchange brought it, if that slot waits for its answers.
        slot: Option<SlotId>,
        /// What it holds.
        object: Inspected,
    },
    /// A transport can take an object.
    SlotOpened(SlotId, SlotSpec),
    /// The slot's last object is on its way and the next may follow.
    SlotReady(SlotId),
    /// The partner was heard on the slot's link (a pong, say): what left by it before has met a live link (R10).
    SlotAlive(SlotId),
    /// The slot is gone.
    SlotClosed(SlotId, Ending),
    /// Rows that were asked for with [`super::Output::ReadOutbox`].
    OutboxRows(Page),
    /// An operator's act.
    Operator(Act),
    /// Stop: no new SETs leave, owed verdicts still do.
    Drain,
}

/// What an operator can do to one conversation.
#[derive(Clone, Debug)]
pub enum Act {
    /// Send no more SETs. Received ones are still answered.
    Pause,
    /// Send again.
    Resume,
    /// The partner may be well again: SETs for which it has asked for patience are due.
    Hurry,
    /// Deal with a dead letter, which the actor has just read. It is answered with [`super::Output::Redriven`].
    Redrive(Box<DeadLetter>, Redrive),
}

/// What is to become of a dead letter.
#[derive(Clone, Debug)]
pub enum Redrive {
    /// Send it again as it is. Only for one that was never answered.
    Resend,
    /// Say the same in this new SET.
    Reissue(SignedSet),
    /// Do away with it.
    Discard,
    /// Do away with it and change nothing else: its jti was forgotten, and names another SET by now.
    Forget,
}

/// A Communication Object whose SETs have been verified and looked up.
#[derive(Clone, Debug, Default)]
pub struct Inspected {
    /// One entry a SET.
    pub sets: Vec<Arrival>,
    /// The partner's acks of our SETs.
    pub acks: Vec<Jti>,
    /// The partner's setErrs about our SETs.
    pub errors: Vec<(Jti, SetErr)>,
    /// Rows that the inbox can still take, not counting what arrived since the last step: the core does.
    pub inbox_room: u64,
    /// Whoever sent these SETs sends again what it got no answer for, and hears of no verdict but in the answer to the
    /// very request that brought them (RFC 8935): one that cannot leave by `slot` is not owed.
    pub asks_again: bool,
}

/// A SET that arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Its name in `sets`; equal to its `jti` claim unless `finding` refuses it.
    pub jti: Jti,
    /// Digest of its token.
    pub digest: Digest,
    /// What our checks say of it.
    pub finding: Finding,
    /// What the store remembers of this jti: asked after the last step's writes became durable, or a SET that is on
    /// its way into the inbox would be taken for a new one.
    pub known: Option<Remembered>,
    /// When it was issued, as it says itself, if it is valid.
    pub issued_at: Wall,
    /// By what it is counted ([`crate::set::events::label`]).
    pub label: &'static str,
}

/// What our checks say of an arrived SET.
#[derive(Clone, Debug)]
pub enum Finding {
    /// Valid, and for the application. The compact token.
    Deliver(Arc<str>),
    /// Valid, but the transport's own business: a verification event. Acknowledged, never handed over.
    Acknowledge,
    /// Refused for a fault that stays.
    Refuse(Refusal),
    /// No verdict for now (R7): no keys to be had, or a suspect clock.
    Undecidable,
}

/// What a slot can carry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SlotSpec {
    /// At most so many SETs in an object.
    pub sets_max: usize,
    /// About so many bytes in an object.
    pub bytes_max: usize,
    /// Which verdicts it may carry.
    pub verdicts: Verdicts,
    /// What makes it send.
    pub waits_for: WaitsFor,
    /// When it sends in any case, even an empty object.
    pub by: Option<Duration>,
}

/// Which verdicts a slot may carry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdicts {
    /// Any that are owed.
    Any,
    /// Those on the SETs that its own exchange brought ([`Input::Arrived`] with its id).
    Own,
    /// None.
    None,
}

/// What makes a slot send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WaitsFor {
    /// Anything there is to say.
    Anything,
    /// The verdicts on the SETs that its own exchange brought ([`Input::Arrived`] with its id); then whatever there is.
    Answers,
    /// SETs; where it may carry none, there being any that could leave.
    Sets,
}

/// How a slot ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// The exchange was completed: what it carried has reached the partner.
    Delivered,
    /// Nobody knows how far it came. What it carried is due again.
    Lost {
        /// The pause that the partner asked for, of which an hour at most is kept; zero if none.
        retry_after: Duration,
    },
    /// The partner refused the object as a whole (400, 413): the batch is bisected to find the SET it minds.
    Rejected {
        /// The pause that the partner asked for, of which an hour at most is kept; zero if none. A SET that was refused alone
        /// waits for so long at least.
        retry_after: Duration,
        /// It is too large, be nothing in it minded.
        too_large: bool,
    },
    /// The partner was reached and said nothing about the object, and that time and again: perhaps one of its SETs makes it fail,
    /// so the batch is bisected like a refused one.
    Failed {
        /// As of [`Ending::Rejected`].
        retry_after: Duration,
        /// Whose doing it is.
        blame: Blame,
    },
}

/// Whose doing it is that exchanges fail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Blame {
    /// The partner takes other SETs meanwhile: one that was alone in the object has used up an attempt.
    Set,
    /// Perhaps that of a SET, perhaps the partner's: nothing is charged.
    Unknown,
    /// Many SETs have failed alone, and nothing was taken in between. What it carried goes behind all that waits, so that whatever
    /// the partner may take gets its turn.
    Partner,
}

impl Ending {
    /// [`Ending::Rejected`] for something in it, without a word on when to come again.
    pub const REJECTED: Self = Self::Rejected { retry_after: Duration::ZERO, too_large: false };
}

//! What happened last with a partner, for people who look: kept in memory, so nothing is known from before the start.

use std::sync::{Mutex, PoisonError};

use crate::clock::Wall;
use crate::set::Jti;

/// The last verdicts in both directions. Survives the peer's actor.
#[derive(Debug, Default)]
pub struct Recent(Mutex<Last>);

/// When what came last.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Last {
    /// The last ack of a SET of ours.
    pub ack_at: Option<Wall>,
    /// The last setErr about a SET of ours.
    pub refusal: Option<Refused>,
    /// The last valid SET of the partner's.
    pub received_at: Option<Wall>,
    /// The last object with verdicts of ours was handed to a link.
    pub verdict_at: Option<Wall>,
}

/// A refusal by the partner.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refused {
    /// When.
    pub at: Wall,
    /// Of which SET.
    pub jti: Jti,
    /// With what code; one that is not registered is `other`.
    pub err: &'static str,
}

impl Recent {
    /// What is known.
    pub fn last(&self) -> Last {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn note(&self, change: impl FnOnce(&mut Last)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

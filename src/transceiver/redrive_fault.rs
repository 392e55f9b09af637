//! Why nothing was done with a dead letter, in words for whoever asked.

use std::sync::Arc;

use super::SubmitFault;
use super::dead_letters::Hindrance;
use crate::set::Jti;

/// Why nothing was done with a dead letter.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedriveFault {
    /// No peer of this name.
    #[error("there is no peer {0:?}: `pushpull peer ls` shows those there are")]
    NoSuchPeer(String),
    /// No SET of this jti was sent.
    #[error("no SET with the jti {0} was sent from here")]
    NoSuchEvent(Jti),
    /// It is no dead letter (any more).
    #[error("the SET {jti} to {peer} is no dead letter: {state}")]
    NotDead {
        /// Which.
        jti: Jti,
        /// To whom.
        peer: Arc<str>,
        /// How it stands.
        state: String,
    },
    /// The same jti is a dead letter with several peers.
    #[error("the SET {jti} is a dead letter with several peers: {}", peers.join(", "))]
    SeveralPeers {
        /// Which.
        jti: Jti,
        /// Whose.
        peers: Vec<String>,
    },
    /// It cannot be resent.
    #[error("the SET {0} cannot be resent: {1}")]
    NotResendable(Jti, Hindrance),
    /// It cannot be reissued.
    #[error("the SET {0} cannot be reissued: {1}")]
    NotReissuable(Jti, Hindrance),
    /// Its row is damaged.
    #[error("the dead letter {0} is damaged in the database: it can only be discarded")]
    Damaged(Jti),
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A replay that was never begun is to go on.
    #[error("since: missing: no job {0:?} was begun with this peer, or it was forgotten after a month")]
    NoSuchJob(String),
    /// A replay is to go on with other SETs than it was begun with.
    #[error(
        "job {job} was begun for another choice, from {since} to {until}: leave time and type out to go on with it, or give \
         the new work another name"
    )]
    OtherJob {
        /// The job.
        job: String,
        /// Its time.
        since: String,
        /// And the end of it.
        until: String,
    },
    /// The new SET was not accepted, or there is no room for it, or for any.
    #[error(transparent)]
    Submit(Arc<SubmitFault>),
}

impl RedriveFault {
    /// The SET that it is about.
    pub fn jti(&self) -> Option<&Jti> {
        match self {
            Self::NoSuchEvent(jti)
            | Self::NotDead { jti, .. }
            | Self::SeveralPeers { jti, .. }
            | Self::NotResendable(jti, _)
            | Self::NotReissuable(jti, _)
            | Self::Damaged(jti) => Some(jti),
            Self::NoSuchPeer(_) | Self::Invalid(_) | Self::NoSuchJob(_) | Self::OtherJob { .. } | Self::Submit(_) => {
                None
            }
        }
    }
}

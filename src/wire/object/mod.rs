//! The Communication Object, the one unit that Transceivers exchange (draft §Communication Object), and its limits.
//! Reading is strict and all or nothing: an object that is malformed anywhere has no effect at all.

mod error_body;
mod read;
mod write;

use std::fmt;
use std::sync::Arc;

pub use error_body::{error_body, parse_error_body};
pub use read::{parse, parse_multi_push, parse_poll};
pub use write::{
    EMPTY_BYTES_MAX, size_of_ack, size_of_error, size_of_set, write, write_poll, write_poll_answer, write_sets,
    write_verdicts,
};

use crate::set::{Jti, SetErr};

/// A Communication Object as a partner sent it. Nothing in it has been verified.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Object {
    /// `sets`, in the order of the text: the key, and the token, which need not be a SET at all.
    ///
    /// A token may be too long or its own `jti` another one; that is the fault of one SET, not of the object.
    pub sets: Vec<(Jti, Arc<str>)>,
    /// `ack`, each jti once.
    pub acks: Vec<Jti>,
    /// `setErrs`; none of these is among the acks.
    pub errors: Vec<(Jti, SetErr)>,
    /// `maxResponseEvents`, how many SETs the answer may hold; only a request has a use for it.
    pub max_response_events: Option<u64>,
}

/// A poll (RFC 8936 §2.2) as a partner sent it.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Poll {
    /// `maxEvents`: at most so many SETs in the answer.
    pub max_events: Option<u64>,
    /// `returnImmediately`: the answer shall not wait for SETs.
    pub return_immediately: bool,
    /// `ack`, each jti once.
    pub acks: Vec<Jti>,
    /// `setErrs`; none of these is among the acks.
    pub errors: Vec<(Jti, SetErr)>,
}

impl fmt::Debug for Object {
    /// Shows identities only: a SET's content must not reach a log by way of a `{:?}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object")
            .field("sets", &self.sets.iter().map(|(jti, _)| jti).collect::<Vec<_>>())
            .field("acks", &self.acks)
            .field("errors", &self.errors.iter().map(|(jti, error)| (jti, &error.err)).collect::<Vec<_>>())
            .field("max_response_events", &self.max_response_events)
            .finish()
    }
}

/// How much one Communication Object may hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Bytes of the whole object. Default 4 MiB.
    pub object_bytes_max: usize,
    /// Bytes of one compact SET. Default 256 KiB. Only told here: a longer SET alone is refused, by its verifier.
    pub set_bytes_max: usize,
    /// Members of `sets`. Default 1000.
    pub sets_per_object_max: usize,
    /// Bytes of one jti. Default 512.
    pub jti_bytes_max: usize,
    /// Entries of `ack` and `setErrs` together. Default 100,000.
    pub verdicts_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            object_bytes_max: 4 << 20,
            set_bytes_max: 256 << 10,
            sets_per_object_max: 1000,
            jti_bytes_max: 512,
            verdicts_max: 100_000,
        }
    }
}

/// Why an input is not a Communication Object; the whole of it is void.
///
/// The description is meant for the partner's engineer and quotes nothing of the input but a jti.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{description}")]
pub struct Malformed {
    /// What sort of fault it is.
    pub kind: Kind,
    /// What is wrong, and where.
    pub description: String,
}

impl Malformed {
    pub(super) fn new(kind: Kind, description: impl Into<String>) -> Self {
        Self { kind, description: description.into() }
    }
}

/// The sort of a fault: what the transport answers depends on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// Not JSON in UTF-8, or more than one JSON text.
    Syntax,
    /// JSON, but not a Communication Object: wrong types, a name twice, nested too deeply, contradicting verdicts.
    Shape,
    /// Longer than [`Limits::object_bytes_max`].
    TooManyBytes,
    /// More SETs than [`Limits::sets_per_object_max`].
    TooManySets,
    /// More verdicts than [`Limits::verdicts_max`].
    TooManyVerdicts,
}

impl Kind {
    /// Whether the sender should try again with less at a time: HTTP 413 and WebSocket 1009, else 400 and 1007.
    pub fn is_too_big(self) -> bool {
        matches!(self, Self::TooManyBytes | Self::TooManySets | Self::TooManyVerdicts)
    }
}

#[cfg(test)]
mod tests;

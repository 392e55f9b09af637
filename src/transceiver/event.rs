//! What an application hands in: an event, claims, or a finished SET.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::set::{Digest, Draft};

/// Something to send to one peer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// One event about one subject; everything else is filled in.
    Draft(Draft),
    /// The same for one that is sent more than once, to several peers or again and again: it is not copied. Each is a SET of its
    /// own, unless the draft names its jti.
    Shared(Arc<Draft>),
    /// Claims of a SET; `iss`, `aud`, `iat`, `jti` and `txn` are filled in where absent.
    Claims(Map<String, Value>),
    /// A SET that somebody else has signed, in compact serialisation. It is relayed as it is.
    Signed(String),
}

impl Event {
    /// An event of this type (short name or URI) about this subject (RFC 9493), without members of its own.
    pub fn new(event_type: impl Into<String>, sub_id: Value) -> Self {
        Self::Draft(Draft { event_type: event_type.into(), sub_id, ..Draft::default() })
    }
}

/// Claims before what is missing is filled in.
pub(super) struct Unsigned {
    pub(super) claims: Map<String, Value>,
    /// Of what was asked for, not of what will be signed: the same request an hour later is still the same. None where the jti
    /// is made here.
    pub(super) digest: Digest,
    /// The caller chose the jti, so it may have been used before.
    pub(super) named: bool,
}

impl Unsigned {
    pub(super) fn new(claims: Map<String, Value>) -> Self {
        let named = claims.contains_key("jti");
        let whole = Value::Object(claims);
        // serde_json's maps are sorted, so equal claims have equal text.
        let digest = if named { Digest::of(whole.to_string().as_bytes()) } else { Digest::NONE };
        let claims = if let Value::Object(claims) = whole { claims } else { Map::new() };
        Self { claims, digest, named }
    }
}

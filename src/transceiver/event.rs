//! What an application hands in: an event, claims, or a finished SET.

use serde_json::{Map, Value};

use crate::set::{Digest, Jti, events};

/// Something to send to one peer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// One event about one subject; everything else is filled in.
    Typed(Typed),
    /// Claims of a SET; `iss`, `aud`, `iat`, `jti` and `txn` are filled in where absent.
    Claims(Map<String, Value>),
    /// A SET that somebody else has signed, in compact serialisation. It is relayed as it is.
    Signed(String),
}

/// One event about one subject.
#[derive(Clone, Debug, Default)]
pub struct Typed {
    /// The event type: a short name (`caep:session-revoked`) or a URI.
    pub event_type: String,
    /// The subject, as `sub_id` (RFC 9493).
    pub sub_id: Value,
    /// The event's own members.
    pub event: Map<String, Value>,
    /// The `jti` to use; a new one if absent. The same `jti` with the same event again is a no-op.
    pub jti: Option<Jti>,
    /// The `txn` claim; a new one if absent.
    pub txn: Option<String>,
}

impl Event {
    /// An event of this type about this subject, without members of its own.
    pub fn new(event_type: impl Into<String>, sub_id: Value) -> Self {
        Self::Typed(Typed { event_type: event_type.into(), sub_id, ..Typed::default() })
    }
}

/// Claims and identity of an event, before what is missing is filled in.
pub(super) struct Unsigned {
    pub(super) claims: Map<String, Value>,
    /// Of what was asked for, not of what will be signed: the same request an hour later is still the same.
    pub(super) digest: Digest,
    /// The caller chose the jti, so it may have been used before.
    pub(super) named: bool,
}

impl Typed {
    pub(super) fn into_unsigned(self) -> Result<Unsigned, String> {
        let Some(uri) = events::expand(&self.event_type) else {
            let hint = events::suggest(&self.event_type).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            return Err(format!(
                "type: expected a short name such as caep:session-revoked or a URI, found {:?}{hint}",
                shorten(&self.event_type)
            ));
        };
        let mut claims = Map::new();
        claims.insert("sub_id".to_owned(), self.sub_id);
        claims.insert("events".to_owned(), Value::Object(Map::from_iter([(uri, Value::Object(self.event))])));
        if let Some(txn) = self.txn {
            claims.insert("txn".to_owned(), Value::String(txn));
        }
        if let Some(jti) = &self.jti {
            claims.insert("jti".to_owned(), Value::String(jti.as_str().to_owned()));
        }
        Ok(Unsigned::new(claims))
    }
}

impl Unsigned {
    pub(super) fn new(claims: Map<String, Value>) -> Self {
        let named = claims.contains_key("jti");
        // serde_json's maps are sorted, so equal claims have equal text.
        let digest = Digest::of(Value::Object(claims.clone()).to_string().as_bytes());
        Self { claims, digest, named }
    }
}

/// A caller's word as it may stand in an error.
fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

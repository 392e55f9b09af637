//! A draft written out as the claims of its SET, without a tree of JSON values in between: by the same rules as
//! [`Draft::into_claims`] and [`complete`](super::complete), with the same outcome to the byte.

use std::borrow::Cow;
use std::cell::Cell;
use std::ops::Range;

use serde_json::{Map, Value};

use super::claims::{about, full_name, no_short_name};
use super::json::has_escapes;
use super::{Defaults, Digest, Draft, Incomplete, Jti, KeyError, SignedSet, SigningKey, events, jti, shape};

/// The claims of a draft, complete and checked, as the text that will be signed.
#[derive(Clone, Debug)]
pub struct Written {
    jti: Jti,
    digest: Digest,
    label: &'static str,
    claims: Vec<u8>,
}

impl Written {
    /// Completes and checks a draft, and writes it out; with it the URI of its event type.
    ///
    /// # Errors
    ///
    /// As [`Draft::into_claims`] and then [`complete`](super::complete).
    pub fn new<'d>(draft: &'d Draft, defaults: Defaults<'_>) -> Result<(Self, Cow<'d, str>), Incomplete> {
        let (event_type, label) = event_type(&draft.event_type)?;
        about(&draft.sub_id).map_err(Incomplete)?;
        let jti = draft.jti.clone().unwrap_or_default();
        shape::jti_text(jti.as_str(), defaults.jti_bytes_max).map_err(Incomplete)?;
        let text = Text::write(draft, &event_type, &jti, defaults).map_err(unwritten)?;
        let digest = match &draft.jti {
            Some(_) => Digest::of(&text.asked(draft).map_err(unwritten)?),
            None => Digest::NONE,
        };
        Ok((Self { jti, digest, label, claims: text.whole }, event_type))
    }

    /// Its identity.
    pub fn jti(&self) -> &Jti {
        &self.jti
    }

    /// Of what was asked for, not of what is signed: the same request an hour later is still the same. None where the jti was
    /// made here, since nobody can ask for the same again.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// By what it is counted ([`events::label`]).
    pub fn label(&self) -> &'static str {
        self.label
    }

    /// Signs it, as [`SigningKey::sign`] signs the same claims.
    ///
    /// # Errors
    ///
    /// As [`SigningKey::sign`].
    pub fn sign(self, key: &SigningKey) -> Result<SignedSet, KeyError> {
        let compact = key.sign_text(&self.claims)?;
        if self.claims.capacity() <= SPARE_MAX {
            SPARE.set(self.claims);
        }
        Ok(SignedSet { jti: self.jti, compact, digest: self.digest, label: self.label, reissue_of: None })
    }
}

/// The URI of an event type that may be sent, and by what it is counted.
fn event_type(name: &str) -> Result<(Cow<'_, str>, &'static str), Incomplete> {
    // Those that are known keep the rules below, by test.
    if let Some((short, uri)) = events::known(name) {
        return Ok((uri.into(), short));
    }
    let uri = full_name(name)?;
    shape::event_type(&uri).and_then(|()| no_short_name(&uri)).map_err(Incomplete)?;
    let label = events::label([&*uri].into_iter());
    Ok((uri, label))
}

fn unwritten(error: serde_json::Error) -> Incomplete {
    Incomplete(format!("the event cannot be written as JSON: {error}"))
}

thread_local! {
    /// The room of the text that was signed last, for the next one on this thread: to get a piece of memory of this size and to
    /// give it back costs more than to write the text. Where others sign, as they do for a call of many, there is none.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// So much of it is kept.
const SPARE_MAX: usize = 16 << 10;

/// The claims in the order in which serde_json's maps have them.
struct Text {
    whole: Vec<u8>,
    /// Where these two members stand, which are most of it.
    events: Range<usize>,
    sub_id: Range<usize>,
}

impl Text {
    /// The draft's own claims, with those that are filled in.
    fn write(draft: &Draft, event_type: &str, jti: &Jti, defaults: Defaults<'_>) -> Result<Self, serde_json::Error> {
        let mut text = SPARE.take();
        text.clear();
        text.reserve(1024);
        member(&mut text, b"{\"aud\":", defaults.audience)?;
        text.push(b',');
        let start = text.len();
        text.extend_from_slice(b"\"events\":{");
        string(&mut text, event_type)?;
        text.push(b':');
        object(&mut text, &draft.event)?;
        text.push(b'}');
        let events = start..text.len();
        text.extend_from_slice(b",\"iat\":");
        serde_json::to_writer(&mut text, &defaults.now.seconds())?;
        member(&mut text, b",\"iss\":", defaults.issuer)?;
        member(&mut text, b",\"jti\":", jti.as_str())?;
        text.push(b',');
        let start = text.len();
        text.extend_from_slice(b"\"sub_id\":");
        value(&mut text, &draft.sub_id)?;
        let sub_id = start..text.len();
        match &draft.txn {
            Some(txn) => member(&mut text, b",\"txn\":", txn)?,
            None => jti::unique(|txn| member(&mut text, b",\"txn\":", txn))?,
        }
        text.push(b'}');
        Ok(Self { whole: text, events, sub_id })
    }

    /// The draft's own claims alone: what was asked for.
    fn asked(&self, draft: &Draft) -> Result<Vec<u8>, serde_json::Error> {
        let part = |range: &Range<usize>| self.whole.get(range.clone()).unwrap_or_default();
        let mut text = Vec::with_capacity(self.whole.len());
        text.push(b'{');
        text.extend_from_slice(part(&self.events));
        if let Some(jti) = &draft.jti {
            member(&mut text, b",\"jti\":", jti.as_str())?;
        }
        text.push(b',');
        text.extend_from_slice(part(&self.sub_id));
        if let Some(txn) = &draft.txn {
            member(&mut text, b",\"txn\":", txn)?;
        }
        text.push(b'}');
        Ok(text)
    }
}

/// Appends a member that is a string, with what stands before it.
fn member(text: &mut Vec<u8>, before: &[u8], value: &str) -> Result<(), serde_json::Error> {
    text.extend_from_slice(before);
    string(text, value)
}

/// Appends a value as serde_json does, but that plain strings, which nearly all are, are copied as a whole.
fn value(text: &mut Vec<u8>, value: &Value) -> Result<(), serde_json::Error> {
    match value {
        Value::Null => text.extend_from_slice(b"null"),
        Value::Bool(true) => text.extend_from_slice(b"true"),
        Value::Bool(false) => text.extend_from_slice(b"false"),
        Value::Number(number) => serde_json::to_writer(text, number)?,
        Value::String(own) => string(text, own)?,
        Value::Array(elements) => {
            text.push(b'[');
            for (n, element) in elements.iter().enumerate() {
                if n > 0 {
                    text.push(b',');
                }
                self::value(text, element)?;
            }
            text.push(b']');
        }
        Value::Object(members) => object(text, members)?,
    }
    Ok(())
}

fn object(text: &mut Vec<u8>, members: &Map<String, Value>) -> Result<(), serde_json::Error> {
    text.push(b'{');
    for (n, (name, own)) in members.iter().enumerate() {
        if n > 0 {
            text.push(b',');
        }
        string(text, name)?;
        text.push(b':');
        value(text, own)?;
    }
    text.push(b'}');
    Ok(())
}

fn string(text: &mut Vec<u8>, own: &str) -> Result<(), serde_json::Error> {
    if has_escapes(own.as_bytes()) {
        return serde_json::to_writer(text, own);
    }
    text.push(b'"');
    text.extend_from_slice(own.as_bytes());
    text.push(b'"');
    Ok(())
}

//! A draft written out as the claims of its SET, without a tree of JSON values in between: by the same rules as
//! [`Draft::into_claims`] and [`complete`](super::complete), with the same outcome to the byte.

use std::borrow::Cow;
use std::ops::Range;

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::{Map, Value};

use super::claims::{about, full_name, no_short_name};
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
        let event_type = full_name(&draft.event_type)?;
        check(&event_type, draft).map_err(Incomplete)?;
        let jti = draft.jti.clone().unwrap_or_default();
        shape::jti_text(jti.as_str(), defaults.jti_bytes_max).map_err(Incomplete)?;
        let asked = Asked::new(draft, &event_type).map_err(unwritten)?;
        let this = Self {
            claims: asked.complete(draft, &jti, defaults).map_err(unwritten)?,
            digest: Digest::of(&asked.text),
            label: events::label([&*event_type].into_iter()),
            jti,
        };
        Ok((this, event_type))
    }

    /// Its identity.
    pub fn jti(&self) -> &Jti {
        &self.jti
    }

    /// Of what was asked for, not of what is signed: the same request an hour later is still the same.
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
        Ok(SignedSet { jti: self.jti, compact, digest: self.digest, label: self.label })
    }
}

/// What `complete` checks of the claims that a draft makes.
fn check(event_type: &str, draft: &Draft) -> Result<(), String> {
    shape::event_type(event_type)?;
    no_short_name(event_type)?;
    about(&draft.sub_id)
}

fn unwritten(error: serde_json::Error) -> Incomplete {
    Incomplete(format!("the event cannot be written as JSON: {error}"))
}

/// What was asked for: the draft's own claims, in the order in which serde_json's maps have them.
struct Asked {
    text: Vec<u8>,
    /// Where these two members stand, which are most of it.
    events: Range<usize>,
    sub_id: Range<usize>,
}

/// Room for what is filled in, but for issuer and audience.
const FILLED: usize = 160;

impl Asked {
    fn new(draft: &Draft, event_type: &str) -> Result<Self, serde_json::Error> {
        let mut text = Vec::with_capacity(1024);
        let events = member(&mut text, b"{\"events\":", &Only(event_type, &draft.event))?;
        if let Some(jti) = &draft.jti {
            member(&mut text, b",\"jti\":", jti.as_str())?;
        }
        let sub_id = member(&mut text, b",\"sub_id\":", &draft.sub_id)?;
        if let Some(txn) = &draft.txn {
            member(&mut text, b",\"txn\":", txn)?;
        }
        text.push(b'}');
        Ok(Self { text, events, sub_id })
    }

    /// The same among the claims that are filled in.
    fn complete(&self, draft: &Draft, jti: &Jti, defaults: Defaults<'_>) -> Result<Vec<u8>, serde_json::Error> {
        let filled = FILLED + defaults.issuer.len() + defaults.audience.len() + jti.as_str().len();
        let mut text = Vec::with_capacity(self.text.len() + filled);
        member(&mut text, b"{\"aud\":", defaults.audience)?;
        text.push(b',');
        text.extend_from_slice(self.text.get(self.events.clone()).unwrap_or_default());
        member(&mut text, b",\"iat\":", &defaults.now.seconds())?;
        member(&mut text, b",\"iss\":", defaults.issuer)?;
        member(&mut text, b",\"jti\":", jti.as_str())?;
        text.push(b',');
        text.extend_from_slice(self.text.get(self.sub_id.clone()).unwrap_or_default());
        match &draft.txn {
            Some(txn) => member(&mut text, b",\"txn\":", txn)?,
            None => jti::unique(|txn| member(&mut text, b",\"txn\":", txn))?,
        };
        text.push(b'}');
        Ok(text)
    }
}

/// Appends a member, with what stands before its name; where it stands without that.
fn member<T: Serialize + ?Sized>(
    text: &mut Vec<u8>,
    begin: &[u8],
    value: &T,
) -> Result<Range<usize>, serde_json::Error> {
    let start = text.len() + 1;
    text.extend_from_slice(begin);
    serde_json::to_writer(&mut *text, value)?;
    Ok(start..text.len())
}

/// An object with one member.
struct Only<'a>(&'a str, &'a Map<String, Value>);

impl Serialize for Only<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.0, self.1)?;
        map.end()
    }
}

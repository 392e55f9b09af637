//! The three parts of a compact JWS (RFC 7515 §7.1), taken apart and decoded strictly.

use serde_json::{Map, Value};

use super::base64url::{self, Octets};
use super::look::{Look as _, Object as _};
use super::outline::{Outline, Part};
use super::{ErrorCode, Jti, Refusal, json};

type Object = Map<String, Value>;

/// Room for a header: a few names, and a `kid` of 100 bytes.
pub(super) type HeaderOctets = Octets<256>;
/// Room for the claims of a usual SET.
pub(super) type ClaimsOctets = Octets<1024>;
/// Room for a signature, by an RSA key of 4096 bits even.
pub(super) type SignatureOctets = Octets<520>;

/// The parts of a token as they stand there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segments<'a> {
    /// What the signature covers: header, dot, claims.
    pub(super) signed: &'a str,
    pub(super) header: &'a str,
    claims: &'a str,
    signature: &'a str,
}

impl<'a> Segments<'a> {
    pub(super) fn of(compact: &'a str) -> Result<Self, Refusal> {
        let mut dots = memchr::memchr_iter(b'.', compact.as_bytes());
        let parts = match (dots.next(), dots.next(), dots.next()) {
            (Some(first), Some(second), None) => {
                let signed = compact.get(..second);
                signed.zip(compact.get(..first)).zip(compact.get(first + 1..second)).zip(compact.get(second + 1..))
            }
            _ => None,
        };
        let Some((((signed, header), claims), signature)) = parts else {
            return Err(refuse(if compact.trim_start().starts_with('{') {
                "the SET is a JWS in JSON serialisation, expected the compact one".into()
            } else {
                match compact.split('.').count() {
                    5 => "the SET has 5 parts: encrypted SETs (JWE) are not supported".into(),
                    count => format!("the SET has {count} parts, expected header.claims.signature"),
                }
            }));
        };
        if header.is_empty() || claims.is_empty() {
            return Err(refuse("the header or the claims of the SET are empty".into()));
        }
        Ok(Self { signed, header, claims, signature })
    }

    pub(super) fn header<'t, 'o>(
        &self,
        octets: &'t mut HeaderOctets,
        outline: &'o mut Outline<'t>,
    ) -> Result<Part<'o>, Refusal> {
        look(octets.decode(self.header), outline, "header")
    }

    pub(super) fn claims<'t, 'o>(
        &self,
        octets: &'t mut ClaimsOctets,
        outline: &'o mut Outline<'t>,
    ) -> Result<Part<'o>, Refusal> {
        look(octets.decode(self.claims), outline, "claims")
    }

    pub(super) fn signature<'o>(&self, octets: &'o mut SignatureOctets) -> Result<&'o [u8], Refusal> {
        octets.decode(self.signature).ok_or_else(|| no_octets("signature"))
    }
}

/// Header and claims of a token *without verifying anything*: to show them, never to act on them.
pub fn decode(compact: &str) -> Result<(Object, Object), Refusal> {
    let segments = Segments::of(compact)?;
    Ok((object(segments.header, "header")?, object(segments.claims, "claims")?))
}

/// What of a token is needed to pass it on, *without verifying anything*.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Glance {
    /// Its `jti`, unless that is missing or empty.
    pub jti: Option<Jti>,
    /// The types in `events`, sorted; none if there is no such object.
    pub types: Option<Vec<String>>,
}

/// Looks at a token, and refuses what [`decode`] refuses, in the same words.
pub fn glance(compact: &str) -> Result<Glance, Refusal> {
    let segments = Segments::of(compact)?;
    let (mut header_octets, mut claims_octets) = (HeaderOctets::new(), ClaimsOctets::new());
    let (mut header_outline, mut claims_outline) = (Outline::default(), Outline::default());
    segments.header(&mut header_octets, &mut header_outline)?;
    let claims = segments.claims(&mut claims_octets, &mut claims_outline)?;
    let jti = claims.find("jti").and_then(Part::text).filter(|jti| !jti.is_empty());
    let types = claims.find("events").and_then(Part::object);
    Ok(Glance {
        jti: jti.map(Jti::from),
        types: types.map(|types| types.sorted().map(|(uri, _)| uri.to_owned()).collect()),
    })
}

fn object(segment: &str, what: &str) -> Result<Object, Refusal> {
    let octets = base64url::decode(segment).ok_or_else(|| no_octets(what))?;
    json::object(&octets).map_err(|error| no_object(what, &error))
}

fn look<'t, 'o>(octets: Option<&'t [u8]>, outline: &'o mut Outline<'t>, what: &str) -> Result<Part<'o>, Refusal> {
    outline.read(octets.ok_or_else(|| no_octets(what))?).map_err(|error| no_object(what, &error))
}

fn no_octets(what: &str) -> Refusal {
    refuse(format!("the {what} is not canonical base64url without padding and white space"))
}

fn no_object(what: &str, error: &json::Error) -> Refusal {
    refuse(format!("the {what}: {error}"))
}

fn refuse(description: String) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, description)
}

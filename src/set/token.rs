//! The three parts of a compact JWS (RFC 7515 §7.1), taken apart and decoded strictly.

use serde_json::{Map, Value};

use super::{ErrorCode, Refusal, base64url, json};

type Object = Map<String, Value>;

/// The parts of a token as they stand there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segments<'a> {
    /// What the signature covers: header, dot, claims.
    pub(super) signed: &'a str,
    header: &'a str,
    claims: &'a str,
    signature: &'a str,
}

impl<'a> Segments<'a> {
    pub(super) fn of(compact: &'a str) -> Result<Self, Refusal> {
        let mut parts = compact.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
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
        let signed = compact.get(..header.len() + 1 + claims.len()).unwrap_or_default();
        Ok(Self { signed, header, claims, signature })
    }

    pub(super) fn header(&self) -> Result<Object, Refusal> {
        object(self.header, "header")
    }

    pub(super) fn claims(&self) -> Result<Object, Refusal> {
        object(self.claims, "claims")
    }

    pub(super) fn signature(&self) -> Result<Vec<u8>, Refusal> {
        octets(self.signature, "signature")
    }
}

/// Header and claims of a token *without verifying anything*: to show them, never to act on them.
pub fn decode(compact: &str) -> Result<(Object, Object), Refusal> {
    let segments = Segments::of(compact)?;
    Ok((segments.header()?, segments.claims()?))
}

fn object(segment: &str, what: &str) -> Result<Object, Refusal> {
    json::object(&octets(segment, what)?).map_err(|error| refuse(format!("the {what}: {error}")))
}

fn octets(segment: &str, what: &str) -> Result<Vec<u8>, Refusal> {
    let refusal = || refuse(format!("the {what} is not canonical base64url without padding and white space"));
    base64url::decode(segment).ok_or_else(refusal)
}

fn refuse(description: String) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, description)
}

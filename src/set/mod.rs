//! Security Event Tokens (RFC 8417): made, read, verified. Knows nothing of peers, wires or stores.

mod algorithm;
// Nobody outside needs it but the fuzzers, for which it is a target of its own.
#[doc(hidden)]
pub mod base64url;
mod claims;
mod crypto;
pub mod events;
mod familiar;
pub(crate) mod json;
mod jti;
mod jwk;
mod key_set;
mod look;
pub(crate) mod nearest;
mod outline;
mod pem;
mod policy;
mod refusal;
mod rules;
mod shape;
mod sign;
pub mod subject;
#[cfg(test)]
mod tests;
mod token;
mod verify;
mod visible;
mod written;

use std::sync::Arc;

pub use algorithm::{Algorithm, UnknownAlgorithm};
pub use claims::{Defaults, Draft, Incomplete, complete};
pub use crypto::install_crypto;
pub use jti::Jti;
pub use jwk::Jwk;
pub use key_set::{KeySet, NotAKeySet, Skipped};
pub use policy::{Policy, Profile};
pub use refusal::{ErrorCode, Refusal, SetErr};
pub use sign::{KeyError, SigningKey};
pub use token::{Glance, decode, glance};
pub use verify::{Check, Fault, Report, VerifiedSet, report, verify};
pub use visible::acts_on_display;
pub use written::Written;

/// Identifies content: equal digests mean the same submission or the same token. Sixteen bytes of SHA-256.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Digest(pub [u8; 16]);

impl Digest {
    /// Of a request that named no jti: no other has the same content, which has the jti that was made for it.
    pub const NONE: Self = Self([0; 16]);

    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::short(&aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes))
    }

    fn short(full: &aws_lc_rs::digest::Digest) -> Self {
        let mut short = [0; 16];
        short.copy_from_slice(&full.as_ref()[..16]);
        Self(short)
    }
}

/// A SET ready to be sent: compact serialisation and all. Its bytes never change again (rule R8).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignedSet {
    /// Its identity in our feed to one partner.
    pub jti: Jti,
    /// The compact JWS, exactly as every transmission carries it.
    pub compact: Arc<str>,
    /// What was asked to be sent, so that the same request again is recognised although it would be signed anew.
    pub digest: Digest,
    /// By what it is counted ([`events::label`]).
    pub label: &'static str,
    /// The SET whose contents it says again.
    pub reissue_of: Option<Jti>,
}

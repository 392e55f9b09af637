//! What is asked of the SETs of one partner.

use super::events;

/// What one partner's SETs must satisfy, beside what RFC 8417 asks of all.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The only `iss` that is accepted, compared byte for byte.
    pub issuer: String,
    /// Us: `aud` must contain it.
    pub audience: String,
    /// The event types that the partner may send. Verification events always pass.
    pub accept: events::Filter,
    /// The longest `jti`, in bytes.
    pub jti_bytes_max: usize,
    /// The longest token, in bytes.
    pub set_bytes_max: usize,
    /// Which specification's rules apply.
    pub profile: Profile,
}

/// Which specification's rules apply to a SET.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Profile {
    /// OpenID Shared Signals Framework 1.0 §4.1: `typ`, `aud` and `sub_id` required, `sub` and `exp` forbidden.
    #[default]
    Ssf,
    /// RFC 8417 alone: `typ`, `aud` and `sub_id` may be missing, `sub` may stand there, `exp` is obeyed.
    Plain8417,
}

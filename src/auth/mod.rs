//! Who is who: partners' bearer tokens, the tokens we present, and the keys with which partners sign.

mod bearer;
mod jwks;
mod secret;

pub use bearer::{Bearers, TokenTaken, Unauthorised};
pub use jwks::{Parse, Parsed, PartnerKeys, Reread, Snapshot};
pub use secret::{Error as SecretError, Secret};

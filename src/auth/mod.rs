//! Who is who: partners' bearer tokens, the tokens we present, the keys with which partners sign, and ours.

mod bearer;
mod jwks;
pub mod keyring;
mod secret;

pub use bearer::{Bearers, TokenTaken, Unauthorised};
pub use jwks::{Fetch, Parse, Parsed, PartnerKeys, Reread, Snapshot};
pub use keyring::{KeyRing, KeyStatus, Rotation, key_files};
pub use secret::{Error as SecretError, Secret};

//! Federates Security Event Tokens between two organisations, both ways at once.

pub mod clock;
pub mod peer;
pub mod set;
pub mod store;
pub mod wire;

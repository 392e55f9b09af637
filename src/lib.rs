//! Federates Security Event Tokens between two organisations, both ways at once.

pub mod admin;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod engine;
pub mod peer;
pub mod quantity;
pub mod random;
pub mod set;
pub mod store;
pub mod transceiver;
pub mod transport;
pub mod wire;

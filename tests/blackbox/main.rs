//! The program as its neighbours meet it: real processes, real sockets, and partners that follow a script, not the rules.

#[path = "../common/mod.rs"]
pub mod common;

mod admin_api;
mod http_surface;
mod initiator;
mod refusals;
mod two_partners;

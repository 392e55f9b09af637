//! The program as its neighbours meet it: real processes, real sockets, and partners that follow a script, not the rules.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on has failed its test, and says where")]

#[path = "../common/mod.rs"]
mod common;

mod address_filter;
mod admin_api;
mod bench_target;
mod breaking;
mod bridge;
mod canary;
mod dead_letters;
mod dlq_commands;
mod exposition;
mod floods;
mod hammering;
mod http_surface;
mod initiator;
mod methods;
mod metrics;
mod multi_push;
mod orderly_stop;
mod our_keys;
mod partner_keys;
mod patience;
mod poison;
mod poll_recipient;
mod poll_transmitter;
mod push_recipient;
mod push_transmitter;
mod refusals;
mod reload;
mod reload_under_load;
mod replay;
mod run_time_peers;
mod status_advice;
mod two_partners;

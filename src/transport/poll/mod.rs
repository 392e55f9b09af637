//! Poll (RFC 8936): SETs in the answers to polls, verdicts in the polls.

mod recipient;
mod transmitter;

pub(super) use recipient::run;
pub(super) use transmitter::{HOLD, answer_poll};

//! Push (RFC 8935): one SET a request, and its verdict in the answer.

mod recipient;
mod transmitter;

pub(super) use recipient::receive;
pub(super) use transmitter::run;

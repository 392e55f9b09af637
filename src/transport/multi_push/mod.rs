//! Multi-set push (draft-deshpande-secevent-http-multi-set-push-02): many SETs a request, verdicts in this or a later answer.

mod receiver;
mod transmitter;

pub(super) use receiver::receive;
pub(super) use transmitter::run;

//! The codes with which a partner refuses one of our SETs in `setErrs` (IANA "Security Event Token Error Codes"), and what
//! follows from each here.

use super::Who;

/// What a partner's code means for the SET that it refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The code on the wire.
    pub err: &'static str,
    /// What the partner says by it.
    pub meaning: &'static str,
    /// Who has to act.
    pub who: Who,
    /// What to do.
    pub remedy: &'static str,
}

/// The registered codes.
pub const ANSWERS: [Answer; 7] = [
    Answer {
        err: "invalid_request",
        meaning: "The partner cannot read the SET, or its event does not have the form that its type wants.",
        who: Who::You,
        remedy: "Compare what was submitted with the event's definition (`pushpull dlq show JTI`), mend it at its source, and submit it anew.",
    },
    Answer {
        err: "invalid_key",
        meaning: "The partner finds no key of ours that verifies the SET.",
        who: Who::You,
        remedy: "See that the key is in our /jwks.json (`pushpull key ls`) and that the partner has it: from there, or from you where it keeps our keys in a file. Then `pushpull dlq reissue JTI`.",
    },
    Answer {
        err: "invalid_issuer",
        meaning: "The partner does not take SETs of this issuer from us.",
        who: Who::Both,
        remedy: "Agree on our issuer: it is `server.issuer` here and `issuer` of the peer there; then `pushpull dlq reissue JTI`.",
    },
    Answer {
        err: "invalid_audience",
        meaning: "The SET's `aud` is not what the partner calls itself.",
        who: Who::You,
        remedy: "Set `audience` of this peer to what the partner expects, then `pushpull dlq reissue JTI`.",
    },
    Answer {
        err: "authentication_failed",
        meaning: "The partner could not tell who sent the SET.",
        who: Who::Both,
        remedy: "Check the bearer token with the partner (`token_file` here, `accept_token_file` there), then `pushpull dlq reissue JTI`.",
    },
    Answer {
        err: "access_denied",
        meaning: "The partner does not let us send this type of event, or about this subject.",
        who: Who::Both,
        remedy: "Agree on the event types: `send` here, `accept` there; then `pushpull dlq reissue JTI`.",
    },
    Answer {
        err: "invalid_state",
        meaning: "The state of a verification event is not the one that the partner gave.",
        who: Who::Partner,
        remedy: "Try the link again with `pushpull peer verify PEER`.",
    },
];

/// What is told of a code that is not registered.
const OTHER: Answer = Answer {
    err: "",
    meaning: "The partner refused the SET with a code of its own.",
    who: Who::Both,
    remedy: "Ask the partner what it means (its text: `pushpull dlq show JTI`), then `pushpull dlq reissue JTI` or `pushpull dlq discard JTI`.",
};

/// What a partner's code means; also for codes that are not registered.
pub fn answer(err: &str) -> &'static Answer {
    ANSWERS.iter().find(|answer| answer.err == err).unwrap_or(&OTHER)
}

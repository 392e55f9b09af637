//! What a mangler can do to what passes through it.

use std::time::Duration;

/// The faults of the network. Each has to meet something, or its turn has shown nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Bytes come late, and not evenly.
    Late,
    /// Only so many bytes pass in a second.
    Narrow,
    /// What was written at once comes in pieces of any length.
    Chopped,
    /// Few bytes at a time, with a pause behind each.
    Dribbled,
    /// One way stands still, and TCP pushes back.
    Stalled,
    /// Connections are reset at both ends.
    Reset,
    /// Bytes of one way, or of both, vanish; nobody hears of anybody's end.
    HalfOpen,
    /// A part of an answer, or of a message, and then the end.
    Truncated,
    /// A request comes a second time by another connection, and the answer to that is lost.
    Repeated,
    /// Nobody listens.
    Refused,
    /// Connections are taken and reset at once.
    Slammed,
}

impl Kind {
    pub(crate) const ALL: [Self; 11] = [
        Self::Late,
        Self::Narrow,
        Self::Chopped,
        Self::Dribbled,
        Self::Stalled,
        Self::Reset,
        Self::HalfOpen,
        Self::Truncated,
        Self::Repeated,
        Self::Refused,
        Self::Slammed,
    ];
}

/// How everything passes at the moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Air {
    /// Towards the one behind the proxy, and back.
    pub(crate) ways: [Way; 2],
    /// The chance of each stretch of bytes on its way back to be the last, and to be cut short.
    pub(crate) truncate: f64,
    /// The chance of each request to come twice.
    pub(crate) repeat: f64,
    pub(crate) door: Door,
}

/// What awaits new connections.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Door {
    #[default]
    Open,
    /// Nobody listens.
    Shut,
    /// They are reset as soon as they are there.
    Slammed,
}

/// How bytes pass in one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Way {
    pub(crate) delay: Duration,
    /// Up to so much more, drawn for each stretch. What was sent first still comes first.
    pub(crate) jitter: Duration,
    /// The longest piece; 0 for no limit.
    pub(crate) piece: usize,
    /// Behind each piece.
    pub(crate) pause: Duration,
    /// 0 for no limit.
    pub(crate) bytes_per_second: u64,
    pub(crate) stalled: bool,
}

/// What befalls the connections that are open now.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Strike {
    Reset,
    /// From now on the bytes of these ways vanish. Whoever hears nothing any more on a WebSocket has to close it within
    /// this time.
    HalfOpen {
        ways: [bool; 2],
        within: Duration,
        sockets_alone: bool,
    },
    /// The middle forgets what it swallows: those who still believe in such a connection are told.
    Forgotten,
}

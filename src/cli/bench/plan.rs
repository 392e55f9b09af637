//! What the bench tells its two sides, and what they answer: one line of JSON each, over pipes.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::transceiver::Method;

/// One order for a side.
#[derive(Debug, Deserialize, Serialize)]
pub(super) enum Order {
    /// Opens the store and listens. Answer: [`Opened`].
    Open(Plan),
    /// Adds its partners, and has SETs queued and jtis remembered if the plan says so. Answer: [`Filled`].
    Partners(Partners),
    /// Instead of them, a partner that is no side of the bench: waits until its link is up and one SET alone has been acked.
    /// Answer: [`Allowed`].
    Target(Remote),
    /// Waits until every link is up. Answer: [`Memory`].
    Link,
    /// Sends and measures. Answer: [`Measured`].
    Run(Run),
    /// Waits until everything is settled (or, where a backlog is left, until nothing is under way), writes down every jti and
    /// ends. Answer: [`Ended`].
    End,
}

/// How one side is made.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Plan {
    /// Its name: `alpha` or `beta`.
    pub(super) name: String,
    /// Where it keeps its files.
    pub(super) dir: PathBuf,
    /// Where its signing key lies, if not there: a partner somewhere else knows it. It may connect to any address then.
    pub(super) identity: Option<PathBuf>,
    pub(super) alg: String,
    pub(super) tls: bool,
    /// Bytes of claims.
    pub(super) payload: usize,
    pub(super) commit_delay: Duration,
    /// It may send.
    pub(super) sends: bool,
    /// SETs to sign beforehand.
    pub(super) presigned: Option<usize>,
    /// SETs to queue beforehand.
    pub(super) backlog: u64,
    /// Random jtis to remember beforehand.
    pub(super) tombstones: u64,
    /// SETs to queue for a partner that never answers.
    pub(super) mute: u64,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Opened {
    /// Where it listens.
    pub(super) address: String,
    /// Its certificate's pin, if it speaks TLS.
    pub(super) pin: Option<String>,
    /// Resident memory, in bytes, before there is any partner.
    pub(super) rss: u64,
}

/// The other side, as often as there are partners.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Partners {
    /// Its name.
    pub(super) name: String,
    /// Its folder, where its public keys are.
    pub(super) dir: PathBuf,
    pub(super) address: String,
    pub(super) pin: Option<String>,
    /// A bearer for each partner, the same in both directions.
    pub(super) tokens: Vec<String>,
    /// The bearer of the partner that never answers.
    pub(super) mute_token: Option<String>,
    /// The partner that floods.
    pub(super) flood: Option<Flooding>,
    /// Whether to dial, and by what method.
    pub(super) dial: Option<Dialled>,
    /// Nothing comes from the partner before the first SET does.
    pub(super) is_quiet: bool,
}

/// A partner that floods.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Flooding {
    /// Its bearer.
    pub(super) token: String,
    /// The file in which its keys are.
    pub(super) keys: PathBuf,
}

/// A partner somewhere else.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Remote {
    /// Where it listens: a URL.
    pub(super) target: String,
    pub(super) pin: Option<String>,
    /// Its `aud`.
    pub(super) audience: String,
    /// The bearer that we present.
    pub(super) token: String,
}

/// Whether the partner somewhere else takes what the bench sends.
#[derive(Debug, Deserialize, Serialize)]
pub(super) enum Allowed {
    Yes(Memory),
    /// It does not: what it says.
    Refused(String),
    /// Nothing has come of it: why.
    Silent(String),
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum Dialled {
    Websocket,
    Http,
    Push,
    MultiPush,
    Poll,
}

impl Dialled {
    pub(super) fn method(self) -> Method {
        match self {
            Self::Websocket => Method::Websocket,
            Self::Http => Method::Http,
            Self::Push => Method::Push,
            Self::MultiPush => Method::MultiPush,
            Self::Poll => Method::Poll,
        }
    }

    /// Scheme, without TLS, and path of the endpoint.
    pub(super) fn endpoint(self) -> (&'static str, &'static str) {
        match self {
            Self::Websocket => ("ws", "/pushpull"),
            Self::Http => ("http", "/pushpull"),
            Self::Push => ("http", "/push"),
            Self::MultiPush => ("http", "/multi-push"),
            Self::Poll => ("http", "/poll"),
        }
    }
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Filled {
    /// SETs in the queues for the other side.
    pub(super) queued: u64,
    pub(super) rss: u64,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Memory {
    pub(super) rss: u64,
}

/// One measurement.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Run {
    pub(super) pace: Pace,
    pub(super) callers: usize,
    /// SETs that may wait for their ack before callers pause.
    pub(super) unsettled: usize,
    pub(super) warmup: Duration,
    pub(super) duration: Duration,
    /// For so long after it the CPU time of each stage is taken.
    pub(super) stages: Duration,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(super) enum Pace {
    /// It does not send; it only receives.
    Silent,
    Max,
    /// So many a second.
    Fixed(f64),
    One,
}

/// What a side has measured.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Measured {
    pub(super) seconds: f64,
    /// SETs handed in, settled and received meanwhile.
    pub(super) sent: u64,
    pub(super) settled: u64,
    pub(super) received: u64,
    /// Bytes of Communication Objects sent.
    pub(super) bytes: u64,
    /// From `send` (where the rate is fixed: from when it was due) to the ack, in microseconds: values and how often.
    pub(super) latency: Vec<(u64, u64)>,
    /// CPU time of the whole process, in seconds.
    pub(super) cpu: f64,
    /// CPU time by stage, in seconds, and the SETs settled and received in that time.
    pub(super) stages: Vec<(String, f64)>,
    pub(super) stage_sets: u64,
    /// SETs settled in each tenth of a second.
    pub(super) series: Vec<u64>,
    /// SETs that were not settled when it ended: their latency is in no figure.
    pub(super) under_way: u64,
    /// SETs that were refused or given up.
    pub(super) unacked: u64,
    /// The SETs signed beforehand were used up, and the measurement ended with them.
    pub(super) used_up: bool,
    pub(super) rss: u64,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Ended {
    /// SETs accepted, acked and received in all.
    pub(super) sent: u64,
    pub(super) acked: u64,
    pub(super) received: u64,
    /// Still queued.
    pub(super) queued: u64,
    /// Resident memory after everything has come to rest.
    pub(super) rss: u64,
}

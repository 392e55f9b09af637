//! `bench` and what its two sides are told.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{algorithm, duration};
use crate::set::Algorithm;

pub(super) const HELP: &str = "Examples:
  pushpull bench
  pushpull bench --alg EdDSA --duration 30s --svg bench.svg
  pushpull bench --rate 50% --direction one
  pushpull bench --transport websocket,push --direction one --runs 3
  pushpull bench --rate 0 --partners 1000 --no-tls
  pushpull bench --target wss://signals.globex.example/pushpull --audience https://signals.globex.example --identity bench

Two Transceivers in two processes of their own exchange signed events over loopback, with TLS and a store that syncs every commit.
Before and after, the machine's bare cryptography is measured; `ratio` is what was reached of it. Every SET is accounted for by
its jti: exit code 1 when one was lost or doubled, never because it was slow.";

/// `bench`
#[derive(Args, Clone, Debug)]
pub struct Bench {
    /// Signature algorithm: ES256, EdDSA or RS256
    #[arg(long, default_value = "ES256", value_parser = algorithm)]
    pub alg: Algorithm,
    /// SETs a second each way; `50%` of the peak, which is then looked for first; `one` at a time; 0 for idle links
    #[arg(long, default_value = "max", value_name = "N|N%|one|max", value_parser = rate)]
    pub rate: Rate,
    /// Which of the two sends
    #[arg(long, value_enum, default_value_t = Direction::Both)]
    pub direction: Direction,
    /// How the two speak to each other; with several, as in `websocket,push`, each in turn, and how the first compares to the rest
    #[arg(
        id = "transport",
        long,
        value_enum,
        default_value = "websocket",
        value_delimiter = ',',
        value_name = "TRANSPORT,…"
    )]
    pub transports: Vec<Transport>,
    /// Partners that each of the two has, with a connection each; the load goes to all of them in turn
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub partners: u32,
    /// Bytes of claims in a SET
    #[arg(long, default_value_t = 668, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(400..=200_000))]
    pub payload: u32,
    /// Speak TLS; that is the default
    #[arg(long, overrides_with = "no_tls")]
    pub tls: bool,
    /// Speak plaintext
    #[arg(long)]
    pub no_tls: bool,
    /// How long to measure
    #[arg(long, default_value = "10s", value_name = "DUR", value_parser = duration)]
    pub duration: Duration,
    /// How long to run before measuring
    #[arg(long, default_value = "2s", value_name = "DUR", value_parser = duration)]
    pub warmup: Duration,
    /// Relay SETs that were signed beforehand, so that only verification counts: so many each way
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "300000", value_name = "N")]
    pub presigned: Option<u32>,
    /// SETs that wait in the queue of each sender when the measurement starts
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub backlog: u64,
    /// Random jtis that each receiver remembers when the measurement starts
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub tombstones: u64,
    /// As if the disk took so much longer to sync a commit
    #[arg(long, default_value = "0ms", value_name = "DUR", value_parser = duration)]
    pub commit_delay: Duration,
    /// A further partner of the first side that takes SETs and never answers, with so many queued for it
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub mute: u64,
    /// A further partner of the second side that sends the same SETs again and again, over eight WebSockets, as fast as they
    /// are taken
    #[arg(long, value_enum, value_name = "KIND")]
    pub flood: Option<Flood>,
    /// Callers of `send` at the same time, on each side
    #[arg(long, default_value_t = 512, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub callers: u32,
    /// SETs of each side that may wait for their ack before its callers pause, where the rate is `max`
    #[arg(long, default_value_t = 4096, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub unsettled: u32,
    /// Runs in a row, whose medians are printed last
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
    /// Start a side again with its queue as it is, and measure how long it takes to be ready
    #[arg(long)]
    pub restart: bool,
    /// A partner to send to instead of a second side: the URL of its push-pull endpoint. It has to allow the bench, which the
    /// first run tells how
    #[arg(
        long, value_name = "URL", requires_all = ["identity", "audience"],
        conflicts_with_all = ["direction", "transport", "partners", "tls", "no_tls", "presigned", "backlog", "tombstones", "mute", "flood", "runs", "restart", "svg"]
    )]
    pub target: Option<String>,
    /// With --target: by which the partner knows the bench, a folder that is made if it is not there
    #[arg(long, value_name = "DIR", requires = "target")]
    pub identity: Option<PathBuf>,
    /// With --target: the `aud` that the partner expects, most often its issuer
    #[arg(long, value_name = "URL", requires = "target")]
    pub audience: Option<String>,
    /// With --target: `sha256/…` of the public key in the partner's certificate, instead of the public authorities
    #[arg(long, value_name = "PIN", requires = "target")]
    pub tls_pin: Option<String>,
    /// Draw throughput over time and the distribution of latency, of the last run by the first transport
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Where the two keep their files [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// A partner somewhere else.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its push-pull endpoint.
    pub url: String,
    /// By which it knows us.
    pub identity: PathBuf,
    /// What it expects as `aud`.
    pub audience: String,
    /// Of its certificate.
    pub tls_pin: Option<String>,
}

impl Bench {
    /// How the two speak to each other in the run at hand.
    pub fn transport(&self) -> Transport {
        self.transports.first().copied().unwrap_or(Transport::Websocket)
    }

    /// The same for each transport alone.
    pub fn each(&self) -> Vec<Self> {
        self.transports.iter().map(|transport| Self { transports: vec![*transport], ..self.clone() }).collect()
    }

    /// The partner to send to, if it is not a side of our own.
    pub fn target(&self) -> Option<Target> {
        let (url, identity, audience) = (self.target.clone()?, self.identity.clone()?, self.audience.clone()?);
        Some(Target { url, identity, audience, tls_pin: self.tls_pin.clone() })
    }
}

/// How fast SETs are handed in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// As fast as they are settled.
    Max,
    /// So many a second, whatever becomes of them.
    Fixed(f64),
    /// So much of what was reached with [`Rate::Max`] just before.
    OfPeak(f64),
    /// The next when the one before is settled.
    One,
}

/// Who sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Direction {
    /// Both.
    Both,
    /// The side that dials.
    One,
}

/// What a partner that floods has signed its SETs with.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Flood {
    /// ES256.
    Replayed,
    /// RS256 by an unnamed key among large ones, so that each of four is tried.
    Costly,
}

/// How the two speak to each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Transport {
    /// Over WebSockets, which the first side opens.
    #[value(alias = "ws")]
    Websocket,
    /// Over HTTP requests of both.
    Http,
    /// Each pushes what it sends, one SET a request (RFC 8935).
    Push,
    /// Each pushes what it sends, many SETs a request.
    MultiPush,
    /// Each collects what the other sends (RFC 8936).
    Poll,
}

fn rate(text: &str) -> Result<Rate, String> {
    let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    match text {
        "max" => Ok(Rate::Max),
        "one" => Ok(Rate::One),
        _ => match text.strip_suffix('%') {
            Some(part) => number(part).filter(|part| *part > 0.0).map(|part| Rate::OfPeak(part / 100.0)),
            None => number(text).filter(|rate| *rate == 0.0 || *rate >= 0.1).map(Rate::Fixed),
        }
        .ok_or_else(|| {
            "expected SETs a second such as 500 (0, or 0.1 and more), a part of the peak such as 50%, one, or max"
                .to_owned()
        }),
    }
}

//! What the user typed. Every flag is defined here once; `--help` follows from it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::parse_duration;
use crate::set::{Algorithm, json};

mod bench;
mod dlq;
mod peer;
mod replay;
#[cfg(test)]
mod tests;

pub use bench::{Bench, Direction, Flood, Rate, Target, Transport};
pub use dlq::{Dlq, Event, Which};
pub use peer::{Add, Card, Peer, Rm};
pub use replay::Replay;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "pushpull",
    about = "Federates Security Event Tokens with partners, both ways at once, without losing or doubling one",
    after_help = "Start with:\n  pushpull demo\n  pushpull init --issuer https://signals.acme.example\n\nExit codes: 0 done, \
        1 failed, 2 usage, 3 configuration invalid, 4 daemon unreachable, 5 not allowed, 6 no such peer, event or key, \
        7 conflict, 8 the partner refused or failed, 9 timed out while waiting, 10 partly done, 70 storage failed.",
    disable_version_flag = true,
    disable_help_subcommand = true,
    subcommand_required = false
)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// Print the version and end
    #[arg(short = 'V', long)]
    pub version: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What every command takes.
#[derive(Args, Clone, Debug, Default)]
pub struct Global {
    /// Configuration file [default: ./pushpull.toml]
    #[arg(short, long, global = true, value_name = "FILE", env = "PUSHPULL_CONFIG")]
    pub config: Option<PathBuf>,
    /// Address of the admin API, instead of `admin.listen`
    #[arg(long, global = true, value_name = "ADDR")]
    pub admin: Option<String>,
    /// File with the admin API's bearer token, instead of `admin.token_file`
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Two organisations on this machine that send each other events
    #[command(after_help = "Example:\n  pushpull demo --for 10s")]
    Demo(Demo),
    /// Measure how many SETs a second this machine federates, and what they cost
    #[command(after_help = bench::HELP)]
    Bench(Bench),
    /// One side of `bench`, which starts it itself
    #[command(hide = true)]
    BenchSide,
    /// Make a configuration, a signing key, a certificate and an admin token
    #[command(
        after_help = "Example:\n  pushpull init --issuer https://signals.acme.example\n\nNothing is ever overwritten: \
        if a file is there already, nothing is made and the exit code is 7."
    )]
    Init(Init),
    /// Run the daemon
    #[command(after_help = "Example:\n  pushpull serve --check && pushpull serve\n\nSIGTERM drains and ends; \
        SIGHUP or `pushpull reload` rereads the configuration.")]
    Serve(Serve),
    /// Have the daemon reread its configuration and the files it names, and print what changed
    #[command(after_help = RELOAD_HELP)]
    Reload,
    /// Partners: pair, list, try the link, pause, remove
    Peer {
        /// What to do.
        #[command(subcommand)]
        command: Peer,
    },
    /// Send one event, or many from a file
    #[command(after_help = SEND_HELP)]
    Send(Send),
    /// Print received SETs as JSON Lines
    #[command(after_help = TAIL_HELP)]
    Tail(Tail),
    /// Those who read the inbox by a name: each keeps what it has not confirmed
    Consumer {
        /// What to do.
        #[command(subcommand)]
        command: Consumer,
    },
    /// One line for each partner: link, queue, counts
    #[command(after_help = "Example:\n  pushpull status globex --json")]
    Status {
        /// Only this partner
        peer: Option<String>,
    },
    /// What a code of an error means, who has to act and what to do
    #[command(after_help = "Examples:\n  pushpull explain invalid_audience\n  pushpull explain      # lists all codes")]
    Explain {
        /// The code, as it stands in brackets behind `error`, in the API's `code`, or in a log line
        code: Option<String>,
    },
    /// What became of one SET
    Event {
        /// What to do.
        #[command(subcommand)]
        command: Event,
    },
    /// SETs that were refused or never answered
    Dlq {
        /// What to do.
        #[command(subcommand)]
        command: Dlq,
    },
    /// Say again what was said to a partner since some time
    #[command(after_help = replay::HELP)]
    Replay(Replay),
    /// Sign, read and verify SETs without a daemon
    Set {
        /// What to do.
        #[command(subcommand)]
        command: Set,
    },
    /// Signing keys
    Key {
        /// What to do.
        #[command(subcommand)]
        command: Key,
    },
}

const RELOAD_HELP: &str = "Example:
  pushpull serve --check && pushpull reload

The same as SIGHUP, but it waits and prints. Peers, tokens, partners' keys, certificate, log.level, network.allow, limits and
intervals are taken over while everything runs; what needs a restart is named and stays as it is. A configuration that cannot
be used changes nothing: every fault is printed, and the exit code is 3.";

const SEND_HELP: &str = "Examples:
  pushpull send globex caep:session-revoked --subject email:ana@acme.example --claim reason_admin='{\"en\":\"stolen\"}' --wait
  pushpull send globex -f events.jsonl --retry-for 10m

A subject is FORMAT:VALUE: email:a@b.example, phone_number:+123, opaque:ID, iss_sub:ISSUER,SUBJECT, uri:…, account:acct:…, did:…,
or a whole Subject Identifier as JSON.

A line of the file is {\"type\", \"sub_id\", \"event\", \"jti\"?, \"txn\"?} or {\"claims\"} or {\"set\"}. The output is one
{\"line\",\"jti\",\"error\"?,\"code\"?} a line, in order, on stdout: a line without \"error\" is durable. With the printed jtis the same
lines can be sent again without doubling anything. When the daemon is away for longer than --retry-for, reading stops there:
lines without a line of output were not taken either. Exit code 0: all, 10: some, 1: none, 4: the daemon was unreachable.";

const TAIL_HELP: &str = "Examples:
  pushpull tail --follow
  pushpull tail --consumer siem --confirm --follow

Without a consumer nothing changes: the whole kept inbox is printed. With one, reading starts where that consumer confirmed
last; --confirm confirms what was printed, after it was printed. A consumer has one position for the whole inbox: with PEER
and --confirm it passes over the other partners' SETs, so use a consumer of its own.";

/// `consumer`
#[derive(Debug, Subcommand)]
pub enum Consumer {
    /// How far each has confirmed, and how much is behind that
    #[command(visible_alias = "list", after_help = "Example:\n  pushpull consumer ls")]
    Ls,
    /// Forget one that is gone, so that nothing is kept for it any more
    #[command(
        after_help = "Example:\n  pushpull consumer rm siem\n\nWhat it has not confirmed is not removed before the others have \
        confirmed it. One that reads again under this name begins with what is kept then."
    )]
    Rm {
        /// Its name
        name: String,
    },
}

/// `demo`
#[derive(Args, Debug)]
pub struct Demo {
    /// End by itself after this time [default: 10s when not on a terminal]
    #[arg(long = "for", value_name = "DUR", value_parser = duration)]
    pub run_for: Option<Duration>,
    /// How the two speak to each other
    #[arg(long, value_enum, default_value_t = DemoTransport::Websocket)]
    pub transport: DemoTransport,
    /// Where the two keep their files [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// How the demo's organisations speak to each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum DemoTransport {
    /// Over a WebSocket.
    Websocket,
    /// Over HTTP requests.
    Http,
}

/// `init`
#[derive(Args, Debug)]
pub struct Init {
    /// Where to put the files
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// `iss` of what we sign: an https URL that stays ours
    #[arg(long, value_name = "URL")]
    pub issuer: String,
    /// Address on which partners reach us [default: 0.0.0.0:8443]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Address of the admin API [default: 127.0.0.1:8480]
    #[arg(long, value_name = "ADDR")]
    pub admin_listen: Option<SocketAddr>,
    /// Signature algorithm of the first key: ES256, EdDSA or RS256
    #[arg(long, default_value = "ES256", value_parser = algorithm)]
    pub alg: Algorithm,
}

/// `serve`
#[derive(Args, Debug)]
pub struct Serve {
    /// Check the configuration and the files it names, then end
    #[arg(long)]
    pub check: bool,
}

/// `send`
#[derive(Args, Debug)]
pub struct Send {
    /// The partner
    pub peer: String,
    /// Event type: a short name such as caep:session-revoked, or its URI
    #[arg(value_name = "TYPE", required_unless_present = "file")]
    pub event_type: Option<String>,
    /// Whom it is about, FORMAT:VALUE or JSON
    #[arg(long, value_name = "SUBJECT", required_unless_present = "file")]
    pub subject: Option<String>,
    /// A member of the event; the value is JSON, else a text. May be given several times
    #[arg(long = "claim", value_name = "K=V", value_parser = claim)]
    pub claims: Vec<(String, serde_json::Value)>,
    /// Transaction identifier that joins related events
    #[arg(long)]
    pub txn: Option<String>,
    /// Identity of the SET [default: a new UUID]
    #[arg(long)]
    pub jti: Option<String>,
    /// Wait for the partner's answer, at most so long
    #[arg(long, value_name = "DUR", num_args = 0..=1, require_equals = true, default_missing_value = "30s", value_parser = duration)]
    pub wait: Option<Duration>,
    /// JSON Lines to send instead, one event a line; `-` for stdin
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["event_type", "subject", "claims", "txn", "jti", "wait"])]
    pub file: Option<PathBuf>,
    /// Repeat for so long while the daemon is away or overloaded
    #[arg(long, value_name = "DUR", value_parser = duration, conflicts_with = "event_type")]
    pub retry_for: Option<Duration>,
    /// Lines a request
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub batch: u32,
}

/// `tail`
#[derive(Args, Debug)]
pub struct Tail {
    /// Only SETs of this partner
    pub peer: Option<String>,
    /// Read as this consumer, from where it confirmed last
    #[arg(long, value_name = "NAME")]
    pub consumer: Option<String>,
    /// Confirm what was printed
    #[arg(long, requires = "consumer")]
    pub confirm: bool,
    /// Do not end; print what arrives, also when the daemon has been started again
    #[arg(short, long)]
    pub follow: bool,
    /// End after so many SETs
    #[arg(long, value_name = "N")]
    pub max: Option<u64>,
}

/// `set …`
#[derive(Debug, Subcommand)]
pub enum Set {
    /// Sign claims, and print the compact SET
    #[command(
        after_help = "Example:\n  pushpull set sign --key keys/acme-1.pem -f claims.json\n\nWith a configuration the key \
        is the active one, and iss, iat and jti are filled in where they are absent."
    )]
    Sign {
        /// Private key, PEM; the file's stem is the kid
        #[arg(long, value_name = "FILE", conflicts_with = "kid")]
        key: Option<PathBuf>,
        /// One of the configuration's keys [default: the active one]
        #[arg(long)]
        kid: Option<String>,
        /// The claims as JSON; `-` for stdin
        #[arg(short, long, value_name = "FILE", default_value = "-")]
        file: PathBuf,
    },
    /// Print a SET's header and claims, without verifying anything
    #[command(after_help = "Example:\n  pushpull set decode set.jwt")]
    Decode {
        /// The compact SET; `-` for stdin
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Check a SET rule by rule
    #[command(
        after_help = "Examples:\n  pushpull set verify set.jwt --against globex\n  pushpull set verify - --jwks jwks.json \
        --iss https://signals.globex.example --aud https://signals.acme.example\n\nExit code 1: the SET is invalid."
    )]
    Verify(Verify),
}

/// `set verify`
#[derive(Args, Debug)]
pub struct Verify {
    /// The compact SET; `-` for stdin
    #[arg(default_value = "-")]
    pub file: PathBuf,
    /// The partner of the configuration from whom it comes
    #[arg(long, value_name = "PEER", conflicts_with_all = ["jwks", "iss", "aud"], required_unless_present = "jwks")]
    pub against: Option<String>,
    /// The issuer's JWK Set
    #[arg(long, value_name = "FILE", requires = "iss", requires = "aud")]
    pub jwks: Option<PathBuf>,
    /// The issuer
    #[arg(long, value_name = "URL", requires = "jwks")]
    pub iss: Option<String>,
    /// The audience
    #[arg(long, value_name = "URL", requires = "jwks")]
    pub aud: Option<String>,
}

/// `key …`
#[derive(Debug, Subcommand)]
pub enum Key {
    /// List the signing keys
    #[command(visible_alias = "list")]
    Ls,
    /// Make a further signing key
    #[command(
        after_help = "Example:\n  pushpull key new --alg EdDSA\n\nA running daemon takes it when it is told to: \
        pushpull key rotate --kid KID. One that starts publishes it."
    )]
    New {
        /// Signature algorithm: ES256, EdDSA or RS256
        #[arg(long, default_value = "ES256", value_parser = algorithm)]
        alg: Algorithm,
        /// Its name [default: the last one, counted up]
        #[arg(long)]
        kid: Option<String>,
    },
    /// Publish a key and, when partners could fetch it, sign with it
    #[command(after_help = ROTATE_HELP)]
    Rotate {
        /// Signature algorithm of a new key: ES256, EdDSA or RS256 [default: that of the key that signs]
        #[arg(long, value_parser = algorithm)]
        alg: Option<Algorithm>,
        /// A key of the directory that has not signed yet, or the name of a new one [default: the last one, counted up]
        #[arg(long)]
        kid: Option<String>,
        /// Sign with it at once; also ends a rotation that is under way
        #[arg(long)]
        now: bool,
    },
    /// Take a key out of /jwks.json, and remove its private file
    #[command(after_help = RETIRE_HELP)]
    Retire {
        /// The key
        kid: String,
        /// Also while unsettled SETs are signed with it
        #[arg(long)]
        now: bool,
    },
}

const ROTATE_HELP: &str = "Examples:
  pushpull key rotate
  pushpull key rotate --alg EdDSA --kid acme-2027
  pushpull key rotate --now

The running daemon makes the key and publishes it at once; after keys.publish_wait it signs. The old key stays published until
the last SET that it signed is settled, then it retires by itself. `pushpull key ls` shows how far that is. With --now partners
that keep our keys for a while may refuse what the new key signs until they refresh.";

const RETIRE_HELP: &str = "Examples:
  pushpull key retire acme-1
  pushpull key retire acme-1 --now

Keys that were rotated away retire by themselves; this is for sooner, for keys that never signed, and for calling a rotation
off. Exit code 7: the key signs, or unsettled SETs need it. With --now partners refuse those SETs as invalid_key.";

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a number and a unit, such as 250ms, 10s, 5m or 2h".to_owned())
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    match text.parse() {
        Ok(algorithm @ (Algorithm::Es256 | Algorithm::EdDsa | Algorithm::Rs256)) => Ok(algorithm),
        _ => Err("expected ES256, EdDSA or RS256".to_owned()),
    }
}

/// A member of an event: what reads as JSON is JSON, everything else is a text.
fn claim(text: &str) -> Result<(String, serde_json::Value), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => {
            let value = match json::value(value.as_bytes()) {
                Ok(value) => value,
                Err(error) if serde_json::from_str::<serde::de::IgnoredAny>(value).is_ok() => {
                    return Err(format!("{key}: {error}"));
                }
                Err(_) => value.into(),
            };
            Ok((key.to_owned(), value))
        }
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

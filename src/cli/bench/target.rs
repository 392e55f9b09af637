//! The load against a partner's own Transceiver, one way. The partner has to allow it: it knows the bench by an identity of
//! its own, and takes events of the bench's type alone.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::bound::{self, Bound};
use super::pair::{BOUND, begin, order, pace};
use super::plan::{Allowed, Ended, Measured, Opened, Order, Plan, Remote};
use super::process::Process;
use super::report::{self, Reached, latency_json, latency_text, stages_json, stages_text};
use super::{environment, side};
use crate::auth::Secret;
use crate::cli::args::{Bench, Rate, Target};
use crate::cli::{Error, Exit, output};
use crate::set::{KeySet, install_crypto};
use crate::wire::net::{self, Pin};

/// The type of the events that are sent: a partner allows them with `accept = ["bench:*"]`.
pub(super) const EVENT: &str = "bench:load";

/// By which the partner knows us. `iss` is `https://bench.example`.
const NAME: &str = "bench";

/// One run against a partner.
pub(super) struct Report {
    target: String,
    environment: Value,
    bound: Bound,
    reached: Reached,
    measured: Measured,
    ended: Ended,
    linked: u64,
}

/// Makes the identity if it is not there, says what the partner has to be given, and is done; otherwise `None`.
pub(super) fn introduce(args: &Bench, target: &Target, as_json: bool) -> Result<Option<Exit>, Error> {
    check(args, target)?;
    let identity = Identity(&target.identity);
    if identity.is_there(args)? {
        return Ok(None);
    }
    identity.make(args)?;
    let folder = target.identity.display();
    if as_json {
        output::json(&json!({
            "ok": true, "made": target.identity, "jwks_file": identity.jwks(), "token_file": identity.token(),
            "peer": identity.block(),
        }))?;
    } else {
        output::line(&format!(
            "Made an identity for the bench in {folder}. Before it can run, the partner has to allow it.\n\
             Give the partner {folder}/jwks.json and {folder}/token (as a secret), to lie beside its configuration, and this\n\
             for the configuration:\n\n{}\n\
             The events of a bench are of the type {EVENT} and tell of nothing; they come into the partner's inbox like all\n\
             others. Then run the same command again.",
            identity.block()
        ))?;
    }
    Ok(Some(Exit::Done))
}

/// One run, with its store in this folder.
pub(super) async fn run(args: &Bench, target: &Target, folder: &Path) -> Result<Report, Error> {
    begin(folder)?;
    let environment = environment::describe(folder);
    let bench = bound::Bench::new(args.alg, args.payload as usize * 4 / 3 + 90, false)?;
    let bound = tokio::task::spawn_blocking(move || bench.measure(BOUND));
    let bound = bound.await.map_err(|_| Error::failed("a thread has ended"))?;
    let mut side = Process::start(NAME)?;
    let plan = Plan {
        name: NAME.to_owned(),
        dir: folder.to_owned(),
        identity: Some(target.identity.clone()),
        alg: args.alg.as_str().to_owned(),
        tls: false,
        payload: args.payload as usize,
        commit_delay: args.commit_delay,
        sends: true,
        presigned: None,
        backlog: 0,
        tombstones: 0,
        mute: 0,
    };
    let _: Opened = side.ask(&Order::Open(plan)).await?;
    let token = Secret::read_file(&Identity(&target.identity).token()).map_err(|error| {
        Error::new(Exit::ConfigInvalid, format!("the token of the bench: {error}"))
            .fix("remove it to have a new one made")
    })?;
    let remote = Remote {
        target: target.url.clone(),
        pin: target.tls_pin.clone(),
        audience: target.audience.clone(),
        token: token.expose().to_owned(),
    };
    let linked = match side.ask(&Order::Target(remote)).await? {
        Allowed::Yes(memory) => memory,
        Allowed::Refused(why) => {
            return Err(Error::new(
                Exit::PartnerRefused,
                format!("the partner does not take what the bench sends: {why}"),
            )
            .fix(format!(
                "the partner has to have accept = [\"bench:*\"] for us; name its audience with --audience if that is not {}",
                target.audience
            )));
        }
        Allowed::Silent(why) => {
            return Err(Error::new(Exit::PartnerRefused, format!("no ack from {}: {why}", target.url)).fix(format!(
                "if the address is right: the partner has to know the bench by jwks.json and token in {}",
                target.identity.display()
            )));
        }
    };
    let measured: Measured = side.ask(&order(args, pace(args.rate), true)).await?;
    let ended: Ended = side.ask(&Order::End).await?;
    side.ended().await?;
    // The partner's side counts for nothing, and its SETs are ours.
    let stages = measured.stages.iter().map(|(name, _)| (name.clone(), 0.0)).collect();
    let partner = Measured { stages, stage_sets: measured.stage_sets, ..Measured::default() };
    let reached = Reached::of(&[measured.clone(), partner]);
    Ok(Report { target: target.url.clone(), environment, bound, reached, measured, ended, linked: linked.rss })
}

impl Report {
    /// Everything was acked.
    pub(super) fn ok(&self) -> bool {
        self.ended.sent > 0 && self.ended.acked == self.ended.sent && self.ended.queued == 0
    }

    fn ratio(&self) -> f64 {
        self.reached.rate() / self.bound.sets.max(1e-9)
    }

    pub(super) fn to_json(&self, args: &Bench) -> Value {
        let Ended { sent, acked, queued, rss, .. } = self.ended;
        json!({
            "ok": self.ok(), "target": self.target, "seconds": self.measured.seconds, "environment": self.environment,
            "settings": {
                "alg": args.alg.as_str(), "rate": report::rate(args.rate), "payload_bytes": args.payload,
                "commit_delay_ms": args.commit_delay.as_secs_f64() * 1e3, "callers": args.callers,
                "unsettled": args.unsettled, "warmup_s": args.warmup.as_secs_f64(),
                "duration_s": args.duration.as_secs_f64(),
            },
            "bound": self.bound.to_json(), "ratio": self.ratio(),
            "sets_per_s": self.reached.rate(), "bytes_per_s": self.reached.bytes_per_s[0].round(), "sent": sent,
            "acked": acked, "unacked": self.measured.unacked, "queued_after": queued,
            "under_way": self.measured.under_way, "latency": latency_json(&self.reached.latency),
            "cpu_us_per_set": stages_json(&self.reached),
            "rss_bytes": { "linked": self.linked, "running": self.measured.rss, "rested": rss },
        })
    }

    pub(super) fn to_text(&self, args: &Bench) -> String {
        let Ended { sent, acked, queued, .. } = self.ended;
        let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
        [
            environment::line(&self.environment),
            format!("to {}: {}, claims of {} bytes, rate {}", self.target, args.alg, args.payload, report::rate(args.rate)),
            String::new(),
            format!(
                "  sent           {:>9.0} SETs/s  {:>6.1} MB/s   sent {sent}, acked {acked}, not acked {}, queued {queued}",
                self.reached.rate(), self.reached.bytes_per_s[0] / 1e6, self.measured.unacked
            ),
            format!(
                "  in all         {:.2} of the {:.0} SETs/s that this machine signs and verifies on all cores",
                self.ratio(), self.bound.sets
            ),
            format!("  accept to ack  {}", latency_text(&self.reached.latency)),
            format!("  CPU a SET      {:.1} us on this side{}", self.reached.cpu, stages_text(&self.reached)),
            format!(
                "  memory, MiB    linked {:.1}, running {:.1}, rested {:.1}",
                mib(self.linked), mib(self.measured.rss), mib(self.ended.rss)
            ),
            format!("  {}", if self.ok() { "ok: every SET was acked" } else { "NOT OK: SETs were not acked" }),
        ]
        .join("\n")
    }
}

/// The files by which a partner knows the bench.
struct Identity<'a>(&'a Path);

impl Identity<'_> {
    fn jwks(&self) -> PathBuf {
        self.0.join("jwks.json")
    }

    /// Made last, so that it is there when all is.
    fn token(&self) -> PathBuf {
        self.0.join("token")
    }

    /// It has been made, and for this algorithm. A folder with anything else in it is somebody else's.
    fn is_there(&self, args: &Bench) -> Result<bool, Error> {
        let there = [self.jwks(), self.token(), side::key_path(self.0)].map(|file| file.exists());
        if there == [true; 3] {
            install_crypto();
            let key = side::signing_key(self.0, args.alg.as_str(), NAME)?;
            if key.algorithm() != args.alg {
                let what =
                    format!("the bench's identity in {} signs {}, not {}", self.0.display(), key.algorithm(), args.alg);
                return Err(Error::new(Exit::Conflict, what).fix("name another --identity, or this --alg"));
            }
            return Ok(true);
        }
        let is_empty = std::fs::read_dir(self.0).map_or(true, |mut files| files.next().is_none());
        if is_empty {
            return Ok(false);
        }
        let what = format!("{} is no identity of the bench: it lacks key.pem, jwks.json or token", self.0.display());
        Err(Error::new(Exit::Conflict, what).fix("name a folder that is not there yet as --identity"))
    }

    fn make(&self, args: &Bench) -> Result<(), Error> {
        use std::os::unix::fs::DirBuilderExt as _;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(self.0);
        made.map_err(|error| Error::unwritable(self.0, &error))?;
        install_crypto();
        let key = side::signing_key(self.0, args.alg.as_str(), NAME)?;
        let jwks = KeySet::of([key.public_jwk()]).to_json().to_string();
        std::fs::write(self.jwks(), jwks).map_err(|error| Error::unwritable(&self.jwks(), &error))?;
        let token = Secret::mint().and_then(|token| token.write_file(&self.token()));
        token.map_err(|error| Error::failed(format!("the token of the bench: {error}")))
    }

    /// What the partner writes into its configuration.
    fn block(&self) -> String {
        let issuer = side::issuer(NAME);
        format!(
            "[[peer]]\nname = \"{NAME}\"\nissuer = \"{issuer}\"\njwks_file = \"jwks.json\"\ntransport = \"none\"\n\
             accept_token_file = \"token\"\nsend = []\naccept = [\"bench:*\"]\n"
        )
    }
}

/// Refuses what cannot be had of a partner.
fn check(args: &Bench, target: &Target) -> Result<(), Error> {
    let usage = |what: String| Error::new(Exit::Usage, what);
    if matches!(args.rate, Rate::OfPeak(_)) || args.rate == Rate::Fixed(0.0) {
        return Err(usage("with --target the rate is a number above zero, max or one".to_owned()));
    }
    let url = net::Target::parse(&target.url).map_err(|error| usage(format!("--target {}: {error}", target.url)))?;
    if let Some(pin) = &target.tls_pin {
        if !url.is_secure() {
            return Err(usage("--tls-pin: without TLS there is no certificate to pin".to_owned()));
        }
        Pin::parse(pin).map_err(|error| usage(format!("--tls-pin: {error}")))?;
    }
    Ok(())
}

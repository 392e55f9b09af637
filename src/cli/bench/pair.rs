//! One run: both sides started and linked, the load, the accounts, and what the machine can do before and after.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::accounts::Accounts;
use super::bound::{self, Bound};
use super::environment;
use super::floor::Floor;
use super::load;
use super::plan::{Dialled, Ended, Filled, Flooding, Measured, Memory, Opened, Order, Pace, Partners, Plan, Run};
use super::process::Process;
use super::report::{Reached, Report, Resident, Restarted};
use super::side;
use super::{flood, mute};
use crate::auth::Secret;
use crate::cli::args::{Bench, Direction, Rate, Transport};
use crate::cli::{Error, Exit};

/// How long the bare cryptography is measured, before and after.
pub(super) const BOUND: Duration = Duration::from_millis(1500);

/// How long the CPU time of the stages is taken, after the measurement.
const STAGES: Duration = Duration::from_secs(2);

/// Callers and SETs under way where the rate is fixed make no difference: the load is open.
const NAMES: [&str; 2] = ["alpha", "beta"];

/// The signing keys of both sides, which stay the same from run to run: made by the first.
#[derive(Default)]
pub(super) struct Keys([Option<Vec<u8>>; 2]);

impl Keys {
    /// Gives them to the sides of a run that begins.
    fn give(&self, folder: &Path) -> std::io::Result<()> {
        for (name, key) in NAMES.iter().zip(&self.0) {
            let Some(pem) = key else { continue };
            std::fs::create_dir(folder.join(name))?;
            let path = side::key_path(&folder.join(name));
            std::fs::File::options().write(true).create_new(true).mode(0o600).open(path)?.write_all(pem)?;
        }
        Ok(())
    }

    fn keep(&mut self, folder: &Path) {
        for (name, key) in NAMES.iter().zip(&mut self.0) {
            *key = std::fs::read(side::key_path(&folder.join(name))).ok();
        }
    }
}

/// One run, with its files in this folder.
pub(super) async fn run(args: &Bench, folder: &Path, keys: &mut Keys) -> Result<Report, Error> {
    begin(folder)?;
    keys.give(folder).map_err(|error| Error::unwritable(folder, &error))?;
    let environment = environment::describe(folder);
    let tls = args.tls || !args.no_tls;
    // A compact SET is a third longer than its claims, and has a header and a signature.
    let signed = args.payload as usize * 4 / 3 + 90;
    let bench = bound::Bench::new(args.alg, signed, args.presigned.is_some())?;
    let measured = |bench: &std::sync::Arc<bound::Bench>| {
        let bench = std::sync::Arc::clone(bench);
        tokio::task::spawn_blocking(move || bench.measure(BOUND))
    };
    let gone = |_| Error::failed("a thread has ended");
    let before = measured(&bench).await.map_err(gone)?;
    let floor = Floor::measure(folder, signed + 100, args.commit_delay).await?;

    let tokens = (0..args.partners).map(|_| Secret::mint()).collect::<Result<Vec<_>, _>>();
    let tokens = tokens.map_err(|error| Error::failed(error.to_string()))?;
    let mute_token = Secret::mint().map_err(|error| Error::failed(error.to_string()))?;
    let flood_token = Secret::mint().map_err(|error| Error::failed(error.to_string()))?;
    let plans = NAMES.map(|name| Plan {
        name: name.to_owned(),
        dir: folder.join(name),
        identity: None,
        alg: args.alg.as_str().to_owned(),
        tls,
        payload: args.payload as usize,
        commit_delay: args.commit_delay,
        sends: args.rate != Rate::Fixed(0.0) && (name == NAMES[0] || args.direction == Direction::Both),
        presigned: args
            .presigned
            .map(|count| count as usize)
            .filter(|_| name == NAMES[0] || args.direction == Direction::Both),
        backlog: if name == NAMES[0] || args.direction == Direction::Both { args.backlog } else { 0 },
        tombstones: args.tombstones,
        mute: if name == NAMES[0] { args.mute } else { 0 },
    });
    let mut sides = [Process::start(NAMES[0])?, Process::start(NAMES[1])?];
    let opened = open(&mut sides, &plans).await?;
    keys.keep(folder);
    let link = Link { args, plans: &plans, tokens: &tokens, mute_token: &mute_token, flood_token: &flood_token };
    let draft = Arc::new(load::draft(args.payload as usize)?);
    let messages = args.flood.map(|kind| flood::prepare(kind, NAMES[1], &draft, &link.flood_keys())).transpose()?;
    // The one that is dialled first.
    let [alpha, beta] = &mut sides;
    let filled_beta: Filled = beta.ask(&Order::Partners(link.partners(1, &opened))).await?;
    let filled_alpha: Filled = alpha.ask(&Order::Partners(link.partners(0, &opened))).await?;
    let muted = match args.mute {
        0 => None,
        _ => Some(mute::connect(&opened[0].address, opened[0].pin.as_deref(), &mute_token).await?),
    };
    let linked: [Memory; 2] = both(&mut sides, &Order::Link, &Order::Link).await?;

    let flooding = match messages {
        None => None,
        Some(messages) => {
            Some(flood::begin(&opened[1].address, opened[1].pin.as_deref(), &flood_token, messages).await?)
        }
    };

    let (peak, rate) = match args.rate {
        Rate::OfPeak(part) => {
            let peak = measure(&mut sides, args, Pace::Max, false).await?;
            let rate = part * peak.iter().map(|side| side.settled as f64 / side.seconds).fold(0.0, f64::max);
            (Some(peak), Pace::Fixed(rate))
        }
        rate => (None, pace(rate)),
    };
    let measured_sides = measure(&mut sides, args, rate, true).await?;
    let flood_ended = flooding.map(flood::Flood::end).transpose();
    let ended: [Ended; 2] = both(&mut sides, &Order::End, &Order::End).await?;
    if let Some(muted) = muted {
        muted.abort();
    }
    let flooded = flood_ended?;
    for side in sides {
        side.ended().await?;
    }
    let restarted = if args.restart { Some(restart(&link, &plans).await?) } else { None };
    let after = measured(&bench).await.map_err(gone)?;

    let queued_before = [filled_alpha.queued, filled_beta.queued];
    let accounts = [
        Accounts::of(&plans[0].dir, &plans[1].dir, ended[0].queued)?,
        Accounts::of(&plans[1].dir, &plans[0].dir, ended[1].queued)?,
    ];
    let bound: Bound = before.mean(after);
    let resident = |part: &dyn Fn(usize) -> u64| [part(0), part(1)];
    Ok(Report {
        environment,
        bound,
        floor,
        accounts,
        queued_before,
        queued_after: [ended[0].queued, ended[1].queued],
        reached: Reached::of(&measured_sides),
        peak: peak.map(|peak| Reached::of(&peak)),
        resident: Resident {
            empty: resident(&|side| opened[side].rss),
            linked: resident(&|side| linked[side].rss),
            running: resident(&|side| measured_sides[side].rss),
            rested: resident(&|side| ended[side].rss),
        },
        restarted,
        flooded,
        leaves_a_backlog: args.backlog > 0,
        is_idle: args.rate == Rate::Fixed(0.0),
        sides: measured_sides,
    })
}

/// What does not change while a run lasts.
struct Link<'a> {
    args: &'a Bench,
    plans: &'a [Plan; 2],
    tokens: &'a [Secret],
    mute_token: &'a Secret,
    flood_token: &'a Secret,
}

impl Link<'_> {
    /// Where the partner that floods publishes its keys.
    fn flood_keys(&self) -> PathBuf {
        self.plans[1].dir.join("flood.json")
    }

    fn sends(&self, side: usize) -> bool {
        side == 0 || self.args.direction == Direction::Both
    }

    /// What this side is told of the other.
    fn partners(&self, side: usize, opened: &[Opened; 2]) -> Partners {
        let other = 1 - side;
        let dial = match self.args.transport() {
            Transport::Http => Some(Dialled::Http),
            Transport::Websocket => (side == 0).then_some(Dialled::Websocket),
            Transport::Push => self.sends(side).then_some(Dialled::Push),
            Transport::MultiPush => self.sends(side).then_some(Dialled::MultiPush),
            Transport::Poll => self.sends(other).then_some(Dialled::Poll),
        };
        Partners {
            name: NAMES[other].to_owned(),
            dir: self.plans[other].dir.clone(),
            address: opened[other].address.clone(),
            pin: opened[other].pin.clone(),
            tokens: self.tokens.iter().map(|token| token.expose().to_owned()).collect(),
            mute_token: (side == 0 && self.args.mute > 0).then(|| self.mute_token.expose().to_owned()),
            flood: self
                .args
                .flood
                .filter(|_| side == 1)
                .map(|_| Flooding { token: self.flood_token.expose().to_owned(), keys: self.flood_keys() }),
            dial,
            is_quiet: matches!(self.args.transport(), Transport::Push | Transport::MultiPush),
        }
    }
}

async fn open(sides: &mut [Process; 2], plans: &[Plan; 2]) -> Result<[Opened; 2], Error> {
    both(sides, &Order::Open(plans[0].clone()), &Order::Open(plans[1].clone())).await
}

/// Gives each side its order, and waits for both answers.
async fn both<T: serde::de::DeserializeOwned>(
    sides: &mut [Process; 2],
    first: &Order,
    second: &Order,
) -> Result<[T; 2], Error> {
    let [alpha, beta] = sides;
    let (first, second) = tokio::try_join!(alpha.ask(first), beta.ask(second))?;
    Ok([first, second])
}

async fn measure(sides: &mut [Process; 2], args: &Bench, pace: Pace, stages: bool) -> Result<[Measured; 2], Error> {
    let order = order(args, pace, stages);
    both(sides, &order, &order).await
}

/// Makes a run's folder. A run begins with nothing, and what it finds is somebody else's.
pub(super) fn begin(folder: &Path) -> Result<(), Error> {
    std::fs::create_dir(folder).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::new(Exit::Conflict, format!("{} is there already", folder.display()))
                .fix("name another --dir, or remove it if it is of an earlier bench")
        }
        _ => Error::unwritable(folder, &error),
    })
}

/// How fast a side sends; at full load where the rate is a part of that.
pub(super) fn pace(rate: Rate) -> Pace {
    match rate {
        Rate::Max | Rate::OfPeak(_) => Pace::Max,
        Rate::Fixed(rate) => Pace::Fixed(rate),
        Rate::One => Pace::One,
    }
}

/// To measure so; `stages`: also what each stage costs.
pub(super) fn order(args: &Bench, pace: Pace, stages: bool) -> Order {
    Order::Run(Run {
        pace,
        callers: args.callers as usize,
        unsettled: args.unsettled as usize,
        warmup: args.warmup,
        duration: args.duration,
        stages: if stages { STAGES } else { Duration::ZERO },
    })
}

/// Starts the first side again with its store as it is.
async fn restart(link: &Link<'_>, plans: &[Plan; 2]) -> Result<Restarted, Error> {
    let started = Instant::now();
    let mut side = Process::start(NAMES[0])?;
    let mut plan = plans[0].clone();
    (plan.backlog, plan.tombstones, plan.mute, plan.presigned) = (0, 0, 0, None);
    let opened: Opened = side.ask(&Order::Open(plan)).await?;
    let own = Opened { address: opened.address.clone(), pin: opened.pin.clone(), rss: 0 };
    // Nobody is there to dial; that the queue is known again is what counts.
    let mut partners = link.partners(0, &[own, opened]);
    partners.dial = None;
    let filled: Filled = side.ask(&Order::Partners(partners)).await?;
    let took = started.elapsed();
    let _: Ended = side.ask(&Order::End).await?;
    side.ended().await?;
    Ok(Restarted { seconds: took.as_secs_f64(), queued: filled.queued, rss: filled.rss })
}

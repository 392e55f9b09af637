//! The figures of a run that kept every promise.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::sleep;

use crate::application::Consumed;
use crate::blockade::Blockade;
use crate::killer::Kills;
use crate::organisation::History;
use crate::process::Memory;
use crate::sidings::Terms;
use crate::submission::Submitted;
use crate::world::{Violation, World};

/// What the parts of the run tell, by side.
pub(crate) struct Parts {
    pub(crate) submissions: [Submitted; 2],
    pub(crate) consumptions: [Consumed; 2],
    pub(crate) kills: Kills,
    pub(crate) blockade: Option<Blockade>,
}

/// What was measured when everything was settled, by side.
pub(crate) struct Figures {
    settled_after: Duration,
    histories: [History; 2],
    memories: [Memory; 2],
    cpu: [Duration; 2],
    database_bytes: [u64; 2],
    links: [(usize, usize); 2],
    /// The part of one core that each daemon uses when there is nothing to do.
    idle: [f64; 2],
}

/// A daemon without work must come to rest: this part of a core, within so many seconds.
const IDLE_MOST: f64 = 0.05;
const IDLE_WITHIN: u32 = 60;

impl Figures {
    pub(crate) async fn measure(world: &World, settled_after: Duration) -> Result<Self, Violation> {
        let [alpha, beta] = &world.sides;
        let cpu = [alpha.cpu().await, beta.cpu().await];
        let links = [alpha, beta].map(|side| (side.logged("link up"), side.logged("link down")));
        let histories = [alpha, beta].map(|side| side.history().clone());
        Ok(Self {
            settled_after,
            cpu,
            links,
            idle: rest(world).await?,
            histories,
            memories: [alpha.memory().await, beta.memory().await],
            database_bytes: [alpha.database_bytes(), beta.database_bytes()],
        })
    }
}

/// Waits until both daemons do next to nothing.
async fn rest(world: &World) -> Result<[f64; 2], Violation> {
    let mut idle = [1.0; 2];
    for _ in 0..IDLE_WITHIN {
        let [alpha, beta] = &world.sides;
        let before = [alpha.cpu().await, beta.cpu().await];
        sleep(Duration::from_secs(1)).await;
        let after = [alpha.cpu().await, beta.cpu().await];
        idle = [0, 1].map(|side| after[side].saturating_sub(before[side]).as_secs_f64());
        if idle.iter().all(|idle| *idle <= IDLE_MOST) {
            return Ok(idle);
        }
    }
    Err(Violation::new(format!("the daemons do not come to rest: they use {idle:?} of a core with nothing to do")))
}

/// Everything, to be printed.
pub(crate) struct Report<'a> {
    world: &'a World,
    parts: Parts,
    figures: Figures,
    terms: Terms,
}

/// Of all runs of this process so far: how many, kills, and the terms of the accounts.
static TOTAL: Mutex<(usize, usize, Terms)> = Mutex::new((0, 0, Terms { acked: 0, refused: 0, dead: 0, queued: 0 }));

impl<'a> Report<'a> {
    pub(crate) fn new(world: &'a World, parts: Parts, figures: Figures, terms: Terms) -> Self {
        Self { world, parts, figures, terms }
    }

    /// Says what all runs have come to so far.
    pub(crate) fn add_to_total(&self) {
        let mut total = TOTAL.lock().expect("nobody panicked");
        let (runs, kills, terms) = &mut *total;
        *runs += 1;
        *kills += self.world.kills();
        terms.acked += self.terms.acked;
        terms.refused += self.terms.refused;
        terms.dead += self.terms.dead;
        terms.queued += self.terms.queued;
        println!("chaos kills: {runs} links so far, {kills} kills, {terms}, lost 0, doubled 0");
    }

    /// Median and longest time from a process's start to its being ready, and how many there were.
    fn ready(&self) -> (Duration, Duration, usize) {
        let mut times: Vec<Duration> =
            self.figures.histories.iter().flat_map(|history| history.ready_after.iter().copied()).collect();
        times.sort_unstable();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        (median, times.last().copied().unwrap_or_default(), times.len())
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { world, parts, figures, .. } = self;
        let plan = &world.plan;
        let events = plan.events as f64;
        let per_second = |time: Duration| events / time.as_secs_f64();
        let settled = figures.settled_after;
        writeln!(f, "chaos {:?}: ok, {} events each way in {settled:.1?}, seed {}", plan.link, plan.events, plan.seed)?;
        let [alpha, beta] = &parts.submissions;
        writeln!(
            f,
            "  rates          accepted {:.0}/s and {:.0}/s while submitting, settled {:.0}/s each way over the whole run",
            per_second(alpha.over_after),
            per_second(beta.over_after),
            per_second(settled),
        )?;
        writeln!(
            f,
            "  submissions    unanswered {} and {}, deferred {} and {}, repeated on purpose {} and {}",
            alpha.unanswered, beta.unanswered, alpha.deferred, beta.deferred, alpha.repeated, beta.repeated,
        )?;
        let [at_alpha, at_beta] = &parts.consumptions;
        writeln!(
            f,
            "  applications   crashes {} and {}, unanswered {} and {}, handed out again {} and {}, marked at first {} and {}",
            at_alpha.crashes,
            at_beta.crashes,
            at_alpha.unanswered,
            at_beta.unanswered,
            at_alpha.again,
            at_beta.again,
            at_alpha.over_marked,
            at_beta.over_marked,
        )?;
        let [alpha, beta] = &figures.histories;
        let kills = parts.kills;
        writeln!(
            f,
            "  kills          {} and {}: {} blows at both, {} kills in a submission, {} in an arrival, {} before ready, {} when just ready",
            alpha.kills,
            beta.kills,
            kills.both,
            kills.in_submission,
            kills.in_arrival,
            kills.in_recovery,
            kills.when_ready,
        )?;
        writeln!(f, "  accounts       {}", self.terms)?;
        let (median, longest, starts) = self.ready();
        writeln!(f, "  ready after    median {median:.0?}, longest {longest:.0?}, of {starts} starts")?;
        let [alpha, beta] = figures.memories;
        writeln!(
            f,
            "  memory         {} and {} KiB at the end, {} and {} KiB at most",
            alpha.now, beta.now, alpha.peak, beta.peak
        )?;
        let [alpha, beta] = figures.cpu;
        let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / (2.0 * events);
        writeln!(
            f,
            "  CPU            {alpha:.1?} and {beta:.1?}, {:.0} and {:.0} µs for a SET sent or received; {:.0} % and {:.0} % of a core idle",
            each(alpha),
            each(beta),
            figures.idle[0] * 100.0,
            figures.idle[1] * 100.0,
        )?;
        let [alpha, beta] = figures.database_bytes.map(|bytes| bytes as f64 / f64::from(1 << 20));
        writeln!(f, "  database       {alpha:.1} and {beta:.1} MiB")?;
        let [(alpha_up, alpha_down), (beta_up, beta_down)] = figures.links;
        write!(f, "  links          up {alpha_up} and {beta_up}, down {alpha_down} and {beta_down} times in the logs")?;
        if let Some(blockade) = &parts.blockade {
            write!(f, "\n  blockade       {blockade}")?;
        }
        Ok(())
    }
}

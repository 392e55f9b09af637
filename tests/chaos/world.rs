//! What the parts of a run share: the two organisations, their events, and how far everything is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tempfile::TempDir;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::Link;
use crate::events::Events;
use crate::organisation::Organisation;
use crate::pairing::{Road, free_address, listen, pair};
use crate::plan::Plan;
use crate::proxy::Proxy;
use crate::sidings::{self, Sidings};

/// One run. A side is known by its index: 0 is alpha, 1 is beta.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) sides: [Organisation; 2],
    /// What each side sends.
    pub(crate) events: [Events; 2],
    pub(crate) proxy: Option<Proxy>,
    /// Partners beside the two.
    /// Who is mute and who is nowhere, if they are part of it.
    pub(crate) sidings: Option<Sidings>,
    pub(crate) started: Instant,
    /// Events that each side has taken in for sending.
    pub(crate) accepted: [AtomicUsize; 2],
    /// SETs that each side's application has confirmed.
    pub(crate) confirmed: [AtomicUsize; 2],
    /// Told at each side when a batch of events is about to be submitted.
    pub(crate) submitting: [Notify; 2],
    /// Told when that side has just said that a batch is accepted.
    pub(crate) accepting: [Notify; 2],
    /// The part of the events that may be submitted, as the kills and as the blockade see it: so that neither of them
    /// comes when everything is over.
    pub(crate) may_submit: [watch::Sender<f64>; 2],
    /// A process has stood still for so long that it may give up a connection on which a request had just come.
    pub(crate) stood_still: AtomicBool,
}

/// Indices into [`World::may_submit`].
pub(crate) const BY_KILLS: usize = 0;
pub(crate) const BY_BLOCKADE: usize = 1;

impl World {
    /// Makes both organisations and starts their daemons.
    pub(crate) async fn new(plan: Plan, place: &Path) -> Self {
        let mut road = Road::new(plan.link);
        let mut proxy = None;
        if plan.link == Link::Blockade {
            let address = free_address();
            let listener = listen(&address).await;
            proxy = Some(Proxy::start(listener, road.listens[1].clone()));
            road.through[1] = Some(address);
        }
        let sides = pair(place, &road).await;
        let sidings = Sidings::lay(&sides).await;
        Self::of(plan, sides, proxy, Some(sidings)).await
    }

    /// Starts the daemons of two organisations that are made already.
    pub(crate) async fn of(
        plan: Plan,
        sides: [Organisation; 2],
        proxy: Option<Proxy>,
        sidings: Option<Sidings>,
    ) -> Self {
        sidings::refuse_some(&sides);
        let events = [Events::new(&plan, "alpha", "beta"), Events::new(&plan, "beta", "alpha")];
        // Beta first: it is there when alpha dials.
        for side in sides.iter().rev() {
            side.start_and_wait().await.unwrap_or_else(|violation| panic!("{violation}"));
        }
        Self {
            plan,
            sides,
            events,
            proxy,
            sidings,
            started: Instant::now(),
            accepted: Default::default(),
            confirmed: Default::default(),
            submitting: Default::default(),
            accepting: Default::default(),
            may_submit: [watch::Sender::new(f64::INFINITY), watch::Sender::new(f64::INFINITY)],
            stood_still: AtomicBool::new(false),
        }
    }

    /// How much of all the work is done, from 0 to 1.
    pub(crate) fn progress(&self) -> f64 {
        self.steps() as f64 / (4 * self.plan.events) as f64
    }

    /// Acceptances and confirmations so far.
    pub(crate) fn steps(&self) -> usize {
        self.accepted.iter().chain(&self.confirmed).map(|count| count.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn all_accepted(&self) -> bool {
        self.to_be_accepted() == 0
    }

    /// Events that have not been accepted yet, of both sides.
    pub(crate) fn to_be_accepted(&self) -> usize {
        self.accepted.iter().map(|count| self.plan.events - count.load(Ordering::Relaxed)).sum()
    }

    /// Kills of both sides so far.
    pub(crate) fn kills(&self) -> usize {
        self.sides.iter().map(|side| side.history().kills).sum()
    }

    pub(crate) fn name(&self, side: usize) -> &'static str {
        self.sides[side].name
    }
}

/// A promise that was not kept.
#[derive(Debug)]
pub(crate) struct Violation {
    what: String,
    /// The SETs that it is about.
    pub(crate) jtis: Vec<String>,
}

impl Violation {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), jtis: Vec::new() }
    }

    /// The same, with more to read.
    pub(crate) fn with(mut self, more: &str) -> Self {
        self.what = format!("{}\n{more}", self.what);
        self
    }

    /// The same, with the command that does it again.
    pub(crate) fn in_case(mut self, replay: &str) -> Self {
        self.what = format!("{}\nreplay: {replay}", self.what);
        self
    }

    pub(crate) fn about(mut self, jtis: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.jtis.extend(jtis.into_iter().map(Into::into));
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// Where the organisations keep their files: removed at the end, unless something was wrong or it is asked for.
pub(crate) struct Place(Option<TempDir>);

impl Place {
    pub(crate) fn new() -> Self {
        Self(Some(tempfile::Builder::new().prefix("pushpull-chaos-").tempdir().expect("a temporary directory")))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.as_ref().expect("it is kept only at the end").path()
    }

    pub(crate) fn keep(mut self) -> PathBuf {
        self.0.take().expect("it is kept only once").keep()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(directory) = self.0.take()
            && (std::thread::panicking() || std::env::var_os("PUSHPULL_CHAOS_KEEP").is_some())
        {
            println!("kept: {}", directory.keep().display());
        }
    }
}

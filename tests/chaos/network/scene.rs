//! Two daemons with a mangler before each, and the course of a run whatever befalls them.

use std::fmt::Display;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::mangler::Mangler;
use super::weather::PING_INTERVAL;
use crate::killer::Kills;
use crate::organisation::Organisation;
use crate::pairing::{Road, free_address, pair};
use crate::plan::Plan;
use crate::report::{Figures, Parts, Report};
use crate::world::{BY_KILLS, Place, Violation, World};
use crate::{Link, accounts, application, sidings, submission, watchdog};

/// A run and what it runs through.
pub(super) struct Scene {
    pub(super) world: World,
    /// Before alpha, and before beta.
    pub(super) manglers: [Mangler; 2],
    plaintext: bool,
}

impl Scene {
    pub(super) async fn new(plan: Plan, plaintext: bool, place: &Path) -> Self {
        Self::with(plan, plaintext, place, |sides| sides).await
    }

    /// `dress` may give the organisations something more before they start.
    pub(super) async fn with(
        plan: Plan,
        plaintext: bool,
        place: &Path,
        dress: impl FnOnce([Organisation; 2]) -> [Organisation; 2],
    ) -> Self {
        let mut road = Road::new(plan.link);
        road.plaintext = plaintext;
        // Short enough that a run meets both ends of every wait.
        road.more = format!(
            "\n[delivery]\nping_interval = \"{}s\"\nspeak_interval = \"1s\"\nretry_max = \"10s\"\n",
            PING_INTERVAL.as_secs()
        );
        let addresses = [free_address(), free_address()];
        let [alpha, beta] = &addresses;
        let manglers = [
            Mangler::start("alpha", plan.seed, alpha, road.listens[0].clone()).await,
            Mangler::start("beta", plan.seed, beta, road.listens[1].clone()).await,
        ];
        road.through = addresses.map(Some);
        let sides = dress(pair(place, &road).await);
        Self { world: World::of(plan, sides, None, None).await, manglers, plaintext }
    }

    /// Lets each side submit at least one more batch, if it has any left.
    pub(super) fn give_work(&self) {
        let accepted = self.world.accepted.iter().map(|count| count.load(Ordering::Relaxed)).max();
        let part = accepted.unwrap_or(0) as f64 / self.world.plan.events as f64;
        self.world.may_submit[BY_KILLS].send_replace(part);
    }

    /// Lets everything be submitted.
    pub(super) fn give_all(&self) {
        self.world.may_submit[BY_KILLS].send_replace(f64::INFINITY);
    }

    /// The least part of both manglers' bad news, if there is any.
    pub(super) fn unfound(&self) -> Result<(), Violation> {
        let mut news =
            self.manglers.iter().flat_map(|mangler| mangler.state.unfound.lock().expect("nobody panicked").clone());
        news.next().map_or(Ok(()), |news| Err(Violation::new(news)))
    }

    /// A mangler can read the handshakes of WebSockets.
    pub(super) fn shows_sockets(&self) -> bool {
        self.plaintext && self.world.plan.link != Link::Http
    }

    /// How long each half-open WebSocket went undiscovered.
    pub(super) fn found(&self) -> Vec<Duration> {
        let found = |mangler: &Mangler| mangler.state.found.lock().expect("nobody panicked").clone();
        self.manglers.iter().flat_map(found).collect()
    }

    pub(super) fn half_open(&self) -> usize {
        self.manglers.iter().map(|mangler| mangler.state.half_open.load(Ordering::Relaxed)).sum()
    }
}

/// What a mode is called, and how it is told from others in its replay.
pub(super) struct Mode {
    /// The test's name.
    pub(super) test: &'static str,
    pub(super) link: Link,
    /// The variables that decide its size, as they were read.
    pub(super) sizes: String,
}

impl Mode {
    pub(super) fn opening(&self, plan: &Plan) -> String {
        format!(
            "chaos {} {:?}: {} events each way, seed {}\n  replay with    {}",
            self.test,
            self.link,
            plan.events,
            plan.seed,
            self.replay(plan)
        )
    }

    fn replay(&self, plan: &Plan) -> String {
        format!("PUSHPULL_CHAOS_SEED={} {} cargo test --test chaos -- --nocapture {}", plan.seed, self.sizes, self.test)
    }

    /// Conducts a whole run, and ends it with its report, or with everything that is known of its failure. What befell it
    /// may still have to be judged.
    pub(super) async fn run<Story: Display>(
        &self,
        scene: &Scene,
        place: Place,
        faults: impl Future<Output = Result<(Kills, Story), Violation>>,
    ) -> Story {
        match conduct(&scene.world, faults).await.and_then(|done| scene.unfound().map(|()| done)) {
            Ok((report, story)) => {
                println!("{report}\n{story}");
                story
            }
            Err(violation) => {
                let evidence = accounts::evidence(&scene.world, &violation).await;
                panic!(
                    "{violation}\n{evidence}\nkept: {}\nreplay with: {}",
                    place.keep().display(),
                    self.replay(&scene.world.plan),
                );
            }
        }
    }
}

async fn conduct<Story>(
    world: &World,
    faults: impl Future<Output = Result<(Kills, Story), Violation>>,
) -> Result<(Report<'_>, Story), Violation> {
    accounts::make_auditors(world).await?;
    let traffic = async {
        let (first, second, at_alpha, at_beta, (kills, story), (), ()) = tokio::try_join!(
            submission::submit_all(world, 0),
            submission::submit_all(world, 1),
            application::consume_all(world, 0),
            application::consume_all(world, 1),
            faults,
            sidings::submit_all(world, 0),
            sidings::submit_all(world, 1),
        )?;
        let parts = Parts { submissions: [first, second], consumptions: [at_alpha, at_beta], kills, blockade: None };
        Ok((parts, story))
    };
    let (parts, story) = tokio::select! {
        done = traffic => done?,
        violation = watchdog::watch(world) => return Err(violation),
    };
    let settled_after = accounts::wait_until_settled(world).await?;
    accounts::check(world, &parts).await?;
    let terms = sidings::check(world).await?;
    let figures = Figures::measure(world, settled_after).await?;
    Ok((Report::new(world, parts, figures, terms), story))
}

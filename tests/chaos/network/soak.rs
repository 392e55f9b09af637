//! The long run: late bytes, connections reset and one side killed again and again, while both send at a steady rate. At the
//! end nothing is lost or doubled, and neither memory nor open files have grown.

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::air::{Air, Kind, Strike, Way};
use super::samples::{Samples, Verdict};
use super::scene::{Mode, Scene};
use crate::Link;
use crate::killer::Kills;
use crate::plan::{Plan, number};
use crate::world::{BY_KILLS, Place, Violation};

/// SETs a second, each way.
const RATE: u64 = 200;
const SECONDS: u64 = 4;

/// How often what happens.
#[derive(Clone, Copy)]
struct Course {
    lasts: Duration,
    reset_every: Duration,
    kill_every: Duration,
    sample_every: Duration,
}

impl Course {
    fn from_environment() -> (Self, String) {
        let seconds = Duration::from_secs;
        match number("PUSHPULL_CHAOS_SOAK_MINUTES") {
            Some(minutes) => {
                let (reset_every, kill_every, sample_every) = (seconds(10), seconds(60), seconds(10));
                let course = Self { lasts: seconds(60 * minutes), reset_every, kill_every, sample_every };
                (course, format!("PUSHPULL_CHAOS_SOAK_MINUTES={minutes}"))
            }
            // The same in small.
            None => {
                let lasts = number("PUSHPULL_CHAOS_SOAK_SECONDS").unwrap_or(SECONDS);
                let (reset_every, kill_every, sample_every) = (seconds(1), seconds(2), Duration::from_millis(500));
                let course = Self { lasts: seconds(lasts), reset_every, kill_every, sample_every };
                (course, format!("PUSHPULL_CHAOS_SOAK_SECONDS={lasts}"))
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_long_run_loses_nothing_and_grows_nowhere() {
    let (course, sizes) = Course::from_environment();
    let plan = Plan::calm(Link::Both, (course.lasts.as_secs() * RATE) as usize);
    let mode = Mode { test: "the_long_run_loses_nothing_and_grows_nowhere", link: plan.link, sizes };
    println!("{}", mode.opening(&plan));
    // One side is killed, so that the other one lives through it all and shows whether it grows.
    let victim = plan.random("victim").below(2) as usize;
    let place = Place::new();
    let scene = Scene::new(plan, false, place.path()).await;
    let late = Way { delay: Duration::from_millis(150), jitter: Duration::from_millis(100), ..Way::default() };
    scene.manglers.iter().for_each(|mangler| mangler.set(Air { ways: [late; 2], ..Air::default() }));
    let story = Box::pin(mode.run(&scene, place, go(&scene, course, victim))).await;
    for (name, verdict) in ["alpha", "beta"].iter().zip(&story.verdicts) {
        let grown = verdict.grown();
        assert!(
            grown.is_none(),
            "{name} has grown: {}\n{}",
            grown.unwrap_or_default(),
            mode.opening(&scene.world.plan)
        );
    }
}

async fn go(scene: &Scene, course: Course, victim: usize) -> Result<(Kills, Story), Violation> {
    let begun = Instant::now();
    let mut samples = Samples::new(course.sample_every, course.lasts);
    {
        let over = async {
            pace(scene, course, begun).await;
            Ok(())
        };
        tokio::select! {
            over = over => over,
            over = resets(scene, course) => over,
            over = kills(scene, course, victim) => over,
            over = samples.take(&scene.world, begun) => over,
        }?;
    }
    if !scene.world.sides[victim].is_running().await {
        // The time was over between a kill and the start.
        scene.world.sides[victim].start_and_wait().await?;
    }
    scene.manglers.iter().for_each(|mangler| mangler.set(Air::default()));
    let count = |kind| scene.manglers.iter().map(|mangler| mangler.met(kind)).sum();
    let (resets, late) = (count(Kind::Reset), count(Kind::Late));
    let kills = scene.world.sides[victim].history().kills;
    if resets == 0 || late == 0 || kills == 0 {
        return Err(Violation::new(format!("too little has happened: {resets} resets, {late} late, {kills} kills")));
    }
    let verdicts = samples.judge(victim);
    Ok((Kills::default(), Story { samples, verdicts, resets, late, kills, victim: scene.world.name(victim) }))
}

/// Lets events be submitted at the rate, until the end.
async fn pace(scene: &Scene, course: Course, begun: Instant) {
    while begun.elapsed() < course.lasts {
        let part = begun.elapsed().as_secs_f64() / course.lasts.as_secs_f64();
        scene.world.may_submit[BY_KILLS].send_replace(part);
        sleep(Duration::from_millis(100)).await;
    }
    scene.world.may_submit[BY_KILLS].send_replace(f64::INFINITY);
}

async fn resets(scene: &Scene, course: Course) -> Result<(), Violation> {
    let mut ticks = ticks(course.reset_every).await;
    loop {
        ticks.tick().await;
        scene.manglers.iter().for_each(|mangler| mangler.strike(Strike::Reset));
    }
}

async fn kills(scene: &Scene, course: Course, victim: usize) -> Result<(), Violation> {
    let mut ticks = ticks(course.kill_every).await;
    let (side, mut random) = (&scene.world.sides[victim], scene.world.plan.random("kills"));
    loop {
        ticks.tick().await;
        // Not in step with the resets.
        sleep(random.time(course.reset_every)).await;
        side.alive().await?;
        side.kill().await;
        sleep(random.time(Duration::from_millis(500))).await;
        side.start_and_wait().await?;
    }
}

async fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first is over at once.
    ticks.tick().await;
    ticks
}

struct Story {
    samples: Samples,
    verdicts: [Verdict; 2],
    resets: usize,
    late: usize,
    kills: usize,
    victim: &'static str,
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, verdicts, resets, late, kills, victim } = self;
        writeln!(f, "{samples}")?;
        writeln!(f, "  soak           {kills} kills of {victim}, {resets} connections reset, {late} stretches late")?;
        writeln!(f, "  alpha          {}", verdicts[0])?;
        writeln!(f, "  beta           {}", verdicts[1])?;
        write!(f, "  lost 0, doubled 0")
    }
}

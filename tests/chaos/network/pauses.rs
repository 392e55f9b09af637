//! Processes that stand still for a while, as in a frozen virtual machine: one, or both, also in the middle of an exchange.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep, timeout};

use super::air::{Air, Way};
use super::scene::{Mode, Scene};
use crate::Link;
use crate::killer::Kills;
use crate::organisation::Organisation;
use crate::plan::{Plan, Random, number};
use crate::world::{Place, Violation};

const EVENTS: u64 = 400;
const PAUSES: u64 = 3;
const SECONDS: u64 = 1;
/// A process that stood still for longer finds its patience with some connections over.
const UNANSWERED_AFTER: Duration = Duration::from_secs(5);
/// The shortest pause.
const SHORTEST: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_set_arrives_once_over_a_websocket_while_processes_stand_still() {
    run("every_set_arrives_once_over_a_websocket_while_processes_stand_still", Link::Websocket).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_set_arrives_once_over_http_while_processes_stand_still_in_mid_exchange() {
    run("every_set_arrives_once_over_http_while_processes_stand_still_in_mid_exchange", Link::Http).await;
}

async fn run(test: &'static str, link: Link) {
    let pauses = number("PUSHPULL_CHAOS_PAUSES").unwrap_or(PAUSES);
    let seconds = number("PUSHPULL_CHAOS_PAUSE_SECONDS").unwrap_or(SECONDS);
    let plan = Plan::calm(link, number("PUSHPULL_CHAOS_EVENTS").unwrap_or(EVENTS) as usize);
    let sizes = format!(
        "PUSHPULL_CHAOS_EVENTS={} PUSHPULL_CHAOS_PAUSES={pauses} PUSHPULL_CHAOS_PAUSE_SECONDS={seconds}",
        plan.events
    );
    let mode = Mode { test, link, sizes };
    println!("{}", mode.opening(&plan));
    let mut random = plan.random("pauses");
    let longest = Duration::from_secs(seconds);
    let pauses: Vec<Pause> = (0..pauses).map(|number| Pause::draw(number, longest, link, &mut random)).collect();
    let place = Place::new();
    let scene = Scene::new(plan, true, place.path()).await;
    mode.run(&scene, place, stand_still(&scene, &pauses)).await;
}

struct Pause {
    targets: [bool; 2],
    lasting: Duration,
    /// Begins when a request has just passed to this side and is not answered.
    in_exchange: Option<usize>,
}

impl Pause {
    fn draw(number: u64, longest: Duration, link: Link, random: &mut Random) -> Self {
        // Each kind comes early.
        let targets = match number % 3 {
            0 => [true, false],
            1 => [false, true],
            _ => [true, true],
        };
        let lasting = SHORTEST + random.time(longest.saturating_sub(SHORTEST));
        let in_exchange = (link == Link::Http && random.chance(0.8)).then(|| random.below(2) as usize);
        Self { targets, lasting, in_exchange }
    }
}

/// How long an exchange may let itself be waited for.
const EXCHANGE_WITHIN: Duration = Duration::from_secs(30);

async fn stand_still(scene: &Scene, pauses: &[Pause]) -> Result<(Kills, Story), Violation> {
    let mut story = Story::default();
    for pause in pauses {
        scene.give_work();
        if let Some(side) = pause.in_exchange {
            let begun = Instant::now();
            let mut longer = Way::default();
            while !stop_in_exchange(scene, pause, side).await {
                if begun.elapsed() > EXCHANGE_WITHIN {
                    return Err(Violation::new(format!("no exchange could be caught in {EXCHANGE_WITHIN:?}")));
                }
                // Too short an exchange for us: requests take longer to get there.
                longer.delay += Duration::from_millis(5);
                scene.manglers[side].set(Air { ways: [longer, Way::default()], ..Air::default() });
                scene.give_work();
            }
            scene.manglers[side].set(Air::default());
            story.in_exchange += 1;
        } else {
            signal(scene, pause, Signal::STOP).await;
        }
        let standing = Instant::now();
        scene.world.stood_still.fetch_or(pause.lasting > UNANSWERED_AFTER, Ordering::Relaxed);
        sleep(pause.lasting).await;
        signal(scene, pause, Signal::CONT).await;
        for (side, count) in story.pauses.iter_mut().enumerate() {
            *count += usize::from(pause.targets[side]);
        }
        story.longest = story.longest.max(standing.elapsed());
        story.in_all += standing.elapsed();
    }
    scene.give_all();
    if pauses.iter().any(|pause| pause.in_exchange.is_some()) && story.in_exchange == 0 {
        return Err(Violation::new("nobody stood still in the middle of an exchange"));
    }
    Ok((Kills::default(), story))
}

/// Stops the targets while a request to this side has no answer; lets them go on at once if that came too late.
async fn stop_in_exchange(scene: &Scene, pause: &Pause, side: usize) -> bool {
    let state = &scene.manglers[side].state;
    if timeout(Duration::from_secs(5), state.request_passed.notified()).await.is_err() {
        return false;
    }
    signal(scene, pause, Signal::STOP).await;
    if pause.targets[side] {
        // An answer that has left already gets here now.
        sleep(Duration::from_millis(20)).await;
    }
    let caught = state.asked.load(Ordering::Relaxed) > 0;
    if !caught {
        signal(scene, pause, Signal::CONT).await;
    }
    caught
}

async fn signal(scene: &Scene, pause: &Pause, signal: Signal) {
    for (side, _) in scene.world.sides.iter().zip(pause.targets).filter(|(_, target)| *target) {
        send(side, signal).await;
    }
}

async fn send(side: &Organisation, signal: Signal) {
    let pid = side.pid().await.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    kill_process(pid.expect("it is running"), signal).expect("it is ours");
}

#[derive(Default)]
struct Story {
    pauses: [usize; 2],
    in_exchange: usize,
    longest: Duration,
    in_all: Duration,
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pauses: [alpha, beta], in_exchange, longest, in_all } = self;
        write!(
            f,
            "  stood still    {alpha} and {beta} times, {in_exchange} of them in the middle of an exchange, {in_all:.1?} in all, \
             {longest:.1?} at most"
        )
    }
}

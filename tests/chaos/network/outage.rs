//! A partner that is away for long is dialled again and again, and not too often.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::air::{Air, Door, Strike};
use super::scene::{Mode, Scene};
use super::syns::Syns;
use crate::killer::Kills;
use crate::plan::{Plan, number};
use crate::world::{Place, Violation};
use crate::{Link, not_run};

const EVENTS: u64 = 700;
const SECONDS: u64 = 3;
/// So many more come every so often while nobody is there.
const EVENTS_A_WHILE: u64 = 320;
const WHILE: Duration = Duration::from_secs(60);
/// How long each of several doors has its turn.
const TURN: Duration = Duration::from_millis(1_300);
/// Attempts of one daemon to reach another in any minute, for whatever it wants there.
const ATTEMPTS_A_MINUTE: usize = 30;
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partner_that_is_away_is_not_dialled_too_often() {
    // All ways at once: there is hardly anything to do in an outage.
    tokio::join!(
        run(Link::Websocket, &[Door::Shut]),
        run(Link::Http, &[Door::Shut]),
        run(Link::Both, &[Door::Slammed]),
        run(Link::Websocket, &[Door::Slammed]),
        run(Link::Websocket, &[Door::Slammed, Door::Shut]),
    );
}

/// With several doors they take turns: whoever comes is refused one time, and the next time let in and thrown out.
async fn run(link: Link, doors: &'static [Door]) {
    let seconds = number("PUSHPULL_CHAOS_OUTAGE_SECONDS").unwrap_or(SECONDS);
    let plan = Plan::calm(link, (EVENTS + EVENTS_A_WHILE * seconds / WHILE.as_secs()) as usize);
    let sizes = format!("PUSHPULL_CHAOS_OUTAGE_SECONDS={seconds}");
    let mode = Mode { test: "a_partner_that_is_away_is_not_dialled_too_often", link, sizes };
    println!("{}", mode.opening(&plan));
    let place = Place::new();
    let scene = Scene::new(plan, true, place.path()).await;
    mode.run(&scene, place, stay_away(&scene, doors, Duration::from_secs(seconds))).await;
}

async fn stay_away(scene: &Scene, doors: &'static [Door], lasting: Duration) -> Result<(Kills, Story), Violation> {
    let syns = Syns::listen();
    if let Err(error) = &syns
        && doors.contains(&Door::Shut)
    {
        not_run(&format!("chaos outage: NOT RUN where nobody listens, a raw socket cannot be had: {error}"));
    }
    // Some are through, some are under way, some come while nobody is there.
    scene.give_work();
    while scene.world.confirmed.iter().any(|confirmed| confirmed.load(Ordering::Relaxed) == 0) {
        sleep(Duration::from_millis(10)).await;
    }
    let begun = Instant::now();
    let (mut turns, mut worked_at) = (doors.iter().cycle(), None::<Instant>);
    while let Some(left) = lasting.checked_sub(begun.elapsed()) {
        let door = turns.next().copied().unwrap_or_default();
        for mangler in &scene.manglers {
            mangler.set(Air { door, ..Air::default() });
            mangler.strike(Strike::Reset);
        }
        if worked_at.is_none_or(|at| at.elapsed() >= WHILE) {
            // There is always something new to send.
            scene.give_work();
            worked_at = Some(Instant::now());
        }
        sleep(left.min(if doors.len() > 1 { TURN } else { WHILE })).await;
    }
    let attempts = [0, 1].map(|side| {
        let mangler = &scene.manglers[side];
        let attempts = match &syns {
            Ok(syns) => syns.of(mangler.port()),
            Err(_) => mangler.dials(),
        };
        attempts.into_iter().filter(|at| *at >= begun).collect::<Vec<Instant>>()
    });
    scene.manglers.iter().for_each(|mangler| mangler.set(Air::default()));
    scene.give_all();
    let story = Story { doors, lasting, all: attempts.each_ref().map(Vec::len), most: attempts.map(|all| most(&all)) };
    // Alpha dials whatever the link is.
    if syns.is_ok() && story.all[1] == 0 {
        return Err(Violation::new(format!("nobody was seen dialling: {story}")));
    }
    if story.most.iter().any(|most| *most > ATTEMPTS_A_MINUTE) {
        return Err(Violation::new(format!("dialled more than {ATTEMPTS_A_MINUTE} times in a minute: {story}")));
    }
    Ok((Kills::default(), story))
}

/// In the worst minute.
fn most(attempts: &[Instant]) -> usize {
    let within = |from: Instant| attempts.iter().filter(|at| (from..from + MINUTE).contains(*at)).count();
    attempts.iter().map(|from| within(*from)).max().unwrap_or(0)
}

struct Story {
    doors: &'static [Door],
    lasting: Duration,
    all: [usize; 2],
    most: [usize; 2],
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { doors, lasting, all: [at_alpha, at_beta], most: [alphas_worst, betas_worst] } = self;
        write!(
            f,
            "  outage         {doors:?} for {lasting:?}: alpha was dialled {at_alpha} times and beta {at_beta}, {alphas_worst} and \
             {betas_worst} in the worst minute"
        )
    }
}

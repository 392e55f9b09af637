//! Every fault of the network, one after the other, under load both ways; then fair weather, and the accounts.

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::air::{Air, Kind, Strike};
use super::scene::{Mode, Scene};
use super::weather::{self, Episode};
use crate::Link;
use crate::killer::Kills;
use crate::plan::{Plan, number};
use crate::world::{Place, Violation};

const EVENTS: u64 = 400;
/// With eleven there is one of each kind.
const EPISODES: u64 = 3;
const SECONDS: u64 = 1;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_set_arrives_once_over_a_mangled_websocket() {
    run("every_set_arrives_once_over_a_mangled_websocket", Link::Websocket, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_set_arrives_once_over_mangled_http() {
    run("every_set_arrives_once_over_mangled_http", Link::Http, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_set_arrives_once_over_mangled_tls_by_websocket_and_http() {
    run("every_set_arrives_once_over_mangled_tls_by_websocket_and_http", Link::Both, false).await;
}

async fn run(test: &'static str, link: Link, plaintext: bool) {
    let episodes = number("PUSHPULL_CHAOS_EPISODES").unwrap_or(EPISODES);
    let seconds = number("PUSHPULL_CHAOS_EPISODE_SECONDS").unwrap_or(SECONDS);
    let plan = Plan::calm(link, number("PUSHPULL_CHAOS_EVENTS").unwrap_or(EVENTS) as usize);
    let sizes = format!(
        "PUSHPULL_CHAOS_EVENTS={} PUSHPULL_CHAOS_EPISODES={episodes} PUSHPULL_CHAOS_EPISODE_SECONDS={seconds}",
        plan.events
    );
    let mode = Mode { test, link, sizes };
    println!("{}", mode.opening(&plan));
    // A WebSocket holds no requests that could come twice.
    let repeats = plaintext && link != Link::Websocket;
    let longest = Duration::from_secs(seconds);
    let episodes = weather::draw(episodes as usize, longest, repeats, &mut plan.random("weather"));
    let place = Place::new();
    let scene = Scene::new(plan, plaintext, place.path()).await;
    mode.run(&scene, place, blow(&scene, &episodes)).await;
}

/// How long an episode may go on for its fault to meet anything.
const MEETS_WITHIN: Duration = Duration::from_secs(90);
/// Pause between two strikes.
const AGAIN: Duration = Duration::from_millis(150);

async fn blow(scene: &Scene, episodes: &[Episode]) -> Result<(Kills, Story), Violation> {
    for episode in episodes {
        // There is something to do in each.
        scene.give_work();
        one(scene, episode).await?;
        scene.unfound()?;
    }
    scene.manglers.iter().for_each(|mangler| mangler.strike(Strike::Forgotten));
    scene.give_all();
    Ok((Kills::default(), Story::of(scene, episodes)))
}

async fn one(scene: &Scene, episode: &Episode) -> Result<(), Violation> {
    // Where WebSockets can be told from the rest, one of them has to be found.
    let by_found = episode.kind == Kind::HalfOpen && scene.shows_sockets();
    let met = || match by_found {
        true => scene.found().len(),
        false => scene.manglers.iter().map(|mangler| mangler.met(episode.kind)).sum(),
    };
    let (enough, begun) = (met() + enough(episode.kind), Instant::now());
    for (mangler, air) in scene.manglers.iter().zip(episode.airs) {
        mangler.set(air);
    }
    // Whoever is refused shows when he comes again.
    let shows_later = episode.kind == Kind::Refused;
    let mut struck = false;
    while begun.elapsed() < episode.lasting || !shows_later && met() < enough {
        if let Some(mut strike) = episode.strike.filter(|_| !struck || met() < enough) {
            if let Strike::HalfOpen { sockets_alone, .. } = &mut strike {
                // An exchange that waits for its answer would keep a WebSocket from being used, and from being found.
                *sockets_alone = by_found;
            }
            struck = true;
            scene.manglers.iter().for_each(|mangler| mangler.strike(strike));
        }
        in_time(begun, episode)?;
        sleep(AGAIN).await;
    }
    if episode.kind == Kind::HalfOpen {
        // A WebSocket is found in time; an exchange may wait for its answer for longer.
        sleep(weather::found_within()).await;
        if episode.forget {
            scene.manglers.iter().for_each(|mangler| mangler.strike(Strike::Forgotten));
        }
    }
    scene.manglers.iter().for_each(|mangler| mangler.set(Air::default()));
    while met() < enough || scene.half_open() > 0 {
        in_time(begun, episode)?;
        sleep(AGAIN / 10).await;
    }
    Ok(())
}

/// How often a kind has to meet something before its turn is over.
fn enough(kind: Kind) -> usize {
    match kind {
        Kind::Reset | Kind::Truncated | Kind::Repeated => 3,
        _ => 1,
    }
}

fn in_time(begun: Instant, episode: &Episode) -> Result<(), Violation> {
    if begun.elapsed() < MEETS_WITHIN + episode.lasting {
        return Ok(());
    }
    Err(Violation::new(format!(
        "{:?} has met nothing, or has not come to an end, within {MEETS_WITHIN:?}",
        episode.kind
    )))
}

/// What the manglers did.
struct Story {
    met: Vec<(Kind, usize)>,
    found: Vec<Duration>,
}

impl Story {
    fn of(scene: &Scene, episodes: &[Episode]) -> Self {
        let met = Kind::ALL.into_iter().filter(|kind| episodes.iter().any(|episode| episode.kind == *kind));
        let met = met.map(|kind| (kind, scene.manglers.iter().map(|mangler| mangler.met(kind)).sum())).collect();
        Self { met, found: scene.found() }
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  mangled        ")?;
        for (kind, times) in &self.met {
            write!(f, "{kind:?} {times}, ")?;
        }
        let longest = self.found.iter().max().copied().unwrap_or_default();
        write!(f, "half-open WebSockets given up: {}, the slowest after {longest:.1?}", self.found.len())
    }
}

//! Two real daemons under load both ways, killed with SIGKILL again and again: every accepted SET ends acked at its
//! sender and stands in the other side's inbox exactly once.
//!
//! In `disk/`, one real daemon and its partner whose disk fails, fills up, and gives back other bytes than it was given.
//!
//! `PUSHPULL_CHAOS_EVENTS=100000 PUSHPULL_CHAOS_KILLS=10 cargo test --release --test chaos -- --nocapture --test-threads=1`
//! is the full size; without the variables the sizes are small enough for every run of the tests.
//! `PUSHPULL_CHAOS_SEED=n` replays a schedule of kills, batches and crashes, `PUSHPULL_CHAOS_LOG=debug` sets the daemons' log
//! level, and `PUSHPULL_CHAOS_KEEP=1` keeps their directories, as any failure does.
//!
//! `PUSHPULL_CHAOS_BINARY=target/release/pushpull` has another daemon than the one that was built with the tests.
//! `PUSHPULL_CHAOS_KILLS` (of each side, over each of three links), `_CALLS` (the k up to which each write and each sync is
//! killed, fails with EIO or ENOSPC), `_FILLS` (how often a small disk fills up) and `_DAMAGES` (bytes flipped and files
//! cut) are the sizes, `_LANES` daemons are put through it side by side, and `_CASE` names the one case to replay. A mode
//! that cannot run here (no ptrace, no right to mount) says NOT RUN; with `PUSHPULL_CHAOS_INSIST=1` it fails.
//!
//! In the gate: `KILLS=5 CALLS=20 FILLS=3 DAMAGES=50`; recorded: `KILLS=167 EVENTS=60000 CALLS=300 FILLS=30 DAMAGES=1000`.
//!
//! Without kills, in `network/` (each prints its seed and one line that replays it): every fault of the network
//! (`…EPISODES=33 …EPISODE_SECONDS=5`), processes that stand still (`…PAUSES=12 …PAUSE_SECONDS=20`), clocks that jump
//! (`…JUMPS=27 …JUMP_SECONDS=10`), a partner that is away (`…OUTAGE_SECONDS=600`), and the long run
//! (`PUSHPULL_CHAOS_SOAK_MINUTES=30`). `PUSHPULL_CHAOS_BINARY=target/release/pushpull` runs another binary than the tests' own.

mod accounts;
mod admin;
mod application;
mod blockade;
mod disk;
mod events;
mod killer;
mod network;
mod organisation;
mod pairing;
mod partner;
mod plan;
mod process;
mod proxy;
mod report;
mod sidings;
mod submission;
mod watchdog;
mod world;

use plan::Plan;
use world::World;

/// How the two organisations speak to each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Link {
    /// One WebSocket over TLS, dialled by alpha.
    Websocket,
    /// HTTP requests over TLS, both dial.
    Http,
    /// A WebSocket without TLS that a proxy of ours blocks midway, so that HTTP has to do, and frees again.
    Blockade,
    /// A WebSocket that alpha dials, and beside it HTTP requests of beta.
    Both,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_set_arrives_once_over_one_websocket_while_both_sides_are_killed() {
    run(Link::Websocket).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_set_arrives_once_over_http_while_both_sides_are_killed() {
    run(Link::Http).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_set_arrives_once_when_the_websocket_is_blocked_and_freed_while_both_sides_are_killed() {
    run(Link::Blockade).await;
}

/// One whole run: traffic and kills together, then rest, then the accounts.
async fn run(link: Link) {
    let plan = Plan::from_environment(link);
    println!("{}", plan.opening());
    let place = world::Place::new();
    let world = World::new(plan, place.path()).await;
    let outcome = conduct(&world).await;
    let report = match outcome {
        Ok(report) => report,
        Err(violation) => {
            let evidence = accounts::evidence(&world, &violation).await;
            panic!(
                "chaos {link:?}, seed {}: {violation}\n{evidence}\nkept: {}",
                world.plan.seed,
                place.keep().display()
            );
        }
    };
    println!("{report}");
    report.add_to_total();
}

async fn conduct(world: &World) -> Result<report::Report<'_>, world::Violation> {
    accounts::make_auditors(world).await?;
    let traffic = async {
        let (first, second, at_alpha, at_beta, kills, blockade, (), ()) = tokio::try_join!(
            submission::submit_all(world, 0),
            submission::submit_all(world, 1),
            application::consume_all(world, 0),
            application::consume_all(world, 1),
            killer::strike(world),
            blockade::run(world),
            sidings::submit_all(world, 0),
            sidings::submit_all(world, 1),
        )?;
        Ok(report::Parts { submissions: [first, second], consumptions: [at_alpha, at_beta], kills, blockade })
    };
    let parts = tokio::select! {
        parts = traffic => parts?,
        violation = watchdog::watch(world) => return Err(violation),
    };
    let settled_after = accounts::wait_until_settled(world).await?;
    accounts::check(world, &parts).await?;
    let terms = sidings::check(world).await?;
    let figures = report::Figures::measure(world, settled_after).await?;
    Ok(report::Report::new(world, parts, figures, terms))
}

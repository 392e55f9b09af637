//! One seed: chaos, healing, quiet, and the end.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once};
use std::time::Duration;

use pushpull::store::Journal as _;
use tokio::time::{sleep, timeout};

use super::campaign::{asked_for, settle_within};
use super::chaos;
use super::disk;
use super::event::{Event, Org, Watch};
use super::mint;
use super::operator;
use super::options::{Method, Options};
use super::paths;
use super::recorder::Recorder;
use super::workload;
use super::world::World;

/// What came of a seed.
pub struct Outcome<J> {
    pub options: Options,
    pub hash: u64,
    pub events: u64,
    /// SETs that were accepted.
    pub sets: u64,
    pub violations: Vec<String>,
    /// How often each fault and each path in the product was met.
    pub met: BTreeMap<&'static str, u64>,
    /// Simulated time.
    pub lasted: Duration,
    pub judge: J,
}

/// The longest time from healing until all is quiet, unless the federation is made so that it takes longer.
const QUIET_WITHIN: Duration = Duration::from_secs(4 * 3600);

/// More looks at its clocks in an idle minute, and a process does not idle (L6).
const IDLE_READINGS_MAX: u64 = 10_000;

/// And so many for each SET that a hostile partner leaves unanswered: every five seconds a retry, if they come so close.
const RETRY_READINGS_MAX: u64 = 500;

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Runs one seed. `trace` prints everything that happens.
pub fn run<J: Watch + 'static>(options: Options, judge: J, trace: bool) -> Outcome<J> {
    listen();
    PANICS.with_borrow_mut(Vec::clear);
    mint::begin();
    paths::lines();
    let recorder = Recorder::new(judge, trace);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime of pretend time needs nothing");
    let ran = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let world = World::new(options.clone(), Arc::clone(&recorder) as Arc<_>);
            let lasted = live(&world).await;
            world.members().iter().for_each(|member| member.finish());
            (world.violations(), world.met(), world.sets(), lasted)
        })
    }));
    drop(runtime);
    let (mut violations, mut met, sets, lasted) = ran.unwrap_or_default();
    for (line, count) in paths::lines() {
        *met.entry(line).or_default() += count;
    }
    violations.extend(PANICS.with_borrow_mut(std::mem::take).into_iter().map(|panic| format!("panic: {panic}")));
    let (hash, events) = recorder.hash();
    let judge = recorder.take_judge();
    Outcome { options, hash, events, sets, violations, met, lasted, judge }
}

async fn live(world: &Arc<World>) -> Duration {
    for member in world.members() {
        world.note(&Event::Member { org: member.org, role: member.plan.role });
    }
    for member in world.members() {
        let kids = vec![mint::kid(member.org, 1)];
        member.publishes(&kids);
        world.note(&Event::Published { org: member.org, kids });
    }
    for member in world.members().iter().filter(|member| member.is_real()) {
        member.disk.set_faults(world.options.faults.disk);
        Arc::clone(member).start().await;
    }
    chaos::begin(world);
    if !world.options.mute {
        world.members().iter().filter_map(|member| member.hostile.as_ref()).for_each(|hostile| hostile.begin(world));
    }
    let orgs: Vec<Org> = world.members().iter().map(|member| member.org).collect();
    for from in orgs.iter().filter(|org| world.member(**org).is_real()) {
        for to in orgs.iter().filter(|to| *to != from) {
            tokio::spawn(workload::run(Arc::clone(world), *from, *to));
        }
    }
    let phases = async {
        sleep(world.options.chaos).await;
        heal(world).await;
        let within = QUIET_WITHIN.max(settle_within(&world.options));
        if timeout(within, quiet(world)).await.is_err() {
            world.violate(format!("not quiet {within:?} after it was healed: {}", unsettled(world).await));
        }
        world.note(&Event::Quiet);
        damage_is_told(world).await;
        idle(world).await;
        for member in world.members().iter().filter(|member| member.is_real()) {
            world.note(&Event::Ends { org: member.org, contents: member.disk.contents() });
        }
    };
    tokio::select! {
        biased;
        () = world.broken.notified() => {}
        () = phases => {}
    }
    world.began.elapsed()
}

async fn heal(world: &Arc<World>) {
    world.set_healed();
    world.net.heal(&world.options);
    for member in world.members().iter().filter(|member| member.is_real()) {
        member.disk.set_faults(disk::Faults::default());
        member.wall.set_right();
        member.set_key_server(chaos::KeyServer::Fine);
        if let Some(life) = member.life() {
            life.set_running(true);
            let resuming = Arc::clone(&life);
            life.spawn(operator::resume(resuming));
        }
    }
    world.note(&Event::Healed);
}

/// Waits until nothing is under way between those who run the product, and everything is with its application.
async fn quiet(world: &Arc<World>) {
    let mut calm = 0;
    while calm < 3 {
        sleep(Duration::from_secs(5)).await;
        calm = if is_calm(world).await { calm + 1 } else { 0 };
    }
}

async fn is_calm(world: &Arc<World>) -> bool {
    if !world.has_no_calls() {
        return false;
    }
    for member in world.members().iter().filter(|member| member.is_real()) {
        let Some(life) = member.life() else { return false };
        let mut waits = false;
        for (other, partner) in life.partners.iter().filter(|(other, _)| world.member(**other).is_real()) {
            let Ok(stats) = partner.handle().stats().await else { return false };
            // A verdict on a late copy stays until there is another call.
            if stats.owed > 0 && world.options.method(*other, member.org) != Some(Method::MultiPush) {
                return false;
            }
            waits |= stats.counts.queued > 0;
        }
        if life.store.inbox_len() > 0 {
            return false;
        }
        // What is damaged stays where it is.
        if waits {
            let contents = member.disk.contents();
            let is_real = |org: &Org| world.member(*org).is_real();
            if contents.outbox.iter().any(|(org, rows)| is_real(org) && !rows.is_empty()) {
                return false;
            }
        }
    }
    true
}

/// What stays queued when all is quiet is damaged, and the product has to say so (I18).
async fn damage_is_told(world: &Arc<World>) {
    for member in world.members().iter().filter(|member| member.is_real()) {
        let Some(life) = member.life() else { continue };
        for (other, partner) in life.partners.iter().filter(|(other, _)| world.member(**other).is_real()) {
            let Ok(mut stats) = partner.handle().stats().await else { continue };
            // What waits for its retry is read again then, and no sooner; a partner may have asked for an hour.
            let most = member.plan.peer.retry_max * 2 + asked_for(&world.options.faults);
            let began = world.began.elapsed();
            while stats.counts.queued > stats.damaged as u64 && world.began.elapsed() < began + most {
                sleep(Duration::from_secs(5)).await;
                let Ok(again) = partner.handle().stats().await else { break };
                stats = again;
            }
            let (queued, told) = (stats.counts.queued, stats.damaged as u64);
            if queued > told {
                world.violate(format!(
                    "damage in silence: {:?} has {queued} SETs queued for {other:?}, and tells of {told} damaged rows",
                    member.org
                ));
            }
        }
    }
}

/// What has not ended, for people.
async fn unsettled(world: &Arc<World>) -> String {
    let mut lines = Vec::new();
    for member in world.members().iter().filter(|member| member.is_real()) {
        let Some(life) = member.life() else {
            lines.push(format!("{:?} does not run", member.org));
            continue;
        };
        lines.push(format!("{:?} has {} rows in its inbox", member.org, life.store.inbox_len()));
        for (other, partner) in &life.partners {
            let stats = partner.handle().stats().await;
            lines.push(format!("{:?} to {other:?}: {stats:?}", member.org));
        }
    }
    lines.join("; ")
}

/// With nothing to do there is little to do.
async fn idle(world: &Arc<World>) {
    let readings = |world: &World| world.members().iter().map(|member| member.gauge.all()).collect::<Vec<_>>();
    let before = readings(world);
    sleep(Duration::from_secs(60)).await;
    for (member, (before, after)) in world.members().iter().zip(before.into_iter().zip(readings(world))) {
        let unanswered: usize = member.disk.contents().outbox.values().map(Vec::len).sum();
        let most = IDLE_READINGS_MAX + RETRY_READINGS_MAX * unanswered as u64;
        if after - before > most {
            let org = member.org;
            world.violate(format!(
                "{org:?} takes {} looks at its clock in an idle minute, and may take {most}",
                after - before
            ));
        }
    }
}

/// Keeps what panics say, on the thread on which they say it.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            PANICS.with_borrow_mut(|panics| panics.push(info.to_string()));
        }));
    });
}

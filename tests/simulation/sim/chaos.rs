//! What goes wrong with networks, machines and clocks while the chaos lasts, each by its own luck.

use std::sync::Arc;
use std::time::Duration;

use pushpull::random::Random;
use tokio::time::sleep;

use super::event::{Death, Org};
use super::judge::{FAR, FAR_LASTS};
use super::member::Member;
use super::options::Kind;
use super::world::{World, pick, some_of};

const DAY: i64 = 86_400_000;

/// Starts all of it.
pub fn begin(world: &Arc<World>) {
    for pair in &world.options.pairs {
        tokio::spawn(network(Arc::clone(world), pair.ends));
    }
    for member in world.members().iter().filter(|member| member.is_real()) {
        tokio::spawn(machine(Arc::clone(world), Arc::clone(member)));
    }
}

/// Partitions, resets, and WebSockets that come and go.
async fn network(world: Arc<World>, ends: [Org; 2]) {
    let [one, other] = ends;
    let mut luck = world.luck(&[70, u64::from(one.0), u64::from(other.0)]);
    let faults = world.options.faults.clone();
    let switched = world.options.pair(one, other).kind == Kind::Switched;
    let span = world.options.chaos / 6;
    while !world.is_healed() {
        sleep(Duration::from_secs(1) + some_of(&mut luck, span)).await;
        if world.is_healed() {
            return;
        }
        match luck.below(4) {
            0 if switched => {
                let let_through = !world.net.takes_sockets(one, other);
                world.fault(None, "WebSockets switched");
                world.net.set_sockets(one, other, let_through);
            }
            1 if faults.reset && world.net.reset(one, other) > 0 => world.fault(None, "connection reset"),
            2 | 3 if faults.partition => {
                let (back, forth) = pick(&mut luck, &[(true, true), (true, false), (false, true)]);
                world.fault(None, if back && forth { "blackhole" } else { "one-way partition" });
                world.net.set_dark(one, other, forth);
                world.net.set_dark(other, one, back);
                let long = Duration::from_secs(pick(&mut luck, &[3, 30, 90, 300]));
                sleep(some_of(&mut luck, long)).await;
                world.net.set_dark(one, other, false);
                world.net.set_dark(other, one, false);
            }
            _ => {}
        }
    }
}

/// Kills, pauses, clocks that go wrong, key servers that do, and disks that somebody makes room on.
async fn machine(world: Arc<World>, member: Arc<Member>) {
    let mut luck = world.luck(&[71, u64::from(member.org.0)]);
    let faults = world.options.faults.clone();
    let span = world.options.chaos / 6;
    while !world.is_healed() {
        sleep(Duration::from_secs(1) + some_of(&mut luck, span)).await;
        member.disk.free();
        if world.is_healed() {
            return;
        }
        match luck.below(4) {
            0 if faults.kills => kill(&world, &member),
            1 if faults.pause => pause(&world, &member, &mut luck).await,
            2 if faults.clocks => clock(&world, &member, &mut luck).await,
            3 if faults.keys => keys(&world, &member, &mut luck).await,
            _ => {}
        }
    }
}

fn kill(world: &Arc<World>, member: &Arc<Member>) {
    if let Some(life) = member.life() {
        world.fault(Some(member.org), "killed");
        member.end(&life, Death::Killed);
    }
}

/// What a process that is stopped shows outside: nothing is read, sent or handed out. Its actors and its disk go on, as the
/// time of all members is one; a process that is really stopped is for the harness with real ones (`tests/chaos`).
async fn pause(world: &Arc<World>, member: &Arc<Member>, luck: &mut Random) {
    let Some(life) = member.life() else { return };
    world.fault(Some(member.org), "links and applications stopped for a while");
    life.set_running(false);
    let long = Duration::from_secs(pick(luck, &[2, 20, 100]));
    sleep(some_of(luck, long)).await;
    life.set_running(true);
}

/// The wall clock jumps, runs wrong, or stands still. What is wrong by more than a day is set right within ten minutes: a
/// clock that has been off by months for longer is believed, which no program can help.
async fn clock(world: &Arc<World>, member: &Arc<Member>, luck: &mut Random) {
    let (long, what) = match luck.below(7) {
        0 | 1 => {
            let sign = pick(luck, &[1, -1]);
            member.wall.jump(sign * (DAY + luck.below(400 * DAY as u64) as i64));
            (FAR_LASTS.as_secs(), FAR)
        }
        2 | 3 => {
            let sign = pick(luck, &[1, -1]);
            member.wall.jump(sign * luck.below(DAY as u64 / 2) as i64);
            (3600, "clock jumped")
        }
        4 => {
            member.wall.run_at(0.0);
            (1800, "clock stood still")
        }
        _ => {
            member.wall.run_at(pick(luck, &[0.5, 0.99, 1.01, 2.0]));
            (1800, "clock ran wrong")
        }
    };
    world.fault(Some(member.org), what);
    // It may be that the machine has started anew, and that its clock is wrong for that reason.
    if what == FAR && luck.below(2) == 0 {
        kill(world, member);
    }
    let most = Duration::from_secs(long);
    sleep(some_of(luck, most)).await;
    member.wall.set_right();
}

/// What is wrong with a server of keys.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum KeyServer {
    #[default]
    Fine,
    Down,
    Slow,
    /// It answers something else.
    Wrong,
    /// A cache on the way has an answer that is some minutes old.
    Stale,
}

async fn keys(world: &Arc<World>, member: &Arc<Member>, luck: &mut Random) {
    let state = pick(luck, &[KeyServer::Down, KeyServer::Slow, KeyServer::Wrong, KeyServer::Stale]);
    member.set_key_server(state);
    let long = Duration::from_secs(pick(luck, &[10, 120, 290]));
    sleep(some_of(luck, long)).await;
    member.set_key_server(KeyServer::Fine);
    let _ = world;
}

//! The clock of one daemon is set forward and back, by minutes and by a year, or stands still, while everything else goes on.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::scene::{Mode, Scene};
use crate::killer::Kills;
use crate::plan::{Plan, Random, number};
use crate::world::{Place, Violation};
use crate::{Link, accounts, not_run};

/// Each side has a batch for each jump; none is larger.
const EVENTS_A_JUMP: u64 = 320;
/// With nine each clock has its turn.
const JUMPS: u64 = 3;
const SECONDS: u64 = 1;

/// Where distributions put it.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// What the clock shows, as libfaketime is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Clock {
    /// Off by so many seconds.
    Off(i64),
    Frozen,
}

const MINUTE: i64 = 60;
const DAY: i64 = 24 * 60 * MINUTE;

/// Each comes once before any comes again.
const CLOCKS: [Clock; 9] = [
    Clock::Off(3 * MINUTE),
    Clock::Off(-3 * MINUTE),
    Clock::Off(20 * MINUTE),
    Clock::Off(-20 * MINUTE),
    Clock::Off(3 * DAY),
    Clock::Off(-3 * DAY),
    Clock::Off(365 * DAY),
    Clock::Off(-365 * DAY),
    Clock::Frozen,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_costs_no_set_and_no_time() {
    let Some(library) = LIBRARIES.iter().map(PathBuf::from).find(|library| library.exists()) else {
        not_run("chaos clocks: NOT RUN, no libfaketime here; as root: apt-get install -y faketime");
        return;
    };
    let seconds = number("PUSHPULL_CHAOS_JUMP_SECONDS").unwrap_or(SECONDS);
    let jumps = number("PUSHPULL_CHAOS_JUMPS").unwrap_or(JUMPS);
    let plan = Plan::calm(Link::Both, (jumps * EVENTS_A_JUMP) as usize);
    let sizes = format!("PUSHPULL_CHAOS_JUMPS={jumps} PUSHPULL_CHAOS_JUMP_SECONDS={seconds}");
    let mode = Mode { test: "a_clock_that_jumps_costs_no_set_and_no_time", link: plan.link, sizes };
    println!("{}", mode.opening(&plan));
    let mut random = plan.random("clocks");
    let whose = random.below(2) as usize;
    let clocks = draw(jumps as usize, &mut random);
    let place = Place::new();
    let told = place.path().join("clock");
    tell(&told, Clock::Off(0));
    let environment = environment(&library, &told);
    let scene = Scene::with(plan, false, place.path(), |[alpha, beta]| match whose {
        0 => [alpha.with_environment(environment), beta],
        _ => [alpha, beta.with_environment(environment)],
    });
    let scene = scene.await;
    let jumping = jump(&scene, whose, &clocks, Duration::from_secs(seconds), &told);
    mode.run(&scene, place, jumping).await;
}

fn draw(count: usize, random: &mut Random) -> Vec<Clock> {
    let mut deck = Vec::new();
    let mut clocks = Vec::new();
    while clocks.len() < count {
        if deck.is_empty() {
            deck.extend(CLOCKS);
        }
        clocks.push(deck.swap_remove(random.below(deck.len() as u64) as usize));
    }
    clocks
}

fn environment(library: &Path, told: &Path) -> Vec<(String, String)> {
    let path = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
    [
        ("LD_PRELOAD", path(library)),
        ("FAKETIME_TIMESTAMP_FILE", path(told)),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        // The monotonic clock of a machine does not jump.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("NO_FAKE_STAT", "1".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// In place, so that nobody ever finds an empty file.
fn tell(told: &Path, clock: Clock) {
    let text = match clock {
        Clock::Off(seconds) => format!("{seconds:+}\n"),
        Clock::Frozen => {
            let now = std::process::Command::new("date").arg("+%Y-%m-%d %H:%M:%S").output().expect("there is a date");
            String::from_utf8(now.stdout).expect("UTF-8")
        }
    };
    let aside = told.with_extension("new");
    fs::write(&aside, text).expect("it can be written");
    fs::rename(aside, told).expect("it can be renamed");
}

/// How far the daemon's time may be from what it is told to be, in seconds.
const NEAR: i64 = 10;
/// A SET submitted while the clock is wrong is acked within this time of steady time: no wait has become longer.
const ACKED_WITHIN: Duration = Duration::from_secs(20);

async fn jump(
    scene: &Scene,
    whose: usize,
    clocks: &[Clock],
    lasting: Duration,
    told: &Path,
) -> Result<(Kills, Story), Violation> {
    let mut story = Story { whose: scene.world.name(whose), clocks: Vec::new(), slowest: Duration::ZERO };
    let breaks = || -> usize { scene.world.sides.iter().map(|side| side.logged("link down")).sum() };
    let broken = breaks();
    for (index, clock) in clocks.iter().enumerate() {
        tell(told, *clock);
        let shown = shown(scene, whose).await?;
        let off = if let Clock::Off(seconds) = *clock { seconds } else { 0 };
        if (shown - seconds_of("now") - off).abs() > NEAR {
            return Err(Violation::new(format!(
                "the clock is told to be {clock:?}, and shows {shown}: not faked at all?"
            )));
        }
        let begun = Instant::now();
        let before = accepted(scene);
        scene.give_work();
        sleep(lasting).await;
        // What is submitted on each side while it is wrong.
        let mut after = acked(scene).await?;
        while after.iter().zip(before).any(|(after, before)| *after <= before) {
            if begun.elapsed() > ACKED_WITHIN {
                return Err(Violation::new(format!(
                    "with the clock {clock:?} nothing is acked both ways within {ACKED_WITHIN:?}: {before:?}, {after:?}"
                ))
                .about(accounts::some_unsettled(&scene.world).await));
            }
            sleep(Duration::from_millis(50)).await;
            after = acked(scene).await?;
        }
        if *clock == Clock::Frozen && (self::shown(scene, whose).await? - shown).abs() > 0 {
            return Err(Violation::new("the clock was to stand still, and did not"));
        }
        story.slowest = story.slowest.max(begun.elapsed().saturating_sub(lasting));
        story.clocks.push(*clock);
        // Now and then straight from one wrong time to the next.
        if index % 2 == 0 {
            tell(told, Clock::Off(0));
        }
    }
    tell(told, Clock::Off(0));
    if breaks() > broken {
        return Err(Violation::new("a link went down: some wait was made shorter or longer by the clock"));
    }
    scene.give_all();
    Ok((Kills::default(), story))
}

fn accepted(scene: &Scene) -> [u64; 2] {
    [0, 1].map(|side| scene.world.accepted[side].load(Ordering::Relaxed) as u64)
}

async fn acked(scene: &Scene) -> Result<[u64; 2], Violation> {
    let statuses = accounts::statuses(&scene.world).await.ok_or_else(|| Violation::new("the daemons do not answer"))?;
    Ok(statuses.map(|status: Value| status["acked"].as_u64().unwrap_or(0)))
}

/// What the process itself takes the time to be, in seconds: it dates what it logs about a reload.
async fn shown(scene: &Scene, whose: usize) -> Result<i64, Violation> {
    let side = &scene.world.sides[whose];
    let reloaded = side.client().post("/api/v1/reload", "application/json", String::new()).await;
    if !reloaded.is_ok_and(|answer| answer.status == 200) {
        return Err(Violation::new("a reload that changes nothing does not work"));
    }
    let words = side.last_words();
    let last = words.lines().rev().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["message"] == "reloaded").then(|| line["timestamp"].as_str().unwrap_or_default().to_owned())
    });
    Ok(seconds_of(&last.ok_or_else(|| Violation::new("the log says nothing of the reload"))?))
}

/// Seconds since 1970.
fn seconds_of(time: &str) -> i64 {
    let output = std::process::Command::new("date").args(["-d", time, "+%s"]).output().expect("there is a date");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a time")
}

struct Story {
    whose: &'static str,
    clocks: Vec<Clock>,
    slowest: Duration,
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { whose, clocks, slowest } = self;
        write!(f, "  clock of {whose}: {clocks:?}; acked both ways during each, {slowest:.1?} late at most")
    }
}

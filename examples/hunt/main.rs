//! Hunts every planted bug with the simulator, by fresh seeds, and tells which invariant caught it after how many of them:
//!
//! `cargo run --release --config examples/hunt/release.toml --features planted-bugs --example hunt -- --write docs/planted-bugs.md`

mod chase;
mod disks;
#[path = "../../tests/simulation/sim/mod.rs"]
#[expect(dead_code, unreachable_pub, reason = "the tests use the rest")]
mod sim;
mod table;

use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use pushpull::planted::Bug;
use pushpull::random::Random;
use tokio::time::Instant;

use chase::{Caught, Hunt};
use table::Row;

/// Hunts planted bugs.
#[derive(Debug, Parser)]
struct Args {
    /// Hunt these alone (by the names in src/planted.rs).
    #[arg(long = "bug", value_name = "NAME", value_parser = bug)]
    bugs: Vec<Bug>,
    /// Hunts for each bug: 5, or 1 with --check.
    #[arg(long)]
    hunts: Option<u64>,
    /// Seeds after which a hunt is given up: 200, or with --check as many as the recorded hunts let expect.
    #[arg(long)]
    seeds: Option<u64>,
    /// What all seeds come from; fresh unless it is given.
    #[arg(long)]
    seed: Option<u64>,
    /// Threads.
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, NonZero::get))]
    jobs: usize,
    /// Write the table to this file.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Hunt all bugs, and fail unless those that this table says are always caught are caught again, and it has them all.
    #[arg(long, value_name = "FILE", conflicts_with = "write")]
    check: Option<PathBuf>,
    /// Seeds without any bug, none of which may show a violation: as many as were hunted with, if it is not given.
    #[arg(long)]
    control: Option<u64>,
    /// Run this one federation with the one bug, and print everything that happens.
    #[arg(long, value_name = "SEED")]
    replay: Option<u64>,
}

fn bug(name: &str) -> Result<Bug, String> {
    Bug::named(name).ok_or_else(|| format!("there is no bug {name}: see src/planted.rs"))
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(seed) = args.replay {
        return replay(args.bugs.first().copied(), seed);
    }
    let recorded = match args.check.as_deref().map(table::read).transpose() {
        Ok(recorded) => recorded,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    let base = args.seed.unwrap_or_else(|| Random::from_system().next_u64());
    println!("hunt: seed {base}");
    let started = Instant::now();
    let bugs = if args.bugs.is_empty() { Bug::ALL.to_vec() } else { args.bugs.clone() };
    let hunts = args.hunts.unwrap_or(if recorded.is_some() { 1 } else { 5 });
    let quarry = bugs.iter().flat_map(|bug| {
        let record = recorded.as_ref().and_then(|recorded| recorded.get(bug));
        let seeds_max = args.seeds.unwrap_or_else(|| record.map_or(SEEDS_MAX, table::Record::seeds_max));
        (0..hunts).map(move |number| Hunt { bug: Some(*bug), number, seeds_max })
    });
    let caught = chase::all(quarry.collect(), base, args.jobs, report);
    let rows: Vec<Row> = bugs.iter().map(|bug| Row::of(*bug, &caught)).collect();
    let hunted: u64 = caught.iter().map(|caught| caught.seeds).sum();
    let innocent = args.control.unwrap_or(hunted);
    let mut control = chase::control(base, innocent, args.jobs);
    print!("{}", table::table(&rows));
    println!("\n{}", table::summary(&rows));
    println!("{hunted} seeds with a bug, {innocent} without, {:.0?}", started.elapsed());
    control.extend(caught.into_iter().flat_map(|caught| caught.innocent));
    let mut failed = false;
    for found in &control {
        println!("FAILED without any bug: {found}\n  replay: {}", chase::replay_command(None, found.seed));
        failed = true;
    }
    for row in recorded.iter().flat_map(|recorded| table::missed(recorded, &rows)) {
        println!(
            "FAILED: {} is recorded as caught, and {}\n  replay: {}",
            row.bug.name(),
            row.shortfall(),
            rerun(row, base, &args)
        );
        failed = true;
    }
    if let Some(path) = &args.write {
        let seeds = args.seeds.unwrap_or(SEEDS_MAX);
        let run = table::Run { hunts, seeds, base, hunted, innocent, broken: control.len() };
        if let Err(error) = table::write(path, &rows, &run) {
            eprintln!("{}: {error}", path.display());
            failed = true;
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn rerun(row: &Row, base: u64, args: &Args) -> String {
    let seeds = args.seeds.unwrap_or(SEEDS_MAX);
    format!("{COMMAND} --bug {} --hunts 1 --seeds {seeds} --seed {base} --control 0", row.bug.name())
}

/// One line for each hunt that is over.
fn report(caught: &Caught) {
    let bug = caught.hunt.bug.map_or("no bug", Bug::name);
    match &caught.found {
        Some(found) => println!("{bug:<28} {:>5} seeds  {found}", caught.seeds),
        None => println!("{bug:<28} {:>5} seeds  MISSED", caught.seeds),
    }
}

fn replay(bug: Option<Bug>, seed: u64) -> ExitCode {
    match chase::run(bug, seed, true) {
        Some(found) => {
            println!("{found}");
            ExitCode::FAILURE
        }
        None => {
            println!("no violation");
            ExitCode::SUCCESS
        }
    }
}

/// Seeds after which a recorded hunt is given up.
const SEEDS_MAX: u64 = 200;

/// How a hunt is run.
pub(crate) const COMMAND: &str =
    "cargo run --release --config examples/hunt/release.toml --features planted-bugs --example hunt --";

//! Random federations, each from a seed: the engine as it is, in pretend time. `cargo run --release --example simulate` is the
//! same at any size.

#[expect(dead_code, unreachable_pub, reason = "the runnable form uses the rest")]
mod sim;

use sim::campaign::{Besides, Failure, Plan, judged, one};
use sim::disk;
use sim::options::Options;

/// Seeds of a test run: a few seconds where nothing is optimised.
const SEEDS: u64 = 40;

#[test]
fn whatever_happens_promises_are_kept() {
    let base = pushpull::random::Random::from_system().next_u64() >> 16;
    println!("base seed {base}");
    let sum = Plan { base, seeds: SEEDS, trace: false, threads: 2, besides: Besides::Sometimes }.run(|_, _| ());
    for failure in &sum.failures {
        println!("{failure}");
    }
    assert_eq!(sum.seeds, SEEDS);
    assert!(sum.failures.is_empty(), "{} federations broke their promises", sum.failures.len());
}

#[test]
fn the_same_seed_happens_the_same_way_twice() {
    for seed in 0..6 {
        let [first, second] = [one(seed, false), one(seed, false)];
        assert_eq!((first.hash, first.events), (second.hash, second.events), "seed {seed}");
        assert!(first.events > 100, "seed {seed}: {} events", first.events);
    }
}

#[test]
fn what_replays_a_failure_does_what_it_takes() {
    for (takes, flag) in
        [(Besides::Sometimes, "--trace"), (Besides::Twice, "--twice"), (Besides::Isolated, "--isolated")]
    {
        let failure = Failure { seed: 7, violations: vec!["broken".to_owned()], takes };
        let command = format!("simulate -- --seeds 1 --seed 7 {flag}");
        assert!(failure.to_string().ends_with(&command), "{failure}");
    }
    let plan = |seeds, besides| Plan { base: 3, seeds, trace: false, threads: 1, besides };
    let twice = plan(2, Besides::Twice).run(|_, _| ());
    assert_eq!((twice.repeated, twice.isolated), (2, 0));
    // Of some seeds in a row one has hostile members.
    let isolated = plan(12, Besides::Isolated).run(|_, _| ());
    assert!(isolated.isolated > 0 && isolated.repeated == 0, "{isolated}");
}

#[test]
fn a_store_that_answers_before_it_syncs_is_found() {
    let caught = (0..60).find(|seed| {
        let mut options = Options::draw(*seed);
        options.bugs = disk::Bugs::only(disk::Bug::AckBeforeSync);
        options.faults.kills = true;
        options.faults.kill = 20;
        !judged(options, false).violations.is_empty()
    });
    assert!(caught.is_some(), "sixty federations lost what was promised, and nobody noticed");
}

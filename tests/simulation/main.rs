//! Random federations, each from a seed: the engine as it is, in pretend time. `cargo run --release --example simulate` is the
//! same at any size.

#[expect(dead_code, unreachable_pub, reason = "the runnable form uses the rest")]
mod sim;

use sim::campaign::{Plan, one};

/// Seeds of a test run: a few seconds where nothing is optimised.
const SEEDS: u64 = 40;

#[test]
fn whatever_happens_promises_are_kept() {
    let base = pushpull::random::Random::from_system().next_u64() >> 16;
    println!("base seed {base}");
    let sum = Plan { base, seeds: SEEDS, trace: false, threads: 2 }.run(|_, _| ());
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

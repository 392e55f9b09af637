//! Random federations, each from a seed: the engine as it is, in pretend time. `cargo run --release --example simulate` is the
//! same at any size.

#[expect(dead_code, unreachable_pub, reason = "the runnable form uses the rest")]
mod sim;

use sim::options::Options;
use sim::run::run;

#[test]
fn the_same_seed_happens_the_same_way_twice() {
    for seed in 0..10 {
        let [one, two] = [(); 2].map(|()| run(Options::draw(seed), (), false));
        assert_eq!(one.violations, [""; 0], "seed {seed}");
        assert_eq!((one.hash, one.events), (two.hash, two.events), "seed {seed}");
        assert!(one.events > 100, "seed {seed}: {} events", one.events);
    }
}

//! The window bounds what is under way and in memory, and those that nobody answers leave room for the rest.

use std::time::Duration;

use super::end::Opinion;
use super::link::Mode;
use super::pair::{Left, Pair, Right, Seed, Side};
use super::solo::{SPEC, Solo, sets, valid, verdicts};
use crate::peer::{Config, Ending, Input, SlotSpec};

fn config(window: usize) -> Config {
    Config { window, ..Config::default() }
}

/// Of every two SETs, one is never answered.
fn every_second(jti: &str) -> Opinion {
    let number: usize = jti.rsplit('-').next().unwrap().parse().unwrap();
    if number.is_multiple_of(2) { Opinion::Undecidable } else { Opinion::Valid }
}

#[test]
fn no_more_sets_are_under_way_than_the_window_holds() {
    let mut solo = Solo::new(config(8));
    let names: Vec<String> = (0..20).map(|n| format!("jti-{n}")).collect();
    solo.send(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let slot = solo.open();
    assert_eq!(sets(&solo.step()).len(), 8);
    solo.input(Input::SlotReady(slot));
    assert!(solo.step().is_empty());
    solo.arrive(None, &[], &["jti-0", "jti-1", "jti-2"], 1);
    assert_eq!(sets(&solo.step()), ["jti-8", "jti-9", "jti-10"]);
}

#[test]
fn no_more_bytes_are_under_way_than_the_window_holds() {
    let mut solo = Solo::new(Config { window_bytes: 450, ..Config::default() });
    solo.open();
    solo.send(&["jti-1", "jti-2", "jti-3", "jti-4", "jti-5", "jti-6"]);
    assert_eq!(sets(&solo.step()).len(), 4, "each has a hundred bytes");
}

#[test]
fn the_room_that_a_burst_took_is_given_back_when_it_is_over() {
    let mut solo = Solo::new(config(4096));
    let names: Vec<String> = (0..1000).map(|n| format!("jti-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    solo.send(&names);
    let slot = solo.open();
    assert_eq!(sets(&solo.step()).len(), 1000);
    let theirs: Vec<String> = names.iter().map(|name| format!("their-{name}")).collect();
    let theirs: Vec<_> = theirs.iter().map(|name| (name.as_str(), valid())).collect();
    solo.arrive(None, &theirs, &names, 1000);
    solo.input(Input::SlotReady(slot));
    assert_eq!(verdicts(&solo.step()).len(), 1000);
    // Also sees to what is kept.
    solo.peer.check();
}

#[test]
fn a_set_larger_than_the_window_leaves_alone() {
    let mut solo = Solo::new(Config { window_bytes: 50, ..Config::default() });
    let slot = solo.open();
    solo.send(&["jti-1", "jti-2"]);
    assert_eq!(sets(&solo.step()), ["jti-1"]);
    solo.input(Input::SlotReady(slot));
    solo.arrive(None, &[], &["jti-1"], 1);
    assert_eq!(sets(&solo.step()), ["jti-2"]);
}

#[test]
fn sets_that_nobody_answers_do_not_stall_the_rest() {
    for (mode, window) in [(Mode::WEBSOCKET, 64), (Mode::HTTP, 64), (Mode::WEBSOCKET, 4), (Mode::BOTH, 2)] {
        let mut pair = Pair::new(Seed(1), mode, config(window));
        pair.end(Right).opinion = Box::new(every_second);
        let count = 20 * window;
        pair.send_many(Left, "a", count);
        let settled = run_until_delivered(&mut pair, Right, count / 2);
        assert!(settled < Duration::from_secs(100), "{mode:?} {window} took {settled:?}");
    }
}

#[test]
fn slow_exchanges_with_few_sets_carry_new_ones_beside_retries() {
    for sets_max in [1, 2, 5] {
        let mut pair = Pair::new(Seed(2), Mode::HTTP, config(64));
        pair.link.sets_max = sets_max;
        pair.link.answer_time = Duration::from_secs(3);
        pair.link.patience = Duration::from_secs(30);
        pair.end(Right).opinion =
            Box::new(|jti| if jti.starts_with('u') { Opinion::Undecidable } else { Opinion::Valid });
        pair.send_many(Left, "u", 60);
        pair.run_for(Duration::from_secs(240));
        pair.send_many(Left, "a", 10);
        let time = run_until_delivered(&mut pair, Right, 10);
        assert!(time < Duration::from_secs(240), "{sets_max} an object: {time:?}");
    }
}

fn run_until_delivered(pair: &mut Pair, side: Side, count: usize) -> Duration {
    let start = pair.now;
    while pair.end(side).delivered().len() < count {
        assert!(pair.run_to_next(start + Duration::from_secs(3600)), "stalled");
    }
    pair.now - start
}

#[test]
fn a_partner_that_never_answers_does_not_fill_the_memory() {
    let mut pair = Pair::new(Seed(3), Mode::WEBSOCKET, config(4));
    pair.end(Right).opinion = Box::new(|_| Opinion::Undecidable);
    for batch in 0..60 {
        pair.send_many(Left, &format!("a{batch}"), 20);
        pair.run_for(Duration::from_secs(20));
    }
    assert!(pair.end(Left).held_max <= 18 * 4, "{} entries", pair.end(Left).held_max);
}

#[test]
fn a_lost_exchange_is_no_retry_and_takes_the_whole_window_again() {
    let mut solo = Solo::new(config(8));
    let names: Vec<String> = (0..8).map(|n| format!("jti-{n}")).collect();
    solo.send(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let slot = solo.open();
    solo.step();
    solo.lose(slot);
    solo.open();
    assert_eq!(sets(&solo.step()), names);
}

#[test]
fn retries_fill_at_most_half_of_the_window() {
    let mut solo = Solo::new(config(8));
    let names: Vec<String> = (0..16).map(|n| format!("jti-{n}")).collect();
    solo.send(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for _ in 0..40 {
        let slot = solo.open_as(SlotSpec { sets_max: 8, ..SPEC });
        // The bookkeeping's own check does the rest.
        solo.step_after(Duration::from_millis(700));
        solo.close(slot, Ending::Delivered);
    }
    assert!(solo.peer.stats().waiting > 0);
}

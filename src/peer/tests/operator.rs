//! Pausing and draining: SETs stay here, verdicts still leave.

use std::time::Duration;

use super::pair::{Left, Pair, Right, Seed};
use super::solo::{Solo, sets, valid, verdicts};
use crate::peer::{Act, Config, Input};

#[test]
fn draining_sends_no_sets_but_what_is_owed_and_says_when_it_is_done() {
    let mut solo = Solo::new(Config::default());
    solo.arrive(None, &[("theirs", valid())], &[], 10);
    solo.input(Input::Drain);
    solo.send(&["jti-1"]);
    solo.step();
    assert!(!solo.drained, "a verdict is owed");
    let slot = solo.open();
    let left = solo.step();
    assert_eq!((sets(&left).len(), verdicts(&left)), (0, vec!["theirs"]));
    assert!(!solo.drained, "it is not yet on its way");
    solo.input(Input::SlotReady(slot));
    assert!(solo.step().is_empty());
    assert!(solo.drained);
    assert_eq!(solo.store.outbox.len(), 1, "what was accepted is kept");
}

#[test]
fn draining_waits_again_for_verdicts_whose_slot_was_lost() {
    let mut solo = Solo::new(Config::default());
    let slot = solo.open();
    solo.input(Input::Drain);
    solo.arrive(None, &[("theirs", valid())], &[], 10);
    solo.step();
    solo.lose(slot);
    solo.step();
    assert!(!solo.drained);
    let slot = solo.open();
    assert_eq!(verdicts(&solo.step()), ["theirs"]);
    solo.close(slot, crate::peer::Ending::Delivered);
    solo.step();
    assert!(solo.drained);
}

#[test]
fn draining_does_not_wait_for_a_link_that_is_down() {
    let mut solo = Solo::new(Config::default());
    solo.arrive(None, &[("theirs", valid())], &[], 10);
    solo.input(Input::Drain);
    solo.step();
    assert!(!solo.drained, "a slot may come back in a moment");
    solo.pass(Duration::from_secs(2));
    assert!(solo.drained);
}

#[test]
fn a_pause_survives_a_restart_and_holds_sets_but_no_verdicts() {
    let mut pair = Pair::websocket(Seed(1));
    pair.input(Left, Input::Operator(Act::Pause));
    pair.send(Left, "jti-1");
    pair.send(Right, "theirs");
    pair.run_for(Duration::from_secs(5));
    pair.crash(Left);
    pair.restart(Left);
    pair.run_for(Duration::from_secs(60));
    assert!(pair.peer(Left).stats().paused);
    assert!(pair.departures(Left, "jti-1").is_empty());
    assert_eq!(pair.end(Right).store.counts.acked, 1);
    pair.input(Left, Input::Operator(Act::Resume));
    let time = pair.run_until_quiet();
    assert!(time < Duration::from_secs(1), "{time:?}");
    pair.crash(Left);
    pair.restart(Left);
    assert!(!pair.peer(Left).stats().paused);
}

#[test]
fn a_pause_amid_retries_and_a_backlog_neither_loses_nor_spins() {
    let mut pair = Pair::new(Seed(2), super::link::Mode::WEBSOCKET, Config { window: 4, ..Config::default() });
    pair.end(Right).opinion = Box::new(|_| super::end::Opinion::Undecidable);
    pair.send_many(Left, "a", 40);
    pair.run_for(Duration::from_secs(10));
    pair.input(Left, Input::Operator(Act::Pause));
    pair.run_for(Duration::from_secs(10));
    let (steps, sent) = (pair.end(Left).steps, pair.log.len());
    pair.run_for(Duration::from_secs(3600));
    assert!(pair.end(Left).steps < steps + 3800, "{} steps", pair.end(Left).steps - steps);
    assert_eq!(pair.log.len(), sent);
    pair.end(Right).opinion = Box::new(super::end::by_name);
    pair.input(Left, Input::Operator(Act::Resume));
    pair.run_until_quiet();
    assert_eq!(pair.end(Right).delivered().len(), 40);
}

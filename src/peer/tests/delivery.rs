//! SETs travel both ways over every mix of bindings, and each slot is used as its spec says.

use std::time::Duration;

use super::link::Mode;
use super::pair::{Left, Pair, Right, Seed};
use super::solo::{SPEC, Solo, sets, valid, verdicts};
use crate::peer::{Config, Ending, Input, Outcome, Reason, SlotSpec, Transmission, WaitsFor};

#[test]
fn sets_travel_both_ways_over_every_mix_of_bindings() {
    for mode in [Mode::WEBSOCKET, Mode::HTTP, Mode::BOTH] {
        let mut pair = Pair::new(Seed(1), mode, Config::default());
        pair.send_many(Left, "a", 30);
        pair.send_many(Right, "b", 30);
        let time = pair.run_until_quiet();
        assert!(time < Duration::from_secs(3), "{mode:?} took {time:?}");
        assert_eq!(pair.end(Right).delivered(), (0..30).map(|n| format!("a-{n}")).collect::<Vec<_>>());
        assert_eq!(pair.end(Left).delivered().len(), 30);
        assert_eq!(pair.outcome(Left, "a-29"), Some(Outcome::Acked));
        assert_eq!(pair.departures(Left, "a-0").len(), 1, "once is enough");
    }
}

#[test]
fn a_refused_set_ends_as_refused_and_a_verification_event_is_acked_but_not_handed_over() {
    let mut pair = Pair::websocket(Seed(1));
    pair.send(Left, "wrong");
    pair.send(Left, "verification");
    pair.run_until_quiet();
    assert!(matches!(pair.outcome(Left, "wrong"), Some(Outcome::Refused(error)) if error.err == "invalid_audience"));
    assert_eq!(pair.outcome(Left, "verification"), Some(Outcome::Acked));
    assert!(pair.end(Right).delivered().is_empty());
}

#[test]
fn a_one_way_dialler_drains_both_directions() {
    let mut pair = Pair::http(Seed(2));
    pair.link.response_sets_max = 10;
    pair.send_many(Right, "b", 500);
    let time = pair.run_until_quiet();
    assert!(time < Duration::from_secs(20), "responses alone must not wait for the speak interval: {time:?}");
    assert_eq!(pair.end(Left).delivered().len(), 500);
    assert!(pair.log.iter().filter(|object| object.side == Right).all(|object| object.sets.len() <= 10));
}

#[test]
fn an_idle_initiator_speaks_at_its_interval_and_no_more() {
    let mut pair = Pair::http(Seed(3));
    pair.run_for(Duration::from_secs(60));
    assert!((55..=60).contains(&pair.link.requests), "{} requests", pair.link.requests);
    assert!(pair.end(Left).steps < 400, "{} steps", pair.end(Left).steps);
}

#[test]
fn an_idle_websocket_carries_nothing() {
    let mut pair = Pair::websocket(Seed(3));
    pair.run_for(Duration::from_secs(60));
    assert!(pair.log.is_empty());
}

#[test]
fn a_slot_with_a_time_limit_sends_an_empty_object_then() {
    let mut solo = Solo::new(Config::default());
    let by = Some(Duration::from_secs(5));
    let slot = solo.open_as(SlotSpec { by, ..SPEC });
    assert!(solo.step().is_empty());
    assert_eq!(solo.wake, Some((Duration::from_secs(5), Reason::SlotDue)));
    assert_eq!(solo.step_after(Duration::from_secs(5)), [(slot, Transmission::default())]);
    assert_eq!(solo.wake, None, "once is enough");
    solo.input(Input::SlotReady(slot));
    assert!(solo.step().is_empty(), "also when it is ready again");
}

#[test]
fn a_slot_that_waits_for_answers_sends_them_with_whatever_else_there_is() {
    let mut solo = Solo::new(Config::default());
    let by = Some(Duration::from_secs(5));
    let slot = solo.open_as(SlotSpec { waits_for: WaitsFor::Answers, by, ..SPEC });
    solo.send(&["jti-1"]);
    assert!(solo.step().is_empty(), "a response has to wait for the request's verdicts");
    solo.arrive(Some(slot), &[("theirs", valid())], &[], 1);
    let left = solo.step();
    assert_eq!((sets(&left), verdicts(&left)), (vec!["jti-1"], vec!["theirs"]));
}

#[test]
fn a_slot_that_waits_for_answers_speaks_when_there_are_none() {
    let mut solo = Solo::new(Config::default());
    let slot = solo.open_as(SlotSpec { waits_for: WaitsFor::Answers, ..SPEC });
    solo.arrive(Some(slot), &[], &[], 1);
    assert_eq!(solo.step(), [(slot, Transmission::default())]);
}

#[test]
fn a_slot_takes_one_object_and_then_waits_until_it_is_ready() {
    let mut solo = Solo::new(Config::default());
    let slot = solo.open();
    solo.send(&["jti-1"]);
    assert_eq!(sets(&solo.step()), ["jti-1"]);
    solo.send(&["jti-2"]);
    assert!(solo.step().is_empty());
    solo.input(Input::SlotReady(slot));
    assert_eq!(sets(&solo.step()), ["jti-2"]);
}

#[test]
fn a_slot_without_limits_is_as_good_as_any() {
    let mut solo = Solo::new(Config { window: 2, ..Config::default() });
    let slot = solo.open_as(SlotSpec { sets_max: usize::MAX, bytes_max: usize::MAX, ..SPEC });
    for jti in ["jti-1", "jti-2", "jti-3"] {
        solo.send(&[jti]);
        assert_eq!(sets(&solo.step()), [jti]);
        solo.arrive(None, &[], &[jti], 1);
        solo.input(Input::SlotReady(slot));
        solo.step();
    }
}

#[test]
fn verdicts_and_sets_share_an_object_within_its_bytes() {
    let mut solo = Solo::new(Config::default());
    let theirs: Vec<String> = (0..40).map(|n| format!("theirs-{n}")).collect();
    let arrivals: Vec<_> = theirs.iter().map(|jti| (jti.as_str(), valid())).collect();
    solo.arrive(None, &arrivals, &[], 1000);
    solo.send(&["jti-1", "jti-2", "jti-3"]);
    let spec = SlotSpec { bytes_max: 200, ..SPEC };
    let (mut answered, mut sent) = (Vec::new(), Vec::new());
    for _ in 0..12 {
        let slot = solo.open_as(spec);
        let left = solo.step();
        let bytes: usize = left.iter().map(|(_, object)| super::judge::object_bytes(object)).sum();
        assert!(bytes <= 200, "{bytes} bytes");
        answered.extend(verdicts(&left).into_iter().map(str::to_owned));
        sent.extend(sets(&left).into_iter().map(str::to_owned));
        solo.close(slot, Ending::Delivered);
    }
    assert_eq!(answered, theirs, "each verdict once and in order");
    assert_eq!(sent, ["jti-1", "jti-2", "jti-3"]);
}

#[test]
fn a_set_or_verdict_larger_than_any_object_leaves_alone_rather_than_never() {
    let mut solo = Solo::new(Config::default());
    let long = "x".repeat(300);
    solo.arrive(None, &[(&long, valid()), ("short", valid())], &[], 10);
    solo.open_as(SlotSpec { bytes_max: 200, ..SPEC });
    assert_eq!(verdicts(&solo.step()), [long]);
    solo.open_as(SlotSpec { bytes_max: 50, ..SPEC });
    solo.send(&["jti-1"]);
    assert_eq!(sets(&solo.step()), ["jti-1"]);
}

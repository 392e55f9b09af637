//! What waits on disk is read page by page, in order, with bounded memory, and none of it is overlooked.

use std::time::Duration;

use super::link::Mode;
use super::pair::{Left, Pair, Right, Seed};
use super::solo::{SPEC, Solo, sets, valid};
use crate::peer::{Config, Input, Outcome, Output, Page, Select, SlotSpec, Transmission, WaitsFor};

fn config(window: usize) -> Config {
    Config { window, ..Config::default() }
}

#[test]
fn a_backlog_of_fifty_windows_drains_in_order_with_bounded_memory() {
    for mode in [Mode::WEBSOCKET, Mode::HTTP] {
        let mut pair = Pair::new(Seed(1), mode, config(20));
        pair.send_many(Left, "a", 1000);
        pair.run_until_quiet();
        let delivered = pair.end(Right).delivered();
        assert!(delivered == (0..1000).map(|n| format!("a-{n}")).collect::<Vec<_>>(), "{delivered:?}");
        assert!(pair.end(Left).held_max <= 20, "{} entries", pair.end(Left).held_max);
    }
}

#[test]
fn a_restart_at_any_point_of_a_backlog_loses_and_doubles_nothing() {
    for crash in 0..60 {
        let mut pair = Pair::new(Seed(crash), Mode::WEBSOCKET, config(7));
        pair.disk_time = Duration::from_millis(3);
        pair.send_many(Left, "a", 60);
        pair.run_for(Duration::from_millis(4 * crash));
        let side = if crash % 3 == 0 { Right } else { Left };
        pair.crash(side);
        pair.restart(side);
        // A crash before the first commit has accepted nothing.
        pair.send_many(Left, "a", 60);
        pair.run_until_quiet();
        assert_eq!(pair.end(Right).delivered().len(), 60, "crash at {crash}");
    }
}

#[test]
fn sparse_rows_are_found_after_a_restart() {
    let mut pair = Pair::new(Seed(2), Mode::WEBSOCKET, config(3));
    pair.end(Right).opinion = Box::new(|jti| {
        let number: u32 = jti.rsplit('-').next().unwrap().parse().unwrap();
        if number.is_multiple_of(17) { super::end::Opinion::Undecidable } else { super::end::Opinion::Valid }
    });
    pair.send_many(Left, "a", 200);
    pair.run_for(Duration::from_secs(60));
    assert_eq!(pair.end(Left).store.outbox.len(), 12);
    pair.crash(Left);
    pair.restart(Left);
    pair.end(Right).opinion = Box::new(super::end::by_name);
    pair.send(Left, "last-1");
    let time = pair.run_until_quiet();
    assert!(time < Duration::from_secs(5), "{time:?}");
}

#[test]
fn rows_that_are_queued_while_a_page_is_read_are_not_overlooked() {
    let mut solo = Solo::new(config(2));
    solo.slow_reads = true;
    solo.send(&["jti-1", "jti-2", "jti-3"]);
    let slot = solo.open();
    assert_eq!(sets(&solo.step()), ["jti-1", "jti-2"]);
    solo.arrive(None, &[], &["jti-1", "jti-2"], 1);
    let step = solo.peer.step(solo.clock());
    step.writes.iter().for_each(|write| {
        solo.store.apply(write);
    });
    let Some(Output::ReadOutbox(select)) = step.outputs.iter().find(|output| matches!(output, Output::ReadOutbox(_)))
    else {
        panic!("no read was asked for")
    };
    // The page is read before the new row is committed, and arrives after it.
    let page = solo.store.read(select);
    solo.send(&["jti-4"]);
    solo.input(Input::SlotReady(slot));
    solo.step();
    solo.slow_reads = false;
    solo.input(Input::OutboxRows(page));
    assert_eq!(sets(&solo.step()), ["jti-3"]);
    solo.input(Input::SlotReady(slot));
    assert_eq!(sets(&solo.step()), ["jti-4"]);
}

#[test]
fn a_response_waits_for_rows_that_are_being_read_but_not_for_ever() {
    let mut solo = Solo::new(config(2));
    solo.send(&["jti-1"]);
    solo.step();
    solo.restart();
    solo.slow_reads = true;
    let by = Some(Duration::from_secs(5));
    let slot = solo.open_as(SlotSpec { waits_for: WaitsFor::Answers, by, ..SPEC });
    solo.arrive(Some(slot), &[("theirs", valid())], &[], 1);
    assert!(solo.step().is_empty(), "the request came before the backlog was in memory");
    let impatient = solo.open_as(SlotSpec { waits_for: WaitsFor::Answers, ..SPEC });
    solo.arrive(Some(impatient), &[], &[], 1);
    assert_eq!(solo.step().iter().map(|(slot, _)| *slot).collect::<Vec<_>>(), [impatient]);
    assert!(solo.step_after(Duration::from_secs(4)).is_empty());
    let page = solo.store.read(&Select::After { after: 0, rows_max: 2, bytes_max: 1000 });
    solo.input(Input::OutboxRows(page));
    assert_eq!(sets(&solo.step()), ["jti-1"]);

    solo.restart();
    let slot = solo.open_as(SlotSpec { waits_for: WaitsFor::Answers, by, ..SPEC });
    solo.arrive(Some(slot), &[], &[], 1);
    assert!(solo.step().is_empty());
    assert_eq!(solo.step_after(Duration::from_secs(5)), [(slot, Transmission::default())]);
}

#[test]
fn an_empty_page_ends_the_reading() {
    let mut solo = Solo::new(config(2));
    solo.send(&["jti-1"]);
    solo.step();
    solo.restart();
    solo.slow_reads = true;
    solo.step();
    solo.input(Input::OutboxRows(Page { read_to: 0, ..Page::default() }));
    solo.slow_reads = false;
    assert!(solo.step().is_empty());
    solo.open();
    solo.send(&["jti-2"]);
    assert_eq!(sets(&solo.step()), ["jti-2"]);
}

#[test]
fn damaged_rows_are_reported_and_passed_over() {
    let mut pair = Pair::new(Seed(3), Mode::WEBSOCKET, config(4));
    pair.cut();
    pair.send_many(Left, "a", 40);
    pair.run_for(Duration::from_secs(1));
    pair.end(Left).store.damaged.extend([1, 2, 3, 4, 5, 20, 40]);
    pair.crash(Left);
    pair.restart(Left);
    pair.restore();
    pair.run_until_quiet();
    assert_eq!(pair.end(Right).delivered().len(), 33);
    assert_eq!(pair.peer(Left).stats().damaged, 7);
    assert_eq!(pair.end(Left).store.outbox.len(), 7, "they are kept");
}

#[test]
fn a_row_that_is_damaged_when_its_retry_is_read_does_not_hold_up_others() {
    let mut pair = Pair::new(Seed(4), Mode::WEBSOCKET, config(4));
    pair.link.lose_next = 1;
    pair.send_many(Left, "a", 4);
    pair.run_for(Duration::from_millis(500));
    pair.end(Left).store.damaged.insert(2);
    pair.run_until_quiet();
    pair.run_for(Duration::from_secs(10));
    assert_eq!(pair.end(Right).delivered().len(), 3);
    assert_eq!(pair.peer(Left).stats().damaged, 1);
    assert_eq!(pair.peer(Left).stats().in_flight, 0);
}

#[test]
fn new_sets_travel_behind_a_backlog() {
    let mut pair = Pair::new(Seed(5), Mode::WEBSOCKET, config(8));
    pair.send_many(Left, "a", 100);
    for n in 0..50 {
        pair.send(Left, &format!("b-{n}"));
        pair.run_for(Duration::from_millis(5));
    }
    pair.run_until_quiet();
    let expected = (0..100).map(|n| format!("a-{n}")).chain((0..50).map(|n| format!("b-{n}")));
    assert_eq!(pair.end(Right).delivered(), expected.collect::<Vec<_>>());
}

#[test]
fn a_full_outbox_takes_no_more() {
    let mut solo = Solo::new(Config { outbox_max: 3, ..config(2) });
    assert_eq!(solo.peer.room(), 3);
    solo.send(&["jti-1", "jti-2"]);
    assert_eq!(solo.peer.room(), 1, "also before the step");
    solo.open();
    solo.step();
    assert_eq!(solo.peer.room(), 1);
    solo.arrive(None, &[], &["jti-1"], 1);
    solo.step();
    assert_eq!((solo.peer.room(), solo.store.outcome("jti-1")), (2, Some(Outcome::Acked)));
    assert_eq!(solo.store.read(&Select::Seqs(vec![1, 2])).rows.len(), 1);
}

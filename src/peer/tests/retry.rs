//! A SET that was lost is sent again, soon on a new link and with growing pauses on a live one.

use std::time::Duration;

use super::link::Mode;
use super::pair::{Left, Pair, Right, Seed};
use super::solo::{SPEC, Solo, sets};
use crate::peer::{Act, Config, Ending, Input, Outcome, SlotSpec};

#[test]
fn a_lost_set_is_sent_again_after_the_retry_interval() {
    let mut pair = Pair::websocket(Seed(7));
    pair.link.lose_next = 1;
    pair.send(Left, "jti-1");
    pair.run_for(Duration::from_millis(1400));
    assert!(pair.end(Right).delivered().is_empty());
    pair.run_for(Duration::from_millis(700));
    assert_eq!(pair.end(Right).delivered(), ["jti-1"]);
    assert_eq!(pair.departures(Left, "jti-1").len(), 2);
}

#[test]
fn a_lost_ack_is_repeated_when_the_set_comes_again() {
    let mut pair = Pair::websocket(Seed(7));
    pair.send(Left, "jti-1");
    pair.run_for(Duration::from_millis(9));
    pair.link.lose_next = 1;
    pair.run_until_quiet();
    assert_eq!(pair.end(Right).delivered(), ["jti-1"]);
    assert_eq!(pair.answers(Right, "jti-1"), 2);
}

#[test]
fn a_lost_request_and_a_lost_response_cost_nothing_but_time() {
    for lost in 1..6 {
        let mut pair = Pair::http(Seed(8));
        pair.send_many(Left, "a", 3);
        pair.send_many(Right, "b", 3);
        pair.run_for(Duration::from_millis(5 * lost));
        pair.link.lose_next = lost as u32;
        pair.run_until_quiet();
        assert_eq!((pair.end(Left).delivered().len(), pair.end(Right).delivered().len()), (3, 3));
    }
}

#[test]
fn reconnection_resends_unacked_sets_at_once_and_counts_no_attempt() {
    let mut pair = Pair::websocket(Seed(9));
    pair.run_for(Duration::from_millis(50));
    pair.send_many(Left, "a", 10);
    pair.run_for(Duration::from_millis(5));
    pair.cut();
    pair.restore();
    pair.run_for(Duration::from_millis(150));
    assert_eq!(pair.departures(Left, "a-0").len(), 2);
    pair.run_until_quiet();
    assert_eq!(pair.end(Right).delivered(), (0..10).map(|n| format!("a-{n}")).collect::<Vec<_>>(), "in order");
    assert_eq!(pair.end(Left).store.attempts("a-0"), 0);
}

#[test]
fn a_link_that_died_unnoticed_is_replaced_and_everything_on_it_sent_again() {
    for deaf in [Left, Right] {
        let mut pair = Pair::websocket(Seed(10));
        pair.run_for(Duration::from_millis(50));
        pair.link.deaf = Some(deaf);
        pair.send_many(Left, "a", 5);
        pair.send_many(Right, "b", 5);
        pair.run_for(Duration::from_secs(8));
        pair.restore();
        let time = pair.run_until_quiet();
        assert!(time < Duration::from_secs(10), "{time:?}");
    }
}

#[test]
fn retries_wait_longer_each_time_up_to_the_longest_pause() {
    let config = Config { retry_max: Duration::from_secs(30), ..Config::default() };
    let mut pair = Pair::new(Seed(11), Mode::WEBSOCKET, config);
    pair.send(Left, "undecidable");
    pair.run_for(Duration::from_secs(600));
    let times = pair.departures(Left, "undecidable");
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let (first, last) = (gaps[0], gaps[gaps.len() - 1]);
    assert!(first < Duration::from_millis(2100), "{gaps:?}");
    assert!((Duration::from_secs(15)..Duration::from_secs(32)).contains(&last), "{gaps:?}");
    assert!((20..45).contains(&times.len()), "{} transmissions", times.len());
}

#[test]
fn a_partner_that_asks_for_a_pause_gets_it_and_no_attempt_is_counted() {
    let mut pair = Pair::http(Seed(12));
    pair.link.busy_next = 1;
    pair.link.retry_after = Duration::from_secs(30);
    pair.send(Left, "jti-1");
    pair.run_for(Duration::from_secs(29));
    assert_eq!(pair.departures(Left, "jti-1").len(), 1);
    let time = pair.run_until_quiet();
    assert!(time < Duration::from_secs(3), "{time:?}");
    assert_eq!(pair.end(Left).store.attempts("jti-1"), 0);
}

#[test]
fn an_absurd_pause_is_cut_short() {
    let mut solo = Solo::new(Config::default());
    let slot = solo.open();
    solo.send(&["jti-1"]);
    solo.step();
    solo.close(slot, Ending::Lost { retry_after: Duration::MAX });
    solo.step();
    solo.open();
    assert_eq!(sets(&solo.pass(Duration::from_secs(24 * 3600)))[0], "jti-1");
}

#[test]
fn a_late_ack_settles_a_set_that_waits_for_its_retry() {
    let mut solo = Solo::new(Config::default());
    solo.open();
    solo.send(&["jti-1"]);
    solo.step();
    solo.step_after(Duration::from_millis(1100));
    assert_eq!(solo.peer.stats().waiting, 1);
    solo.arrive(None, &[], &["jti-1"], 1);
    solo.step();
    assert_eq!(solo.store.outcome("jti-1"), Some(Outcome::Acked));
    assert_eq!((solo.wake, solo.peer.stats().ack_time), (None, Some(Duration::from_millis(1100))));
}

#[test]
fn a_late_ack_settles_a_set_whose_retry_is_being_read() {
    let mut solo = Solo::new(Config::default());
    let slot = solo.open();
    solo.send(&["jti-1"]);
    solo.step();
    solo.step_after(Duration::from_millis(1100));
    solo.slow_reads = true;
    solo.step_after(Duration::from_millis(1100));
    let page = solo.store.read(&crate::peer::Select::Seqs(vec![1]));
    solo.arrive(None, &[], &["jti-1"], 1);
    solo.input(Input::OutboxRows(page));
    solo.input(Input::SlotReady(slot));
    assert!(solo.step().is_empty(), "a settled SET never leaves again");
    assert_eq!((solo.wake, solo.peer.stats().in_flight), (None, 0));
}

#[test]
fn the_ack_wait_grows_on_a_slow_link_so_that_duplicates_end() {
    let mut pair = Pair::websocket(Seed(13));
    pair.link.latency = Duration::from_secs(4);
    for round in 0..20 {
        pair.send_many(Left, &format!("a{round}"), 10);
        pair.run_for(Duration::from_secs(12));
    }
    pair.run_until_quiet();
    let copies = |round: usize| pair.departures(Left, &format!("a{round}-0")).len();
    assert!(copies(0) > 1, "nothing is known of the link yet");
    assert!((10..20).all(|round| copies(round) == 1), "{:?}", (0..20).map(copies).collect::<Vec<_>>());
    let measured = pair.peer(Left).stats().ack_time;
    assert!(measured.is_some_and(|time| time > Duration::from_secs(6)), "{measured:?}");
}

#[test]
fn losses_on_a_fast_link_do_not_make_the_ack_wait_grow() {
    let mut pair = Pair::websocket(Seed(14));
    pair.link.loss = 30;
    for round in 0..50 {
        pair.send_many(Left, &format!("a{round}"), 3);
        pair.run_for(Duration::from_secs(5));
    }
    pair.run_until_quiet();
    let measured = pair.peer(Left).stats().ack_time;
    assert!(measured.is_some_and(|time| time < Duration::from_millis(100)), "{measured:?}");
}

#[test]
fn many_objects_by_one_slot_are_all_remembered_when_it_is_lost() {
    let mut solo = Solo::new(Config { window: 4, ..Config::default() });
    let slot = solo.open_as(SlotSpec { sets_max: 1, ..SPEC });
    solo.send(&["kept"]);
    solo.step();
    let names: Vec<String> = (0..2000).map(|n| format!("jti-{n}")).collect();
    for jti in &names {
        solo.send(&[jti]);
        solo.input(Input::SlotReady(slot));
        solo.step();
        solo.arrive(None, &[], &[jti], 1);
    }
    solo.lose(slot);
    solo.open();
    assert_eq!(sets(&solo.step()), ["kept"]);
}

#[test]
fn what_a_partner_asked_patience_for_is_due_when_somebody_hurries_and_nothing_else_is() {
    let hour = Duration::from_secs(3600);
    let mut solo = Solo::new(Config::default());
    solo.send(&["minded"]);
    let slot = solo.open();
    solo.step();
    solo.close(slot, Ending::Rejected { retry_after: hour, too_large: false });
    solo.send(&["a", "b"]);
    let slot = solo.open();
    assert_eq!(sets(&solo.step()), ["a", "b"]);
    solo.close(slot, Ending::Lost { retry_after: hour });
    solo.open();
    assert!(sets(&solo.pass(Duration::from_secs(60))).is_empty(), "within the hour");
    solo.input(Input::Operator(Act::Hurry));
    assert_eq!(sets(&solo.step()), ["a", "b"]);
    assert_eq!(solo.peer.under_way(&"a".into()), Some((true, 0)), "that was no attempt");
}

#[test]
fn a_set_that_was_sent_often_leaves_soon_by_a_new_link_also_where_the_partner_was_heard() {
    let mut solo = Solo::new(Config::default());
    solo.send(&["a"]);
    let slot = solo.open();
    assert_eq!(sets(&solo.step()), ["a"]);
    for _ in 0..7 {
        solo.input(Input::SlotReady(slot));
        assert_eq!(sets(&solo.pass(Duration::from_secs(400))), ["a"]);
    }
    solo.input(Input::SlotReady(slot));
    assert_eq!(sets(&solo.step()), ["a"]);
    // The partner is there, and says nothing about it.
    solo.input(Input::SlotReady(slot));
    solo.step();
    solo.now += Duration::from_millis(10);
    solo.input(Input::SlotAlive(slot));
    assert!(sets(&solo.pass(Duration::from_secs(25))).is_empty(), "it waits for half a minute at least");
    solo.lose(slot);
    solo.open();
    assert!(sets(&solo.step()).is_empty(), "it was heard, so its answer may come");
    assert_eq!(sets(&solo.pass(Config::default().retry_first)), ["a"]);
    assert_eq!(solo.peer.under_way(&"a".into()), Some((true, 0)), "so short a pause is no attempt's");
}

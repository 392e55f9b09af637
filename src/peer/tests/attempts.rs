//! When a SET is given up: only after enough real attempts and enough time, or when it is too old for anybody.

use std::time::Duration;

use super::link::Mode;
use super::pair::{Left, Pair, Right, Seed};
use super::solo::{Solo, sets};
use crate::peer::{Config, DeathCause, Ending, Input, Outcome};

fn config() -> Config {
    Config {
        attempts_max: 5,
        give_up_after: Duration::from_secs(3600),
        retry_max: Duration::from_secs(60),
        ..Config::default()
    }
}

#[test]
fn after_enough_attempts_and_enough_time_a_set_is_dead() {
    let mut pair = Pair::new(Seed(1), Mode::WEBSOCKET, config());
    pair.send(Left, "undecidable");
    pair.run_for(Duration::from_secs(3500));
    assert_eq!(pair.outcome(Left, "undecidable"), None, "attempts alone do not bury it");
    assert!(pair.end(Left).store.attempts("undecidable") > 20);
    pair.run_for(Duration::from_secs(300));
    assert_eq!(pair.outcome(Left, "undecidable"), Some(Outcome::Dead(DeathCause::Attempts)));
    let departures = pair.departures(Left, "undecidable").len();
    pair.run_for(Duration::from_secs(3600));
    assert_eq!(pair.departures(Left, "undecidable").len(), departures, "it never leaves again");
}

#[test]
fn time_alone_does_not_bury_a_set() {
    let config = Config { give_up_after: Duration::from_secs(1), attempts_max: 20, ..config() };
    let mut pair = Pair::new(Seed(2), Mode::WEBSOCKET, config);
    pair.send(Left, "undecidable");
    pair.run_for(Duration::from_secs(60));
    assert_eq!(pair.outcome(Left, "undecidable"), None);
    pair.run_for(Duration::from_secs(1800));
    assert_eq!(pair.outcome(Left, "undecidable"), Some(Outcome::Dead(DeathCause::Attempts)));
    assert_eq!(pair.end(Left).store.attempts("undecidable"), 20);
}

#[test]
fn a_dead_link_uses_up_no_attempts() {
    let config = Config { give_up_after: Duration::from_secs(1), attempts_max: 2, ..config() };
    for mode in [Mode::WEBSOCKET, Mode::HTTP] {
        let mut pair = Pair::new(Seed(3), mode, config.clone());
        pair.run_for(Duration::from_millis(50));
        pair.link.up = false;
        pair.send(Left, "jti-1");
        pair.run_for(Duration::from_secs(24 * 3600));
        pair.restore();
        pair.run_until_quiet();
        assert_eq!(pair.outcome(Left, "jti-1"), Some(Outcome::Acked));
        assert_eq!(pair.end(Left).store.attempts("jti-1"), 0);
    }
}

#[test]
fn an_exchange_that_was_answered_without_a_verdict_is_an_attempt() {
    let mut pair = Pair::new(Seed(4), Mode::HTTP, config());
    pair.send(Left, "undecidable");
    pair.run_for(Duration::from_secs(300));
    let sent = pair.departures(Left, "undecidable").len() as u32;
    let counted = pair.end(Left).store.attempts("undecidable");
    assert!(sent > 5 && (sent - 1..=sent).contains(&counted), "{counted} of {sent}");
}

#[test]
fn what_was_heard_before_a_set_left_is_no_sign_that_it_arrived() {
    let mut solo = Solo::new(config());
    let slot = solo.open();
    solo.send(&["jti-1"]);
    // A pong in the very news that the step answers: the SET left after it.
    solo.input(Input::SlotAlive(slot));
    solo.step();
    solo.pass(Duration::from_secs(3));
    assert_eq!(solo.peer.under_way(&"jti-1".into()).map(|(_, attempts)| attempts), Some(0));
}

#[test]
fn what_is_heard_while_an_object_waits_to_leave_tells_of_those_before_it_alone() {
    let mut solo = Solo::new(config());
    let slot = solo.open();
    solo.send(&["before"]);
    solo.step();
    solo.input(Input::SlotReady(slot));
    solo.send(&["waits"]);
    assert_eq!(sets(&solo.step_after(Duration::from_millis(100))), ["waits"]);
    // Its commit has met a full disk, and meanwhile a pong comes.
    solo.now += Duration::from_millis(100);
    solo.input(Input::SlotAlive(slot));
    solo.pass(Duration::from_secs(3));
    let attempts = |jti: &str| solo.peer.under_way(&jti.into()).map(|(_, attempts)| attempts);
    assert_eq!((attempts("before"), attempts("waits")), (Some(1), Some(0)));
}

#[test]
fn a_set_that_nobody_answers_is_counted_once_a_transmission() {
    let mut solo = Solo::new(config());
    let slot = solo.open();
    solo.send(&["jti-1"]);
    let mut sent = 0;
    for _ in 0..600 {
        sent += sets(&solo.step_after(Duration::from_millis(500))).len() as u32;
        solo.input(Input::SlotAlive(slot));
        solo.input(Input::SlotReady(slot));
    }
    let (_, counted) = solo.peer.under_way(&"jti-1".into()).unwrap();
    assert!(sent > 5 && (sent - 1..=sent).contains(&counted), "{counted} of {sent}");
}

#[test]
fn a_crash_may_forget_the_last_attempt_but_no_more() {
    let mut pair = Pair::new(Seed(5), Mode::WEBSOCKET, config());
    pair.send(Left, "undecidable");
    pair.run_for(Duration::from_secs(100));
    let before = pair.peer(Left).under_way(&"undecidable".into()).unwrap().1;
    pair.crash(Left);
    pair.restart(Left);
    pair.run_for(Duration::from_millis(500));
    let after = pair.peer(Left).under_way(&"undecidable".into()).unwrap().1;
    assert!(before > 4 && after == before, "{before} {after}");
}

#[test]
fn a_set_older_than_age_max_is_dead_wherever_it_stands() {
    let config = Config { age_max: Duration::from_secs(1000), ..config() };
    let mut solo = Solo::new(config);
    let slot = solo.open();
    solo.send(&["sent"]);
    solo.step();
    // Its answer does not come, its retry is due, and then there is no link any more.
    solo.lose(slot);
    let slot = solo.open();
    solo.step();
    solo.pass(Duration::from_secs(3));
    solo.lose(slot);
    solo.send(&["never sent"]);
    solo.pass(Duration::from_secs(1000));
    for jti in ["sent", "never sent"] {
        assert_eq!(solo.store.outcome(jti), Some(Outcome::Dead(DeathCause::Age)), "{jti}");
    }
}

#[test]
fn what_has_grown_old_on_disk_ends_without_filling_the_memory() {
    let config = Config { age_max: Duration::from_secs(1000), window: 4, ..config() };
    let mut pair = Pair::new(Seed(6), Mode::WEBSOCKET, config);
    pair.link.up = false;
    pair.cut();
    pair.send_many(Left, "a", 500);
    pair.run_for(Duration::from_secs(1500));
    assert_eq!(pair.end(Left).store.counts.dead, 500);
    assert!(pair.end(Left).held_max <= 8, "{} entries", pair.end(Left).held_max);
}

#[test]
fn a_suspect_clock_buries_nothing() {
    let mut pair = Pair::new(Seed(7), Mode::WEBSOCKET, config());
    pair.send(Left, "undecidable");
    pair.send(Left, "undecidable-2");
    pair.run_for(Duration::from_secs(900));
    pair.end(Left).wall_ahead = 365 * 86_400_000;
    pair.end(Left).suspect = true;
    pair.run_for(Duration::from_secs(600));
    assert_eq!(pair.end(Left).store.counts.dead, 0);
}

#[test]
fn a_clock_that_was_set_right_does_not_age_what_was_accepted_before() {
    let config = Config { age_max: Duration::from_secs(14 * 86_400), ..config() };
    let mut pair = Pair::new(Seed(8), Mode::WEBSOCKET, config);
    pair.end(Right).opinion = Box::new(|_| super::end::Opinion::Undecidable);
    pair.end(Left).wall_ahead = -365 * 86_400_000;
    pair.send(Left, "jti-1");
    pair.run_for(Duration::from_secs(60));
    pair.end(Left).wall_ahead = 0;
    // Ten steady minutes later the new time is believed.
    pair.run_for(Duration::from_secs(600));
    assert_eq!(pair.outcome(Left, "jti-1"), None, "it is not a year old");
    pair.end(Right).opinion = Box::new(super::end::by_name);
    pair.run_until_quiet();
    assert_eq!(pair.outcome(Left, "jti-1"), Some(Outcome::Acked));
}

#[test]
fn a_clock_that_runs_ahead_buries_nothing_however_long_the_process_has_been_running() {
    let config =
        Config { give_up_after: Duration::from_secs(72 * 3600), age_max: Duration::from_secs(96 * 3600), ..config() };
    let mut pair = Pair::new(Seed(9), Mode::WEBSOCKET, config);
    pair.run_for(Duration::from_secs(30 * 86_400));
    pair.send(Left, "undecidable");
    pair.run_for(Duration::from_secs(3600));
    assert!(pair.end(Left).store.attempts("undecidable") > 20, "attempts are used up");
    pair.end(Left).wall_ahead = 365 * 86_400_000;
    pair.run_for(Duration::from_secs(70 * 3600));
    assert_eq!(pair.outcome(Left, "undecidable"), None, "it is not a year old");
    pair.run_for(Duration::from_secs(3 * 3600));
    assert_eq!(pair.outcome(Left, "undecidable"), Some(Outcome::Dead(DeathCause::Attempts)));
}

#[test]
fn a_rejection_of_one_set_alone_is_an_attempt() {
    let mut solo = Solo::new(Config { give_up_after: Duration::ZERO, attempts_max: 3, ..config() });
    solo.send(&["poison"]);
    for attempt in 1..=3 {
        if attempt == 3 {
            assert_eq!(solo.store.attempts("poison"), 2, "a restart would remember it");
        }
        let slot = solo.open();
        while solo.step().is_empty() {
            solo.now = solo.wake.unwrap().0;
        }
        assert_eq!(solo.store.outcome("poison"), None, "before attempt {attempt}");
        solo.close(slot, Ending::REJECTED);
        solo.step();
    }
    assert_eq!(solo.store.outcome("poison"), Some(Outcome::Dead(DeathCause::Attempts)));
    assert_eq!(solo.store.attempts("poison"), 3);
}

#[test]
fn an_exchange_that_was_completed_says_nothing_of_the_next_transmission() {
    let mut solo = Solo::new(config());
    let slot = solo.open();
    solo.send(&["jti-1"]);
    solo.step();
    solo.close(slot, Ending::Delivered);
    // Its retry leaves by a link on which nobody is heard.
    solo.open();
    assert_eq!(sets(&solo.pass(Duration::from_secs(60))), ["jti-1"]);
    assert_eq!(solo.peer.under_way(&"jti-1".into()).map(|(_, attempts)| attempts), Some(1));
}

#[test]
fn silence_on_a_link_that_may_be_dead_buries_nothing() {
    let mut solo = Solo::new(Config { attempts_max: 2, give_up_after: Duration::from_secs(8), ..config() });
    let slot = solo.open();
    solo.send(&["jti-1"]);
    while solo.peer.under_way(&"jti-1".into()).unwrap().1 < 2 {
        solo.step_after(Duration::from_millis(500));
        solo.input(Input::SlotAlive(slot));
        solo.input(Input::SlotReady(slot));
    }
    // Its attempts are used up, its time is not; then the link falls silent.
    solo.input(Input::SlotReady(slot));
    solo.pass(Duration::from_secs(600));
    assert_eq!(solo.store.outcome("jti-1"), None);
}

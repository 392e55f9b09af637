//! What operators do with dead letters: a new series with the same bytes, a new SET that is linked, or the end.

use std::time::Duration;

use super::end::signed;
use super::pair::{Left, Pair, Right, Seed};
use super::solo::{Solo, sets};
use crate::peer::{
    Act, Chapter, Config, DeathCause, Fate, Input, Inspected, Outcome, Redrive, Redriven, Story, Transmission, Unfit,
    Write,
};
use crate::set::SetErr;

/// Gives up after two attempts and two seconds.
fn impatient() -> Config {
    Config { attempts_max: 2, give_up_after: Duration::from_secs(2), ..Config::default() }
}

/// An end on which these were sent and given up; the link is gone again.
fn given_up(jtis: &[&str]) -> Solo {
    let mut solo = Solo::new(impatient());
    let slot = solo.open();
    solo.send(jtis);
    for _ in 0..30 {
        solo.pass(Duration::from_secs(1));
        solo.input(Input::SlotReady(slot));
        solo.input(Input::SlotAlive(slot));
    }
    solo.lose(slot);
    solo.step();
    assert_eq!(solo.store.dead.len(), jtis.len(), "given up");
    solo
}

fn refused(jti: &str) -> Solo {
    let mut solo = Solo::new(Config::default());
    let slot = solo.open();
    solo.send(&[jti]);
    solo.step();
    let error = SetErr { err: "invalid_key".to_owned(), description: "no such key".to_owned() };
    let object = Inspected { errors: vec![(jti.into(), error)], ..Inspected::default() };
    solo.input(Input::Arrived { slot: None, object });
    solo.lose(slot);
    solo.step();
    solo
}

#[test]
fn a_resent_set_leaves_with_the_same_bytes_and_starts_a_new_series() {
    let mut solo = given_up(&["jti-1"]);
    let first = solo.store.dead.values().next().unwrap().clone();
    solo.now += Duration::from_secs(1_000_000);
    solo.redrive("jti-1", Redrive::Resend);
    solo.step();
    assert_eq!(solo.redriven, [Ok(Redriven::Resent)]);
    assert!(solo.store.dead.is_empty());
    let row = solo.store.outbox.values().next().unwrap();
    assert_eq!((row.attempts, row.accepted_at, &row.compact), (0, solo.clock().wall, &first.compact));
    let counts = solo.peer.stats().counts;
    assert_eq!((counts.queued, counts.dead, counts.dead_letters), (1, 1, 0));
    let slot = solo.open();
    let left = solo.step();
    assert_eq!(left[0].1.sets, [("jti-1".into(), first.compact)]);
    solo.lose(slot);
    solo.step_after(Duration::from_secs(5));
    assert_eq!(solo.store.outbox.len(), 1, "it is not given up at once for what was before");
    solo.restart();
    solo.open();
    assert_eq!(sets(&solo.step()), ["jti-1"]);
    solo.arrive(None, &[], &["jti-1"], 0);
    solo.step();
    let memory = &solo.store.sent["jti-1"];
    assert!(matches!(memory.fate, Fate::Settled { outcome: Outcome::Acked, .. }));
    let Fate::Settled { at, attempts, .. } = first.memory.fate else { panic!("it was settled") };
    let series = Chapter::Series { since: first.memory.since, cause: DeathCause::Attempts, at, attempts };
    assert_eq!(memory.story, Story::of(vec![series]), "both series are told");
}

#[test]
fn a_resent_set_that_had_been_delivered_is_acked_again_and_handed_over_once() {
    let mut pair = Pair::new(Seed(3), super::link::Mode::WEBSOCKET, impatient());
    pair.send(Left, "jti-1");
    pair.end(Right).opinion = Box::new(|_| super::end::Opinion::Undecidable);
    pair.run_until_quiet();
    assert!(matches!(pair.outcome(Left, "jti-1"), Some(Outcome::Dead(_))));
    // A copy that was under way for long arrives now; its ack comes too late.
    pair.end(Right).opinion = Box::new(super::end::by_name);
    let token = pair.end(Left).store.dead.values().next().unwrap().compact.clone();
    pair.forge(Right, Transmission { sets: vec![("jti-1".into(), token)], verdicts: Vec::new(), more: false });
    pair.run_for(Duration::from_secs(10));
    assert_eq!(pair.answers(Right, "jti-1"), 1);
    assert!(matches!(pair.outcome(Left, "jti-1"), Some(Outcome::Dead(_))), "a late answer changes nothing");
    let seq = *pair.end(Left).store.dead.keys().next().unwrap();
    assert!(pair.end(Left).redrive(seq, Redrive::Resend));
    pair.run_until_quiet();
    assert_eq!(pair.outcome(Left, "jti-1"), Some(Outcome::Acked));
    assert_eq!(pair.end(Right).delivered(), ["jti-1"]);
    assert_eq!(pair.answers(Right, "jti-1"), 2);
}

#[test]
fn an_answer_that_comes_before_the_resent_set_left_changes_nothing() {
    let mut solo = given_up(&["jti-1"]);
    solo.arrive(None, &[], &["jti-1"], 0);
    solo.step();
    assert!(matches!(solo.store.outcome("jti-1"), Some(Outcome::Dead(_))), "a late answer is not the end");
    solo.redrive("jti-1", Redrive::Resend);
    solo.arrive(None, &[], &["jti-1"], 0);
    solo.step();
    assert_eq!(solo.store.outbox.len(), 1);
    solo.open();
    solo.step();
    solo.arrive(None, &[], &["jti-1"], 0);
    solo.step();
    assert_eq!(solo.store.outcome("jti-1"), Some(Outcome::Acked));
}

#[test]
fn a_refused_set_is_never_resent_but_can_be_reissued() {
    let mut solo = refused("jti-1");
    solo.redrive("jti-1", Redrive::Resend);
    solo.step();
    assert_eq!(solo.redriven, [Err(Unfit::Answered)]);
    assert_eq!((solo.store.dead.len(), solo.store.outbox.len()), (1, 0));
    solo.redrive("jti-1", Redrive::Reissue(signed("jti-2", 100)));
    solo.open();
    assert_eq!(sets(&solo.step()), ["jti-2"]);
    assert_eq!(solo.redriven[1], Ok(Redriven::Reissued("jti-2".into())));
    let [old, new] = ["jti-1", "jti-2"].map(|jti| solo.store.sent[jti].clone());
    assert!(matches!(old.fate, Fate::Settled { outcome: Outcome::Refused(_), .. }), "its end stays as it was");
    assert_eq!(old.story.reissued_as(), Some(&"jti-2".into()));
    assert_eq!((new.fate, new.story.reissue_of()), (Fate::Queued, Some(&"jti-1".into())));
    let counts = solo.peer.stats().counts;
    assert_eq!((counts.refused, counts.dead_letters, counts.queued), (1, 0, 1), "totals only rise");
}

#[test]
fn a_discarded_set_is_gone_and_its_end_is_remembered() {
    let mut solo = refused("jti-1");
    solo.redrive("jti-1", Redrive::Discard);
    solo.open();
    assert!(solo.step().is_empty());
    assert_eq!(solo.redriven, [Ok(Redriven::Discarded)]);
    assert!(solo.store.dead.is_empty() && solo.store.outbox.is_empty());
    let memory = &solo.store.sent["jti-1"];
    assert!(matches!(memory.fate, Fate::Settled { outcome: Outcome::Refused(_), .. }));
    assert_eq!(memory.story.discarded_at(), Some(solo.clock().wall));
}

#[test]
fn two_who_act_at_the_same_moment_get_one_effect() {
    let mut solo = given_up(&["a", "b", "c"]);
    solo.redrive("a", Redrive::Reissue(signed("a-1", 50)));
    solo.redrive("a", Redrive::Reissue(signed("a-2", 50)));
    solo.redrive("b", Redrive::Resend);
    solo.redrive("b", Redrive::Resend);
    solo.redrive("b", Redrive::Discard);
    solo.redrive("c", Redrive::Discard);
    solo.redrive("c", Redrive::Reissue(signed("c-1", 50)));
    solo.open();
    assert_eq!(sets(&solo.step()), ["a-1", "b"]);
    let reissued = Ok(Redriven::Reissued("a-1".into()));
    let resent = Ok(Redriven::Resent);
    assert_eq!(
        solo.redriven,
        [
            reissued.clone(),
            reissued,
            resent.clone(),
            resent,
            Err(Unfit::Gone),
            Ok(Redriven::Discarded),
            Err(Unfit::Gone)
        ]
    );
    assert_eq!(solo.peer.stats().counts.queued, 2);
}

#[test]
fn a_dead_letter_waits_where_it_is_while_the_outbox_is_full() {
    let mut solo = given_up(&["a"]);
    let mut full = Solo::new(Config { outbox_max: 1, ..impatient() });
    full.store = std::mem::take(&mut solo.store);
    full.restart();
    full.send(&["b"]);
    full.redrive("a", Redrive::Resend);
    full.redrive("a", Redrive::Reissue(signed("a-1", 50)));
    full.step();
    assert_eq!(full.redriven, [Err(Unfit::NoRoom), Err(Unfit::NoRoom)]);
    full.redrive("a", Redrive::Discard);
    full.step();
    assert!(full.store.dead.is_empty(), "for that there is always room");
}

#[test]
fn the_act_and_its_answer_are_one_commit() {
    let mut solo = given_up(&["a"]);
    let letter = solo.store.dead.values().next().unwrap().clone();
    let how = Redrive::Reissue(signed("a-1", 50));
    solo.input(Input::Operator(Act::Redrive(Box::new(letter), how)));
    let step = solo.peer.step(solo.clock());
    let [Write::Lift { memory: Some(old), .. }, Write::Enqueue(new)] = step.writes.as_slice() else {
        panic!("{:?}", step.writes)
    };
    assert_eq!((old.story.reissued_as(), new.story.reissue_of()), (Some(&new.jti), Some(&"a".into())));
    // The process ends before the commit: nothing has happened, and it can be asked for again.
    solo.restart();
    assert_eq!((solo.store.dead.len(), solo.peer.stats().counts.queued), (1, 0));
    // It ends after the commit, before the answer: all of it has happened.
    step.writes.iter().for_each(|write| assert!(solo.store.apply(write)));
    solo.restart();
    assert_eq!((solo.store.dead.len(), solo.peer.stats().counts.queued), (0, 1));
    step.writes.iter().for_each(|write| assert!(!solo.store.apply(write), "once more: {write:?}"));
}

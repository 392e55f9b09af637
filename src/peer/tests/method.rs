//! Slots of the methods that carry one thing each way: push, multi-set push and poll.

use std::time::Duration;

use super::solo::{SPEC, Solo, sets, valid, verdicts};
use crate::peer::{Config, Ending, Finding, Input, Inspected, SlotId, SlotSpec, Verdicts, WaitsFor};
use crate::set::{ErrorCode, Refusal};

/// The Recipient's slot of one push.
const PUSHED: SlotSpec = SlotSpec { sets_max: 0, verdicts: Verdicts::Own, waits_for: WaitsFor::Answers, ..SPEC };

/// The Transmitter's slot of one poll.
const POLLED: SlotSpec = SlotSpec { verdicts: Verdicts::None, waits_for: WaitsFor::Sets, ..SPEC };

/// A pushed SET arrives.
fn push(solo: &mut Solo, slot: SlotId, jti: &str, finding: Finding, inbox_room: u64) {
    let sets = vec![solo.arrival(jti, jti, finding)];
    let object = Inspected { sets, inbox_room, asks_again: true, ..Inspected::default() };
    solo.input(Input::Arrived { slot: Some(slot), object });
}

#[test]
fn a_push_is_answered_with_the_verdict_on_its_own_set_alone() {
    let mut solo = Solo::new(Config::default());
    solo.arrive(None, &[("another", valid())], &[], 10);
    let (first, second) = (solo.open_as(PUSHED), solo.open_as(PUSHED));
    push(&mut solo, second, "b", valid(), 10);
    push(&mut solo, first, "a", Finding::Refuse(Refusal::new(ErrorCode::InvalidKey, "no")), 10);
    let left = solo.step();
    let told: Vec<_> = left.iter().map(|(slot, object)| (*slot, object.verdicts[0].0.as_str())).collect();
    assert_eq!(told, [(first, "a"), (second, "b")]);
    assert!(left.iter().all(|(_, object)| object.verdicts.len() == 1 && object.sets.is_empty()));
    assert_eq!(solo.peer.stats().owed, 1, "the other one is still owed");
}

#[test]
fn whoever_else_could_speak_leaves_a_pushs_verdict_to_it() {
    let mut solo = Solo::new(Config::default());
    let answers = solo.open_as(SlotSpec { waits_for: WaitsFor::Answers, ..SPEC });
    let (socket, slot) = (solo.open(), solo.open_as(PUSHED));
    solo.arrive(Some(answers), &[], &[], 10);
    push(&mut solo, slot, "a", valid(), 10);
    let left = solo.step();
    assert_eq!(left.iter().find(|(id, _)| *id == slot).map(|(_, object)| object.verdicts.len()), Some(1), "{left:?}");
    assert!(!left.iter().any(|(id, object)| *id != slot && !object.verdicts.is_empty()), "{left:?}");
    assert!(left.iter().all(|(id, _)| *id != socket), "it has nothing to say");
}

#[test]
fn a_push_without_a_verdict_is_answered_all_the_same() {
    let mut solo = Solo::new(Config::default());
    let slot = solo.open_as(PUSHED);
    push(&mut solo, slot, "a", Finding::Undecidable, 10);
    let left = solo.step();
    assert_eq!((left.len(), verdicts(&left).len()), (1, 0));
    let full = solo.open_as(PUSHED);
    push(&mut solo, full, "b", valid(), 0);
    let left = solo.step();
    assert_eq!((left.len(), verdicts(&left).len()), (1, 0), "there is no room for it");
}

#[test]
fn a_verdict_that_comes_too_late_for_its_push_is_not_owed_and_stands() {
    let mut solo = Solo::new(Config::default());
    let by = Some(Duration::from_millis(800));
    let late = solo.open_as(SlotSpec { by, ..PUSHED });
    assert_eq!(solo.step_after(Duration::from_secs(1)).len(), 1, "it had to speak");
    push(&mut solo, late, "a", valid(), 10);
    solo.step();
    push(&mut solo, SlotId(99), "b", valid(), 10);
    solo.step();
    assert_eq!(solo.peer.stats().owed, 0, "nobody would ever hear of it");
    let socket = solo.open();
    assert!(solo.step().iter().all(|(slot, _)| *slot != socket));
    for jti in ["a", "b"] {
        let again = solo.open_as(PUSHED);
        push(&mut solo, again, jti, valid(), 10);
        assert_eq!(verdicts(&solo.step()), [jti], "it is asked for again");
    }
    assert_eq!(solo.store.inbox.len(), 2, "each was stored once");
}

#[test]
fn a_verdict_for_whom_has_gone_before_it_was_reached_is_not_owed() {
    let mut solo = Solo::new(Config::default());
    let slot = solo.open_as(PUSHED);
    push(&mut solo, slot, "a", valid(), 10);
    solo.lose(slot);
    solo.step();
    assert_eq!((solo.peer.stats().owed, solo.store.inbox.len()), (0, 1));
}

#[test]
fn a_verdict_that_was_lost_with_its_push_is_not_owed() {
    let mut solo = Solo::new(Config::default());
    let slot = solo.open_as(PUSHED);
    push(&mut solo, slot, "a", valid(), 10);
    assert_eq!(verdicts(&solo.step()), ["a"]);
    solo.lose(slot);
    solo.open();
    assert!(solo.step().is_empty());
    assert_eq!(solo.peer.stats().owed, 0);
}

#[test]
fn a_poll_waits_for_sets_and_takes_no_verdicts() {
    let mut solo = Solo::new(Config::default());
    let slot = solo.open_as(POLLED);
    solo.arrive(None, &[("theirs", valid())], &[], 10);
    assert!(solo.step().is_empty());
    solo.send(&["jti-1"]);
    let left = solo.step();
    assert_eq!((left[0].0, sets(&left), verdicts(&left).len()), (slot, vec!["jti-1"], 0));
}

#[test]
fn a_poll_is_answered_without_sets_when_its_time_is_over() {
    let mut solo = Solo::new(Config::default());
    let by = Some(Duration::from_secs(15));
    let slot = solo.open_as(SlotSpec { by, ..POLLED });
    assert!(solo.step().is_empty());
    let left = solo.step_after(Duration::from_secs(15));
    assert_eq!((left[0].0, left[0].1.sets.len(), left[0].1.more), (slot, 0, false));
}

#[test]
fn a_poll_hears_whether_there_is_more() {
    let mut solo = Solo::new(Config::default());
    solo.send(&["jti-1", "jti-2", "jti-3"]);
    solo.open_as(SlotSpec { sets_max: 2, ..POLLED });
    let left = solo.step();
    assert_eq!((sets(&left), left[0].1.more), (vec!["jti-1", "jti-2"], true));
    solo.open_as(SlotSpec { sets_max: 2, ..POLLED });
    let left = solo.step();
    assert_eq!((sets(&left), left[0].1.more), (vec!["jti-3"], false));
}

#[test]
fn a_poll_hears_of_more_that_waits_on_disk_alone() {
    let mut solo = Solo::new(Config { window: 4, ..Config::default() });
    let jtis: Vec<String> = (0..10).map(|n| format!("jti-{n}")).collect();
    solo.send(&jtis.iter().map(String::as_str).collect::<Vec<_>>());
    solo.open_as(SlotSpec { sets_max: 2, ..POLLED });
    assert!(solo.step()[0].1.more);
    solo.open_as(SlotSpec { sets_max: 9, ..POLLED });
    let left = solo.step();
    assert_eq!((sets(&left).len(), left[0].1.more), (2, false), "the window is full: none could leave now");
}

#[test]
fn a_poll_that_wants_no_sets_is_answered_when_there_are_some() {
    let mut solo = Solo::new(Config::default());
    let slot = solo.open_as(SlotSpec { sets_max: 0, ..POLLED });
    assert!(solo.step().is_empty());
    solo.send(&["jti-1"]);
    let left = solo.step();
    assert_eq!((left[0].0, left[0].1.sets.len()), (slot, 0));
    solo.open_as(POLLED);
    assert_eq!(sets(&solo.step()), ["jti-1"], "it is still there");
}

#[test]
fn two_polls_at_once_share_the_sets() {
    let mut solo = Solo::new(Config::default());
    solo.send(&["jti-1", "jti-2", "jti-3"]);
    solo.open_as(SlotSpec { sets_max: 2, ..POLLED });
    solo.open_as(SlotSpec { sets_max: 2, ..POLLED });
    let left = solo.step();
    assert_eq!(left.iter().map(|(_, object)| object.sets.len()).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(sets(&left), ["jti-1", "jti-2", "jti-3"]);
}

#[test]
fn what_a_dropped_poll_carried_comes_with_the_next() {
    let mut solo = Solo::new(Config::default());
    solo.send(&["jti-1"]);
    let slot = solo.open_as(POLLED);
    assert_eq!(sets(&solo.step()), ["jti-1"]);
    solo.lose(slot);
    solo.open_as(POLLED);
    assert_eq!(sets(&solo.step()), ["jti-1"]);
}

#[test]
fn what_a_poll_carried_is_settled_by_a_later_one_and_not_by_its_delivery() {
    let mut solo = Solo::new(Config::default());
    solo.send(&["jti-1"]);
    let slot = solo.open_as(POLLED);
    solo.step();
    solo.close(slot, Ending::Delivered);
    solo.step();
    assert_eq!((solo.store.counts.acked, solo.peer.stats().in_flight), (0, 1));
    solo.arrive(None, &[], &["jti-1"], 0);
    solo.open_as(POLLED);
    assert!(solo.step().is_empty(), "acks count before SETs are chosen");
    assert_eq!(solo.store.counts.acked, 1);
}

/// The Transmitter's slot of one push.
const PUSHING: SlotSpec = SlotSpec { sets_max: 1, verdicts: Verdicts::None, ..SPEC };

#[test]
fn no_copy_of_a_set_leaves_while_its_own_request_goes_on() {
    let mut solo = Solo::new(Config::default());
    solo.send(&["jti-1"]);
    let (slot, _) = (solo.open_as(PUSHING), solo.open_as(PUSHING));
    assert_eq!(sets(&solo.step()), ["jti-1"]);
    assert!(solo.pass(Duration::from_secs(29)).is_empty());
    // Whose end it then hears of, and tries again.
    solo.close(slot, Ending::Lost { retry_after: Duration::ZERO });
    assert_eq!(sets(&solo.step()), ["jti-1"]);
}

#[test]
fn what_a_partner_took_without_a_verdict_leaves_again_after_the_wait() {
    let mut solo = Solo::new(Config::default());
    solo.send(&["jti-1"]);
    let slot = solo.open_as(PUSHING);
    assert_eq!(sets(&solo.step()), ["jti-1"]);
    solo.pass(Duration::from_secs(10));
    solo.close(slot, Ending::Delivered);
    solo.open_as(PUSHING);
    assert_eq!(sets(&solo.pass(Duration::from_secs(10))), ["jti-1"]);
}

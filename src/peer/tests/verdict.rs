//! Verdicts: one for ever on each jti that came, none that we did not earn, and no effect of those that are not ours.

use std::time::Duration;

use super::pair::{Left, Pair, Right, Seed};
use super::solo::{SPEC, Solo, sets, valid, verdicts};
use crate::clock::Wall;
use crate::peer::{
    Arrival, Audit, Config, Ending, Fate, Finding, Input, Inspected, Outcome, SlotSpec, Transmission, Verdict, Verdicts,
};
use crate::set::{ErrorCode, Refusal};

fn refused() -> Finding {
    Finding::Refuse(Refusal::new(ErrorCode::InvalidKey, "no key"))
}

#[test]
fn a_known_jti_gets_its_first_verdict_for_ever_also_after_a_restart() {
    let mut solo = Solo::new(Config::default());
    solo.arrive(None, &[("good", valid()), ("bad", refused())], &[], 10);
    solo.step();
    for round in 0..6 {
        if round % 2 == 1 {
            solo.restart();
        }
        // What the checks say by now is of no interest, nor is a full inbox.
        solo.arrive(None, &[("good", refused()), ("bad", Finding::Undecidable)], &[], 0);
        solo.open();
        let left = solo.step();
        let said = left.iter().flat_map(|(_, object)| &object.verdicts).collect::<Vec<_>>();
        assert!(said.iter().all(|(jti, verdict)| (jti.as_str() == "good") == (*verdict == Verdict::Acked)));
        assert_eq!(said.len(), 2, "round {round}");
    }
    assert_eq!(solo.store.inbox.len(), 1);
    assert!(solo.audits.iter().all(|audit| matches!(audit, Audit::Refused(1, ..))), "{:?}", solo.audits);
}

#[test]
fn a_set_that_is_dated_ahead_of_our_clock_is_remembered_as_of_its_own_date() {
    let mut solo = Solo::new(Config::default());
    let now = solo.clock().wall;
    let month = Wall(now.0 + 40 * 86_400_000);
    for (jti, finding, issued_at) in [
        ("ahead", valid(), month),
        ("verification", Finding::Acknowledge, month),
        ("past", valid(), Wall(now.0 - 1)),
        ("bad", refused(), Wall(0)),
    ] {
        let set = Arrival { issued_at, ..solo.arrival(jti, jti, finding) };
        let object = Inspected { sets: vec![set], inbox_room: 9, ..Inspected::default() };
        solo.input(Input::Arrived { slot: None, object });
    }
    solo.step();
    let since = |jti: &str| solo.store.seen[jti].since;
    assert_eq!([since("ahead"), since("verification"), since("past"), since("bad")], [month, month, now, now]);
}

#[test]
fn what_nobody_has_to_confirm_is_answered_at_a_bounded_rate_and_later_after_all() {
    let mut solo = Solo::new(Config { refusals_per_second: 1, ..Config::default() });
    let verifications = |solo: &mut Solo, range: std::ops::Range<usize>| {
        let sets = range.map(|n| solo.arrival(&format!("v-{n}"), &format!("v-{n}"), Finding::Acknowledge)).collect();
        solo.input(Input::Arrived { slot: None, object: Inspected { sets, inbox_room: 9, ..Inspected::default() } });
        solo.step();
    };
    verifications(&mut solo, 0..30);
    let answered = solo.store.seen.len();
    assert!((10..=12).contains(&answered), "ten seconds' worth: {answered}");
    assert_eq!(solo.audits, [Audit::RefusalsSuppressed(30 - answered)]);
    solo.arrive(None, &[("good", valid())], &[], 9);
    solo.step();
    assert_eq!(solo.store.inbox.len(), 1, "what is handed over is none of it");
    solo.pass(Duration::from_secs(30));
    verifications(&mut solo, 20..30);
    assert_eq!(solo.store.seen.len(), answered + 1 + 10);
}

#[test]
fn a_jti_with_other_bytes_gets_the_first_verdict_and_an_audit() {
    let mut solo = Solo::new(Config::default());
    let twins = [solo.arrival("jti", "first", valid()), solo.arrival("jti", "second", refused())];
    for arrival in twins {
        let object = Inspected { sets: vec![arrival], inbox_room: 9, ..Inspected::default() };
        solo.input(Input::Arrived { slot: None, object });
    }
    solo.step();
    let later = solo.arrival("jti", "third", valid());
    let object = Inspected { sets: vec![later], inbox_room: 9, ..Inspected::default() };
    solo.input(Input::Arrived { slot: None, object });
    solo.step();
    assert_eq!(solo.audits, [Audit::JtiConflict(1, "jti".into()), Audit::JtiConflict(1, "jti".into())]);
    assert_eq!(solo.store.inbox.len(), 1);
    assert_eq!(solo.store.seen["jti"].fate, Fate::Answered(Verdict::Acked));
}

#[test]
fn verdicts_about_what_was_never_sent_or_has_ended_change_nothing() {
    let mut solo = Solo::new(Config::default());
    solo.send(&["waiting"]);
    solo.step();
    solo.arrive(None, &[], &["waiting", "foreign"], 1);
    solo.step();
    assert_eq!(solo.audits, [Audit::UnknownVerdicts(2)], "it has not left yet");
    assert_eq!(solo.store.outcome("waiting"), None);
    solo.open();
    solo.step();
    solo.arrive(None, &[], &["waiting"], 1);
    solo.step();
    let error = crate::set::SetErr { err: "invalid_key".into(), description: String::new() };
    let object = Inspected { errors: vec![("waiting".into(), error)], ..Inspected::default() };
    solo.input(Input::Arrived { slot: None, object });
    solo.step();
    assert_eq!(solo.store.outcome("waiting"), Some(Outcome::Acked), "a late setErr does not change the end");
    assert_eq!(solo.store.counts.acked, 1);
}

#[test]
fn a_full_inbox_neither_stores_nor_answers_while_acks_count() {
    let mut pair = Pair::websocket(Seed(1));
    pair.end(Right).inbox_max = 3;
    pair.send_many(Left, "a", 5);
    pair.send_many(Right, "b", 5);
    pair.run_for(Duration::from_secs(30));
    assert_eq!(pair.end(Right).delivered(), ["a-0", "a-1", "a-2"]);
    assert_eq!(pair.answers(Right, "a-3"), 0);
    assert_eq!(pair.end(Right).store.counts.acked, 5);
    pair.end(Right).inbox_max = 5;
    pair.run_until_quiet();
    assert_eq!(pair.end(Right).delivered().len(), 5);
}

#[test]
fn two_full_peers_do_not_deadlock() {
    for mut pair in [Pair::websocket(Seed(2)), Pair::http(Seed(2))] {
        pair.end(Left).inbox_max = 0;
        pair.end(Right).inbox_max = 0;
        pair.send_many(Left, "a", 50);
        pair.send_many(Right, "b", 50);
        pair.run_for(Duration::from_secs(60));
        for room in 1..=50 {
            pair.end(Left).inbox_max = room;
            pair.end(Right).inbox_max = room;
            pair.run_for(Duration::from_secs(1));
        }
        let time = pair.run_until_quiet();
        assert!(time < Duration::from_secs(700), "{time:?}");
    }
}

#[test]
fn several_objects_in_one_step_share_the_room_of_the_inbox() {
    let mut solo = Solo::new(Config::default());
    solo.arrive(None, &[("a", valid()), ("b", valid())], &[], 3);
    solo.arrive(None, &[("c", valid()), ("d", valid())], &[], 3);
    solo.step();
    assert_eq!(solo.store.inbox.len(), 3);
    solo.arrive(None, &[("d", valid())], &[], 1);
    solo.step();
    assert_eq!(solo.store.inbox.len(), 4);
}

#[test]
fn what_cannot_be_decided_gets_no_verdict_and_comes_again() {
    let mut pair = Pair::websocket(Seed(3));
    pair.end(Right).opinion = Box::new(|_| super::end::Opinion::Undecidable);
    pair.send(Left, "jti-1");
    pair.run_for(Duration::from_secs(5));
    assert_eq!((pair.answers(Right, "jti-1"), pair.end(Right).verdict_on("jti-1")), (0, None));
    pair.end(Right).opinion = Box::new(super::end::by_name);
    pair.run_until_quiet();
    assert_eq!(pair.end(Right).delivered(), ["jti-1"]);
}

#[test]
fn refusals_beyond_the_rate_get_no_verdict() {
    let mut solo = Solo::new(Config { refusals_per_second: 5, ..Config::default() });
    let flood = |solo: &mut Solo, name: &str| {
        let before = solo.store.counts.rejected;
        let names: Vec<String> = (0..500).map(|n| format!("{name}-{n}")).collect();
        let garbage: Vec<_> = names.iter().map(|jti| (jti.as_str(), refused())).collect();
        solo.arrive(None, &garbage, &[], 10);
        solo.step();
        solo.store.counts.rejected - before
    };
    assert!((50..=52).contains(&flood(&mut solo, "first")), "ten seconds' worth at once");
    assert!(flood(&mut solo, "second") <= 1);
    assert!(matches!(solo.audits[1], Audit::RefusalsSuppressed(448..=450)), "{:?}", solo.audits[1]);
    solo.now += Duration::from_secs(4);
    assert!((19..=21).contains(&flood(&mut solo, "third")));
    solo.arrive(None, &[("good", valid())], &[], 10);
    solo.step();
    assert_eq!(solo.store.inbox.len(), 1, "valid SETs are not held up");
}

#[test]
fn with_nowhere_to_keep_the_answer_a_set_has_no_effect() {
    let mut solo = Solo::new(Config { owed_max: 2, ..Config::default() });
    solo.arrive(None, &[("a", valid()), ("b", refused()), ("c", valid())], &[], 10);
    solo.step();
    assert_eq!((solo.store.inbox.len(), solo.peer.stats().owed), (1, 2));
    assert!(solo.audits.contains(&Audit::InboxFull(1)));
    solo.open();
    assert_eq!(verdicts(&solo.step()), ["a", "b"]);
    solo.arrive(None, &[("c", valid())], &[], 10);
    solo.step();
    assert_eq!(solo.store.inbox.len(), 2);
}

#[test]
fn verdicts_that_left_by_a_lost_slot_are_owed_again_and_those_before_it_was_ready_are_not() {
    let mut solo = Solo::new(Config::default());
    let slot = solo.open();
    solo.arrive(None, &[("a", valid())], &[], 10);
    assert_eq!(verdicts(&solo.step()), ["a"]);
    solo.input(Input::SlotReady(slot));
    solo.arrive(None, &[("b", valid())], &[], 10);
    assert_eq!(verdicts(&solo.step()), ["b"]);
    solo.lose(slot);
    solo.open();
    assert_eq!(verdicts(&solo.step()), ["b"]);
}

#[test]
fn verdicts_that_were_delivered_are_not_owed_again() {
    let mut solo = Solo::new(Config::default());
    let slot = solo.open();
    solo.arrive(None, &[("a", valid())], &[], 10);
    assert_eq!(verdicts(&solo.step()), ["a"]);
    solo.close(slot, Ending::Delivered);
    solo.open();
    assert!(solo.step().is_empty());
}

#[test]
fn a_slot_that_takes_no_verdicts_gets_none() {
    let mut solo = Solo::new(Config::default());
    solo.open_as(SlotSpec { verdicts: Verdicts::None, ..SPEC });
    solo.arrive(None, &[("a", valid())], &[], 10);
    solo.send(&["jti-1"]);
    let left = solo.step();
    assert_eq!((sets(&left), verdicts(&left).len()), (vec!["jti-1"], 0));
}

#[test]
fn a_partner_that_refuses_our_verdicts_gets_them_in_smaller_and_smaller_objects() {
    let mut solo = Solo::new(Config::default());
    let answer = |solo: &mut Solo, name: &str, taken_max: usize| {
        let names: Vec<String> = (0..1000).map(|n| format!("{name}-{n}")).collect();
        let arrivals: Vec<_> = names.iter().map(|jti| (jti.as_str(), valid())).collect();
        solo.arrive(None, &arrivals, &[], 10_000);
        let mut exchanges = 0;
        while solo.peer.stats().owed > 0 {
            let slot = solo.open();
            let left = solo.step();
            exchanges += 1;
            assert!(exchanges < 100, "it never ends");
            let ending = if verdicts(&left).len() > taken_max { Ending::REJECTED } else { Ending::Delivered };
            solo.close(slot, ending);
        }
        exchanges
    };
    answer(&mut solo, "first", 64);
    let exchanges = answer(&mut solo, "second", 1000);
    assert!(exchanges < 8, "{exchanges} exchanges: they grow again when they are taken");
}

#[test]
fn a_forged_object_harms_nobody() {
    let mut pair = Pair::websocket(Seed(4));
    pair.send_many(Left, "a", 10);
    let verdicts = (0..10).map(|n| (format!("b-{n}").as_str().into(), Verdict::Acked)).collect();
    pair.forge(Left, Transmission { sets: vec![("c".into(), "c.token".into())], verdicts, more: false });
    pair.run_until_quiet();
    assert_eq!(pair.end(Left).delivered(), ["c"]);
    assert_eq!(pair.end(Left).store.counts.acked, 10);
}

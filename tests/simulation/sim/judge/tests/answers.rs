use std::time::Duration;

use pushpull::peer::Outcome;

use super::scene::{P, Q, Scene, disk};
use crate::sim::event::{Contents, Event, Role, Truth};
use crate::sim::judge::Invariant::{I10, L2, L6};
use crate::sim::judge::{Bounds, Calls};

/// A SET that is acked, and its copy comes again.
fn copy_came(role: Role) -> Scene {
    let mut scene = Scene::of(role);
    scene.sent("a").left("a").came("a", Truth::Sound).received("a");
    if role != Role::Lazy {
        scene.acks(&["a"]);
    }
    scene.after(5).left("a").came("a", Truth::Sound);
    scene
}

/// `Q` says other things, for longer than a verdict may wait.
fn other_objects(scene: &mut Scene) -> &mut Scene {
    for _ in 0..4 {
        scene.after(Bounds::default().repeat_within.as_secs() / 2).object(Q, P, Vec::new(), &[], &[]);
    }
    scene
}

#[test]
fn i10_a_copy_is_not_answered_while_objects_leave() {
    other_objects(&mut copy_came(Role::Honest)).breaks(I10);
}

#[test]
fn i10_a_copy_is_not_answered_to_the_end() {
    let mut scene = copy_came(Role::Honest);
    scene.verdict_came(Q, &["a"], &[]).settled(1, "a", Outcome::Acked).note(Event::Healed);
    scene.after(Bounds::default().repeat_within.as_secs() + 1).note(Event::Quiet).breaks(I10);
}

#[test]
fn i10_a_copy_that_has_just_come_may_still_be_looked_at_when_all_is_quiet() {
    let mut scene = copy_came(Role::Honest);
    scene.verdict_came(Q, &["a"], &[]).settled(1, "a", Outcome::Acked).note(Event::Healed).note(Event::Quiet);
    assert_eq!(scene.judge.violation(), None);
}

#[test]
fn i10_a_copy_is_answered_with_the_next_object() {
    let mut scene = copy_came(Role::Honest);
    other_objects(scene.after(60).acks(&["a"])).passes(I10);
}

#[test]
fn i10_what_a_process_owed_when_it_died_is_asked_for_again() {
    let mut scene = copy_came(Role::Honest);
    scene.restarted(Q, disk(P).inbox(&["a"]).answered(&[("a", true)]).done());
    other_objects(&mut scene).passes(I10);
}

#[test]
fn i10_a_lazy_one_owes_until_it_is_healed_and_not_longer() {
    let mut scene = copy_came(Role::Lazy);
    other_objects(&mut scene);
    assert_eq!(scene.judge.violation(), None);
    scene.note(Event::Healed).left("a").came("a", Truth::Sound);
    other_objects(&mut scene).breaks(I10);
}

#[test]
fn l2_what_comes_after_healing_is_not_answered_in_time() {
    let mut scene = Scene::new();
    scene.note(Event::Healed).sent("a").left("a").came("a", Truth::Sound).received("a");
    scene.after(Bounds::default().answer_within.as_secs() + 1).sent("b").breaks(L2);
}

#[test]
fn l2_what_comes_after_healing_is_answered_in_time() {
    let mut scene = Scene::new();
    scene.note(Event::Healed).sent("a").left("a").came("a", Truth::Sound).received("a").after(50).acks(&["a"]);
    scene.after(60).sent("b").passes(L2);
}

/// A SET that comes 100 s after healing, and is not answered.
fn unanswered(bounds: Bounds) -> Scene {
    let mut scene = Scene::bounded(bounds);
    scene.note(Event::Healed).after(100).sent("a").left("a").came("a", Truth::Sound).received("a");
    scene
}

#[test]
fn l2_two_that_have_asked_each_other_for_patience_say_nothing_until_it_is_over() {
    let bounds = Bounds { asked_for: Duration::from_secs(1_000), ..Bounds::default() };
    let within = bounds.answer_within.as_secs();
    let mut scene = unanswered(bounds.clone());
    scene.after(900 + within - 1).sent("b");
    assert_eq!(scene.judge.violation(), None);
    unanswered(bounds.clone()).after(900 + within + 1).sent("b").breaks(L2);
    let mut scene = unanswered(bounds);
    scene.object(Q, P, Vec::new(), &[], &[]).object(Q, P, Vec::new(), &[], &[]);
    scene.after(within + 1).sent("b").breaks(L2);
}

#[test]
fn l2_a_set_whose_row_is_damaged_cannot_come_again() {
    let mut scene = unanswered(Bounds::default());
    scene.note(Event::Damaged { org: P, partner: Q, jti: "a".into() });
    scene.after(Bounds::default().answer_within.as_secs() + 1).sent("b");
    assert_eq!(scene.judge.violation(), None);
}

#[test]
fn l2_a_clock_that_healing_set_right_is_doubted_for_a_while() {
    let bounds = Bounds { clocks_believed_within: Duration::from_secs(600), ..Bounds::default() };
    let within = bounds.answer_within.as_secs();
    let mut scene = unanswered(bounds.clone());
    scene.after(500 + within - 1).sent("b");
    assert_eq!(scene.judge.violation(), None);
    unanswered(bounds).after(500 + within + 1).sent("b").breaks(L2);
}

#[test]
fn l6_two_that_have_nothing_to_say_talk_all_the_time() {
    let mut scene = Scene::new();
    scene.note(Event::Healed);
    for _ in 0..6 {
        scene.after(5).object(P, Q, Vec::new(), &[], &[]);
    }
    scene.breaks(L6);
}

#[test]
fn l6_an_empty_object_now_and_then_keeps_a_link() {
    let mut scene = Scene::new();
    scene.note(Event::Healed);
    for _ in 0..30 {
        scene.after(13).object(P, Q, Vec::new(), &[], &[]);
    }
    scene.passes(L6);
}

#[test]
fn l6_an_empty_object_may_answer_whatever_comes_and_only_once() {
    let mut scene = Scene::new();
    scene.note(Event::Healed);
    for number in 0..30 {
        scene.after(1).verdict_came(Q, &["stranger"], &[]).object(P, Q, Vec::new(), &[], &[]);
        if number % 10 == 0 {
            scene.object(P, Q, Vec::new(), &[], &[]);
        }
    }
    scene.passes(L6);
    for _ in 0..6 {
        scene.object(P, Q, Vec::new(), &[], &[]);
    }
    scene.breaks(L6);
}

#[test]
fn l2_whoever_calls_hears_of_its_own_set_alone_and_not_once_it_has_settled() {
    let bounds = Bounds { asked_for: Duration::from_secs(1_000), ..Bounds::default() };
    let within = bounds.answer_within.as_secs();
    let called = |bounds: &Bounds| {
        let mut scene = Scene::bounded(bounds.clone());
        scene.judge.calls(P, Q, Calls::AtOnce);
        scene.note(Event::Healed).after(100).sent("a").left("a").came("a", Truth::Sound).received("a");
        scene
    };
    // Answers to other calls say nothing about this one, while its caller may have been asked for patience.
    let mut scene = called(&bounds);
    scene.object(Q, P, Vec::new(), &[], &[]).object(Q, P, Vec::new(), &[], &[]);
    scene.after(within + 1).sent("b");
    assert_eq!(scene.judge.violation(), None);
    let mut scene = called(&bounds);
    scene.object(Q, P, Vec::new(), &[], &[]).object(Q, P, Vec::new(), &[], &[]);
    scene.after(900 + within + 1).sent("b").breaks(L2);
}

/// `P` called with a SET, died and was started again, and the SET comes after healing, is not answered, and `then`.
fn late_call(forgets: bool, calls: bool, then: impl FnOnce(&mut Scene)) -> Scene {
    let mut scene = Scene::new();
    if calls {
        scene.judge.calls(P, Q, Calls::AtOnce);
    }
    scene.sent("a").left("a").died(P, disk(Q).queued(&["a"]).done());
    if forgets {
        scene.note(Event::Forgot { org: P }).started(P, Contents::default());
    } else {
        scene.started(P, disk(Q).queued(&["a"]).done());
    }
    scene.note(Event::Healed).after(100);
    then(&mut scene);
    scene.came("a", Truth::Sound).received("a").after(Bounds::default().answer_within.as_secs() + 1).sent("b");
    scene
}

#[test]
fn l2_whoever_called_and_lost_its_store_then_does_not_call_again() {
    let scene = late_call(true, true, |_| ());
    assert_eq!(scene.judge.violation(), None);
    assert_eq!(scene.excused("lost its store before it came"), 1);
    late_call(false, true, |_| ()).breaks(L2);
    late_call(true, false, |_| ()).breaks(L2);
    // It has it again, and will call.
    late_call(true, true, |scene| {
        scene.sent("a").left("a");
    })
    .breaks(L2);
}

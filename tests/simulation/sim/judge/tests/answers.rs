use pushpull::peer::Outcome;

use super::scene::{P, Q, Scene, disk};
use crate::sim::event::{Event, Role, Truth};
use crate::sim::judge::Bounds;
use crate::sim::judge::Invariant::{I10, L2, L6};

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
    scene.verdict_came(Q, &["a"], &[]).settled(1, "a", Outcome::Acked).note(Event::Healed).note(Event::Quiet);
    scene.breaks(I10);
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

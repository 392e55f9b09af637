use std::time::Duration;

use pushpull::peer::{Verdict, Write};

use super::scene::{H, P, Q, Scene, digest, other};
use crate::sim::event::{Event, Truth};
use crate::sim::judge::Invariant::{I5, I7, I8, I9, I11, I12, I15, I16, I18, I20};
use crate::sim::judge::{Bounds, FAR};

/// A SET of `P` is in the inbox of `Q`.
fn received() -> Scene {
    let mut scene = Scene::new();
    scene.sent("a").left("a").came("a", Truth::Sound).received("a");
    scene
}

/// It is handed over and confirmed.
fn confirmed() -> Scene {
    let mut scene = received();
    scene.handed("a", false).confirmed("a");
    scene
}

fn much_later(scene: &mut Scene) -> &mut Scene {
    scene.after(Bounds::default().memory.as_secs() + 1)
}

#[test]
fn i5_an_ack_leaves_before_the_row_is_durable() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").came("a", Truth::Sound).acks(&["a"]).breaks(I5);
}

#[test]
fn i5_a_set_for_the_application_is_acked_without_a_row() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").came("a", Truth::Sound).answered("a", Verdict::Acked).breaks(I5);
}

#[test]
fn i5_an_ack_follows_its_row_and_that_of_a_verification_event_needs_none() {
    let mut scene = received();
    scene.sent("v").left("v").came("v", Truth::Verification).answered("v", Verdict::Acked);
    scene.acks(&["a", "v"]).passes(I5);
}

#[test]
fn i7_a_set_is_handed_over_as_new_twice() {
    received().handed("a", false).handed("a", false).breaks(I7);
}

#[test]
fn i7_a_set_is_handed_over_after_it_was_confirmed() {
    confirmed().handed("a", true).breaks(I7);
}

#[test]
fn i7_a_set_is_confirmed_twice() {
    confirmed().confirmed("a").breaks(I7);
}

#[test]
fn i7_what_nobody_signed_goes_into_the_inbox() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").came("a", Truth::Unsound).received("a").breaks(I7);
}

#[test]
fn i7_other_bytes_are_handed_over_than_were_received() {
    let mut scene = received();
    scene.note(Event::Handed { org: Q, from: P, jti: "a".into(), digest: other(), redelivered: false }).breaks(I7);
}

#[test]
fn i7_a_set_of_another_of_the_same_name_is_another_set() {
    let mut scene = confirmed();
    scene.came_from(H, "a", digest("a"), Truth::Sound).durable(Q, H, vec![Scene::receive("a")]);
    let event = Event::Handed { org: Q, from: H, jti: "a".into(), digest: digest("a"), redelivered: false };
    scene.note(event).note(Event::Confirmed { org: Q, from: H, jti: "a".into() }).passes(I7);
}

#[test]
fn i7_an_application_that_crashed_gets_it_again_with_a_mark() {
    received().handed("a", false).handed("a", true).confirmed("a").passes(I7);
}

#[test]
fn i8_an_ack_after_a_refusal() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").came("a", Truth::Unsound).answered("a", Scene::refusal()).refuses(&["a"]);
    scene.after(9).came("a", Truth::Unsound).acks(&["a"]).breaks(I8);
}

#[test]
fn i8_a_refusal_leaves_that_is_not_durable() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").came("a", Truth::Unsound).refuses(&["a"]).breaks(I8);
}

#[test]
fn i8_a_jti_is_decided_again() {
    let mut scene = received();
    scene.came_from(P, "a", other(), Truth::Unsound);
    scene.answered("a", Scene::refusal()).breaks(I8);
}

#[test]
fn i8_the_verdict_is_repeated_for_every_copy_and_for_other_bytes_of_the_same_jti() {
    let mut scene = received();
    scene.acks(&["a"]).came("a", Truth::Sound).acks(&["a"]);
    scene.came_from(P, "a", other(), Truth::Unsound).acks(&["a"]).passes(I8);
}

#[test]
fn i9_an_ack_of_what_never_came() {
    Scene::new().sent("a").left("a").acks(&["a"]).breaks(I9);
}

#[test]
fn i9_what_came_from_one_is_answered_to_another() {
    let mut scene = received();
    scene.object(Q, H, Vec::new(), &["a"], &[]).breaks(I9);
}

#[test]
fn i9_a_verdict_on_what_came() {
    received().acks(&["a"]).passes(I9);
}

/// Refused by a process whose clock was wrong like this, and after that decided again.
fn refused_twice(what: &'static str) -> Scene {
    let mut scene = Scene::new();
    scene.note(Event::Fault { org: Some(Q), what }).sent("a").left("a").came("a", Truth::Unsound);
    scene.answered("a", Scene::refusal()).answered("a", Scene::refusal());
    scene
}

#[test]
fn i8_a_refusal_is_decided_twice_by_a_clock_that_was_wrong_by_hours() {
    refused_twice("clock jumped").breaks(I8);
}

#[test]
fn i8_a_refusal_may_be_forgotten_by_a_clock_that_was_wrong_by_months() {
    let scene = refused_twice(FAR);
    scene.passes(I12);
    assert_eq!(scene.excused("a refusal was forgotten"), 1);
}

#[test]
fn i11_what_was_handed_over_is_refused() {
    let mut scene = received();
    scene.handed("a", false).refuses(&["a"]).breaks(I11);
}

#[test]
fn i11_what_was_refused_is_handed_over() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").came("a", Truth::Unsound).answered("a", Scene::refusal()).handed("a", false).breaks(I11);
}

#[test]
fn i11_a_refused_set_beside_one_that_is_handed_over() {
    let mut scene = received();
    scene.sent("b").left("b").came("b", Truth::Unsound).answered("b", Scene::refusal());
    scene.handed("a", false).acks(&["a"]).refuses(&["b"]).passes(I11);
}

#[test]
fn i12_a_sound_set_is_refused_while_its_key_cannot_be_had() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").came("a", Truth::Sound).answered("a", Scene::refusal()).breaks(I12);
}

#[test]
fn i12_a_refusal_of_other_bytes_of_the_same_name_stands_before_the_sound_ones() {
    let mut scene = Scene::new();
    scene.sent("a").came_from(P, "a", digest("a"), Truth::Unsound).answered("a", Scene::refusal());
    scene.refuses(&["a"]).came_from(P, "a", other(), Truth::Sound).refuses(&["a"]).passes(I12);
}

#[test]
fn i15_a_set_of_an_object_that_was_refused_is_received() {
    let mut scene = Scene::new();
    scene.note(Event::Broken { to: Q, from: H, link: 7, jtis: vec!["x".into()] });
    scene.note(Event::Malformed { to: Q, from: H, link: 7 }).durable(Q, H, vec![Scene::receive("x")]).breaks(I15);
}

#[test]
fn i15_a_verdict_of_an_object_that_was_refused_settles() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").note(Event::Broken { to: P, from: Q, link: 7, jtis: vec!["a".into()] });
    scene.note(Event::Malformed { to: P, from: Q, link: 7 });
    scene.settled(1, "a", pushpull::peer::Outcome::Acked).breaks(I15);
}

#[test]
fn i15_an_object_that_breaks_the_rules_is_read() {
    let mut scene = Scene::new();
    scene.note(Event::Broken { to: Q, from: P, link: 1, jtis: vec!["x".into()] });
    scene.came_from(P, "x", digest("x"), Truth::Sound).breaks(I15);
}

#[test]
fn i15_what_was_in_a_refused_object_comes_again_in_a_sound_one() {
    let mut scene = Scene::new();
    scene.note(Event::Broken { to: Q, from: H, link: 1, jtis: vec!["x".into()] });
    scene.note(Event::Malformed { to: Q, from: H, link: 1 });
    scene.came_from(H, "x", digest("x"), Truth::Sound).durable(Q, H, vec![Scene::receive("x")]).passes(I15);
}

#[test]
fn i16_the_inbox_holds_more_than_it_may() {
    let mut scene = Scene::new();
    for n in 0..5 {
        scene.came(&format!("s{n}"), Truth::Sound).received(&format!("s{n}"));
    }
    scene.passes(I16);
    scene.came("one more", Truth::Sound).received("one more").breaks(I16);
}

#[test]
fn i18_a_damaged_row_is_handed_over() {
    let mut scene = received();
    scene.note(Event::Damaged { org: Q, partner: P, jti: "a".into() }).after(1).handed("a", false).breaks(I18);
}

#[test]
fn i18_the_verdict_on_a_damaged_row_is_repeated() {
    let mut scene = received();
    scene.acks(&["a"]).note(Event::Damaged { org: Q, partner: P, jti: "a".into() });
    scene.sent("b").left("b").came("b", Truth::Sound).received("b").handed("b", false);
    scene.came("a", Truth::Sound).acks(&["a"]).passes(I18);
    assert_eq!(scene.excused("damaged row"), 1);
}

#[test]
fn i20_a_set_is_taken_a_second_time_when_its_memory_may_be_gone() {
    let mut scene = confirmed();
    much_later(&mut scene).came("a", Truth::Sound).received("a").breaks(I20);
}

#[test]
fn i20_a_replay_of_what_was_confirmed_is_received_again() {
    confirmed().came("a", Truth::Sound).received("a").breaks(I20);
}

#[test]
fn i20_a_set_is_handed_over_again_long_after() {
    let mut scene = confirmed();
    much_later(&mut scene).handed("a", true).breaks(I20);
}

#[test]
fn i20_a_replay_comes_long_after_and_nothing_happens() {
    let mut scene = confirmed();
    scene.acks(&["a"]);
    much_later(&mut scene).came("a", Truth::Unsound).came("b", Truth::Sound).received("b");
    much_later(&mut scene).came("a", Truth::Unsound).handed("b", false);
    let twice = Write::Answer { jti: "c".into(), digest: digest("c"), verdict: Verdict::Acked, at: Default::default() };
    scene.came("c", Truth::Verification).durable(Q, P, vec![twice]).passes(I8);
    assert!(scene.at > Duration::from_secs(60 * 86_400));
    // The same a second time is what I20 forbids, so the check above was one that could fail.
    much_later(&mut scene).came("b", Truth::Sound).received("b").breaks(I20);
}

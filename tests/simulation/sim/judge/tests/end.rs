use pushpull::peer::Outcome;

use super::scene::{H, P, Q, Scene, digest, disk};
use crate::sim::event::{Contents, Event, Org, Truth};
use crate::sim::judge::Invariant::{End, I14, L1};
use crate::sim::judge::{Bounds, Tally, isolated};

fn ends(scene: &mut Scene, org: Org, contents: Contents) -> &mut Scene {
    scene.note(Event::Ends { org, contents })
}

#[test]
fn l1_an_accepted_set_is_never_settled() {
    Scene::new().sent("a").note(Event::Healed).after(100).note(Event::Quiet).breaks(L1);
}

#[test]
fn l1_an_accepted_set_is_not_settled_in_time() {
    let mut scene = Scene::new();
    scene.sent("a").note(Event::Healed).after(Bounds::default().settle_within.as_secs() + 1).sent("b").breaks(L1);
}

#[test]
fn l1_a_damaged_set_is_an_operators_to_mend() {
    let mut scene = Scene::new();
    scene.delivered(1, "a").sent("b").note(Event::Damaged { org: P, partner: Q, jti: "b".into() });
    scene.note(Event::Healed).after(100).note(Event::Quiet).passes(L1);
}

#[test]
fn end_an_acked_set_was_never_received() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").verdict_came(Q, &["a"], &[]).settled(1, "a", Outcome::Acked).note(Event::Quiet);
    ends(&mut scene, P, disk(Q).settled(&[("a", "acked")]).done()).breaks(End);
}

#[test]
fn end_an_acked_set_was_never_confirmed() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").came("a", Truth::Sound).received("a").handed("a", false).acks(&["a"]);
    scene.verdict_came(Q, &["a"], &[]).settled(1, "a", Outcome::Acked).after(1).note(Event::Quiet);
    ends(&mut scene, P, disk(Q).settled(&[("a", "acked")]).done()).breaks(End);
}

#[test]
fn end_a_set_is_received_that_nobody_sent() {
    let mut scene = Scene::new();
    scene.submitted("a").came("a", Truth::Sound).received("a").acks(&["a"]).note(Event::Quiet);
    ends(&mut scene, P, Contents::default()).breaks(End);
}

#[test]
fn end_what_was_accepted_after_all_was_quiet_may_be_under_way() {
    let mut scene = Scene::new();
    scene.delivered(1, "a").note(Event::Healed).note(Event::Quiet).after(1).sent("b");
    let contents = || disk(Q).queued(&["b"]).settled(&[("a", "acked")]).done();
    ends(&mut scene, P, contents()).passes(End);
    // Accepted before, it would have had to end.
    let mut scene = Scene::new();
    scene.delivered(1, "a").sent("b");
    ends(&mut scene, P, contents()).breaks(End);
}

#[test]
fn end_both_ends_agree_and_what_was_given_up_may_have_been_delivered() {
    let mut scene = Scene::new();
    scene.sent("d").left("d").came("d", Truth::Sound).received("d").handed("d", false).acks(&["d"]).confirmed("d");
    scene.after(30).left("d").attempts(1, 2).after(30).left("d").after(30);
    let write = scene.settle(1, "d", Outcome::Dead(pushpull::peer::DeathCause::Attempts), 3);
    scene.durable(P, Q, vec![write]).delivered(2, "a").note(Event::Healed).note(Event::Quiet);
    ends(&mut scene, P, disk(Q).dead(&["d"]).settled(&[("a", "acked"), ("d", "dead")]).done());
    ends(&mut scene, Q, disk(P).answered(&[("a", true), ("d", true)]).done()).passes(End);
    assert_eq!(scene.judge.delivered_unacknowledged, 1);
}

/// An honest SET beside a hostile one, and whether the honest one arrives.
fn run(hostile: bool, arrives: bool) -> Scene {
    let mut scene = Scene::new();
    if hostile {
        scene.came_from(H, "x", digest("x"), Truth::Sound).durable(Q, H, vec![Scene::receive("x")]);
    }
    if arrives {
        scene.delivered(1, "a");
    } else {
        scene.sent("a");
    }
    scene
}

#[test]
fn i14_a_hostile_partner_keeps_an_honest_set_from_its_end() {
    let difference = isolated(&run(true, false).judge, &run(false, true).judge).unwrap_err();
    assert_eq!((difference.from, difference.to, difference.jti.as_str()), (P, Q, "a"));
    assert!(difference.to_string().starts_with(I14.name()), "{difference}");
}

#[test]
fn i14_what_a_hostile_partner_sends_is_nobody_elses_end() {
    assert_eq!(isolated(&run(true, true).judge, &run(false, true).judge), Ok(1));
}

#[test]
fn what_was_never_put_to_the_test_shows() {
    let text = Tally::default().to_string();
    assert_eq!(text.lines().filter(|line| line.contains("NEVER PUT TO THE TEST")).count(), text.lines().count());
    let mut sum = Tally::default();
    sum.add(run(true, true).judge.tally());
    let lines = sum.to_string();
    assert!(!lines.lines().any(|line| line.contains("I7") && line.contains("NEVER")), "{lines}");
}

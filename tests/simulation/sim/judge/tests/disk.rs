use pushpull::peer::{Counts, Outcome};

use super::scene::{P, Q, Scene, disk, refused};
use crate::sim::event::{Contents, Event, Role, Truth};
use crate::sim::judge::Invariant::{I1, I2, I5, I8, I18};
use crate::sim::judge::{Bounds, FAR};

fn received() -> Scene {
    let mut scene = Scene::new();
    scene.sent("a").left("a").came("a", Truth::Sound).received("a").acks(&["a"]);
    scene
}

#[test]
fn i1_an_accepted_set_is_gone_after_a_crash() {
    Scene::new().sent("a").sent("b").died(P, disk(Q).queued(&["a"]).done()).breaks(I1);
}

#[test]
fn i1_a_set_is_queued_and_a_dead_letter_at_once() {
    let mut scene = Scene::new();
    scene.sent("a").died(P, disk(Q).queued(&["a"]).dead(&["a"]).done()).breaks(I1);
}

#[test]
fn i1_a_row_holds_what_never_became_durable() {
    Scene::new().sent("a").submitted("b").died(P, disk(Q).queued(&["a", "b"]).done()).breaks(I1);
}

#[test]
fn i1_a_dead_letter_is_gone() {
    let mut scene = Scene::new();
    scene.sent("a").given_up("a").died(P, disk(Q).settled(&[("a", "dead")]).done()).breaks(I1);
}

#[test]
fn i1_the_totals_kept_with_the_rows_are_wrong() {
    let mut scene = Scene::new();
    let counts = Counts { queued: 2, ..Counts::default() };
    scene.sent("a").died(P, disk(Q).queued(&["a"]).counts(counts).done()).breaks(I1);
}

#[test]
fn i1_everything_is_where_it_belongs() {
    let mut scene = Scene::new();
    scene.sent("a").given_up("a").sent("b").sent("c").sent("d").left("c").left("d").verdict_came(Q, &["c"], &["d"]);
    scene.settled(3, "c", Outcome::Acked).settled(4, "d", refused());
    let counts = Counts { queued: 1, acked: 1, refused: 1, dead: 1, dead_letters: 2, ..Counts::default() };
    let settled = [("a", "dead"), ("c", "acked"), ("d", "refused")];
    let contents = disk(Q).queued(&["b"]).dead(&["a", "d"]).settled(&settled).counts(counts).done();
    scene.restarted(P, contents).passes(I1);
}

#[test]
fn i2_a_late_verdict_changes_an_end() {
    let mut scene = Scene::new();
    scene.sent("a").given_up("a").died(P, disk(Q).dead(&["a"]).settled(&[("a", "acked")]).done()).breaks(I2);
}

#[test]
fn i5_a_crash_takes_what_was_acked() {
    received().died(Q, Contents::default()).breaks(I5);
}

#[test]
fn i5_a_crash_takes_the_memory_of_what_was_acked() {
    received().died(Q, disk(P).inbox(&["a"]).done()).breaks(I5);
}

#[test]
fn i5_a_clock_that_was_wrong_by_hours_takes_the_memory_of_what_was_acked() {
    let confirmed = |what| {
        let mut scene = received();
        scene.note(Event::Fault { org: Some(Q), what }).handed("a", false).confirmed("a");
        scene.died(Q, Contents::default());
        scene
    };
    confirmed("clock ran wrong").breaks(I5);
    confirmed(FAR).passes(I5);
}

#[test]
fn i5_a_confirmed_row_may_go_and_its_verdict_stays() {
    let mut scene = received();
    scene.handed("a", false).confirmed("a").restarted(Q, disk(P).answered(&[("a", true)]).done()).passes(I5);
}

#[test]
fn i5_the_memory_of_verdicts_may_go_when_it_is_old() {
    let mut scene = received();
    scene.handed("a", false).confirmed("a").after(Bounds::default().memory.as_secs());
    scene.came("b", Truth::Sound).received("b");
    scene.died(Q, disk(P).inbox(&["b"]).answered(&[("b", true)]).done()).passes(I5);
    scene.started(Q, disk(P).inbox(&["b"]).done()).breaks(I5);
}

#[test]
fn i5_a_forgetful_one_loses_everything_and_nobody_else_is_to_blame() {
    let mut scene = Scene::of(Role::Forgetful);
    scene.sent("a").left("a").came("a", Truth::Sound).received("a").acks(&["a"]);
    scene.died(Q, disk(P).inbox(&["a"]).answered(&[("a", true)]).done()).note(Event::Forgot { org: Q });
    scene.started(Q, Contents::default()).left("a").came("a", Truth::Sound).received("a").acks(&["a"]);
    scene.verdict_came(Q, &["a"], &[]).settled(1, "a", Outcome::Acked);
    scene.restarted(P, disk(Q).settled(&[("a", "acked")]).done()).passes(I5);
}

#[test]
fn i8_a_crash_changes_a_verdict() {
    received().died(Q, disk(P).inbox(&["a"]).answered(&[("a", false)]).done()).breaks(I8);
}

#[test]
fn i18_a_damaged_row_is_gone() {
    let mut scene = Scene::new();
    scene.sent("a").sent("b").note(Event::Damaged { org: P, partner: Q, jti: "a".into() });
    scene.died(P, disk(Q).queued(&["b"]).done()).breaks(I18);
}

#[test]
fn i18_a_damaged_row_of_the_inbox_is_gone() {
    let mut scene = received();
    scene.note(Event::Damaged { org: Q, partner: P, jti: "a".into() });
    scene.died(Q, disk(P).answered(&[("a", true)]).done()).breaks(I18);
}

#[test]
fn i18_a_sound_row_is_called_damaged() {
    Scene::new().sent("a").died(P, disk(Q).damaged(&["a"]).done()).breaks(I18);
}

#[test]
fn i18_a_damaged_set_is_read_again_and_leaves() {
    let mut scene = Scene::new();
    scene.sent("a").note(Event::Damaged { org: P, partner: Q, jti: "a".into() });
    scene.restarted(P, disk(Q).damaged(&["a"]).done()).left("a").breaks(I18);
}

#[test]
fn i18_a_damaged_row_is_kept_and_what_was_read_before_may_leave() {
    let mut scene = received();
    scene.sent("b").note(Event::Damaged { org: P, partner: Q, jti: "b".into() }).left("b");
    scene.note(Event::Damaged { org: Q, partner: P, jti: "a".into() });
    scene.restarted(P, disk(Q).queued(&["a"]).damaged(&["b"]).done());
    scene.restarted(Q, disk(P).damaged(&["a"]).answered(&[("a", true)]).done()).passes(I18);
    assert_eq!(scene.excused("from memory"), 1);
}

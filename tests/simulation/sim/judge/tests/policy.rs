use std::time::Duration;

use pushpull::peer::{DeathCause, Outcome};

use super::scene::{P, Q, Scene, digest, disk, limits};
use crate::sim::event::{Event, Truth};
use crate::sim::judge::Invariant::{I13, L1};
use crate::sim::judge::{Bounds, FAR};

fn gives_up(scene: &mut Scene, cause: DeathCause, attempts: u32) -> &mut Scene {
    let write = scene.settle(1, "a", Outcome::Dead(cause), attempts);
    scene.durable(P, Q, vec![write])
}

#[test]
fn i13_a_set_is_given_up_with_attempts_to_spare() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").after(30).left("a").after(60);
    gives_up(&mut scene, DeathCause::Attempts, 2).breaks(I13);
}

#[test]
fn i13_attempts_are_counted_that_were_never_transmitted() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").after(30).attempts(1, 2).breaks(I13);
}

#[test]
fn i13_one_attempt_may_have_been_put_into_a_slot_that_had_ended_and_no_two() {
    let heard = || Event::Heard { org: P, from: Q };
    let mut scene = Scene::new();
    scene.sent("a").left("a").after(30).left("a").note(heard());
    scene.attempts(1, 2).note(Event::Parted { org: P, partner: Q }).after(1).attempts(1, 3).passes(I13);
    assert_eq!(scene.excused("an attempt by the slot of a link that had ended"), 1);
    scene.attempts(1, 4).breaks(I13);
    // A link that ended before the last one left says nothing of it.
    let mut scene = Scene::new();
    scene.sent("a").left("a").note(Event::Parted { org: P, partner: Q }).after(30).left("a").note(heard());
    scene.attempts(1, 2).attempts(1, 3).breaks(I13);
}

#[test]
fn i13_attempts_are_used_up_faster_than_their_pauses_allow() {
    let mut scene = Scene::new();
    scene.sent("a").after(100).left("a").left("a").attempts(1, 2).left("a").after(1);
    gives_up(&mut scene, DeathCause::Attempts, 3).breaks(I13);
}

#[test]
fn i13_what_met_a_dead_link_counts_as_an_attempt() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").after(30);
    scene.object(P, Q, vec![("a".into(), digest("a"))], &[], &[]).after(30).attempts(1, 2).breaks(I13);
}

#[test]
fn i13_attempts_that_were_written_are_forgotten_at_the_end() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").after(30).left("a").attempts(1, 2).verdict_came(Q, &["a"], &[]);
    scene.settled(1, "a", Outcome::Acked).breaks(I13);
}

#[test]
fn i13_a_set_is_given_up_before_its_time() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").after(10).left("a").attempts(1, 2).after(10).left("a").after(10);
    gives_up(&mut scene, DeathCause::Attempts, 3).breaks(I13);
}

#[test]
fn i13_a_set_is_given_up_by_a_wall_clock_that_jumped() {
    let mut scene = Scene::new();
    scene.sent("a").note(Event::Fault { org: Some(P), what: "clock jumped" }).after(60);
    gives_up(&mut scene, DeathCause::Age, 0).breaks(I13);
}

#[test]
fn i13_over_a_restart_nobody_knows_better_than_a_wall_clock_that_was_wrong() {
    let mut scene = Scene::new();
    scene.sent("a").note(Event::Fault { org: Some(P), what: "clock jumped" }).after(60);
    scene.restarted(P, disk(Q).queued(&["a"]).done());
    gives_up(&mut scene, DeathCause::Age, 0).passes(I13);
    assert_eq!(scene.excused("wall clock"), 1);
}

#[test]
fn i13_over_a_restart_a_clock_that_was_far_off_for_a_while_is_no_excuse() {
    for (before, excused) in [(true, 0), (false, 1)] {
        let mut scene = Scene::new();
        let far = Event::Fault { org: Some(P), what: FAR };
        if before {
            scene.sent("a").after(20).note(far).after(40);
            scene.restarted(P, disk(Q).queued(&["a"]).done());
            gives_up(&mut scene, DeathCause::Age, 0).breaks(I13);
        } else {
            scene.note(far).after(20).sent("a").after(40);
            scene.restarted(P, disk(Q).queued(&["a"]).done());
            gives_up(&mut scene, DeathCause::Age, 0).passes(I13);
        }
        assert_eq!(scene.excused("wall clock"), excused, "it was dated by that clock");
    }
}

#[test]
fn i13_attempts_that_were_written_are_forgotten_by_a_crash() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").after(30).left("a").attempts(1, 2).after(30).left("a").attempts(1, 3);
    scene.restarted(P, disk(Q).queued(&["a"]).done()).left("a").attempts(1, 2).breaks(I13);
}

#[test]
fn i13_attempts_are_never_written() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").after(30).left("a").after(30).left("a").after(30);
    gives_up(&mut scene, DeathCause::Attempts, 3).breaks(I13);
}

#[test]
fn i13_a_crash_forgets_the_last_attempt_and_the_set_is_given_up_later() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").after(30).left("a").attempts(1, 2).after(30).left("a");
    scene.restarted(P, disk(Q).queued(&["a"]).done()).after(30).left("a").after(30);
    gives_up(&mut scene, DeathCause::Attempts, 3).passes(I13);
}

#[test]
fn i13_a_set_is_given_up_for_its_age_without_an_attempt() {
    let mut scene = Scene::new();
    scene.sent("a").after(limits().peer.age_max.as_secs());
    gives_up(&mut scene, DeathCause::Age, 0).passes(I13);
}

#[test]
fn the_shortest_time_for_attempts_is_half_of_each_pause_but_the_last() {
    let mut limits = limits();
    assert_eq!(limits.attempts_take(1), Duration::ZERO);
    assert_eq!(limits.attempts_take(4), Duration::from_secs(1 + 2 + 4));
    limits.peer.retry_max = Duration::from_secs(4);
    assert_eq!(limits.attempts_take(5), Duration::from_secs(1 + 2 + 2 + 2));
    limits.clock_rate_max = 2.0;
    assert_eq!(limits.attempts_take(5), Duration::from_millis(3500));
}

#[test]
fn l1_a_set_is_given_up_although_all_is_well() {
    let mut scene = Scene::new();
    scene
        .sent("a")
        .note(Event::Healed)
        .after(100)
        .left("a")
        .after(30)
        .left("a")
        .attempts(1, 2)
        .after(30)
        .left("a")
        .after(30);
    gives_up(&mut scene, DeathCause::Attempts, 3).breaks(L1);
}

#[test]
fn l1_a_partner_whose_clock_is_doubted_may_have_no_verdict_for_a_while() {
    for was_wrong in [false, true] {
        let doubted = Duration::from_secs(600);
        let mut scene = Scene::bounded(Bounds { clocks_believed_within: doubted, ..Bounds::default() });
        if was_wrong {
            scene.note(Event::Fault { org: Some(Q), what: FAR });
        }
        scene.sent("a").note(Event::Healed).after(100).left("a").after(30).left("a").attempts(1, 2).after(30).left("a");
        gives_up(scene.after(30), DeathCause::Attempts, 3);
        if was_wrong {
            assert_eq!(scene.judge.violation(), None);
        } else {
            scene.breaks(L1);
        }
    }
}

#[test]
fn l1_a_set_that_had_used_up_its_attempts_before_is_given_up_after_healing() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").after(30).left("a").attempts(1, 2).after(30).left("a").note(Event::Healed).after(100);
    gives_up(&mut scene, DeathCause::Attempts, 3).passes(L1);
}

/// A SET of an unknown key, given up so many seconds after its first transmission since all is well.
fn gives_up_an_unknown_key(truth: Truth, pause: u64) -> Scene {
    let mut scene = Scene::new();
    scene.sent("a").left("a").note(Event::Healed).after(100).left("a").came("a", truth).attempts(1, 2);
    scene.after(30).left("a").after(pause);
    gives_up(&mut scene, DeathCause::Attempts, 3);
    scene
}

#[test]
fn l1_a_set_is_given_up_before_its_unknown_key_could_be_asked_for() {
    let scene = gives_up_an_unknown_key(Truth::Unsound, 30);
    assert_eq!(scene.excused("the keys to refuse it"), 1);
    gives_up_an_unknown_key(Truth::Unsound, 45).breaks(L1);
    gives_up_an_unknown_key(Truth::Sound, 30).breaks(L1);
}

#[test]
fn l1_several_unknown_keys_are_asked_for_one_after_the_other() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").note(Event::Healed).after(100).left("a").came("a", Truth::Unsound).attempts(1, 2);
    scene.came("b", Truth::Unsound).came("c", Truth::Unsound).after(30).left("a").after(60);
    gives_up(&mut scene, DeathCause::Attempts, 3);
    assert_eq!(scene.excused("the keys to refuse it"), 1);
}

use pushpull::clock::Wall;
use pushpull::peer::{Chapter, DeathCause, Outcome, Story, Write};

use super::scene::{H, P, Q, Scene, digest, disk, limits, other, refused};
use crate::sim::event::{Contents, Event, Truth};
use crate::sim::judge::Invariant::{I1, I2, I3, I4, I6, I16, I19, Pause, Retry};

#[test]
fn i1_send_returns_before_its_set_is_durable() {
    Scene::new().submitted("a").accepted("a").breaks(I1);
}

#[test]
fn i1_a_set_that_was_durable_when_its_process_died_may_or_may_not_be_accepted() {
    let mut scene = Scene::new();
    scene.submitted("a").submitted("b").died(P, Contents::default()).started(P, Contents::default());
    scene.enqueued("a").restarted(P, disk(Q).queued(&["a"]).done()).passes(I1);
}

#[test]
fn i1_what_was_declined_is_queued_all_the_same() {
    Scene::new().submitted("a").declined("a", digest("a"), "outbox full").enqueued("a").breaks(I1);
}

#[test]
fn i1_what_met_a_full_disk_may_be_queued_once_there_is_room() {
    let mut scene = Scene::new();
    scene.submitted("a").declined("a", digest("a"), "storage full").enqueued("a");
    scene.submitted("a").accepted("a").passes(I1);
}

#[test]
fn i1_what_nobody_asked_for_is_queued() {
    Scene::new().submitted("a").enqueued("b").breaks(I1);
}

#[test]
fn i1_a_set_is_queued_twice() {
    Scene::new().sent("a").enqueued("a").breaks(I1);
}

#[test]
fn i1_a_call_that_is_repeated_after_its_answer_was_lost_is_accepted_without_effect() {
    let mut scene = Scene::new();
    scene.submitted("a").enqueued("a").restarted(P, disk(Q).queued(&["a"]).done());
    scene.submitted("a").accepted("a").passes(I1);
}

#[test]
fn i2_a_set_ends_a_second_time() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").verdict_came(Q, &["a"], &["a"]);
    scene.settled(1, "a", Outcome::Acked).settled(1, "a", refused()).breaks(I2);
}

#[test]
fn i2_a_dead_letter_is_resent_without_an_operator() {
    let mut scene = Scene::new();
    scene.sent("a").given_up("a");
    let (lift, row) = (scene.lift(1, "a", None), scene.row("a", Scene::series()));
    scene.durable(P, Q, vec![lift, Write::Enqueue(row)]).breaks(I2);
}

#[test]
fn i2_a_refused_set_is_resent_under_its_jti() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").verdict_came(Q, &[], &["a"]).settled(1, "a", refused()).redriving("a", "resent");
    let (lift, row) = (scene.lift(1, "a", None), scene.row("a", Scene::series()));
    scene.durable(P, Q, vec![lift, Write::Enqueue(row)]).breaks(I2);
}

#[test]
fn i2_a_new_series_that_is_not_told_as_one() {
    let mut scene = Scene::new();
    scene.sent("a").given_up("a").redriving("a", "resent");
    let (lift, row) = (scene.lift(1, "a", None), scene.row("a", Story::default()));
    scene.durable(P, Q, vec![lift, Write::Enqueue(row)]).breaks(I2);
}

#[test]
fn i2_an_operator_resends_what_was_never_answered() {
    let mut scene = Scene::new();
    scene.sent("a").given_up("a").redriving("a", "resent");
    let (lift, row) = (scene.lift(1, "a", None), scene.row("a", Scene::series()));
    scene.durable(P, Q, vec![lift, Write::Enqueue(row)]);
    scene.note(Event::Redriven { org: P, to: Q, jti: "a".into(), how: "resent", new: None });
    scene.left("a").verdict_came(Q, &["a"], &[]).settled(2, "a", Outcome::Acked).passes(I2);
}

#[test]
fn i2_an_operator_says_a_refused_set_again_under_a_new_jti() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").verdict_came(Q, &[], &["a"]).settled(1, "a", refused()).redriving("a", "reissued");
    let lift = scene.lift(1, "a", Some(Chapter::ReissuedAs { jti: "b".into(), at: Wall(2) }));
    let row = scene.row("b", Story::of(vec![Chapter::ReissueOf("a".into())]));
    scene.durable(P, Q, vec![lift, Write::Enqueue(row)]);
    scene.note(Event::Redriven { org: P, to: Q, jti: "a".into(), how: "reissued", new: Some("b".into()) });
    scene.left("b").passes(I2);
    let contents = disk(Q).queued(&["b"]).settled(&[("a", "refused")]).done();
    scene.restarted(P, contents).passes(I1);
}

#[test]
fn i3_a_settled_set_leaves_again_with_a_new_connection() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").verdict_came(Q, &["a"], &[]).settled(1, "a", Outcome::Acked);
    scene.after(1).left("a").breaks(I3);
}

#[test]
fn i3_an_object_that_was_chosen_before_the_end_leaves_in_the_same_instant() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").verdict_came(Q, &["a"], &[]).settled(1, "a", Outcome::Acked).left("a");
    scene.passes(I3);
    assert_eq!(scene.excused("chosen before"), 1);
}

#[test]
fn i4_a_set_leaves_that_is_not_durable() {
    Scene::new().submitted("a").left("a").breaks(I4);
}

#[test]
fn i4_the_bytes_of_a_set_change_when_it_is_sent_again() {
    Scene::new().sent("a").left("a").after(5).left_as("a", other()).breaks(I4);
}

#[test]
fn i4_another_content_is_accepted_under_a_jti() {
    let mut scene = Scene::new();
    scene.sent("a").note(Event::Submitted { from: P, to: Q, jti: "a".into(), digest: other() });
    scene.note(Event::Accepted { from: P, to: Q, jti: "a".into(), digest: other() }).breaks(I4);
}

#[test]
fn i4_the_same_content_is_declined_as_a_conflict() {
    Scene::new().sent("a").submitted("a").declined("a", digest("a"), "conflict").breaks(I4);
}

#[test]
fn i4_another_content_is_declined_and_the_first_leaves_as_often_as_it_must() {
    let mut scene = Scene::new();
    scene.sent("a").note(Event::Submitted { from: P, to: Q, jti: "a".into(), digest: other() });
    scene.declined("a", other(), "conflict").left("a").after(9).left("a").passes(I4);
}

#[test]
fn i6_another_partner_settles_a_set() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").verdict_came(H, &["a"], &[]).settled(1, "a", Outcome::Acked).breaks(I6);
}

#[test]
fn i6_an_ack_of_what_never_left_settles_it() {
    let mut scene = Scene::new();
    scene.sent("a").verdict_came(Q, &["a"], &[]).settled(1, "a", Outcome::Acked).after(4).sent("b").breaks(I6);
}

#[test]
fn i6_a_guess_from_long_before_settles_what_has_left_since() {
    let mut scene = Scene::new();
    scene.verdict_came(Q, &["a"], &[]).after(600).sent("a").left("a").settled(1, "a", Outcome::Acked).breaks(I6);
}

#[test]
fn i6_a_verdict_may_come_while_its_set_is_leaving() {
    let mut scene = Scene::new();
    scene.sent("a").verdict_came(Q, &["a"], &[]).after(1).left("a").settled(1, "a", Outcome::Acked).passes(I6);
}

#[test]
fn i6_an_ack_settles_as_a_refusal() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").verdict_came(Q, &["a"], &[]).settled(1, "a", refused()).breaks(I6);
}

#[test]
fn i6_guesses_of_others_beside_the_owners_verdict_do_no_harm() {
    let mut scene = Scene::new();
    scene.sent("a").verdict_came(H, &["a"], &["a"]).left("a").verdict_came(H, &[], &["a"]);
    scene.verdict_came(Q, &["a"], &[]).settled(1, "a", Outcome::Acked).passes(I6);
}

#[test]
fn i16_an_object_has_one_set_too_many() {
    let mut scene = Scene::new();
    let names: Vec<String> = (0..5).map(|n| format!("s{n}")).collect();
    for jti in &names {
        scene.sent(jti);
    }
    let sets = names.iter().map(|jti| (jti.as_str().into(), digest(jti))).collect();
    let (acks, errors) = (Vec::new(), Vec::new());
    let event = Event::Left {
        from: P,
        to: Q,
        link: 1,
        sets,
        acks,
        errors,
        sets_max: 4,
        bytes: 100,
        bytes_max: 1000,
        tells: true,
    };
    scene.note(event).breaks(I16);
}

#[test]
fn i16_an_object_is_larger_than_its_link_carries() {
    let mut scene = Scene::new();
    scene.sent("a").sent("b");
    let sets = vec![("a".into(), digest("a")), ("b".into(), digest("b"))];
    let (acks, errors) = (Vec::new(), Vec::new());
    let event = Event::Left {
        from: P,
        to: Q,
        link: 1,
        sets,
        acks,
        errors,
        sets_max: 4,
        bytes: 2000,
        bytes_max: 1000,
        tells: true,
    };
    scene.note(event).breaks(I16);
}

#[test]
fn i16_a_single_set_may_be_larger_or_it_could_never_leave() {
    let mut scene = Scene::new();
    scene.sent("a");
    let (sets, acks, errors) = (vec![("a".into(), digest("a"))], Vec::new(), Vec::new());
    let event = Event::Left {
        from: P,
        to: Q,
        link: 1,
        sets,
        acks,
        errors,
        sets_max: 1,
        bytes: 2000,
        bytes_max: 1000,
        tells: true,
    };
    scene.note(event).passes(I16);
}

#[test]
fn i16_the_outbox_holds_more_than_it_may() {
    let mut scene = Scene::new();
    for n in 0..limits().peer.outbox_max {
        scene.sent(&format!("s{n}"));
    }
    scene.passes(I16);
    scene.sent("one more").breaks(I16);
}

#[test]
fn i19_a_key_is_gone_while_its_set_is_under_way() {
    let mut scene = Scene::new();
    scene.note(Event::Published { org: P, kids: vec!["old".into(), "new".into()] });
    scene.note(Event::Signed { org: P, jti: "a".into(), kid: "old".into() }).sent("a").left("a");
    scene.note(Event::Published { org: P, kids: vec!["new".into()] }).came("a", Truth::Sound).breaks(I19);
}

#[test]
fn i19_a_key_goes_when_the_last_set_that_it_signed_is_settled() {
    let mut scene = Scene::new();
    scene.note(Event::Published { org: P, kids: vec!["old".into(), "new".into()] });
    scene.note(Event::Signed { org: P, jti: "a".into(), kid: "old".into() }).sent("a").left("a");
    scene.came("a", Truth::Sound).verdict_came(Q, &["a"], &[]).settled(1, "a", Outcome::Acked);
    scene.note(Event::Published { org: P, kids: vec!["new".into()] }).came("a", Truth::Sound).passes(I19);
}

#[test]
fn a_dead_letter_that_is_lifted_has_to_be_queued_by_the_same_commit() {
    let mut scene = Scene::new();
    scene.sent("a").given_up("a").redriving("a", "resent");
    let lift = scene.lift(1, "a", None);
    scene.durable(P, Q, vec![lift]).breaks(I1);
}

#[test]
fn a_dead_letter_that_is_discarded_stays_in_the_memory_alone() {
    let mut scene = Scene::new();
    scene.sent("a").given_up("a").redriving("a", "discarded");
    let lift = scene.lift(1, "a", Some(Chapter::Discarded { at: Wall(2) }));
    scene.durable(P, Q, vec![lift]).restarted(P, disk(Q).settled(&[("a", "dead")]).done()).passes(I1);
    let again = scene.settle(1, "a", Outcome::Dead(DeathCause::Attempts), 3);
    scene.durable(P, Q, vec![again]).breaks(I2);
}

#[test]
fn a_paused_peer_gets_a_set_all_the_same() {
    let mut scene = Scene::new();
    scene.sent("a").durable(P, Q, vec![Write::Paused(true)]);
    scene.after(1).left("a").breaks(Pause);
}

#[test]
fn a_peer_that_was_paused_gets_what_was_chosen_before_and_what_comes_after() {
    let mut scene = Scene::new();
    scene.sent("a").sent("b").durable(P, Q, vec![Write::Paused(true)]).left("a").passes(Pause);
    scene.after(1).durable(P, Q, vec![Write::Paused(false)]).left("b").passes(Pause);
}

#[test]
fn i3_a_verdict_is_not_heard_and_its_set_leaves_again() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").verdict_came(Q, &["a"], &[]).after(121).left("a").breaks(I3);
}

#[test]
fn i3_what_was_chosen_before_a_disk_was_full_leaves_when_there_is_room_again() {
    let full = || Event::Fault { org: Some(P), what: "disk full" };
    let mut scene = Scene::new();
    scene.sent("a").left("a").after(1).verdict_came(Q, &["a"], &[]).note(full()).after(300).note(full());
    scene.after(1).sent("b").left("a").passes(I3);
    assert_eq!(scene.excused("disk was full"), 1);
    let mut scene = Scene::new();
    scene.sent("a").left("a").after(1).verdict_came(Q, &["a"], &[]).note(full()).after(300).note(full());
    scene.after(1).sent("b").after(1).left("a").breaks(I3);
}

#[test]
fn i3_what_a_process_before_this_one_sent_is_not_its_own_to_settle() {
    let mut scene = Scene::new();
    scene.sent("a").left("a").restarted(P, disk(Q).queued(&["a"]).done()).verdict_came(Q, &["a"], &[]);
    scene.after(121).left("a").passes(I3);
}

#[test]
fn i6_what_was_stranded_in_the_slot_of_a_link_may_be_settled() {
    let mut scene = Scene::new();
    scene.sent("a").after(1).verdict_came(Q, &["a"], &[]).settled(1, "a", Outcome::Acked).after(2);
    scene.note(Event::Stranded { org: P, partner: Q, sets: vec!["a".into()] }).after(10).sent("b").passes(I6);
}

#[test]
fn a_retry_comes_late_although_all_is_well() {
    let longest = 2 * limits().peer.retry_max.as_secs();
    let mut scene = Scene::new();
    scene.sent("a").note(Event::Healed).after(100).left("a").after(longest).left("a").passes(Retry);
    scene.after(longest + 10).left("a").breaks(Retry);
}

#[test]
fn a_retry_may_come_late_where_there_was_no_room_for_all_of_them() {
    let longest = 2 * limits().peer.retry_max.as_secs();
    let mut narrow = limits();
    narrow.peer.window = 2;
    for (crowded, breaks) in [(true, false), (false, true)] {
        let mut scene = Scene::within(narrow.clone());
        scene.sent("a").note(Event::Healed).after(100).left("a");
        if crowded {
            // Two wait, and one of them may be retried at a time, until it is settled.
            scene.sent("b").left("b").after(1).verdict_came(Q, &["b"], &[]).settled(2, "b", Outcome::Acked);
        }
        scene.after(longest + 10).left("a");
        if breaks {
            scene.breaks(Retry);
        } else {
            scene.after(1).left("a").passes(Retry);
        }
    }
}

#[test]
fn a_retry_may_come_late_behind_parts_at_which_exchanges_failed_and_not_for_ever() {
    let longest = 2 * limits().peer.retry_max.as_secs() + 3;
    for (since, breaks) in [(10, false), (5 * longest + 10, true)] {
        let mut scene = Scene::new();
        scene.note(Event::Suspected { org: P, partner: Q }).after(since);
        scene.sent("a").note(Event::Healed).after(100).left("a").after(longest + 10).left("a");
        if breaks {
            scene.breaks(Retry);
        } else {
            // What is put to the test is another one, later.
            scene.after(1).verdict_came(Q, &["a"], &[]).settled(1, "a", Outcome::Acked);
            scene.after(5 * longest).sent("b").left("b").after(1).left("b").passes(Retry);
        }
    }
}

#[test]
fn i1_of_a_call_a_part_is_durable() {
    let mut scene = Scene::new();
    scene.note(Event::Calling { from: P, to: Q, jtis: vec!["a".into(), "b".into()] });
    scene.submitted("a").submitted("b").enqueued("a").breaks(I1);
}

#[test]
fn i1_of_two_calls_one_is_durable() {
    let mut scene = Scene::new();
    scene.note(Event::Calling { from: P, to: Q, jtis: vec!["a".into(), "b".into()] });
    scene.note(Event::Calling { from: P, to: Q, jtis: vec!["a".into()] });
    scene.submitted("a").submitted("b").submitted("a").enqueued("a").passes(I1);
}

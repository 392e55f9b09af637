//! A partner that refuses whole objects: the SET it minds is found, and its neighbours arrive.

use std::time::Duration;

use super::calls::Method;
use super::link::Mode;
use super::pair::{Left, Pair, Right, Seed};
use super::solo::{SPEC, Solo, sets, valid, verdicts};
use crate::peer::{Blame, Config, DeathCause, Ending, Input, Outcome, SlotSpec};

const TOO_LARGE: Ending = Ending::Rejected { retry_after: Duration::ZERO, too_large: true };

fn config() -> Config {
    Config { attempts_max: 3, give_up_after: Duration::from_secs(1), ..Config::default() }
}

fn poisoned(config: Config) -> Pair {
    poison(Pair::new(Seed(1), Mode::HTTP, config))
}

/// The same where the left end pushes many at a time.
fn poisoned_batches(config: Config) -> Pair {
    poison(Pair::calling(Seed(1), Mode::CALLS, [Some(Method::MultiPush), None], config))
}

fn poison(mut pair: Pair) -> Pair {
    pair.link.rejects = Box::new(|object| object.sets.iter().any(|(jti, _)| jti.as_str().starts_with("poison")));
    pair
}

/// Sends so many SETs, those at `places` poisoned.
fn send(pair: &mut Pair, count: usize, places: &[usize]) {
    let name = |n: usize| if places.contains(&n) { format!("poison-{n}") } else { format!("a-{n}") };
    pair.end(Left).send((0..count).map(name), 100);
}

#[test]
fn a_poison_set_in_a_thousand_costs_few_exchanges_and_no_neighbour() {
    let places: Vec<usize> = (0..1000).step_by(37).chain([1, 124, 125, 499, 500, 637, 700, 999]).collect();
    let pairs = places.iter().map(|place| (*place, poisoned(config())));
    for (place, mut pair) in pairs.chain(places.iter().map(|place| (*place, poisoned_batches(config())))) {
        send(&mut pair, 1000, &[place]);
        while pair.end(Right).delivered().len() < 999 {
            assert!(pair.run_to_next(Duration::from_secs(60)), "stalled");
        }
        // Twice the binary logarithm of a thousand is 19.9.
        assert!(pair.link.requests <= 1 + 19, "{} requests for place {place}", pair.link.requests);
        assert!(pair.now < Duration::from_secs(1), "{:?}", pair.now);
        pair.run_until_quiet();
        let outcome = pair.outcome(Left, &format!("poison-{place}"));
        assert_eq!(outcome, Some(Outcome::Dead(DeathCause::Attempts)));
        assert!((0..1000).filter(|n| *n != place).all(|n| pair.end(Left).store.attempts(&format!("a-{n}")) == 0));
    }
}

#[test]
fn a_rejection_that_comes_after_the_ack_wait_is_bisected_all_the_same() {
    let mut pair = poisoned(config());
    pair.link.answer_time = Duration::from_secs(20);
    pair.link.patience = Duration::from_secs(60);
    send(&mut pair, 64, &[40]);
    while pair.end(Right).delivered().len() < 63 {
        assert!(pair.run_to_next(Duration::from_secs(1200)), "{} arrived", pair.end(Right).delivered().len());
    }
    assert!(pair.link.requests <= 25, "{} requests", pair.link.requests);
    pair.run_until_quiet();
    assert_eq!(pair.end(Left).store.counts.dead, 1);
}

#[test]
fn a_slow_rejection_with_a_full_window_is_bisected_all_the_same() {
    let mut pair = poisoned(Config { window: 16, ..config() });
    pair.link.answer_time = Duration::from_secs(20);
    pair.link.patience = Duration::from_secs(60);
    send(&mut pair, 200, &[3, 77]);
    pair.run_until_quiet();
    assert_eq!(pair.end(Right).delivered().len(), 198);
    assert_eq!(pair.end(Left).store.counts.dead, 2);
}

#[test]
fn lost_exchanges_while_bisecting_do_not_start_it_anew() {
    let mut rejected = 0;
    for seed in 1..=20 {
        let mut pair = poison(Pair::new(Seed(seed), Mode::HTTP, config()));
        send(&mut pair, 512, &[100]);
        pair.run_for(Duration::from_millis(100));
        pair.link.loss = 20;
        while pair.end(Right).delivered().len() < 511 {
            assert!(pair.run_to_next(Duration::from_secs(3600)), "stalled");
        }
        rejected += pair.link.rejected;
    }
    assert!(rejected <= 20 * 14, "{rejected} rejections");
}

#[test]
fn a_half_that_was_taken_without_a_verdict_does_not_hold_up_the_other() {
    let mut solo = Solo::new(Config::default());
    solo.send(&["a", "b", "c", "d"]);
    let slot = solo.open();
    assert_eq!(sets(&solo.step()).len(), 4);
    solo.close(slot, Ending::REJECTED);
    let slot = solo.open();
    assert_eq!(sets(&solo.step()), ["a", "b"]);
    solo.close(slot, Ending::Delivered);
    let slot = solo.open();
    assert_eq!(sets(&solo.step()), ["c"], "it is one of the other half");
    solo.close(slot, Ending::Delivered);
    solo.open();
    assert_eq!(sets(&solo.step()), ["d"]);
}

#[test]
fn a_half_leaves_whole_where_the_one_before_it_was_refused_or_nothing_is_minded() {
    for first in [Ending::REJECTED, TOO_LARGE] {
        let mut solo = Solo::new(Config::default());
        solo.send(&["a", "b", "c", "d"]);
        let slot = solo.open();
        solo.step();
        solo.close(slot, first);
        let slot = solo.open();
        assert_eq!(sets(&solo.step()), ["a", "b"]);
        if first == TOO_LARGE {
            solo.close(slot, Ending::Delivered);
        } else {
            solo.close(slot, Ending::REJECTED);
            for one in ["a", "b"] {
                let slot = solo.open();
                assert_eq!(sets(&solo.step()), [one]);
                solo.close(slot, if one == "a" { Ending::REJECTED } else { Ending::Delivered });
            }
        }
        solo.open();
        assert_eq!(sets(&solo.step()), ["c", "d"]);
    }
}

#[test]
fn a_part_of_which_one_set_has_its_verdict_does_not_hold_up_the_other() {
    let mut solo = Solo::new(Config::default());
    solo.send(&["a", "b", "c", "d", "e", "f"]);
    let slot = solo.open();
    solo.step();
    solo.close(slot, TOO_LARGE);
    let slot = solo.open();
    assert_eq!(sets(&solo.step()), ["a", "b", "c"]);
    solo.input(Input::SlotReady(slot));
    assert_eq!(sets(&solo.step()), [] as [&str; 0], "nothing is known of the first part");
    solo.arrive(Some(slot), &[], &["b"], 1);
    assert_eq!(sets(&solo.step()), ["d", "e", "f"], "the object with b was read, and a and c with it");
    solo.close(slot, TOO_LARGE);
    solo.open();
    assert_eq!(sets(&solo.step()), ["d"], "in halves again, and not with those that were read before");
    solo.arrive(None, &[], &["d"], 1);
    solo.open();
    assert_eq!(sets(&solo.step()), ["e", "f"]);
    solo.arrive(None, &[], &["e", "f"], 1);
    solo.open();
    assert_eq!(sets(&solo.step()), ["a", "c"], "whose answers did not come");
}

#[test]
fn parts_leave_one_at_a_time() {
    let mut solo = Solo::new(Config::default());
    solo.send(&["a", "b", "c", "d"]);
    let slot = solo.open();
    solo.step();
    solo.close(slot, Ending::REJECTED);
    solo.open();
    solo.open();
    solo.send(&["e"]);
    assert_eq!(sets(&solo.step()), ["a", "b"]);
    solo.arrive(None, &[], &["a", "b"], 1);
    assert_eq!(sets(&solo.step()), ["c"]);
    solo.open();
    assert_eq!(sets(&solo.step()), [] as [&str; 0]);
    solo.arrive(None, &[], &["c"], 1);
    assert_eq!(sets(&solo.step()), ["d"]);
    solo.arrive(None, &[], &["d"], 1);
    solo.open();
    assert_eq!(sets(&solo.step()), ["e"]);
}

#[test]
fn parts_fit_their_slot() {
    let mut solo = Solo::new(Config::default());
    solo.send(&["a", "b", "c", "d", "e", "f", "g", "h"]);
    let slot = solo.open();
    solo.step();
    solo.close(slot, Ending::REJECTED);
    let slot = solo.open_as(SlotSpec { bytes_max: 250, ..SPEC });
    assert_eq!(sets(&solo.step()), ["a", "b"]);
    solo.close(slot, Ending::Delivered);
    solo.open_as(SlotSpec { sets_max: 1, ..SPEC });
    assert_eq!(sets(&solo.step()), ["c"]);
}

#[test]
fn verdicts_stay_away_from_suspects_and_still_leave() {
    let mut solo = Solo::new(Config::default());
    solo.send(&["a", "b", "c", "d"]);
    let slot = solo.open();
    solo.step();
    solo.arrive(None, &[("theirs", valid())], &[], 10);
    solo.close(slot, Ending::REJECTED);
    for _ in 0..4 {
        let slot = solo.open();
        let left = solo.step();
        assert!(sets(&left).is_empty() || verdicts(&left).is_empty(), "{left:?}");
        solo.close(slot, Ending::Delivered);
    }
    assert_eq!(solo.peer.stats().owed, 0);
}

#[test]
fn verdicts_leave_by_a_slot_that_takes_no_sets_while_suspects_wait() {
    let mut solo = Solo::new(Config::default());
    solo.send(&["a", "b"]);
    let slot = solo.open();
    solo.step();
    solo.close(slot, Ending::REJECTED);
    solo.arrive(None, &[("theirs", valid())], &[], 10);
    solo.open_as(SlotSpec { sets_max: 0, ..SPEC });
    assert_eq!(verdicts(&solo.step()), ["theirs"]);
}

#[test]
fn an_acked_suspect_is_no_suspect_any_more() {
    let mut solo = Solo::new(Config::default());
    solo.send(&["a", "b", "c", "d"]);
    let slot = solo.open();
    solo.step();
    // They arrived by another way; then the answer to this one comes.
    solo.arrive(None, &[], &["a", "d"], 1);
    solo.close(slot, Ending::REJECTED);
    solo.open();
    assert_eq!(sets(&solo.step()), ["b"]);
    solo.arrive(None, &[], &["b", "c"], 1);
    solo.send(&["e"]);
    solo.open();
    assert_eq!(sets(&solo.step()), ["e"]);
    assert_eq!(solo.store.counts.acked, 4);
}

#[test]
fn a_set_that_was_refused_alone_travels_alone_and_beside_it_the_others() {
    let mut pair = poisoned(Config { attempts_max: 10, ..config() });
    send(&mut pair, 3, &[0]);
    pair.run_for(Duration::from_millis(500));
    for round in 0..20 {
        let name = format!("b{round}");
        pair.send_many(Left, &name, 5);
        pair.run_for(Duration::from_secs(1));
        assert!(pair.end(Right).delivered().contains(&format!("{name}-4").as_str()), "round {round}");
    }
    let with_poison = |object: &&super::pair::Departure| object.sets.iter().any(|jti| jti.as_str() == "poison-0");
    let sizes: Vec<usize> = pair.log.iter().filter(with_poison).map(|object| object.sets.len()).collect();
    assert!(sizes.len() > 3 && sizes[2..].iter().all(|size| *size == 1), "{sizes:?}");
}

#[test]
fn a_partner_that_rejects_everything_gets_everything_when_it_heals() {
    let mut pair = Pair::new(Seed(2), Mode::HTTP, Config { window: 16, ..Config::default() });
    pair.link.rejects = Box::new(|object| !object.sets.is_empty());
    pair.send_many(Left, "a", 50);
    pair.send_many(Right, "b", 50);
    pair.run_for(Duration::from_secs(120));
    assert_eq!(pair.end(Left).delivered().len(), 50, "the other direction is not held up");
    assert_eq!(pair.end(Right).store.counts.acked, 50);
    pair.link.rejects = Box::new(|_| false);
    let time = pair.run_until_quiet();
    assert!(time < Duration::from_secs(300), "{time:?}");
}

#[test]
fn a_set_that_was_refused_alone_waits_for_as_long_as_the_partner_asks_and_no_other_does() {
    for (asked, kept) in [(600, 600), (1_000_000, 3600)] {
        let mut solo = Solo::new(config());
        solo.send(&["event"]);
        let slot = solo.open();
        assert_eq!(sets(&solo.step()), ["event"]);
        solo.close(slot, Ending::Rejected { retry_after: Duration::from_secs(asked), too_large: false });
        solo.step();
        solo.send(&["other"]);
        let slot = solo.open();
        assert_eq!(sets(&solo.step()), ["other"]);
        solo.arrive(Some(slot), &[], &["other"], 10);
        solo.close(slot, Ending::Delivered);
        solo.open();
        let told = solo.now;
        assert!(!sets(&solo.pass(Duration::from_secs(kept - 1))).contains(&"event"), "within {asked} s");
        assert!(sets(&solo.pass(Duration::from_secs(2))).contains(&"event"), "{:?} after {asked} s", solo.now - told);
    }
}

#[test]
fn a_lost_slot_with_suspects_gives_them_back() {
    let mut solo = Solo::new(Config::default());
    solo.send(&["a", "b", "c", "d"]);
    let slot = solo.open();
    solo.step();
    solo.close(slot, Ending::REJECTED);
    let slot = solo.open();
    assert_eq!(sets(&solo.step()), ["a", "b"]);
    solo.lose(slot);
    let slot = solo.open();
    assert_eq!(sets(&solo.step()), ["a", "b"], "still under suspicion, and still apart from the others");
    solo.close(slot, Ending::REJECTED);
    solo.open();
    assert_eq!(sets(&solo.step()), ["a"]);
    solo.input(Input::Drain);
    solo.step();
}

#[test]
fn a_set_that_was_refused_alone_never_shares_an_object_again() {
    let mut solo = Solo::new(Config::default());
    solo.send(&["poison"]);
    let slot = solo.open();
    solo.step();
    solo.arrive(None, &[("theirs", valid())], &[], 10);
    solo.close(slot, Ending::REJECTED);
    solo.step();
    solo.pass(Duration::from_secs(2));
    solo.send(&["a", "b"]);
    let mut objects = Vec::new();
    for _ in 0..3 {
        let slot = solo.open();
        objects.extend(solo.step());
        solo.close(slot, Ending::Delivered);
    }
    let with_poison =
        objects.iter().find(|(_, object)| object.sets[..].iter().any(|(jti, _)| jti.as_str() == "poison"));
    let (_, object) = with_poison.unwrap();
    assert_eq!((object.sets.len(), object.verdicts.len()), (1, 0));
    assert_eq!((sets(&objects).len(), verdicts(&objects)), (3, vec!["theirs"]));
}

#[test]
fn a_set_at_which_an_exchange_fails_alone_uses_up_an_attempt_only_where_that_counts() {
    let failed = |counts: bool| {
        let blame = if counts { Blame::Set } else { Blame::Unknown };
        Ending::Failed { retry_after: Duration::ZERO, blame }
    };
    let mut solo = Solo::new(Config { give_up_after: Duration::ZERO, attempts_max: 2, ..config() });
    solo.send(&["a", "b"]);
    let slot = solo.open();
    solo.step();
    solo.close(slot, failed(true));
    for (round, counts) in [false, false, false, true, true].into_iter().enumerate() {
        let slot = solo.open();
        let left = match round {
            0 => solo.step(),
            _ => solo.pass(Duration::from_secs(3600)),
        };
        assert_eq!(sets(&left), ["b"], "round {round}: by itself, after a pause");
        if round == 0 {
            solo.arrive(None, &[], &["a"], 1);
        }
        solo.close(slot, failed(counts));
        solo.step();
        assert_eq!(solo.store.outcome("b").is_some(), round == 4, "round {round}");
    }
    assert_eq!(solo.store.outcome("b"), Some(Outcome::Dead(DeathCause::Attempts)));
}

#[test]
fn a_set_at_the_head_of_the_queue_that_exchanges_fail_at_is_met_once_more() {
    let jtis: Vec<String> = (0..64).map(|n| format!("event-{n:02}")).collect();
    for (bad, most) in [(0, 1), (1, 2), (31, 6), (63, 6)] {
        let mut solo = Solo::new(config());
        solo.send(&jtis.iter().map(String::as_str).collect::<Vec<_>>());
        let slot = solo.open();
        assert_eq!(sets(&solo.step()).len(), 64);
        solo.close(slot, Ending::Failed { retry_after: Duration::ZERO, blame: Blame::Unknown });
        let (mut failed, mut taken) = (0, 0);
        while taken < 63 {
            let slot = solo.open();
            let objects = solo.step();
            let left = sets(&objects);
            if left.contains(&jtis[bad].as_str()) {
                failed += 1;
                assert!(failed <= most, "{bad}: {left:?}");
                solo.close(slot, Ending::Failed { retry_after: Duration::ZERO, blame: Blame::Unknown });
            } else {
                taken += left.len();
                solo.arrive(Some(slot), &[], &left, 1);
                solo.close(slot, Ending::Delivered);
            }
        }
    }
}

#[test]
fn what_a_partner_has_gone_on_after_is_no_suspect_when_its_link_breaks() {
    let mut solo = Solo::new(config());
    let slot = solo.open();
    solo.send(&["old"]);
    assert_eq!(sets(&solo.step()), ["old"]);
    solo.input(Input::SlotReady(slot));
    solo.now += Duration::from_millis(500);
    solo.input(Input::SlotAlive(slot));
    // It waits for its retry by now.
    solo.step_after(Duration::from_millis(700));
    solo.send(&["a", "b"]);
    assert_eq!(sets(&solo.step()), ["a", "b"]);
    solo.close(slot, Ending::Failed { retry_after: Duration::ZERO, blame: Blame::Set });
    for one in ["b", "a"] {
        solo.open();
        assert_eq!(sets(&solo.step()), [one]);
        solo.arrive(None, &[], &[one], 1);
    }
    assert_eq!(solo.peer.under_way(&"old".into()), Some((false, 0)), "it waits on");
    solo.open();
    assert_eq!(sets(&solo.pass(Duration::from_secs(60))), ["old"]);
    assert_eq!(solo.peer.under_way(&"old".into()).map(|(_, attempts)| attempts), Some(1), "the link was alive");
}

#[test]
fn where_the_partner_is_to_blame_all_others_get_their_turn_first() {
    let failed = |blame| Ending::Failed { retry_after: Duration::ZERO, blame };
    let mut solo = Solo::new(Config::default());
    solo.send(&["a", "b", "c", "d"]);
    let slot = solo.open();
    solo.step();
    solo.close(slot, failed(Blame::Unknown));
    let slot = solo.open();
    assert_eq!(sets(&solo.step()), ["c", "d"]);
    solo.send(&["fresh"]);
    solo.close(slot, failed(Blame::Partner));
    let slot = solo.open_as(SlotSpec { sets_max: 1, ..SPEC });
    assert_eq!(sets(&solo.step()), ["fresh"], "what was handed in meanwhile");
    solo.close(slot, failed(Blame::Partner));
    let slot = solo.open();
    assert_eq!(sets(&solo.step()), ["a", "b"], "those that were not tried yet, and fewer of them");
    solo.arrive(Some(slot), &[], &["a", "b"], 1);
    solo.close(slot, Ending::Delivered);
    // Now that the partner takes SETs, the one that had failed alone is due at once.
    let mut objects = Vec::new();
    for _ in 0..2 {
        solo.open();
        objects.extend(solo.step());
    }
    let mut left: Vec<_> = objects.iter().map(|(_, object)| object.sets.len()).collect();
    left.sort_unstable();
    assert_eq!(left, [1, 2], "it travels by itself");
    let mut left = sets(&objects);
    left.sort_unstable();
    assert_eq!(left, ["c", "d", "fresh"]);
    assert_eq!(solo.peer.under_way(&"fresh".into()), Some((true, 0)));
}

#[test]
fn a_set_that_failed_alone_waits_also_when_its_next_exchange_is_lost() {
    let mut solo = Solo::new(Config::default());
    solo.send(&["poison"]);
    let slot = solo.open();
    solo.step();
    solo.close(slot, Ending::REJECTED);
    for _ in 0..3 {
        let slot = solo.open();
        assert_eq!(sets(&solo.pass(Duration::from_millis(1100))), ["poison"]);
        solo.send(&["other"]);
        solo.lose(slot);
        let slot = solo.open();
        assert!(!sets(&solo.step()).contains(&"poison"), "others do not wait for it once more");
        solo.arrive(Some(slot), &[], &["other"], 1);
        solo.close(slot, Ending::Delivered);
    }
}

#[test]
fn sets_that_failed_alone_and_left_one_after_another_wait_all_of_them() {
    let failed = |blame| Ending::Failed { retry_after: Duration::ZERO, blame };
    for blame in [Blame::Unknown, Blame::Set, Blame::Partner] {
        let mut solo = Solo::new(Config::default());
        for one in ["a", "b"] {
            solo.send(&[one]);
            let slot = solo.open();
            assert_eq!(sets(&solo.step()), [one]);
            solo.close(slot, failed(Blame::Unknown));
            solo.step();
        }
        let slot = solo.open();
        let mut left = solo.pass(Duration::from_millis(1050));
        solo.input(Input::SlotReady(slot));
        left.extend(solo.step());
        solo.send(&["other"]);
        solo.input(Input::SlotReady(slot));
        left.extend(solo.step());
        assert_eq!(sets(&left).len(), 3, "each in an object of its own: {left:?}");
        solo.close(slot, failed(blame));
        solo.open();
        assert_eq!(sets(&solo.step()), ["other"], "{blame:?}");
    }
}

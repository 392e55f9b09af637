//! Received SETs on their way to the application.

use super::*;
use crate::store::{Handed, INBOX_PAGE_BYTES_MAX};

async fn read(fixture: &impl Fixture, consumer: &str, after: Option<u64>, rows_max: usize) -> Vec<Handed> {
    fixture.store().read_inbox(consumer.to_owned(), after, rows_max).await.unwrap()
}

/// What is read, as `seq` and whether it is marked.
async fn marks(fixture: &impl Fixture, consumer: &str, after: Option<u64>, rows_max: usize) -> Vec<(u64, bool)> {
    let rows = read(fixture, consumer, after, rows_max).await;
    rows.iter().map(|handed| (handed.seq, handed.redelivered)).collect()
}

async fn seqs(fixture: &impl Fixture, consumer: &str) -> Vec<u64> {
    read(fixture, consumer, None, 100_000).await.iter().map(|handed| handed.seq).collect()
}

async fn confirm(fixture: &impl Fixture, consumer: &str, up_to: u64) -> Result<(), Error> {
    fixture.store().confirm(consumer.to_owned(), up_to).await
}

pub(super) async fn a_consumer_reads_on_behind_what_it_confirmed(mut fixture: impl Fixture) {
    let (a, b) = (peer(&fixture, "a").await, peer(&fixture, "b").await);
    commit(&fixture, a, [receive(1), receive(2)]).await;
    commit(&fixture, b, [receive(1)]).await;
    let rows = read(&fixture, "app", None, 99).await;
    let of = |seq, peer, number| Handed { seq, peer, row: received(number), redelivered: false };
    assert_eq!(rows, [of(1, a, 1), of(2, a, 2), of(3, b, 1)]);
    confirm(&fixture, "app", 2).await.unwrap();
    confirm(&fixture, "app", 1).await.unwrap();
    assert_eq!(seqs(&fixture, "app").await, [3], "never back");
    fixture.reopen().await;
    assert_eq!(seqs(&fixture, "app").await, [3]);
    confirm(&fixture, "app", 3).await.unwrap();
    assert_eq!(seqs(&fixture, "app").await, [0u64; 0]);
    assert_eq!(seqs(&fixture, "other").await, [1, 2, 3]);
}

pub(super) async fn what_was_handed_out_comes_again_marked(fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    commit(&fixture, a, (1..=5).map(receive)).await;
    assert_eq!(marks(&fixture, "app", None, 2).await, [(1, false), (2, false)]);
    assert_eq!(marks(&fixture, "app", None, 3).await, [(1, true), (2, true), (3, false)]);
    confirm(&fixture, "app", 1).await.unwrap();
    assert_eq!(marks(&fixture, "app", None, 9).await, [(2, true), (3, true), (4, false), (5, false)]);
    commit(&fixture, a, [receive(6)]).await;
    assert_eq!(marks(&fixture, "app", Some(4), 9).await, [(5, true), (6, false)]);
    assert_eq!(marks(&fixture, "app", Some(5), 0).await, []);
    assert_eq!(marks(&fixture, "other", None, 1).await, [(1, false)], "each consumer has marks of its own");
}

pub(super) async fn a_page_of_large_sets_is_short(fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    let large = |number| InboxRow { compact: "x".repeat(INBOX_PAGE_BYTES_MAX / 3 * 2).into(), ..received(number) };
    commit(&fixture, a, (1..=5).map(|number| Write::Receive(large(number)))).await;
    assert_eq!(marks(&fixture, "app", None, 99).await.len(), 2);
    assert_eq!(marks(&fixture, "app", Some(4), 99).await.len(), 1, "one in any case");
    let peeked = fixture.store().peek_inbox(None, 99).await.unwrap();
    assert_eq!(peeked.iter().map(|handed| handed.seq).collect::<Vec<_>>(), [1, 2]);
}

pub(super) async fn a_restart_never_forgets_what_was_handed_out(mut fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    commit(&fixture, a, (1..=20).map(receive)).await;
    assert_eq!(marks(&fixture, "app", None, 2).await.len(), 2);
    fixture.reopen().await;
    let again = marks(&fixture, "app", None, 20).await;
    assert!(again[..2].iter().all(|(_, redelivered)| *redelivered), "{again:?}");
    assert!(again[6..].iter().all(|(_, redelivered)| !*redelivered), "reserved ahead only so far: {again:?}");
    commit(&fixture, a, [receive(21)]).await;
    fixture.reopen().await;
    let again = marks(&fixture, "app", None, 99).await;
    assert!(again[..20].iter().all(|(_, redelivered)| *redelivered), "{again:?}");
    assert_eq!(again[20], (21, false), "the mark is never beyond the end of the inbox");
}

pub(super) async fn a_consumer_can_skip_ahead_but_not_back_behind_its_confirmation(fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    commit(&fixture, a, (1..=5).map(receive)).await;
    assert_eq!(marks(&fixture, "app", Some(3), 1).await, [(4, false)]);
    confirm(&fixture, "app", 2).await.unwrap();
    assert_eq!(marks(&fixture, "app", Some(0), 9).await, [(3, true), (4, true), (5, false)]);
    assert_eq!(marks(&fixture, "app", Some(u64::MAX), 9).await, []);
}

pub(super) async fn confirming_makes_sense_or_is_an_error(fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    commit(&fixture, a, [receive(1)]).await;
    let Err(Error::Invalid(why)) = confirm(&fixture, "app", 1).await else { panic!("there is no consumer") };
    assert!(why.contains("\"app\""), "{why}");
    read(&fixture, "app", None, 0).await;
    let Err(Error::Invalid(why)) = confirm(&fixture, "app", 2).await else { panic!("there is no row 2") };
    assert!(why.contains("up to 2") && why.contains("ends at 1"), "{why}");
    assert_eq!(fixture.store().inbox_len(), 1);
    confirm(&fixture, "app", 1).await.unwrap();
    assert_eq!(fixture.store().inbox_len(), 0);
}

pub(super) async fn rows_are_purged_when_every_consumer_has_confirmed_them(mut fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    commit(&fixture, a, (1..=5).map(receive)).await;
    assert_eq!(fixture.store().inbox_len(), 5);
    assert_eq!(fixture.store().purge(Wall(0)).await, Ok(false));
    assert_eq!(fixture.store().inbox_len(), 5, "without a consumer rows are kept");
    for consumer in ["x", "y"] {
        read(&fixture, consumer, None, 9).await;
    }
    confirm(&fixture, "x", 4).await.unwrap();
    assert_eq!(fixture.store().inbox_len(), 5);
    confirm(&fixture, "y", 2).await.unwrap();
    assert_eq!(fixture.store().inbox_len(), 3);
    fixture.reopen().await;
    assert_eq!(fixture.store().inbox_len(), 3);
    assert_eq!(fixture.store().purge(Wall(0)).await, Ok(false));
    assert_eq!(fixture.store().inbox_len(), 3);
    let kept = fixture.store().peek_inbox(None, 9).await.unwrap();
    assert_eq!(kept.iter().map(|handed| handed.seq).collect::<Vec<_>>(), [3, 4, 5]);
    fixture.reopen().await;
    assert_eq!(seqs(&fixture, "z").await, [3, 4, 5], "a new consumer starts at the oldest kept row");
    assert_eq!((seqs(&fixture, "x").await, seqs(&fixture, "y").await), (vec![5], vec![3, 4, 5]));
}

pub(super) async fn purging_goes_step_by_step(fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    commit(&fixture, a, (1..=6_001).map(receive)).await;
    read(&fixture, "app", None, 1).await;
    confirm(&fixture, "app", 6_001).await.unwrap();
    // A store may have begun when it was confirmed.
    let left = async || fixture.store().peek_inbox(None, 9_999).await.unwrap().len();
    let (mut steps, mut before) = (0, left().await);
    assert!([4_001, 6_001].contains(&before), "{before}");
    while fixture.store().purge(Wall(0)).await.unwrap() {
        steps += 1;
        assert_eq!(before - left().await, 2_000);
        before = left().await;
    }
    assert!(steps >= 2, "{steps} steps");
    assert_eq!(left().await, 0);
}

pub(super) async fn a_seq_is_never_used_again(mut fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    commit(&fixture, a, (1..=3).map(receive)).await;
    read(&fixture, "app", None, 9).await;
    confirm(&fixture, "app", 3).await.unwrap();
    while fixture.store().purge(Wall(0)).await.unwrap() {}
    fixture.store().forget_consumer("app".to_owned()).await.unwrap();
    fixture.reopen().await;
    assert_eq!((*fixture.store().inbox_tail().borrow(), fixture.store().inbox_len()), (3, 0));
    assert_eq!(seqs(&fixture, "app").await, [0u64; 0]);
    commit(&fixture, a, [receive(4)]).await;
    assert_eq!(marks(&fixture, "app", None, 9).await, [(4, false)]);
}

fn consumers(fixture: &impl Fixture) -> Vec<(String, u64)> {
    fixture.store().consumers().into_iter().map(|at| (at.name, at.confirmed)).collect()
}

pub(super) async fn a_forgotten_consumer_does_not_hold_rows(mut fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    commit(&fixture, a, (1..=3).map(receive)).await;
    read(&fixture, "slow", None, 2).await;
    read(&fixture, "app", None, 9).await;
    confirm(&fixture, "app", 3).await.unwrap();
    assert_eq!(fixture.store().inbox_len(), 3);
    assert_eq!(consumers(&fixture), [("app".to_owned(), 3), ("slow".to_owned(), 0)]);
    assert_eq!(fixture.store().forget_consumer("slow".to_owned()).await, Ok(true));
    assert_eq!(consumers(&fixture), [("app".to_owned(), 3)]);
    assert_eq!(fixture.store().forget_consumer("slow".to_owned()).await, Ok(false));
    assert_eq!(fixture.store().inbox_len(), 0);
    fixture.reopen().await;
    assert_eq!(marks(&fixture, "slow", None, 9).await, [(1, false), (2, false), (3, false)], "it starts anew");
}

pub(super) async fn peeking_changes_nothing(fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    commit(&fixture, a, (1..=3).map(receive)).await;
    for _ in 0..2 {
        let rows = fixture.store().peek_inbox(Some(1), 1).await.unwrap();
        assert_eq!(rows, [Handed { seq: 2, peer: a, row: received(2), redelivered: false }]);
    }
    assert_eq!(fixture.store().inbox_len(), 3);
    assert_eq!(marks(&fixture, "app", None, 9).await, [(1, false), (2, false), (3, false)]);
    assert!(!fixture.store().peek_inbox(None, 1).await.unwrap()[0].redelivered);
}

pub(super) async fn the_tail_moves_with_every_commit_that_adds_rows(fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    let mut tail = fixture.store().inbox_tail();
    assert_eq!(*tail.borrow_and_update(), 0);
    commit(&fixture, a, [receive(1), receive(2)]).await;
    assert!(tail.has_changed().unwrap());
    assert_eq!(*tail.borrow_and_update(), 2);
    commit(&fixture, a, [receive(1), refuse(3), enqueue(1)]).await;
    assert!(!tail.has_changed().unwrap(), "no rows, no news");
    assert_eq!(*fixture.store().inbox_tail().borrow(), 2);
}

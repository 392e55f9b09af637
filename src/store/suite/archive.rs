//! What is kept of SETs that have left their queue.

use std::collections::BTreeSet;

use super::*;
use crate::peer::{Direction, Fate};
use crate::store::{Bookmark, Keep};

/// What is kept of this peer's SETs since then, from leaf to leaf; only those that were acked, as the memory has it.
async fn acked(fixture: &impl Fixture, peer: PeerId, since: u64) -> Vec<OutboxRow> {
    let (mut from, mut found) = (Some(Bookmark::default()), Vec::new());
    while let Some(bookmark) = from {
        let leaf = fixture.store().read_settled(peer, Wall(since), bookmark, 100).await.unwrap();
        assert_eq!(leaf.damaged, 0);
        found.extend(leaf.sets);
        from = leaf.next;
    }
    let jtis = found.iter().map(|set| set.jti.clone()).collect();
    let known = fixture.store().known(peer, Direction::Out, jtis).await.unwrap();
    let was_acked = |seq, fate: &Fate| matches!(fate, Fate::Settled { outcome: Outcome::Acked, .. } if seq > 0);
    let kept = found.into_iter().zip(known).filter_map(|(set, known)| {
        let known = known.filter(|known| known.seq == set.seq && was_acked(known.seq, &known.fate));
        known.map(|_| set)
    });
    let mut kept: Vec<OutboxRow> = kept.collect();
    kept.sort_by_key(|set| set.seq);
    kept
}

fn seqs(sets: &[OutboxRow]) -> Vec<u64> {
    sets.iter().map(|set| set.seq).collect()
}

async fn forget(fixture: &impl Fixture, since: u64, bytes_max: u64) {
    while fixture.store().forget_settled(Keep { since: Wall(since), bytes_max, makes_room: false }).await.unwrap() {}
}

fn refused() -> Outcome {
    Outcome::Refused(crate::set::SetErr { err: "invalid_key".to_owned(), description: String::new() })
}

pub(super) async fn what_was_acked_is_read_again_as_it_was_sent(mut fixture: impl Fixture) {
    let (a, b) = (peer(&fixture, "a").await, peer(&fixture, "b").await);
    commit(&fixture, a, (1..=5).map(enqueue)).await;
    commit(&fixture, b, [enqueue(1)]).await;
    commit(&fixture, a, [Write::Attempts { seq: 6, attempts: 1 }]).await;
    commit(&fixture, a, [settle(1, Outcome::Acked), settle(2, refused()), settle(4, Outcome::Acked)]).await;
    commit(&fixture, b, [settle(1, Outcome::Acked)]).await;
    for _ in 0..2 {
        assert_eq!(acked(&fixture, a, 0).await, [queued(1), queued(4)], "and not what waits, nor what was refused");
        assert_eq!(acked(&fixture, b, 0).await, [queued(1)]);
        fixture.reopen().await;
    }
    commit(&fixture, a, [settle(1, Outcome::Acked), settle(3, Outcome::Acked), settle(5, Outcome::Acked)]).await;
    for _ in 0..2 {
        assert_eq!(
            seqs(&acked(&fixture, a, 0).await),
            [1, 3, 4, 5],
            "each once, also when its settlement is told again"
        );
        fixture.reopen().await;
    }
}

pub(super) async fn reading_begins_at_a_time_and_goes_on_leaf_by_leaf(fixture: impl Fixture) {
    let (a, b) = (peer(&fixture, "a").await, peer(&fixture, "b").await);
    // One by one, and so in rows of their own.
    for seq in 1..=1_200 {
        for peer in [a, b] {
            commit(&fixture, peer, [enqueue(seq)]).await;
            commit(&fixture, peer, [settle(seq, Outcome::Acked)]).await;
        }
    }
    let first = fixture.store().read_settled(a, Wall(0), Bookmark::default(), 300).await.unwrap();
    assert_eq!((first.sets.len(), first.next.is_some()), (300, true));
    assert_eq!(seqs(&acked(&fixture, a, 0).await), Vec::from_iter(1..=1_200));
    // Settled at 2,000 and its number.
    for since in [0, 2_001, 2_002, 2_600, 3_200, 3_201, u64::MAX >> 1] {
        let expected = Vec::from_iter((1..=1_200).filter(|seq| 2_000 + seq >= since));
        assert_eq!(seqs(&acked(&fixture, b, since).await), expected, "since {since}");
    }
}

pub(super) async fn one_that_others_of_its_row_wait_beside_is_read_too(mut fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    commit(&fixture, a, (1..=700).map(enqueue)).await;
    let settled = (1..=700).filter(|seq| seq % 50 != 0);
    commit(&fixture, a, settled.clone().map(|seq| settle(seq, Outcome::Acked))).await;
    let expected = Vec::from_iter(settled);
    assert_eq!(seqs(&acked(&fixture, a, 0).await), expected);
    fixture.reopen().await;
    // What waits gets attempts of its own, and leaves: all of it is met by one who began before.
    let first = fixture.store().read_settled(a, Wall(0), Bookmark::default(), 300).await.unwrap();
    let rest =
        [50, 100].into_iter().flat_map(|seq| [Write::Attempts { seq, attempts: 1 }, settle(seq, Outcome::Acked)]);
    commit(&fixture, a, rest).await;
    let (mut met, mut next) = (BTreeSet::from_iter(seqs(&first.sets)), first.next);
    while let Some(bookmark) = next {
        let leaf = fixture.store().read_settled(a, Wall(0), bookmark, 7).await.unwrap();
        met.extend(seqs(&leaf.sets));
        next = leaf.next;
    }
    assert!(expected.iter().all(|seq| met.contains(seq)), "{met:?}");
}

pub(super) async fn what_is_too_old_or_too_much_is_forgotten(mut fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    for seq in 1..=20 {
        commit(&fixture, a, [enqueue(seq)]).await;
        commit(&fixture, a, [settle(seq, Outcome::Acked)]).await;
    }
    forget(&fixture, 0, u64::MAX).await;
    assert_eq!(acked(&fixture, a, 0).await.len(), 20);
    fixture.reopen().await;
    let leaf = fixture.store().read_settled(a, Wall(0), Bookmark::default(), 1).await.unwrap();
    assert_eq!(leaf.unkept, Wall(0), "all is there");
    forget(&fixture, 2_006, u64::MAX).await;
    assert_eq!(seqs(&acked(&fixture, a, 0).await), Vec::from_iter(6..=20));
    fixture.reopen().await;
    forget(&fixture, 0, 500).await;
    let leaf = fixture.store().read_settled(a, Wall(0), Bookmark::default(), 1).await.unwrap();
    assert!((Wall(2_005)..Wall(2_020)).contains(&leaf.unkept), "{:?}", leaf.unkept);
    let left = seqs(&acked(&fixture, a, 0).await);
    assert!((1..15).contains(&left.len()) && left.last() == Some(&20), "the newest, as far as they fit: {left:?}");
    forget(&fixture, 0, 0).await;
    assert_eq!(acked(&fixture, a, 0).await, []);
    fixture.reopen().await;
    commit(&fixture, a, [enqueue(21)]).await;
    commit(&fixture, a, [settle(21, Outcome::Acked)]).await;
    assert_eq!(seqs(&acked(&fixture, a, 0).await), [21]);
}

pub(super) async fn a_job_is_what_it_was_begun_as_until_it_is_forgotten(mut fixture: impl Fixture) {
    let (a, b) = (peer(&fixture, "a").await, peer(&fixture, "b").await);
    assert_eq!(fixture.store().job(a, "j".to_owned()).await, Ok(None));
    assert_eq!(begin(&fixture, a, "first", 1_000).await, "first");
    assert_eq!(begin(&fixture, b, "other", 2_000).await, "other");
    fixture.reopen().await;
    assert_eq!(begin(&fixture, a, "second", 3_000).await, "first");
    assert_eq!(fixture.store().job(a, "j".to_owned()).await, Ok(Some("first".to_owned())));
    while fixture.store().purge(Wall(1_500)).await.unwrap() {}
    assert_eq!(fixture.store().job(a, "j".to_owned()).await, Ok(None));
    assert_eq!(fixture.store().job(b, "j".to_owned()).await, Ok(Some("other".to_owned())));
}

async fn begin(fixture: &impl Fixture, peer: PeerId, definition: &str, at: u64) -> String {
    fixture.store().begin_job(peer, "j".to_owned(), definition.to_owned(), Wall(at)).await.unwrap()
}

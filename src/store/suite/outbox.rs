//! SETs that wait to be sent, and what is kept of a peer.

use super::*;
use crate::peer::{Counts, DeathCause, Direction, Fate, Page, Saved};
use crate::set::SetErr;

fn refused() -> Outcome {
    Outcome::Refused(SetErr { err: "invalid_key".to_owned(), description: "no such key".to_owned() })
}

async fn read(fixture: &impl Fixture, peer: PeerId, select: Select) -> Page {
    fixture.store().read_outbox(peer, select).await.unwrap()
}

async fn seqs(fixture: &impl Fixture, peer: PeerId, select: Select) -> (Vec<u64>, u64) {
    let page = read(fixture, peer, select).await;
    assert!(page.damaged.is_empty());
    (page.rows.iter().map(|row| row.seq).collect(), page.read_to)
}

async fn recover(fixture: &impl Fixture, peer: PeerId) -> Saved {
    fixture.store().recover(peer).await.unwrap()
}

pub(super) async fn a_new_peer_starts_at_the_first_seq(fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    assert_eq!(recover(&fixture, a).await, Saved { next_seq: 1, paused: false, counts: Counts::default() });
    assert_eq!(read(&fixture, a, all()).await, Page::default());
}

pub(super) async fn rows_are_read_in_order_until_a_limit_is_reached(fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    commit(&fixture, a, (1..=9).map(enqueue)).await;
    let after = |after, rows_max, bytes_max| Select::After { after, rows_max, bytes_max };
    let row = queued(1).compact.len();
    assert_eq!(seqs(&fixture, a, after(0, 4, usize::MAX)).await, (vec![1, 2, 3, 4], 4));
    assert_eq!(seqs(&fixture, a, after(4, 99, usize::MAX)).await, (vec![5, 6, 7, 8, 9], 9));
    assert_eq!(seqs(&fixture, a, after(9, 99, usize::MAX)).await, (vec![], 9));
    assert_eq!(seqs(&fixture, a, after(u64::MAX, 99, usize::MAX)).await, (vec![], u64::MAX));
    assert_eq!(seqs(&fixture, a, after(0, 99, 2 * row)).await, (vec![1, 2], 2));
    assert_eq!(seqs(&fixture, a, after(0, 99, 2 * row - 1)).await, (vec![1], 1));
    assert_eq!(seqs(&fixture, a, after(2, 0, 0)).await, (vec![3], 3), "at least one");
}

pub(super) async fn exactly_the_rows_that_were_asked_for_are_read(fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    commit(&fixture, a, (1..=5).map(enqueue).chain([settle(3, Outcome::Acked)])).await;
    let page = read(&fixture, a, Select::Seqs(vec![4, 3, 1, 4, u64::MAX])).await;
    assert_eq!(page.rows, [queued(1), queued(4)]);
}

pub(super) async fn peers_do_not_see_each_others_rows(fixture: impl Fixture) {
    let (a, b) = (peer(&fixture, "a").await, peer(&fixture, "b").await);
    commit(&fixture, a, [enqueue(1), enqueue(2)]).await;
    commit(&fixture, b, [enqueue(1)]).await;
    commit(&fixture, b, [settle(1, Outcome::Acked), settle(2, Outcome::Acked)]).await;
    assert_eq!(seqs(&fixture, a, all()).await.0, [1, 2]);
    assert_eq!(seqs(&fixture, b, all()).await.0, [0u64; 0]);
    assert_eq!(recover(&fixture, a).await.counts.acked, 0);
}

pub(super) async fn attempts_never_fall(mut fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    let attempts = |attempts| Write::Attempts { seq: 1, attempts };
    commit(&fixture, a, [enqueue(1), attempts(3), attempts(2), Write::Attempts { seq: 7, attempts: 1 }]).await;
    fixture.reopen().await;
    commit(&fixture, a, [attempts(1)]).await;
    assert_eq!(read(&fixture, a, all()).await.rows, [OutboxRow { attempts: 3, ..queued(1) }]);
}

pub(super) async fn a_settled_set_leaves_the_outbox_and_is_counted(mut fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    commit(&fixture, a, (1..=5).map(enqueue)).await;
    let dead = Outcome::Dead(DeathCause::Age);
    commit(&fixture, a, [settle(2, refused()), settle(1, Outcome::Acked), settle(4, dead)]).await;
    fixture.reopen().await;
    assert_eq!(seqs(&fixture, a, all()).await.0, [3, 5]);
    let counts = Counts { queued: 2, acked: 1, refused: 1, dead: 1, dead_letters: 2, ..Counts::default() };
    assert_eq!(recover(&fixture, a).await, Saved { next_seq: 6, paused: false, counts });
}

pub(super) async fn a_repeated_commit_changes_nothing(mut fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    let commits = [
        vec![enqueue(1), enqueue(2), enqueue(3), receive(1), refuse(2), Write::Paused(true)],
        vec![settle(1, Outcome::Acked), settle(2, refused()), receive(3), Write::Attempts { seq: 3, attempts: 2 }],
    ];
    for writes in &commits {
        commit(&fixture, a, writes.clone()).await;
    }
    let saved = recover(&fixture, a).await;
    let counts =
        Counts { queued: 1, acked: 1, refused: 1, received: 2, rejected: 1, dead_letters: 1, ..Counts::default() };
    assert_eq!(saved, Saved { next_seq: 4, paused: true, counts });
    for _ in 0..3 {
        for writes in &commits {
            commit(&fixture, a, writes.clone()).await;
        }
        assert_eq!(recover(&fixture, a).await, saved);
        assert_eq!(read(&fixture, a, all()).await.rows, [OutboxRow { attempts: 2, ..queued(3) }]);
        let inbox = fixture.store().peek_inbox(None, 99).await.unwrap();
        assert_eq!(inbox.into_iter().map(|handed| handed.row).collect::<Vec<_>>(), [received(1), received(3)]);
        fixture.reopen().await;
    }
    commit(&fixture, a, [receive(9), receive(9), enqueue(4), enqueue(4), settle(4, refused()), enqueue(4)]).await;
    let counts = Counts { refused: 2, received: 3, dead_letters: 2, ..counts };
    assert_eq!(recover(&fixture, a).await.counts, counts, "repeated within one commit");
}

pub(super) async fn a_low_seq_that_was_never_stored_is_stored(fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    commit(&fixture, a, [enqueue(3)]).await;
    commit(&fixture, a, [enqueue(2)]).await;
    commit(&fixture, a, [enqueue(2)]).await;
    assert_eq!(seqs(&fixture, a, all()).await.0, [2, 3]);
    let saved = recover(&fixture, a).await;
    assert_eq!((saved.next_seq, saved.counts.queued), (4, 2));
}

pub(super) async fn a_dead_letter_can_be_queued_again(mut fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    commit(&fixture, a, [enqueue(1), settle(1, Outcome::Dead(DeathCause::Attempts))]).await;
    fixture.reopen().await;
    let again = OutboxRow { seq: 2, ..queued(1) };
    commit(&fixture, a, [Write::Enqueue(again.clone())]).await;
    commit(&fixture, a, [enqueue(1)]).await;
    assert_eq!(read(&fixture, a, all()).await.rows, [again]);
    let known = fixture.store().known(a, Direction::Out, vec![queued(1).jti]).await.unwrap();
    assert!(matches!(known.as_slice(), [Some(known)] if known.fate == Fate::Queued && known.seq == 2), "{known:?}");
}

pub(super) async fn a_commit_for_an_unknown_peer_is_refused(fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    let unknown = PeerId(a.0 + 1);
    for refused in [
        try_commit(&fixture, unknown, [enqueue(1)]).await,
        try_commit(&fixture, a, [receive(1), enqueue(0)]).await,
        fixture.store().recover(unknown).await.map(drop),
    ] {
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    }
    assert_eq!(fixture.store().inbox_len(), 0);
    commit(&fixture, a, [enqueue(1)]).await;
    let b = peer(&fixture, "b").await;
    assert_eq!((b, recover(&fixture, b).await.counts.queued), (unknown, 0));
}

pub(super) async fn a_commit_is_not_begun_before_it_is_awaited(fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    drop(fixture.store().commit(a, Epoch(1), Arc::new(vec![enqueue(1)])));
    assert_eq!(recover(&fixture, a).await.next_seq, 1);
}

pub(super) async fn everything_survives_a_restart(mut fixture: impl Fixture) {
    let (a, b) = (peer(&fixture, "a").await, peer(&fixture, "b").await);
    let odd = OutboxRow { jti: "".into(), compact: "\u{0}é".repeat(20_000).into(), ..queued(2) };
    commit(&fixture, a, [enqueue(1), Write::Enqueue(odd.clone()), Write::Paused(true)]).await;
    commit(&fixture, b, [Write::Paused(true), Write::Paused(false), refuse(1)]).await;
    fixture.reopen().await;
    assert_eq!(read(&fixture, a, all()).await.rows, [queued(1), odd]);
    let saved = recover(&fixture, a).await;
    assert_eq!((saved.next_seq, saved.paused, saved.counts.queued), (3, true, 2));
    let saved = recover(&fixture, b).await;
    assert_eq!((saved.next_seq, saved.paused, saved.counts.rejected), (1, false, 1));
}

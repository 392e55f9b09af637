//! Dead letters: kept until an operator deals with them, with all that is known of them.

use super::*;
use crate::peer::{Chapter, Counts, DeadLetter, DeadPage, DeathCause, Direction, Fate, Place, Remembered, Stretch};
use crate::set::SetErr;

fn refused() -> Outcome {
    Outcome::Refused(SetErr { err: "invalid_key".to_owned(), description: "no such key".to_owned() })
}

/// The dead letter that `settle` makes of `enqueue`.
fn letter(seq: u64, outcome: Outcome) -> DeadLetter {
    let OutboxRow { jti, compact, digest, accepted_at, .. } = queued(seq);
    let fate = Fate::Settled { outcome, at: Wall(2_000 + seq), attempts: 2 };
    DeadLetter { jti, compact, memory: Remembered { digest, seq, since: accepted_at, fate, story: Story::default() } }
}

/// Every dead letter of every peer, without a limit.
pub(super) fn everything() -> Stretch {
    Stretch { after: Place::default(), up_to: Place::LAST, rows_max: 100_000, bytes_max: usize::MAX }
}

async fn read(fixture: &impl Fixture, stretch: Stretch) -> DeadPage {
    fixture.store().read_dead_letters(stretch).await.unwrap()
}

async fn places(fixture: &impl Fixture, stretch: Stretch) -> (Vec<(u32, u64)>, Option<Place>) {
    let page = read(fixture, stretch).await;
    assert!(page.damaged.is_empty());
    (page.letters.iter().map(|(peer, letter)| (peer.0, letter.memory.seq)).collect(), page.next)
}

async fn known(fixture: &impl Fixture, peer: PeerId, seq: u64) -> Remembered {
    fixture.store().known(peer, Direction::Out, vec![queued(seq).jti]).await.unwrap().pop().unwrap().unwrap()
}

fn lift(seq: u64, memory: Option<Remembered>) -> Write {
    Write::Lift { seq, jti: queued(seq).jti, memory }
}

/// The writes of a resend: the dead letter at `seq` is queued again at `new`.
fn resend(seq: u64, new: u64) -> [Write; 2] {
    let series = Chapter::Series {
        since: queued(seq).accepted_at,
        cause: DeathCause::Attempts,
        at: Wall(2_000 + seq),
        attempts: 2,
    };
    let row = OutboxRow { seq: new, accepted_at: Wall(9_000), story: Story::of(vec![series]), ..queued(seq) };
    [lift(seq, None), Write::Enqueue(row)]
}

pub(super) async fn a_dead_letter_is_kept_with_its_token_and_its_end(mut fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    commit(&fixture, a, (1..=4).map(enqueue).chain([Write::Attempts { seq: 1, attempts: 1 }])).await;
    let age = Outcome::Dead(DeathCause::Age);
    let ends = [settle(1, refused()), settle(2, Outcome::Acked), settle(3, age.clone())];
    commit(&fixture, a, ends).await;
    for _ in 0..2 {
        let page = read(&fixture, everything()).await;
        assert_eq!(page.letters, [(a, letter(1, refused())), (a, letter(3, age.clone()))]);
        assert_eq!((page.damaged, page.next), (vec![], None));
        let page = fixture.store().dead_letters_at(a, vec![3, 2, 4, 3, u64::MAX]).await.unwrap();
        assert_eq!(page, DeadPage { letters: vec![(a, letter(3, age.clone()))], ..DeadPage::default() });
        assert_eq!(known(&fixture, a, 1).await, letter(1, refused()).memory, "its place is remembered with its jti");
        fixture.reopen().await;
    }
}

pub(super) async fn dead_letters_are_read_over_all_peers_page_by_page(fixture: impl Fixture) {
    let (a, b) = (peer(&fixture, "a").await, peer(&fixture, "b").await);
    for id in [b, a] {
        commit(&fixture, id, (1..=3).map(enqueue)).await;
        commit(&fixture, id, (1..=3).map(|seq| settle(seq, refused()))).await;
    }
    let size = queued(1).compact.len();
    let some = |after, rows_max, bytes_max| Stretch { after, rows_max, bytes_max, ..everything() };
    assert_eq!(places(&fixture, everything()).await, (vec![(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)], None));
    let (first, next) = places(&fixture, some(Place::default(), 4, usize::MAX)).await;
    assert_eq!((first, next), (vec![(1, 1), (1, 2), (1, 3), (2, 1)], Some(Place::of(b, 1))));
    assert_eq!(places(&fixture, some(Place::of(b, 1), 2, usize::MAX)).await, (vec![(2, 2), (2, 3)], None));
    let (first, next) = places(&fixture, some(Place::default(), 9, 2 * size)).await;
    assert_eq!((first, next), (vec![(1, 1), (1, 2)], Some(Place::of(a, 2))));
    assert_eq!(places(&fixture, some(Place::default(), 0, 0)).await.0, [(1, 1)], "one in any case");
    let of_b = Stretch { after: Place::of(b, 0), up_to: Place::of(b, u64::MAX), ..everything() };
    assert_eq!(places(&fixture, of_b).await.0, [(2, 1), (2, 2), (2, 3)]);
    let of_a = Stretch { after: Place::of(a, 1), up_to: Place::of(a, 2), ..everything() };
    assert_eq!(places(&fixture, of_a).await, (vec![(1, 2)], None));
    assert_eq!(places(&fixture, some(Place::LAST, 9, 9)).await, (vec![], None));
}

pub(super) async fn a_resent_set_is_in_the_outbox_alone_with_its_story(mut fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    commit(&fixture, a, [enqueue(1), settle(1, Outcome::Dead(DeathCause::Attempts))]).await;
    let [_, Write::Enqueue(row)] = resend(1, 2) else { unreachable!() };
    for _ in 0..3 {
        commit(&fixture, a, resend(1, 2)).await;
        assert_eq!(read(&fixture, everything()).await, DeadPage::default());
        assert_eq!(fixture.store().read_outbox(a, all()).await.unwrap().rows, std::slice::from_ref(&row));
        let memory = known(&fixture, a, 1).await;
        assert_eq!((memory.seq, memory.since, memory.fate), (2, Wall(9_000), Fate::Queued));
        assert_eq!(memory.story, row.story);
        let counts = fixture.store().recover(a).await.unwrap().counts;
        assert_eq!(counts, Counts { queued: 1, dead: 1, ..Counts::default() }, "totals stay");
        fixture.reopen().await;
    }
    let OutboxRow { jti, digest, accepted_at, story, .. } = row.clone();
    let end = Write::Settle {
        seq: 2,
        jti,
        digest,
        accepted_at,
        outcome: Outcome::Dead(DeathCause::Age),
        at: Wall(9_999),
        attempts: 7,
        story,
    };
    commit(&fixture, a, [end]).await;
    fixture.reopen().await;
    let page = read(&fixture, everything()).await;
    let [(_, again)] = page.letters.as_slice() else { panic!("{page:?}") };
    assert_eq!((again.memory.seq, &again.memory.story), (2, &row.story), "dead once more, it still knows of the first");
    assert_eq!(known(&fixture, a, 1).await, again.memory);
}

pub(super) async fn a_reissue_is_linked_both_ways_in_one_commit(mut fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    commit(&fixture, a, [enqueue(1), settle(1, refused())]).await;
    let link = Chapter::ReissuedAs { jti: queued(2).jti, at: Wall(5_000) };
    let old = letter(1, refused()).memory;
    let old = Remembered { story: old.story.and(link), ..old };
    let back = Story::of(vec![Chapter::ReissueOf(queued(1).jti)]);
    let writes = [lift(1, Some(old.clone())), Write::Enqueue(OutboxRow { story: back.clone(), ..queued(2) })];
    for _ in 0..3 {
        commit(&fixture, a, writes.clone()).await;
        assert_eq!(known(&fixture, a, 1).await, old);
        let new = known(&fixture, a, 2).await;
        assert_eq!((new.fate, new.story), (Fate::Queued, back.clone()));
        let counts = fixture.store().recover(a).await.unwrap().counts;
        assert_eq!(counts, Counts { queued: 1, refused: 1, ..Counts::default() });
        fixture.reopen().await;
    }
}

pub(super) async fn a_discarded_one_is_gone_and_a_lost_answer_harmless(mut fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    commit(&fixture, a, [enqueue(1), enqueue(2), settle(1, refused()), settle(2, refused())]).await;
    let memory = letter(1, refused()).memory;
    let gone = Remembered { story: memory.story.and(Chapter::Discarded { at: Wall(6_000) }), ..memory };
    for _ in 0..2 {
        commit(&fixture, a, [lift(1, Some(gone.clone())), lift(7, Some(gone.clone()))]).await;
        // What had taken effect before it was discarded is not repeated either.
        commit(&fixture, a, [enqueue(1), settle(1, refused())]).await;
        assert_eq!(known(&fixture, a, 1).await, gone);
        assert_eq!(places(&fixture, everything()).await.0, [(1, 2)]);
        let counts = fixture.store().recover(a).await.unwrap().counts;
        assert_eq!(counts, Counts { refused: 2, dead_letters: 1, ..Counts::default() });
        fixture.reopen().await;
    }
}

pub(super) async fn dead_letters_outlive_the_memory_of_their_jtis(mut fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    commit(&fixture, a, [enqueue(1), settle(1, refused())]).await;
    let old = |number| Write::Answer {
        jti: format!("old-{number}").into(),
        digest: Digest::default(),
        verdict: Verdict::Acked,
        at: Wall(10),
    };
    commit(&fixture, a, (0..20).map(old)).await;
    // Sealing goes on by itself, a step at a time; only what is sealed is purged.
    while fixture.store().known(a, Direction::Out, vec![queued(1).jti]).await.unwrap() != [None] {
        fixture.store().purge(Wall(100_000)).await.unwrap();
    }
    fixture.reopen().await;
    assert_eq!(read(&fixture, everything()).await.letters, [(a, letter(1, refused()))]);
    commit(&fixture, a, resend(1, 2)).await;
    assert_eq!(known(&fixture, a, 1).await.seq, 2, "from then on it is known again");
}

//! What is remembered of jtis.

use super::*;
use crate::peer::{DeathCause, Direction, Fate, Remembered};
use crate::set::{Jti, SetErr};

async fn known(
    fixture: &impl Fixture,
    peer: PeerId,
    direction: Direction,
    jti: impl Into<String>,
) -> Option<Remembered> {
    let jtis = vec![Jti::from(jti.into())];
    fixture.store().known(peer, direction, jtis).await.unwrap().pop().unwrap()
}

fn answered(number: u64, verdict: Verdict) -> Remembered {
    let InboxRow { digest, received_at, .. } = received(number);
    Remembered { digest, seq: 0, since: received_at, fate: Fate::Answered(verdict), story: Story::default() }
}

fn settled(seq: u64, outcome: Outcome) -> Remembered {
    let OutboxRow { digest, accepted_at, .. } = queued(seq);
    let fate = Fate::Settled { outcome, at: Wall(2_000 + seq), attempts: 2 };
    Remembered { digest, seq, since: accepted_at, fate, story: Story::default() }
}

pub(super) async fn every_fate_is_remembered_by_peer_and_direction(mut fixture: impl Fixture) {
    let (a, b) = (peer(&fixture, "a").await, peer(&fixture, "b").await);
    let refused = Outcome::Refused(SetErr { err: "own_code".to_owned(), description: "as they said".to_owned() });
    let ends = [(2, Outcome::Acked), (3, refused), (4, Outcome::Dead(DeathCause::Attempts))];
    let ends = [&ends[..], &[(5, Outcome::Dead(DeathCause::Age))]].concat();
    commit(&fixture, a, (1..=5).map(enqueue)).await;
    commit(&fixture, a, ends.iter().cloned().map(|(seq, outcome)| settle(seq, outcome))).await;
    commit(&fixture, a, [receive(1), refuse(2)]).await;
    for _ in 0..2 {
        let Some(waiting) = known(&fixture, a, Direction::Out, "out-1").await else { panic!("out-1 is not known") };
        assert_eq!((waiting.fate, waiting.seq, waiting.since), (Fate::Queued, 1, Wall(1_001)));
        for (seq, outcome) in ends.clone() {
            assert_eq!(known(&fixture, a, Direction::Out, format!("out-{seq}")).await, Some(settled(seq, outcome)));
        }
        let jtis = ["in-3", "in-1", "out-1", "in-2", "in-1"].map(Jti::from).to_vec();
        let refusal = Refusal::new(ErrorCode::InvalidAudience, "number 2 is not for us");
        let acked = Some(answered(1, Verdict::Acked));
        let inward = [None, acked.clone(), None, Some(answered(2, Verdict::Refused(refusal))), acked];
        assert_eq!(fixture.store().known(a, Direction::In, jtis).await.unwrap(), inward, "in the order asked");
        assert_eq!(known(&fixture, b, Direction::In, "in-1").await, None, "another peer's");
        assert_eq!(known(&fixture, a, Direction::Out, "in-1").await, None, "the other direction's");
        fixture.reopen().await;
    }
}

pub(super) async fn the_first_answer_stands_for_ever(mut fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    commit(&fixture, a, [refuse(1), receive(2)]).await;
    for _ in 0..2 {
        commit(&fixture, a, [receive(1), refuse(2)]).await;
        let refusal = Refusal::new(ErrorCode::InvalidAudience, "number 1 is not for us");
        assert_eq!(known(&fixture, a, Direction::In, "in-1").await, Some(answered(1, Verdict::Refused(refusal))));
        assert_eq!(known(&fixture, a, Direction::In, "in-2").await, Some(answered(2, Verdict::Acked)));
        assert_eq!(fixture.store().inbox_len(), 1);
        fixture.reopen().await;
    }
}

pub(super) async fn other_content_under_a_known_jti_shows_by_its_digest(fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    commit(&fixture, a, [receive(1), enqueue(1)]).await;
    let other = InboxRow { digest: Digest::of(b"other"), ..received(1) };
    commit(&fixture, a, [Write::Receive(other)]).await;
    assert_eq!(known(&fixture, a, Direction::In, "in-1").await.unwrap().digest, received(1).digest);
    assert_eq!(known(&fixture, a, Direction::Out, "out-1").await.unwrap().digest, queued(1).digest);
}

pub(super) async fn the_newest_of_many_memories_survives_sealing_and_restarts(mut fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    for seq in 1..=60 {
        commit(&fixture, a, [enqueue(seq), receive(seq)]).await;
        if seq > 20 {
            commit(&fixture, a, [settle(seq - 20, Outcome::Acked)]).await;
        }
        if seq % 25 == 0 {
            fixture.reopen().await;
        }
    }
    for _ in 0..2 {
        for seq in 1..=60 {
            let out = known(&fixture, a, Direction::Out, format!("out-{seq}")).await.unwrap();
            let expected = if seq <= 40 { settled(seq, Outcome::Acked).fate } else { Fate::Queued };
            assert_eq!(out.fate, expected, "out-{seq}");
            let inward = known(&fixture, a, Direction::In, format!("in-{seq}")).await;
            assert_eq!(inward, Some(answered(seq, Verdict::Acked)));
        }
        assert_eq!(known(&fixture, a, Direction::In, "in-61").await, None);
        commit(&fixture, a, (1..=60).map(receive)).await;
        assert_eq!(fixture.store().inbox_len(), 60, "nothing is received twice");
        fixture.reopen().await;
    }
}

pub(super) async fn the_history_of_a_jti_spans_peers_and_directions(mut fixture: impl Fixture) {
    let (a, b) = (peer(&fixture, "a").await, peer(&fixture, "b").await);
    let out = OutboxRow { jti: "in-1".into(), ..queued(1) };
    commit(&fixture, b, [receive(1)]).await;
    commit(&fixture, a, [receive(1), Write::Enqueue(out)]).await;
    fixture.reopen().await;
    let history = fixture.store().history("in-1".into()).await.unwrap();
    let places: Vec<_> = history.iter().map(|(peer, direction, _)| (*peer, *direction)).collect();
    assert_eq!(places, [(a, Direction::Out), (a, Direction::In), (b, Direction::In)]);
    assert_eq!(history[2].2, answered(1, Verdict::Acked));
    assert_eq!(fixture.store().history("in-2".into()).await.unwrap(), []);
}

pub(super) async fn purging_forgets_what_is_old_but_never_a_waiting_set(mut fixture: impl Fixture) {
    let a = peer(&fixture, "a").await;
    let old = |number| Write::Answer {
        jti: format!("old-{number}").into(),
        digest: Digest::default(),
        verdict: Verdict::Acked,
        at: Wall(10),
    };
    let waiting = OutboxRow { accepted_at: Wall(11), ..queued(1) };
    commit(&fixture, a, [Write::Enqueue(waiting)]).await;
    commit(&fixture, a, (0..20).map(old)).await;
    commit(&fixture, a, (1..=20).map(receive)).await;
    fixture.reopen().await;
    while fixture.store().purge(Wall(500)).await.unwrap() {}
    assert!(known(&fixture, a, Direction::Out, "out-1").await.is_some(), "it waits in the outbox");
    commit(&fixture, a, [settle(1, Outcome::Acked)]).await;
    // Sealing goes on by itself, a step at a time; only what is sealed is purged.
    while known(&fixture, a, Direction::In, "old-0").await.is_some() {
        fixture.store().purge(Wall(500)).await.unwrap();
    }
    for _ in 0..2 {
        for number in 1..=20 {
            assert!(known(&fixture, a, Direction::In, format!("in-{number}")).await.is_some(), "in-{number} is new");
        }
        assert!(known(&fixture, a, Direction::Out, "out-1").await.is_some(), "it was settled lately");
        assert!(known(&fixture, a, Direction::In, "old-0").await.is_none());
        fixture.reopen().await;
    }
}

pub(super) async fn a_waiting_set_is_remembered_although_the_clock_went_back_before_it_was_accepted(
    mut fixture: impl Fixture,
) {
    let a = peer(&fixture, "a").await;
    let waiting = |number, at| Write::Enqueue(OutboxRow { accepted_at: Wall(at), ..queued(number) });
    let answered = |number: u64| Write::Answer {
        jti: format!("old-{number}").into(),
        digest: Digest::default(),
        verdict: Verdict::Acked,
        at: Wall(20),
    };
    commit(&fixture, a, [waiting(1, 900)]).await;
    commit(&fixture, a, (1..=8).map(receive)).await;
    commit(&fixture, a, (0..8).map(answered)).await;
    // The clock went back by most of the time.
    commit(&fixture, a, [waiting(2, 11)]).await;
    commit(&fixture, a, (8..16).map(answered)).await;
    for _ in 0..3 {
        fixture.reopen().await;
        while fixture.store().purge(Wall(500)).await.unwrap() {}
        for number in [1, 2] {
            let known = known(&fixture, a, Direction::Out, format!("out-{number}")).await;
            assert!(known.is_some(), "out-{number} waits in the outbox");
        }
    }
}

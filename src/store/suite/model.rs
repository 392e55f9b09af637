//! Random sequences of calls, restarts and crashes: a store answers each like the model does.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::peer::{Chapter, DeadLetter, DeathCause, Direction, Place, Remembered, Stretch};
use crate::set::{Jti, SetErr};
use crate::store::{Bookmark, ConsumerAt, Handed};

/// A call, or what happens between calls. Numbers are small, so that they meet.
#[derive(Clone, Debug)]
enum Op {
    Commit(usize, Vec<Change>),
    CommitAgain,
    Known(usize, Vec<u64>),
    History(u64),
    ReadOutbox(usize, u64, usize, usize),
    ReadSeqs(usize, Vec<u64>),
    ReadDead(usize, u64, usize, usize),
    ReadInbox(usize, Option<u64>, usize),
    Peek(Option<u64>, usize),
    Confirm(usize, u64),
    Forget(usize),
    Purge,
    AddPeer(usize),
    RemovePeer(usize),
    Reopen,
    Crash,
}

/// A write, before it is known at which `seq`.
#[derive(Clone, Debug)]
enum Change {
    /// The next one in the queue, under a jti that may be used already.
    Enqueue(u64),
    Attempts(u64, u32),
    Settle(u64, u8),
    Receive(u64),
    Refuse(u64),
    Paused(bool),
    /// The dead letter at this place is queued again, said again under that number, or discarded.
    Resend(u64),
    Reissue(u64, u64),
    Discard(u64),
}

const NAMES: [&str; 2] = ["a", "b"];

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (1..20u64).prop_map(Change::Enqueue),
        1 => (1..12u64, 1..4u32).prop_map(|(seq, attempts)| Change::Attempts(seq, attempts)),
        3 => (1..12u64, 0..4u8).prop_map(|(seq, end)| Change::Settle(seq, end)),
        4 => (1..20u64).prop_map(Change::Receive),
        1 => (1..20u64).prop_map(Change::Refuse),
        1 => any::<bool>().prop_map(Change::Paused),
        2 => (1..12u64).prop_map(Change::Resend),
        1 => (1..12u64, 20..40u64).prop_map(|(seq, number)| Change::Reissue(seq, number)),
        1 => (1..12u64).prop_map(Change::Discard),
    ]
}

fn ops() -> impl Strategy<Value = Op> {
    let who = 0..NAMES.len();
    let after = proptest::option::of(0..15u64);
    prop_oneof![
        10 => (who.clone(), vec(changes(), 0..6)).prop_map(|(who, changes)| Op::Commit(who, changes)),
        2 => Just(Op::CommitAgain),
        3 => (who.clone(), vec(1..22u64, 0..6)).prop_map(|(who, numbers)| Op::Known(who, numbers)),
        1 => (1..22u64).prop_map(Op::History),
        2 => (who.clone(), 0..12u64, 0..6usize, 0..120usize)
            .prop_map(|(who, after, rows_max, bytes_max)| Op::ReadOutbox(who, after, rows_max, bytes_max)),
        1 => (who.clone(), vec(0..12u64, 0..5)).prop_map(|(who, seqs)| Op::ReadSeqs(who, seqs)),
        2 => (who.clone(), 0..12u64, 0..6usize, 0..120usize)
            .prop_map(|(who, after, rows_max, bytes_max)| Op::ReadDead(who, after, rows_max, bytes_max)),
        4 => (who.clone(), after.clone(), 0..5usize)
            .prop_map(|(who, after, rows_max)| Op::ReadInbox(who, after, rows_max)),
        1 => (after, 0..5usize).prop_map(|(after, rows_max)| Op::Peek(after, rows_max)),
        3 => (who.clone(), 0..15u64).prop_map(|(who, up_to)| Op::Confirm(who, up_to)),
        1 => who.clone().prop_map(Op::Forget),
        2 => Just(Op::Purge),
        1 => who.clone().prop_map(Op::AddPeer),
        1 => who.prop_map(Op::RemovePeer),
        1 => Just(Op::Reopen),
        1 => Just(Op::Crash),
    ]
}

/// Both stores side by side.
struct Pair {
    model: Ram,
    tested: File,
    peers: [PeerId; 2],
    last: Option<(PeerId, Vec<Write>)>,
    restarted: bool,
}

impl Pair {
    async fn new() -> Self {
        let (model, tested) = (Ram::default(), File::new());
        let mut peers = [PeerId(0); 2];
        for (peer_id, name) in peers.iter_mut().zip(NAMES) {
            *peer_id = peer(&model, name).await;
            assert_eq!(peer(&tested, name).await, *peer_id);
        }
        Self { model, tested, peers, last: None, restarted: false }
    }

    async fn writes(&self, peer: PeerId, changes: Vec<Change>) -> Vec<Write> {
        let mut next = self.model.store().recover(peer).await.unwrap().next_seq;
        let dead = self.model.store().read_dead_letters(super::dead::everything()).await.unwrap().letters;
        let dead = |seq| {
            let letter = dead.iter().find(|(id, letter)| *id == peer && letter.memory.seq == seq);
            letter.map(|(_, letter)| letter.clone())
        };
        let write = |change| match change {
            Change::Resend(seq) | Change::Reissue(seq, _) | Change::Discard(seq) => {
                dead(seq).map(|letter| redrive(letter, &change, &mut next)).unwrap_or_default()
            }
            other => vec![plain(other, &mut next)],
        };
        changes.into_iter().flat_map(write).collect()
    }

    async fn perform(&mut self, op: Op) {
        let (model, tested) = (self.model.store(), self.tested.store());
        let name = |who: usize| NAMES[who].to_owned();
        match op {
            Op::Commit(who, changes) => {
                let writes = self.writes(self.peers[who], changes).await;
                self.last = Some((self.peers[who], writes));
                self.commit_last().await;
            }
            Op::CommitAgain => self.commit_last().await,
            Op::Known(who, numbers) => {
                for (direction, way) in [(Direction::Out, "out"), (Direction::In, "in")] {
                    let jtis: Vec<Jti> = numbers.iter().map(|number| format!("{way}-{number}").into()).collect();
                    let known = model.known(self.peers[who], direction, jtis.clone()).await;
                    assert_eq!(tested.known(self.peers[who], direction, jtis).await, known);
                }
            }
            Op::History(number) => {
                let jti = Jti::from(format!("in-{number}"));
                assert_eq!(tested.history(jti.clone()).await, model.history(jti).await);
            }
            Op::ReadOutbox(who, after, rows_max, bytes_max) => {
                let select = Select::After { after, rows_max, bytes_max };
                let page = model.read_outbox(self.peers[who], select.clone()).await;
                assert_eq!(tested.read_outbox(self.peers[who], select).await, page);
            }
            Op::ReadSeqs(who, seqs) => {
                let page = model.read_outbox(self.peers[who], Select::Seqs(seqs.clone())).await;
                assert_eq!(tested.read_outbox(self.peers[who], Select::Seqs(seqs)).await, page);
            }
            Op::ReadDead(who, after, rows_max, bytes_max) => {
                let after = Place::of(self.peers[who], after);
                let stretch = Stretch { after, rows_max, bytes_max, ..super::dead::everything() };
                let page = model.read_dead_letters(stretch).await;
                assert_eq!(tested.read_dead_letters(stretch).await, page);
                let seqs = vec![after.seq, 3, 1];
                let page = model.dead_letters_at(self.peers[who], seqs.clone()).await;
                assert_eq!(tested.dead_letters_at(self.peers[who], seqs).await, page);
            }
            Op::ReadInbox(who, after, rows_max) => {
                let expected = model.read_inbox(name(who), after, rows_max).await.unwrap();
                let found = tested.read_inbox(name(who), after, rows_max).await.unwrap();
                self.compare_handed(found, expected);
            }
            Op::Peek(after, rows_max) => {
                assert_eq!(tested.peek_inbox(after, rows_max).await, model.peek_inbox(after, rows_max).await);
            }
            Op::Confirm(who, up_to) => {
                assert_eq!(tested.confirm(name(who), up_to).await, model.confirm(name(who), up_to).await);
            }
            Op::Forget(who) => {
                assert_eq!(tested.forget_consumer(name(who)).await, model.forget_consumer(name(who)).await);
            }
            Op::Purge => assert_eq!(tested.purge(Wall(0)).await, model.purge(Wall(0)).await),
            Op::AddPeer(who) => {
                let definition = "url = \"x\"".to_owned();
                let is_new = model.add_peer(name(who), definition.clone()).await;
                assert_eq!(tested.add_peer(name(who), definition).await, is_new);
            }
            Op::RemovePeer(who) => {
                assert_eq!(tested.remove_peer(name(who)).await, model.remove_peer(name(who)).await);
            }
            Op::Reopen => {
                self.tested.reopen().await;
                self.restarted = true;
            }
            Op::Crash => {
                self.tested.crash().await;
                self.restarted = true;
            }
        }
    }

    async fn commit_last(&self) {
        if let Some((peer, writes)) = &self.last {
            commit(&self.model, *peer, writes.clone()).await;
            commit(&self.tested, *peer, writes.clone()).await;
        }
    }

    /// After a restart rows may be marked that were never handed out, but never the other way round.
    fn compare_handed(&self, mut found: Vec<Handed>, expected: Vec<Handed>) {
        if self.restarted {
            for (found, expected) in found.iter_mut().zip(&expected) {
                assert!(found.redelivered || !expected.redelivered, "{} was handed out before", found.seq);
                found.redelivered = expected.redelivered;
            }
        }
        assert_eq!(found, expected);
    }

    async fn compare_state(&self) {
        let (model, tested) = (self.model.store(), self.tested.store());
        for peer in self.peers {
            assert_eq!(tested.recover(peer).await, model.recover(peer).await);
            assert_eq!(tested.read_outbox(peer, all()).await, model.read_outbox(peer, all()).await);
            let of_peer =
                Stretch { after: Place::of(peer, 0), up_to: Place::of(peer, u64::MAX), ..super::dead::everything() };
            let dead = model.read_dead_letters(of_peer).await.unwrap();
            assert_eq!(tested.read_dead_letters(of_peer).await.unwrap(), dead);
            assert_eq!(model.recover(peer).await.unwrap().counts.dead_letters, dead.letters.len() as u64);
            let waiting = model.read_outbox(peer, all()).await.unwrap().rows;
            let (acked, left) = (kept(&self.model, peer).await, kept(&self.tested, peer).await);
            // Beside what was acked there may be what ended in another way, but nothing that waits.
            let found: Vec<_> = left.iter().filter(|set| acked.iter().any(|acked| acked.seq == set.seq)).collect();
            assert_eq!(found, acked.iter().collect::<Vec<_>>());
            assert!(left.iter().all(|set| waiting.iter().all(|row| row.seq != set.seq)), "{left:?} beside {waiting:?}");
        }
        assert_eq!(tested.names().await, model.names().await);
        assert_eq!(tested.added_peers().await, model.added_peers().await);
        assert_eq!(tested.inbox_len(), model.inbox_len());
        let confirmed = |at: ConsumerAt| (at.name, at.confirmed);
        assert!(tested.consumers().into_iter().map(confirmed).eq(model.consumers().into_iter().map(confirmed)));
        assert_eq!(*tested.inbox_tail().borrow(), *model.inbox_tail().borrow());
        assert_eq!(tested.peek_inbox(None, 999).await, model.peek_inbox(None, 999).await);
    }
}

/// What has left the queue of this peer, in the order of the queue.
async fn kept(fixture: &impl Fixture, peer: PeerId) -> Vec<OutboxRow> {
    let leaf = fixture.store().read_settled(peer, Wall(0), Bookmark::default(), 100_000).await.unwrap();
    assert_eq!((leaf.damaged, leaf.next), (0, None));
    let mut sets = leaf.sets;
    sets.sort_by_key(|set| set.seq);
    sets
}

/// The write of a change that needs no dead letter.
fn plain(change: Change, next: &mut u64) -> Write {
    match change {
        Change::Enqueue(number) => {
            *next += 1;
            Write::Enqueue(OutboxRow { seq: *next - 1, ..queued(number) })
        }
        Change::Attempts(seq, attempts) => Write::Attempts { seq, attempts },
        Change::Settle(seq, end) => settle(
            seq,
            match end {
                0 => Outcome::Acked,
                1 => Outcome::Refused(SetErr { err: "e".repeat(300), description: "é".repeat(900) }),
                2 => Outcome::Dead(DeathCause::Attempts),
                _ => Outcome::Dead(DeathCause::Age),
            },
        ),
        Change::Receive(number) => receive(number),
        Change::Refuse(number) => refuse(number),
        Change::Paused(paused) => Write::Paused(paused),
        Change::Resend(_) | Change::Reissue(..) | Change::Discard(_) => unreachable!("they need a dead letter"),
    }
}

/// What the core writes for an operator's act.
fn redrive(letter: DeadLetter, change: &Change, next: &mut u64) -> Vec<Write> {
    let DeadLetter { jti, compact, memory } = letter;
    let (seq, old) = (memory.seq, memory.story.clone());
    let closed = |chapter| Some(Remembered { story: old.and(chapter), ..memory.clone() });
    let row = |jti: Jti, story, next: &mut u64| {
        *next += 1;
        let (compact, digest) = (compact.clone(), memory.digest);
        Write::Enqueue(OutboxRow { seq: *next - 1, jti, compact, digest, accepted_at: Wall(7_000), attempts: 0, story })
    };
    match change {
        Change::Resend(_) => {
            let series = Chapter::Series { since: memory.since, cause: DeathCause::Age, at: Wall(6_000), attempts: 2 };
            vec![Write::Lift { seq, jti: jti.clone(), memory: None }, row(jti, old.and(series), next)]
        }
        Change::Reissue(_, number) => {
            let new = Jti::from(format!("out-{number}"));
            let story = Story::of(vec![Chapter::ReissueOf(jti.clone())]);
            let memory = closed(Chapter::ReissuedAs { jti: new.clone(), at: Wall(7_000) });
            vec![Write::Lift { seq, jti, memory }, row(new, story, next)]
        }
        _ => vec![Write::Lift { seq, jti, memory: closed(Chapter::Discarded { at: Wall(7_000) }) }],
    }
}

fn cases() -> u32 {
    std::env::var("PUSHPULL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(32)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_answers_like_the_model(ops in vec(ops(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut pair = Pair::new().await;
            for op in ops {
                pair.perform(op).await;
            }
            pair.compare_state().await;
            pair.tested.crash().await;
            pair.compare_state().await;
        });
    }
}

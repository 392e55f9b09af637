//! An operator's acts on dead letters, on their way through the actor: read from the store, decided by the core,
//! answered when they are durable.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::actor::Actor;
use super::handle::{Handle, Stopped};
use crate::peer::{Act, DeadLetter, Direction, Fate, Input, Outcome, Redrive, Redriven, Remembered, Unfit};
use crate::set::Jti;
use crate::store;

/// What is asked for one dead letter.
#[derive(Clone, Debug)]
pub struct Redriving {
    /// Its place.
    pub seq: u64,
    /// Its identity.
    pub jti: Jti,
    /// What is to become of it.
    pub how: Redrive,
}

/// Why nothing was done with a dead letter.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RedriveError {
    /// The partner has answered it.
    #[error("the partner has answered it, and its jti must not be used again")]
    Answered,
    /// It is no dead letter any more.
    #[error("it is no dead letter any more")]
    Gone,
    /// Its row cannot be read.
    #[error("its row in the database is damaged")]
    Damaged,
    /// Too many SETs wait for this peer.
    #[error("the outbox is full: {max} SETs wait for this peer (delivery.outbox_max)")]
    OutboxFull {
        /// `outbox_max`.
        max: u64,
    },
    /// The disk is full.
    #[error("the disk of the store is full")]
    StorageFull,
}

pub(super) type Answer = Result<Redriven, RedriveError>;

/// A call whose acts are being made durable.
#[derive(Debug)]
pub(super) struct Call {
    /// In the order asked; the core has yet to say those that are missing. With each goes by what a new SET is counted.
    answers: Vec<(Option<Answer>, &'static str)>,
    reply: oneshot::Sender<Vec<Answer>>,
}

impl Handle {
    /// Deals with dead letters; each is answered for itself, in their order, once all of it is durable. A reissue that
    /// was done before is answered with the SET that it made then.
    pub async fn redrive(&self, acts: Vec<Redriving>) -> Result<Vec<Answer>, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.post(super::actor::Message::Redrive(acts, reply)).await?;
        answer.await.map_err(|_| Stopped)
    }
}

impl Actor {
    /// Gives the core the dead letters that it is to decide on. They are read here and not by the caller, because between
    /// reading and deciding no other commit may come.
    pub(super) async fn redrive(
        &mut self,
        acts: Vec<Redriving>,
        reply: oneshot::Sender<Vec<Answer>>,
    ) -> Result<(), store::Error> {
        if !self.journal.healthy() && !self.journal.failed() {
            let _ = reply.send(acts.iter().map(|_| Err(RedriveError::StorageFull)).collect());
            return Ok(());
        }
        let page = self.journal.dead_letters_at(self.id, acts.iter().map(|act| act.seq).collect()).await?;
        let letters: HashMap<u64, DeadLetter> =
            page.letters.into_iter().map(|(_, letter)| (letter.memory.seq, letter)).collect();
        let damaged: Vec<u64> = page.damaged.iter().map(|place| place.seq).collect();
        let jtis = acts.iter().map(|act| act.jti.clone()).collect();
        let known = self.journal.known(self.id, Direction::Out, jtis).await?;
        let mut answers = Vec::with_capacity(acts.len());
        for (act, known) in acts.into_iter().zip(known) {
            let letter = letters.get(&act.seq).filter(|letter| letter.jti == act.jti).cloned();
            let is_damaged = damaged.contains(&act.seq);
            match self.judged(act, letter, is_damaged, known) {
                Ok((letter, how)) => {
                    let label = if let Redrive::Reissue(set) = &how { set.label } else { "other" };
                    let act = Act::Redrive(Box::new(letter), how);
                    self.now = self.clock.now();
                    self.peer.handle_input(Input::Operator(act), self.now);
                    answers.push((None, label));
                }
                Err(answer) => answers.push((Some(answer), "other")),
            }
        }
        self.redriving.push_back(Call { answers, reply });
        self.answer_redriven();
        Ok(())
    }

    /// What the core is asked for, or the answer that is clear without it.
    fn judged(
        &mut self,
        act: Redriving,
        letter: Option<DeadLetter>,
        is_damaged: bool,
        known: Option<Remembered>,
    ) -> Result<(DeadLetter, Redrive), Answer> {
        // After a month its jti may have been forgotten, and then used again.
        let newer = known.as_ref().is_some_and(|known| known.seq > act.seq);
        let is_superseded = newer || self.accepting.contains_key(&act.jti);
        let same = known.filter(|known| known.seq == act.seq);
        let reissued = same.as_ref().and_then(|known| known.story.reissued_as().cloned());
        match (letter, act.how, same) {
            (Some(letter), Redrive::Discard, _) if is_superseded => Ok((letter, Redrive::Forget)),
            (Some(_), ..) if is_superseded => Err(Err(RedriveError::Gone)),
            (Some(letter), how, _) => {
                // Refused by the core, it would be queued by nobody, and a submission of the same be taken for nothing.
                let is_open = self.peer.room() > 0 && !self.peer.is_lifted(act.seq);
                let is_resent = matches!(how, Redrive::Resend) && is_open;
                let given_up = matches!(&letter.memory.fate, Fate::Settled { outcome: Outcome::Dead(_), .. });
                if is_resent && given_up {
                    // Until the store knows it as queued, a submission of the same is the same.
                    self.accepting.insert(letter.jti.clone(), letter.memory.digest);
                }
                Ok((letter, how))
            }
            (None, Redrive::Discard, Some(memory)) if is_damaged && matches!(memory.fate, Fate::Settled { .. }) => {
                Ok((DeadLetter { jti: act.jti, compact: Arc::from(""), memory }, Redrive::Discard))
            }
            (None, ..) if is_damaged => Err(Err(RedriveError::Damaged)),
            (None, Redrive::Reissue(_), _) => match reissued {
                Some(jti) => Err(Ok(Redriven::Reissued(jti))),
                None => Err(Err(RedriveError::Gone)),
            },
            (None, ..) => Err(Err(RedriveError::Gone)),
        }
    }

    /// The core's next answer, now that what it rests on is durable.
    pub(super) fn redriven(&mut self, done: Result<Redriven, Unfit>) {
        let max = self.outbox_max;
        let answer = done.map_err(|unfit| match unfit {
            Unfit::Answered => RedriveError::Answered,
            Unfit::Gone => RedriveError::Gone,
            Unfit::NoRoom => RedriveError::OutboxFull { max },
        });
        let mut open =
            self.redriving.iter_mut().flat_map(|call| &mut call.answers).filter(|(answer, _)| answer.is_none());
        if let Some((place, label)) = open.next() {
            if matches!(answer, Ok(Redriven::Reissued(_))) {
                self.counting.accept(label);
            }
            *place = Some(answer);
        }
        self.answer_redriven();
    }

    fn answer_redriven(&mut self) {
        while self.redriving.front().is_some_and(|call| call.answers.iter().all(|(answer, _)| answer.is_some())) {
            let Some(call) = self.redriving.pop_front() else { return };
            // A caller that has gone away needs no answer.
            let _ = call.reply.send(call.answers.into_iter().filter_map(|(answer, _)| answer).collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{SystemClock, Wall};
    use crate::engine::{Config, Supervisor};
    use crate::peer::{DeathCause, OutboxRow, PeerId, Story, Write};
    use crate::set::{Digest, SetErr, SignedSet};
    use crate::store::{Epoch, Journal, Memory, Registry};

    /// An actor whose peer has refused `r`, while `d` was given up: at the places 1 and 2.
    async fn scene() -> (Arc<Memory>, PeerId, Handle) {
        let store = Arc::new(Memory::new());
        let id = store.peer_id("globex".to_owned()).await.unwrap();
        let row = |seq, jti: &str| {
            let digest = Digest::of(jti.as_bytes());
            let (jti, compact, story) = (jti.into(), jti.into(), Story::default());
            Write::Enqueue(OutboxRow { seq, jti, compact, digest, accepted_at: Wall(1), attempts: 0, story })
        };
        let settle = |seq, jti: &str, outcome| {
            let (digest, jti, story) = (Digest::of(jti.as_bytes()), jti.into(), Story::default());
            Write::Settle { seq, jti, digest, accepted_at: Wall(1), outcome, at: Wall(2), attempts: 3, story }
        };
        let refused = Outcome::Refused(SetErr { err: "invalid_key".to_owned(), description: String::new() });
        let dead = Outcome::Dead(DeathCause::Age);
        let writes = vec![row(1, "r"), row(2, "d"), settle(1, "r", refused), settle(2, "d", dead)];
        store.commit(id, Epoch(1), Arc::new(writes)).await.unwrap();
        let journal = Arc::clone(&store) as Arc<dyn Journal>;
        let supervisor = Supervisor::new(Config::default(), journal, Arc::new(SystemClock::new()));
        let handle = supervisor.handle(id, &"globex".into(), &std::sync::atomic::AtomicBool::new(false));
        (store, id, handle)
    }

    fn signed(jti: &str) -> SignedSet {
        let digest = Digest::of(jti.as_bytes());
        SignedSet { jti: jti.into(), compact: "token".into(), digest, label: "other", reissue_of: None }
    }

    fn act(seq: u64, jti: &str, how: Redrive) -> Redriving {
        Redriving { seq, jti: jti.into(), how }
    }

    #[tokio::test]
    async fn each_act_is_answered_for_itself_and_in_order() {
        let (store, id, handle) = scene().await;
        let acts = vec![
            act(1, "r", Redrive::Resend),
            act(9, "x", Redrive::Discard),
            act(1, "other", Redrive::Discard),
            act(2, "d", Redrive::Resend),
            act(1, "r", Redrive::Reissue(signed("r-2"))),
        ];
        let gone = || Err(RedriveError::Gone);
        let answers = handle.redrive(acts).await.unwrap();
        let reissued = || Ok(Redriven::Reissued("r-2".into()));
        assert_eq!(answers, [Err(RedriveError::Answered), gone(), gone(), Ok(Redriven::Resent), reissued()]);
        let again = vec![act(1, "r", Redrive::Reissue(signed("r-3"))), act(2, "d", Redrive::Resend)];
        assert_eq!(handle.redrive(again).await.unwrap(), [reissued(), gone()], "the one that was made before");
        let counts = store.recover(id).await.unwrap().counts;
        assert_eq!((counts.queued, counts.dead_letters), (2, 0));
        assert_eq!(handle.redrive(Vec::new()).await.unwrap(), []);
    }

    #[tokio::test]
    async fn two_callers_at_once_make_one_new_set() {
        let (store, id, handle) = scene().await;
        let one = handle.redrive(vec![act(1, "r", Redrive::Reissue(signed("a")))]);
        let two = handle.redrive(vec![act(1, "r", Redrive::Reissue(signed("b")))]);
        let (one, two) = tokio::join!(one, two);
        assert_eq!((&one.unwrap(), store.recover(id).await.unwrap().counts.queued), (&two.unwrap(), 1));
    }

    #[tokio::test]
    async fn a_jti_that_was_forgotten_and_used_again_is_not_queued_twice() {
        let (store, id, handle) = scene().await;
        while store.purge(Wall(100)).await.unwrap() {}
        handle.send(vec![signed("d"), signed("r")], false).await.unwrap();
        let acts = vec![
            act(2, "d", Redrive::Resend),
            act(1, "r", Redrive::Reissue(signed("r-2"))),
            act(2, "d", Redrive::Discard),
        ];
        let gone = || Err(RedriveError::Gone);
        assert_eq!(handle.redrive(acts).await.unwrap(), [gone(), gone(), Ok(Redriven::Discarded)]);
        let known = store.known(id, Direction::Out, vec!["d".into()]).await.unwrap().pop().flatten().unwrap();
        assert_eq!((known.fate, known.seq), (Fate::Queued, 3), "of the newer one nothing has changed");
        let counts = store.recover(id).await.unwrap().counts;
        assert_eq!((counts.queued, counts.dead_letters), (2, 1));
    }

    #[tokio::test]
    async fn a_submission_beside_a_resend_that_came_too_late_is_queued() {
        let (store, id, handle) = scene().await;
        while store.purge(Wall(100)).await.unwrap() {}
        let discard = handle.redrive(vec![act(2, "d", Redrive::Discard)]);
        let resend = handle.redrive(vec![act(2, "d", Redrive::Resend)]);
        let (discarded, resent, sent) = tokio::join!(discard, resend, handle.send(vec![signed("d")], false));
        assert_eq!(discarded.unwrap(), [Ok(Redriven::Discarded)]);
        assert_eq!((resent.unwrap(), sent), (vec![Err(RedriveError::Gone)], Ok(())));
        assert_eq!(store.recover(id).await.unwrap().counts.queued, 1, "what was accepted is queued");
    }

    #[tokio::test]
    async fn a_submission_beside_a_resend_of_the_same_is_the_same() {
        let (store, id, handle) = scene().await;
        while store.purge(Wall(100)).await.unwrap() {}
        let resend = handle.redrive(vec![act(2, "d", Redrive::Resend)]);
        let (resent, sent) = tokio::join!(resend, handle.send(vec![signed("d")], false));
        assert_eq!((resent.unwrap(), sent), (vec![Ok(Redriven::Resent)], Ok(())));
        assert_eq!(store.recover(id).await.unwrap().counts.queued, 1);
    }
}

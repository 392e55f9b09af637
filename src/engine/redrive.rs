//! An operator's acts on dead letters, on their way through the actor: read from the store, decided by the core,
//! answered when they are durable.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::actor::Actor;
use super::handle::{Handle, Stopped};
use crate::peer::{Act, DeadLetter, Direction, Fate, Input, Redrive, Redriven, Unfit};
use crate::set::Jti;
use crate::store;

/// What is asked for one dead letter.
#[derive(Debug)]
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
    /// In the order asked; the core has yet to say those that are missing.
    answers: Vec<Option<Answer>>,
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
        if !self.journal.healthy() {
            let _ = reply.send(acts.iter().map(|_| Err(RedriveError::StorageFull)).collect());
            return Ok(());
        }
        let page = self.journal.dead_letters_at(self.id, acts.iter().map(|act| act.seq).collect()).await?;
        let mut letters: HashMap<u64, DeadLetter> =
            page.letters.into_iter().map(|(_, letter)| (letter.memory.seq, letter)).collect();
        let damaged: Vec<u64> = page.damaged.iter().map(|place| place.seq).collect();
        let mut answers = Vec::with_capacity(acts.len());
        for act in acts {
            let letter = match letters.get(&act.seq) {
                // Asked for twice in one call: the core knows.
                Some(letter) => Ok(letter.clone()),
                None => self.unread(&act, damaged.contains(&act.seq)).await?,
            };
            match letter {
                Ok(letter) if letter.jti == act.jti => {
                    letters.insert(act.seq, letter.clone());
                    let act = Act::Redrive(Box::new(letter), act.how);
                    self.peer.handle_input(Input::Operator(act), self.clock.now());
                    answers.push(None);
                }
                Ok(_) => answers.push(Some(Err(RedriveError::Gone))),
                Err(answer) => answers.push(Some(answer)),
            }
        }
        self.redriving.push_back(Call { answers, reply });
        self.answer_redriven();
        Ok(())
    }

    /// What is to be done, or answered, where no dead letter can be read.
    async fn unread(&mut self, act: &Redriving, damaged: bool) -> Result<Result<DeadLetter, Answer>, store::Error> {
        let known = self.journal.known(self.id, Direction::Out, vec![act.jti.clone()]).await?.pop().flatten();
        let known = known.filter(|known| known.seq == act.seq);
        Ok(match (known, &act.how) {
            (Some(memory), Redrive::Discard) if damaged && matches!(memory.fate, Fate::Settled { .. }) => {
                Ok(DeadLetter { jti: act.jti.clone(), compact: Arc::from(""), memory })
            }
            _ if damaged => Err(Err(RedriveError::Damaged)),
            (Some(memory), Redrive::Reissue(_)) => match memory.story.reissued_as() {
                Some(jti) => Err(Ok(Redriven::Reissued(jti.clone()))),
                None => Err(Err(RedriveError::Gone)),
            },
            _ => Err(Err(RedriveError::Gone)),
        })
    }

    /// The core's next answer, now that what it rests on is durable.
    pub(super) fn redriven(&mut self, done: Result<Redriven, Unfit>) {
        let max = self.outbox_max;
        let answer = done.map_err(|unfit| match unfit {
            Unfit::Answered => RedriveError::Answered,
            Unfit::Gone => RedriveError::Gone,
            Unfit::NoRoom => RedriveError::OutboxFull { max },
        });
        let mut open = self.redriving.iter_mut().flat_map(|call| &mut call.answers).filter(|answer| answer.is_none());
        if let Some(place) = open.next() {
            *place = Some(answer);
        }
        self.answer_redriven();
    }

    fn answer_redriven(&mut self) {
        while self.redriving.front().is_some_and(|call| call.answers.iter().all(Option::is_some)) {
            let Some(call) = self.redriving.pop_front() else { return };
            // A caller that has gone away needs no answer.
            let _ = call.reply.send(call.answers.into_iter().flatten().collect());
        }
    }
}

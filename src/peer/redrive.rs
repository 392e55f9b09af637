//! What an operator does with dead letters: decided here, as everything is that makes a SET leave.

use super::Peer;
use super::input::Redrive;
use super::output::{Output, Redriven, Unfit};
use super::row::{DeadLetter, DeathCause, Fate, OutboxRow, Outcome, Remembered, Write};
use super::story::{Chapter, Story};
use crate::clock::Timestamp;
use crate::planted::{self, Bug};
use crate::set::SignedSet;

impl Peer {
    /// Whether the dead letter at this place was dealt with since the last step: the store does not know yet.
    pub fn is_lifted(&self, seq: u64) -> bool {
        self.lifted.contains_key(&seq)
    }

    /// Deals with a dead letter, which the store held when the last step was made durable.
    pub(super) fn redrive(&mut self, letter: DeadLetter, how: Redrive, now: Timestamp) {
        let done = self.decide(letter, how, now);
        self.outputs.push(Output::Redriven(done));
    }

    fn decide(&mut self, letter: DeadLetter, how: Redrive, now: Timestamp) -> Result<Redriven, Unfit> {
        let seq = letter.memory.seq;
        if let Some(before) = self.lifted.get(&seq).filter(|_| !planted::is(Bug::RedrivenTwice)) {
            // Asked twice at the same time. What asks for the same gets the same answer.
            return match (before, how) {
                (Redriven::Resent, Redrive::Resend)
                | (Redriven::Reissued(_), Redrive::Reissue(_))
                | (Redriven::Discarded, Redrive::Discard | Redrive::Forget) => Ok(before.clone()),
                _ => Err(Unfit::Gone),
            };
        }
        let Fate::Settled { outcome, at, attempts } = &letter.memory.fate else { return Err(Unfit::Gone) };
        let done = match how {
            Redrive::Resend => {
                // A jti that was answered is never used again (R8, draft §Delivery Reliability).
                let cause = match *outcome {
                    Outcome::Dead(cause) => cause,
                    _ if planted::is(Bug::RefusedIsResent) => DeathCause::Attempts,
                    _ => return Err(Unfit::Answered),
                };
                let series = Chapter::Series { since: letter.memory.since, cause, at: *at, attempts: *attempts };
                self.have_room()?;
                let story = letter.memory.story.and(series);
                let (jti, digest) = (letter.jti.clone(), letter.memory.digest);
                // It was counted when it was accepted.
                let set = SignedSet { jti, compact: letter.compact, digest, label: "other", reissue_of: None };
                self.lift(seq, letter.jti, None);
                self.enqueue(set, story, now);
                Redriven::Resent
            }
            Redrive::Reissue(set) => {
                self.have_room()?;
                let link = Chapter::ReissuedAs { jti: set.jti.clone(), at: now.wall };
                let back = Story::default().and(Chapter::ReissueOf(letter.jti.clone()));
                let done = Redriven::Reissued(set.jti.clone());
                self.lift(seq, letter.jti, Some(closed(letter.memory, link)));
                self.enqueue(set, back, now);
                done
            }
            Redrive::Discard => {
                let memory = closed(letter.memory, Chapter::Discarded { at: now.wall });
                self.lift(seq, letter.jti, Some(memory));
                Redriven::Discarded
            }
            Redrive::Forget => {
                self.lift(seq, letter.jti, None);
                Redriven::Discarded
            }
        };
        self.lifted.insert(seq, done.clone());
        Ok(done)
    }

    fn have_room(&self) -> Result<(), Unfit> {
        if self.room() == 0 { Err(Unfit::NoRoom) } else { Ok(()) }
    }

    fn lift(&mut self, seq: u64, jti: crate::set::Jti, memory: Option<Remembered>) {
        self.writes.push(Write::Lift { seq, jti, memory });
    }

    /// Puts a SET at the end of the queue, with no attempt made and no time passed.
    pub(super) fn enqueue(&mut self, set: SignedSet, story: Story, now: Timestamp) {
        let row = OutboxRow {
            seq: self.outbox.next_seq,
            jti: set.jti,
            compact: set.compact,
            digest: set.digest,
            accepted_at: now.wall,
            attempts: u32::from(planted::is(Bug::AttemptCountedAtEnqueue)),
            story,
        };
        self.outbox.accept(&row, now.mono);
        self.writes.push(Write::Enqueue(row));
        self.enqueued += 1;
    }
}

fn closed(memory: Remembered, chapter: Chapter) -> Remembered {
    Remembered { story: memory.story.and(chapter), ..memory }
}

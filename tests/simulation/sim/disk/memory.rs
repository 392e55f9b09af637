//! What a write leaves in the memory of jtis, by the contract of [`pushpull::store`].

use pushpull::clock::Wall;
use pushpull::peer::{Direction, Fate, Outcome, Remembered, Story, Verdict, Write};
use pushpull::set::{Jti, Refusal, SetErr};
use pushpull::store::{DESCRIPTION_MAX, ERR_MAX};

/// What this write leaves to be remembered, if it takes effect.
pub(super) fn left_by(write: &Write) -> Option<(Direction, Jti, Remembered)> {
    let (direction, jti, memory) = match write {
        Write::Enqueue(row) => {
            let (digest, seq, since, story) = (row.digest, row.seq, row.accepted_at, row.story.clone());
            (Direction::Out, &row.jti, Remembered { digest, seq, since, fate: Fate::Queued, story })
        }
        Write::Settle { seq, jti, digest, accepted_at, outcome, at, attempts, story } => {
            let fate = Fate::Settled { outcome: shortened(outcome), at: *at, attempts: *attempts };
            let (digest, seq, since, story) = (*digest, *seq, *accepted_at, story.clone());
            (Direction::Out, jti, Remembered { digest, seq, since, fate, story })
        }
        Write::Lift { jti, memory, .. } => (Direction::Out, jti, memory.clone()?),
        Write::Receive(row) => {
            let fate = Fate::Answered(Verdict::Acked);
            let (digest, since, story) = (row.digest, row.received_at, Story::default());
            (Direction::In, &row.jti, Remembered { digest, seq: 0, since, fate, story })
        }
        Write::Answer { jti, digest, verdict, at } => {
            let verdict = match verdict {
                Verdict::Acked => Verdict::Acked,
                Verdict::Refused(Refusal { code, description }) => {
                    Verdict::Refused(Refusal::new(*code, start_of(description, DESCRIPTION_MAX)))
                }
            };
            let (digest, since, story) = (*digest, *at, Story::default());
            (Direction::In, jti, Remembered { digest, seq: 0, since, fate: Fate::Answered(verdict), story })
        }
        Write::Attempts { .. } | Write::Paused(_) => return None,
    };
    Some((direction, jti.clone(), memory))
}

/// The last time that a memory speaks of.
pub(super) fn age(memory: &Remembered) -> Wall {
    let told = memory.story.newest().map_or(memory.since, |told| told.max(memory.since));
    match memory.fate {
        Fate::Settled { at, .. } => told.max(at),
        Fate::Queued | Fate::Answered(_) => told,
    }
}

fn shortened(outcome: &Outcome) -> Outcome {
    match outcome {
        Outcome::Refused(SetErr { err, description }) => {
            let (err, description) = (start_of(err, ERR_MAX), start_of(description, DESCRIPTION_MAX));
            Outcome::Refused(SetErr { err, description })
        }
        Outcome::Acked | Outcome::Dead(_) => outcome.clone(),
    }
}

/// As many whole characters as fit into so many bytes.
fn start_of(text: &str, bytes_max: usize) -> String {
    let mut start = String::new();
    for character in text.chars() {
        if start.len() + character.len_utf8() > bytes_max {
            break;
        }
        start.push(character);
    }
    start
}

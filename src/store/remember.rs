//! What a write leaves in the memory of jtis: the same for every store, so that they answer alike.

use crate::clock::Wall;
use crate::peer::{Direction, Fate, Outcome, Remembered, Story, Verdict, Write};
use crate::set::{Digest, Jti, Refusal, SetErr};

/// A remembered `description` is cut to so many bytes, at a character's edge. What is to be repeated for ever the same
/// (rule R11) has to be no longer than this when it is first said.
pub const DESCRIPTION_MAX: usize = Refusal::DESCRIPTION_BYTES_MAX;

/// A remembered `err` of a partner is cut to so many bytes, at a character's edge.
pub const ERR_MAX: usize = 256;

/// The memory that this write makes, if it makes one and takes effect.
pub(crate) fn remembered(write: &Write) -> Option<(Direction, &Jti, Remembered)> {
    match write {
        Write::Enqueue(row) => Some((
            Direction::Out,
            &row.jti,
            Remembered {
                digest: row.digest,
                seq: row.seq,
                since: row.accepted_at,
                fate: Fate::Queued,
                story: row.story.clone(),
            },
        )),
        Write::Settle { seq, jti, digest, accepted_at, outcome, at, attempts, story } => {
            let fate = Fate::Settled { outcome: bounded_outcome(outcome), at: *at, attempts: *attempts };
            let story = story.clone();
            Some((Direction::Out, jti, Remembered { digest: *digest, seq: *seq, since: *accepted_at, fate, story }))
        }
        Write::Lift { jti, memory, .. } => memory.clone().map(|memory| (Direction::Out, jti, memory)),
        Write::Receive(row) => Some((Direction::In, &row.jti, answered(row.digest, row.received_at, Verdict::Acked))),
        Write::Answer { jti, digest, verdict, at } => {
            Some((Direction::In, jti, answered(*digest, *at, bounded_verdict(verdict))))
        }
        Write::Attempts { .. } | Write::Paused(_) => None,
    }
}

/// The last time that a memory speaks of, by which it grows old.
pub(crate) fn newest(remembered: &Remembered) -> Wall {
    let ended = match &remembered.fate {
        Fate::Settled { at, .. } => *at,
        Fate::Queued | Fate::Answered(_) => remembered.since,
    };
    // An operator's act counts too: who asks again for a month is told what was done.
    remembered.since.max(ended).max(remembered.story.newest().unwrap_or_default())
}

fn answered(digest: Digest, since: Wall, verdict: Verdict) -> Remembered {
    Remembered { digest, seq: 0, since, fate: Fate::Answered(verdict), story: Story::default() }
}

fn bounded_outcome(outcome: &Outcome) -> Outcome {
    match outcome {
        Outcome::Refused(SetErr { err, description }) => Outcome::Refused(SetErr {
            err: cut(err, ERR_MAX).to_owned(),
            description: cut(description, DESCRIPTION_MAX).to_owned(),
        }),
        Outcome::Acked | Outcome::Dead(_) => outcome.clone(),
    }
}

fn bounded_verdict(verdict: &Verdict) -> Verdict {
    match verdict {
        Verdict::Acked => Verdict::Acked,
        Verdict::Refused(refusal) => {
            Verdict::Refused(Refusal::new(refusal.code, cut(&refusal.description, DESCRIPTION_MAX)))
        }
    }
}

fn cut(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let edge = (0..=bytes_max).rev().find(|edge| text.is_char_boundary(*edge));
    text.get(..edge.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::set::ErrorCode;

    #[test]
    fn a_long_description_is_cut_at_a_characters_edge() {
        let description = "é".repeat(600) + "x";
        let verdict = Verdict::Refused(Refusal::new(ErrorCode::InvalidKey, format!("a{description}")));
        let write = Write::Answer { jti: "j".into(), digest: Digest::default(), verdict, at: Wall(1) };
        let (_, _, memory) = remembered(&write).unwrap();
        let Fate::Answered(Verdict::Refused(refusal)) = memory.fate else { panic!("{memory:?}") };
        assert_eq!(refusal.description.len(), 1023, "1 + 511 characters of two bytes");
        assert_eq!(cut("short", DESCRIPTION_MAX), "short");
    }
}

//! One remembered jti as bytes: its key, its length, and what is known of it.

use super::Key;
use crate::clock::Wall;
use crate::peer::{DeathCause, Fate, Outcome, Remembered, Story, Verdict};
use crate::set::{Digest, ErrorCode, Refusal, SetErr};
use crate::store::sqlite::rows::Cursor;
use crate::store::sqlite::story;

/// Bytes before an entry's contents: its key and their length.
pub(super) const HEAD_LEN: usize = 16 + 2;

const QUEUED: u8 = 0;
const SETTLED_ACKED: u8 = 1;
const SETTLED_REFUSED: u8 = 2;
const SETTLED_ATTEMPTS: u8 = 3;
const SETTLED_AGE: u8 = 4;
const ANSWERED_ACKED: u8 = 5;
const ANSWERED_REFUSED: u8 = 6;

/// Appends an entry to a stream of them.
pub(super) fn put(stream: &mut Vec<u8>, key: Key, remembered: &Remembered) {
    let start = stream.len();
    stream.extend_from_slice(&key.0);
    stream.extend_from_slice(&[0, 0]);
    encode(stream, remembered);
    // Texts are bounded before they come here (`store::remember`), so the length always fits.
    let len = u16::try_from(stream.len() - start - HEAD_LEN).unwrap_or(u16::MAX);
    if let Some(place) = stream.get_mut(start + 16..start + HEAD_LEN) {
        place.copy_from_slice(&len.to_le_bytes());
    }
}

/// Takes the next entry off a stream: its key, the whole of its bytes, and its contents. `None` if it is cut short.
pub(super) fn next<'a>(stream: &mut Cursor<'a>) -> Option<(Key, &'a [u8], &'a [u8])> {
    let whole = stream.0;
    let key = Key(stream.array()?);
    let len = usize::from(stream.u16()?);
    let contents = stream.take(len)?;
    Some((key, whole.get(..HEAD_LEN + len)?, contents))
}

fn encode(out: &mut Vec<u8>, remembered: &Remembered) {
    out.extend_from_slice(&remembered.digest.0);
    out.extend_from_slice(&remembered.since.0.to_le_bytes());
    match &remembered.fate {
        Fate::Queued => {
            out.push(QUEUED);
            out.extend_from_slice(&remembered.seq.to_le_bytes());
        }
        Fate::Settled { outcome, at, attempts } => {
            out.push(match outcome {
                Outcome::Acked => SETTLED_ACKED,
                Outcome::Refused(_) => SETTLED_REFUSED,
                Outcome::Dead(DeathCause::Attempts) => SETTLED_ATTEMPTS,
                Outcome::Dead(DeathCause::Age) => SETTLED_AGE,
            });
            out.extend_from_slice(&remembered.seq.to_le_bytes());
            out.extend_from_slice(&at.0.to_le_bytes());
            out.extend_from_slice(&attempts.to_le_bytes());
            if let Outcome::Refused(refused) = outcome {
                put_short(out, &refused.err);
                put_short(out, &refused.description);
            }
        }
        Fate::Answered(Verdict::Acked) => out.push(ANSWERED_ACKED),
        Fate::Answered(Verdict::Refused(refusal)) => {
            out.push(ANSWERED_REFUSED);
            put_short(out, refusal.code.as_str());
            put_short(out, &refusal.description);
        }
    }
    // Nearly all have none, so nothing says that there is none.
    if !remembered.story.chapters().is_empty() {
        story::put(out, &remembered.story);
    }
}

/// What an entry's contents say; `None` if they make no sense.
pub(super) fn decode(contents: &[u8]) -> Option<Remembered> {
    let mut contents = Cursor(contents);
    let (digest, since) = (Digest(contents.array()?), Wall(contents.u64()?));
    let kind = contents.u8()?;
    let (seq, fate) = match kind {
        QUEUED => (contents.u64()?, Fate::Queued),
        SETTLED_ACKED | SETTLED_REFUSED | SETTLED_ATTEMPTS | SETTLED_AGE => {
            let (seq, at, attempts) = (contents.u64()?, Wall(contents.u64()?), contents.u32()?);
            let outcome = match kind {
                SETTLED_ACKED => Outcome::Acked,
                SETTLED_REFUSED => {
                    let (err, description) = (short(&mut contents)?.to_owned(), short(&mut contents)?.to_owned());
                    Outcome::Refused(SetErr { err, description })
                }
                SETTLED_ATTEMPTS => Outcome::Dead(DeathCause::Attempts),
                _ => Outcome::Dead(DeathCause::Age),
            };
            (seq, Fate::Settled { outcome, at, attempts })
        }
        ANSWERED_ACKED => (0, Fate::Answered(Verdict::Acked)),
        ANSWERED_REFUSED => {
            let name = short(&mut contents)?;
            let code = ErrorCode::ALL.into_iter().find(|code| code.as_str() == name)?;
            (0, Fate::Answered(Verdict::Refused(Refusal::new(code, short(&mut contents)?))))
        }
        _ => return None,
    };
    let story = if contents.0.is_empty() { Story::default() } else { story::take(&mut contents)? };
    contents.0.is_empty().then_some(Remembered { digest, seq, since, fate, story })
}

fn put_short(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn short<'a>(contents: &mut Cursor<'a>) -> Option<&'a str> {
    let len = usize::from(contents.u16()?);
    std::str::from_utf8(contents.take(len)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Chapter;

    #[test]
    fn every_fate_comes_back_as_it_was_written() {
        let settled = |outcome| Fate::Settled { outcome, at: Wall(9), attempts: 4 };
        let refused = SetErr { err: "odd".to_owned(), description: String::new() };
        let refusal = Refusal::new(ErrorCode::InvalidAudience, "not for us");
        let fates = [
            (5, Fate::Queued),
            (5, settled(Outcome::Acked)),
            (5, settled(Outcome::Refused(refused))),
            (5, settled(Outcome::Dead(DeathCause::Attempts))),
            (5, settled(Outcome::Dead(DeathCause::Age))),
            (0, Fate::Answered(Verdict::Acked)),
            (0, Fate::Answered(Verdict::Refused(refusal))),
        ];
        let mut stream = Vec::new();
        let chapters = vec![Chapter::ReissueOf("old".into()), Chapter::Discarded { at: Wall(3) }];
        let stories = [Story::default(), Story::of(chapters)];
        let all: Vec<_> = stories
            .iter()
            .flat_map(|story| {
                fates.clone().map(|(seq, fate)| Remembered {
                    digest: Digest::of(b"x"),
                    seq,
                    since: Wall(8),
                    fate,
                    story: story.clone(),
                })
            })
            .collect();
        for (place, remembered) in (0..).zip(&all) {
            put(&mut stream, Key([place; 16]), remembered);
        }
        let mut cursor = Cursor(&stream);
        for (place, remembered) in (0..).zip(&all) {
            let (key, _, contents) = next(&mut cursor).unwrap();
            assert_eq!((key, decode(contents).as_ref()), (Key([place; 16]), Some(remembered)));
            assert_eq!(decode(&contents[..contents.len() - 1]), None, "cut short");
        }
        assert!(cursor.0.is_empty());
    }
}

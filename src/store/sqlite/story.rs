//! How a SET's story lies in bytes: in its outbox row, and in the memory of its jti.

use super::rows::{Cursor, put_text};
use crate::clock::Wall;
use crate::peer::{Chapter, DeathCause, Story};
use crate::set::Jti;

const SERIES_ATTEMPTS: u8 = 1;
const SERIES_AGE: u8 = 2;
const REISSUE_OF: u8 = 3;
const REISSUED_AS: u8 = 4;
const DISCARDED: u8 = 5;

/// Writes a story behind the number of its chapters, of which there are few.
pub(super) fn put(out: &mut Vec<u8>, story: &Story) {
    let chapters = story.chapters();
    out.push(u8::try_from(chapters.len()).unwrap_or(u8::MAX));
    for chapter in chapters.iter().take(usize::from(u8::MAX)) {
        match chapter {
            Chapter::Series { since, cause, at, attempts } => {
                out.push(match cause {
                    DeathCause::Attempts => SERIES_ATTEMPTS,
                    DeathCause::Age => SERIES_AGE,
                });
                out.extend_from_slice(&since.0.to_le_bytes());
                out.extend_from_slice(&at.0.to_le_bytes());
                out.extend_from_slice(&attempts.to_le_bytes());
            }
            Chapter::ReissueOf(jti) => {
                out.push(REISSUE_OF);
                put_text(out, jti.as_str());
            }
            Chapter::ReissuedAs { jti, at } => {
                out.push(REISSUED_AS);
                out.extend_from_slice(&at.0.to_le_bytes());
                put_text(out, jti.as_str());
            }
            Chapter::Discarded { at } => {
                out.push(DISCARDED);
                out.extend_from_slice(&at.0.to_le_bytes());
            }
        }
    }
}

/// Reads a story; `None` if it makes no sense.
pub(super) fn take(body: &mut Cursor<'_>) -> Option<Story> {
    let count = body.u8()?;
    let chapters: Option<Vec<Chapter>> = (0..count).map(|_| chapter(body)).collect();
    Some(Story::of(chapters?))
}

fn chapter(body: &mut Cursor<'_>) -> Option<Chapter> {
    Some(match body.u8()? {
        kind @ (SERIES_ATTEMPTS | SERIES_AGE) => Chapter::Series {
            since: Wall(body.u64()?),
            cause: if kind == SERIES_AGE { DeathCause::Age } else { DeathCause::Attempts },
            at: Wall(body.u64()?),
            attempts: body.u32()?,
        },
        REISSUE_OF => Chapter::ReissueOf(Jti::from(body.text()?)),
        REISSUED_AS => {
            let at = Wall(body.u64()?);
            Chapter::ReissuedAs { jti: Jti::from(body.text()?), at }
        }
        DISCARDED => Chapter::Discarded { at: Wall(body.u64()?) },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_comes_back_as_it_was_written_and_a_cut_one_is_noticed() {
        let series = |cause| Chapter::Series { since: Wall(1), cause, at: Wall(2), attempts: 3 };
        let story = Story::of(vec![
            Chapter::ReissueOf("öld".into()),
            series(DeathCause::Attempts),
            series(DeathCause::Age),
            Chapter::ReissuedAs { jti: "".into(), at: Wall(u64::MAX) },
            Chapter::Discarded { at: Wall(0) },
        ]);
        let mut bytes = Vec::new();
        put(&mut bytes, &story);
        let mut cursor = Cursor(&bytes);
        assert_eq!(take(&mut cursor), Some(story));
        assert!(cursor.0.is_empty());
        for len in 0..bytes.len() {
            assert_eq!(take(&mut Cursor(&bytes[..len])), None, "cut to {len}");
        }
        assert_eq!(take(&mut Cursor(&[1, 9])), None, "no such chapter");
    }
}

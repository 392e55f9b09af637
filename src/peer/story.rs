//! What a SET that we sent went through beside its present fate: earlier attempt series, and what an operator did with
//! it as a dead letter. It is kept with the memory of its jti, and empty for nearly all.

use std::sync::Arc;

use super::row::DeathCause;
use crate::clock::Wall;
use crate::set::Jti;

/// Attempt series that are told of one SET: the first, and the newest. What lies between is left out.
const SERIES_MAX: usize = 32;

/// A jti that is longer is not linked to: what is remembered of a SET has to stay small.
const LINK_BYTES_MAX: usize = 16 * 1024;

/// The chapters of one SET, in the order in which they came.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Story(Option<Arc<Vec<Chapter>>>);

/// One thing that happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Chapter {
    /// An attempt series that ended without an answer, after which the SET was queued again.
    Series {
        /// When it began.
        since: Wall,
        /// How it ended.
        cause: DeathCause,
        /// When it ended.
        at: Wall,
        /// After how many attempts.
        attempts: u32,
    },
    /// It says again, under a jti of its own, what this one said.
    ReissueOf(Jti),
    /// What it said was said again under this jti. It is no dead letter any more.
    ReissuedAs {
        /// The new one.
        jti: Jti,
        /// When.
        at: Wall,
    },
    /// An operator did away with the dead letter.
    Discarded {
        /// When.
        at: Wall,
    },
}

impl Story {
    /// The story of a SET with these chapters.
    pub fn of(chapters: Vec<Chapter>) -> Self {
        Self((!chapters.is_empty()).then(|| Arc::new(chapters)))
    }

    /// Its chapters.
    pub fn chapters(&self) -> &[Chapter] {
        self.0.as_deref().map(Vec::as_slice).unwrap_or_default()
    }

    /// It with one chapter more.
    #[must_use]
    pub fn and(&self, chapter: Chapter) -> Self {
        if let Chapter::ReissueOf(jti) | Chapter::ReissuedAs { jti, .. } = &chapter
            && jti.as_str().len() > LINK_BYTES_MAX
        {
            return self.clone();
        }
        let mut chapters = self.chapters().to_vec();
        let is_series = |chapter: &Chapter| matches!(chapter, Chapter::Series { .. });
        if is_series(&chapter) && chapters.iter().filter(|chapter| is_series(chapter)).count() >= SERIES_MAX {
            // The first one says when the SET was accepted.
            let second = chapters.iter().enumerate().filter(|(_, chapter)| is_series(chapter)).nth(1);
            if let Some((place, _)) = second {
                chapters.remove(place);
            }
        }
        chapters.push(chapter);
        Self::of(chapters)
    }

    /// The SET that it says again.
    pub fn reissue_of(&self) -> Option<&Jti> {
        self.chapters().iter().find_map(|chapter| match chapter {
            Chapter::ReissueOf(jti) => Some(jti),
            _ => None,
        })
    }

    /// The SET that says it again.
    pub fn reissued_as(&self) -> Option<&Jti> {
        self.chapters().iter().find_map(|chapter| match chapter {
            Chapter::ReissuedAs { jti, .. } => Some(jti),
            _ => None,
        })
    }

    /// When an operator did away with it.
    pub fn discarded_at(&self) -> Option<Wall> {
        self.chapters().iter().find_map(|chapter| match chapter {
            Chapter::Discarded { at } => Some(*at),
            _ => None,
        })
    }

    /// An operator has dealt with the dead letter for good: there is none any more.
    pub fn is_closed(&self) -> bool {
        self.reissued_as().is_some() || self.discarded_at().is_some()
    }

    /// The last time that it speaks of.
    pub fn newest(&self) -> Option<Wall> {
        let times = self.chapters().iter().filter_map(|chapter| match chapter {
            Chapter::Series { at, .. } | Chapter::ReissuedAs { at, .. } | Chapter::Discarded { at } => Some(*at),
            Chapter::ReissueOf(_) => None,
        });
        times.max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(number: u64) -> Chapter {
        Chapter::Series { since: Wall(number), cause: DeathCause::Age, at: Wall(number + 1), attempts: 3 }
    }

    #[test]
    fn however_often_a_set_is_resent_its_story_stays_short_and_keeps_its_beginning() {
        let story = (0..100).fold(Story::default().and(Chapter::ReissueOf("old".into())), |story, number| {
            story.and(series(number * 10))
        });
        assert_eq!(story.chapters().len(), SERIES_MAX + 1);
        assert_eq!(story.chapters()[1], series(0), "the first");
        assert_eq!(story.chapters().last(), Some(&series(990)), "the newest");
        assert_eq!((story.reissue_of(), story.newest()), (Some(&"old".into()), Some(Wall(991))));
    }

    #[test]
    fn a_dead_letter_is_closed_by_a_reissue_or_a_discard_alone() {
        let story = Story::default().and(Chapter::ReissueOf("a".into())).and(series(1));
        assert!(!Story::default().is_closed() && !story.is_closed());
        assert!(story.and(Chapter::Discarded { at: Wall(7) }).is_closed());
        assert!(story.and(Chapter::ReissuedAs { jti: "b".into(), at: Wall(7) }).is_closed());
    }

    #[test]
    fn a_jti_that_would_swell_the_memory_is_not_linked_to() {
        let long = "x".repeat(LINK_BYTES_MAX + 1);
        assert_eq!(Story::default().and(Chapter::ReissueOf(long.as_str().into())), Story::default());
    }
}

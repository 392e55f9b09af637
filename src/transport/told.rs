//! What a partner was answered and what it has sent lately: one that hands the same SETs out again and again does not listen.

use std::collections::HashSet;

use crate::peer::Transmission;
use crate::set::Jti;

/// The last verdicts that were told and the last SETs that came, as many as are worth remembering.
#[derive(Debug, Default)]
pub(super) struct Told {
    told: Recent,
    came: Recent,
}

#[derive(Debug, Default)]
struct Recent {
    recent: HashSet<Jti>,
    before: HashSet<Jti>,
}

/// The latest are remembered, so many of them and up to twice as many. More than go into one answer, or a partner that
/// fills it with the same ones each time would not be recognised.
const TOLD_MAX: usize = 4096;

impl Told {
    /// Notes the verdicts in a request. True if one of them is told for the first time.
    pub(super) fn note(&mut self, object: &Transmission) -> bool {
        let mut news = false;
        for (jti, _) in &object.verdicts {
            news |= !self.told.has(jti);
            self.told.insert(jti);
        }
        news
    }

    /// Whether one of these has had its verdict told.
    pub(super) fn has_told<'j>(&self, mut jtis: impl Iterator<Item = &'j Jti>) -> bool {
        jtis.any(|jti| self.told.has(jti))
    }

    /// Notes the SETs of an answer. True if none of them is new: all were answered already, or came before without getting a
    /// verdict, and nothing is gained by asking for them again at once.
    pub(super) fn are_known<'j>(&mut self, jtis: impl Iterator<Item = &'j Jti>) -> bool {
        let mut known = true;
        for jti in jtis {
            known &= self.told.has(jti) || self.came.has(jti);
            self.came.insert(jti);
        }
        known
    }
}

impl Recent {
    fn has(&self, jti: &Jti) -> bool {
        self.recent.contains(jti) || self.before.contains(jti)
    }

    fn insert(&mut self, jti: &Jti) {
        if self.recent.len() >= TOLD_MAX {
            self.before = std::mem::take(&mut self.recent);
        }
        self.recent.insert(jti.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Verdict;

    fn telling(numbers: std::ops::Range<usize>) -> Transmission {
        let verdicts = numbers.map(|number| (jti(number), Verdict::Acked)).collect();
        Transmission { verdicts, ..Transmission::default() }
    }

    fn jti(number: usize) -> Jti {
        Jti::from(number.to_string().as_str())
    }

    #[test]
    fn the_latest_verdicts_are_known_again_and_old_ones_are_forgotten() {
        let mut told = Told::default();
        let are_told = |told: &Told, numbers: &[usize]| numbers.iter().all(|number| told.told.has(&jti(*number)));
        assert!(told.note(&telling(0..1000)));
        assert!(!told.note(&telling(10..20)), "nothing that was not told before");
        assert!(told.note(&telling(999..1001)), "one that was not");
        assert!(are_told(&told, &[0, 500, 1000]) && !are_told(&told, &[1001]));
        for round in 1..20 {
            told.note(&telling(round * 1000..round * 1000 + 1000));
        }
        assert!(are_told(&told, &(20_000 - TOLD_MAX..20_000).collect::<Vec<_>>()));
        assert!(!are_told(&told, &[0]));
        assert!(told.told.recent.len() + told.told.before.len() <= 2 * TOLD_MAX);
    }

    #[test]
    fn what_came_again_is_known_whether_it_was_answered_or_not() {
        let mut told = Told::default();
        told.note(&telling(0..1));
        assert!(told.are_known([jti(0)].iter()), "it was answered by another way");
        assert!(!told.are_known([jti(0), jti(1)].iter()), "one is new");
        assert!(told.are_known([jti(0), jti(1)].iter()), "and comes again");
        assert!(told.note(&telling(1..2)), "its verdict is told for the first time all the same");
        assert!(!told.are_known([jti(1), jti(2)].iter()));
        assert!(told.has_told([jti(2), jti(1)].iter()) && !told.has_told([jti(2)].iter()));
    }
}

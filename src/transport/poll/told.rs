//! SETs that were answered lately: a partner that hands the same ones out again does not listen.

use std::collections::HashSet;

use crate::peer::Transmission;
use crate::set::Jti;

/// The last verdicts that were told, as many as are worth remembering.
#[derive(Debug, Default)]
pub(super) struct Told {
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
            news |= !self.has(jti);
            self.insert(jti.clone());
        }
        news
    }

    /// Whether an answer holds nothing but SETs that are answered already.
    pub(super) fn are_all<'j>(&self, mut jtis: impl Iterator<Item = &'j Jti>) -> bool {
        jtis.all(|jti| self.has(jti))
    }

    fn has(&self, jti: &Jti) -> bool {
        self.recent.contains(jti) || self.before.contains(jti)
    }

    fn insert(&mut self, jti: Jti) {
        if self.recent.len() >= TOLD_MAX {
            self.before = std::mem::take(&mut self.recent);
        }
        self.recent.insert(jti);
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
        assert!(told.note(&telling(0..1000)));
        assert!(!told.note(&telling(10..20)), "nothing that was not told before");
        assert!(told.note(&telling(999..1001)), "one that was not");
        assert!(told.are_all([0, 500, 1000].map(jti).iter()));
        assert!(!told.are_all([0, 1001].map(jti).iter()));
        for round in 1..20 {
            told.note(&telling(round * 1000..round * 1000 + 1000));
        }
        assert!(told.are_all((20_000 - TOLD_MAX..20_000).map(jti).collect::<Vec<_>>().iter()));
        assert!(!told.are_all([jti(0)].iter()));
        assert!(told.recent.len() + told.before.len() <= 2 * TOLD_MAX);
    }
}

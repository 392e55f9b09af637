//! The header that an issuer's SETs have: the same text each time, until it changes its key. One that kept every rule need not
//! be decoded, read and asked again.

use std::sync::Arc;

use arc_swap::{ArcSwapOption, Guard};

use super::look::{Look as _, Object as _};
use super::outline::Part;
use super::{Algorithm, Profile};

/// A longer one is not kept: a partner may send as much as a SET may have.
const TEXT_MAX: usize = 512;

/// What is wanted of a header that is judged: how the SET is signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Named {
    /// None where it is missing or unknown, which a rule has told of then.
    pub(super) algorithm: Option<Algorithm>,
    pub(super) kid: Option<String>,
}

/// The last header of an issuer that kept every rule, of a SET that it did sign: what others send does not drive it out.
#[derive(Debug, Default)]
pub(super) struct Familiar(ArcSwapOption<Known>);

#[derive(Debug)]
pub(super) struct Known {
    /// As it stands in the token.
    text: String,
    /// What the rules ask of a header depends on nothing else.
    profile: Profile,
    named: Named,
}

/// A header that has been judged.
pub(super) enum Header {
    /// Before.
    Familiar(Guard<Option<Arc<Known>>>),
    /// Just now, and whether it kept every rule.
    Read(Named, bool),
}

impl Header {
    pub(super) fn named(&self) -> Option<&Named> {
        match self {
            Self::Familiar(known) => known.as_ref().map(|known| &known.named),
            Self::Read(named, _) => Some(named),
        }
    }
}

impl Named {
    pub(super) fn of(header: Part<'_>) -> Self {
        let text = |name| header.find(name).and_then(Part::text);
        Self { algorithm: text("alg").and_then(Algorithm::from_name), kid: text("kid").map(str::to_owned) }
    }
}

impl Familiar {
    /// The header, if it is the one that is known.
    pub(super) fn find(&self, text: &str, profile: Profile) -> Option<Header> {
        let known = self.0.load();
        let is_known = known.as_ref().is_some_and(|known| known.text == text && known.profile == profile);
        is_known.then_some(Header::Familiar(known))
    }

    /// Keeps what this header says. All rules for headers have been asked by this profile, and it kept them.
    pub(super) fn keep(&self, text: &str, profile: Profile, named: &Named) {
        if text.len() <= TEXT_MAX {
            self.0.store(Some(Arc::new(Known { text: text.to_owned(), profile, named: named.clone() })));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_text_by_the_same_profile_is_known() {
        let (familiar, named) = (Familiar::default(), Named { algorithm: None, kid: Some("k".to_owned()) });
        let ask = |text: &str, profile| familiar.find(text, profile).is_some();
        assert!(!ask("", Profile::Ssf));
        familiar.keep("e30", Profile::Ssf, &named);
        assert_eq!(familiar.find("e30", Profile::Ssf).as_ref().and_then(Header::named), Some(&named));
        assert!(!ask("e30", Profile::Plain8417) && !ask("e3", Profile::Ssf) && !ask("e30A", Profile::Ssf));
        familiar.keep(&"e".repeat(TEXT_MAX + 1), Profile::Ssf, &named);
        assert!(ask("e30", Profile::Ssf) && !ask(&"e".repeat(TEXT_MAX + 1), Profile::Ssf));
        familiar.keep("e31", Profile::Ssf, &named);
        assert!(ask("e31", Profile::Ssf) && !ask("e30", Profile::Ssf));
    }
}

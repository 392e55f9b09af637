//! The identity of a SET within one feed (RFC 8417 §2.2).

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrayvec::ArrayString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Digest, acts_on_display};

/// The `jti` of a SET: compared byte for byte, never normalised, cheap to clone.
#[derive(Clone)]
pub struct Jti(Text);

/// Bytes of a text that needs no memory of its own: a UUID has 36, and with these the whole takes six words.
const SHORT_MAX: usize = 40;

/// A jti goes through a dozen tables and messages, on several threads. A short one is there where it is looked at; a counted
/// one costs a cache miss and two locked instructions each time.
#[derive(Clone)]
enum Text {
    Short(ArrayString<SHORT_MAX>),
    Long(Arc<str>),
}

impl Jti {
    /// A new, unique `jti` (UUID version 7, so that later ones sort after earlier ones).
    pub fn new() -> Self {
        unique(|text| Self::from(text))
    }

    /// The `jti` that these texts make, always the same one (UUID version 8): what is done again is recognised by it.
    pub fn derived(parts: &[&str]) -> Self {
        let mut bytes = Vec::new();
        for part in parts {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        Self::from(uuid::Builder::from_custom_bytes(Digest::of(&bytes).0).into_uuid().to_string())
    }

    /// The text as it stands on the wire.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Short(text) => text,
            Text::Long(text) => text,
        }
    }
}

/// Makes something of a text that no other is equal to: the form of a [`Jti`] that is made here.
pub(super) fn unique<R>(make: impl FnOnce(&str) -> R) -> R {
    make(uuid::Uuid::now_v7().hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()))
}

impl Default for Jti {
    fn default() -> Self {
        Self::new()
    }
}

impl From<&str> for Jti {
    fn from(text: &str) -> Self {
        Self(ArrayString::from(text).map_or_else(|_| Text::Long(text.into()), Text::Short))
    }
}

impl From<String> for Jti {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl PartialEq for Jti {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Jti {}

impl Ord for Jti {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl PartialOrd for Jti {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As its text, since it is looked for by that ([`Borrow`](std::borrow::Borrow)).
impl Hash for Jti {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Serialize for Jti {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Jti {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

impl AsRef<str> for Jti {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl std::borrow::Borrow<str> for Jti {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Jti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A partner chooses this text: it must not steer a terminal or forge a log line.
        for c in self.as_str().chars() {
            if acts_on_display(c) { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        Ok(())
    }
}

impl fmt::Debug for Jti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jti_is_its_text_however_long_that_is() {
        let hash = |value: &dyn Fn(&mut std::hash::DefaultHasher)| {
            let mut hasher = std::hash::DefaultHasher::new();
            value(&mut hasher);
            hasher.finish()
        };
        let texts: Vec<String> = [0, 1, 36, SHORT_MAX - 1, SHORT_MAX, SHORT_MAX + 1, 500]
            .into_iter()
            .flat_map(|length| ["a".repeat(length), "b".repeat(length), "é".repeat(length / 2)])
            .collect();
        for text in &texts {
            let jti = Jti::from(text.as_str());
            assert_eq!((jti.as_str(), jti.clone(), Jti::from(text.clone())), (&**text, jti.clone(), jti.clone()));
            assert_eq!(hash(&|state| jti.hash(state)), hash(&|state| text.as_str().hash(state)), "{text}");
            let written = serde_json::to_string(&jti).unwrap();
            assert_eq!(
                (written.as_str(), serde_json::from_str(&written).ok()),
                (&*format!("{text:?}"), Some(jti.clone()))
            );
            for other in &texts {
                assert_eq!(jti.cmp(&Jti::from(other.as_str())), text.cmp(other));
                assert_eq!(jti == Jti::from(other.as_str()), text == other);
            }
        }
        assert!(serde_json::from_str::<Jti>("7").is_err());
        assert_eq!(size_of::<Jti>(), 48);
    }

    #[test]
    fn what_is_derived_depends_on_every_part_and_on_where_it_ends() {
        let jti = Jti::derived(&["job", "peer", "jti"]);
        assert_eq!(jti, Jti::derived(&["job", "peer", "jti"]));
        assert_eq!(jti.as_str().len(), 36, "{jti}");
        assert_eq!(jti.as_str().as_bytes()[14], b'8', "{jti}");
        for other in [["jo", "bpeer", "jti"], ["job", "peerj", "ti"], ["job", "peer", "jtj"]] {
            assert_ne!(jti, Jti::derived(&other));
        }
    }
}

//! The identity of a SET within one feed (RFC 8417 §2.2).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Digest, acts_on_display};

/// The `jti` of a SET: compared byte for byte, never normalised, cheap to clone.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Jti(Arc<str>);

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
        &self.0
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
        Self(text.into())
    }
}

impl From<String> for Jti {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl AsRef<str> for Jti {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Jti {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Jti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A partner chooses this text: it must not steer a terminal or forge a log line.
        for c in self.0.chars() {
            if acts_on_display(c) { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        Ok(())
    }
}

impl fmt::Debug for Jti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

//! The keys that one issuer publishes, parsed once and looked up by `kid` (RFC 7517 §5, RFC 7515 §6).

use std::fmt;

use serde_json::{Map, Value, json};
use smallvec::SmallVec;

use super::crypto::{BoxedVerifier, Verifier};
use super::familiar::Familiar;
use super::refusal::quote;
use super::{Algorithm, ErrorCode, Jwk, Refusal, json, jwk};

/// The keys of one issuer. An empty set is a valid one: it verifies nothing.
///
/// Of two keys with the same `kid` for the same algorithm the first one counts and the second is reported by
/// [`KeySet::skipped`]; for different algorithms both count, as RFC 7517 §4.5 allows.
#[derive(Default)]
pub struct KeySet {
    keys: Vec<Key>,
    skipped: Vec<Skipped>,
    /// The header of what was verified with these keys.
    pub(super) familiar: Familiar,
}

/// The verifiers that may have made a signature, and one more if there are too many.
pub(super) type Candidates<'k> = SmallVec<[&'k Verifier; KeySet::TRIES_MAX + 1]>;

struct Key {
    jwk: Jwk,
    verifiers: Vec<(Algorithm, Verifier)>,
}

/// A published key that is not used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Skipped {
    /// Its `kid`, where it has a readable one.
    pub kid: Option<String>,
    /// Why, for an operator to read.
    pub reason: String,
    /// Whether it says itself that it is no key for signatures (`use` is `enc`), so that nothing is wrong with it.
    pub encrypts: bool,
}

/// Why a document is not a JWK Set. Nothing of it is usable.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAKeySet {
    /// It is longer than [`KeySet::BYTES_MAX`].
    #[error("a JWK Set of {0} bytes, expected at most {max}", max = KeySet::BYTES_MAX)]
    TooLong(usize),
    /// It is no JSON object, or not a strict one.
    #[error("not a JWK Set: {0}")]
    Json(String),
    /// It has no array `keys`.
    #[error("not a JWK Set: an array `keys` was expected, found {0}")]
    NoKeys(&'static str),
    /// It has more than [`KeySet::KEYS_MAX`] keys.
    #[error("a JWK Set of {0} keys, expected at most {max}", max = KeySet::KEYS_MAX)]
    TooMany(usize),
}

impl KeySet {
    /// The longest document that is read, in bytes.
    pub const BYTES_MAX: usize = 256 << 10;
    /// The most keys that a document may have, usable or not.
    pub const KEYS_MAX: usize = 64;
    /// A token without `kid` is tried with so many keys at most.
    const TRIES_MAX: usize = 4;

    /// Reads a JWK Set. Keys that cannot be used are left out and listed by [`KeySet::skipped`] (RFC 7517 §5).
    pub fn parse(bytes: &[u8]) -> Result<Self, NotAKeySet> {
        if bytes.len() > Self::BYTES_MAX {
            return Err(NotAKeySet::TooLong(bytes.len()));
        }
        let document = json::object(bytes).map_err(|error| NotAKeySet::Json(error.to_string()))?;
        let members = match document.get("keys") {
            Some(Value::Array(members)) => members,
            other => return Err(NotAKeySet::NoKeys(other.map_or("nothing", json::kind))),
        };
        if members.len() > Self::KEYS_MAX {
            return Err(NotAKeySet::TooMany(members.len()));
        }
        let mut set = Self::default();
        for member in members {
            let read = member.as_object().ok_or_else(|| format!("it is {}, expected an object", json::kind(member)));
            match read.and_then(Jwk::from_json) {
                Ok(jwk) => set.add(jwk),
                Err(reason) => {
                    let text = |name| member.get(name).and_then(Value::as_str);
                    set.skip(text("kid"), reason, text("use") == Some("enc"));
                }
            }
        }
        Ok(set)
    }

    /// A set of these keys, such as our own.
    pub fn of(keys: impl IntoIterator<Item = Jwk>) -> Self {
        let mut set = Self::default();
        keys.into_iter().for_each(|jwk| set.add(jwk));
        set
    }

    /// How many keys are usable.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is usable.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The usable keys, in the order of the document.
    pub fn keys(&self) -> impl Iterator<Item = &Jwk> {
        self.keys.iter().map(|key| &key.jwk)
    }

    /// The keys that were left out.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The document as we publish it at `/jwks.json`: the usable keys, public members only.
    pub fn to_json(&self) -> Value {
        json!({"keys": self.keys().map(Jwk::to_json).collect::<Vec<_>>()})
    }

    /// Puts something around each verifier. Only for simulations, which verify the same SETs in thousands of federations.
    #[doc(hidden)]
    pub fn wrap(&mut self, mut wrapper: impl FnMut(&Jwk, BoxedVerifier) -> BoxedVerifier) {
        for Key { jwk, verifiers } in &mut self.keys {
            let mut wrap =
                |(algorithm, own): (Algorithm, Verifier)| (algorithm, Verifier::Wrapped(wrapper(jwk, own.boxed())));
            *verifiers = verifiers.drain(..).map(&mut wrap).collect();
        }
    }

    /// The verifiers that may have made a signature, at most four.
    ///
    /// The algorithm comes from the key: a token whose `alg` is not one of the key's finds nothing. Every refusal
    /// returned here may become untrue when the issuer publishes other keys.
    pub(super) fn candidates(&self, algorithm: Algorithm, kid: Option<&str>) -> Result<Candidates<'_>, Refusal> {
        let named = self.keys.iter().filter(|key| kid.is_none() || key.jwk.kid() == kid);
        let fitting: Candidates<'_> =
            named.filter_map(|key| key.verifier(algorithm)).take(Self::TRIES_MAX + 1).collect();
        match (fitting.len(), kid) {
            (0, _) => Err(self.unknown(algorithm, kid)),
            (1..=Self::TRIES_MAX, _) | (_, Some(_)) => Ok(fitting),
            _ => Err(invalid_key(format!(
                "the header has no kid, and more than {} of the published keys are for {algorithm}",
                Self::TRIES_MAX
            ))),
        }
    }

    fn unknown(&self, algorithm: Algorithm, kid: Option<&str>) -> Refusal {
        let Some(name) = kid else {
            return invalid_key(format!("the header has no kid, and no published key is for {algorithm}"));
        };
        if let Some(key) = self.keys.iter().find(|key| key.jwk.kid() == kid) {
            let found = jwk::names(key.jwk.algorithms());
            return invalid_key(format!("the key with kid {} is for {found}, not for {algorithm}", quote(name)));
        }
        if let Some(skipped) = self.skipped.iter().find(|skipped| skipped.kid.as_deref() == kid) {
            return invalid_key(format!("the key with kid {} cannot be used: {}", quote(name), skipped.reason));
        }
        invalid_key(format!("no published key has kid {}; usable ones: {}", quote(name), self.kids()))
    }

    /// The usable kids for a message: enough of them to see what is wrong.
    fn kids(&self) -> String {
        let kids: Vec<_> = self.keys().filter_map(Jwk::kid).take(4).map(quote).collect();
        if kids.is_empty() { "none".into() } else { kids.join(", ") }
    }

    fn add(&mut self, jwk: Jwk) {
        let rival = |key: &Key| key.jwk.kid() == jwk.kid() && key.serves_any(jwk.algorithms());
        if jwk.kid().is_some() && self.keys.iter().any(rival) {
            return self.skip(jwk.kid(), "an earlier key has the same kid".into(), false);
        }
        match jwk.verifiers() {
            Ok(verifiers) => {
                let kept = verifiers.into_iter().map(|kept| (kept.algorithm, Verifier::Kept(kept))).collect();
                self.keys.push(Key { jwk, verifiers: kept });
            }
            Err(reason) => self.skip(jwk.kid(), reason, false),
        }
    }

    fn skip(&mut self, kid: Option<&str>, reason: String, encrypts: bool) {
        self.skipped.push(Skipped { kid: kid.map(str::to_owned), reason, encrypts });
    }
}

impl Key {
    fn verifier(&self, algorithm: Algorithm) -> Option<&Verifier> {
        let (_, verifier) = self.verifiers.iter().find(|(own, _)| *own == algorithm)?;
        Some(verifier)
    }

    fn serves_any(&self, algorithms: &[Algorithm]) -> bool {
        self.jwk.algorithms().iter().any(|own| algorithms.contains(own))
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Map<String, Value> = self
            .keys()
            .map(|jwk| (jwk.kid().unwrap_or("(no kid)").to_owned(), jwk::names(jwk.algorithms()).into()))
            .collect();
        f.debug_struct("KeySet").field("keys", &keys).field("skipped", &self.skipped).finish()
    }
}

fn invalid_key(description: String) -> Refusal {
    Refusal::new(ErrorCode::InvalidKey, description)
}

//! From a bearer token (RFC 6750) to the partner it was given to. Tokens are kept as hashes and compared in constant
//! time, so neither memory nor timing gives one away.

use std::collections::HashMap;

use aws_lc_rs::digest;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use subtle::ConstantTimeEq as _;

use super::Secret;

/// The tokens that partners present to us, and whose they are. A partner may have several, to change them without a gap.
#[derive(Clone, Debug)]
pub struct Bearers<T> {
    owners: HashMap<Hash, T>,
}

/// SHA-256 of a token.
type Hash = [u8; 32];

/// Why a request's sender is not known.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unauthorised {
    /// There are no credentials.
    #[error("no bearer token was presented")]
    Missing,
    /// The header is not of the form, or there are several.
    #[error("expected exactly one Authorization header of the form \"Bearer <token>\"")]
    Malformed,
    /// The token is nobody's.
    #[error("the bearer token is not known here")]
    Unknown,
}

/// The token already belongs to somebody else.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the same token is already given to another partner; every partner needs its own")]
pub struct TokenTaken;

impl<T: Clone + PartialEq> Bearers<T> {
    /// Knows nobody.
    pub fn new() -> Self {
        Self { owners: HashMap::new() }
    }

    /// From now on this token is the owner's. Giving it twice to the same owner is fine.
    pub fn insert(&mut self, token: &Secret, owner: T) -> Result<(), TokenTaken> {
        let hash = hash(token.expose().as_bytes());
        if self.owners.get(&hash).is_some_and(|earlier| *earlier != owner) {
            return Err(TokenTaken);
        }
        self.owners.insert(hash, owner);
        Ok(())
    }

    /// Forgets all tokens but those of such owners.
    pub fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.owners.retain(|_, owner| keep(owner));
    }

    /// Whose token this is.
    pub fn owner(&self, token: &Secret) -> Option<&T> {
        self.owners.get(&hash(token.expose().as_bytes()))
    }

    /// All owners, once for each of their tokens.
    pub fn owners(&self) -> impl Iterator<Item = &T> {
        self.owners.values()
    }

    /// Whose request this is. Answers before any of the body is read.
    pub fn identify(&self, headers: &HeaderMap) -> Result<T, Unauthorised> {
        let token = token(headers)?;
        let hash = hash(token);
        // The map finds its entry by the hash, so timing tells at most something about hashes. The comparison that
        // decides runs in constant time.
        match self.owners.get_key_value(&hash) {
            Some((known, owner)) if bool::from(known.ct_eq(&hash)) => Ok(owner.clone()),
            _ => Err(Unauthorised::Unknown),
        }
    }
}

impl<T: Clone + PartialEq> Default for Bearers<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl Unauthorised {
    /// The `WWW-Authenticate` value of the 401 (RFC 6750 §3): without an error code when there were no credentials.
    pub fn www_authenticate(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Missing => "Bearer realm=\"pushpull\"",
            Self::Malformed => "Bearer realm=\"pushpull\", error=\"invalid_request\"",
            Self::Unknown => "Bearer realm=\"pushpull\", error=\"invalid_token\"",
        })
    }
}

fn token(headers: &HeaderMap) -> Result<&[u8], Unauthorised> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Unauthorised::Missing)?;
    if values.next().is_some() {
        return Err(Unauthorised::Malformed);
    }
    let (scheme, token) = value.as_bytes().split_at_checked(SCHEME.len()).ok_or(Unauthorised::Malformed)?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Err(Unauthorised::Malformed);
    }
    let token = token.trim_ascii_start();
    if token.is_empty() || !token.iter().all(u8::is_ascii_graphic) {
        return Err(Unauthorised::Malformed);
    }
    Ok(token)
}

fn hash(token: &[u8]) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, token).as_ref());
    hash
}

/// With the space that separates it from the token; RFC 9110 §11.4 allows more than one.
const SCHEME: &[u8] = b"bearer ";

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.into(), "test").unwrap()
    }

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn bearers() -> Bearers<&'static str> {
        let mut bearers = Bearers::new();
        bearers.insert(&secret("one"), "globex").unwrap();
        bearers.insert(&secret("two"), "globex").unwrap();
        bearers.insert(&secret("three"), "initech").unwrap();
        bearers
    }

    #[test]
    fn each_token_leads_to_its_owner() {
        let bearers = bearers();
        for (value, owner) in [
            ("Bearer one", "globex"),
            ("bearer two", "globex"),
            ("BEARER three", "initech"),
            ("Bearer   one", "globex"),
        ] {
            assert_eq!(bearers.identify(&headers(&[value])), Ok(owner), "{value}");
        }
    }

    #[test]
    fn everything_else_is_unauthorised_and_says_why() {
        use Unauthorised::{Malformed, Missing, Unknown};
        let bearers = bearers();
        assert_eq!(bearers.identify(&headers(&[])), Err(Missing));
        assert_eq!(bearers.identify(&headers(&["Bearer one", "Bearer one"])), Err(Malformed), "two headers");
        for value in ["", "Bearer", "Bearer ", "Basic b25lOm9uZQ==", "Bearerone", "Bearer one two", "one", "Bearer ön"]
        {
            assert_eq!(bearers.identify(&headers(&[value])), Err(Malformed), "{value}");
        }
        for value in ["Bearer ON", "Bearer One", "Bearer one1", "Bearer on", "Bearer \"one\""] {
            assert_eq!(bearers.identify(&headers(&[value])), Err(Unknown), "{value}");
        }
        assert_eq!(Missing.www_authenticate(), "Bearer realm=\"pushpull\"");
        assert!(Unknown.www_authenticate().to_str().unwrap().contains("invalid_token"));
    }

    #[test]
    fn a_removed_owner_loses_all_tokens_and_nobody_else_any() {
        let mut bearers = bearers();
        bearers.retain(|owner| *owner != "globex");
        assert_eq!(bearers.owners().count(), 1);
        assert_eq!(bearers.owner(&secret("three")), Some(&"initech"));
        assert_eq!(bearers.identify(&headers(&["Bearer one"])), Err(Unauthorised::Unknown));
        assert_eq!(bearers.identify(&headers(&["Bearer three"])), Ok("initech"));
    }

    #[test]
    fn one_token_cannot_belong_to_two() {
        let mut bearers = bearers();
        assert_eq!(bearers.insert(&secret("one"), "initech"), Err(TokenTaken));
        assert_eq!(bearers.insert(&secret("one"), "globex"), Ok(()));
        assert_eq!(bearers.identify(&headers(&["Bearer one"])), Ok("globex"));
    }

    #[test]
    fn no_token_is_printed() {
        assert!(!format!("{:?}", bearers()).contains("three"));
    }
}

//! Signatures that were verified before on this thread. The same SETs stand in thousands of federations, and to verify them
//! anew each time was a third of all the work; the answer of a key to the same bytes is always the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jsonwebtoken::Algorithm;
use jsonwebtoken::crypto::JwtVerifier;
use jsonwebtoken::signature::{Error, Verifier};
use pushpull::set::{Jwk, KeySet};

/// So many messages are kept for each key.
const MESSAGES_MAX: usize = 20_000;

/// By message: the signatures that were seen of it, and whether each is good.
type Answers = Arc<Mutex<HashMap<Box<[u8]>, Vec<(Vec<u8>, bool)>>>>;

thread_local! {
    /// By the key as it is published.
    static KEYS: Mutex<HashMap<String, Answers>> = Mutex::default();
}

struct Remembered {
    verifier: Box<dyn JwtVerifier + Send + Sync>,
    answers: Answers,
}

/// Lets these keys remember what they have verified.
pub fn remember(keys: &mut KeySet) {
    keys.wrap(|jwk, verifier| {
        let answers = answers(jwk, verifier.algorithm());
        Box::new(Remembered { verifier, answers })
    });
}

fn answers(jwk: &Jwk, algorithm: Algorithm) -> Answers {
    let name = format!("{algorithm:?} {}", jwk.to_json());
    KEYS.with(|keys| Arc::clone(keys.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default()))
}

impl Verifier<Vec<u8>> for Remembered {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), Error> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = answers.get(message).and_then(|seen| seen.iter().find(|(of, _)| of == signature));
        let good = match known {
            Some((_, good)) => *good,
            None => {
                let good = self.verifier.verify(message, signature).is_ok();
                if answers.len() >= MESSAGES_MAX {
                    answers.clear();
                }
                answers.entry(message.into()).or_default().push((signature.clone(), good));
                good
            }
        };
        good.then_some(()).ok_or_else(Error::new)
    }
}

impl JwtVerifier for Remembered {
    fn algorithm(&self) -> Algorithm {
        self.verifier.algorithm()
    }
}

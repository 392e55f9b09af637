//! Vectors against the library as an application embeds it: the attack corpus, and what a key may cost. Those of others
//! are elsewhere: Wycheproof's beside the verifier, JSONTestSuite and the Autobahn cases in `tests/vectors/run`.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on has failed its test, and says where")]

mod attacks;
mod cost;
mod keys;
mod receiver;
mod recipe;

//! What this machine's cryptography alone can do, on all cores: the limit that the bench compares with.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};

use crate::cli::Error;
use crate::cpu;
use crate::set::Algorithm;

/// Distinct messages: a single one is learnt by heart by the processor's branch prediction, and looks cheaper than it is.
const MESSAGES: usize = 256;

/// The bare operations, with keys that are kept.
enum Keys {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(Box<RsaKeyPair>),
}

/// Keys and signed messages of the size of SETs.
pub(super) struct Bench {
    keys: Keys,
    public: ParsedPublicKey,
    signed: Vec<(Vec<u8>, Vec<u8>)>,
    /// SETs are only verified.
    relayed: bool,
}

/// What was found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bound {
    /// SETs a second on all cores.
    pub(super) sets: f64,
    /// CPU microseconds of one signature, and of one verification.
    pub(super) sign: f64,
    pub(super) verify: f64,
}

impl Bound {
    /// The mean of two measurements.
    pub(super) fn mean(self, other: Self) -> Self {
        let mean = |a: f64, b: f64| f64::midpoint(a, b);
        Self {
            sets: mean(self.sets, other.sets),
            sign: mean(self.sign, other.sign),
            verify: mean(self.verify, other.verify),
        }
    }

    pub(super) fn to_json(self) -> Value {
        json!({ "sets_per_s": self.sets.round(), "sign_us": round(self.sign), "verify_us": round(self.verify) })
    }
}

fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

impl Bench {
    /// Prepares it; `relayed` leaves signing out. `bytes` is the length of what is signed.
    pub(super) fn new(algorithm: Algorithm, bytes: usize, relayed: bool) -> Result<Arc<Self>, Error> {
        let failed = |_| Error::failed("the cryptographic library cannot make a key");
        let (keys, public) = match algorithm {
            Algorithm::EdDsa => {
                let key = Ed25519KeyPair::generate().map_err(failed)?;
                let public = ParsedPublicKey::new(&ED25519, key.public_key().as_ref());
                (Keys::EdDsa(key), public)
            }
            Algorithm::Rs256 => {
                let key = RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
                let public = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref());
                (Keys::Rs256(Box::new(key)), public)
            }
            _ => {
                let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?;
                let public = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public_key().as_ref());
                (Keys::Es256(key), public)
            }
        };
        let public = public.map_err(|_| Error::failed("the cryptographic library cannot read its own key"))?;
        let mut bench = Self { keys, public, signed: Vec::new(), relayed };
        for number in 0..MESSAGES {
            let message: Vec<u8> = number.to_string().bytes().cycle().take(bytes).collect();
            let signature =
                bench.sign(&message).ok_or_else(|| Error::failed("the cryptographic library cannot sign"))?;
            bench.signed.push((message, signature));
        }
        Ok(Arc::new(bench))
    }

    /// Measures for so long, on as many threads as there are cores. Blocks.
    pub(super) fn measure(self: &Arc<Self>, time: Duration) -> Bound {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let (go, stop) = (Arc::new(std::sync::Barrier::new(cores + 1)), Arc::new(AtomicBool::new(false)));
        let threads: Vec<_> = (0..cores)
            .map(|_| {
                let (bench, go, stop) = (Arc::clone(self), Arc::clone(&go), Arc::clone(&stop));
                std::thread::spawn(move || {
                    go.wait();
                    bench.work(&stop)
                })
            })
            .collect();
        go.wait();
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        let worked: Vec<Worked> = threads.into_iter().filter_map(|thread| thread.join().ok()).collect();
        let sets: u64 = worked.iter().map(|worked| worked.sets).sum();
        let each = |part: fn(&Worked) -> Duration| {
            worked.iter().map(|worked| part(worked).as_secs_f64()).sum::<f64>() * 1e6 / (sets.max(1) as f64)
        };
        // Each by its own time: one that ends sooner has not been idle.
        let rate = worked.iter().map(|worked| worked.sets as f64 / worked.took.as_secs_f64().max(1e-9)).sum();
        Bound { sets: rate, sign: each(|worked| worked.signing), verify: each(|worked| worked.verifying) }
    }

    fn work(&self, stop: &AtomicBool) -> Worked {
        let (started, mut worked) = (tokio::time::Instant::now(), Worked::default());
        while !stop.load(Ordering::Relaxed) {
            // By the hundred, so that reading the clock costs nothing.
            let start = cpu::thread_cpu();
            if !self.relayed {
                for (message, _) in &self.signed {
                    std::hint::black_box(self.sign(std::hint::black_box(message)));
                }
            }
            let signed = cpu::thread_cpu();
            for (message, signature) in &self.signed {
                let _ = std::hint::black_box(self.public.verify_sig(std::hint::black_box(message), signature));
            }
            worked.signing += signed.saturating_sub(start);
            worked.verifying += cpu::thread_cpu().saturating_sub(signed);
            worked.sets += MESSAGES as u64;
        }
        worked.took = started.elapsed();
        worked
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let rng = SystemRandom::new();
        match &self.keys {
            Keys::Es256(key) => key.sign(&rng, message).ok().map(|signature| signature.as_ref().to_vec()),
            Keys::EdDsa(key) => key.try_sign(message).ok().map(|signature| signature.as_ref().to_vec()),
            Keys::Rs256(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &rng, message, &mut signature).ok().map(|()| signature)
            }
        }
    }
}

#[derive(Default)]
struct Worked {
    sets: u64,
    took: Duration,
    signing: Duration,
    verifying: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_are_signatures_that_hold() {
        for algorithm in [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256] {
            let bench = Bench::new(algorithm, 900, false).unwrap();
            assert!(
                bench.signed.iter().all(|(message, signature)| bench.public.verify_sig(message, signature).is_ok())
            );
            assert!(bench.public.verify_sig(&bench.signed[0].0, &bench.signed[1].1).is_err());
            let bound = bench.measure(Duration::from_millis(300));
            assert!(bound.sets > 0.0 && bound.sign > 0.0 && bound.verify > 0.0, "{bound:?}");
        }
        let relayed = Bench::new(Algorithm::EdDsa, 900, true).unwrap().measure(Duration::from_millis(50));
        assert!(relayed.sign < relayed.verify / 10.0, "{relayed:?}");
    }
}

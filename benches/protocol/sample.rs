//! The SETs that are measured: all different, of the size that a CAEP event has in practice (668 bytes of claims).

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use pushpull::clock::{Timestamp, Wall};
use pushpull::set::{Algorithm, Defaults, Draft, Jti, Policy, Profile, SignedSet, SigningKey, complete, events};
use serde_json::{Map, Value, json};

/// So many different SETs are taken in turn.
pub(crate) const SETS: usize = 256;

pub(crate) const ALGORITHMS: [Algorithm; 3] = [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256];

const AT: Wall = Wall(1_700_000_000_000);
pub(crate) const NOW: Timestamp = Timestamp { mono: Duration::ZERO, wall: AT, shown: AT, suspect: false };

pub(crate) const DEFAULTS: Defaults<'static> = Defaults {
    issuer: "https://transmitter.example.com",
    audience: "https://receiver.example.com",
    now: AT,
    jti_bytes_max: 512,
};

pub(crate) fn policy() -> Policy {
    Policy {
        issuer: DEFAULTS.issuer.to_owned(),
        audience: DEFAULTS.audience.to_owned(),
        accept: events::Filter::all(),
        jti_bytes_max: DEFAULTS.jti_bytes_max,
        set_bytes_max: 256 << 10,
        profile: Profile::Ssf,
    }
}

/// One event, with a complex subject.
pub(crate) fn draft(n: usize) -> Draft {
    let event = json!({
        "event_timestamp": 1_700_000_000 - n,
        "initiating_entity": "policy",
        "reason_admin": {"en": format!("Landspeed policy violated: C{n:06}")},
        "reason_user": {"en": "Access attempt from multiple regions."},
    });
    let sub_id = json!({
        "format": "complex",
        "user": {"format": "iss_sub", "iss": DEFAULTS.issuer, "sub": format!("user-{n:08}")},
        "device": {"format": "opaque", "id": format!("device-{n:08}")},
    });
    Draft {
        event_type: "caep:session-revoked".to_owned(),
        sub_id,
        event: if let Value::Object(event) = event { event } else { Map::new() },
        ..Draft::default()
    }
}

/// What is signed in the end when a draft is.
pub(crate) fn claims(draft: &Draft) -> Map<String, Value> {
    complete(draft.clone().into_claims().expect("a known type"), DEFAULTS).expect("complete claims").1
}

/// What the signature of a SET covers.
pub(crate) fn message(set: &SignedSet) -> String {
    set.compact.rsplit_once('.').expect("a compact JWS").0.to_owned()
}

/// The same, and the signature.
pub(crate) fn parts(set: &SignedSet) -> (String, Vec<u8>) {
    let (message, signature) = set.compact.rsplit_once('.').expect("a compact JWS");
    (message.to_owned(), URL_SAFE_NO_PAD.decode(signature).expect("base64url"))
}

/// SETs that only look like some, for what does not ask.
pub(crate) fn unsigned(count: usize) -> Vec<SignedSet> {
    let made = |n| {
        let compact: Arc<str> = format!("{n:08}{}", "x".repeat(1049)).into();
        SignedSet { jti: Jti::new(), compact, digest: Default::default(), label: "other", reissue_of: None }
    };
    (0..count).map(made).collect()
}

/// A key of ours, and the same in the hands of AWS-LC alone.
pub(crate) fn key(algorithm: Algorithm) -> (SigningKey, Bare) {
    let (key, pem) = SigningKey::generate(algorithm, "key-2026-01").expect("a key");
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(body).expect("base64");
    let (pair, public) = match algorithm {
        Algorithm::Es256 => {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).expect("a key");
            let public = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref());
            (Pair::Es256(pair), public)
        }
        Algorithm::EdDsa => {
            let pair = Ed25519KeyPair::from_pkcs8(&der).expect("a key");
            let public = ParsedPublicKey::new(&ED25519, pair.public_key().as_ref());
            (Pair::EdDsa(pair), public)
        }
        _ => {
            let pair = RsaKeyPair::from_pkcs8(&der).expect("a key");
            let public = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref());
            (Pair::Rs256(pair), public)
        }
    };
    (key, Bare { pair, public: public.expect("a key") })
}

/// Signs and verifies, and nothing else.
pub(crate) struct Bare {
    pair: Pair,
    public: ParsedPublicKey,
}

enum Pair {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(RsaKeyPair),
}

impl Bare {
    /// The first byte of the signature, so that there is something to look at.
    pub(crate) fn sign(&self, message: &[u8]) -> u8 {
        let rng = SystemRandom::new();
        match &self.pair {
            Pair::Es256(pair) => pair.sign(&rng, message).expect("a signature").as_ref()[0],
            Pair::EdDsa(pair) => pair.sign(message).as_ref()[0],
            Pair::Rs256(pair) => {
                let mut signature = [0; 256];
                pair.sign(&RSA_PKCS1_SHA256, &rng, message, &mut signature).expect("a signature");
                signature[0]
            }
        }
    }

    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.public.verify_sig(message, signature).is_ok()
    }
}

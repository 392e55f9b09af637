//! The keys of the attack corpus, made anew in each run: those the partner publishes, good and bad, and those it does not.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P256K1_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaKeyPair,
};
use aws_lc_rs::{hmac, rand::SystemRandom, signature as rsa};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// Base64url without padding.
pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What signs by a key.
pub(crate) enum Signer {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
    /// A modulus of so many bytes whose exponent is 1: everybody can sign, for the padded hash is the signature.
    Unit(usize),
    Secret(Vec<u8>),
    /// Nobody has the private half, which need not exist.
    Nobody,
}

pub(crate) struct Key {
    pub(crate) kid: String,
    /// What its tokens say that their algorithm is.
    pub(crate) alg: &'static str,
    pub(crate) jwk: Value,
    pub(crate) signer: Signer,
    published: bool,
}

/// All keys, by the kid under which they are published.
pub(crate) struct Keys(Vec<Key>);

impl Keys {
    pub(crate) fn new() -> Self {
        let mut keys = Self(Vec::new());
        keys.sound();
        keys.for_other_purposes();
        keys.weak();
        keys.deformed();
        // Known to nobody here, or to be known by somebody else's name only.
        for kid in ["stranger", "other-partner"] {
            let (jwk, signer) = ec(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256", 32);
            keys.add(kid, "ES256", jwk, signer);
            keys.0.last_mut().unwrap().published = false;
        }
        keys
    }

    /// What the partner publishes.
    pub(crate) fn jwks(&self) -> String {
        let published: Vec<&Value> = self.0.iter().filter(|key| key.published).map(|key| &key.jwk).collect();
        json!({"keys": published}).to_string()
    }

    pub(crate) fn of(&self, kid: &str) -> &Key {
        self.0.iter().find(|key| key.kid == kid).unwrap_or_else(|| panic!("there is no key {kid}"))
    }

    fn add(&mut self, kid: &str, alg: &'static str, mut jwk: Value, signer: Signer) {
        jwk["kid"] = kid.into();
        self.0.push(Key { kid: kid.to_owned(), alg, jwk, signer, published: true });
    }

    fn add_with(&mut self, kid: &str, alg: &'static str, (mut jwk, signer): (Value, Signer), more: Value) {
        jwk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.add(kid, alg, jwk, signer);
    }

    fn sound(&mut self) {
        self.add_with("es", "ES256", p256(), json!({"alg": "ES256", "use": "sig"}));
        self.add_with("p384", "ES384", ec(&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384", 48), json!({}));
        self.add_with("ed", "EdDSA", ed25519(), json!({"key_ops": ["verify"]}));
        let (jwk, pair) = rsa_2048();
        self.add_with("rs", "RS256", (jwk, Signer::Rsa(pair)), json!({"alg": "RS256"}));
        let (jwk, pair) = rsa_2048();
        self.add_with("ps", "PS256", (jwk, Signer::Rsa(pair)), json!({"alg": "PS256"}));
        let (jwk, pair) = rsa_2048();
        self.add("any", "RS256", jwk, Signer::Rsa(pair));
    }

    /// Each would verify what it signs, were it not for what it says about itself.
    fn for_other_purposes(&mut self) {
        self.add_with("enc", "ES256", p256(), json!({"use": "enc"}));
        self.add_with("ops-sign", "ES256", p256(), json!({"key_ops": ["sign"]}));
        self.add_with("ops-none", "ES256", p256(), json!({"key_ops": []}));
        self.add_with("ops-text", "ES256", p256(), json!({"key_ops": "verify"}));
        self.add_with("alg-of-rsa", "ES256", p256(), json!({"alg": "RS256"}));
        self.add_with("alg-of-ecdh", "ES256", p256(), json!({"alg": "ECDH-ES"}));
        self.add_with("alg-none", "ES256", p256(), json!({"alg": "none"}));
        self.add_with("private", "ES256", p256(), json!({"d": "AAAA"}));
        self.add_with("k256", "ES256", ec(&ECDSA_P256K1_SHA256_FIXED_SIGNING, "secp256k1", 32), json!({}));
        self.add_with("k256-disguised", "ES256", ec(&ECDSA_P256K1_SHA256_FIXED_SIGNING, "P-256", 32), json!({}));
        self.add_with("p521", "ES512", ec(&ECDSA_P521_SHA512_FIXED_SIGNING, "P-521", 66), json!({}));
        self.add_with("x25519", "EdDSA", ed25519(), json!({"crv": "X25519"}));
        let secret = b"a secret that both know, they say".to_vec();
        self.add("oct", "HS256", json!({"kty": "oct", "alg": "HS256", "k": encode(&secret)}), Signer::Secret(secret));
        // The second one of its name does not count.
        self.add_with("twice", "ES256", p256(), json!({"x5c": []}));
        self.0.last_mut().unwrap().kid = "twice-first".to_owned();
        self.add_with("twice", "ES256", p256(), json!({}));
    }

    fn weak(&mut self) {
        let unit = |bytes: usize| json!({"kty": "RSA", "n": encode(&vec![0xff; bytes]), "e": encode(&[1])});
        self.add("unit", "RS256", unit(256), Signer::Unit(256));
        self.add("rsa-1024", "RS256", unit(128), Signer::Unit(128));
        self.add("rsa-16384", "RS256", unit(2048), Signer::Unit(2048));
        let modulus = |n: &[u8], e: &[u8]| json!({"kty": "RSA", "n": encode(n), "e": encode(e)});
        self.add("rsa-2047", "RS256", modulus(&[&[0x7f], &[0xff; 255][..]].concat(), &[1, 0, 1]), Signer::Nobody);
        self.add("rsa-even", "RS256", modulus(&[&[0xff; 255][..], &[0xfe]].concat(), &[1, 0, 1]), Signer::Nobody);
        self.add("rsa-slow", "RS256", modulus(&[0xff; 256], &[0xff; 256]), Signer::Nobody);
        self.add("rsa-8192", "RS256", modulus(&[0xff; 1024], &[1, 0, 0, 0, 1]), Signer::Nobody);
    }

    fn deformed(&mut self) {
        let point = |x: &[u8], y: &[u8]| json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)});
        self.add("off-curve", "ES256", point(&[1; 32], &[2; 32]), Signer::Nobody);
        self.add("infinity", "ES256", point(&[0; 32], &[0; 32]), Signer::Nobody);
        self.add("short-x", "ES256", point(&[1; 31], &[2; 32]), Signer::Nobody);
        let (jwk, signer) = p256();
        let padded = format!("{}=", jwk["x"].as_str().unwrap());
        self.add_with("padded", "ES256", (jwk, signer), json!({"x": padded}));
        // A point of order one: with it everything verifies where cofactors are not minded.
        let identity = [&[1], &[0; 31][..]].concat();
        self.add(
            "ed-identity",
            "EdDSA",
            json!({"kty": "OKP", "crv": "Ed25519", "x": encode(&identity)}),
            Signer::Nobody,
        );
    }
}

fn p256() -> (Value, Signer) {
    ec(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256", 32)
}

fn ec(algorithm: &'static EcdsaSigningAlgorithm, crv: &str, len: usize) -> (Value, Signer) {
    let pair = EcdsaKeyPair::generate(algorithm).unwrap();
    let (x, y) = pair.public_key().as_ref()[1..].split_at(len);
    let jwk = json!({"kty": "EC", "crv": crv, "x": encode(x), "y": encode(y)});
    (jwk, Signer::Ecdsa(pair))
}

fn ed25519() -> (Value, Signer) {
    let pair = Ed25519KeyPair::generate().unwrap();
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())});
    (jwk, Signer::Ed25519(pair))
}

fn rsa_2048() -> (Value, RsaKeyPair) {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let public = pair.public_key();
    let (n, e) = (public.modulus(), public.exponent());
    let jwk = json!({
        "kty": "RSA", "n": encode(n.big_endian_without_leading_zero()), "e": encode(e.big_endian_without_leading_zero())
    });
    (jwk, pair)
}

impl Key {
    /// The honest signature by its own algorithm, or what comes nearest to one.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.signer {
            Signer::Ecdsa(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Signer::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Signer::Rsa(_) if self.alg == "PS256" => self.sign_rsa(&rsa::RSA_PSS_SHA256, message),
            Signer::Rsa(_) => self.sign_rsa(&rsa::RSA_PKCS1_SHA256, message),
            Signer::Unit(len) => padded(message, *len),
            Signer::Secret(secret) => mac(secret, message),
            Signer::Nobody if self.jwk["kty"] == "EC" => [[1; 32], [1; 32]].concat(),
            // S = 0 and R the identity fit every message under the identity as key.
            Signer::Nobody if self.jwk["kty"] == "OKP" => [&[1], &[0; 63][..]].concat(),
            Signer::Nobody => padded(message, self.jwk["n"].as_str().unwrap().len() * 3 / 4),
        }
    }

    /// A signature by another padding or hash than its own.
    pub(crate) fn sign_rsa(&self, encoding: &'static dyn rsa::RsaEncoding, message: &[u8]) -> Vec<u8> {
        let Signer::Rsa(pair) = &self.signer else { panic!("{} is no RSA key", self.kid) };
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    }

    /// Its public half as others write it down: SubjectPublicKeyInfo.
    pub(crate) fn der(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = match &self.signer {
            Signer::Rsa(pair) => pair.public_key().as_der().unwrap(),
            Signer::Ecdsa(pair) => pair.public_key().as_der().unwrap(),
            _ => panic!("{} is never written in DER", self.kid),
        };
        der.as_ref().to_vec()
    }

    /// The same in PEM.
    pub(crate) fn pem(&self) -> String {
        let text = base64::engine::general_purpose::STANDARD.encode(self.der());
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }
}

/// HMAC with SHA-256.
pub(crate) fn mac(secret: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
}

/// The hash as PKCS #1 v1.5 pads it (RFC 8017 §9.2).
fn padded(message: &[u8], len: usize) -> Vec<u8> {
    const SHA256: [u8; 19] = [
        0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04,
        0x20,
    ];
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, message);
    let tail = [&[0], SHA256.as_slice(), hash.as_ref()].concat();
    [&[0, 1], vec![0xff; len - 2 - tail.len()].as_slice(), &tail].concat()
}

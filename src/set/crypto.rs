//! Parsed keys, ready to sign and to verify. jsonwebtoken's own implementations parse the key again at every call, which
//! costs as much as the signature itself, and its traits want each signature in a vector of its own: [`KeptVerifier`] has
//! them for whoever wraps it.

use aws_lc_rs::digest::{Context, Digest as Sha256, SHA256};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, ParsedPublicKey, RSA_PKCS1_SHA256, RsaKeyPair};
use jsonwebtoken::crypto::JwtVerifier;
use jsonwebtoken::signature::Error;

use super::{Algorithm, Digest, base64url};

/// Makes AWS-LC the cryptography of jsonwebtoken in this process. May be called any number of times.
pub fn install_crypto() {
    // An error means that a provider is installed already, by an earlier call or by the program around us.
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}

/// A verifier of jsonwebtoken's kind.
pub(super) type BoxedVerifier = Box<dyn JwtVerifier + Send + Sync>;

/// What the signature of a token covers: all of it but the end. Most algorithms sign a SHA-256 of it, which is then also the
/// beginning of the token's own digest.
pub(super) struct Covered<'t> {
    message: &'t [u8],
    hashing: Option<(Context, Sha256)>,
}

impl<'t> Covered<'t> {
    pub(super) fn new(message: &'t [u8]) -> Self {
        Self { message, hashing: None }
    }

    /// A signature by this algorithm is about to be looked at.
    pub(super) fn prepare(&mut self, algorithm: Algorithm) {
        if matches!(algorithm, Algorithm::Es256 | Algorithm::Rs256 | Algorithm::Ps256) {
            let mut context = Context::new(&SHA256);
            context.update(self.message);
            let digest = context.clone().finish();
            self.hashing = Some((context, digest));
        }
    }

    /// The digest of the token that begins so.
    pub(super) fn digest_of(self, token: &[u8]) -> Digest {
        match (self.hashing, token.strip_prefix(self.message)) {
            (Some((mut context, _)), Some(rest)) => {
                context.update(rest);
                Digest::short(&context.finish())
            }
            _ => Digest::of(token),
        }
    }
}

/// Verifies signatures of one key by one algorithm.
pub(super) enum Verifier {
    /// Our own.
    Kept(KeptVerifier),
    /// Something that was put around it ([`super::KeySet::wrap`]).
    Wrapped(BoxedVerifier),
}

impl Verifier {
    pub(super) fn verifies(&self, covered: &Covered<'_>, signature: &[u8]) -> bool {
        match (self, &covered.hashing) {
            // Of a key for another algorithm this fails.
            (Self::Kept(kept), Some((_, digest))) => kept.key.verify_digest_sig(digest, signature).is_ok(),
            (Self::Kept(kept), None) => kept.verifies(covered.message, signature),
            (Self::Wrapped(other), _) => other.verify(covered.message, &signature.to_vec()).is_ok(),
        }
    }

    pub(super) fn boxed(self) -> BoxedVerifier {
        match self {
            Self::Kept(kept) => {
                install_crypto();
                Box::new(kept)
            }
            Self::Wrapped(other) => other,
        }
    }
}

/// A public key for one algorithm, ready to verify on any thread.
pub(super) struct KeptVerifier {
    pub(super) algorithm: Algorithm,
    pub(super) key: ParsedPublicKey,
}

impl KeptVerifier {
    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }
}

impl jsonwebtoken::signature::Verifier<Vec<u8>> for KeptVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), Error> {
        self.verifies(message, signature).then_some(()).ok_or_else(Error::new)
    }
}

impl JwtVerifier for KeptVerifier {
    fn algorithm(&self) -> jsonwebtoken::Algorithm {
        jwt(self.algorithm)
    }
}

/// A private key for the one algorithm that it signs with, ready to sign on any thread.
pub(super) enum KeptSigner {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(RsaKeyPair),
}

/// AWS-LC made no signature.
pub(super) struct Unsigned;

impl KeptSigner {
    pub(super) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Es256(_) => Algorithm::Es256,
            Self::EdDsa(_) => Algorithm::EdDsa,
            Self::Rs256(_) => Algorithm::Rs256,
        }
    }

    /// How many bytes its signature takes in a compact JWS, the dot included.
    pub(super) fn encoded_len(&self) -> usize {
        let octets = match self {
            Self::Es256(_) | Self::EdDsa(_) => 64,
            Self::Rs256(key) => key.public_modulus_len(),
        };
        base64url::encoded_len(octets) + 1
    }

    /// Appends to what is to be signed (RFC 7515 §5.1) the dot and the signature over all before it.
    pub(super) fn sign(&self, compact: &mut Vec<u8>) -> Result<(), Unsigned> {
        let message = &compact[..];
        match self {
            Self::Es256(key) => {
                let signature = key.sign(&SystemRandom::new(), message).map_err(|_| Unsigned)?;
                append(compact, signature.as_ref());
            }
            Self::EdDsa(key) => {
                let signature = key.try_sign(message).map_err(|_| Unsigned)?;
                append(compact, signature.as_ref());
            }
            Self::Rs256(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).map_err(|_| Unsigned)?;
                append(compact, &signature);
            }
        }
        Ok(())
    }
}

fn append(compact: &mut Vec<u8>, signature: &[u8]) {
    compact.push(b'.');
    base64url::encode_into(signature, compact);
}

fn jwt(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    match algorithm {
        Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::Es384 => jsonwebtoken::Algorithm::ES384,
        Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::Ps256 => jsonwebtoken::Algorithm::PS256,
    }
}

//! Parsed keys, kept behind jsonwebtoken's signer and verifier traits.
//!
//! jsonwebtoken's own implementations parse the key again at every call, which costs as much as the signature itself.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, ParsedPublicKey, RSA_PKCS1_SHA256, RsaKeyPair};
use jsonwebtoken::crypto::{JwtSigner, JwtVerifier};
use jsonwebtoken::signature::{Error, Signer, Verifier};

use super::Algorithm;

/// Makes AWS-LC the cryptography of jsonwebtoken in this process. May be called any number of times.
pub fn install_crypto() {
    // An error means that a provider is installed already, by an earlier call or by the program around us.
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}

/// A public key for one algorithm, ready to verify on any thread.
pub(super) struct KeptVerifier {
    pub(super) algorithm: Algorithm,
    pub(super) key: ParsedPublicKey,
}

impl KeptVerifier {
    pub(super) fn boxed(self) -> Box<dyn JwtVerifier + Send + Sync> {
        install_crypto();
        Box::new(self)
    }
}

impl Verifier<Vec<u8>> for KeptVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), Error> {
        self.key.verify_sig(message, signature).map_err(|_| Error::new())
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

impl KeptSigner {
    pub(super) fn boxed(self) -> Box<dyn JwtSigner + Send + Sync> {
        install_crypto();
        Box::new(self)
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Es256(_) => Algorithm::Es256,
            Self::EdDsa(_) => Algorithm::EdDsa,
            Self::Rs256(_) => Algorithm::Rs256,
        }
    }
}

impl Signer<Vec<u8>> for KeptSigner {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let rng = SystemRandom::new();
        match self {
            Self::Es256(key) => Ok(key.sign(&rng, message).map_err(|_| Error::new())?.as_ref().to_vec()),
            Self::EdDsa(key) => Ok(key.try_sign(message).map_err(|_| Error::new())?.as_ref().to_vec()),
            Self::Rs256(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &rng, message, &mut signature).map_err(|_| Error::new())?;
                Ok(signature)
            }
        }
    }
}

impl JwtSigner for KeptSigner {
    fn algorithm(&self) -> jsonwebtoken::Algorithm {
        jwt(self.algorithm())
    }
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

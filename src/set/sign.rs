//! Our signing keys: read or made, kept parsed, and used to sign SETs.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::crypto::KeptSigner;
use super::jwk::{Curve, Jwk, Material};
use super::{Algorithm, base64url, pem};

/// One of our private keys. Signs on any thread; shows nothing of the secret.
pub struct SigningKey {
    kid: String,
    algorithm: Algorithm,
    jwk: Jwk,
    /// The header of every SET it signs, encoded, with the dot behind it.
    header: String,
    signer: KeptSigner,
}

/// Why a signing key cannot be had or used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is no PEM text, or it is cut or damaged.
    #[error("not a PEM file with a private key: expected -----BEGIN PRIVATE KEY----- and base64 up to its END line")]
    NotPem,
    /// The file holds a certificate or a public key.
    #[error("the PEM file holds no private key, only public parts: give the file that was made with it")]
    NotPrivate,
    /// There is more than one private key.
    #[error("the PEM file holds several private keys: keep each in a file of its own, whose name is its kid")]
    Several,
    /// A private key, but not in plain PKCS#8.
    #[error("{0} was found, expected plain PKCS#8: convert it with `openssl pkey -in OLD.pem -out NEW.pem`")]
    Convert(&'static str),
    /// A kind of key that does not sign SETs.
    #[error(
        "{0} was found, expected EC P-256, Ed25519 or RSA from 2048 bits: make one with `openssl genpkey -algorithm EC \
         -pkeyopt ec_paramgen_curve:P-256 -out KID.pem`"
    )]
    Kind(&'static str),
    /// The right kind, but it does not parse, is inconsistent or too weak.
    #[error("the {kind} key is not acceptable ({reason}): expected a valid one, RSA with 2048 to 8192 bits")]
    Rejected {
        /// What kind of key it is.
        kind: &'static str,
        /// What AWS-LC says of it.
        reason: String,
    },
    /// The `kid` cannot be used.
    #[error("the kid is empty, longer than 200 bytes, or has control characters: name the key otherwise")]
    Kid,
    /// We verify with this algorithm, but do not sign with it.
    #[error("no SETs are signed with {0}: expected ES256, EdDSA or RS256")]
    Algorithm(Algorithm),
    /// The cryptographic library failed.
    #[error("AWS-LC failed to make a key or a signature")]
    Failed,
}

impl SigningKey {
    /// Reads a private key: PEM, PKCS#8, not encrypted. Its kind decides the algorithm: EC P-256 signs ES256, Ed25519
    /// EdDSA, RSA RS256.
    pub fn from_pem(kid: &str, pem: &str) -> Result<Self, KeyError> {
        Self::from_pkcs8(kid, &pem::read(pem)?)
    }

    /// Makes a new key (RSA: 2048 bits, which may take a second), and the PEM text to keep it by. The text is a
    /// secret: it wipes itself from memory, and belongs into a file with mode 0600.
    pub fn generate(algorithm: Algorithm, kid: &str) -> Result<(Self, Zeroizing<String>), KeyError> {
        let pem = match algorithm {
            Algorithm::Es256 => {
                let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| KeyError::Failed)?;
                pem::write(key.to_pkcs8v1().map_err(|_| KeyError::Failed)?.as_ref())
            }
            Algorithm::EdDsa => {
                let key = Ed25519KeyPair::generate().map_err(|_| KeyError::Failed)?;
                pem::write(key.to_pkcs8v1().map_err(|_| KeyError::Failed)?.as_ref())
            }
            Algorithm::Rs256 => {
                let key = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyError::Failed)?;
                let der: Pkcs8V1Der<'_> = key.as_der().map_err(|_| KeyError::Failed)?;
                pem::write(der.as_ref())
            }
            Algorithm::Es384 | Algorithm::Ps256 => return Err(KeyError::Algorithm(algorithm)),
        };
        // Reading back what will be kept proves that it can be read.
        Ok((Self::from_pem(kid, &pem)?, pem))
    }

    /// Its name, in the header of every SET and in `/jwks.json`.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// What it signs with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public half, to be published before the first SET is signed.
    pub fn public_jwk(&self) -> Jwk {
        self.jwk.clone()
    }

    /// Signs these claims as they are: a compact JWS with `typ`, `alg` and `kid` (RFC 8417 §2.3, RFC 7515 §3.1).
    ///
    /// Takes 15 to 400 µs by algorithm; belongs on a thread for computing when there are many.
    pub fn sign(&self, claims: &Map<String, Value>) -> Result<Arc<str>, KeyError> {
        self.sign_text(&serde_json::to_vec(claims).map_err(|_| KeyError::Failed)?)
    }

    /// The same for claims that are written already.
    pub(super) fn sign_text(&self, claims: &[u8]) -> Result<Arc<str>, KeyError> {
        SCRATCH.with_borrow_mut(|compact| {
            compact.clear();
            compact.shrink_to(SCRATCH_MAX);
            compact.reserve(self.header.len() + base64url::encoded_len(claims.len()) + self.signer.encoded_len());
            compact.extend_from_slice(self.header.as_bytes());
            base64url::encode_into(claims, compact);
            self.signer.sign(compact).map_err(|_| KeyError::Failed)?;
            std::str::from_utf8(compact).map(Arc::from).map_err(|_| KeyError::Failed)
        })
    }

    fn from_pkcs8(kid: &str, der: &[u8]) -> Result<Self, KeyError> {
        if kid.is_empty() || kid.len() > 200 || kid.chars().any(char::is_control) {
            return Err(KeyError::Kid);
        }
        let (signer, material) = parse(der)?;
        let algorithm = signer.algorithm();
        let header = json!({"typ": "secevent+jwt", "alg": algorithm.as_str(), "kid": kid}).to_string();
        let mut encoded = base64url::encode(header.as_bytes());
        encoded.push('.');
        let jwk = Jwk::new(kid, only(algorithm), material);
        Ok(Self { kid: kid.to_owned(), algorithm, jwk, header: encoded, signer })
    }
}

thread_local! {
    /// Where a SET is put together before it has its place for good, which has to be made to measure: a piece of memory of this
    /// size costs much more to get and to give back than to keep.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// So much room is kept for the next one.
const SCRATCH_MAX: usize = 16 << 10;

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// Object identifiers of PKCS#8's `privateKeyAlgorithm`, as DER has them.
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

fn parse(der: &[u8]) -> Result<(KeptSigner, Material), KeyError> {
    // The identifier stands within the first bytes, before anything secret. This only chooses the parser and the
    // message; AWS-LC then reads the document properly.
    let start = der.get(..der.len().min(32)).unwrap_or_default();
    let names = |identifier: &[u8]| start.windows(identifier.len()).any(|window| window == identifier);
    if names(EC) && names(P256) {
        ec(der)
    } else if names(EC) {
        Err(KeyError::Kind("an EC key on another curve"))
    } else if names(ED25519) {
        ed25519(der)
    } else if names(RSA) {
        rsa(der)
    } else {
        Err(KeyError::Kind("another kind of key"))
    }
}

fn ec(der: &[u8]) -> Result<(KeptSigner, Material), KeyError> {
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map_err(rejected("EC"))?;
    // An uncompressed point: 4, x, y (SEC 1 §2.3.3).
    let [4, coordinates @ ..] = key.public_key().as_ref() else { return Err(KeyError::Failed) };
    let (x, y) = coordinates.split_at_checked(32).ok_or(KeyError::Failed)?;
    let material = Material::Ec { curve: Curve::P256, x: x.to_vec(), y: y.to_vec() };
    Ok((KeptSigner::Es256(key), material))
}

fn ed25519(der: &[u8]) -> Result<(KeptSigner, Material), KeyError> {
    let key = Ed25519KeyPair::from_pkcs8(der).map_err(rejected("Ed25519"))?;
    let material = Material::Ed25519 { x: key.public_key().as_ref().to_vec() };
    Ok((KeptSigner::EdDsa(key), material))
}

fn rsa(der: &[u8]) -> Result<(KeptSigner, Material), KeyError> {
    let key = RsaKeyPair::from_pkcs8(der).map_err(rejected("RSA"))?;
    let RsaPublicKeyComponents { n, e } = RsaPublicKeyComponents::<Vec<u8>>::from(key.public_key());
    Ok((KeptSigner::Rs256(key), Material::Rsa { n, e }))
}

fn rejected(kind: &'static str) -> impl Fn(aws_lc_rs::error::KeyRejected) -> KeyError {
    move |reason| KeyError::Rejected { kind, reason: reason.to_string() }
}

fn only(algorithm: Algorithm) -> &'static [Algorithm] {
    match algorithm {
        Algorithm::Es256 => &[Algorithm::Es256],
        Algorithm::Es384 => &[Algorithm::Es384],
        Algorithm::EdDsa => &[Algorithm::EdDsa],
        Algorithm::Rs256 => &[Algorithm::Rs256],
        Algorithm::Ps256 => &[Algorithm::Ps256],
    }
}

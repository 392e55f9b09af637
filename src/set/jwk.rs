//! One public key in its JSON form (RFC 7517), for what partners publish and for what we publish.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents, VerificationAlgorithm,
};
use serde_json::{Map, Value, json};

use super::crypto::KeptVerifier;
use super::refusal::quote;
use super::{Algorithm, base64url, json};

/// A public key that can verify SETs: of a supported kind, of sufficient strength, meant for signatures.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Jwk {
    kid: Option<String>,
    algorithms: &'static [Algorithm],
    material: Material,
}

/// The numbers that make the key, big-endian.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Material {
    Ec { curve: Curve, x: Vec<u8>, y: Vec<u8> },
    Ed25519 { x: Vec<u8> },
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

/// A supported elliptic curve of ECDSA.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Curve {
    P256,
    P384,
}

impl Jwk {
    /// Reads one member of a JWK Set. The error is the reason why the key cannot be used, for an operator to read.
    ///
    /// An RSA key without `alg` verifies both RS256 and PS256; with `alg` it verifies that one alone.
    pub fn from_json(jwk: &Map<String, Value>) -> Result<Self, String> {
        let kid = text(jwk, "kid")?.map(str::to_owned);
        check_purpose(jwk)?;
        let material = match text(jwk, "kty")? {
            Some("EC") => ec(jwk)?,
            Some("OKP") => okp(jwk)?,
            Some("RSA") => rsa(jwk)?,
            Some("oct") => return Err("`kty` is oct: a shared secret cannot prove who signed".into()),
            Some(other) => return Err(format!("`kty` {} is not supported", quote(other))),
            None => return Err("`kty` is missing".into()),
        };
        let algorithms = restrict(material.algorithms(), text(jwk, "alg")?)?;
        Ok(Self { kid, algorithms, material })
    }

    pub(super) fn new(kid: &str, algorithms: &'static [Algorithm], material: Material) -> Self {
        Self { kid: Some(kid.to_owned()), algorithms, material }
    }

    /// Its name in its set.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The algorithms that it verifies.
    pub fn algorithms(&self) -> &'static [Algorithm] {
        self.algorithms
    }

    /// The key as we publish it: public members only, with `use`, and with `alg` where there is only one.
    pub fn to_json(&self) -> Value {
        let mut jwk = match &self.material {
            Material::Ec { curve, x, y } => {
                json!({"kty": "EC", "crv": curve.name(), "x": base64url::encode(x), "y": base64url::encode(y)})
            }
            Material::Ed25519 { x } => json!({"kty": "OKP", "crv": "Ed25519", "x": base64url::encode(x)}),
            Material::Rsa { n, e } => json!({"kty": "RSA", "n": base64url::encode(n), "e": base64url::encode(e)}),
        };
        jwk["use"] = "sig".into();
        if let [algorithm] = self.algorithms {
            jwk["alg"] = algorithm.as_str().into();
        }
        if let Some(kid) = &self.kid {
            jwk["kid"] = kid.as_str().into();
        }
        jwk
    }

    /// Parses the key once for each of its algorithms. The error is the reason why it cannot be used.
    pub(super) fn verifiers(&self) -> Result<Vec<KeptVerifier>, String> {
        let parse = |&algorithm| Ok(KeptVerifier { algorithm, key: self.material.parse(algorithm)? });
        self.algorithms.iter().map(parse).collect()
    }
}

impl Material {
    fn algorithms(&self) -> &'static [Algorithm] {
        match self {
            Self::Ec { curve: Curve::P256, .. } => &[Algorithm::Es256],
            Self::Ec { curve: Curve::P384, .. } => &[Algorithm::Es384],
            Self::Ed25519 { .. } => &[Algorithm::EdDsa],
            Self::Rsa { .. } => &[Algorithm::Rs256, Algorithm::Ps256],
        }
    }

    fn parse(&self, algorithm: Algorithm) -> Result<ParsedPublicKey, String> {
        let parsed = match self {
            Self::Ec { curve, x, y } => {
                let verification: &'static dyn VerificationAlgorithm = match curve {
                    Curve::P256 => &ECDSA_P256_SHA256_FIXED,
                    Curve::P384 => &ECDSA_P384_SHA384_FIXED,
                };
                // SEC 1 §2.3.3: 4 announces an uncompressed point.
                ParsedPublicKey::new(verification, [&[4], x.as_slice(), y].concat())
            }
            Self::Ed25519 { x } => ParsedPublicKey::new(&ED25519, x),
            Self::Rsa { n, e } => {
                let parameters = match algorithm {
                    Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
                    _ => &RSA_PKCS1_2048_8192_SHA256,
                };
                RsaPublicKeyComponents { n, e }.to_parsed_public_key(parameters)
            }
        };
        parsed.map_err(|_| match self {
            Self::Ec { curve, .. } => format!("`x` and `y` are not a point on {}", curve.name()),
            _ => "the numbers do not make a public key".into(),
        })
    }
}

impl Curve {
    fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
        }
    }

    /// Bytes of a coordinate.
    fn len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }
}

/// The key must be public and meant for verifying (RFC 7517 §4.2, §4.3).
fn check_purpose(jwk: &Map<String, Value>) -> Result<(), String> {
    if jwk.contains_key("d") {
        return Err("it holds the private key: whoever can read it can sign, so it must be replaced".into());
    }
    match text(jwk, "use")? {
        None | Some("sig") => {}
        Some(other) => return Err(format!("`use` is {}, expected \"sig\"", quote(other))),
    }
    match jwk.get("key_ops") {
        None => Ok(()),
        Some(Value::Array(operations)) if operations.iter().any(|operation| operation == "verify") => Ok(()),
        Some(_) => Err("`key_ops` does not contain \"verify\"".into()),
    }
}

fn ec(jwk: &Map<String, Value>) -> Result<Material, String> {
    let curve = match text(jwk, "crv")? {
        Some("P-256") => Curve::P256,
        Some("P-384") => Curve::P384,
        Some(other) => return Err(format!("`crv` {} is not supported, expected P-256 or P-384", quote(other))),
        None => return Err("`crv` is missing".into()),
    };
    let [x, y] = [sized(jwk, "x", curve.len())?, sized(jwk, "y", curve.len())?];
    Ok(Material::Ec { curve, x, y })
}

fn okp(jwk: &Map<String, Value>) -> Result<Material, String> {
    match text(jwk, "crv")? {
        Some("Ed25519") => {
            let x = sized(jwk, "x", 32)?;
            if is_of_small_order(&x) {
                return Err("`x` is a point of small order, under which anybody can sign".into());
            }
            Ok(Material::Ed25519 { x })
        }
        Some(other) => Err(format!("`crv` {} is not supported, expected Ed25519", quote(other))),
        None => Err("`crv` is missing".into()),
    }
}

/// The y coordinates, little-endian, of the points of edwards25519 whose order divides eight, the last two in spellings
/// that are not canonical. Under such a key one signature, which needs no private key, fits every eighth message at
/// least; RFC 8032 leaves the check to the user of a key, and AWS-LC does not make it.
const SMALL_ORDER: [[u8; 32]; 7] = {
    const fn near_p(low: u8) -> [u8; 32] {
        let mut y = [0xff; 32];
        y[0] = low;
        y[31] = 0x7f;
        y
    }
    let mut one = [0; 32];
    one[0] = 1;
    let eighth = [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ];
    let other_eighth = [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ];
    [[0; 32], one, eighth, other_eighth, near_p(0xec), near_p(0xed), near_p(0xee)]
};

/// Whatever the sign of the other coordinate, which the highest bit holds.
fn is_of_small_order(x: &[u8]) -> bool {
    let same = |y: &[u8; 32]| x.split_last().is_some_and(|(last, rest)| rest == &y[..31] && last & 0x7f == y[31]);
    SMALL_ORDER.iter().any(same)
}

/// RSA keys are checked here and not left to the first signature: a weak key or one made to be slow is never used.
fn rsa(jwk: &Map<String, Value>) -> Result<Material, String> {
    // Leading zero octets are forbidden (RFC 7518 §2) but so common that they are passed over.
    let number = |name| bytes(jwk, name).map(|octets| octets.into_iter().skip_while(|&octet| octet == 0).collect());
    let [n, e]: [Vec<u8>; 2] = [number("n")?, number("e")?];
    let bits = bits(&n);
    if !(2048..=8192).contains(&bits) {
        return Err(format!("the RSA modulus has {bits} bits, expected 2048 to 8192"));
    }
    let odd = |number: &[u8]| number.last().is_some_and(|octet| octet & 1 == 1);
    // An exponent of 1 makes every message its own signature; AWS-LC takes none above 33 bits.
    if !odd(&n) || !odd(&e) || e == [1] || self::bits(&e) > 33 {
        return Err("the RSA modulus or exponent is not acceptable".into());
    }
    Ok(Material::Rsa { n, e })
}

fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

/// `alg` narrows what the kind of key allows (RFC 7517 §4.4).
fn restrict(allowed: &'static [Algorithm], name: Option<&str>) -> Result<&'static [Algorithm], String> {
    let Some(name) = name else { return Ok(allowed) };
    let wanted = Algorithm::from_name(name);
    allowed
        .chunks(1)
        .find(|one| one.first().copied() == wanted)
        .ok_or_else(|| format!("`alg` {} does not fit this kind of key, expected {}", quote(name), names(allowed)))
}

/// Names of algorithms for a message.
pub(super) fn names(algorithms: &[Algorithm]) -> String {
    algorithms.iter().map(|algorithm| algorithm.as_str()).collect::<Vec<_>>().join(" or ")
}

fn text<'a>(jwk: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, String> {
    match jwk.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(format!("`{name}` is {}, expected a string", json::kind(other))),
    }
}

fn bytes(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    let text = text(jwk, name)?.ok_or_else(|| format!("`{name}` is missing"))?;
    base64url::decode(text).ok_or_else(|| format!("`{name}` is not base64url without padding"))
}

fn sized(jwk: &Map<String, Value>, name: &str, len: usize) -> Result<Vec<u8>, String> {
    let bytes = bytes(jwk, name)?;
    if bytes.len() != len {
        return Err(format!("`{name}` has {} bytes, expected {len}", bytes.len()));
    }
    Ok(bytes)
}

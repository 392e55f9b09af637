//! A scripted partner: its own key, tokens signed by hand, and what it says over HTTP.

use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pushpull::clock::{Clock as _, SystemClock};
use serde_json::{Map, Value, json};

use super::daemon::{Daemon, ISSUER, write};
use super::http::{Message, Wire};
use super::soon;

/// The type of the events that partners send unless they are told otherwise.
pub(crate) const SESSION_REVOKED: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";

/// An ES256 key.
pub(crate) struct Key {
    pub(crate) kid: String,
    pair: EcdsaKeyPair,
}

impl Key {
    pub(crate) fn new(kid: &str) -> Self {
        Self { kid: kid.to_owned(), pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap() }
    }

    /// Its public half.
    pub(crate) fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        json!({"kty": "EC", "crv": "P-256", "kid": self.kid, "alg": "ES256", "use": "sig", "x": encode(x), "y": encode(y)})
    }

    /// The header of an honest SET.
    pub(crate) fn header(&self) -> Value {
        json!({"typ": "secevent+jwt", "alg": "ES256", "kid": self.kid})
    }

    /// Signs whatever header and claims it is given.
    pub(crate) fn sign(&self, header: &Value, claims: &str) -> String {
        let signed = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.as_bytes()));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", encode(signature.as_ref()))
    }
}

/// Base64url without padding.
pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Header and claims of a compact SET, unverified.
#[track_caller]
pub(crate) fn opened(compact: &str) -> (Value, Value) {
    let parts: Vec<_> = compact.split('.').collect();
    assert_eq!(parts.len(), 3, "no compact SET: {compact}");
    let part = |index: usize| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[index]).unwrap()).unwrap();
    (part(0), part(1))
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    i64::try_from(SystemClock::new().now().wall.0 / 1000).unwrap()
}

/// A partner of the daemon.
pub(crate) struct Partner {
    pub(crate) name: String,
    pub(crate) issuer: String,
    pub(crate) key: Key,
    /// The bearer that it presents to us.
    pub(crate) token: String,
    /// The bearer that we present to it.
    pub(crate) our_token: String,
}

impl Partner {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            issuer: format!("https://{name}.example"),
            key: Key::new(&format!("{name}-1")),
            token: format!("from-{name}-0123456789abcdef0123456789abcdef"),
            our_token: format!("to-{name}-0123456789abcdef0123456789abcdef"),
        }
    }

    /// Its `[[peer]]` block in our configuration; makes the files that the block names. `keys` says how we reach it,
    /// and where its keys are unless they are in a file; without a transport, it comes to us.
    pub(crate) fn block(&self, dir: &Path, keys: &str) -> String {
        let name = &self.name;
        write(&dir.join(format!("{name}.jwks.json")), &self.jwks().to_string());
        write(&dir.join(format!("from-{name}.token")), &self.token);
        write(&dir.join(format!("{name}.token")), &self.our_token);
        let mut block = format!(
            "[[peer]]\nname = \"{name}\"\nissuer = \"{}\"\naccept_token_file = \"from-{name}.token\"\n\
             token_file = \"{name}.token\"\n{keys}\n",
            self.issuer
        );
        if !keys.contains("jwks_uri") {
            block.push_str(&format!("jwks_file = \"{name}.jwks.json\"\n"));
        }
        if !keys.contains("transport") {
            block.push_str("transport = \"none\"\n");
        }
        block
    }

    /// Its published keys.
    pub(crate) fn jwks(&self) -> Value {
        json!({"keys": [self.key.jwk()]})
    }

    /// The claims of an honest SET.
    pub(crate) fn claims(&self, jti: &str) -> Map<String, Value> {
        let claims = json!({
            "iss": self.issuer, "aud": ISSUER, "iat": now(), "jti": jti,
            "sub_id": {"format": "opaque", "id": format!("subject of {jti}")},
            "events": {SESSION_REVOKED: {"event_timestamp": now()}},
        });
        claims.as_object().unwrap().clone()
    }

    /// An honest SET.
    pub(crate) fn set(&self, jti: &str) -> String {
        self.sign(&self.claims(jti))
    }

    /// A SET with these claims, signed as an honest one.
    pub(crate) fn sign(&self, claims: &Map<String, Value>) -> String {
        self.key.sign(&self.key.header(), &Value::Object(claims.clone()).to_string())
    }

    /// The value of its `Authorization` header.
    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    /// Posts these bytes to the daemon, on a connection of its own.
    pub(crate) async fn post(&self, daemon: &Daemon, body: &[u8]) -> Message {
        self.post_on(&mut daemon.connect().await, body).await
    }

    /// Posts these bytes on this connection.
    pub(crate) async fn post_on(&self, wire: &mut Wire, body: &[u8]) -> Message {
        self.post_to(wire, "/pushpull", "application/json", body).await
    }

    /// Posts a body of this media type to this path.
    pub(crate) async fn post_to(&self, wire: &mut Wire, path: &str, media: &str, body: &[u8]) -> Message {
        let bearer = self.bearer();
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", media)];
        let answer = soon("an answer", wire.ask("POST", path, &headers, body)).await;
        answer.unwrap().expect("an answer")
    }

    /// Pushes one SET, or what is said to be one, on a connection of its own.
    pub(crate) async fn push(&self, daemon: &Daemon, body: &[u8]) -> Message {
        self.post_to(&mut daemon.connect().await, "/push", "application/secevent+jwt", body).await
    }

    /// Pushes SETs by multi-set push; the verdicts in the answer.
    pub(crate) async fn push_many(&self, daemon: &Daemon, object: &Value) -> Value {
        let body = object.to_string();
        let answer =
            self.post_to(&mut daemon.connect().await, "/multi-push", "application/json", body.as_bytes()).await;
        assert_eq!(answer.status(), 202, "{}", answer.text());
        answer.json()
    }

    /// Polls; the answer's object.
    pub(crate) async fn poll(&self, daemon: &Daemon, poll: &Value) -> Value {
        let body = poll.to_string();
        let answer = self.post_to(&mut daemon.connect().await, "/poll", "application/json", body.as_bytes()).await;
        assert_eq!(answer.status(), 200, "{poll}: {}", answer.text());
        answer.json()
    }

    /// Posts an object that is accepted; the Communication Object in the answer.
    #[track_caller]
    pub(crate) fn exchange(&self, daemon: &Daemon, object: &Value) -> impl Future<Output = Value> {
        let (caller, object) = (std::panic::Location::caller(), object.to_string());
        async move {
            let answer = self.post(daemon, object.as_bytes()).await;
            assert_eq!(answer.status(), 200, "{} ({caller})", answer.text());
            answer.json()
        }
    }

    /// Fetches what we have to send until this SET of ours has come; its token.
    pub(crate) async fn fetch(&self, daemon: &Daemon, jti: &str) -> String {
        super::until(&format!("{jti} to come"), async || {
            self.exchange(daemon, &json!({})).await["sets"][jti].as_str().map(str::to_owned)
        })
        .await
    }
}

/// What an object says of a jti: `ack`, the code of its setErr, or nothing.
pub(crate) fn verdict(object: &Value, jti: &str) -> Option<String> {
    let acked = object["ack"].as_array().is_some_and(|acks| acks.iter().any(|ack| ack == jti));
    let err = object["setErrs"][jti]["err"].as_str();
    assert!(!(acked && err.is_some()), "both verdicts on {jti}: {object}");
    if acked { Some("ack".to_owned()) } else { err.map(str::to_owned) }
}

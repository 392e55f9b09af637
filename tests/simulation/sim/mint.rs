//! Keys and tokens: made from numbers, so that every process makes the same ones, signed once and used by many seeds; and
//! the truth about each of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use pushpull::set::{Digest, Jti, SignedSet, SigningKey};

use super::event::{Org, Truth};

/// The true time when every simulation begins, in seconds of the Unix epoch: also the `iat` of every token.
pub const BEGINNING: u64 = 1_795_000_000;

/// What kind of token it is. All but the first three are refused by anybody who looks.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// A valid SET.
    Sound,
    /// Another valid SET, of the same jti.
    Changed,
    /// A valid verification event.
    Verification,
    /// For somebody else.
    WrongAudience,
    /// Signed with a key that is never published.
    GhostKey,
    /// Signed with that key, under the name of a published one.
    ForgedKey,
    /// Of another issuer.
    WrongIssuer,
    /// Without a subject.
    NoSubject,
    /// Without `iat`.
    NoDate,
    /// With `exp`.
    Expires,
    /// Years old: also to a clock that is months behind.
    Old,
    /// `alg` is `none`.
    Unsigned,
    /// Three parts of which none is anything.
    Garbage,
}

impl Kind {
    /// Those that are refused.
    pub const UNSOUND: [Self; 10] = [
        Self::WrongAudience,
        Self::GhostKey,
        Self::ForgedKey,
        Self::WrongIssuer,
        Self::NoSubject,
        Self::NoDate,
        Self::Expires,
        Self::Old,
        Self::Unsigned,
        Self::Garbage,
    ];

    fn truth(self) -> Truth {
        match self {
            Self::Sound | Self::Changed => Truth::Sound,
            Self::Verification => Truth::Verification,
            _ => Truth::Unsound,
        }
    }
}

/// What makes one token another than the next.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Order {
    pub from: Org,
    pub to: Org,
    pub jti: Jti,
    pub kind: Kind,
    /// Which of its issuer's keys signs.
    pub key: u8,
}

/// What was signed on this thread lately.
#[derive(Default)]
struct Mint {
    keys: HashMap<(Org, u8), Arc<SigningKey>>,
    tokens: HashMap<Order, SignedSet>,
    truths: HashMap<Digest, Order>,
}

/// The number of the key that nobody publishes.
const GHOST: u8 = u8::MAX;

/// How an organisation is called by its partners.
pub fn name(org: Org) -> String {
    char::from(b'a' + org.0).to_string()
}

/// Who is called so.
pub fn org(name: &str) -> Org {
    Org(name.bytes().next().map_or(0, |letter| letter - b'a'))
}

/// What an organisation signs as, and is addressed by.
pub fn issuer(org: Org) -> String {
    format!("https://{}.example", name(org))
}

/// The kid of a key.
pub fn kid(org: Org, number: u8) -> String {
    if number == GHOST { format!("{}-ghost", name(org)) } else { format!("{}-{number}", name(org)) }
}

/// The number in a kid of ours.
pub fn number(kid: &str) -> u8 {
    kid.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(GHOST)
}

/// A key of an organisation.
pub fn key(org: Org, number: u8) -> Arc<SigningKey> {
    mint().key(org, number)
}

/// The same key as a value of its own, for a ring that wants to keep it.
pub fn make_key(org: Org, number: u8) -> SigningKey {
    // PKCS#8 of an Ed25519 key is a fixed head and the 32 bytes of its secret (RFC 8410 §7).
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &[org.0, number]).as_ref());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der));
    SigningKey::from_pem(&kid(org, number), &pem).expect("a key made of a number")
}

/// The token that was ordered.
pub fn token(order: &Order) -> SignedSet {
    let mut mint = mint();
    if let Some(token) = mint.tokens.get(order) {
        return token.clone();
    }
    let compact = mint.sign(order);
    let digest = Digest::of(compact.as_bytes());
    let token = SignedSet { jti: order.jti.clone(), compact, digest, label: "other", reissue_of: None };
    mint.truths.insert(digest, order.clone());
    mint.tokens.insert(order.clone(), token.clone());
    token
}

/// What is true of a token that came to `to` from `from` under this name.
pub fn truth(digest: Digest, from: Org, to: Org, name: &Jti) -> Truth {
    match mint().truths.get(&digest) {
        Some(order) if (order.from, order.to, &order.jti) == (from, to, name) => order.kind.truth(),
        _ => Truth::Unsound,
    }
}

/// The kid of the key that signed this token.
pub fn kid_of(digest: Digest) -> String {
    match mint().truths.get(&digest) {
        Some(Order { from, kind: Kind::GhostKey | Kind::ForgedKey, .. }) => kid(*from, GHOST),
        Some(order) => kid(order.from, order.key),
        None => String::new(),
    }
}

/// So many tokens are kept from one federation to the next.
const TOKENS_MAX: usize = 50_000;

/// A federation begins on this thread: it can do without the tokens of those before it.
pub fn begin() {
    let mut mint = mint();
    if mint.tokens.len() > TOKENS_MAX {
        (mint.tokens, mint.truths) = Default::default();
    }
}

/// A federation has a thread to itself.
fn mint() -> MutexGuard<'static, Mint> {
    thread_local! {
        static MINT: &'static Mutex<Mint> = Box::leak(Box::default());
    }
    MINT.with(|mint| *mint).lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mint {
    fn key(&mut self, org: Org, number: u8) -> Arc<SigningKey> {
        Arc::clone(self.keys.entry((org, number)).or_insert_with(|| Arc::new(make_key(org, number))))
    }

    fn sign(&mut self, order: &Order) -> Arc<str> {
        let Order { from, to, jti, kind, key } = order;
        let aud = if *kind == Kind::WrongAudience { "https://nobody.example".to_owned() } else { issuer(*to) };
        let iss = if *kind == Kind::WrongIssuer { "https://nobody.example".to_owned() } else { issuer(*from) };
        let event = match kind {
            Kind::Verification => "https://schemas.openid.net/secevent/ssf/event-type/verification",
            _ => "https://schemas.openid.net/secevent/caep/event-type/session-revoked",
        };
        let id = if *kind == Kind::Changed { "another" } else { "one" };
        let claims = json!({
            "iss": iss, "aud": aud, "jti": jti.as_str(), "iat": BEGINNING,
            "sub_id": {"format": "opaque", "id": id},
            "events": {event: {}},
        });
        let Value::Object(mut claims) = claims else { unreachable!("an object was written") };
        match kind {
            Kind::NoSubject => drop(claims.remove("sub_id")),
            Kind::NoDate => drop(claims.remove("iat")),
            Kind::Expires => drop(claims.insert("exp".to_owned(), (BEGINNING + 3600).into())),
            Kind::Old => drop(claims.insert("iat".to_owned(), (BEGINNING - 2000 * 86_400).into())),
            Kind::Unsigned => return unsigned(&claims),
            Kind::Garbage => return format!("{}.garbage.{}", jti.as_str(), from.0).into(),
            Kind::ForgedKey => return self.forged(*from, *key, &claims),
            _ => {}
        }
        let number = if *kind == Kind::GhostKey { GHOST } else { *key };
        self.key(*from, number).sign(&claims).expect("a signature")
    }

    /// The header of the published key, and the signature of another.
    fn forged(&mut self, org: Org, number: u8, claims: &Map<String, Value>) -> Arc<str> {
        let good = self.key(org, number).sign(claims).expect("a signature");
        let bad = self.key(org, GHOST).sign(claims).expect("a signature");
        let (signed, _) = good.rsplit_once('.').expect("three parts");
        let (_, signature) = bad.rsplit_once('.').expect("three parts");
        format!("{signed}.{signature}").into()
    }
}

fn unsigned(claims: &Map<String, Value>) -> Arc<str> {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = json!({"typ": "secevent+jwt", "alg": "none"});
    format!("{}.{}.", part(&header), part(&Value::Object(claims.clone()))).into()
}

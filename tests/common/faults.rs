//! The faults that partners commit, and the defined answer to each: one table for both bindings.

use aws_lc_rs::hmac;
use serde_json::{Map, Value, json};

use super::partner::{Key, Partner, SESSION_REVOKED, encode, now};

/// The one type outside the `accept` list of the tests.
const CREDENTIAL_CHANGE: &str = "https://schemas.openid.net/secevent/caep/event-type/credential-change";

/// The `accept` list for these tables.
pub(crate) const ACCEPT: &str = "accept = [\"caep:session-revoked\"]";

/// A SET with a fault that is its own: its neighbours in the object do not suffer.
pub(crate) struct SetFault {
    pub(crate) name: &'static str,
    /// The token, for this jti.
    pub(crate) make: fn(&Partner, &str) -> String,
    /// The setErr's code; `ack` for a SET that only looks strange, `None` for no verdict.
    pub(crate) verdict: Option<&'static str>,
}

/// An object that is void as a whole.
pub(crate) struct ObjectFault {
    pub(crate) name: &'static str,
    /// Its text. `$SET` is a good SET with its name, `$JTI` the jti of a SET of ours; see [`ObjectFault::bytes`].
    text: &'static str,
    /// The answer over HTTP.
    pub(crate) status: u16,
    /// The code with which the WebSocket is closed.
    pub(crate) code: u16,
}

impl ObjectFault {
    /// The object around a good SET (`"jti":"token"`) and a verdict on a SET of ours.
    pub(crate) fn bytes(&self, set: &str, jti: &str) -> Vec<u8> {
        let many: Vec<String> = (0..20).map(|number| format!("\"many-{number}\":\"x\"")).collect();
        let text = self
            .text
            .replace("$SET", set)
            .replace("$JTI", jti)
            .replace("$LONG", &"j".repeat(65))
            .replace("$DEEP", &format!("{}{}", "[".repeat(40), "]".repeat(40)))
            .replace("$MANY", &many.join(","))
            .replace("$FILL", &"x".repeat(64 << 10));
        let mut bytes = Vec::with_capacity(text.len());
        for (index, part) in text.split("$FF").enumerate() {
            if index > 0 {
                bytes.push(0xff);
            }
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}

/// Every fault of a single SET.
pub(crate) const SET_FAULTS: &[SetFault] = &[
    SetFault {
        name: "wrong issuer",
        make: |p, j| with(p, j, "iss", json!("https://else.example")),
        verdict: Some("invalid_issuer"),
    },
    SetFault {
        name: "wrong audience",
        make: |p, j| with(p, j, "aud", json!("https://else.example")),
        verdict: Some("invalid_audience"),
    },
    SetFault { name: "no audience", make: |p, j| without(p, j, "aud"), verdict: Some("invalid_audience") },
    SetFault {
        name: "one of several audiences",
        make: |p, j| with(p, j, "aud", json!(["https://else.example", "https://us.example"])),
        verdict: Some("ack"),
    },
    SetFault { name: "no subject", make: |p, j| without(p, j, "sub_id"), verdict: Some("invalid_request") },
    SetFault {
        name: "an expiry",
        make: |p, j| with(p, j, "exp", json!(now() + 3600)),
        verdict: Some("invalid_request"),
    },
    SetFault { name: "no events", make: |p, j| with(p, j, "events", json!({})), verdict: Some("invalid_request") },
    SetFault {
        name: "jti other than its name",
        make: |p, j| p.set(&format!("{j}-other")),
        verdict: Some("invalid_request"),
    },
    SetFault { name: "no jti", make: |p, j| without(p, j, "jti"), verdict: Some("invalid_request") },
    SetFault {
        name: "type outside accept",
        make: |p, j| with(p, j, "events", json!({CREDENTIAL_CHANGE: {}})),
        verdict: Some("access_denied"),
    },
    SetFault {
        name: "one type inside and one outside accept",
        make: |p, j| with(p, j, "events", json!({SESSION_REVOKED: {}, CREDENTIAL_CHANGE: {}})),
        verdict: Some("access_denied"),
    },
    SetFault { name: "name twice in the claims", make: twice_in_claims, verdict: Some("invalid_request") },
    SetFault { name: "name twice deep in the claims", make: twice_deep_in_claims, verdict: Some("invalid_request") },
    SetFault {
        name: "claims that are no object",
        make: |p, _| p.key.sign(&p.key.header(), "[]"),
        verdict: Some("invalid_request"),
    },
    SetFault { name: "no token at all", make: |_, _| "nonsense".to_owned(), verdict: Some("invalid_request") },
    SetFault { name: "empty token", make: |_, _| String::new(), verdict: Some("invalid_request") },
    SetFault {
        name: "too long",
        make: |p, j| with(p, j, "events", json!({SESSION_REVOKED: {"filler": "x".repeat(9000)}})),
        verdict: Some("invalid_request"),
    },
    SetFault { name: "iat a little ahead", make: |p, j| with(p, j, "iat", json!(now() + 120)), verdict: Some("ack") },
    SetFault { name: "iat hours ahead", make: |p, j| with(p, j, "iat", json!(now() + 23 * 3600)), verdict: None },
    SetFault {
        name: "iat days ahead",
        make: |p, j| with(p, j, "iat", json!(now() + 25 * 3600)),
        verdict: Some("invalid_request"),
    },
    SetFault {
        name: "iat 29 days ago",
        make: |p, j| with(p, j, "iat", json!(now() - 29 * 86_400)),
        verdict: Some("ack"),
    },
    SetFault {
        name: "iat 31 days ago",
        make: |p, j| with(p, j, "iat", json!(now() - 31 * 86_400)),
        verdict: Some("invalid_request"),
    },
    SetFault { name: "iat a string", make: |p, j| with(p, j, "iat", json!("now")), verdict: Some("invalid_request") },
    SetFault { name: "wrong typ", make: |p, j| headed(p, j, "typ", json!("JWT")), verdict: Some("invalid_request") },
    SetFault { name: "alg none", make: alg_none, verdict: Some("invalid_key") },
    SetFault {
        name: "alg none, signed all the same",
        make: |p, j| headed(p, j, "alg", json!("none")),
        verdict: Some("invalid_key"),
    },
    SetFault { name: "empty signature", make: |p, j| cut_signature(&p.set(j)), verdict: Some("invalid_key") },
    SetFault { name: "broken signature", make: broken_signature, verdict: Some("invalid_key") },
    SetFault { name: "claims of another SET", make: swapped_claims, verdict: Some("invalid_key") },
    SetFault { name: "HS256 with the public key", make: hmac_with_public_key, verdict: Some("invalid_key") },
    SetFault {
        name: "PS256 on an EC key",
        make: |p, j| headed(p, j, "alg", json!("PS256")),
        verdict: Some("invalid_key"),
    },
    SetFault {
        name: "RS256 on an EC key",
        make: |p, j| headed(p, j, "alg", json!("RS256")),
        verdict: Some("invalid_key"),
    },
    SetFault { name: "unknown kid", make: |p, j| headed(p, j, "kid", json!("nobody-9")), verdict: Some("invalid_key") },
    SetFault {
        name: "kid that is a path",
        make: |p, j| headed(p, j, "kid", json!("../keys/us-1")),
        verdict: Some("invalid_key"),
    },
    SetFault {
        name: "kid that is a number",
        make: |p, j| headed(p, j, "kid", json!(1)),
        verdict: Some("invalid_request"),
    },
    SetFault { name: "another key under a known kid", make: other_key, verdict: Some("invalid_key") },
    SetFault { name: "key in the header", make: key_in_header, verdict: Some("invalid_request") },
    SetFault {
        name: "key address in the header",
        make: |p, j| headed(p, j, "jku", json!("http://127.0.0.1:1/jwks")),
        verdict: Some("invalid_request"),
    },
    SetFault {
        name: "critical extension",
        make: |p, j| headed(p, j, "crit", json!(["exp"])),
        verdict: Some("invalid_request"),
    },
];

/// Every fault that makes an object void.
pub(crate) const OBJECT_FAULTS: &[ObjectFault] = &[
    malformed("cut JSON", r#"{"sets":{$SET},"ack":["$JTI"]"#),
    malformed("comma too many", r#"{"sets":{$SET},"ack":["$JTI"],}"#),
    malformed("more behind its end", r#"{"sets":{$SET},"ack":["$JTI"]} {}"#),
    malformed("nothing", ""),
    malformed("an array by position", r#"[{$SET},["$JTI"]]"#),
    malformed("byte order mark", "\u{feff}{\"sets\":{$SET},\"ack\":[\"$JTI\"]}"),
    malformed("member twice", r#"{"ack":["$JTI"],"sets":{$SET},"sets":{$SET}}"#),
    malformed("member twice by escapes", r#"{"ack":["$JTI"],"sets":{$SET},"\u0061ck":[]}"#),
    malformed("unknown member twice", r#"{"sets":{$SET},"ack":["$JTI"],"x":1,"x":1}"#),
    malformed("jti twice in sets", r#"{"sets":{$SET,$SET},"ack":["$JTI"]}"#),
    malformed("jti twice in setErrs", r#"{"sets":{$SET},"setErrs":{"$JTI":{"err":"a"},"$JTI":{"err":"a"}}}"#),
    malformed("ack and setErr of one jti", r#"{"sets":{$SET},"ack":["$JTI"],"setErrs":{"$JTI":{"err":"a"}}}"#),
    malformed("sets an array", r#"{"sets":[],"ack":["$JTI"]}"#),
    malformed("sets null", r#"{"sets":null,"ack":["$JTI"]}"#),
    malformed("a SET that is no string", r#"{"sets":{$SET,"n":1},"ack":["$JTI"]}"#),
    malformed("an ack that is no string", r#"{"sets":{$SET},"ack":["$JTI",1]}"#),
    malformed("a setErr without err", r#"{"sets":{$SET},"setErrs":{"$JTI":{"description":"d"}}}"#),
    malformed("empty jti", r#"{"sets":{$SET,"":"x"},"ack":["$JTI"]}"#),
    malformed("jti too long", r#"{"sets":{$SET,"$LONG":"x"},"ack":["$JTI"]}"#),
    malformed("lone surrogate", r#"{"sets":{$SET,"\ud800":"x"},"ack":["$JTI"]}"#),
    malformed("maxResponseEvents negative", r#"{"sets":{$SET},"ack":["$JTI"],"maxResponseEvents":-1}"#),
    malformed("maxResponseEvents a string", r#"{"sets":{$SET},"ack":["$JTI"],"maxResponseEvents":"1"}"#),
    malformed("nested too deeply", r#"{"sets":{$SET},"ack":["$JTI"],"x":$DEEP}"#),
    malformed("not UTF-8", r#"{"sets":{$SET},"ack":["$JTI"],"x":"$FF"}"#),
    too_big("too many bytes", r#"{"sets":{$SET},"ack":["$JTI"],"x":"$FILL"}"#),
    too_big("too many SETs", r#"{"sets":{$SET,$MANY},"ack":["$JTI"]}"#),
];

const fn malformed(name: &'static str, text: &'static str) -> ObjectFault {
    ObjectFault { name, text, status: 400, code: 1007 }
}

const fn too_big(name: &'static str, text: &'static str) -> ObjectFault {
    ObjectFault { name, text, status: 413, code: 1009 }
}

/// An honest SET but for this claim.
fn with(partner: &Partner, jti: &str, name: &str, value: Value) -> String {
    let mut claims = partner.claims(jti);
    claims.insert(name.to_owned(), value);
    partner.sign(&claims)
}

fn without(partner: &Partner, jti: &str, name: &str) -> String {
    let mut claims = partner.claims(jti);
    claims.remove(name);
    partner.sign(&claims)
}

/// An honest SET but for this member of its header.
fn headed(partner: &Partner, jti: &str, name: &str, value: Value) -> String {
    let mut header = partner.key.header();
    header[name] = value;
    partner.key.sign(&header, &text(&partner.claims(jti)))
}

fn text(claims: &Map<String, Value>) -> String {
    Value::Object(claims.clone()).to_string()
}

fn twice_in_claims(partner: &Partner, jti: &str) -> String {
    let claims = text(&partner.claims(jti)).replacen('{', &format!("{{\"jti\":\"{jti}\","), 1);
    partner.key.sign(&partner.key.header(), &claims)
}

fn twice_deep_in_claims(partner: &Partner, jti: &str) -> String {
    let claims = text(&partner.claims(jti)).replacen("\"format\":", "\"format\":\"opaque\",\"format\":", 1);
    partner.key.sign(&partner.key.header(), &claims)
}

fn alg_none(partner: &Partner, jti: &str) -> String {
    let header = json!({"typ": "secevent+jwt", "alg": "none"}).to_string();
    format!("{}.{}.", encode(header.as_bytes()), encode(text(&partner.claims(jti)).as_bytes()))
}

fn cut_signature(token: &str) -> String {
    token[..=token.rfind('.').unwrap()].to_owned()
}

fn broken_signature(partner: &Partner, jti: &str) -> String {
    let token = partner.set(jti);
    let at = token.rfind('.').unwrap() + 10;
    let other = if &token[at..=at] == "A" { "B" } else { "A" };
    format!("{}{other}{}", &token[..at], &token[at + 1..])
}

fn swapped_claims(partner: &Partner, jti: &str) -> String {
    let signature = partner.set("innocent").rsplit('.').next().unwrap().to_owned();
    cut_signature(&partner.set(jti)) + &signature
}

/// The classic: the published key, as the bytes a naive verifier would take for a shared secret.
fn hmac_with_public_key(partner: &Partner, jti: &str) -> String {
    let header = json!({"typ": "secevent+jwt", "alg": "HS256", "kid": partner.key.kid}).to_string();
    let signed = format!("{}.{}", encode(header.as_bytes()), encode(text(&partner.claims(jti)).as_bytes()));
    let secret = hmac::Key::new(hmac::HMAC_SHA256, partner.key.jwk().to_string().as_bytes());
    format!("{signed}.{}", encode(hmac::sign(&secret, signed.as_bytes()).as_ref()))
}

fn other_key(partner: &Partner, jti: &str) -> String {
    Key::new(&partner.key.kid).sign(&partner.key.header(), &text(&partner.claims(jti)))
}

fn key_in_header(partner: &Partner, jti: &str) -> String {
    let key = Key::new("mine");
    let mut header = key.header();
    header["jwk"] = key.jwk();
    key.sign(&header, &text(&partner.claims(jti)))
}

//! The inputs that each target begins with, made of the repository's own examples, so that they follow when those change.

use std::fs;
use std::path::{Path, PathBuf};

use super::http::TOKEN;
use super::token::{CLAIMS, HEADER};

/// A seed and the name it has in a corpus.
pub type Seed = (String, Vec<u8>);

/// Seeds of the target of this name; `root` is where the repository is.
pub fn of(target: &str, root: &Path) -> Vec<Seed> {
    let examples = root.join("proto-examples");
    let objects = || {
        ["pushpull", "multi-push", "rfc8936", "websocket"]
            .into_iter()
            .flat_map(|dir| files(&examples.join(dir), "json"))
    };
    let made = |texts: &[&str]| {
        texts.iter().enumerate().map(|(n, text)| (format!("made-{n}"), text.as_bytes().to_vec())).collect()
    };
    match target {
        "object" => {
            let mut seeds: Vec<Seed> = made(OBJECTS);
            seeds.push(("too-long".to_owned(), format!("{{}}{}", " ".repeat(3000)).into_bytes()));
            seeds.extend(objects());
            seeds
        }
        "header" => {
            let mut seeds: Vec<Seed> = made(HEADERS);
            seeds.push(("sound".to_owned(), HEADER.to_vec()));
            seeds.extend(parts(&examples, 0));
            seeds
        }
        "claims" => {
            let mut seeds: Vec<Seed> = made(CLAIM_SETS);
            seeds.push(("sound".to_owned(), CLAIMS.to_vec()));
            seeds.extend(files(&examples.join("sets"), "json").into_iter().filter(|(name, _)| !name.contains("jwks")));
            seeds.extend(drafts(&examples));
            seeds
        }
        "jwks" => {
            let mut seeds: Vec<Seed> = made(KEY_SETS);
            seeds.extend(files(&examples.join("sets"), "json").into_iter().filter(|(name, _)| name.contains("jwks")));
            seeds
        }
        "base64url" => {
            let mut seeds: Vec<Seed> = made(&["", "_-8", "_-8=", "_-9", "_- 8", "/+8", "_-8_-"]);
            seeds.extend(files(&examples.join("sets"), "jwt").into_iter().flat_map(|(name, token)| {
                let parts: Vec<Vec<u8>> = token.trim_ascii().split(|byte| *byte == b'.').map(<[u8]>::to_vec).collect();
                parts.into_iter().enumerate().map(move |(n, part)| (format!("{name}-{n}"), part)).collect::<Vec<_>>()
            }));
            seeds
        }
        "subject" => {
            let mut seeds: Vec<Seed> = made(SUBJECT_TEXTS);
            seeds.extend(files(&examples.join("subjects"), "json"));
            seeds
        }
        "address" => ADDRESSES
            .iter()
            .enumerate()
            .map(|(n, (address, text))| (format!("made-{n}"), [&address.to_be_bytes()[..], text.as_bytes()].concat()))
            .collect(),
        "config" => {
            let mut seeds = files(&root.join("tests/config_corpus"), "toml");
            seeds.extend(files(&root.join("src/cli"), "toml").into_iter().map(|(name, text)| (name, filled_in(&text))));
            seeds.extend(made(&["[server]\nissuer = \"https://a.example\"\n\0PUSHPULL__SERVER__LISTEN=127.0.0.1:1\0PUSHPULL__LOG__LEVEL=2026\0"]));
            seeds
        }
        "http" => requests(&examples, objects().collect()),
        "websocket" => conversations(objects().collect()),
        other => panic!("there is no target {other}"),
    }
}

/// Every file below with this ending, in the order of their paths.
fn files(folder: &Path, ending: &str) -> Vec<Seed> {
    let mut paths: Vec<PathBuf> = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|own| own == ending) {
                paths.push(path);
            }
        }
    }
    paths.sort();
    // Two folders may hold examples of one name.
    let above = folder.parent().unwrap_or(folder);
    let seed = |path: PathBuf| {
        let name =
            path.strip_prefix(above).expect("below").with_extension("").to_string_lossy().replace(['/', '.'], "-");
        (name, fs::read(&path).expect("it can be read"))
    };
    paths.into_iter().map(seed).collect()
}

/// The octets of one part of each token.
fn parts(examples: &Path, number: usize) -> Vec<Seed> {
    files(&examples.join("sets"), "jwt")
        .into_iter()
        .filter_map(|(name, token)| {
            let token = String::from_utf8(token).ok()?;
            let part = token.trim().split('.').nth(number)?;
            Some((name, pushpull::set::base64url::decode(part)?))
        })
        .collect()
}

/// The drafts of events as the claims that applications write.
fn drafts(examples: &Path) -> Vec<Seed> {
    let mut seeds = Vec::new();
    for name in ["caep", "risc", "ssf"] {
        let lines = fs::read_to_string(examples.join(name).with_extension("jsonl")).expect("it can be read");
        for (number, line) in lines.lines().enumerate() {
            let draft: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let full = draft["type"].as_str().and_then(pushpull::set::events::expand);
            let claims =
                serde_json::json!({"sub_id": draft["sub_id"], "events": {full.expect("a type"): draft["event"]}});
            seeds.push((format!("{name}-{number}"), claims.to_string().into_bytes()));
        }
    }
    seeds
}

fn filled_in(template: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(template);
    let text = text.replace("@ISSUER@", "\"https://a.example\"").replace("@KID@", "\"k\"");
    text.replace("@LISTEN@", "listen = \"127.0.0.1:1\"")
        .replace("@ADMIN_LISTEN@", "listen = \"127.0.0.1:2\"")
        .into_bytes()
}

/// The examples' requests as the partner makes them, and a POST of each object.
fn requests(examples: &Path, objects: Vec<Seed>) -> Vec<Seed> {
    let post = |headers: &str, body: &[u8]| {
        let head = format!(
            "\0POST /pushpull HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n{headers}\r\n"
        );
        [head.as_bytes(), body].concat()
    };
    let with_length = |body: &[u8]| post(&format!("Content-Length: {}\r\n", body.len()), body);
    let mut seeds: Vec<Seed> = objects.iter().map(|(name, body)| (format!("post-{name}"), with_length(body))).collect();
    for folder in ["pushpull", "multi-push", "rfc8935", "rfc8936", "websocket"] {
        for (name, request) in files(&examples.join(folder), "http") {
            let text = String::from_utf8_lossy(&request).replace('\n', "\r\n");
            let lines = text.split("\r\n").map(|line| match line.split_once(": ") {
                Some((name, _)) if name.eq_ignore_ascii_case("authorization") => format!("{name}: Bearer {TOKEN}"),
                _ => line.replace("/pushpull-endpoint", "/pushpull"),
            });
            let request = lines.collect::<Vec<_>>().join("\r\n");
            seeds.push((format!("{folder}-{name}"), [b"\0", request.as_bytes()].concat()));
        }
    }
    let (first, second) = (
        with_length(br#"{"maxResponseEvents":1}"#),
        with_length(br#"{"ack":["ours-0","ours-1"],"maxResponseEvents":5}"#),
    );
    seeds.push(("two-requests".to_owned(), [&first, &second[1..]].concat()));
    seeds.push(("chunks".to_owned(), post("Transfer-Encoding: chunked\r\n", b"2\r\n{}\r\n0\r\n\r\n")));
    seeds.push(("expect".to_owned(), post("Content-Length: 2\r\nExpect: 100-continue\r\n", b"{}")));
    seeds.push(("too-long".to_owned(), post("Content-Length: 99999\r\n", b"{}")));
    seeds.push(("gzip".to_owned(), post("Content-Encoding: gzip\r\nContent-Length: 2\r\n", b"{}")));
    seeds.push(("jwks".to_owned(), b"\x01GET /jwks.json HTTP/1.1\r\nHost: h\r\n\r\n".to_vec()));
    let upgrade = format!(
        "\x02GET /pushpull HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: pushpull\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    );
    seeds.push((
        "upgrade".to_owned(),
        [upgrade.as_bytes(), &frame(0x81, b"{}", true), &frame(0x88, b"", true)].concat(),
    ));
    seeds
}

/// Each object as a message, and what else frames can be, to both ends.
fn conversations(objects: Vec<Seed>) -> Vec<Seed> {
    const ANSWER: &[u8] = b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: pushpull\r\n\r\n";
    let mut seeds = Vec::new();
    let mut both = |name: &str, frames: &dyn Fn(bool) -> Vec<u8>| {
        seeds.push((format!("accepted-{name}"), [b"\0", &frames(true)[..]].concat()));
        seeds.push((format!("dialled-{name}"), [b"\x01", ANSWER, &frames(false)].concat()));
    };
    for (name, object) in &objects {
        both(name, &|masked| frame(0x81, object, masked));
    }
    let acks = br#"{"ack":["ours-0","ours-1","ours-2"]}"#;
    both("fragments", &|masked| {
        [
            frame(0x01, &acks[..9], masked),
            frame(0x89, b"ping", masked),
            frame(0x00, b"", masked),
            frame(0x80, &acks[9..], masked),
        ]
        .concat()
    });
    both("binary", &|masked| frame(0x82, b"{}", masked));
    both("close", &|masked| [frame(0x81, acks, masked), frame(0x88, b"\x03\xe8bye", masked)].concat());
    both("close-empty", &|masked| frame(0x88, b"", masked));
    both("close-short", &|masked| frame(0x88, b"\x03", masked));
    both("pong", &|masked| frame(0x8a, b"x", masked));
    both("reserved-bit", &|masked| frame(0xc1, b"{}", masked));
    both("not-utf8", &|masked| frame(0x81, b"\xff", masked));
    both("too-long", &|masked| frame(0x81, &[b' '; 3000], masked));
    both("masked-wrongly", &|masked| frame(0x81, b"{}", !masked));
    both("cut", &|masked| frame(0x81, acks, masked)[..9].to_vec());
    both("huge", &|masked| {
        vec![0x81, if masked { 0xff } else { 0x7f }, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]
    });
    seeds.push(("dialled-401".to_owned(), b"\x01HTTP/1.1 401 x\r\nContent-Length: 0\r\n\r\n".to_vec()));
    seeds.push((
        "dialled-429".to_owned(),
        b"\x01HTTP/1.1 429 x\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n".to_vec(),
    ));
    seeds
}

/// A frame; the mask is of letters that change something.
fn frame(first: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let mask: &[u8; 4] = if masked { b"\x01\x02\x03\x04" } else { &[0; 4] };
    let bit = if masked { 0x80 } else { 0 };
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(bit | short as u8),
        long => {
            frame.push(bit | 126);
            frame.extend((long as u16).to_be_bytes());
        }
    }
    if masked {
        frame.extend(mask);
    }
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// One more than the target's limits allow, each in one way, and numbers as people write them.
const OBJECTS: &[&str] = &[
    r#"{"sets":{"1":"e30.e30.AA","2":"","3":"","4":""}}"#,
    r#"{"ack":["1","2","3"],"setErrs":{"4":{"err":"e"},"5":{"err":"e","description":"d"},"6":{"err":"e"}}}"#,
    r#"{"ack":["a jti of which every byte is one too many"]}"#,
    r#"{"maxResponseEvents":10.0,"x":[[{"y":null}]]}"#,
    r#"{"maxResponseEvents":18446744073709551616}"#,
    r#"{"maxResponseEvents":1.5}"#,
    r#"{"err":"invalid_key","description":"d"}"#,
];

const HEADERS: &[&str] = &[
    r#"{"typ":"application/SecEvent+jwt","alg":"EdDSA"}"#,
    r#"{"alg":"none"}"#,
    r#"{"typ":"at+jwt","alg":"ES256"}"#,
    r#"{"typ":"JWT","alg":"PS256","kid":null}"#,
    r#"{"alg":"ES256","typ":"secevent+jwt","crit":["exp"]}"#,
    r#"{"alg":"ES256","alg":"none","typ":"secevent+jwt"}"#,
    r#" {"a":[[[[1e3,-0.5,true,null]]]],"alg":"RS256","typ":"secevent+jwt"} "#,
];

const CLAIM_SETS: &[&str] = &[
    r#"{"iss":"https://a.example","aud":["x","https://b.example"],"iat":1.7e9,"jti":"é\ud83d\udd11","sub_id":{"format":"email","email":"a@b"},"events":{"a:b":{"c":[]},"https://e/f":{}},"txn":"t","toe":1699999999.5,"nbf":1700000300}"#,
    r#"{"iss":"https://a.example","sub":"x","exp":1699999701,"iat":1697408000,"jti":"j","events":{"a:b":{}}}"#,
    r#"{"iss":"x","aud":"y","iat":1700086400,"jti":"","events":{"no-colon":{}},"sub_id":{}}"#,
    r#"{"iat":1700000301,"iat":1}"#,
    r#"{"jti":5,"iss":null,"aud":[5],"iat":"now","events":[],"sub_id":"x","txn":{},"toe":"","nbf":[]}"#,
];

const KEY_SETS: &[&str] = &[
    r#"{"keys":[]}"#,
    r#"{"keys":[{"kty":"OKP","kty":"EC"}],"keys":[]}"#,
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"a"},{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"a","use":"enc"}]}"#,
    r#"{"keys":[{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","key_ops":["verify"]},{"kty":"oct","k":"AA"},{"kty":"EC","crv":"P-384","x":"AA","y":"AA","d":"AA"},5]}"#,
    r#"[{"keys":[]}]"#,
];

const SUBJECT_TEXTS: &[&str] = &[
    "email:user@example.com",
    "phone_number:+12065550100",
    "iss_sub:https://idp.example/,user-1",
    "opaque:id",
    "account:user@example.com",
    "uri:https://user.example/%41",
    "did:example:123456",
    "did:did:example:123456#k",
    "jwt_id:https://idp.example/,jti",
    "saml_assertion_id:https://idp.example/,id",
    "ip-addresses:192.0.2.1,2001:db8::1",
    "e-mail:x",
    "{\"format\":\"opaque\",\"id\":\"é\"}",
];

const ADDRESSES: &[(u128, &str)] = &[
    (0, "10.0.0.0/8\n::1\nwss://signals.globex.example:8443/pushpull?a=b"),
    (1, "0.0.0.0/0\n::/0\n"),
    (0x7f000001 << 96, "127.0.0.0/8\nhttps://127.0.0.1/"),
    (0x0a01_0203 << 96, "10.1.0.0/16\n10.1.2.3/8\n10.0.0.0/33\n10.0.0.0/08"),
    (0xffff_0808_0808, "::ffff:0:0/96\nhttp://[::ffff:8.8.8.8]/\nhttps://0x7f.1/\nhttps://2130706433/"),
    (0x2001_0db8 << 96, "2001:db8::/32\nhttps://user:pass@a.example/#f"),
    (0x2606_4700 << 96 | 0x1111, "ws://a.example:0/\nhttps://xn--bcher-kva.example./x%41?y"),
    (0xa9fe_a9fe << 96, "169.254.0.0/16\nhttps://169.254.169.254./latest"),
];

//! The examples in `proto-examples/` are what they claim to be: good ones are understood, faulty ones refused.
//! A directory that is missing or empty fails, lest a test passes because it has nothing to test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pushpull::set::events::{KNOWN, conformance, expand, shorten, subject_conformance};
use pushpull::set::subject::{Strictness, Subject, check};
use pushpull::wire::{Limits, Object, error_body, parse, parse_error_body, write};
use serde_json::Value;

#[test]
fn every_good_object_is_read_and_written_back_the_same() {
    for dir in ["pushpull", "multi-push", "rfc8936", "websocket"] {
        for (path, bytes) in files(dir, "json").filter(|(path, _)| !is_error(path)) {
            let object = object(&path, &bytes);
            let errors = object.errors.iter().map(|(jti, e)| (jti, e.err.as_str(), e.description.as_str()));
            let written = write(&object.sets, object.acks.iter(), errors, object.max_response_events);
            assert_eq!(parse(&written, &Limits::default()), Ok(object), "{}", path.display());
        }
    }
}

#[test]
fn the_drafts_figures_hold_what_the_draft_says() {
    let count = |file: &str| {
        let (path, bytes) = one(file);
        let object = object(&path, &bytes);
        (object.sets.len(), object.acks.len(), object.errors.len(), object.max_response_events)
    };
    assert_eq!(count("pushpull/communication-object.json"), (2, 3, 1, None));
    assert_eq!(count("pushpull/request.json"), (2, 0, 1, Some(10)));
    assert_eq!(count("pushpull/response.json"), (1, 1, 0, None));
    assert_eq!(count("pushpull/empty.json"), (0, 0, 0, None));
    assert_eq!(count("multi-push/request.json"), (2, 0, 0, None));
    assert_eq!(count("multi-push/response-ack-and-errors.json"), (0, 3, 1, None));
    assert_eq!(count("rfc8936/response.json"), (2, 0, 0, None));
    assert_eq!(count("rfc8936/poll-with-errors.json"), (0, 1, 1, None));
}

#[test]
fn every_faulty_object_is_refused() {
    for dir in ["pushpull/faulty/object", "multi-push/faulty"] {
        for (path, bytes) in files(dir, "json") {
            let refused = parse(&bytes, &Limits::default()).map(drop).expect_err(&path.display().to_string());
            assert!(!refused.description.is_empty() && !refused.kind.is_too_big(), "{}", path.display());
        }
    }
}

#[test]
fn a_faulty_token_is_not_the_objects_fault() {
    for (path, bytes) in files("pushpull/faulty/token", "json") {
        let object = object(&path, &bytes);
        let [(jti, token)] = &object.sets[..] else { panic!("{}: one SET expected", path.display()) };
        let decoded = || (part(token, 0)["alg"].clone(), part(token, 1)["jti"].clone());
        match path.file_stem().and_then(|stem| stem.to_str()) {
            Some("line-breaks" | "indented-line-breaks") => assert!(token.contains('\n')),
            Some("alg-none") => assert_eq!(decoded(), ("none".into(), jti.as_str().into())),
            Some("alg-none-and-other-jti") => {
                assert_eq!(decoded().0, "none");
                assert_ne!(decoded().1, jti.as_str());
            }
            Some("key-is-not-jti") => {
                assert_eq!(decoded().0, "HS256");
                assert_ne!(decoded().1, jti.as_str());
            }
            _ => panic!("{}: nothing is known about this example", path.display()),
        }
    }
}

#[test]
fn http_examples_carry_the_bodies_that_stand_beside_them() {
    for dir in ["pushpull", "multi-push", "rfc8936", "rfc8935"] {
        for (path, bytes) in files(&format!("{dir}/http"), "http") {
            let (head, body) = head_and_body(&path, &bytes);
            assert!(head.starts_with("POST /") || head.starts_with("HTTP/1.1 "), "{}", path.display());
            let twin = path.parent().and_then(Path::parent).map(|dir| dir.join(path.file_name().unwrap_or_default()));
            let twin = twin.map(|twin| twin.with_extension("json")).filter(|twin| twin.exists());
            match twin {
                Some(twin) => {
                    assert!(head.to_lowercase().contains("content-type: application/json"), "{}", path.display());
                    let expected: Value = serde_json::from_slice(&fs::read(twin).unwrap()).unwrap();
                    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expected, "{}", path.display());
                }
                None => assert_eq!(dir, "rfc8935", "{} has no JSON form", path.display()),
            }
        }
    }
    let (path, bytes) = one("rfc8935/http/request.http");
    let (head, body) = head_and_body(&path, &bytes);
    assert!(head.contains("Content-Type: application/secevent+jwt"));
    assert_eq!(part(body.trim_end(), 0)["typ"], "secevent+jwt");
    let (path, bytes) = one("rfc8935/http/request-as-printed.http");
    let joined: String = head_and_body(&path, &bytes).1.split_whitespace().collect();
    assert_eq!(joined, body.trim_end());
}

#[test]
fn error_bodies_are_read_and_written_back_the_same() {
    for dir in ["rfc8935", "multi-push"] {
        let mut errors = 0;
        for (path, bytes) in files(dir, "json").filter(|(path, _)| is_error(path)) {
            let error = parse_error_body(&bytes).unwrap_or_else(|| panic!("{}", path.display()));
            assert!(!error.err.is_empty() && !error.description.is_empty());
            assert_eq!(parse_error_body(&error_body(&error.err, &error.description)), Some(error));
            errors += 1;
        }
        assert!(errors > 0, "{dir}");
    }
}

#[test]
fn the_handshake_agrees_on_the_subprotocol_and_the_key() {
    let header = |file: &str, name: &str| {
        let (path, bytes) = one(file);
        let (head, body) = head_and_body(&path, &bytes);
        assert_eq!(body, "", "{file}");
        let found = head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned));
        found.unwrap_or_else(|| panic!("{file} has no {name}"))
    };
    let (request, response) = ("websocket/handshake-request.http", "websocket/handshake-response.http");
    for file in [request, response] {
        assert_eq!(header(file, "Sec-WebSocket-Protocol"), "pushpull");
        assert_eq!((header(file, "Upgrade"), header(file, "Connection")), ("websocket".into(), "Upgrade".into()));
    }
    let key = header(request, "Sec-WebSocket-Key");
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
    assert_eq!(header(response, "Sec-WebSocket-Accept"), accept);
}

#[test]
fn every_set_is_its_claims_signed_with_the_published_key() {
    let jwks: Value = serde_json::from_slice(&one("sets/jwks.json").1).unwrap();
    let coordinate = |name: &str| URL_SAFE_NO_PAD.decode(jwks["keys"][0][name].as_str().unwrap()).unwrap();
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);

    let tokens: Vec<_> = files("sets", "jwt").collect();
    assert_eq!(tokens.len(), 5);
    for (path, bytes) in tokens {
        let token = String::from_utf8(bytes).unwrap();
        let token = token.trim_end();
        let claims: Value = serde_json::from_slice(&fs::read(path.with_extension("json")).unwrap()).unwrap();
        assert_eq!(part(token, 1), claims, "{}", path.display());
        assert!(claims["events"].as_object().is_some_and(|events| !events.is_empty()));
        let header = part(token, 0);
        assert_eq!((&header["typ"], &header["kid"]), (&"secevent+jwt".into(), &jwks["keys"][0]["kid"]));
        let (input, signature) = token.rsplit_once('.').unwrap();
        key.verify(input.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
    }
}

#[test]
fn the_unsecured_set_has_the_claims_of_the_figure_before_it() {
    let token = String::from_utf8(one("sets/faulty/figure-6-unsecured.jwt").1).unwrap();
    let claims: Value = serde_json::from_slice(&one("sets/figure-5-scim-create.json").1).unwrap();
    assert_eq!((part(&token, 0)["alg"].as_str(), part(&token, 1)), (Some("none"), claims));
    let printed = String::from_utf8(one("sets/faulty/figure-6-as-printed.jwt").1).unwrap();
    assert!(printed.trim_end().contains('\n'));
    assert_eq!(printed.split_whitespace().collect::<String>(), token.trim_end());
}

#[test]
fn subjects_are_judged_as_their_directories_say() {
    let mut formats = BTreeSet::new();
    for (path, bytes) in files("subjects", "json") {
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        let subject = Subject::from_value(&value, Strictness::Strict);
        let subject = subject.unwrap_or_else(|fault| panic!("{}: {fault}", path.display()));
        assert_eq!(subject.to_value(), value, "{}", path.display());
        formats.insert(subject.format().to_owned());
    }
    for format in [
        "account",
        "aliases",
        "complex",
        "did",
        "email",
        "ip-addresses",
        "iss_sub",
        "jwt_id",
        "opaque",
        "phone_number",
        "saml_assertion_id",
        "uri",
    ] {
        assert!(formats.contains(format), "no example of {format}");
    }
    for (path, bytes) in files("subjects/lenient", "json") {
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(check(&value, Strictness::Lenient), Ok(()), "{}", path.display());
        assert!(check(&value, Strictness::Strict).is_err(), "{}", path.display());
    }
    for (path, bytes) in files("subjects/faulty", "json") {
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert!(check(&value, Strictness::Lenient).is_err(), "{}", path.display());
        assert!(check(&value, Strictness::Strict).is_err(), "{}", path.display());
    }
}

#[test]
fn every_event_type_has_an_example_that_conforms() {
    for (file, prefix, lines_min) in
        [("caep.jsonl", "caep:", 12), ("risc.jsonl", "risc:", 14), ("ssf.jsonl", "ssf:", 2)]
    {
        let text = String::from_utf8(one(file).1).unwrap();
        let mut types = BTreeSet::new();
        let mut formats = BTreeSet::new();
        for (index, line) in text.lines().enumerate() {
            let place = format!("{file}:{}", index + 1);
            let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{place}: {error}"));
            let short = event["type"].as_str().unwrap();
            let uri = expand(short).unwrap_or_else(|| panic!("{place}: {short}"));
            assert_eq!(shorten(&uri), short);
            let payload = event["event"].as_object().unwrap_or_else(|| panic!("{place}: no payload"));
            assert_eq!(conformance(&uri, payload), [""; 0], "{place}");
            let subject = Subject::from_value(&event["sub_id"], Strictness::Strict);
            let subject = subject.unwrap_or_else(|fault| panic!("{place}: {fault}"));
            assert_eq!(subject_conformance(&uri, &subject), [""; 0], "{place}");
            types.insert(short.to_owned());
            formats.insert(subject.format().to_owned());
        }
        let known: BTreeSet<_> =
            KNOWN.iter().filter(|(short, _)| short.starts_with(prefix)).map(|(short, _)| (*short).to_owned()).collect();
        assert_eq!(types, known);
        assert!(text.lines().count() >= lines_min, "{file}");
        assert!(formats.len() >= 7 || prefix == "ssf:", "{file} has only {formats:?}");
    }
}

#[test]
fn every_optional_member_of_caep_and_risc_is_shown() {
    let text = String::from_utf8([one("caep.jsonl").1, one("risc.jsonl").1].concat()).unwrap();
    let mut shown = BTreeSet::new();
    for line in text.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        shown.extend(event["event"].as_object().unwrap().keys().cloned());
    }
    for member in [
        "event_timestamp",
        "initiating_entity",
        "reason_admin",
        "reason_user",
        "friendly_name",
        "x509_issuer",
        "x509_serial",
        "fido2_aaguid",
        "previous_level",
        "change_direction",
        "fp_ua",
        "acr",
        "amr",
        "ext_id",
        "risk_reason",
        "reason",
        "new-value",
    ] {
        assert!(shown.contains(member), "{member} is never shown");
    }
}

/// All files of one directory with one extension, in order.
fn files(dir: &str, extension: &str) -> impl Iterator<Item = (PathBuf, Vec<u8>)> {
    let dir = root().join(dir);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable directory").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    assert!(!paths.is_empty(), "{} has no .{extension} files", dir.display());
    paths.into_iter().map(|path| {
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path, bytes)
    })
}

fn one(file: &str) -> (PathBuf, Vec<u8>) {
    let path = root().join(file);
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (path, bytes)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("proto-examples")
}

fn is_error(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("error-"))
}

fn object(path: &Path, bytes: &[u8]) -> Object {
    parse(bytes, &Limits::default()).unwrap_or_else(|refused| panic!("{}: {refused}", path.display()))
}

fn head_and_body(path: &Path, bytes: &[u8]) -> (String, String) {
    let text = String::from_utf8(bytes.to_vec()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    match text.split_once("\n\n") {
        Some((head, body)) => (head.to_owned(), body.to_owned()),
        None => (text, String::new()),
    }
}

/// One base64url part of a compact JWS, which must be JSON.
fn part(token: &str, index: usize) -> Value {
    let part = token.trim_end().split('.').nth(index).expect("a compact JWS has three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}

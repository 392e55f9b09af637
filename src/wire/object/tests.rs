//! Communication Objects: what is read, what is refused as a whole, and that what is written reads back.

use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<Object, Malformed> {
    parse(text.as_bytes(), &Limits::default())
}

fn jtis(object: &Object) -> Vec<&str> {
    object.sets.iter().map(|(jti, _)| jti.as_str()).collect()
}

#[test]
fn every_member_is_read_and_any_may_be_missing() {
    let object = read(
        r#"{"ack": ["a", "b"], "sets": {"j1": "e30.e30.c2ln", "j2": "x"},
            "setErrs": {"c": {"description": "no key", "err": "invalid_key"}, "d": {"err": "invalid_request"}},
            "maxResponseEvents": 10}"#,
    )
    .unwrap();
    assert_eq!(object.sets, [(Jti::from("j1"), "e30.e30.c2ln".into()), (Jti::from("j2"), "x".into())]);
    assert_eq!(object.acks, [Jti::from("a"), Jti::from("b")]);
    let expected = [("c", "invalid_key", "no key"), ("d", "invalid_request", "")];
    let found: Vec<_> =
        object.errors.iter().map(|(jti, e)| (jti.as_str(), e.err.as_str(), e.description.as_str())).collect();
    assert_eq!(found, expected);
    assert_eq!(object.max_response_events, Some(10));

    assert_eq!(read("{}").unwrap(), Object::default());
    assert_eq!(read(" {\"sets\":{},\"ack\":[],\"setErrs\":{}}\r\n").unwrap(), Object::default());
}

#[test]
fn what_the_draft_allows_or_leaves_open_is_accepted() {
    for text in [
        // Members that nobody named, of any kind, but not too deep.
        r#"{"more": [null, true, -1, 1.5e3, "x", {"a": {"b": []}}], "acks": ["only `ack` counts"]}"#,
        &format!(r#"{{"deep": {}{}}}"#, "[".repeat(31), "]".repeat(31)),
        r#"{"setErrs": {"j": {"err": "e", "more": {"a": [1]}}}}"#,
        // Numbers.
        r#"{"maxResponseEvents": 0}"#,
        r#"{"maxResponseEvents": 10.0}"#,
        r#"{"maxResponseEvents": 1e3}"#,
        r#"{"maxResponseEvents": 18446744073709551616}"#,
        // The fault of one SET is not the object's.
        r#"{"sets": {"j": ""}}"#,
        r#"{"sets": {"j": "line\nbreak"}}"#,
        r#"{"ack": ["j"], "sets": {"j": "x"}}"#,
    ] {
        assert!(read(text).is_ok(), "{text}: {:?}", read(text));
    }
}

#[test]
fn an_integral_number_of_any_spelling_is_an_integer() {
    // The last but one is a whole number to whoever reads it one step off, as a float has no halves there.
    for (text, number) in
        [("10.0", 10), ("1e3", 1000), ("-0", 0), ("222222000000050220.5", 222_222_000_000_050_208), ("1e300", u64::MAX)]
    {
        let object = read(&format!(r#"{{"maxResponseEvents": {text}}}"#)).unwrap();
        assert_eq!(object.max_response_events, Some(number), "{text}");
    }
}

#[test]
fn what_is_not_one_json_text_in_utf8_is_malformed() {
    let inputs: [&[u8]; 18] = [
        b"",
        b" ",
        b"{",
        b"{\"sets\": {},}",
        b"{\"sets\": {\"a\": \"x\",}}",
        b"{\"ack\": [\"a\",]}",
        b"{} {}",
        b"{}x",
        b"\xef\xbb\xbf{}",
        b"{\"ack\": [\"\xff\"]}",
        b"{\"\xc3\x28\": 1}",
        b"{\"ack\": [\"line\nbreak\"]}",
        b"{\"ack\": [\"\\ud800\"]}",
        b"{\"ack\": [\"\\x41\"]}",
        b"{'ack': []}",
        b"{ack: []}",
        b"{\"maxResponseEvents\": 010}",
        b"{\"maxResponseEvents\": NaN}",
    ];
    for input in inputs {
        let refused = parse(input, &Limits::default()).unwrap_err();
        assert_eq!(refused.kind, Kind::Syntax, "{}: {refused}", String::from_utf8_lossy(input));
    }
}

#[test]
fn what_is_not_a_communication_object_is_malformed() {
    for text in [
        // Maps only, never arrays by position, and nothing is null.
        "[]",
        r#"[{"j": "A"}]"#,
        "null",
        "5",
        r#""{}""#,
        r#"{"sets": null}"#,
        r#"{"sets": []}"#,
        r#"{"sets": ["x"]}"#,
        r#"{"ack": null}"#,
        r#"{"ack": {}}"#,
        r#"{"ack": "j"}"#,
        r#"{"setErrs": null}"#,
        r#"{"setErrs": []}"#,
        r#"{"setErrs": ["j"]}"#,
        r#"{"maxResponseEvents": null}"#,
        // Strings where strings belong.
        r#"{"sets": {"j": 5}}"#,
        r#"{"sets": {"j": null}}"#,
        r#"{"sets": {"j": ["x"]}}"#,
        r#"{"ack": [5]}"#,
        r#"{"ack": [null]}"#,
        r#"{"setErrs": {"j": "invalid_key"}}"#,
        r#"{"setErrs": {"j": ["invalid_key", "text"]}}"#,
        r#"{"setErrs": {"j": null}}"#,
        r#"{"setErrs": {"j": {}}}"#,
        r#"{"setErrs": {"j": {"description": "x"}}}"#,
        r#"{"setErrs": {"j": {"err": 5}}}"#,
        r#"{"setErrs": {"j": {"err": null}}}"#,
        r#"{"setErrs": {"j": {"err": "e", "description": null}}}"#,
        // Whole numbers from nought.
        r#"{"maxResponseEvents": -1}"#,
        r#"{"maxResponseEvents": 1.5}"#,
        r#"{"maxResponseEvents": "10"}"#,
        r#"{"maxResponseEvents": true}"#,
        // No name twice, however it is spelled, at any level.
        r#"{"ack": [], "ack": []}"#,
        r#"{"sets": {}, "s\u0065ts": {}}"#,
        r#"{"x": 1, "x": 1}"#,
        r#"{"x": [{"a": 1, "a": 2}]}"#,
        r#"{"sets": {"j": "A", "j": "B"}}"#,
        r#"{"sets": {"j": "A", "\u006a": "A"}}"#,
        r#"{"setErrs": {"j": {"err": "e"}, "j": {"err": "e"}}}"#,
        r#"{"setErrs": {"j": {"err": "e", "err": "e"}}}"#,
        r#"{"setErrs": {"j": {"err": "e", "more": {"a": 1, "a": 1}}}}"#,
        // Empty identities.
        r#"{"sets": {"": "x"}}"#,
        r#"{"ack": [""]}"#,
        r#"{"setErrs": {"": {"err": "e"}}}"#,
        // Two verdicts about one SET.
        r#"{"ack": ["j"], "setErrs": {"j": {"err": "e"}}}"#,
        r#"{"setErrs": {"i": {"err": "e"}, "j": {"err": "e"}}, "ack": ["k", "\u006a"]}"#,
        // Too deep.
        &format!(r#"{{"deep": {}{}}}"#, "[".repeat(32), "]".repeat(32)),
        &format!(r#"{{"deep": {}1{}}}"#, r#"{"a":"#.repeat(40), "}".repeat(40)),
        &format!(r#"{{"setErrs": {{"j": {{"err": "e", "deep": {}{}}}}}}}"#, "[".repeat(30), "]".repeat(30)),
    ] {
        let refused = read(text).unwrap_err();
        assert_eq!(refused.kind, Kind::Shape, "{text}: {refused}");
        assert!(!refused.kind.is_too_big());
    }
}

#[test]
fn members_without_number_are_refused_before_memory_is_spent_on_them() {
    let with = |count: usize| {
        let members: Vec<String> = (0..count).map(|n| format!("\"{n}\":0")).collect();
        read(&format!(r#"{{"more":{{{}}}}}"#, members.join(","))).map(|_| ())
    };
    assert_eq!(with(1 << 16), Ok(()));
    let refused = with((1 << 16) + 1).unwrap_err();
    assert_eq!((refused.kind, refused.description.as_str()), (Kind::Shape, "an object has more than 65536 members"));
}

#[test]
fn nesting_without_end_is_refused_before_the_stack_is() {
    for open in ["[", "{\"a\":"] {
        let text = format!(r#"{{"deep": {}"#, open.repeat(100_000));
        assert_eq!(read(&text).unwrap_err().kind, Kind::Shape);
    }
}

#[test]
fn each_limit_holds_exactly() {
    let limits =
        Limits { object_bytes_max: 120, set_bytes_max: 1, sets_per_object_max: 2, jti_bytes_max: 4, verdicts_max: 3 };
    let kind = |text: &str| parse(text.as_bytes(), &limits).map(drop).map_err(|refused| refused.kind);
    assert_eq!(kind(&format!("{{{}}}", " ".repeat(118))), Ok(()));
    assert_eq!(kind(&format!("{{{}}}", " ".repeat(119))), Err(Kind::TooManyBytes));
    assert_eq!(kind(r#"{"sets":{"a":"longer than set_bytes_max","b":"x"}}"#), Ok(()));
    assert_eq!(kind(r#"{"sets":{"a":"x","b":"x","c":"x"}}"#), Err(Kind::TooManySets));
    assert_eq!(kind(r#"{"ack":["abcd"]}"#), Ok(()));
    assert_eq!(kind(r#"{"ack":["abcde"]}"#), Err(Kind::Shape));
    assert_eq!(kind(r#"{"sets":{"ääa":"x"}}"#), Err(Kind::Shape));
    assert_eq!(kind(r#"{"ack":["a","a"],"setErrs":{"b":{"err":"e"}}}"#), Ok(()));
    assert_eq!(kind(r#"{"ack":["a","a","a"],"setErrs":{"b":{"err":"e"}}}"#), Err(Kind::TooManyVerdicts));
    for kind in [Kind::TooManyBytes, Kind::TooManySets, Kind::TooManyVerdicts] {
        assert!(kind.is_too_big());
    }
}

#[test]
fn a_jti_is_compared_byte_for_byte() {
    let object = read(r#"{"sets": {"\u00e9": "1", "e\u0301": "2", "J": "3", "j": "4", "j ": "5", "j\u0000": "6"}}"#);
    assert_eq!(jtis(&object.unwrap()), ["\u{e9}", "e\u{301}", "J", "j", "j ", "j\0"]);
}

#[test]
fn an_ack_said_twice_is_one_ack() {
    assert_eq!(read(r#"{"ack": ["a", "b", "a"]}"#).unwrap().acks, [Jti::from("a"), Jti::from("b")]);
}

#[test]
fn an_error_text_says_what_is_wrong_and_quotes_no_content() {
    for (text, description) in [
        (r#"{"sets": "secret"}"#, "`sets` must be an object (line 1, column 17)"),
        (r#"{"ack": ["a", {"secret": 1}]}"#, "`ack` must be an array of strings (line 1, column 14)"),
        (r#"{"setErrs": {"j": {"err": ["secret"]}}}"#, "`err` must be a string (line 1, column 26)"),
        (r#"{"secret": 1, "secret": 2}"#, "an object has two members of one name"),
        (r#"{"sets": {"j": "secret", "j": "secret"}}"#, "`sets` has j twice"),
        (r#"{"ack": ["secret]}"#, "not JSON: EOF while parsing a string at line 1 column 18"),
    ] {
        assert_eq!(read(text).unwrap_err().to_string(), description, "{text}");
    }
    let shown = format!("{:?}", read(r#"{"sets": {"j": "secret"}}"#).unwrap());
    assert!(shown.contains("\"j\"") && !shown.contains("secret"), "{shown}");
}

#[test]
fn empty_members_are_left_out_and_the_rest_is_compact() {
    let written = |object: &Object| String::from_utf8(rewrite(object)).unwrap();
    assert_eq!(written(&Object::default()), "{}");
    let mut object = Object { max_response_events: Some(0), ..Object::default() };
    assert_eq!(written(&object), r#"{"maxResponseEvents":0}"#);
    object.acks = vec!["a".into(), "b\"".into()];
    assert_eq!(written(&object), r#"{"ack":["a","b\""],"maxResponseEvents":0}"#);
    object.sets = vec![("c".into(), "x.y.z".into()), ("d\0".into(), "ü\n".into())];
    object.max_response_events = None;
    assert_eq!(written(&object), "{\"sets\":{\"c\":\"x.y.z\",\"d\\u0000\":\"ü\\u000a\"},\"ack\":[\"a\",\"b\\\"\"]}");
    object.acks.clear();
    object.errors = vec![("e".into(), SetErr { err: "invalid_key".into(), description: String::new() })];
    object.sets.truncate(1);
    assert_eq!(written(&object), r#"{"sets":{"c":"x.y.z"},"setErrs":{"e":{"err":"invalid_key","description":""}}}"#);
}

fn rewrite(object: &Object) -> Vec<u8> {
    let errors = object.errors.iter().map(|(jti, error)| (jti, error.err.as_str(), error.description.as_str()));
    write(&object.sets, object.acks.iter(), errors, object.max_response_events)
}

/// Any object that keeps the rules: the jtis are distinct because each carries its index.
fn objects() -> impl Strategy<Value = Object> {
    let texts = || prop::collection::vec((any::<String>(), any::<String>()), 0..8);
    (texts(), texts(), texts(), any::<Option<u64>>()).prop_map(|(sets, acks, errors, max_response_events)| Object {
        sets: sets.into_iter().enumerate().map(|(n, (a, b))| (format!("{n}{a}").into(), b.into())).collect(),
        acks: acks.into_iter().enumerate().map(|(n, (a, _))| format!("{n}{a}").into()).collect(),
        errors: errors
            .into_iter()
            .enumerate()
            .map(|(n, (a, b))| (format!("e{n}").into(), SetErr { err: a, description: b }))
            .collect(),
        max_response_events,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_reads_back_the_same(object in objects()) {
        let bytes = rewrite(&object);
        prop_assert_eq!(parse(&bytes, &Limits::default()).unwrap(), object.clone());
        // An independent reader agrees.
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let sets = value.get("sets").and_then(|sets| sets.as_object()).map_or(0, |sets| sets.len());
        prop_assert_eq!(sets, object.sets.len());
    }

    #[test]
    fn the_size_of_every_part_is_known_before_it_is_written(object in objects()) {
        let sets: usize = object.sets.iter().map(|(jti, compact)| size_of_set(jti, compact)).sum();
        let acks: usize = object.acks.iter().map(size_of_ack).sum();
        let errors: usize = object.errors.iter().map(|(jti, e)| size_of_error(jti, &e.err, &e.description)).sum();
        let bytes = rewrite(&object).len();
        prop_assert!(bytes <= EMPTY_BYTES_MAX + sets + acks + errors);
        // Exact but for the commas that a list's last parts do not have, and the frames of members left out.
        let alone = Object { acks: vec![], errors: vec![], max_response_events: None, ..object };
        if !alone.sets.is_empty() {
            prop_assert_eq!(rewrite(&alone).len(), br#"{"sets":{}}"#.len() + sets - 1);
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = parse(&bytes, &Limits::default());
        let _ = parse_error_body(&bytes);
    }

    #[test]
    fn no_damage_to_a_good_object_makes_the_reader_panic(object in objects(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = rewrite(&object);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = parse(&bytes, &Limits::default()) {
            prop_assert_eq!(parse(&rewrite(&read), &Limits::default()).unwrap(), read);
        }
        let _ = parse(&bytes[..at], &Limits::default());
    }
}

//! Subject Identifiers: which forms are read, which are sent, and how faults are told.

use super::*;

fn lenient(value: &Value) -> Result<Subject, String> {
    Subject::from_value(value, Strictness::Lenient)
}

fn strict(value: &Value) -> Result<Subject, String> {
    Subject::from_value(value, Strictness::Strict)
}

#[test]
fn every_format_reads_and_writes_back_the_same() {
    for value in [
        json!({"format": "account", "uri": "acct:example.user@service.example.com"}),
        json!({"format": "email", "email": "user@example.com"}),
        json!({"format": "iss_sub", "iss": "https://issuer.example.com/", "sub": "145234573"}),
        json!({"format": "opaque", "id": "11112222333344445555"}),
        json!({"format": "phone_number", "phone_number": "+12065550100"}),
        json!({"format": "did", "url": "did:example:123456/did/url/path?versionId=1"}),
        json!({"format": "uri", "uri": "urn:uuid:4e851e98-83c4-4743-a5da-150ecb53042f"}),
        json!({"format": "aliases", "identifiers": [
            {"format": "email", "email": "user@example.com"},
            {"format": "phone_number", "phone_number": "+12065550100"}]}),
        json!({"format": "jwt_id", "iss": "https://idp.example.com/123456789/", "jti": "B70BA622"}),
        json!({"format": "saml_assertion_id", "issuer": "https://idp.example.com/", "assertion_id": "_8e8dc5"}),
        json!({"format": "ip-addresses", "ip-addresses": ["10.29.37.75", "2001:0db8:0000:0000:0000:8a2e:0370:7334"]}),
        json!({"format": "complex", "user": {"format": "email", "email": "bar@example.com"},
               "tenant": {"format": "iss_sub", "iss": "https://example.com/idp1", "sub": "1234"},
               "own": {"format": "aliases", "identifiers": [{"format": "opaque", "id": "1"}]}}),
        json!({"format": "catalog_item", "catalog_id": "c0384/winter/2354122", "more": [null, 1]}),
    ] {
        let subject = strict(&value).unwrap_or_else(|fault| panic!("{value}: {fault}"));
        assert_eq!(subject.to_value(), value);
        assert_eq!(lenient(&value), Ok(subject.clone()));
        assert_eq!(subject.format(), value["format"]);
    }
}

#[test]
fn a_required_member_that_is_missing_empty_or_mistyped_is_an_error_for_everybody() {
    for (format, members) in FORMATS {
        let good: Map<String, Value> = std::iter::once(("format".to_owned(), json!(format)))
            .chain(members.iter().map(|member| ((*member).to_owned(), json!("x"))))
            .collect();
        assert!(check(&Value::Object(good.clone()), Strictness::Lenient).is_ok(), "{format}");
        for member in *members {
            for bad in [None, Some(json!("")), Some(json!(null)), Some(json!(5)), Some(json!(["x"]))] {
                let mut members = good.clone();
                match bad {
                    Some(value) => members.insert((*member).to_owned(), value),
                    None => members.remove(*member),
                };
                let fault = lenient(&Value::Object(members)).unwrap_err();
                assert!(fault.contains(member) && fault.contains(format), "{fault}");
            }
        }
    }
}

#[test]
fn what_is_no_subject_at_all_is_an_error_for_everybody() {
    for value in [
        json!(null),
        json!("email"),
        json!([{"format": "email", "email": "user@example.com"}]),
        json!({}),
        json!({"email": "user@example.com"}),
        json!({"format": null}),
        json!({"format": ""}),
        json!({"format": ["email"]}),
        json!({"subject_type": "email", "email": "user@example.com"}),
        json!({"format": "aliases"}),
        json!({"format": "aliases", "identifiers": []}),
        json!({"format": "aliases", "identifiers": {"format": "opaque", "id": "1"}}),
        json!({"format": "aliases", "identifiers": ["x"]}),
        json!({"format": "aliases", "identifiers": [{"format": "aliases", "identifiers": [{"format": "opaque", "id": "1"}]}]}),
        json!({"format": "aliases", "identifiers": [{"format": "complex", "user": {"format": "opaque", "id": "1"}}]}),
        json!({"format": "ip-addresses"}),
        json!({"format": "ip-addresses", "ip-addresses": "192.0.2.1"}),
        json!({"format": "ip-addresses", "ip-addresses": []}),
        json!({"format": "ip-addresses", "ip-addresses": [5]}),
        json!({"format": "ip-addresses", "ip_addresses": ["192.0.2.1"]}),
        json!({"format": "complex"}),
        json!({"format": "complex", "user": "x"}),
        json!({"format": "complex", "user": {"email": "user@example.com"}}),
        json!({"format": "complex", "more": {"risk": 5}}),
        json!({"format": "complex", "user": {"format": "email"}}),
        json!({"format": "complex", "own": {"format": "complex", "user": {"format": "opaque", "id": "1"}}}),
    ] {
        assert!(check(&value, Strictness::Lenient).is_err(), "{value}");
        assert!(check(&value, Strictness::Strict).is_err(), "{value}");
    }
}

#[test]
fn a_receiver_lets_pass_what_a_sender_must_not_send() {
    for value in [
        // Undescribed members.
        json!({"format": "email", "email": "user@example.com", "more": 1}),
        json!({"format": "aliases", "identifiers": [{"format": "opaque", "id": "1"}], "more": 1}),
        json!({"format": "ip-addresses", "ip-addresses": ["192.0.2.1"], "more": 1}),
        json!({"format": "complex", "user": {"format": "opaque", "id": "1"}, "more": "text"}),
        json!({"format": "complex", "user": {"format": "opaque", "id": "1", "more": 1}}),
        // Names that the specifications' own examples get wrong.
        json!({"format": "phone", "phone_number": "+12065550123"}),
        json!({"format": "iss-sub", "iss": "https://idp.example.com/", "sub": "1"}),
        json!({"format": "ip_addresses", "ip_addresses": ["192.0.2.1"]}),
        // Values.
        json!({"format": "account", "uri": "user@example.com"}),
        json!({"format": "account", "uri": "acct:user"}),
        json!({"format": "account", "uri": "acct:us er@example.com"}),
        json!({"format": "account", "uri": "acct:@example.com"}),
        json!({"format": "account", "uri": "acct:user@example.com/path"}),
        json!({"format": "email", "email": "User <user@example.com>"}),
        json!({"format": "email", "email": "user"}),
        json!({"format": "email", "email": "a@b@example.com"}),
        json!({"format": "email", "email": "user@"}),
        json!({"format": "email", "email": ".user@example.com"}),
        json!({"format": "email", "email": "user@example..com"}),
        json!({"format": "email", "email": " user@example.com"}),
        json!({"format": "email", "email": "mailto:user@example.com"}),
        json!({"format": "iss_sub", "iss": "https://idp.example/ x", "sub": "1"}),
        json!({"format": "iss_sub", "iss": "https://idp.example/", "sub": "12:34"}),
        json!({"format": "jwt_id", "iss": "://idp.example/", "jti": "1"}),
        json!({"format": "phone_number", "phone_number": "+1 206 555 0123"}),
        json!({"format": "phone_number", "phone_number": "12065550123"}),
        json!({"format": "phone_number", "phone_number": "+02065550123"}),
        json!({"format": "phone_number", "phone_number": "+1234567890123456"}),
        json!({"format": "did", "url": "example:123"}),
        json!({"format": "did", "url": "did:example"}),
        json!({"format": "did", "url": "did:Example:123"}),
        json!({"format": "did", "url": "did:example:"}),
        json!({"format": "did", "url": "did:example:12 3"}),
        json!({"format": "uri", "uri": "no-scheme"}),
        json!({"format": "uri", "uri": "1http://example.com"}),
        json!({"format": "uri", "uri": "https://example.com/%zz"}),
        json!({"format": "uri", "uri": "https://example.com/a b"}),
        json!({"format": "uri", "uri": "https://example.com/#a#b"}),
        json!({"format": "ip-addresses", "ip-addresses": ["192.0.2.1", "192.0.2.256"]}),
        json!({"format": "ip-addresses", "ip-addresses": ["192.0.2.0/24"]}),
    ] {
        assert_eq!(check(&value, Strictness::Lenient), Ok(()), "{value}");
        assert!(lenient(&value).is_ok(), "{value}");
        assert!(check(&value, Strictness::Strict).is_err(), "{value}");
    }
}

#[test]
fn unusual_but_correct_values_may_be_sent() {
    for value in [
        json!({"format": "account", "uri": "acct:jane%40x+a@example.com"}),
        json!({"format": "account", "uri": "ACCT:user@example.com:8080"}),
        json!({"format": "email", "email": "\"much.more unusual\"@example.com"}),
        json!({"format": "email", "email": "user@[192.0.2.1]"}),
        json!({"format": "email", "email": "jörg+tag@münchen.example"}),
        json!({"format": "email", "email": "o'hara@localhost"}),
        json!({"format": "iss_sub", "iss": "plain", "sub": "auth0|1 2"}),
        json!({"format": "iss_sub", "iss": "https://idp.example/", "sub": "user:1"}),
        json!({"format": "opaque", "id": "dMTlD|1600802906337.16|16008.16"}),
        json!({"format": "did", "url": "did:web:example.com%3A3000:user:alice#key-1"}),
        json!({"format": "uri", "uri": "https://[2001:db8::1]/a?b=c#d"}),
        json!({"format": "scim", "uri": "/Users/1", "externalId": "e"}),
    ] {
        assert_eq!(check(&value, Strictness::Strict), Ok(()), "{value}");
    }
}

#[test]
fn extra_fields_of_a_complex_subject_are_ignored_and_not_kept() {
    let value = json!({"format": "complex", "user": {"format": "opaque", "id": "1", "more": 1}, "risk": {"level": 5}});
    let expected = json!({"format": "complex", "user": {"format": "opaque", "id": "1"}});
    assert_eq!(lenient(&value).unwrap().to_value(), expected);
}

#[test]
fn a_subject_can_be_written_on_one_line() {
    for (text, value) in [
        ("email:user@example.com", json!({"format": "email", "email": "user@example.com"})),
        ("phone_number:+12065550100", json!({"format": "phone_number", "phone_number": "+12065550100"})),
        (
            r#"{"format": "iss_sub", "iss": "https://idp.example/a,b", "sub": "user-1"}"#,
            json!({"format": "iss_sub", "iss": "https://idp.example/a,b", "sub": "user-1"}),
        ),
        ("opaque:a:b,c", json!({"format": "opaque", "id": "a:b,c"})),
        ("account:acct:user@example.com", json!({"format": "account", "uri": "acct:user@example.com"})),
        ("account:user@example.com", json!({"format": "account", "uri": "acct:user@example.com"})),
        ("uri:https://user.example/", json!({"format": "uri", "uri": "https://user.example/"})),
        ("did:did:example:1", json!({"format": "did", "url": "did:example:1"})),
        ("did:example:1", json!({"format": "did", "url": "did:example:1"})),
        ("jwt_id:https://idp.example/,j", json!({"format": "jwt_id", "iss": "https://idp.example/", "jti": "j"})),
        (
            "saml_assertion_id:https://idp.example/,_1",
            json!({"format": "saml_assertion_id", "issuer": "https://idp.example/", "assertion_id": "_1"}),
        ),
        ("ip-addresses:1.2.3.4, ::1", json!({"format": "ip-addresses", "ip-addresses": ["1.2.3.4", "::1"]})),
        (r#"{"format": "opaque", "id": "1"}"#, json!({"format": "opaque", "id": "1"})),
    ] {
        let subject = Subject::from_text(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
        assert_eq!(subject.to_value(), value, "{text}");
    }
}

#[test]
fn a_slip_in_the_text_form_is_explained_without_repeating_the_subject() {
    for (text, hint) in [
        ("user.secret@example.com", "FORMAT:VALUE; formats: email, phone_number"),
        ("mail:secret", "did you mean `email`?"),
        ("phone:+12065550100", "did you mean `phone_number`?"),
        ("iss-sub:https://secret/,1", "did you mean `iss_sub`?"),
        ("ip_addresses:1.2.3.4", "did you mean `ip-addresses`?"),
        ("https://secret.example/", "unknown subject format; formats:"),
        ("secret-name:1", "unknown subject format; formats:"),
        ("iss_sub:secret", "is written iss_sub:https://idp.example/,user-1"),
        ("phone_number:+1 secret", "must be E.164"),
        ("email:", "`email` of a subject of format `email` must be a string that is not empty"),
        ("complex:secret", "write it as a JSON object"),
        ("{\"secret", "the subject is not valid JSON"),
        ("{\"format\": \"secret\"}x", "the subject is not valid JSON"),
        (r#"{"format": "opaque", "id": "secret", "id": "secret"}"#, "the same member name twice"),
        ("iss_sub:https://idp.example,uid=secret,dc=example", "as a JSON object"),
        ("{\"format\": \"email\", \"email\": \"secret\"}", "must be a bare address"),
    ] {
        let fault = Subject::from_text(text).unwrap_err();
        assert!(fault.contains(hint), "{text}: {fault}");
        assert!(!fault.contains("secret"), "{fault}");
    }
}

#[test]
fn neither_errors_nor_debug_output_hold_values() {
    for value in [
        json!({"format": "email", "email": "secret address"}),
        json!({"format": "opaque", "id": "1", "secret@example.com": 1}),
        json!({"format": "complex", "secret@example.com": {"format": "opaque"}}),
        json!({"format": "ip-addresses", "ip-addresses": ["secret"]}),
        json!({"format": "aliases", "identifiers": [{"format": "uri", "uri": "secret"}]}),
    ] {
        let fault = strict(&value).unwrap_err();
        assert!(!fault.contains("secret"), "{fault}");
    }
    let shown = format!("{:?}", lenient(&json!({"format": "opaque", "id": "secret"})).unwrap());
    assert_eq!(shown, "Subject(\"opaque\")");
}

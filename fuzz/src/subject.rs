//! Subject Identifiers: as JSON, leniently and strictly, and as people write them on a command line.

use pushpull::set::subject::{Strictness, Subject, check as program};
use serde_json::Value;

use super::strict::{self, Json};

/// The check under test.
pub type Check = fn(&Value, Strictness) -> Result<(), String>;

/// Holds the program's check against the judge's.
pub fn check(data: &[u8]) {
    check_with(program, data);
}

/// The same of anybody's check.
pub fn check_with(check: Check, data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    as_text(text);
    let (Some(json), Ok(value)) = (strict::read(data), serde_json::from_str::<Value>(text)) else { return };
    let (lenient, strict) = (check(&value, Strictness::Lenient), check(&value, Strictness::Strict));
    assert_eq!(lenient.is_ok(), is_subject(&json), "{lenient:?}");
    assert!(strict.is_err() || lenient.is_ok(), "what may be sent may not be received");
    for error in [&lenient, &strict].into_iter().filter_map(|outcome| outcome.as_ref().err()) {
        no_value_is_told(&json, error);
    }
    for (strictness, outcome) in [(Strictness::Lenient, lenient), (Strictness::Strict, strict)] {
        let read = Subject::from_value(&value, strictness);
        assert_eq!(read.as_ref().err(), outcome.as_ref().err());
        let Ok(subject) = read else { continue };
        let written = subject.to_value();
        assert_eq!(written["format"], value["format"]);
        assert_eq!(Subject::from_value(&written, strictness).as_ref(), Ok(&subject), "it does not read back");
        if strictness == Strictness::Strict {
            assert_eq!(written, value, "strictly, nothing is left out");
        }
        assert_eq!(
            format!("{subject:?}"),
            format!("Subject({:?})", subject.format()),
            "`Debug` shows the format alone"
        );
    }
}

fn as_text(text: &str) {
    if let Ok(subject) = Subject::from_text(text) {
        let value = subject.to_value();
        assert_eq!(program(&value, Strictness::Strict), Ok(()), "{text:?}");
        assert_eq!(Subject::from_value(&value, Strictness::Strict), Ok(subject));
    }
}

/// RFC 9493 §3 and SSF 1.0 §3, as a Receiver has to read it.
pub fn is_subject(json: &Json) -> bool {
    is_subject_in(json, "")
}

fn is_subject_in(json: &Json, around: &str) -> bool {
    let full = |name: &str| json.get(name).and_then(Json::text).is_some_and(|text| !text.is_empty());
    let Some(format) = json.get("format").and_then(Json::text) else { return false };
    match format {
        "" => false,
        "account" | "uri" => full("uri"),
        "email" => full("email"),
        "iss_sub" => full("iss") && full("sub"),
        "opaque" => full("id"),
        "phone_number" => full("phone_number"),
        "did" => full("url"),
        "jwt_id" => full("iss") && full("jti"),
        "saml_assertion_id" => full("issuer") && full("assertion_id"),
        "ip-addresses" => json
            .get("ip-addresses")
            .and_then(Json::list)
            .is_some_and(|list| !list.is_empty() && list.iter().all(|one| one.text().is_some())),
        "aliases" => {
            around != "aliases"
                && json
                    .get("identifiers")
                    .and_then(Json::list)
                    .is_some_and(|list| !list.is_empty() && list.iter().all(|one| is_subject_in(one, "aliases")))
        }
        "complex" => {
            const NAMED: [&str; 7] = ["user", "device", "session", "application", "tenant", "org_unit", "group"];
            let is_one = |(name, value): &&(String, Json)| {
                name != "format" && (NAMED.contains(&name.as_str()) || value.get("format").is_some())
            };
            let mut subjects = json.members().into_iter().flatten().filter(is_one).peekable();
            around.is_empty() && subjects.peek().is_some() && subjects.all(|(_, one)| is_subject_in(one, "complex"))
        }
        _ => true,
    }
}

/// No error repeats a value of the subject. Only values that no text of ours can hold by chance are looked for.
fn no_value_is_told(json: &Json, error: &str) {
    match json {
        Json::Text(text) if text.chars().any(|c| !c.is_ascii() && c != '…') => {
            assert!(!error.contains(text), "{error:?} tells {text:?}");
        }
        Json::List(list) => list.iter().for_each(|one| no_value_is_told(one, error)),
        Json::Members(members) => members.iter().for_each(|(_, value)| no_value_is_told(value, error)),
        _ => {}
    }
}

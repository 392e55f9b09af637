//! What CAEP 1.0, RISC 1.0 and SSF 1.0 demand of an event's payload. For warnings, not for verdicts: a Receiver ignores
//! what it does not understand, and parties may agree on more than the specifications list.

use serde_json::{Map, Value};

use super::super::subject::Subject;
use super::{STREAM_UPDATED, VERIFICATION, shorten};

/// In what the payload of this event type falls short of the type's definition; nothing for types that are not known.
///
/// The texts name members and never quote their values.
pub fn conformance(uri: &str, payload: &Map<String, Value>) -> Vec<String> {
    let short = shorten(uri);
    let rules = RULES.iter().find(|(of, _)| *of == short).map_or(&[][..], |(_, rules)| rules);
    let common = if short.starts_with("caep:") { COMMON } else { &[] };
    rules.iter().chain(common).filter_map(|rule| rule.fault_in(payload)).collect()
}

/// In what the subject of this event type falls short of the type's definition.
pub fn subject_conformance(uri: &str, subject: &Subject) -> Vec<String> {
    let fault = match &*shorten(uri) {
        // RISC says `phone`, which RFC 9493 registered as `phone_number`.
        "risc:identifier-changed" | "risc:identifier-recycled"
            if !matches!(subject.format(), "email" | "phone_number" | "phone") =>
        {
            Some("the subject must be of format `email` or `phone_number`, the identifier itself (RISC §2)")
        }
        _ if matches!(uri, VERIFICATION | STREAM_UPDATED) && subject.format() != "opaque" => {
            Some("the subject must be of format `opaque`, the stream's identifier (SSF §8.1)")
        }
        _ => None,
    };
    fault.map(str::to_owned).into_iter().collect()
}

/// A demand on one member of a payload.
struct Rule {
    member: &'static str,
    required: bool,
    what: What,
}

/// What a member's value has to be.
enum What {
    Text,
    /// A string that is not empty.
    Name,
    Number,
    OneOf(&'static [&'static str]),
    Texts,
    /// An object with at least one member.
    Object,
    /// BCP 47 language tags and a message for each.
    Messages,
}

const fn required(member: &'static str, what: What) -> Rule {
    Rule { member, required: true, what }
}

const fn optional(member: &'static str, what: What) -> Rule {
    Rule { member, required: false, what }
}

/// CAEP §2: what every CAEP event may carry.
const COMMON: &[Rule] = &[
    optional("event_timestamp", What::Number),
    optional("initiating_entity", What::OneOf(&["admin", "user", "policy", "system"])),
    optional("reason_admin", What::Messages),
    optional("reason_user", What::Messages),
];

const LEVELS: &[&str] = &["LOW", "MEDIUM", "HIGH"];
const COMPLIANCE: &[&str] = &["compliant", "not-compliant"];

/// What each type demands of its own; a type that is not here demands nothing.
const RULES: &[(&str, &[Rule])] = &[
    ("caep:token-claims-change", &[required("claims", What::Object)]),
    (
        "caep:credential-change",
        &[
            required("credential_type", What::Name),
            required("change_type", What::OneOf(&["create", "revoke", "update", "delete"])),
            optional("friendly_name", What::Text),
            optional("x509_issuer", What::Text),
            optional("x509_serial", What::Text),
            optional("fido2_aaguid", What::Text),
        ],
    ),
    (
        "caep:assurance-level-change",
        &[
            required("namespace", What::Name),
            required("current_level", What::Name),
            optional("previous_level", What::Text),
            optional("change_direction", What::OneOf(&["increase", "decrease"])),
        ],
    ),
    (
        "caep:device-compliance-change",
        &[required("previous_status", What::OneOf(COMPLIANCE)), required("current_status", What::OneOf(COMPLIANCE))],
    ),
    (
        "caep:session-established",
        &[
            optional("fp_ua", What::Text),
            optional("acr", What::Text),
            optional("amr", What::Texts),
            optional("ext_id", What::Text),
        ],
    ),
    ("caep:session-presented", &[optional("fp_ua", What::Text), optional("ext_id", What::Text)]),
    (
        "caep:risk-level-change",
        &[
            required("principal", What::Name),
            required("current_level", What::OneOf(LEVELS)),
            optional("previous_level", What::OneOf(LEVELS)),
            optional("risk_reason", What::Text),
        ],
    ),
    ("risc:account-disabled", &[optional("reason", What::OneOf(&["hijacking", "bulk-account"]))]),
    ("risc:identifier-changed", &[optional("new-value", What::Text)]),
    (
        "risc:credential-compromise",
        &[
            required("credential_type", What::Name),
            optional("event_timestamp", What::Number),
            optional("reason_admin", What::Messages),
            optional("reason_user", What::Messages),
        ],
    ),
    ("ssf:verification", &[optional("state", What::Text)]),
    (
        "ssf:stream-updated",
        &[required("status", What::OneOf(&["enabled", "paused", "disabled"])), optional("reason", What::Text)],
    ),
];

impl Rule {
    fn fault_in(&self, payload: &Map<String, Value>) -> Option<String> {
        let member = self.member;
        match payload.get(member) {
            None => self.required.then(|| format!("`{member}` is required and missing")),
            Some(value) if self.what.fits(value) => None,
            Some(_) => Some(format!("`{member}` must be {}", self.what.described())),
        }
    }
}

impl What {
    fn fits(&self, value: &Value) -> bool {
        match self {
            Self::Text => value.is_string(),
            Self::Name => value.as_str().is_some_and(|text| !text.is_empty()),
            Self::Number => value.is_number(),
            Self::OneOf(words) => value.as_str().is_some_and(|text| words.contains(&text)),
            Self::Texts => value.as_array().is_some_and(|values| values.iter().all(Value::is_string)),
            Self::Object => value.as_object().is_some_and(|object| !object.is_empty()),
            Self::Messages => value.as_object().is_some_and(|messages| {
                !messages.is_empty()
                    && messages.iter().all(|(tag, message)| is_language_tag(tag) && message.is_string())
            }),
        }
    }

    fn described(&self) -> String {
        match self {
            Self::Text => "a string".to_owned(),
            Self::Name => "a string that is not empty".to_owned(),
            Self::Number => "a number, the seconds since 1970".to_owned(),
            Self::OneOf(words) => format!("one of {}", words.join(", ")),
            Self::Texts => "an array of strings".to_owned(),
            Self::Object => "an object with at least one member".to_owned(),
            Self::Messages => "an object of language tags and messages, at least one".to_owned(),
        }
    }
}

/// The shape of a BCP 47 tag (RFC 5646 §2.1): a language and further parts of at most eight letters or digits.
fn is_language_tag(tag: &str) -> bool {
    let is_part = |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric());
    tag.split('-').all(is_part) && tag.starts_with(|c: char| c.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::subject::Strictness;
    use super::super::{KNOWN, expand};
    use super::*;

    fn faults(short: &str, payload: Value) -> Vec<String> {
        conformance(&expand(short).unwrap(), payload.as_object().unwrap())
    }

    #[test]
    fn what_is_required_is_missed() {
        for (short, members) in [
            ("caep:token-claims-change", &["claims"][..]),
            ("caep:credential-change", &["credential_type", "change_type"]),
            ("caep:assurance-level-change", &["namespace", "current_level"]),
            ("caep:device-compliance-change", &["previous_status", "current_status"]),
            ("caep:risk-level-change", &["principal", "current_level"]),
            ("risc:credential-compromise", &["credential_type"]),
            ("ssf:stream-updated", &["status"]),
        ] {
            let expected: Vec<_> = members.iter().map(|member| format!("`{member}` is required and missing")).collect();
            assert_eq!(faults(short, json!({})), expected, "{short}");
        }
    }

    #[test]
    fn an_empty_payload_is_enough_for_the_other_types() {
        let demanding = KNOWN.iter().filter(|(_, uri)| !conformance(uri, &Map::new()).is_empty());
        assert_eq!(demanding.count(), 7);
    }

    #[test]
    fn what_every_caep_event_may_carry_is_checked_in_each() {
        for (short, _) in KNOWN.iter().filter(|(short, _)| short.starts_with("caep:")) {
            let faults = faults(
                short,
                json!({"event_timestamp": "1615304991", "initiating_entity": "robot", "reason_admin": "text",
                       "reason_user": {"en": 5}}),
            );
            for member in ["event_timestamp", "initiating_entity", "reason_admin", "reason_user"] {
                assert!(faults.iter().any(|fault| fault.starts_with(&format!("`{member}` must be"))), "{short}");
            }
        }
        let good = json!({"event_timestamp": 1615304991.5, "initiating_entity": "policy",
                          "reason_admin": {"en": "a", "es-410": "b"}});
        assert!(faults("caep:session-revoked", good).is_empty());
        for messages in [json!({}), json!({"": "a"}), json!({"not a tag": "a"}), json!({"4en": "a"})] {
            assert_eq!(faults("caep:session-revoked", json!({"reason_user": messages})).len(), 1);
        }
    }

    #[test]
    fn values_outside_an_enumeration_are_named_but_not_quoted() {
        let change = json!({"credential_type": "agreed-between-us", "change_type": "secret"});
        assert_eq!(
            faults("caep:credential-change", change),
            ["`change_type` must be one of create, revoke, update, delete"]
        );
        assert_eq!(faults("risc:account-disabled", json!({"reason": "secret"})).len(), 1);
        assert_eq!(faults("caep:session-established", json!({"amr": "otp"})), ["`amr` must be an array of strings"]);
        assert_eq!(faults("caep:token-claims-change", json!({"claims": {}})).len(), 1);
        let risk = json!({"principal": "USER", "current_level": "low", "previous_level": "NONE"});
        assert_eq!(faults("caep:risk-level-change", risk).len(), 2);
    }

    #[test]
    fn additional_members_and_unknown_types_are_left_alone() {
        assert!(faults("caep:session-revoked", json!({"x": null, "subject": {}})).is_empty());
        assert!(faults("https://events.example/x", json!({"event_timestamp": "soon"})).is_empty());
    }

    #[test]
    fn an_identifier_event_is_about_an_identifier_and_a_stream_event_about_a_stream() {
        let subject = |value: Value| Subject::from_value(&value, Strictness::Lenient).unwrap();
        let email = subject(json!({"format": "email", "email": "a@example.com"}));
        let opaque = subject(json!({"format": "opaque", "id": "1"}));
        let changed = expand("risc:identifier-changed").unwrap();
        assert!(subject_conformance(&changed, &email).is_empty());
        assert_eq!(subject_conformance(&changed, &opaque).len(), 1);
        assert!(subject_conformance(VERIFICATION, &opaque).is_empty());
        assert_eq!(subject_conformance(VERIFICATION, &email).len(), 1);
    }
}

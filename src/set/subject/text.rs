//! Subjects as people write them on a command line: FORMAT:VALUE.

use crate::set::json;

use super::rules::misspelt;
use super::{Strictness, Subject, check};
use crate::set::nearest::nearest;

/// The formats that have a text form, with a sample of each.
const TEXT_FORMATS: &[(&str, &str)] = &[
    ("email", "user@example.com"),
    ("phone_number", "+12065550100"),
    ("iss_sub", "https://idp.example/,user-1"),
    ("opaque", "id"),
    ("account", "acct:user@example.com"),
    ("uri", "https://user.example/"),
    ("did", "did:example:123456"),
    ("jwt_id", "https://idp.example/,jti"),
    ("saml_assertion_id", "https://idp.example/,id"),
    ("ip-addresses", "192.0.2.1,2001:db8::1"),
];

impl Subject {
    /// Reads FORMAT:VALUE, for example `email:user@example.com`. Where a format has two members they are separated by
    /// the only comma: with several nobody can tell which, since issuers are URIs and identifiers may be distinguished names.
    /// A JSON object is taken, too; in it a member name that stands twice is a fault.
    ///
    /// The subject is one that may be sent ([`Strictness::Strict`]).
    ///
    /// # Errors
    ///
    /// What is wrong and which formats there are. Nothing of the text is repeated but a format's known name.
    pub fn from_text(text: &str) -> Result<Self, String> {
        if text.trim_start().starts_with('{') {
            let value = json::value(text.trim().as_bytes()).map_err(|error| format!("the subject is {error}"))?;
            return Self::from_value(&value, Strictness::Strict);
        }
        let Some((format, value)) = text.split_once(':') else {
            return Err(format!("a subject is written FORMAT:VALUE; {}", formats()));
        };
        let pair = || {
            if value.matches(',').count() > 1 {
                let several = "there is more than one comma in it, and either part may hold one";
                return Err(format!("{several}: write a subject of format `{format}` as a JSON object"));
            }
            let halves = value.split_once(',').map(|(first, second)| (first.to_owned(), second.to_owned()));
            halves.ok_or_else(|| format!("a subject of format `{format}` is written {}", sample(format)))
        };
        let subject = match format {
            "account" => Self::Account { uri: with_scheme("acct:", value) },
            "email" => Self::Email { email: value.to_owned() },
            "iss_sub" => pair().map(|(iss, sub)| Self::IssSub { iss, sub })?,
            "opaque" => Self::Opaque { id: value.to_owned() },
            "phone_number" => Self::PhoneNumber { phone_number: value.to_owned() },
            "did" => Self::Did { url: with_scheme("did:", value) },
            "uri" => Self::Uri { uri: value.to_owned() },
            "jwt_id" => pair().map(|(iss, jti)| Self::JwtId { iss, jti })?,
            "saml_assertion_id" => {
                pair().map(|(issuer, assertion_id)| Self::SamlAssertionId { issuer, assertion_id })?
            }
            "ip-addresses" => Self::IpAddresses(value.split(',').map(|address| address.trim().to_owned()).collect()),
            "aliases" | "complex" => {
                return Err(format!("a subject of format `{format}` has no short form: write it as a JSON object"));
            }
            _ => return Err(unknown(format)),
        };
        check(&subject.to_value(), Strictness::Strict)
            .map_err(|fault| format!("{fault}; it is written {}", sample(format)))?;
        Ok(subject)
    }
}

/// `did:example:1` is both a DID and the short form of one without its scheme; either way of writing means the same.
fn with_scheme(scheme: &str, value: &str) -> String {
    if value.is_empty() || value.starts_with(scheme) { value.to_owned() } else { format!("{scheme}{value}") }
}

/// The error about a format that has no text form. What stands before the colon is not repeated: it may be the subject.
fn unknown(format: &str) -> String {
    let known = TEXT_FORMATS.iter().map(|(name, _)| *name);
    match misspelt(format).or_else(|| nearest(format, known)) {
        Some(meant) => format!("unknown subject format: did you mean `{meant}`? {}", formats()),
        None => format!("unknown subject format; {}", formats()),
    }
}

fn formats() -> String {
    let names: Vec<&str> = TEXT_FORMATS.iter().map(|(name, _)| *name).collect();
    format!("formats: {}; for example email:user@example.com", names.join(", "))
}

fn sample(format: &str) -> String {
    let known = TEXT_FORMATS.iter().find(|(name, _)| *name == format);
    known.map(|(name, value)| format!("{name}:{value}")).unwrap_or_default()
}

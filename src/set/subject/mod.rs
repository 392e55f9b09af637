//! Subject Identifiers (RFC 9493) and the formats that SSF 1.0 §3 adds: whom or what an event is about.
//! No error text and no `Debug` output of this module ever holds a subject's values.

mod rules;
mod text;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};

use super::look::{Look, Object};
use rules::{FORMATS, named, syntax_fault};

/// How much is demanded of a Subject Identifier.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Strictness {
    /// For receiving: formats that nobody knows and members that nobody described pass, and the syntax of values is not
    /// judged beyond "a string that is not empty" (SSF: Receivers ignore what they do not understand).
    Lenient,
    /// For sending: values follow their format's syntax, and there are no undescribed members (RFC 9493 §3).
    Strict,
}

/// A subject. Which variants there are grows with the registry of formats.
#[derive(Clone, Eq, PartialEq)]
#[non_exhaustive]
pub enum Subject {
    /// `account`: an account at a service (RFC 9493 §3.2.1).
    Account {
        /// An `acct:` URI (RFC 7565).
        uri: String,
    },
    /// `email` (RFC 9493 §3.2.2).
    Email {
        /// An addr-spec of RFC 5322: no display name, no angle brackets.
        email: String,
    },
    /// `iss_sub`: what a JWT's issuer calls its subject (RFC 9493 §3.2.3).
    IssSub {
        /// The issuer; need not be the SET's.
        iss: String,
        /// The subject.
        sub: String,
    },
    /// `opaque`: means something to the parties only (RFC 9493 §3.2.4).
    Opaque {
        /// The identifier.
        id: String,
    },
    /// `phone_number` (RFC 9493 §3.2.5).
    PhoneNumber {
        /// E.164 with its plus sign and nothing between the digits.
        phone_number: String,
    },
    /// `did`: a decentralised identifier (RFC 9493 §3.2.6).
    Did {
        /// A DID URL, perhaps a bare DID.
        url: String,
    },
    /// `uri` (RFC 9493 §3.2.7).
    Uri {
        /// A URI of any scheme.
        uri: String,
    },
    /// `aliases`: several identifiers of one subject, none of them `aliases` or `complex` (RFC 9493 §3.2.8).
    Aliases(Vec<Subject>),
    /// `jwt_id`: a JWT (SSF §3.5.1).
    JwtId {
        /// The JWT's issuer.
        iss: String,
        /// The JWT's own identifier.
        jti: String,
    },
    /// `saml_assertion_id`: a SAML 2.0 assertion (SSF §3.5.2).
    SamlAssertionId {
        /// The assertion's `Issuer`.
        issuer: String,
        /// The assertion's `ID`.
        assertion_id: String,
    },
    /// `ip-addresses`: addresses as they were seen and spelled (SSF §3.5.3).
    IpAddresses(Vec<String>),
    /// `complex`: attributes of one subject by name, none of them `complex` again (SSF §3.3).
    Complex(BTreeMap<String, Subject>),
    /// A format that is agreed between the parties or newer than this program.
    Other {
        /// Its name.
        format: String,
        /// All members but `format`.
        members: Map<String, Value>,
    },
}

impl Subject {
    /// Reads a Subject Identifier. Undescribed members of known formats, which only [`Strictness::Lenient`] lets pass,
    /// are not kept.
    ///
    /// # Errors
    ///
    /// As [`check`].
    pub fn from_value(value: &Value, strictness: Strictness) -> Result<Self, String> {
        check(value, strictness)?;
        value.as_object().and_then(Self::from_checked).ok_or_else(|| "a subject must be a JSON object".to_owned())
    }

    /// The JSON form.
    pub fn to_value(&self) -> Value {
        let mut value = match self {
            Self::Account { uri } | Self::Uri { uri } => json!({ "uri": uri }),
            Self::Email { email } => json!({ "email": email }),
            Self::IssSub { iss, sub } => json!({ "iss": iss, "sub": sub }),
            Self::Opaque { id } => json!({ "id": id }),
            Self::PhoneNumber { phone_number } => json!({ "phone_number": phone_number }),
            Self::Did { url } => json!({ "url": url }),
            Self::Aliases(subjects) => {
                json!({ "identifiers": subjects.iter().map(Self::to_value).collect::<Vec<_>>() })
            }
            Self::JwtId { iss, jti } => json!({ "iss": iss, "jti": jti }),
            Self::SamlAssertionId { issuer, assertion_id } => {
                json!({ "issuer": issuer, "assertion_id": assertion_id })
            }
            Self::IpAddresses(addresses) => json!({ "ip-addresses": addresses }),
            Self::Complex(members) => {
                members.iter().map(|(name, subject)| (name.clone(), subject.to_value())).collect()
            }
            Self::Other { members, .. } => Value::Object(members.clone()),
        };
        if let Value::Object(members) = &mut value {
            members.insert("format".to_owned(), self.format().into());
        }
        value
    }

    /// The name of the format.
    pub fn format(&self) -> &str {
        match self {
            Self::Account { .. } => "account",
            Self::Email { .. } => "email",
            Self::IssSub { .. } => "iss_sub",
            Self::Opaque { .. } => "opaque",
            Self::PhoneNumber { .. } => "phone_number",
            Self::Did { .. } => "did",
            Self::Uri { .. } => "uri",
            Self::Aliases(_) => "aliases",
            Self::JwtId { .. } => "jwt_id",
            Self::SamlAssertionId { .. } => "saml_assertion_id",
            Self::IpAddresses(_) => "ip-addresses",
            Self::Complex(_) => "complex",
            Self::Other { format, .. } => format,
        }
    }

    /// Builds from members that [`check`] has passed; `None` only if it has not.
    fn from_checked(members: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| members.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(match members.get("format")?.as_str()? {
            "account" => Self::Account { uri: text("uri")? },
            "email" => Self::Email { email: text("email")? },
            "iss_sub" => Self::IssSub { iss: text("iss")?, sub: text("sub")? },
            "opaque" => Self::Opaque { id: text("id")? },
            "phone_number" => Self::PhoneNumber { phone_number: text("phone_number")? },
            "did" => Self::Did { url: text("url")? },
            "uri" => Self::Uri { uri: text("uri")? },
            "aliases" => {
                let identifiers = members.get("identifiers")?.as_array()?;
                Self::Aliases(
                    identifiers.iter().map(|one| Self::from_checked(one.as_object()?)).collect::<Option<_>>()?,
                )
            }
            "jwt_id" => Self::JwtId { iss: text("iss")?, jti: text("jti")? },
            "saml_assertion_id" => {
                Self::SamlAssertionId { issuer: text("issuer")?, assertion_id: text("assertion_id")? }
            }
            "ip-addresses" => {
                let addresses = members.get("ip-addresses")?.as_array()?;
                Self::IpAddresses(addresses.iter().map(|one| one.as_str().map(str::to_owned)).collect::<Option<_>>()?)
            }
            "complex" => {
                let subjects = members.iter().filter(|(name, value)| is_subject_member(name, *value));
                let subjects =
                    subjects.map(|(name, value)| Some((name.clone(), Self::from_checked(value.as_object()?)?)));
                Self::Complex(subjects.collect::<Option<_>>()?)
            }
            format => {
                let others = members.iter().filter(|(name, _)| *name != "format");
                let members = others.map(|(name, value)| (name.clone(), value.clone())).collect();
                Self::Other { format: format.to_owned(), members }
            }
        })
    }
}

impl fmt::Debug for Subject {
    /// Shows the format only: a subject must not reach a log by way of a `{:?}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subject({:?})", self.format())
    }
}

/// Whether this value is a Subject Identifier as demanded; cheaper than to build one.
///
/// # Errors
///
/// What is wrong, in terms of formats and members and without any of the subject's values.
pub fn check(value: &Value, strictness: Strictness) -> Result<(), String> {
    look(value, strictness)
}

/// The same, wherever the value stands.
pub(super) fn look<'a>(value: impl Look<'a>, strictness: Strictness) -> Result<(), String> {
    check_at(value, strictness, Place::Top)
}

/// Where a Subject Identifier stands; nesting ends after one level of each kind.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Place {
    Top,
    InComplex,
    InAliases,
}

fn check_at<'a>(value: impl Look<'a>, strictness: Strictness, place: Place) -> Result<(), String> {
    let Some(members) = value.object() else { return Err("a subject must be a JSON object".to_owned()) };
    let format = match members.find("format").map(Look::text) {
        Some(Some(format)) if !format.is_empty() => format,
        Some(_) => return Err("`format` must be a string that is not empty".to_owned()),
        None if members.has("subject_type") => {
            return Err("`format` is missing (`subject_type` is what it was called before RFC 9493)".to_owned());
        }
        None => return Err("`format` is missing".to_owned()),
    };
    match format {
        "complex" if place == Place::Top => check_complex(members, strictness),
        "complex" if place == Place::InComplex => Err("a `complex` subject must not hold another one".to_owned()),
        "complex" => Err("`aliases` must not hold a `complex` subject".to_owned()),
        "aliases" if place == Place::InAliases => Err("`aliases` must not hold other `aliases`".to_owned()),
        "aliases" => check_aliases(members, strictness),
        "ip-addresses" => check_addresses(members, strictness),
        _ => check_simple(format, members, strictness),
    }
}

fn check_simple<'a>(format: &str, members: impl Object<'a>, strictness: Strictness) -> Result<(), String> {
    let Some((_, described)) = FORMATS.iter().find(|(known, _)| *known == format) else {
        return match rules::misspelt(format) {
            Some(known) if strictness == Strictness::Strict => {
                Err(format!("the registered name of this format is `{known}`, not `{}`", named(format)))
            }
            _ => Ok(()),
        };
    };
    for member in *described {
        match members.find(member).map(Look::text) {
            Some(Some(text)) if !text.is_empty() => {
                if strictness == Strictness::Strict
                    && let Some(fault) = syntax_fault(format, member, text)
                {
                    return Err(format!("`{member}` of a subject of format `{format}` must be {fault}"));
                }
            }
            Some(_) => {
                return Err(format!("`{member}` of a subject of format `{format}` must be a string that is not empty"));
            }
            None => return Err(format!("a subject of format `{format}` lacks its `{member}`")),
        }
    }
    no_undescribed(format, members, described, strictness)
}

fn check_aliases<'a>(members: impl Object<'a>, strictness: Strictness) -> Result<(), String> {
    let Some(identifiers) = members.find("identifiers") else {
        return Err("a subject of format `aliases` lacks its `identifiers`".to_owned());
    };
    let identifiers = several(identifiers).ok_or("`identifiers` of `aliases` must be an array that is not empty")?;
    for (index, identifier) in identifiers.enumerate() {
        check_at(identifier, strictness, Place::InAliases)
            .map_err(|fault| format!("in `identifiers`, number {}: {fault}", index + 1))?;
    }
    no_undescribed("aliases", members, &["identifiers"], strictness)
}

fn check_addresses<'a>(members: impl Object<'a>, strictness: Strictness) -> Result<(), String> {
    let Some(addresses) = members.find("ip-addresses") else {
        return Err("a subject of format `ip-addresses` lacks its `ip-addresses`".to_owned());
    };
    for address in several(addresses).ok_or("`ip-addresses` must be an array that is not empty")? {
        let text = address.text().ok_or("`ip-addresses` must hold strings only")?;
        if strictness == Strictness::Strict
            && let Some(fault) = syntax_fault("ip-addresses", "ip-addresses", text)
        {
            return Err(format!("each of `ip-addresses` must be {fault}"));
        }
    }
    no_undescribed("ip-addresses", members, &["ip-addresses"], strictness)
}

fn check_complex<'a>(members: impl Object<'a>, strictness: Strictness) -> Result<(), String> {
    let mut subjects = 0;
    for (name, value) in members.sorted().filter(|(name, _)| *name != "format") {
        if strictness == Strictness::Strict || is_subject_member(name, value) {
            check_at(value, strictness, Place::InComplex)
                .map_err(|fault| format!("in `{}` of a `complex` subject: {fault}", named(name)))?;
            subjects += 1;
        }
    }
    if subjects == 0 { Err("a `complex` subject must have a member beside `format`".to_owned()) } else { Ok(()) }
}

/// Whether a member of a `complex` subject is a subject: those that SSF §3.3 names must be, others may be, as they may
/// be additional fields of some other kind (SSF §4.2.3).
fn is_subject_member<'a>(name: &str, value: impl Look<'a>) -> bool {
    const NAMED: [&str; 7] = ["user", "device", "session", "application", "tenant", "org_unit", "group"];
    name != "format" && (NAMED.contains(&name) || value.object().is_some_and(|members| members.has("format")))
}

/// The elements of an array that has some.
fn several<'a, V: Look<'a>>(value: V) -> Option<impl Iterator<Item = V>> {
    let mut elements = value.elements()?.peekable();
    elements.peek()?;
    Some(elements)
}

fn no_undescribed<'a>(
    format: &str,
    members: impl Object<'a>,
    described: &[&str],
    strictness: Strictness,
) -> Result<(), String> {
    if strictness == Strictness::Lenient {
        return Ok(());
    }
    let mut names = members.sorted().map(|(name, _)| name);
    match names.find(|name| *name != "format" && !described.contains(name)) {
        Some(name) => Err(format!("a subject of format `{format}` has no member `{}`", named(name))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;

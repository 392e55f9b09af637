//! The rules for a SET's header and claims, each with the clause it comes from, in the order in which they are asked.

use super::look::{Look, Object};
use super::outline::Part;
use super::refusal::quote;
use super::subject::{self, Strictness};
use super::{Algorithm, ErrorCode, Fault, Jti, Policy, Profile, Refusal, events, shape};
use crate::clock::{Timestamp, Wall};
use crate::planted::{self, Bug};

/// What a check is called, and where it is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) clause: &'static str,
}

/// What the rules measure a SET against.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) policy: &'a Policy,
    /// The key in `sets` under which the token came.
    pub(super) name: Option<&'a Jti>,
    pub(super) now: Timestamp,
}

/// Judges a set of claims by one rule.
pub(super) type Check = fn(Part<'_>, &Context<'_>) -> Result<(), Fault>;
/// Judges a header by one rule. Sees nothing that differs from one SET to the next, for a header is judged once and not for each
/// SET that has it ([`super::familiar`]).
pub(super) type HeaderCheck = fn(Part<'_>, Profile) -> Result<(), Fault>;

macro_rules! rules {
    ($kind:ty: $($name:literal, $clause:literal => $check:path;)+) => {
        &[$((Rule { name: $name, clause: $clause }, $check as $kind)),+]
    };
}

/// The header's rules.
pub(super) const HEADER: &[(Rule, HeaderCheck)] = rules! { HeaderCheck:
    "header.members", "RFC 7515 §4.1.11, RFC 8725 §3.10" => members;
    "header.kid", "RFC 7515 §4.1.4" => kid;
    "header.alg", "RFC 8725 §3.1, RFC 8417 §5.1" => alg;
    "header.typ", "RFC 8417 §2.3, SSF 1.0 §4.1.1" => typ;
};

/// The claims' rules.
pub(super) const CLAIMS: &[(Rule, Check)] = rules! { Check:
    "claims.jti", "RFC 8417 §2.2" => jti;
    "claims.jti.name", "RFC 8936 §2.3" => name;
    "claims.iss", "RFC 8417 §2.2, SSF 1.0 §4.1.6" => iss;
    "claims.iat", "RFC 8417 §2.2" => iat;
    "claims.events", "RFC 8417 §2.2" => event_types;
    "claims.sub", "SSF 1.0 §4.1.2" => sub;
    "claims.exp", "SSF 1.0 §4.1.7" => exp;
    "claims.sub_id", "SSF 1.0 §3, RFC 9493 §4" => sub_id;
    "claims.txn", "RFC 8417 §2.2" => txn;
    "claims.toe", "RFC 8417 §2.2" => toe;
    "claims.aud", "RFC 7519 §4.1.3, SSF 1.0 §4.1.8" => aud;
    "policy.accept", "RFC 8935 §2.4" => accept;
    "claims.iat.age", "RFC 8417 §5.4" => age;
    "claims.exp.passed", "RFC 7519 §4.1.4" => expired;
    "claims.nbf", "RFC 7519 §4.1.5" => not_before;
};

/// Header members that would change how the token is read or where its key comes from.
const REFUSED_MEMBERS: [&str; 7] = ["crit", "b64", "zip", "jku", "x5u", "x5c", "jwk"];

fn members(header: Part<'_>, _: Profile) -> Result<(), Fault> {
    match REFUSED_MEMBERS.into_iter().find(|name| header.has(name)) {
        Some(name) => Err(malformed(format!("the header has `{name}`, which is never accepted in a SET"))),
        None => Ok(()),
    }
}

fn kid(header: Part<'_>, _: Profile) -> Result<(), Fault> {
    match header.find("kid") {
        Some(other) if other.text().is_none() => Err(no_string("kid", other)),
        _ => Ok(()),
    }
}

fn alg(header: Part<'_>, _: Profile) -> Result<(), Fault> {
    let Some(alg) = header.find("alg") else { return Err(malformed("the header has no `alg`".into())) };
    match alg.text() {
        Some(name) if Algorithm::from_name(name).is_some() => Ok(()),
        Some(name) => Err(refuse(
            ErrorCode::InvalidKey,
            format!("the header's `alg` is {}, expected ES256, ES384, EdDSA, RS256 or PS256", quote(name)),
        )),
        None => Err(no_string("alg", alg)),
    }
}

fn typ(header: Part<'_>, profile: Profile) -> Result<(), Fault> {
    let plain = profile == Profile::Plain8417;
    let typ = match header.find("typ") {
        None if plain => return Ok(()),
        None => return Err(malformed("the header has no `typ`, expected \"secevent+jwt\"".into())),
        Some(typ) => typ,
    };
    match typ.text() {
        Some(name) if is_secevent(name) || plain && name.eq_ignore_ascii_case("JWT") => Ok(()),
        Some(name) => Err(malformed(format!("the header's `typ` is {}, expected \"secevent+jwt\"", quote(name)))),
        None => Err(no_string("typ", typ)),
    }
}

fn no_string(name: &str, found: Part<'_>) -> Fault {
    malformed(format!("the header's `{name}` is {}, expected a string", found.kind()))
}

/// A media type, whose case does not matter and whose `application/` may be left out (RFC 7515 §4.1.9).
fn is_secevent(typ: &str) -> bool {
    let name = match typ.split_at_checked("application/".len()) {
        Some((tree, name)) if tree.eq_ignore_ascii_case("application/") => name,
        _ => typ,
    };
    name.eq_ignore_ascii_case("secevent+jwt")
}

fn jti(claims: Part<'_>, context: &Context<'_>) -> Result<(), Fault> {
    shape::jti(claims, context.policy.jti_bytes_max).map(drop).map_err(malformed)
}

fn name(claims: Part<'_>, context: &Context<'_>) -> Result<(), Fault> {
    let jti = claims.find("jti").and_then(Part::text);
    match context.name {
        Some(name) if jti != Some(name.as_str()) && !planted::is(Bug::NameUnchecked) => Err(malformed(format!(
            "claim `jti` is {}, but the SET came under the name {}",
            quote(jti.unwrap_or_default()),
            quote(name.as_str())
        ))),
        _ => Ok(()),
    }
}

fn iss(claims: Part<'_>, context: &Context<'_>) -> Result<(), Fault> {
    let (iss, expected) = (shape::required_text(claims, "iss").map_err(malformed)?, &context.policy.issuer);
    if iss == expected {
        return Ok(());
    }
    let description = format!("claim `iss` is {}, expected {}", quote(iss), quote(expected));
    Err(refuse(ErrorCode::InvalidIssuer, description))
}

fn iat(claims: Part<'_>, _: &Context<'_>) -> Result<(), Fault> {
    match shape::date(claims, "iat").map_err(malformed)? {
        Some(_) => Ok(()),
        None => Err(malformed("claim `iat` is missing".into())),
    }
}

fn event_types(claims: Part<'_>, _: &Context<'_>) -> Result<(), Fault> {
    shape::events(claims).map(drop).map_err(malformed)
}

fn sub(claims: Part<'_>, context: &Context<'_>) -> Result<(), Fault> {
    forbidden(claims, "sub", context)
}

fn exp(claims: Part<'_>, context: &Context<'_>) -> Result<(), Fault> {
    forbidden(claims, "exp", context)
}

fn forbidden(claims: Part<'_>, name: &str, context: &Context<'_>) -> Result<(), Fault> {
    if context.policy.profile == Profile::Ssf && claims.has(name) {
        return Err(malformed(format!("claim `{name}` must not stand in a SET")));
    }
    Ok(())
}

fn sub_id(claims: Part<'_>, context: &Context<'_>) -> Result<(), Fault> {
    match claims.find("sub_id") {
        Some(sub_id) if sub_id.object().is_some() => {
            let problem = |problem| malformed(format!("claim `sub_id`: {problem}"));
            subject::look(sub_id, Strictness::Lenient).map_err(problem)
        }
        Some(other) => Err(malformed(format!("claim `sub_id` is {}, expected an object", other.kind()))),
        None if context.policy.profile == Profile::Plain8417 => Ok(()),
        None => Err(malformed("claim `sub_id` is missing".into())),
    }
}

fn txn(claims: Part<'_>, _: &Context<'_>) -> Result<(), Fault> {
    shape::text(claims, "txn").map(drop).map_err(malformed)
}

fn toe(claims: Part<'_>, _: &Context<'_>) -> Result<(), Fault> {
    shape::date(claims, "toe").map(drop).map_err(malformed)
}

fn aud(claims: Part<'_>, context: &Context<'_>) -> Result<(), Fault> {
    let expected = context.policy.audience.as_str();
    let found = match shape::audience(claims).map_err(malformed)? {
        None if context.policy.profile == Profile::Plain8417 => return Ok(()),
        None => "nothing".into(),
        Some(audience) if audience.contains(&expected) || planted::is(Bug::AudienceUnchecked) => return Ok(()),
        Some(audience) => audience.iter().take(4).map(|one| quote(one)).collect::<Vec<_>>().join(", "),
    };
    let description = format!("claim `aud` has {found}, expected {}", quote(expected));
    Err(refuse(ErrorCode::InvalidAudience, description))
}

fn accept(claims: Part<'_>, context: &Context<'_>) -> Result<(), Fault> {
    let Some(types) = claims.find("events").and_then(Part::object) else { return Ok(()) };
    let mut names = types.sorted().map(|(name, _)| name);
    match names.find(|&name| name != events::VERIFICATION && !context.policy.accept.allows(name)) {
        None => Ok(()),
        Some(name) => {
            let description = format!("events of type {} are not accepted from this transmitter", quote(name));
            Err(refuse(ErrorCode::AccessDenied, description))
        }
    }
}

const MINUTE: f64 = 60_000.0;
const DAY: f64 = 24.0 * 60.0 * MINUTE;

/// Clocks may differ by so much (milliseconds).
const LEEWAY: f64 = 5.0 * MINUTE;
/// A date ahead by no more than this may be a clock that will be set right: no verdict.
const AHEAD_MAX: f64 = DAY;
/// Memory of seen jtis is kept for so long: what is older could be a replay.
const AGE_MAX: f64 = 30.0 * DAY;

fn age(claims: Part<'_>, context: &Context<'_>) -> Result<(), Fault> {
    let Some(date) = date(claims, "iat") else { return Ok(()) };
    // By the time that is believed, which the memory goes by too.
    if date - millis(believed(context)) >= -AGE_MAX {
        return not_ahead(date, "claim `iat` lies ahead of our clock by more than a day", context);
    }
    late("claim `iat` is more than 30 days ago", context)
}

/// Only RFC 8417 alone knows `exp`; SSF has refused it before.
fn expired(claims: Part<'_>, context: &Context<'_>) -> Result<(), Fault> {
    shape::date(claims, "exp").map_err(malformed)?;
    match date(claims, "exp") {
        Some(date) if date - millis(believed(context)) < -LEEWAY => {
            late("the SET has expired by its claim `exp`", context)
        }
        _ => Ok(()),
    }
}

fn not_before(claims: Part<'_>, context: &Context<'_>) -> Result<(), Fault> {
    shape::date(claims, "nbf").map_err(malformed)?;
    let Some(date) = date(claims, "nbf") else { return Ok(()) };
    not_ahead(date, "claim `nbf` lies ahead of our clock by more than a day", context)
}

/// In milliseconds since the epoch.
fn date(claims: Part<'_>, name: &str) -> Option<f64> {
    Some(claims.find(name)?.number()? * 1000.0)
}

/// What tells how old something is.
fn believed(context: &Context<'_>) -> Wall {
    if planted::is(Bug::RefuseBySuspectClock) { context.now.shown } else { context.now.wall }
}

fn millis(wall: Wall) -> f64 {
    wall.0 as f64
}

fn not_ahead(date: f64, description: &str, context: &Context<'_>) -> Result<(), Fault> {
    // Our machine may have slept: its clock has jumped to the right time then, and everybody's SETs are dated by that.
    let ahead = date - millis(context.now.latest());
    if ahead <= LEEWAY {
        return Ok(());
    }
    if ahead <= AHEAD_MAX {
        return Err(Fault::NotNow("a date in the SET lies ahead of our clock"));
    }
    late(description, context)
}

/// A clock that has lately jumped refuses nothing (rule R7).
fn late(description: &str, context: &Context<'_>) -> Result<(), Fault> {
    if context.now.suspect && !planted::is(Bug::RefuseBySuspectClock) {
        return Err(Fault::NotNow("our clock has jumped and is not believed yet"));
    }
    Err(malformed(description.into()))
}

fn malformed(description: String) -> Fault {
    refuse(ErrorCode::InvalidRequest, description)
}

fn refuse(code: ErrorCode, description: String) -> Fault {
    Fault::Refused(Refusal::new(code, description))
}

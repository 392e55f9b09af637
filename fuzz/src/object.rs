//! The Communication Object: `wire::parse` with narrow limits, and what is written again.

use std::collections::HashSet;

use pushpull::set::{Jti, SetErr};
use pushpull::wire::{
    self, EMPTY_BYTES_MAX, Limits, Malformed, Object, error_body, parse_error_body, size_of_ack, size_of_error,
    size_of_set,
};

use super::strict::{self, Json};

/// So narrow that an input of a few hundred bytes can break each of them.
pub const LIMITS: Limits =
    Limits { object_bytes_max: 2048, set_bytes_max: 64, sets_per_object_max: 3, jti_bytes_max: 40, verdicts_max: 5 };

/// The reader under test.
pub type Parse = fn(&[u8], &Limits) -> Result<Object, Malformed>;

/// Holds the program's reader against the judge's.
pub fn check(data: &[u8]) {
    check_with(wire::parse, data);
}

/// The same of any reader.
pub fn check_with(parse: Parse, data: &[u8]) {
    let read = parse(data, &LIMITS);
    match (&read, judged(data)) {
        (Ok(object), Opinion::Good(wanted)) => assert_eq!(object, &wanted, "it is read as something else"),
        (Ok(_), Opinion::Bad(why)) => panic!("taken although {why}"),
        (Err(malformed), Opinion::Good(_)) => panic!("refused without need: {malformed}"),
        (Ok(_), Opinion::Either) | (Err(_), Opinion::Bad(_) | Opinion::Either) => {}
    }
    match read {
        Ok(object) => is_written_again(parse, &object),
        Err(malformed) => is_told_well(data, &malformed),
    }
    error_bodies(data);
}

fn is_written_again(parse: Parse, object: &Object) {
    let errors = || object.errors.iter().map(|(jti, error)| (jti, error.err.as_str(), error.description.as_str()));
    let written = wire::write(&object.sets, object.acks.iter(), errors(), object.max_response_events);
    let size = EMPTY_BYTES_MAX
        + object.sets.iter().map(|(jti, compact)| size_of_set(jti, compact)).sum::<usize>()
        + object.acks.iter().map(size_of_ack).sum::<usize>()
        + errors().map(|(jti, err, description)| size_of_error(jti, err, description)).sum::<usize>();
    assert!(written.len() <= size, "{} bytes, foretold were {size}", written.len());
    assert!(strict::read(&written).is_some(), "what is written is no strict JSON");
    // Escapes and descriptions that were left out may make it longer than it came.
    let limits = Limits { object_bytes_max: size, ..LIMITS };
    assert_eq!(parse(&written, &limits).as_ref(), Ok(object), "what is written reads otherwise");
}

fn is_told_well(data: &[u8], malformed: &Malformed) {
    assert!(!malformed.description.is_empty() && malformed.description.len() < 512, "{malformed}");
    let acts = |c| pushpull::set::acts_on_display(c);
    assert!(!malformed.description.chars().any(acts), "it acts on a terminal: {:?}", malformed.description);
    if malformed.kind == wire::Kind::TooManyBytes {
        assert!(data.len() > LIMITS.object_bytes_max);
    }
}

fn error_bodies(data: &[u8]) {
    let judged = strict::read(data);
    let expected = judged.as_ref().and_then(set_err);
    let read = parse_error_body(data);
    if judged.as_ref().is_some_and(Json::is_borderline) {
        return;
    }
    assert_eq!(read, expected);
    if let Some(error) = read {
        assert_eq!(parse_error_body(&error_body(&error.err, &error.description)), Some(error));
    }
}

enum Opinion {
    Good(Object),
    Bad(&'static str),
    /// A number that readers may differ about.
    Either,
}

fn judged(data: &[u8]) -> Opinion {
    if data.len() > LIMITS.object_bytes_max {
        return Opinion::Bad("it is too long");
    }
    let Some(json) = strict::read(data) else { return Opinion::Bad("it is no strict JSON") };
    if json.is_borderline() {
        return Opinion::Either;
    }
    match object(&json) {
        Ok(Some(object)) => Opinion::Good(object),
        Ok(None) => Opinion::Either,
        Err(why) => Opinion::Bad(why),
    }
}

/// The object that this is. `None` where its `maxResponseEvents` is whole only as far as one reads its digits.
fn object(json: &Json) -> Result<Option<Object>, &'static str> {
    let mut object = Object::default();
    let mut exact = true;
    for (name, value) in json.members().ok_or("it is no object")? {
        match name.as_str() {
            "sets" => {
                for (jti, token) in value.members().ok_or("`sets` is no object")? {
                    object.sets.push((named(jti)?, token.text().ok_or("a SET is no string")?.into()));
                }
            }
            "ack" => {
                let acks = value.list().ok_or("`ack` is no array")?;
                if acks.len() > LIMITS.verdicts_max {
                    return Err("there are too many verdicts");
                }
                for jti in acks {
                    let jti = named(jti.text().ok_or("an ack is no string")?)?;
                    if !object.acks.contains(&jti) {
                        object.acks.push(jti);
                    }
                }
            }
            "setErrs" => {
                for (jti, error) in value.members().ok_or("`setErrs` is no object")? {
                    object.errors.push((named(jti)?, set_err(error).ok_or("a setErr is none")?));
                }
            }
            "maxResponseEvents" => match whole(value)? {
                Some(number) => object.max_response_events = Some(number),
                None => exact = false,
            },
            _ => {}
        }
    }
    let acks = json.get("ack").and_then(Json::list).map_or(0, <[Json]>::len);
    if object.sets.len() > LIMITS.sets_per_object_max || acks + object.errors.len() > LIMITS.verdicts_max {
        return Err("there is too much in it");
    }
    let acked: HashSet<&Jti> = object.acks.iter().collect();
    if object.errors.iter().any(|(jti, _)| acked.contains(jti)) {
        return Err("a SET is both acked and refused");
    }
    Ok(exact.then_some(object))
}

fn named(jti: &str) -> Result<Jti, &'static str> {
    if (1..=LIMITS.jti_bytes_max).contains(&jti.len()) { Ok(jti.into()) } else { Err("a jti is empty or too long") }
}

fn set_err(json: &Json) -> Option<SetErr> {
    let description = json.get("description").map_or(Some(""), Json::text)?;
    Some(SetErr { err: json.get("err")?.text()?.to_owned(), description: description.to_owned() })
}

fn whole(json: &Json) -> Result<Option<u64>, &'static str> {
    const NONE: &str = "`maxResponseEvents` is no whole number";
    let Json::Number(digits) = json else { return Err(NONE) };
    if let Ok(number) = digits.parse::<u64>() {
        return Ok(Some(number));
    }
    let number = json.number().ok_or(NONE)?;
    if digits.starts_with('-') && number < 0.0 {
        return Err(NONE);
    }
    // Whether digits behind the point vanish depends on how well a reader rounds.
    let near = (number - number.round()).abs() <= number.abs() * 1e-14;
    match (
        number.fract() == 0.0,
        digits.contains('.') && number < 1e17 || digits.contains("e-") || digits.contains("E-"),
    ) {
        (true, false) => Ok(Some(number as u64)),
        (_, true) if near => Ok(None),
        (true, true) => Ok(None),
        (false, _) => Err(NONE),
    }
}

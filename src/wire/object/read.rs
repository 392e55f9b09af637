//! Reads a Communication Object. Tokens are copied once, from the input into the `Arc` that everybody shares.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::de::{self, Deserialize as _, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::super::strict::{Ignored, Names, Reading};
use super::error_body::SetErrMembers;
use super::{Kind, Limits, Malformed, Object, Poll};
use crate::planted::{self, Bug};
use crate::set::{Jti, SetErr};

/// Reads one Communication Object that takes up all of `bytes`.
///
/// Members that the draft does not name are ignored, but checked for depth and for names that come twice. Whether the
/// tokens are SETs is not looked at.
///
/// # Errors
///
/// [`Malformed`], and then nothing of the input counts, not even the parts before the fault.
pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Object, Malformed> {
    parse_telling(bytes, limits).map(|(object, _)| object)
}

/// The same, and whether `sets` was there.
fn parse_telling(bytes: &[u8], limits: &Limits) -> Result<(Object, bool), Malformed> {
    if bytes.len() > limits.object_bytes_max {
        return Err(too_many_bytes(bytes.len(), limits));
    }
    let reading = Reading::default();
    let parse = Parse::new(&reading, limits, bytes);
    let object = reading.read(bytes, Whole(&parse));
    let object =
        if planted::is(Bug::PartialEffects) { object.or_else(|fault| salvage(bytes).ok_or(fault)) } else { object }?;
    agree(&object.acks, &object.errors)?;
    Ok((object, parse.has_sets.get()))
}

/// Reads the request of multi-set push (draft -02 §Request), which is a Communication Object whose `sets` must be there.
/// Verdicts have no place in it; those that stand there all the same are read, and mean nothing.
///
/// # Errors
///
/// As [`parse`].
pub fn parse_multi_push(bytes: &[u8], limits: &Limits) -> Result<Object, Malformed> {
    let (object, has_sets) = parse_telling(bytes, limits)?;
    match has_sets {
        true => Ok(Object { acks: Vec::new(), errors: Vec::new(), ..object }),
        false => Err(Malformed::new(Kind::Shape, "`sets` is missing")),
    }
}

/// Reads a poll (RFC 8936 §2.2).
///
/// # Errors
///
/// [`Malformed`], and then nothing of it counts.
pub fn parse_poll(bytes: &[u8], limits: &Limits) -> Result<Poll, Malformed> {
    if bytes.len() > limits.object_bytes_max {
        return Err(too_many_bytes(bytes.len(), limits));
    }
    let reading = Reading::default();
    let poll = reading.read(bytes, WholePoll(&Parse::new(&reading, limits, bytes)))?;
    agree(&poll.acks, &poll.errors)?;
    Ok(poll)
}

fn too_many_bytes(bytes: usize, limits: &Limits) -> Malformed {
    let text = format!("the object has {bytes} bytes, at most {} are taken", limits.object_bytes_max);
    Malformed::new(Kind::TooManyBytes, text)
}

/// Refuses two verdicts about one SET: believing either would be a guess.
fn agree(acks: &[Jti], errors: &[(Jti, SetErr)]) -> Result<(), Malformed> {
    if acks.is_empty() || errors.is_empty() {
        return Ok(());
    }
    let acked: HashSet<&Jti> = acks.iter().collect();
    match errors.iter().find(|(jti, _)| acked.contains(jti)) {
        Some((jti, _)) => Err(Malformed::new(Kind::Shape, format!("{jti} is both in `ack` and in `setErrs`"))),
        None => Ok(()),
    }
}

/// What all the visitors of one parse share.
struct Parse<'p> {
    reading: &'p Reading,
    limits: &'p Limits,
    /// Of the whole input.
    bytes: usize,
    verdicts: Cell<usize>,
    /// `sets` was there, if only with nothing in it.
    has_sets: Cell<bool>,
}

impl<'p> Parse<'p> {
    fn new(reading: &'p Reading, limits: &'p Limits, bytes: &[u8]) -> Self {
        Self { reading, limits, bytes: bytes.len(), verdicts: Cell::new(0), has_sets: Cell::new(false) }
    }

    fn count_verdict<E: de::Error>(&self) -> Result<(), E> {
        let verdicts = self.verdicts.get() + 1;
        self.verdicts.set(verdicts);
        let most = self.limits.verdicts_max;
        if verdicts > most {
            let text = format!("`ack` and `setErrs` have more than {most} entries");
            return Err(self.reading.refuse(Kind::TooManyVerdicts, text));
        }
        Ok(())
    }
}

/// The object itself.
struct Whole<'p>(&'p Parse<'p>);

impl<'de> DeserializeSeed<'de> for Whole<'_> {
    type Value = Object;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Object, D::Error> {
        self.0.reading.expect("a Communication Object must be a JSON object");
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Communication Object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let parse = self.0;
        let mut object = Object::default();
        let mut names = Names::default();
        while let Some(name) = names.next(parse.reading, &mut map)? {
            match &*name {
                "sets" => {
                    parse.has_sets.set(true);
                    object.sets = map.next_value_seed(Sets(parse))?;
                }
                "ack" => object.acks = map.next_value_seed(Acks(parse))?,
                "setErrs" => object.errors = map.next_value_seed(SetErrs(parse))?,
                "maxResponseEvents" => object.max_response_events = Some(map.next_value_seed(Count(parse, NO_COUNT))?),
                _ => map.next_value_seed(Ignored::inside(parse.reading, 1))?,
            }
        }
        Ok(object)
    }
}

/// `sets`.
struct Sets<'p>(&'p Parse<'p>);

impl<'de> DeserializeSeed<'de> for Sets<'_> {
    type Value = Vec<(Jti, Arc<str>)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        self.0.reading.expect("`sets` must be an object");
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Sets<'_> {
    type Value = Vec<(Jti, Arc<str>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of SETs")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Parse { reading, limits, .. } = self.0;
        let mut sets: Vec<(Jti, Arc<str>)> = Vec::new();
        let mut seen = HashSet::new();
        while let Some(jti) = map.next_key_seed(JtiText(self.0, "`sets`"))? {
            if sets.len() >= limits.sets_per_object_max {
                let text = format!("`sets` has more than {} members", limits.sets_per_object_max);
                return Err(reading.refuse(Kind::TooManySets, text));
            }
            if !seen.insert(jti.clone()) {
                if !planted::is(Bug::LastMemberWins) {
                    return Err(reading.refuse(Kind::Shape, format!("`sets` has {jti} twice")));
                }
                sets.retain(|(before, _)| *before != jti);
            }
            reading.expect("a member of `sets` must be a string, the compact form of a SET");
            let token = map.next_value_seed(Token)?;
            if sets.is_empty() {
                // They are mostly about as long as the first one. To grow step by step would hash every jti again.
                let like_this = self.0.bytes / (jti.as_str().len() + token.len() + SET_FRAME);
                let expected = like_this.min(limits.sets_per_object_max);
                sets.reserve(expected);
                seen.reserve(expected);
            }
            sets.push((jti, token));
        }
        Ok(sets)
    }
}

/// The quotation marks, colon and comma of a SET in an object.
const SET_FRAME: usize = 6;

/// `ack`.
struct Acks<'p>(&'p Parse<'p>);

impl<'de> DeserializeSeed<'de> for Acks<'_> {
    type Value = Vec<Jti>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        self.0.reading.expect("`ack` must be an array of strings");
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Acks<'_> {
    type Value = Vec<Jti>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of jtis")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut acks = Vec::new();
        while let Some(jti) = seq.next_element_seed(JtiText(self.0, "`ack`"))? {
            self.0.count_verdict()?;
            acks.push(jti);
        }
        // To say the same thing twice contradicts nothing.
        let mut seen = HashSet::with_capacity(acks.len());
        acks.retain(|jti| seen.insert(jti.clone()));
        Ok(acks)
    }
}

/// `setErrs`.
struct SetErrs<'p>(&'p Parse<'p>);

impl<'de> DeserializeSeed<'de> for SetErrs<'_> {
    type Value = Vec<(Jti, SetErr)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        self.0.reading.expect("`setErrs` must be an object");
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for SetErrs<'_> {
    type Value = Vec<(Jti, SetErr)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of errors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let reading = self.0.reading;
        let mut errors = Vec::new();
        let mut seen = HashSet::new();
        while let Some(jti) = map.next_key_seed(JtiText(self.0, "`setErrs`"))? {
            self.0.count_verdict()?;
            if !seen.insert(jti.clone()) {
                return Err(reading.refuse(Kind::Shape, format!("`setErrs` has {jti} twice")));
            }
            reading.expect("a member of `setErrs` must be an object");
            errors.push((jti, map.next_value_seed(SetErrMembers { reading, depth: 3 })?));
        }
        Ok(errors)
    }
}

/// A poll.
struct WholePoll<'p>(&'p Parse<'p>);

impl<'de> DeserializeSeed<'de> for WholePoll<'_> {
    type Value = Poll;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Poll, D::Error> {
        self.0.reading.expect("a poll must be a JSON object");
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for WholePoll<'_> {
    type Value = Poll;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a poll")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Poll, A::Error> {
        let parse = self.0;
        let mut poll = Poll::default();
        let mut names = Names::default();
        while let Some(name) = names.next(parse.reading, &mut map)? {
            match &*name {
                "maxEvents" => poll.max_events = map.next_value_seed(OrNull(Count(parse, NO_MAX_EVENTS)))?,
                "returnImmediately" => {
                    poll.return_immediately = map.next_value_seed(OrNull(Truth(parse)))?.unwrap_or_default();
                }
                "ack" => poll.acks = map.next_value_seed(OrNull(Acks(parse)))?.unwrap_or_default(),
                "setErrs" => poll.errors = map.next_value_seed(OrNull(SetErrs(parse)))?.unwrap_or_default(),
                _ => map.next_value_seed(Ignored::inside(parse.reading, 1))?,
            }
        }
        Ok(poll)
    }
}

/// A member of a poll, of which some libraries write `null` where it should be missing. It means nothing else.
struct OrNull<S>(S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for OrNull<S> {
    type Value = Option<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for OrNull<S> {
    type Value = Option<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member of a poll")
    }

    fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        self.0.deserialize(deserializer).map(Some)
    }
}

/// `returnImmediately`.
struct Truth<'p>(&'p Parse<'p>);

impl<'de> DeserializeSeed<'de> for Truth<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        self.0.reading.expect("`returnImmediately` must be true or false");
        bool::deserialize(deserializer)
    }
}

const NO_COUNT: &str = "`maxResponseEvents` must be a non-negative integer";
const NO_MAX_EVENTS: &str = "`maxEvents` must be a non-negative integer";

/// `maxResponseEvents`, or `maxEvents`; the text says what it must be. JSON knows only numbers, so 10.0 is as good as 10,
/// and what exceeds `u64` means "any number".
struct Count<'p>(&'p Parse<'p>, &'static str);

impl<'de> DeserializeSeed<'de> for Count<'_> {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        self.0.reading.expect(self.1);
        deserializer.deserialize_u64(self)
    }
}

impl Visitor<'_> for Count<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a non-negative integer")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<u64, E> {
        Ok(number)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<u64, E> {
        if number >= 0.0 && number.fract() == 0.0 { Ok(number as u64) } else { Err(E::custom("negative or broken")) }
    }
}

/// A jti, bounded in length; the text names the member that it stands in.
struct JtiText<'p>(&'p Parse<'p>, &'static str);

impl<'de> DeserializeSeed<'de> for JtiText<'_> {
    type Value = Jti;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Jti, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for JtiText<'_> {
    type Value = Jti;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a jti")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Jti, E> {
        let Self(Parse { reading, limits, .. }, place) = self;
        let most = limits.jti_bytes_max;
        if text.is_empty() {
            return Err(reading.refuse(Kind::Shape, format!("{place} has an empty jti")));
        }
        if text.len() > most {
            let text = format!("{place} has a jti of {} bytes, at most {most} are taken", text.len());
            return Err(reading.refuse(Kind::Shape, text));
        }
        Ok(Jti::from(text))
    }
}

/// A token: any string.
struct Token;

impl<'de> DeserializeSeed<'de> for Token {
    type Value = Arc<str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Arc<str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Token {
    type Value = Arc<str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a compact SET")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Arc<str>, E> {
        Ok(text.into())
    }
}

/// What can be made of a malformed object, which should be nothing ([`Bug::PartialEffects`]).
fn salvage(bytes: &[u8]) -> Option<Object> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let sets = value.get("sets").and_then(serde_json::Value::as_object).into_iter().flatten();
    let acks = value.get("ack").and_then(serde_json::Value::as_array).into_iter().flatten();
    Some(Object {
        sets: sets.filter_map(|(jti, token)| Some((Jti::from(jti.as_str()), token.as_str()?.into()))).collect(),
        acks: acks.filter_map(|jti| jti.as_str().map(Jti::from)).collect(),
        ..Object::default()
    })
}

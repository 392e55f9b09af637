//! Reads JSON as strictly as a stranger's input needs: objects by name only, no name twice, bounded depth, and no
//! value of the input in any error text. `serde_json`'s derived readers and its `Value` promise none of these.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;

use super::object::{Kind, Malformed};

/// How deep objects and arrays may nest, the outermost one included.
const DEPTH_MAX: usize = 32;

/// Members of one object. To find a name that comes twice all are kept in memory, at several times their size.
const NAMES_MAX: usize = 1 << 16;

/// One reading of one input: knows what is expected right now and why the input was refused.
///
/// `serde` only lets errors through as text, and its own texts quote the input; so the real reason waits here.
#[derive(Default)]
pub(super) struct Reading {
    expected: Cell<&'static str>,
    refused: RefCell<Option<Malformed>>,
}

impl Reading {
    /// Reads all of `bytes` with `seed`; anything but white space after the value is a fault.
    pub(super) fn read<'de, S: DeserializeSeed<'de>>(&self, bytes: &'de [u8], seed: S) -> Result<S::Value, Malformed> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| Malformed::new(Kind::Syntax, format!("not UTF-8 from byte {} on", error.valid_up_to())))?;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let value = seed.deserialize(&mut deserializer).map_err(|error| self.explain(&error))?;
        deserializer.end().map_err(|error| self.explain(&error))?;
        Ok(value)
    }

    /// Says what a value of the wrong type should have been, should one come next.
    pub(super) fn expect(&self, what: &'static str) {
        self.expected.set(what);
    }

    /// The error with which a visitor gives up. The first reason given is the one reported.
    pub(super) fn refuse<E: de::Error>(&self, kind: Kind, description: impl Into<String>) -> E {
        self.refused.borrow_mut().get_or_insert_with(|| Malformed::new(kind, description));
        E::custom("refused")
    }

    fn explain(&self, error: &serde_json::Error) -> Malformed {
        if let Some(refused) = self.refused.take() {
            return refused;
        }
        match error.classify() {
            // A data error's text quotes the input, so only its place is used.
            Category::Data => Malformed::new(
                Kind::Shape,
                format!("{} (line {}, column {})", self.expected.get(), error.line(), error.column()),
            ),
            _ => Malformed::new(Kind::Syntax, format!("not JSON: {error}")),
        }
    }
}

/// The names seen so far in one object.
#[derive(Default)]
pub(super) struct Names<'de>(HashSet<Cow<'de, str>>);

impl<'de> Names<'de> {
    /// The next name of `map`, or the end of it; a name that was there before is a fault.
    pub(super) fn next<A: MapAccess<'de>>(
        &mut self,
        reading: &Reading,
        map: &mut A,
    ) -> Result<Option<Cow<'de, str>>, A::Error> {
        let Some(name) = map.next_key_seed(Name)? else { return Ok(None) };
        if self.0.len() >= NAMES_MAX {
            return Err(reading.refuse(Kind::Shape, format!("an object has more than {NAMES_MAX} members")));
        }
        if !self.0.insert(name.clone()) {
            return Err(reading.refuse(Kind::Shape, "an object has two members of one name"));
        }
        Ok(Some(name))
    }
}

/// A string, borrowed from the input unless it has escapes.
pub(super) struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// A value that nobody needs, but whose depth and names are checked all the same: what one reader skips, another
/// might take for something else.
#[derive(Clone, Copy)]
pub(super) struct Ignored<'r> {
    reading: &'r Reading,
    depth: usize,
}

impl<'r> Ignored<'r> {
    /// A value inside an object or array that is itself at this depth; the outermost one is at 1.
    pub(super) fn inside(reading: &'r Reading, depth: usize) -> Self {
        Self { reading, depth: depth + 1 }
    }

    fn enter<E: de::Error>(&self) -> Result<Self, E> {
        if self.depth > DEPTH_MAX {
            return Err(self.reading.refuse(Kind::Shape, format!("nested deeper than {DEPTH_MAX} levels")));
        }
        Ok(Self::inside(self.reading, self.depth))
    }
}

impl<'de> DeserializeSeed<'de> for Ignored<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Ignored<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let inner = self.enter()?;
        while seq.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.enter()?;
        let mut names = Names::default();
        while names.next(self.reading, &mut map)?.is_some() {
            map.next_value_seed(inner)?;
        }
        Ok(())
    }
}

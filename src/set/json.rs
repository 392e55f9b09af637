//! Strict JSON: no member name twice at any level, no deep nesting, nothing behind the value, objects where objects are
//! expected. Derived structs are not used for what partners send: serde lets an array stand for a struct.

use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

/// Objects and arrays may be nested so deeply; the outermost counts as one.
pub(crate) const DEPTH_MAX: usize = 32;

/// Why a text was not taken. Says where, never what stood there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Not JSON, or not strict: the message names the rule with line and column.
    #[error("not valid JSON: {0}")]
    Syntax(#[from] serde_json::Error),
    /// Something else than an object; what it was.
    #[error("a JSON object was expected, found {0}")]
    NotAnObject(&'static str),
}

/// Reads one JSON object.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, Error> {
    match value(bytes)? {
        Value::Object(map) => Ok(map),
        other => Err(Error::NotAnObject(kind(&other))),
    }
}

/// Reads one JSON value of any kind.
pub(crate) fn value(bytes: &[u8]) -> Result<Value, Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict::default().deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// What a value is, for messages that must not repeat it.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Whether any byte of a text has to be escaped in a JSON string (RFC 8259 §7). Asked of whole blocks, of which the compiler
/// makes a few vector instructions each: byte by byte it would take longer than all the rest of writing.
pub(crate) fn has_escapes(bytes: &[u8]) -> bool {
    let any = |block: &[u8]| block.iter().fold(false, |found, &byte| found | is_escaped(byte));
    let (large, rest) = bytes.as_chunks::<64>();
    let (small, rest) = rest.as_chunks::<16>();
    // The last bytes are asked once more, together with some before them, if there are enough.
    let last = bytes.last_chunk::<16>().map_or(rest, |last| if rest.is_empty() { rest } else { last });
    large.iter().any(|block| any(block)) || small.iter().any(|block| any(block)) || any(last)
}

/// Whether JSON forbids this byte inside a string. Bytes of longer UTF-8 sequences never are.
pub(crate) fn is_escaped(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Reads a value strictly inside somebody else's visitor; `depth` is how many objects and arrays stand around it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Strict {
    pub(crate) depth: usize,
}

/// What is said of a member name that stands twice in one object.
pub(crate) const TWICE: &str = "the same member name twice in one object";

/// A number as a double; JSON has no others.
pub(super) fn finite<E: serde::de::Error>(value: f64) -> Result<Number, E> {
    Number::from_f64(value).ok_or_else(|| E::custom("number out of range"))
}

impl Strict {
    pub(super) fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom(format_args!("nested more than {DEPTH_MAX} levels deep")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        finite(value).map(Value::Number)
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let inside = self.deeper()?;
        let mut array = Vec::new();
        while let Some(element) = elements.next_element_seed(inside)? {
            array.push(element);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inside = self.deeper()?;
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            match map.entry(name) {
                Entry::Vacant(free) => {
                    free.insert(members.next_value_seed(inside)?);
                }
                Entry::Occupied(_) => return Err(A::Error::custom(TWICE)),
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        object(text.as_bytes()).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_json_is_read_as_serde_json_reads_it() {
        let text =
            r#"{"a": [1, -2, 3.5, 1e2, true, false, null, "é\u0000\n", {}], "b": {"c": []}, "": 18446744073709551615}"#;
        let expected: Value = serde_json::from_str(text).unwrap();
        assert_eq!(value(text.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn a_member_name_may_not_come_twice_at_any_level() {
        assert!(error(r#"{"j": 1, "j": 1}"#).contains("twice"));
        assert!(error(r#"{"a": [{"j": 1, "j": 2}]}"#).contains("twice"));
        assert!(error(r#"{"j": 1, "\u006a": 1}"#).contains("twice"), "also when spelt differently");
        assert!(object(br#"{"a": {"j": 1}, "b": {"j": 1}}"#).is_ok());
    }

    #[test]
    fn a_byte_to_escape_is_found_wherever_it_stands() {
        for length in [1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 200] {
            assert!(!has_escapes("~".repeat(length).as_bytes()) && !has_escapes("é".repeat(length).as_bytes()));
            for (place, byte) in
                (0..length).flat_map(|place| [(place, b'"'), (place, b'\\'), (place, 0), (place, 0x1f)])
            {
                let mut bytes = vec![0x7f; length];
                bytes[place] = byte;
                assert!(has_escapes(&bytes), "{byte} at {place} of {length}");
            }
        }
        assert!(!has_escapes(b""));
    }

    #[test]
    fn only_an_object_is_an_object() {
        for text in ["[]", "[{}]", "null", "\"{}\"", "1", "true"] {
            assert!(error(text).contains("object was expected"), "{text}");
        }
    }

    #[test]
    fn nesting_ends_at_the_limit() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(value(nested(DEPTH_MAX).as_bytes()).is_ok());
        assert!(value(nested(DEPTH_MAX + 1).as_bytes()).unwrap_err().to_string().contains("32 levels"));
        assert!(value(nested(100_000).as_bytes()).is_err());
        assert!(object(format!(r#"{{"a":{}}}"#, nested(DEPTH_MAX)).as_bytes()).is_err());
    }

    #[test]
    fn nothing_may_stand_around_the_value_and_it_must_be_utf8() {
        for text in ["{} {}", "{}x", "\u{feff}{}", "", "{\"a\":1,}", "{'a':1}", "{\"a\":1e999}", r#"{"a":"\ud800"}"#] {
            assert!(object(text.as_bytes()).is_err(), "{text}");
        }
        assert!(object(b"{\"a\":\"\xff\"}").is_err());
        assert!(object(b" {} \n").is_ok());
    }

    #[test]
    fn errors_do_not_repeat_the_content() {
        for text in [r#"{"secret": 1, "secret": 2}"#, r#"{"a": "secret" "b"}"#, r#""secret""#, r#"{"secret"#] {
            assert!(!error(text).contains("secret"), "{text}");
        }
    }
}

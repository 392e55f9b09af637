//! An error in its one form, `{"err", "description"}`: about a request (RFC 8935 §2.3) or, in `setErrs`, about a SET.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};

use super::super::strict::{Ignored, Name, Names, Reading};
use super::Kind;
use super::write::push_error;
use crate::set::SetErr;

/// The body of an error answer. Its description is English, and `Content-Language` has to say so.
pub fn error_body(err: &str, description: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(err.len() + description.len() + 32);
    push_error(&mut body, err, description);
    body
}

/// Reads the body of an error answer, or finds that it is none: a gateway's HTML page, say, decides nothing about SETs.
///
/// The caller bounds the length of `bytes`.
pub fn parse_error_body(bytes: &[u8]) -> Option<SetErr> {
    let reading = Reading::default();
    reading.read(bytes, SetErrMembers { reading: &reading, depth: 1 }).ok()
}

/// An object with `err` and perhaps `description`, which the multi-push draft makes optional.
pub(super) struct SetErrMembers<'r> {
    pub(super) reading: &'r Reading,
    /// How deep this object lies in the whole, itself included.
    pub(super) depth: usize,
}

impl<'de> DeserializeSeed<'de> for SetErrMembers<'_> {
    type Value = SetErr;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<SetErr, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for SetErrMembers<'_> {
    type Value = SetErr;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `err`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SetErr, A::Error> {
        let reading = self.reading;
        let mut err = None;
        let mut description = String::new();
        let mut names = Names::default();
        while let Some(name) = names.next(reading, &mut map)? {
            match &*name {
                "err" => {
                    reading.expect("`err` must be a string");
                    err = Some(map.next_value_seed(Name)?.into_owned());
                }
                "description" => {
                    reading.expect("`description` must be a string");
                    description = map.next_value_seed(Name)?.into_owned();
                }
                _ => map.next_value_seed(Ignored::inside(reading, self.depth))?,
            }
        }
        match err {
            Some(err) => Ok(SetErr { err, description }),
            None => Err(reading.refuse::<A::Error>(Kind::Shape, "an error lacks its `err`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_body_reads_back_as_it_was_written() {
        let body = error_body("invalid_key", "no key \"k1\"\nis known");
        assert_eq!(body, br#"{"err":"invalid_key","description":"no key \"k1\"\u000ais known"}"#);
        let read = parse_error_body(&body).unwrap();
        assert_eq!((read.err.as_str(), read.description.as_str()), ("invalid_key", "no key \"k1\"\nis known"));
    }

    #[test]
    fn a_description_is_optional_and_further_members_are_ignored() {
        let read = parse_error_body(br#" {"more": [1, {"a": null}], "err": "access_denied"} "#).unwrap();
        assert_eq!((read.err.as_str(), read.description.as_str()), ("access_denied", ""));
    }

    #[test]
    fn what_is_not_an_error_object_is_none() {
        let bodies: [&[u8]; 9] = [
            b"",
            b"<html>502</html>",
            b"{}",
            b"[\"invalid_key\"]",
            b"{\"err\":5}",
            b"{\"err\":null}",
            b"{\"err\":\"a\",\"err\":\"b\"}",
            b"{\"err\":\"a\",\"description\":null}",
            b"{\"err\":\"\xff\"}",
        ];
        for body in bodies {
            assert_eq!(parse_error_body(body), None, "{}", String::from_utf8_lossy(body));
        }
    }
}

//! Which keys there are and where they belong, as the schema itself says, so that a key in the wrong place can be sent
//! to the right one.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, Visitor};

use crate::set::nearest::nearest;

use super::{Admin, Delivery, Keys, Limits, Log, Network, Peer, Server, Store, Tls};

/// Every section but the root, as its heading stands in the file, and its keys.
pub(super) fn all() -> [(&'static str, &'static [&'static str]); 10] {
    [
        ("[server]", fields::<Server>()),
        ("[server.tls]", fields::<Tls>()),
        ("[admin]", fields::<Admin>()),
        ("[store]", fields::<Store>()),
        ("[keys]", fields::<Keys>()),
        ("[network]", fields::<Network>()),
        ("[limits]", fields::<Limits>()),
        ("[delivery]", fields::<Delivery>()),
        ("[log]", fields::<Log>()),
        ("[[peer]]", fields::<Peer>()),
    ]
}

/// What to do about an unknown key: these keys are known where it stands.
pub(super) fn remedy<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> String {
    let near = nearest(key, known);
    let homes: Vec<&str> =
        all().into_iter().filter(|(_, keys)| keys.contains(&key)).map(|(section, _)| section).collect();
    match (near, homes.as_slice()) {
        (None, []) => {
            let elsewhere = all().into_iter().find_map(|(section, keys)| {
                nearest(key, keys.iter().copied()).map(|near| format!("did you mean `{near}` under {section}?"))
            });
            elsewhere.unwrap_or_else(|| "remove it; docs/configuration.md lists all keys".to_owned())
        }
        (Some(near), []) => format!("did you mean `{near}`?"),
        (None, homes) => format!("move it: `{key}` belongs under {}", homes.join(" or ")),
        (Some(near), homes) => format!("did you mean `{near}`? `{key}` itself belongs under {}", homes.join(" or ")),
    }
}

/// The keys of one section.
fn fields<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
    T::deserialize(Ask).err().map_or(&[], |Fields(fields)| fields)
}

/// Asked for a struct, it answers with the names of the struct's members.
struct Ask;

#[derive(Debug)]
struct Fields(&'static [&'static str]);

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for Fields {}

impl serde::de::Error for Fields {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(&[])
    }
}

impl<'de> Deserializer<'de> for Ask {
    type Error = Fields;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fields> {
        Err(Fields::custom("no struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Fields> {
        Err(Fields(fields))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    #[test]
    fn every_section_has_its_keys() {
        let sections = all();
        assert!(sections.iter().all(|(_, keys)| !keys.is_empty()), "{sections:?}");
        assert_eq!(sections[8], ("[log]", &["level", "format"][..]));
        let named: Vec<&str> = sections.iter().map(|(name, _)| name.trim_matches(['[', ']'])).collect();
        for section in fields::<Config>() {
            assert!(named.contains(section), "a new section: add [{section}]");
        }
    }

    #[test]
    fn a_key_is_sent_to_where_it_belongs() {
        let of = |key, known: &'static [&'static str]| remedy(key, known.iter().copied());
        assert_eq!(of("lisen", fields::<Server>()), "did you mean `listen`?");
        assert_eq!(of("listen", fields::<Config>()), "move it: `listen` belongs under [server] or [admin]");
        assert_eq!(of("retry_frist", fields::<Limits>()), "did you mean `retry_first` under [delivery]?");
        assert_eq!(of("key", fields::<Config>()), "did you mean `keys`? `key` itself belongs under [server.tls]");
        assert!(of("banana_split", fields::<Config>()).starts_with("remove it"));
    }
}

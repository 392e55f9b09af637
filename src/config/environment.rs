//! The environment as a source of configuration: `PUSHPULL__SERVER__LISTEN` overrides `server.listen`. It is a value,
//! so that tests and embedders can bring their own.

use std::collections::BTreeMap;

use toml::de::DeValue;

/// What the names of overriding variables start with. The rest is the key, in capitals, its parts joined by `__`.
pub const PREFIX: &str = "PUSHPULL__";

/// Environment variables, by name.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    /// Overriding variables that are not Unicode.
    unreadable: Vec<String>,
}

/// A variable that overrides a key.
#[derive(Clone)]
pub(super) struct Override<'a> {
    pub(super) name: &'a str,
    pub(super) path: Vec<String>,
    /// The variable's characters.
    pub(super) raw: &'a str,
    /// The same as a TOML value where they are one, else as a text.
    pub(super) value: DeValue<'a>,
}

impl Environment {
    /// The environment of this process, as it is now.
    pub fn of_process() -> Self {
        let mut environment = Self::default();
        for (name, value) in std::env::vars_os() {
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => drop(environment.variables.insert(name, value)),
                (Ok(name), Err(_)) if name.starts_with(PREFIX) => environment.unreadable.push(name),
                // A variable that is none of ours may be what it likes.
                _ => {}
            }
        }
        environment
    }

    /// The value of one variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// Names of overriding variables whose values cannot be read.
    pub(super) fn unreadable(&self) -> impl Iterator<Item = &str> {
        self.unreadable.iter().map(String::as_str)
    }

    pub(super) fn overrides(&self) -> Vec<Override<'_>> {
        self.variables.iter().filter_map(|(name, raw)| Override::of(name, raw)).collect()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { variables, unreadable: Vec::new() }
    }
}

impl<'a> Override<'a> {
    fn of(name: &'a str, raw: &'a str) -> Option<Self> {
        let path = name.strip_prefix(PREFIX)?.split("__").map(str::to_ascii_lowercase).collect();
        let value = DeValue::parse(raw).map_or_else(|_| DeValue::String(raw.into()), toml::Spanned::into_inner);
        Some(Self { name, path, raw, value })
    }
}

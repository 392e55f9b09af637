//! JSON as the rules look at it, so that they say the same of what an application owns and wants to send, and of what a
//! partner's token lends for the time of a look.

use serde_json::{Map, Value};

use super::json;

/// A JSON value.
pub(super) trait Look<'a>: Copy {
    /// Its members, should it be an object.
    type Object: Object<'a, Value = Self>;

    /// What it is, for messages that must not repeat it.
    fn kind(self) -> &'static str;

    /// A string's text.
    fn text(self) -> Option<&'a str>;

    /// A number, as near as a double comes.
    fn number(self) -> Option<f64>;

    /// An object's members.
    fn object(self) -> Option<Self::Object>;

    /// An array's elements.
    fn elements(self) -> Option<impl Iterator<Item = Self>>;
}

/// The members of a JSON object.
pub(super) trait Object<'a>: Copy {
    /// What they are.
    type Value: Look<'a, Object = Self>;

    /// The member of this name.
    fn find(self, name: &str) -> Option<Self::Value>;

    /// All of them, sorted by name: a message is about the first one at fault, and must not depend on who tells it.
    fn sorted(self) -> impl Iterator<Item = (&'a str, Self::Value)>;

    /// Whether there is a member of this name.
    fn has(self, name: &str) -> bool {
        self.find(name).is_some()
    }
}

impl<'a> Look<'a> for &'a Value {
    type Object = &'a Map<String, Value>;

    fn kind(self) -> &'static str {
        json::kind(self)
    }

    fn text(self) -> Option<&'a str> {
        self.as_str()
    }

    fn number(self) -> Option<f64> {
        self.as_f64()
    }

    fn object(self) -> Option<Self::Object> {
        self.as_object()
    }

    fn elements(self) -> Option<impl Iterator<Item = Self>> {
        self.as_array().map(|elements| elements.iter())
    }
}

impl<'a> Object<'a> for &'a Map<String, Value> {
    type Value = &'a Value;

    fn find(self, name: &str) -> Option<Self::Value> {
        self.get(name)
    }

    fn sorted(self) -> impl Iterator<Item = (&'a str, Self::Value)> {
        self.iter().map(|(name, value)| (name.as_str(), value))
    }
}

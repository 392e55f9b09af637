//! A strict JSON object that is only looked at: its strings stay in the text, its values in one piece of memory, mostly
//! on the stack. Takes and refuses exactly what [`json::object`] does, in the same words.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use smallvec::SmallVec;

use super::json::{self, Strict};
use super::look::{Look, Object};

/// So many values stand on the stack: more than the claims of a usual SET have.
type Nodes<'t> = SmallVec<[Node<'t>; 32]>;

/// Up to so many members of an object their names are compared one by one; beyond, a hostile object would make that
/// slow.
const COMPARED_MAX: usize = 16;

/// Room for an object and all that is in it, in the order of the text. Made where it is looked at: it is too large to be
/// handed about.
#[derive(Default)]
pub(super) struct Outline<'t>(Nodes<'t>);

/// A value at its place.
struct Node<'t> {
    /// By which it is a member of an object; empty otherwise.
    name: Cow<'t, str>,
    leaf: Leaf<'t>,
    /// How many of the nodes that follow are inside it.
    inside: usize,
}

enum Leaf<'t> {
    Null,
    Bool,
    Number(f64),
    Text(Cow<'t, str>),
    Array,
    Object,
}

/// One value of an outline.
#[derive(Clone, Copy)]
pub(super) struct Part<'o> {
    node: &'o Node<'o>,
    inside: &'o [Node<'o>],
}

impl<'t> Outline<'t> {
    /// Reads one JSON object.
    pub(super) fn read(&mut self, bytes: &'t [u8]) -> Result<Part<'_>, json::Error> {
        self.0.clear();
        // Text that is known to be UTF-8 is read faster; what is not is read for the fault.
        match std::str::from_utf8(bytes) {
            Ok(text) => read(serde_json::Deserializer::from_str(text), &mut self.0)?,
            Err(_) => read(serde_json::Deserializer::from_slice(bytes), &mut self.0)?,
        }
        // There is always one value.
        let whole = Parts(&self.0).next().ok_or(json::Error::NotAnObject("nothing"))?;
        whole.object().ok_or_else(|| json::Error::NotAnObject(whole.kind()))
    }
}

fn read<'t, R: serde_json::de::Read<'t>>(
    mut deserializer: serde_json::Deserializer<R>,
    nodes: &mut Nodes<'t>,
) -> Result<(), serde_json::Error> {
    Seed { nodes, name: Cow::Borrowed(""), around: Strict::default() }.deserialize(&mut deserializer)?;
    deserializer.end()
}

/// Values that follow each other, without those inside them.
#[derive(Clone)]
struct Parts<'o>(&'o [Node<'o>]);

impl<'o> Iterator for Parts<'o> {
    type Item = Part<'o>;

    fn next(&mut self) -> Option<Part<'o>> {
        let (node, rest) = self.0.split_first()?;
        let (inside, behind) = rest.split_at_checked(node.inside).unwrap_or((rest, &[]));
        self.0 = behind;
        Some(Part { node, inside })
    }
}

impl<'o> Look<'o> for Part<'o> {
    type Object = Self;

    fn kind(self) -> &'static str {
        match self.node.leaf {
            Leaf::Null => "null",
            Leaf::Bool => "a boolean",
            Leaf::Number(_) => "a number",
            Leaf::Text(_) => "a string",
            Leaf::Array => "an array",
            Leaf::Object => "an object",
        }
    }

    fn text(self) -> Option<&'o str> {
        if let Leaf::Text(text) = &self.node.leaf { Some(text) } else { None }
    }

    fn number(self) -> Option<f64> {
        if let Leaf::Number(number) = self.node.leaf { Some(number) } else { None }
    }

    fn object(self) -> Option<Self> {
        matches!(self.node.leaf, Leaf::Object).then_some(self)
    }

    fn elements(self) -> Option<impl Iterator<Item = Self>> {
        matches!(self.node.leaf, Leaf::Array).then_some(Parts(self.inside))
    }
}

impl<'o> Object<'o> for Part<'o> {
    type Value = Self;

    fn find(self, name: &str) -> Option<Self> {
        Parts(self.inside).find(|part| part.node.name == name)
    }

    fn sorted(self) -> impl Iterator<Item = (&'o str, Self)> {
        let mut members: SmallVec<[(&'o str, Self); 8]> =
            Parts(self.inside).map(|part| (part.node.name.as_ref(), part)).collect();
        members.sort_unstable_by_key(|(name, _)| *name);
        members.into_iter()
    }
}

/// Reads one value behind the nodes there are.
struct Seed<'n, 't> {
    nodes: &'n mut Nodes<'t>,
    name: Cow<'t, str>,
    around: Strict,
}

impl<'t> Seed<'_, 't> {
    fn push(self, leaf: Leaf<'t>) {
        self.nodes.push(Node { name: self.name, leaf, inside: 0 });
    }
}

/// Begins an array or an object; where what is inside it will stand.
fn open<'t>(nodes: &mut Nodes<'t>, name: Cow<'t, str>, leaf: Leaf<'t>) -> usize {
    nodes.push(Node { name, leaf, inside: 0 });
    nodes.len()
}

/// Whatever follows is not inside it any more.
fn close(nodes: &mut Nodes<'_>, first: usize) {
    let inside = nodes.len() - first;
    if let Some(node) = first.checked_sub(1).and_then(|at| nodes.get_mut(at)) {
        node.inside = inside;
    }
}

impl<'t> DeserializeSeed<'t> for Seed<'_, 't> {
    type Value = ();

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'t> Visitor<'t> for Seed<'_, 't> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.around.expecting(f)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.push(Leaf::Null);
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.push(Leaf::Bool);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.push(Leaf::Number(value as f64));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.push(Leaf::Number(value as f64));
        Ok(())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        json::finite(value)?;
        self.push(Leaf::Number(value));
        Ok(())
    }

    fn visit_borrowed_str<E>(self, text: &'t str) -> Result<(), E> {
        self.push(Leaf::Text(Cow::Borrowed(text)));
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.push(Leaf::Text(Cow::Owned(text.to_owned())));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut elements: A) -> Result<(), A::Error> {
        let around = self.around.deeper()?;
        let Self { nodes, name, .. } = self;
        let first = open(nodes, name, Leaf::Array);
        while elements.next_element_seed(Seed { nodes: &mut *nodes, name: Cow::Borrowed(""), around })?.is_some() {}
        close(nodes, first);
        Ok(())
    }

    fn visit_map<A: MapAccess<'t>>(self, mut members: A) -> Result<(), A::Error> {
        let around = self.around.deeper()?;
        let Self { nodes, name, .. } = self;
        let first = open(nodes, name, Leaf::Object);
        let mut names = Names::default();
        while let Some(name) = members.next_key_seed(Name)? {
            if !names.add(&name, nodes.get(first..).unwrap_or_default()) {
                return Err(A::Error::custom(json::TWICE));
            }
            members.next_value_seed(Seed { nodes: &mut *nodes, name, around })?;
        }
        close(nodes, first);
        Ok(())
    }
}

/// Notices when a name comes twice in one object.
#[derive(Default)]
struct Names {
    count: usize,
    many: HashSet<String>,
}

impl Names {
    /// False if one of the members that are there has this name.
    fn add(&mut self, name: &str, there: &[Node<'_>]) -> bool {
        self.count += 1;
        if self.count <= COMPARED_MAX {
            return !Parts(there).any(|part| part.node.name == name);
        }
        if self.many.is_empty() {
            self.many.extend(Parts(there).map(|part| part.node.name.clone().into_owned()));
        }
        self.many.insert(name.to_owned())
    }
}

/// A member's name: borrowed unless it has escapes.
struct Name;

impl<'t> DeserializeSeed<'t> for Name {
    type Value = Cow<'t, str>;

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_string(self)
    }
}

impl<'t> Visitor<'t> for Name {
    type Value = Cow<'t, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'t str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

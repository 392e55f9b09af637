//! The TOML text with the position of everything in it, and the environment laid over it; it is read into the schema
//! key by key, so that one wrong key does not hide the next.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, ValueDeserializer};

use crate::set::nearest::nearest;

use super::environment::{Environment, Override};

use super::problem::{Place, Problem, Step};

/// A parsed document.
pub(super) struct Document<'a> {
    text: &'a str,
    root: DeTable<'a>,
    /// The variables laid over the file. Their keys and values carry spans behind the end of the text, [`STRIDE`] of
    /// them for each variable, so that a span alone tells where a value comes from.
    overrides: Vec<Override<'a>>,
    /// What was taken out because it could not be read. Checks stay silent about it: it has been reported.
    damaged: Vec<Vec<Step>>,
    /// The text itself is not TOML, so that what is missing may only have been lost.
    torn: bool,
}

/// How many positions behind the end of the text belong to one variable: one for each part of its name, the last one
/// for its value.
const STRIDE: usize = 32;

impl<'a> Document<'a> {
    /// Parses the text and lays the environment over it. Faults of syntax and of variables' names are returned beside
    /// the document, which holds all that could be read.
    pub(super) fn parse(text: &'a str, environment: &'a Environment) -> (Self, Vec<Problem>) {
        let (root, errors) = DeTable::parse_recoverable(text);
        let torn = !errors.is_empty();
        let mut document =
            Self { text, root: root.into_inner(), overrides: environment.overrides(), damaged: Vec::new(), torn };
        let mut problems: Vec<Problem> = errors.iter().map(|error| document.syntax(error)).collect();
        problems.dedup_by(|second, first| second.place == first.place);
        problems.extend(document.lay_over());
        (document, problems)
    }

    /// Reads the document into `T`. What does not fit is reported, taken out and replaced by the default.
    pub(super) fn read<T: DeserializeOwned + Default>(&mut self, problems: &mut Vec<Problem>) -> T {
        let mut root = self.root.clone();
        loop {
            let whole = Spanned::new(0..self.text.len(), DeValue::Table(root.clone()));
            let error = match T::deserialize(ValueDeserializer::from(whole)) {
                Ok(value) => return value,
                Err(error) => error,
            };
            let span = error.span().unwrap_or_default();
            let Some(mut path) = find(&root, &span) else {
                problems.push(self.unreadable(&error, Vec::new(), &span));
                return T::default();
            };
            if self.retry_as_text(&mut root, &path, &error) {
                continue;
            }
            problems.push(self.unreadable(&error, path.clone(), &span));
            while matches!(path.last(), Some(Step::Index(_))) {
                path.pop();
            }
            remove(&mut root, &path);
            self.damaged.push(path);
        }
    }

    /// Fills in where a fault of the schema or of a check stands. `None` when it is about something that has been
    /// reported already.
    pub(super) fn locate(&self, mut problem: Problem) -> Option<Problem> {
        if self.damaged.iter().any(|damaged| problem.path.starts_with(damaged)) {
            return None;
        }
        let span = self.span_of(&problem.path);
        if self.torn && span.is_none() {
            return None;
        }
        problem.place = span.map_or_else(|| self.nearest_place(&problem.path), |span| self.place(span.start));
        problem.field = self.field(&problem.path);
        Some(problem)
    }

    /// The line on which the `index`th `[[peer]]` starts, counted from one.
    pub(super) fn peer_line(&self, index: usize) -> Option<usize> {
        match self.span_of(&["peer".into(), index.into()]).map(|span| self.place(span.start)) {
            Some(Place::Line { line, .. }) => Some(line),
            _ => None,
        }
    }

    fn lay_over(&mut self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for index in 0..self.overrides.len() {
            let over = self.overrides[index].clone();
            let mark = self.text.len() + 1 + index * STRIDE;
            let what = if over.path.iter().any(String::is_empty) || over.path.len() >= STRIDE {
                Some((
                    "the name has an empty part, or too many parts",
                    "name the key's parts, as in PUSHPULL__SERVER__LISTEN",
                ))
            } else if over.path.first().is_some_and(|first| first == "peer") {
                Some(("peers cannot be set by the environment", "write the [[peer]] into the file"))
            } else if !insert(&mut self.root, &over.path, over.value.clone(), mark) {
                Some(("a part of the name is not a section", "name the key's parts, as in PUSHPULL__SERVER__LISTEN"))
            } else {
                None
            };
            if let Some((what, fix)) = what {
                let place = Place::Environment(over.name.to_owned());
                problems.push(Problem {
                    place,
                    what: what.to_owned(),
                    fix: Some(fix.to_owned()),
                    ..Problem::default()
                });
            }
        }
        problems
    }

    /// A variable's text may look like a number or a date where a text is wanted (a kid such as `2026`): then its
    /// characters are the value.
    fn retry_as_text(&self, root: &mut DeTable<'a>, path: &[Step], error: &toml::de::Error) -> bool {
        let Some(slot) = value_mut(root, path) else { return false };
        let Some(over) = self.override_at(slot.span().start) else { return false };
        if slot.get_ref().is_str() || !error.message().starts_with("invalid type") {
            return false;
        }
        *slot.get_mut() = DeValue::String(over.raw.into());
        true
    }

    /// A fault of syntax, in our form.
    fn syntax(&self, error: &toml::de::Error) -> Problem {
        let place = error.span().map_or(Place::File, |span| self.place(span.start));
        let (what, expected) = match error.message().split_once(", expected ") {
            Some((what, expected)) => (what, Some(expected.to_owned())),
            None => (error.message(), None),
        };
        Problem {
            place,
            what: format!("not TOML: {what}"),
            expected,
            fix: Some("correct this line; texts need quotation marks".to_owned()),
            ..Problem::default()
        }
    }

    /// What the schema says about a key or value that it cannot take.
    fn unreadable(&self, error: &toml::de::Error, path: Vec<Step>, span: &Range<usize>) -> Problem {
        let message = error.message().trim_end();
        let field = self.field(&path);
        let place = self.place(span.start);
        let base = Problem { place, field, path: path.clone(), ..Problem::default() };
        let last = path.iter().rev().find_map(|step| if let Step::Key(key) = step { Some(key.as_str()) } else { None });
        if message.starts_with("unknown field") {
            return unknown_key(base, message, last.unwrap_or_default());
        }
        if last == Some("token") {
            // Somebody may have written the secret itself here, and errors end up in logs.
            return Problem {
                what: "a token does not stand in the file".to_owned(),
                expected: Some("{ env = \"NAME\" }".to_owned()),
                fix: Some("put the token into a file and name it in token_file".to_owned()),
                ..base
            };
        }
        let (found, expected) = message.split_once(", expected ").unwrap_or((message, ""));
        let expected = if matches!(expected, "usize" | "u64" | "u32" | "i64") { "a whole number" } else { expected };
        let (what, found) = found.split_once(": ").unwrap_or((found, ""));
        let variant = found_variant(message);
        let what = if variant.is_some() { "unknown value" } else { what };
        let found = variant.map_or_else(|| found.to_owned(), |variant| format!("`{variant}`"));
        let fix =
            variant.and_then(|variant| nearest(variant, names_in(expected))).map(|near| format!("write \"{near}\""));
        let some = |text: String| if text.is_empty() { None } else { Some(text) };
        Problem { what: what.to_owned(), expected: some(expected.to_owned()), found: some(found), fix, ..base }
    }

    /// The way to a value as the operator would say it; a peer is named by its name where it has one.
    fn field(&self, path: &[Step]) -> String {
        let mut text = String::new();
        for (depth, step) in path.iter().enumerate() {
            match step {
                Step::Key(key) if text.is_empty() => text.push_str(key),
                Step::Key(key) => text.extend([".", key]),
                Step::Index(index) => {
                    let name = value(&self.root, &path[..=depth])
                        .and_then(|peer| peer.get_ref().get("name")?.get_ref().as_str());
                    match name {
                        Some(name) if depth == 1 => text.push_str(&format!("[{name}]")),
                        _ => text.push_str(&format!("[{}]", index + 1)),
                    }
                }
            }
        }
        text
    }

    /// Where the closest existing parent of a missing key stands.
    fn nearest_place(&self, path: &[Step]) -> Place {
        let parents = (1..path.len()).rev();
        parents
            .filter_map(|length| self.span_of(&path[..length]))
            .map(|span| self.place(span.start))
            .next()
            .unwrap_or_default()
    }

    fn span_of(&self, path: &[Step]) -> Option<Range<usize>> {
        match path.split_last()? {
            (Step::Index(_), _) => value(&self.root, path).map(Spanned::span),
            (Step::Key(key), parents) => {
                let table =
                    if parents.is_empty() { &self.root } else { value(&self.root, parents)?.get_ref().as_table()? };
                table.get_key_value(key.as_str()).map(|(key, _)| key.span())
            }
        }
    }

    /// The variable to which a position behind the end of the text belongs.
    fn override_at(&self, offset: usize) -> Option<&Override<'a>> {
        self.overrides.get(offset.checked_sub(self.text.len() + 1)? / STRIDE)
    }

    fn place(&self, offset: usize) -> Place {
        if let Some(over) = self.override_at(offset) {
            return Place::Environment(over.name.to_owned());
        }
        let before = self.text.get(..offset).unwrap_or(self.text);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place::Line { line: before.matches('\n').count() + 1, column: before[start..].chars().count() + 1 }
    }
}

/// "unknown key", with the nearest key that exists.
fn unknown_key(base: Problem, message: &str, key: &str) -> Problem {
    let known = message.split_once(", expected ").map_or("", |(_, known)| known);
    let fix = match nearest(key, names_in(known)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "remove it".to_owned(),
    };
    let expected = known.strip_prefix("one of ").unwrap_or(known).to_owned();
    let expected = if expected.is_empty() { None } else { Some(expected) };
    Problem { what: "unknown key".to_owned(), expected, fix: Some(fix), ..base }
}

/// The word that serde calls an unknown variant.
fn found_variant(message: &str) -> Option<&str> {
    message.strip_prefix("unknown variant `")?.split('`').next()
}

/// The names between back-ticks in serde's list of what it would have taken.
fn names_in(expected: &str) -> impl Iterator<Item = &str> {
    expected.split('`').skip(1).step_by(2)
}

/// The way to the innermost key or value with this span.
fn find(table: &DeTable<'_>, span: &Range<usize>) -> Option<Vec<Step>> {
    for (key, value) in table {
        let found = if key.span() == *span { Some(Vec::new()) } else { find_in(value, span) };
        if let Some(mut path) = found {
            path.insert(0, Step::Key(key.get_ref().to_string()));
            return Some(path);
        }
    }
    None
}

fn find_in(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<Vec<Step>> {
    let inner = match value.get_ref() {
        DeValue::Table(table) => find(table, span),
        DeValue::Array(array) => array.iter().enumerate().find_map(|(index, item)| {
            let mut path = find_in(item, span)?;
            path.insert(0, Step::Index(index));
            Some(path)
        }),
        _ => None,
    };
    inner.or_else(|| (value.span() == *span).then(Vec::new))
}

fn value<'t, 'i>(root: &'t DeTable<'i>, path: &[Step]) -> Option<&'t Spanned<DeValue<'i>>> {
    let (first, rest) = path.split_first()?;
    let Step::Key(key) = first else { return None };
    rest.iter().try_fold(root.get(key.as_str())?, |value, step| match step {
        Step::Key(key) => value.get_ref().as_table()?.get(key.as_str()),
        Step::Index(index) => value.get_ref().as_array()?.get(*index),
    })
}

fn value_mut<'t, 'i>(root: &'t mut DeTable<'i>, path: &[Step]) -> Option<&'t mut Spanned<DeValue<'i>>> {
    let (first, rest) = path.split_first()?;
    let Step::Key(key) = first else { return None };
    rest.iter().try_fold(root.get_mut(key.as_str())?, |value, step| match (step, value.get_mut()) {
        (Step::Key(key), DeValue::Table(table)) => table.get_mut(key.as_str()),
        (Step::Index(index), DeValue::Array(array)) => array.get_mut(*index),
        _ => None,
    })
}

fn remove(root: &mut DeTable<'_>, path: &[Step]) {
    let Some((Step::Key(key), parents)) = path.split_last() else { return };
    if parents.is_empty() {
        root.remove(key.as_str());
    } else if let Some(DeValue::Table(table)) = value_mut(root, parents).map(Spanned::get_mut) {
        table.remove(key.as_str());
    }
}

/// Puts a value at a path, making the sections on the way. False when something on the way is no section.
fn insert<'a>(root: &mut DeTable<'a>, path: &[String], value: DeValue<'a>, mark: usize) -> bool {
    let Some((key, sections)) = path.split_last() else { return false };
    let mut table = root;
    for (depth, section) in sections.iter().enumerate() {
        let span = mark + depth..mark + depth;
        let fresh = || Spanned::new(span.clone(), DeValue::Table(DeTable::new()));
        let entry = table.entry(Spanned::new(span.clone(), section.clone().into())).or_insert_with(fresh);
        let DeValue::Table(next) = entry.get_mut() else { return false };
        table = next;
    }
    table.remove(key.as_str());
    let depth = mark + sections.len();
    table.insert(Spanned::new(depth..depth, key.clone().into()), respan(value, mark + STRIDE - 1));
    true
}

/// The value with every span in it pointing at the variable that it came from.
fn respan(value: DeValue<'_>, mark: usize) -> Spanned<DeValue<'_>> {
    let value = match value {
        DeValue::Array(array) => {
            let mut marked = DeArray::new();
            array.iter().for_each(|item| marked.push(respan(item.get_ref().clone(), mark)));
            DeValue::Array(marked)
        }
        DeValue::Table(table) => {
            let mut marked = DeTable::new();
            for (key, value) in table {
                marked.insert(Spanned::new(mark..mark, key.into_inner()), respan(value.into_inner(), mark));
            }
            DeValue::Table(marked)
        }
        other => other,
    };
    Spanned::new(mark..mark, value)
}

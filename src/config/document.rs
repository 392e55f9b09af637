//! The TOML text with the position of everything in it, and the environment laid over it; it is read into the schema
//! key by key, so that one wrong key does not hide the next.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::set::nearest::nearest;

use super::environment::{Environment, Override};
use super::problem::{Place, Problem, Step};
use super::syntax::{self, line_start};
use super::tree::{STRIDE, find, insert, is_section, remove, rename, value, value_mut};
use super::{complaint, excerpt};

/// A parsed document.
pub(super) struct Document<'a> {
    text: &'a str,
    /// Where the lines begin: with very many peers it would take long to count them again and again.
    lines: Vec<usize>,
    root: DeTable<'a>,
    /// The variables laid over the file. Their keys and values carry spans behind the end of the text, [`STRIDE`] of
    /// them for each variable, so that a span alone tells where a value comes from.
    overrides: Vec<Override<'a>>,
    /// What was taken out because it could not be read. Checks stay silent about it: it has been reported.
    damaged: Vec<Vec<Step>>,
    /// The text itself is not TOML, so that what is missing may only have been lost.
    torn: bool,
    /// Where the first heading or list is that has no end. What follows may have ended up in another place.
    torn_from: usize,
}

impl<'a> Document<'a> {
    /// Parses the text and lays the environment over it. Faults of syntax and of variables' names are returned beside
    /// the document, which holds all that could be read.
    pub(super) fn parse(text: &'a str, environment: &'a Environment) -> (Self, Vec<Problem>) {
        let (root, errors) = DeTable::parse_recoverable(text);
        let overrides = environment.overrides();
        let torn = !errors.is_empty();
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(newline, _)| newline + 1)).collect();
        let root = root.into_inner();
        let mut document = Self { text, lines, root, overrides, damaged: Vec::new(), torn, torn_from: usize::MAX };
        let mut problems = Vec::new();
        for (span, message) in syntax::told(text, &errors) {
            let line = document.line_at(span.start);
            if line.trim_start().starts_with('[') || syntax::is_unclosed_list(&message) {
                let is_list = syntax::is_unclosed_list(&message);
                let from = if is_list { span.start } else { line_start(text, span.start) };
                document.torn_from = document.torn_from.min(from);
            }
            let base = Problem { field: document.field_at(span.start), ..document.base(&span) };
            problems.push(complaint::of_syntax(&message, line, base));
        }
        problems.extend(document.lay_over());
        problems.extend(environment.unreadable().map(|name| {
            Problem {
                place: Place::Environment(name.to_owned()),
                what: "the value is not Unicode".into(),
                ..Problem::default()
            }
            .fix("set it to a text in UTF-8, or unset it")
        }));
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
                problems.push(self.unreadable(error.message(), Vec::new(), &span));
                return T::default();
            };
            let is_date = value(&root, &path).is_some_and(|value| value.get_ref().is_datetime());
            if self.retry_as_text(&mut root, &path, &error) {
                continue;
            }
            // Where a section is wanted, a date is read as one that has a key for the date.
            let message = match error.message() {
                message if is_date && message.starts_with("unknown field") => {
                    "invalid type: a date, expected struct of a section"
                }
                message => message,
            };
            if message.starts_with("unknown field") && matches!(path.last(), Some(Step::Key(_))) {
                problems.extend(self.unknown(&mut root, path, error.message(), &span));
                continue;
            }
            if self.is_sure(&span) {
                problems.push(self.unreadable(message, path.clone(), &span));
            }
            while matches!(path.last(), Some(Step::Index(_))) {
                path.pop();
            }
            if !remove(&mut root, &path) {
                // Nothing would be different the next time.
                return T::default();
            }
            self.damaged.push(path);
        }
    }

    /// Fills in where a fault of the schema or of a check stands. `None` when it is about something that has been
    /// reported already.
    pub(super) fn locate(&self, mut problem: Problem) -> Option<Problem> {
        let is_damaged = |path: &Vec<Step>| self.damaged.iter().any(|damaged| path.starts_with(damaged));
        if is_damaged(&problem.path) || problem.rests_on.iter().any(is_damaged) {
            return None;
        }
        let span = self.span_of(&problem.path);
        let lost = span.as_ref().map_or(self.torn && !problem.path.is_empty(), |span| !self.is_sure(span));
        if lost {
            return None;
        }
        let nearest = || (1..problem.path.len()).rev().find_map(|length| self.span_of(&problem.path[..length]));
        if let Some(span) = span.or_else(nearest) {
            problem.place = self.place(span.start);
            problem.excerpt = excerpt::of(self.text, &span);
        }
        problem.field = self.field(&problem.path);
        Some(problem.finish())
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
                problems.push(Problem { place, what: what.to_owned(), ..Problem::default() }.fix(fix));
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

    /// Takes out a key that is not known. A section whose name is misspelt is read on under the name that was meant, so
    /// that its own faults come to light; a misspelt key counts as given, so that it is not called missing too.
    fn unknown(
        &mut self,
        root: &mut DeTable<'a>,
        path: Vec<Step>,
        message: &str,
        span: &Range<usize>,
    ) -> Option<Problem> {
        let key = path.iter().rev().find_map(Step::key).unwrap_or_default().to_owned();
        let base = Problem { field: self.field(&path), path: path.clone(), ..self.base(span) };
        let problem = complaint::of_key(message, &key, base).finish();
        let meant = nearest(&key, complaint::names_in(message).skip(1)).and_then(|near| {
            let mut meant = path.clone();
            *meant.last_mut()? = near.into();
            value(root, &meant).is_none().then_some(meant)
        });
        match meant {
            Some(meant) if value(root, &path).is_some_and(is_section) => {
                rename(root, &path, &meant);
                rename(&mut self.root, &path, &meant);
            }
            meant => {
                remove(root, &path);
                self.damaged.push(path);
                self.damaged.extend(meant);
            }
        }
        self.is_sure(span).then_some(problem)
    }

    /// Whether what stands here is what was meant to stand here, as far as the text is TOML.
    fn is_sure(&self, span: &Range<usize>) -> bool {
        span.start < self.torn_from || span.start > self.text.len()
    }

    /// What the schema says about a value that it cannot take.
    fn unreadable(&self, message: &str, path: Vec<Step>, span: &Range<usize>) -> Problem {
        let key = path.iter().rev().find_map(Step::key).unwrap_or_default().to_owned();
        let base = Problem { field: self.field(&path), path, ..self.base(span) };
        complaint::of_value(message, &key, base).finish()
    }

    /// A problem at this place.
    fn base(&self, span: &Range<usize>) -> Problem {
        Problem { place: self.place(span.start), excerpt: excerpt::of(self.text, span), ..Problem::default() }
    }

    /// The line around a position of the text.
    fn line_at(&self, offset: usize) -> &'a str {
        self.text[line_start(self.text, offset)..].lines().next().unwrap_or_default()
    }

    /// The key that stands on a line that is not TOML, as far as can be told by looking at it.
    fn field_at(&self, offset: usize) -> String {
        let is_name = |text: &&str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        };
        let heading = |line: &'a str| line.trim().strip_prefix('[').map(|name| name.trim_matches(['[', ']']));
        let line = self.line_at(offset);
        if let Some(section) = heading(line) {
            return Some(section).filter(is_name).unwrap_or_default().to_owned();
        }
        // Without the sign it may be anything, such as the second line of a secret.
        let key = line.split_once('=').map(|(key, _)| key.trim()).filter(is_name);
        let Some(key) = key else { return String::new() };
        let before = self.text.get(..offset).unwrap_or_default();
        let section = before.lines().rev().skip(1).find_map(heading).filter(is_name);
        section.map_or_else(|| key.to_owned(), |section| format!("{section}.{key}"))
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
                        Some(name) if depth == 1 && !name.contains(char::is_control) => {
                            text.push_str(&format!("[{name}]"))
                        }
                        _ => text.push_str(&format!("[{}]", index + 1)),
                    }
                }
            }
        }
        text
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
        let line = self.lines.partition_point(|start| *start <= offset).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or_default();
        let column = self.text.get(start..offset).unwrap_or_default().chars().count() + 1;
        Place::Line { line, column }
    }
}

//! What is wrong with a configuration: each fault with its place, what was expected and found, and the remedy.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::codes::Code;
use crate::set::acts_on_display;

/// A configuration that cannot be used. It lists every fault that was found, not only the first.
#[derive(Debug, thiserror::Error)]
pub struct Error {
    /// The file that was read.
    pub file: PathBuf,
    /// The faults, in the order of the file.
    pub problems: Vec<Problem>,
}

impl Error {
    /// The faults in the order of the file, each one once.
    pub(super) fn new(file: &Path, problems: Vec<Problem>) -> Self {
        // A check of the values and one of the files may come upon the same thing.
        let mut seen = BTreeSet::new();
        let key = |problem: &Problem| {
            (problem.place.clone(), problem.field.clone(), problem.what.clone(), problem.found.clone())
        };
        let mut distinct: Vec<Problem> = problems.into_iter().filter(|problem| seen.insert(key(problem))).collect();
        distinct.sort_by_key(|problem| match problem.place {
            Place::File => (0, 0),
            Place::Line { line, column } => (line, column),
            Place::Environment(_) => (usize::MAX, 0),
        });
        Self { file: file.to_owned(), problems: distinct }
    }

    /// The faults for programs.
    pub fn to_json(&self) -> serde_json::Value {
        let problems: Vec<_> = self.problems.iter().map(Problem::to_json).collect();
        serde_json::json!({ "ok": false, "config": self.file, "problems": problems })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            problem.write(f, &self.file)?;
        }
        Ok(())
    }
}

/// Where a fault stands.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Place {
    /// In the file as a whole: something is missing, or the file itself is at fault.
    #[default]
    File,
    /// At a line and column of the file, both counted from one.
    Line {
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
    },
    /// In an environment variable that overrides a key.
    Environment(String),
}

/// One fault.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// What kind of fault it is.
    pub code: Code,
    /// Where it stands.
    pub place: Place,
    /// The key, with dots between its parts: `server.listen`, `peer[globex].endpoint`. Empty for the file as a whole.
    pub field: String,
    /// What is wrong, as a fragment.
    pub what: String,
    /// What would have been right.
    pub expected: Option<String>,
    /// What stands there. Never a secret.
    pub found: Option<String>,
    /// What to do about it.
    pub fix: String,
    /// The line it stands on, as far as that can be shown.
    pub(super) excerpt: Option<Excerpt>,
    /// Where in the document the fault lies, until [`Problem::place`] and [`Problem::field`] are worked out from it.
    pub(super) path: Vec<Step>,
    /// Other keys whose values the fault rests on. Where one of them could not be read, it is not known to be one.
    pub(super) rests_on: Vec<Vec<Step>>,
}

/// A line of the file, with the place in it that is meant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Excerpt {
    pub(super) text: String,
    /// Characters before the place.
    pub(super) indent: usize,
    /// Characters of the place.
    pub(super) width: usize,
}

impl Default for Problem {
    fn default() -> Self {
        Self {
            code: Code::ConfigBadValue,
            place: Place::default(),
            field: String::new(),
            what: String::new(),
            expected: None,
            found: None,
            fix: String::new(),
            excerpt: None,
            path: Vec::new(),
            rests_on: Vec::new(),
        }
    }
}

/// One step of the way from the document's root to a value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Into a table.
    Key(String),
    /// Into an array.
    Index(usize),
}

impl Step {
    /// The key, when it is one.
    pub(super) fn key(&self) -> Option<&str> {
        match self {
            Self::Key(key) => Some(key),
            Self::Index(_) => None,
        }
    }
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

impl Problem {
    /// A fault at a key, written with dots (`server.tls.cert`).
    pub(super) fn at(key: &str, what: impl Into<String>) -> Self {
        Self { path: steps(key), what: what.into(), ..Self::default() }
    }

    pub(super) fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    pub(super) fn found(mut self, found: impl Into<String>) -> Self {
        self.found = Some(found.into());
        self
    }

    pub(super) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = fix.into();
        self
    }

    pub(super) fn code(mut self, code: Code) -> Self {
        self.code = code;
        self
    }

    /// It rests on the value of this key too, written as for [`Problem::at`].
    pub(super) fn rests_on(mut self, key: &str) -> Self {
        self.rests_on.push(steps(key));
        self
    }

    /// The same fault, seen from the root: its path is taken to start inside the `index`th peer.
    pub(super) fn in_peer(mut self, index: usize) -> Self {
        self.path.splice(0..0, [Step::from("peer"), Step::from(index)]);
        // A key of one part is one of the peer; those of the rest of the file have two.
        for path in self.rests_on.iter_mut().filter(|path| path.len() == 1) {
            path.splice(0..0, [Step::from("peer"), Step::from(index)]);
        }
        self
    }

    /// Whatever is wrong can be mended: where no remedy is given, it is to write what was expected.
    pub(super) fn finish(mut self) -> Self {
        if self.fix.is_empty() {
            self.fix = match self.expected.as_deref() {
                Some(bound) if bound.starts_with("at least ") => format!("raise it to {bound}"),
                Some(bound) if bound.starts_with("at most ") => format!("lower it to {bound}"),
                Some(right) => format!("write {right}"),
                None => "mend it; docs/configuration.md says what belongs there".to_owned(),
            };
        }
        self
    }

    /// The fault in one line, without its place.
    pub fn brief(&self) -> String {
        let mut text = format!("{}: {}", harmless(&self.field), harmless(&self.what));
        match (&self.expected, &self.found) {
            (Some(expected), Some(found)) => {
                text.push_str(&format!(" (expected {}, found {})", harmless(expected), harmless(found)));
            }
            (Some(expected), None) => text.push_str(&format!(" (expected {})", harmless(expected))),
            (None, Some(found)) => text.push_str(&format!(" (found {})", harmless(found))),
            (None, None) => {}
        }
        text + ": " + &harmless(&self.fix)
    }

    /// The fault for programs: absent members are null.
    pub fn to_json(&self) -> serde_json::Value {
        let (line, column, variable) = match &self.place {
            Place::File => (None, None, None),
            Place::Line { line, column } => (Some(line), Some(column), None),
            Place::Environment(name) => (None, None, Some(name)),
        };
        serde_json::json!({
            "code": self.code.as_str(), "line": line, "column": column, "variable": variable, "field": self.field,
            "what": self.what, "expected": self.expected, "found": self.found, "fix": self.fix,
        })
    }

    /// One fault as lines of text: the place and what is wrong, the line itself, then, indented, what is known beyond.
    fn write(&self, f: &mut fmt::Formatter<'_>, file: &Path) -> fmt::Result {
        let file = harmless(&file.to_string_lossy());
        match &self.place {
            Place::File => write!(f, "{file}: ")?,
            Place::Line { line, column } => write!(f, "{file}:{line}:{column}: ")?,
            Place::Environment(name) => write!(f, "environment variable {}: ", harmless(name))?,
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", harmless(&self.field))?;
        }
        write!(f, "{} [{}]", harmless(&self.what), self.code.as_str())?;
        if let (Some(excerpt), Place::Line { line, .. }) = (&self.excerpt, &self.place) {
            let Excerpt { text, indent, width } = excerpt;
            write!(f, "\n   {line:>5} | {text}\n         | {:indent$}{}", "", "^".repeat(*width))?;
        }
        let details = [("expected", self.expected.as_deref()), ("found", self.found.as_deref())];
        for (name, text) in details.into_iter().chain([("fix", Some(self.fix.as_str()))]) {
            if let Some(text) = text {
                write!(f, "\n   {name:<9} {}", harmless(text))?;
            }
        }
        Ok(())
    }
}

/// A text of somebody else's, of which a terminal takes nothing for an order.
fn harmless(text: &str) -> String {
    let one = |c: char| if acts_on_display(c) { c.escape_default().collect() } else { c.to_string() };
    text.chars().map(one).collect()
}

/// The steps of a key that is written with dots.
fn steps(key: &str) -> Vec<Step> {
    key.split('.').filter(|part| !part.is_empty()).map(Step::from).collect()
}

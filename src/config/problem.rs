//! What is wrong with a configuration: each fault with its place, what was expected and found, and the remedy.

use std::fmt;
use std::path::{Path, PathBuf};

/// A configuration that cannot be used. It lists every fault that was found, not only the first.
#[derive(Debug, thiserror::Error)]
pub struct Error {
    /// The file that was read.
    pub file: PathBuf,
    /// The faults, in the order of the file.
    pub problems: Vec<Problem>,
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
#[derive(Clone, Debug, Default, Eq, PartialEq)]
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
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Problem {
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
    pub fix: Option<String>,
    /// Where in the document the fault lies, until [`Problem::place`] and [`Problem::field`] are worked out from it.
    pub(super) path: Vec<Step>,
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
        Self { path: key.split('.').map(Step::from).collect(), what: what.into(), ..Self::default() }
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
        self.fix = Some(fix.into());
        self
    }

    /// The same fault, seen from the root: its path is taken to start inside the `index`th peer.
    pub(super) fn in_peer(mut self, index: usize) -> Self {
        self.path.splice(0..0, [Step::from("peer"), Step::from(index)]);
        self
    }

    /// One fault as lines of text: the place and what is wrong, then, indented, what is known beyond.
    fn write(&self, f: &mut fmt::Formatter<'_>, file: &Path) -> fmt::Result {
        match &self.place {
            Place::File => write!(f, "{}: ", file.display())?,
            Place::Line { line, column } => write!(f, "{}:{line}:{column}: ", file.display())?,
            Place::Environment(name) => write!(f, "environment variable {name}: ")?,
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{}", self.what)?;
        let details = [("expected", &self.expected), ("found", &self.found), ("fix", &self.fix)];
        for (name, text) in details {
            if let Some(text) = text {
                write!(f, "\n   {name:<9} {text}")?;
            }
        }
        Ok(())
    }
}

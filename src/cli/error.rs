//! How a command ends: the exit code, and an error that names the thing, what was expected and found, who has to act
//! and what helps. Never a secret, never a subject.

use std::fmt;
use std::process::ExitCode;

use crate::private::Exposed;

/// The fixed exit codes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
#[non_exhaustive]
pub enum Exit {
    /// Everything was done.
    Done = 0,
    /// It failed, in no way that has a code of its own.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The configuration is invalid.
    ConfigInvalid = 3,
    /// The daemon does not answer.
    Unreachable = 4,
    /// Not authenticated, or not allowed.
    NotAllowed = 5,
    /// There is no such peer, event or key.
    NotFound = 6,
    /// It exists already, or is not in the state for it.
    Conflict = 7,
    /// The partner refused or failed.
    PartnerRefused = 8,
    /// No answer while we waited; it may still come.
    TimedOut = 9,
    /// Some of several things were done.
    PartlyDone = 10,
    /// Storage failed; stopped to protect data.
    StorageFailed = 70,
    /// Stopped at once by a second SIGINT.
    Interrupted = 130,
    /// Stopped at once by a second SIGTERM.
    Terminated = 143,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub struct Error {
    /// The exit code.
    pub exit: Exit,
    what: String,
    details: Vec<(&'static str, String)>,
}

impl Error {
    /// An error that says what is wrong.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), details: Vec::new() }
    }

    /// A failure of no special kind, as most input and output errors are.
    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(Exit::Failed, what)
    }

    /// What would have been right.
    #[must_use]
    pub fn expected(self, text: impl Into<String>) -> Self {
        self.detail("expected", text)
    }

    /// What was there instead.
    #[must_use]
    pub fn found(self, text: impl Into<String>) -> Self {
        self.detail("found", text)
    }

    /// Who has to act: you, or the partner.
    #[must_use]
    pub fn who_acts(self, text: impl Into<String>) -> Self {
        self.detail("who acts", text)
    }

    /// A command or an action that helps.
    #[must_use]
    pub fn fix(self, text: impl Into<String>) -> Self {
        self.detail("fix", text)
    }

    /// What is wrong, without the details.
    pub(super) fn summary(&self) -> &str {
        &self.what
    }

    /// The reading end of our output is gone: nobody is left to be told anything.
    pub(super) fn nobody_reads(&self) -> bool {
        self.what.is_empty()
    }

    fn detail(mut self, name: &'static str, text: impl Into<String>) -> Self {
        self.details.push((name, text.into()));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        for (name, text) in &self.details {
            for (index, line) in text.lines().enumerate() {
                write!(f, "\n   {:<9} {line}", if index == 0 { name } else { "" })?;
            }
        }
        Ok(())
    }
}

impl From<Exposed> for Error {
    fn from(exposed: Exposed) -> Self {
        let what = format!("{}: {}", exposed.path.display(), exposed.what());
        Self::new(Exit::ConfigInvalid, what).expected(exposed.expected()).found(exposed.found()).fix(exposed.fix())
    }
}

impl From<crate::config::Error> for Error {
    fn from(error: crate::config::Error) -> Self {
        let count = match error.problems.len() {
            1 => "the configuration is invalid".to_owned(),
            many => format!("the configuration is invalid in {many} places"),
        };
        Self::new(Exit::ConfigInvalid, format!("{count}\n{error}"))
    }
}

impl From<std::io::Error> for Error {
    /// For writing the result. Whoever closed the pipe early has what they wanted.
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::new(Exit::Done, ""),
            _ => Self::failed(format!("cannot write the result: {error}")),
        }
    }
}

//! How a command ends: the exit code, and an error that names the thing, what was expected and found, who has to act
//! and what helps. Never a secret, never a subject.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use crate::codes::{Code, Who};
use crate::private::Exposed;
use crate::transceiver::ChangeError;

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

impl Exit {
    /// The code of an error that says nothing closer.
    pub(super) fn code(self) -> Code {
        match self {
            Self::Usage => Code::Usage,
            Self::ConfigInvalid => Code::ConfigInvalid,
            Self::Unreachable => Code::DaemonUnreachable,
            Self::NotAllowed => Code::NotAllowed,
            Self::NotFound => Code::NotFound,
            Self::Conflict => Code::Conflict,
            Self::PartnerRefused => Code::RefusedByPeer,
            Self::TimedOut => Code::TimedOut,
            Self::PartlyDone => Code::PartlyDone,
            Self::StorageFailed => Code::StorageFailed,
            Self::Interrupted | Self::Terminated => Code::StoppedAtOnce,
            Self::Done | Self::Failed => Code::Failed,
        }
    }
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
    /// The stable code.
    pub code: Code,
    what: String,
    details: Vec<(&'static str, String)>,
}

impl Error {
    /// An error that says what is wrong. Its code is the general one of the exit code, unless [`Error::code`] names another.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, code: exit.code(), what: what.into(), details: Vec::new() }
    }

    /// A failure of no special kind, as most input and output errors are.
    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(Exit::Failed, what)
    }

    /// A file that cannot be read.
    pub(super) fn unreadable(file: &Path, fault: &dyn fmt::Display) -> Self {
        Self::failed(format!("cannot read {}: {fault}", file.display())).code(Code::FileUnreadable)
    }

    /// A file or directory that cannot be made or written.
    pub(super) fn unwritable(file: &Path, fault: &dyn fmt::Display) -> Self {
        Self::failed(format!("cannot write {}: {fault}", file.display())).code(Code::FileUnwritable)
    }

    /// A closer code.
    #[must_use]
    pub fn code(self, code: Code) -> Self {
        Self { code, ..self }
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

    /// What the code says where the error itself does not: who acts, and what to do.
    fn known_by_code(&self) -> Vec<(&'static str, String)> {
        let entry = self.code.entry();
        let said = |wanted: &str| self.details.iter().any(|(name, _)| *name == wanted);
        let mut more = Vec::new();
        // The general codes know nothing that the message does not.
        if self.code == Code::Failed || self.exit == Exit::ConfigInvalid {
            return more;
        }
        if !said("who acts") && entry.who != Who::You {
            more.push(("who acts", entry.who.to_string()));
        }
        if !said("fix") {
            more.push(("fix", entry.remedy.to_owned()));
        }
        more
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}", self.code, self.what)?;
        for (name, text) in self.details.iter().chain(&self.known_by_code()) {
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
        let error = Self::new(Exit::ConfigInvalid, what).code(Code::ConfigPermissions);
        error.expected(exposed.expected()).found(exposed.found()).fix(exposed.fix())
    }
}

impl From<crate::config::Error> for Error {
    fn from(error: crate::config::Error) -> Self {
        let count = match error.problems.len() {
            1 => "the configuration is invalid".to_owned(),
            many => format!("the configuration is invalid in {many} places"),
        };
        let code = match error.problems.as_slice() {
            [problem] => problem.code,
            _ => Code::ConfigInvalid,
        };
        // Each fault says its own remedy.
        Self::new(Exit::ConfigInvalid, format!("{count}\n{error}")).code(code)
    }
}

impl From<crate::store::Error> for Error {
    /// It may be the disk, and another start may do: no fault of the configuration, which a supervisor gives up on.
    fn from(error: crate::store::Error) -> Self {
        let code = match error {
            crate::store::Error::Invalid(_) => Code::DatabaseUnusable,
            crate::store::Error::Full => Code::StorageFull,
            crate::store::Error::Fatal(_) => Code::StorageFailed,
        };
        Self::new(Exit::StorageFailed, error.to_string()).code(code)
    }
}

impl From<ChangeError> for Error {
    /// For peers that cannot be brought in at the start.
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Store(error) => error.into(),
            other => Self::new(Exit::ConfigInvalid, other.to_string()),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_its_code_who_acts_and_what_to_do_even_where_only_the_code_knows() {
        let text = Error::new(Exit::PartnerRefused, "globex refused it").to_string();
        assert!(text.starts_with("error[refused_by_peer]: globex refused it\n"), "{text}");
        assert!(text.contains("\n   who acts  you and the partner\n") && text.contains("\n   fix "), "{text}");
        let own = Error::new(Exit::NotFound, "no key").code(Code::NoSuchKey).fix("look there").to_string();
        assert_eq!(own, "error[no_such_key]: no key\n   fix       look there");
        assert_eq!(Error::failed("it is so").to_string(), "error[failed]: it is so");
    }
    #[test]
    fn a_store_that_fails_at_the_start_is_no_fault_of_the_configuration() {
        let failed = || ChangeError::Store(crate::store::Error::Fatal("SQLite: disk I/O error".to_owned()));
        assert_eq!(Error::from(failed()).exit, Exit::StorageFailed);
        assert_eq!(Error::from(failed()).code, Code::StorageFailed);
        let full = Error::from(crate::store::Error::Full);
        assert_eq!((full.exit, full.code), (Exit::StorageFailed, Code::StorageFull));
        let newer = Error::from(crate::store::Error::Invalid("its schema has version 99".to_owned()));
        assert_eq!((newer.exit, newer.code), (Exit::StorageFailed, Code::DatabaseUnusable));
        assert_eq!(Error::from(ChangeError::NoSuchPeer("globex".to_owned())).exit, Exit::ConfigInvalid);
    }
}

//! Mistakes that a store may make, to be planted: whoever judges a simulation must find each of them.

/// One mistake.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Bug {
    /// A commit is answered when it is written; it is synced some time later.
    AckBeforeSync,
    /// After a failed sync it is tried again, which "works": the pages are clean by then, and never reach the disk.
    SyncRetried,
    /// On a full disk a commit is answered as done.
    FullSwallowed,
    /// What is remembered of received jtis is lost with the process.
    DedupeInRam,
    /// Received jtis are looked up whoever sent them.
    DedupeByJtiAlone,
    /// Purging takes rows of the outbox too: up to the place that was meant for the inbox.
    PurgeUnsettled,
    /// Counts of attempts are never written.
    AttemptsNotWritten,
    /// A damaged row is passed over as if it were not there.
    DamageSkipped,
    /// A commit of which nobody knows what became of it is taken for one that failed, and so asked for again: it is not
    /// noticed that it has happened.
    UnknownTakenAsFailed,
    /// Nothing that is handed out again is marked.
    RedeliveredMissing,
    /// Recovery takes what it finds of a transaction, whole or not.
    TornTaken,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::AckBeforeSync,
        Self::SyncRetried,
        Self::FullSwallowed,
        Self::DedupeInRam,
        Self::DedupeByJtiAlone,
        Self::PurgeUnsettled,
        Self::AttemptsNotWritten,
        Self::DamageSkipped,
        Self::UnknownTakenAsFailed,
        Self::RedeliveredMissing,
        Self::TornTaken,
    ];

    /// Its name, as it is given to a hunt.
    pub fn name(self) -> &'static str {
        match self {
            Self::AckBeforeSync => "store-ack-before-sync",
            Self::SyncRetried => "store-sync-retried",
            Self::FullSwallowed => "store-full-swallowed",
            Self::DedupeInRam => "store-dedupe-in-ram",
            Self::DedupeByJtiAlone => "store-dedupe-by-jti-alone",
            Self::PurgeUnsettled => "store-purge-unsettled",
            Self::AttemptsNotWritten => "store-attempts-not-written",
            Self::DamageSkipped => "store-damage-skipped",
            Self::UnknownTakenAsFailed => "store-unknown-taken-as-failed",
            Self::RedeliveredMissing => "store-redelivered-missing",
            Self::TornTaken => "store-torn-taken",
        }
    }
}

/// The mistakes that one store makes: none by default.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Bugs(u32);

impl Bugs {
    /// This one alone.
    pub fn only(bug: Bug) -> Self {
        Self(1 << bug as u32)
    }

    /// Whether this one is made.
    pub fn has(self, bug: Bug) -> bool {
        self.0 & (1 << bug as u32) != 0
    }
}

//! The log of the disk: transactions in sectors, of which a crash keeps what it likes until they are synced.

use std::sync::Arc;

use pushpull::clock::Wall;
use pushpull::peer::{PeerId, Write};

use super::faults::Luck;

/// Bytes that a disk keeps or loses as one.
const SECTOR_BYTES: u64 = 512;

/// One thing to be made durable. Carried out on the tables once the transaction is on the disk; the same tables give the
/// same outcome.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Commit {
        peer: PeerId,
        writes: Arc<Vec<Write>>,
    },
    MakeConsumer {
        name: String,
    },
    Mark {
        consumer: String,
        last: u64,
        ahead: u64,
    },
    Confirm {
        consumer: String,
        up_to: u64,
    },
    ForgetConsumer {
        name: String,
    },
    Purge {
        memory_before: Wall,
    },
    Probe,
    NoteTime {
        at: Wall,
    },
    NamePeer {
        name: String,
    },
    AddPeer {
        name: String,
        definition: String,
    },
    RemovePeer {
        name: String,
    },
    /// Nothing: it waits for what was asked before.
    Settle,
}

impl Change {
    /// How many bytes it takes on a disk; negative if it gives some back.
    pub(super) fn bytes(&self) -> i64 {
        let len = |text: &str| i64::try_from(text.len()).unwrap_or(i64::MAX);
        match self {
            Self::Commit { writes, .. } => writes.iter().map(weight).sum(),
            Self::MakeConsumer { name } | Self::NamePeer { name } => 32 + len(name),
            Self::AddPeer { name, definition } => 32 + len(name) + len(definition),
            Self::Mark { .. } | Self::Confirm { .. } | Self::Probe | Self::NoteTime { .. } => 16,
            Self::ForgetConsumer { .. } | Self::Purge { .. } | Self::RemovePeer { .. } | Self::Settle => 0,
        }
    }
}

/// Bytes that a row with this token and jti takes.
pub(super) fn row_bytes(compact: &str, jti: &str) -> i64 {
    i64::try_from(compact.len() + jti.len() + 64).unwrap_or(i64::MAX)
}

/// A memory of this jti, without what a story adds.
pub(super) fn memory_bytes(jti: &str) -> i64 {
    row_bytes("", jti)
}

fn weight(write: &Write) -> i64 {
    match write {
        Write::Enqueue(row) => row_bytes(&row.compact, row.jti.as_str()) + memory_bytes(row.jti.as_str()),
        Write::Receive(row) => row_bytes(&row.compact, row.jti.as_str()) + memory_bytes(row.jti.as_str()),
        Write::Answer { jti, .. } | Write::Settle { jti, .. } => memory_bytes(jti.as_str()),
        Write::Attempts { .. } | Write::Lift { .. } | Write::Paused(_) => 8,
    }
}

/// What became of a sector that was written and not synced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sector {
    Kept,
    Lost,
    Torn,
}

/// A transaction that is written, and not synced.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) changes: Vec<Change>,
    /// How many sectors of it were written, of how many: fewer after a failed write.
    written: u64,
    sectors: u64,
    /// A sync of it failed, and nobody will write it again.
    pub(super) is_clean: bool,
    /// It is on the disk, behind something that is not.
    pub(super) is_synced: bool,
}

impl Transaction {
    pub(super) fn new(changes: Vec<Change>) -> Self {
        let bytes: u64 = changes.iter().map(|change| change.bytes().unsigned_abs() + 24).sum();
        let sectors = bytes.div_ceil(SECTOR_BYTES).max(1);
        Self { changes, written: sectors, sectors, is_clean: false, is_synced: false }
    }

    /// Stops within it.
    pub(super) fn break_off(&mut self, luck: &mut Luck) {
        self.written = luck.below(self.sectors);
    }

    /// What a crash leaves of it: whether it is whole, and otherwise which of its changes could still be read by somebody
    /// who does not look at checksums. Each sector is kept, lost or torn by itself, and the disk is moody: now it keeps
    /// nearly all, now nearly nothing.
    pub(super) fn crash(&self, luck: &mut Luck) -> Remains {
        let keeps = [0.0, 0.5, 0.9, 1.0][usize::try_from(luck.below(4)).unwrap_or(0)];
        let mut draw = |at: u64| match at < self.written && luck.strikes(keeps) {
            true => Sector::Kept,
            false if luck.strikes(0.5) => Sector::Torn,
            false => Sector::Lost,
        };
        let sectors: Vec<Sector> = (0..self.sectors).map(&mut draw).collect();
        if sectors.iter().all(|sector| *sector == Sector::Kept) {
            return Remains::Whole;
        }
        Remains::Broken(sectors.iter().map(|sector| *sector == Sector::Kept).collect())
    }
}

/// What is left of a transaction.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Remains {
    Whole,
    /// Sector by sector, whether it can be read.
    Broken(Vec<bool>),
}

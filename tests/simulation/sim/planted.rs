//! Which mistake the simulated disk makes, when one of its own is planted.

use pushpull::planted::{self, Bug};

use super::disk;

/// Made by the disk.
pub fn disk_bugs() -> disk::Bugs {
    disk::Bug::ALL.into_iter().find(|bug| planted::is(name(*bug))).map_or(disk::Bugs::default(), disk::Bugs::only)
}

fn name(bug: disk::Bug) -> Bug {
    match bug {
        disk::Bug::AckBeforeSync => Bug::AckBeforeSync,
        disk::Bug::SyncRetried => Bug::SyncRetried,
        disk::Bug::FullSwallowed => Bug::FullSwallowed,
        disk::Bug::DedupeInRam => Bug::DedupeInRamOnly,
        disk::Bug::DedupeByJtiAlone => Bug::DedupeWithoutPartner,
        disk::Bug::PurgeUnsettled => Bug::PurgeOfUnsettled,
        disk::Bug::AttemptsNotWritten => Bug::StoreForgetsAttempts,
        disk::Bug::DamageSkipped => Bug::DamagedRowSkipped,
        disk::Bug::UnknownTakenAsFailed => Bug::CommitRepeated,
        disk::Bug::RedeliveredMissing => Bug::StoreForgetsHandOuts,
        disk::Bug::TornTaken => Bug::TornTaken,
    }
}

//! Which mistake the simulated disks make, when one of theirs is planted.

use pushpull::planted::Bug;

use crate::sim::disk;

/// What is planted in the disks of a federation with this bug.
pub(crate) fn bugs(planted: Option<Bug>) -> disk::Bugs {
    let made = disk::Bug::ALL.into_iter().find(|bug| planted == Some(name(*bug)));
    made.map_or(disk::Bugs::default(), disk::Bugs::only)
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

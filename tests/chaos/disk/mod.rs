//! What a disk may do to a daemon: fail a call, fill up, and give back other bytes than it was given.

mod bench;
mod damage;
mod image;
mod inject;
mod observe;
mod old;
mod small;
mod strace;

/// How much is done, where the environment says nothing: little, so that every run of the tests does it.
mod sizes {
    use crate::plan::number;

    fn size(variable: &str, default: u64) -> u64 {
        number(variable).unwrap_or(default)
    }

    /// The k of the last call that is made to fail.
    pub(super) fn calls() -> u64 {
        size("PUSHPULL_CHAOS_CALLS", 2)
    }

    /// How often a small disk is filled.
    pub(super) fn fills() -> u64 {
        size("PUSHPULL_CHAOS_FILLS", 1)
    }

    /// Flips and cuts.
    pub(super) fn damages() -> u64 {
        size("PUSHPULL_CHAOS_DAMAGES", 8)
    }

    /// Daemons that are put through it side by side.
    pub(super) fn lanes() -> usize {
        usize::try_from(size("PUSHPULL_CHAOS_LANES", 2)).expect("a small number")
    }
}

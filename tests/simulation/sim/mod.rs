//! The simulator: whole federations of the real engine in pretend time, over pretend links and disks.

pub mod event;
pub mod judge;

//! A disk with a store on it, in pretend time and out of one seed: the third implementation of [`pushpull::store::Journal`],
//! written from its contract. It knows what is synced and what is not, and has every fault that a disk may have.

mod bugs;
mod contents;
mod faults;
mod inbox;
mod log;
mod memory;
mod process;
mod store;
mod tables;
mod writer;

pub use bugs::{Bug, Bugs};
pub use faults::Faults;
pub use process::{Disk, End, Witness};
pub use store::Store;

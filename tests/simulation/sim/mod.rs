//! The simulator: whole federations of the real engine in pretend time, over pretend links and disks.

pub mod application;
mod bounds;
pub mod campaign;
pub mod chaos;
pub mod clock;
pub mod dialler;
pub mod disk;
pub mod event;
pub mod exchange;
pub mod hostile;
pub mod judge;
pub mod keys;
pub mod life;
pub mod member;
pub mod mint;
pub mod net;
pub mod objects;
pub mod operator;
pub mod options;
pub mod outgoing;
pub mod paths;
pub mod recorder;
pub mod remembered;
pub mod run;
pub mod socket;
pub mod workload;
pub mod world;

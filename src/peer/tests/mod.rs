//! The core's promises, one file each, played by two ends over a pretend link in pretend time; and random runs of it.
//!
//! [`pair::Pair`] is the fixture; [`judge::Judge`] watches every step of every test. A run depends on its seed alone.

mod attempts;
mod backlog;
mod bisect;
mod calls;
mod chaos;
mod delivery;
mod end;
mod judge;
mod link;
mod method;
mod operator;
mod pair;
mod redrive;
mod retry;
mod solo;
mod store;
mod verdict;
mod window;

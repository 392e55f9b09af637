//! What can happen between the two daemons, to their processes' time and to their clocks, without anybody being killed; and
//! the long run in which all of it comes together.

mod air;
mod clocks;
mod connection;
mod mangler;
mod outage;
mod pauses;
mod repeat;
mod requests;
mod samples;
mod scene;
mod soak;
mod storm;
mod syns;
mod weather;

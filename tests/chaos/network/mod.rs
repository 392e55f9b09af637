//! What can happen between the two daemons, to their processes' time and to their clocks, mostly without anybody being killed;
//! and the long run in which much of it comes together.

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

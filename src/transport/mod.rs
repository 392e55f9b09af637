//! Between the wire and the engine: what partners reach, and how we reach them. No protocol is decided here.

mod app;
mod directory;
mod patience;
pub mod pushpull;
mod reply;
pub mod server;

pub use app::{App, measure, router};
pub use directory::{Departing, Directory, Pass};

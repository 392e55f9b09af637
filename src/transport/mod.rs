//! Between the wire and the engine: what partners reach, and how we reach them. No protocol is decided here.

mod answer;
mod app;
mod caller;
mod directory;
mod experience;
mod method;
mod minded;
mod multi_push;
mod patience;
mod poll;
mod push;
pub mod pushpull;
mod reply;
mod request;
pub mod server;
mod told;
mod wanted;

pub use app::{App, measure, router};
pub use caller::NOT_OUR_TOKEN;
pub use directory::{Departing, Directory, Pass};
pub use method::{Method, dial};

//! Turns the crank of every conversation: one actor a peer, the handles that reach it, the inspection of what arrives.
//!
//! It knows nothing of sockets or HTTP: transports open slots and bring objects. Only the actor calls the core.

mod actor;
mod bucket;
mod commit;
mod counting;
mod doubts;
mod handle;
mod inbox;
mod inspect;
mod partner;
mod place;
mod pool;
mod recent;
mod redrive;
mod restraint;
mod resume;
mod settled;
mod silence;
mod slot;
mod supervisor;
mod suspicion;
mod turns;

pub use bucket::{Bucket, Empty, Rate};
pub use handle::{ArrivalRoom, Handle, SendError, Stopped};
pub use inbox::Inbox;
pub use inspect::Inspector;
pub use partner::{Link, POLLS_MAX, Partner, Seat};
pub use pool::{Pool, Queue};
pub use recent::{Last, Recent, Refused};
pub use redrive::{RedriveError, Redriving};
pub use restraint::Restraint;
pub use resume::{Timekeeper, resume};
pub use settled::Settled;
pub use slot::Slot;
pub use supervisor::{Config, Supervisor};

//! The core: our side of the conversation with one other Transceiver.

mod config;
mod input;
mod output;
mod row;

pub use config::Config;
pub use input::{Act, Arrival, Ending, Finding, Input, Inspected, SlotId, SlotSpec, Verdicts, WaitsFor};
pub use output::{Audit, Output, Reason, Stats, Step, Transmission};
pub use row::{
    Counts, DeathCause, Direction, Fate, InboxRow, OutboxRow, Outcome, Page, PeerId, Remembered, Saved, Select,
    Verdict, Write,
};

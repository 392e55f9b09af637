//! How Communication Objects travel: the listener for what comes in, and the bindings of the drafts and RFCs.

pub mod server;

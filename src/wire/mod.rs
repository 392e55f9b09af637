//! What crosses the wire: bodies exactly as the specifications name them, and the means to reach a partner.

pub mod net;

//! What travels between Transceivers, exactly as the specifications name it, read with limits and written compactly;
//! and the means to reach a partner. Knows bytes and SETs as opaque text; it verifies nothing and remembers nothing.

pub mod net;
pub mod object;
mod strict;

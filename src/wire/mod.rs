//! What travels between Transceivers, exactly as the specifications name it, read with limits and written compactly.
//! Knows bytes and SETs as opaque text; it verifies nothing and remembers nothing.

pub mod object;
mod strict;

//! What crosses the wire: bodies exactly as the specifications name them, read with limits and written compactly, and
//! the means to reach a partner. Knows bytes and SETs as opaque text; it verifies nothing and remembers nothing.

pub mod net;
mod object;
mod strict;

pub use object::*;

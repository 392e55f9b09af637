//! Random federations, each from a seed: the engine as it is, in pretend time. `cargo run --release --example simulate` is the
//! same at any size.

#[expect(dead_code, reason = "the runnable form uses the rest")]
mod sim;

#[test]
fn placeholder() {}

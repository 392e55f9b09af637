//! Random federations in pretend time, as many as wanted.

fn main() {}

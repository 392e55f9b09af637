//! What the fuzzers feed and what must hold of it, one file a target. Both `fuzz_targets/` and the program's own tests
//! (`tests/fuzz_corpus.rs`, which replays the corpora) run these very functions.

pub mod address;
pub mod base64url;
pub mod claims;
pub mod config;
pub mod frames;
pub mod header;
pub mod http;
pub mod jwks;
pub mod object;
pub mod seeds;
pub mod site;
pub mod strict;
pub mod subject;
pub mod token;
pub mod websocket;

/// One thing that is fuzzed.
pub struct Target {
    /// The name of its corpus, its dictionary and its binary.
    pub name: &'static str,
    /// Panics when something does not hold of this input.
    pub check: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "object", check: object::check },
    Target { name: "header", check: header::check },
    Target { name: "claims", check: claims::check },
    Target { name: "jwks", check: jwks::check },
    Target { name: "base64url", check: base64url::check },
    Target { name: "subject", check: subject::check },
    Target { name: "address", check: address::check },
    Target { name: "config", check: config::check },
    Target { name: "http", check: http::check },
    Target { name: "websocket", check: websocket::check },
];

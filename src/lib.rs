//! Federates Security Event Tokens (SETs, RFC 8417) between two organisations, both ways at once: a
//! [`Transceiver`](transceiver::Transceiver) sends and receives over one push-pull link (WebSocket or HTTP), and neither
//! loses nor doubles a SET through broken links, crashes and restarts.
//!
//! The program `pushpull` is a thin user of this crate; everything that it does can be embedded. The README has the
//! quick start, `ARCHITECTURE.md` the design.
//!
//! # Example
//!
//! Two organisations in one process, with stores in memory and one WebSocket between them:
//!
//! ```
//! use std::sync::Arc;
//! use pushpull::auth::Secret;
//! use pushpull::set::{Algorithm, KeySet, SigningKey, events::Filter};
//! use pushpull::store::Memory;
//! use pushpull::transceiver::{DialConfig, Event, KeySource, Method, PeerConfig, Transceiver};
//! use pushpull::wire::net::{Allow, Target};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let token = Secret::mint()?;
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let endpoint = Target::parse(&format!("ws://{}/pushpull", listener.local_addr()?))?;
//!
//! // Each has a signing key, whose public half the other reads from a file (or from a URL).
//! let mut keys = Vec::new();
//! for name in ["acme", "globex"] {
//!     let (key, _pem) = SigningKey::generate(Algorithm::Es256, &format!("{name}-1"))?;
//!     std::fs::write(folder.path().join(name), KeySet::of([key.public_jwk()]).to_json().to_string())?;
//!     keys.push(key);
//! }
//! let peer = |name: &str| PeerConfig {
//!     name: name.to_owned(),
//!     issuer: format!("https://{name}.example"),
//!     keys: KeySource::File(folder.path().join(name)),
//!     audience: None,
//!     accept_audience: None,
//!     dial: None,
//!     collect: None,
//!     accept_tokens: Vec::new(),
//!     send: Filter::all(),
//!     accept: Filter::all(),
//! };
//!
//! let globex = Transceiver::builder("https://globex.example")
//!     .signing_key(keys.remove(1))
//!     .store(Arc::new(Memory::new()))
//!     .listen(listener, None) // plaintext: for loopback alone
//!     .start()
//!     .await?;
//! globex.add_peer(PeerConfig { accept_tokens: vec![token.clone()], ..peer("acme") }).await?;
//!
//! let acme = Transceiver::builder("https://acme.example")
//!     .signing_key(keys.remove(0))
//!     .store(Arc::new(Memory::new()))
//!     .allow(Allow::parse(["127.0.0.0/8"])?)
//!     .start()
//!     .await?;
//! let dial = DialConfig { target: endpoint, pin: None, token: Some(token), method: Method::Websocket };
//! acme.add_peer(PeerConfig { dial: Some(dial), ..peer("globex") }).await?;
//!
//! // Durable when `send` returns; from then on it ends acked, refused, or as a dead letter.
//! let subject = serde_json::json!({"format": "email", "email": "ana@globex.example"});
//! let jti = acme.send("globex", Event::new("caep:session-revoked", subject)).await?;
//!
//! // Verified, stored and acknowledged before it is handed out; it comes again until it is confirmed.
//! let received = globex.inbox("siem").next().await?;
//! assert_eq!((&received.jti, &*received.peer), (&jti, "acme"));
//! received.confirm().await?;
//!
//! let grace = std::time::Duration::from_secs(5);
//! acme.shutdown(grace).await;
//! globex.shutdown(grace).await;
//! # Ok(())
//! # }
//! ```
//!
//! # Where to look
//!
//! - [`transceiver`]: the front door. Start here.
//! - [`set`]: SETs, keys, subjects, event types; usable by itself to sign and to verify.
//! - [`store`]: what keeps everything, and the contract for a store of your own.
//! - [`peer`]: the protocol's core, a value without I/O; [`engine`] turns its crank, [`transport`] moves its objects.
//! - [`wire`]: Communication Objects as bytes, and the means to reach partners; [`auth`]: who is who.
//! - [`config`], [`admin`], [`cli`]: what makes the daemon of the library.
//!
//! A module imports only from lower floors; `ARCHITECTURE.md` §2 has the table.
//!
//! # Stability
//!
//! Version 0.1: anything may change with 0.2. What is documented of the program (commands, exit codes, configuration, admin
//! API) changes more slowly than the library.

pub mod admin;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod codes;
pub mod config;
#[doc(hidden)]
pub mod cpu;
pub mod engine;
pub mod metrics;
pub mod peer;
#[doc(hidden)]
pub mod planted;
pub mod private;
pub mod quantity;
pub mod random;
pub mod set;
pub mod store;
pub mod transceiver;
pub mod transport;
pub mod wire;

/// The README's examples, which have to compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

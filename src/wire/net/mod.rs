//! Reaching partners: names and addresses, TLS, one small HTTP client. It connects only to public addresses or those
//! that the operator allows, follows no redirect, and knows nothing of SETs.

mod backoff;
mod client;
mod dial;
mod filter;
mod pin;
mod resolve;
mod retry_after;
mod stream;
mod target;
mod tls;
mod validity;

pub use backoff::Backoff;
pub use client::{Client, Error, Limits, Response};
pub use dial::{ConnectError, Dialer};
pub use filter::{Allow, InvalidRange, is_public};
pub use pin::{InvalidPin, Pin, PinMismatch};
pub use resolve::{Resolve, SystemResolver};
pub use retry_after::{RETRY_AFTER_MAX, retry_after};
pub use stream::Stream;
pub(crate) use stream::tune;
pub use target::{InvalidTarget, Target};
pub use tls::{Error as TlsError, Minted, mint, pinned_config, public_config, server_config};
pub use validity::expires_at;

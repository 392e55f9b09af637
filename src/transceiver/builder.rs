//! What a Transceiver is made of.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use super::{Error, Transceiver};
use crate::auth::{KeyRing, Secret};
use crate::clock::{Clock, SystemClock};
use crate::engine;
use crate::set::{SigningKey, events::Filter};
use crate::store::{Journal, Registry};
use crate::transport::{Method, pushpull};
use crate::wire::net::{Allow, Pin, Target};

/// Collects what a [`Transceiver`] needs. Made by [`Transceiver::builder`].
pub struct Builder {
    pub(super) issuer: String,
    pub(super) audience: Option<String>,
    pub(super) keys: Vec<SigningKey>,
    pub(super) active: Option<String>,
    pub(super) key_ring: Option<Arc<KeyRing>>,
    pub(super) journal: Option<Arc<dyn Journal>>,
    pub(super) registry: Option<Arc<dyn Registry>>,
    pub(super) engine: engine::Config,
    pub(super) pushpull: pushpull::Config,
    pub(super) allow: Allow,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) public: Option<Public>,
    pub(super) closed: bool,
    /// For how long, and how many bytes.
    pub(super) keep_settled: (Duration, u64),
}

/// The listener that partners reach.
pub(super) struct Public {
    pub(super) listener: TcpListener,
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
}

/// One partner.
#[derive(Clone)]
pub struct PeerConfig {
    /// Its name here: a-z, 0-9, `-`.
    pub name: String,
    /// Whose SETs we accept from it.
    pub issuer: String,
    /// Where its public keys are.
    pub keys: KeySource,
    /// The `aud` of SETs for it; its issuer if none.
    pub audience: Option<String>,
    /// The `aud` of its SETs for us; the Transceiver's own if none.
    pub accept_audience: Option<String>,
    /// How to reach it; none if it comes to us.
    pub dial: Option<DialConfig>,
    /// Where its SETs are collected beside that, by [`Method::Poll`].
    pub collect: Option<DialConfig>,
    /// The bearers that it presents to us.
    pub accept_tokens: Vec<Secret>,
    /// Event types that we send to it.
    pub send: Filter,
    /// Event types that it may send to us.
    pub accept: Filter,
}

#[cfg(test)]
impl PeerConfig {
    /// A partner that comes to us, if ever, with its keys in this file.
    pub(super) fn that_comes(name: &str, keys: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            issuer: format!("https://{name}.example"),
            keys: KeySource::File(keys),
            audience: None,
            accept_audience: None,
            dial: None,
            collect: None,
            accept_tokens: Vec::new(),
            send: Filter::all(),
            accept: Filter::all(),
        }
    }
}

/// How to reach a partner.
#[derive(Clone, Eq, PartialEq)]
pub struct DialConfig {
    /// Its endpoint for this method.
    pub target: Target,
    /// Its public key, if pinned.
    pub pin: Option<Pin>,
    /// The bearer that we present.
    pub token: Option<Secret>,
    /// By what method.
    pub method: Method,
}

/// Where a partner's public keys are.
#[derive(Clone, Eq, PartialEq)]
pub enum KeySource {
    /// A JWK Set behind a URL, refreshed as often as this.
    Url {
        /// Where.
        target: Target,
        /// Its server's public key, if pinned.
        pin: Option<Pin>,
        /// The time between two refreshes.
        refresh: Duration,
    },
    /// A JWK Set in a file.
    File(PathBuf),
}

impl Builder {
    pub(super) fn new(issuer: String) -> Self {
        Self {
            issuer,
            audience: None,
            keys: Vec::new(),
            active: None,
            key_ring: None,
            journal: None,
            registry: None,
            engine: engine::Config::default(),
            pushpull: pushpull::Config::default(),
            allow: Allow::default(),
            clock: Arc::new(SystemClock::new()),
            public: None,
            closed: false,
            keep_settled: (Duration::from_secs(7 * 86_400), 1 << 30),
        }
    }

    /// The `aud` that partners must use for us (default: the issuer).
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// How long SETs are kept after they were acked, and how many bytes of them, for [`Transceiver::replay`] (default 7 days and
    /// 1 GiB; with either zero, none). After 31 days nothing can be said again.
    pub fn keep_settled(mut self, age_max: Duration, bytes_max: u64) -> Self {
        self.keep_settled = (age_max, bytes_max);
        self
    }

    /// A signing key. All are published; the first signs, unless [`Builder::active_key`] names another.
    pub fn signing_key(mut self, key: SigningKey) -> Self {
        self.keys.push(key);
        self
    }

    /// The `kid` of the key that signs.
    pub fn active_key(mut self, kid: impl Into<String>) -> Self {
        self.active = Some(kid.into());
        self
    }

    /// Keys that are kept in a directory, with what has been rotated there before, instead of
    /// [`Builder::signing_key`] and [`Builder::active_key`].
    pub fn key_ring(mut self, keys: Arc<KeyRing>) -> Self {
        self.key_ring = Some(keys);
        self
    }

    /// Where everything durable is kept.
    pub fn store<S: Journal + Registry>(mut self, store: Arc<S>) -> Self {
        self.journal = Some(Arc::clone(&store) as Arc<dyn Journal>);
        self.registry = Some(store);
        self
    }

    /// Limits of the engine and of every conversation.
    pub fn engine(mut self, config: engine::Config) -> Self {
        self.engine = config;
        self
    }

    /// Limits and intervals of push-pull.
    pub fn pushpull(mut self, config: pushpull::Config) -> Self {
        self.pushpull = config;
        self
    }

    /// Private or loopback ranges that outgoing connections may use.
    pub fn allow(mut self, allow: Allow) -> Self {
        self.allow = allow;
        self
    }

    /// Another clock than the system's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Serves partners on this listener; without `tls` in plaintext, which is for loopback alone.
    pub fn listen(mut self, listener: TcpListener, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        self.public = Some(Public { listener, tls });
        self
    }

    /// Serves nobody before [`Transceiver::open`]: partners wait in the listener's queue. Else one that comes before it
    /// was added would be told that its token is unknown.
    pub fn closed(mut self) -> Self {
        self.closed = true;
        self
    }

    /// Starts it. Must be called within a tokio runtime. The first start with a new store fails on a full disk: it notes what
    /// time it is.
    pub async fn start(self) -> Result<Transceiver, Error> {
        Transceiver::start(self).await
    }
}

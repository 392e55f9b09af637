//! `[[peer]]`: one partner, as the file or the admin API defines it, and what of it can be checked by looking.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::quantity;

/// One partner. The same members define a peer at run time, as JSON.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Peer {
    /// What commands, metrics and this file call the partner: a slug of `a-z`, `0-9` and `-`. Required.
    pub name: String,
    /// Whose SETs we accept from this partner: compared with `iss`, byte for byte. Required.
    pub issuer: String,
    /// Where the partner publishes its keys. Either this or `jwks_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// The partner's keys as a file (a JWK Set), when it publishes none. Either this or `jwks_uri`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_file: Option<PathBuf>,
    /// How often the keys are fetched anew (default 10 min). A successful refresh drops keys that are gone, so this
    /// bounds how long a withdrawn key is still believed.
    #[serde(with = "quantity::duration")]
    pub jwks_refresh: Duration,
    /// `aud` that we put into SETs for this partner (default: its issuer).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// `aud` that this partner puts into SETs for us, where it is another one than `server.audience`: some Transmitters
    /// choose one for each of their streams (default: `server.audience`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept_audience: Option<String>,
    /// How we reach the partner (default `websocket`).
    pub transport: Transport,
    /// Where we reach it: `wss://` or `https://` (`ws://` and `http://` only for loopback hosts that `network.allow`
    /// covers). Needed by every transport but `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Where we collect the partner's SETs beside that, by polling (RFC 8936): `https://`. For a partner whom we push to,
    /// or who takes what we push and offers its own for collection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poll_endpoint: Option<String>,
    /// File with the bearer token that we present to the partner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// The same token from elsewhere than a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// File with the bearer token that the partner presents to us.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept_token_file: Option<PathBuf>,
    /// `sha256/` and the base64 digest of the public key in the partner's certificate, instead of the public
    /// authorities. It holds for `endpoint`, and for `poll_endpoint` and `jwks_uri` on the same host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_pin: Option<String>,
    /// Event types that we send: short names, full URIs, or patterns with `*` (default all).
    pub send: Vec<String>,
    /// Event types that the partner may send; others get `access_denied` (default all).
    pub accept: Vec<String>,
    /// The line of the file on which it stands, counted from one; `None` for a peer that was added at run time.
    #[serde(skip)]
    pub line: Option<usize>,
}

impl Peer {
    /// `aud` of what we send to this partner.
    pub fn audience(&self) -> &str {
        self.audience.as_deref().unwrap_or(&self.issuer)
    }

    /// Makes relative paths start at `directory`.
    pub fn resolve(&mut self, directory: &Path) {
        let paths = [&mut self.jwks_file, &mut self.token_file, &mut self.accept_token_file];
        paths.into_iter().flatten().for_each(|path| *path = directory.join(&*path));
    }
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            name: String::new(),
            issuer: String::new(),
            jwks_uri: None,
            jwks_file: None,
            jwks_refresh: Duration::from_secs(600),
            audience: None,
            accept_audience: None,
            transport: Transport::default(),
            endpoint: None,
            poll_endpoint: None,
            token_file: None,
            token: None,
            accept_token_file: None,
            tls_pin: None,
            send: vec!["*".to_owned()],
            accept: vec!["*".to_owned()],
            line: None,
        }
    }
}

/// A token that does not stand in a file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The environment variable that holds it.
    pub env: String,
}

/// How we reach a partner.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Transport {
    /// Push-pull over a WebSocket that we open; over HTTP while none can be had.
    #[default]
    Websocket,
    /// Push-pull over HTTP requests that we make.
    Http,
    /// We push what we send, one SET a request (RFC 8935).
    Push,
    /// We push what we send, many SETs a request (the multi-set push draft).
    MultiPush,
    /// We collect what the partner sends, by polling (RFC 8936).
    Poll,
    /// Whatever discovery finds. Not available yet.
    Auto,
    /// Not at all: the partner comes to us.
    None,
}

impl Transport {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Websocket => "websocket",
            Self::Http => "http",
            Self::Push => "push",
            Self::MultiPush => "multi-push",
            Self::Poll => "poll",
            Self::Auto => "auto",
            Self::None => "none",
        }
    }

    /// Where such an endpoint of ours is, and in all likelihood a partner's.
    pub fn path(self) -> &'static str {
        match self {
            Self::Websocket | Self::Http | Self::Auto | Self::None => "/pushpull",
            Self::Push => "/push",
            Self::MultiPush => "/multi-push",
            Self::Poll => "/poll",
        }
    }

    /// Whether its endpoint may be a `wss://` URL.
    pub fn is_pushpull(self) -> bool {
        matches!(self, Self::Websocket | Self::Http | Self::Auto | Self::None)
    }

    /// Whether this version can do it.
    pub fn is_available(self) -> bool {
        self != Self::Auto
    }
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a text can be a peer's name: 1 to 63 of `a-z`, `0-9` and `-`, not starting with `-`.
pub fn is_slug(text: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-')
}

//! Every key of `pushpull.toml` but those of `[[peer]]`: its unit, its default and when to change it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::quantity;

/// `[server]`: who we are and where partners reach us.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Server {
    /// `iss` of what we sign, and where discovery lives. Required: an https URL without query and fragment (http only
    /// for loopback hosts). Changing it makes us somebody else for every partner.
    pub issuer: String,
    /// What `aud` partners must use for us (default: the issuer). Set it when partners already know another name.
    pub audience: Option<String>,
    /// Address on which partners reach us (default `0.0.0.0:8443`). Choose a loopback address behind a proxy.
    #[serde(with = "quantity::address")]
    pub listen: SocketAddr,
    /// How that address is protected.
    pub tls: Tls,
}

impl Server {
    /// What `aud` must hold for us.
    pub fn audience(&self) -> &str {
        self.audience.as_deref().unwrap_or(&self.issuer)
    }
}

impl Default for Server {
    fn default() -> Self {
        let listen = SocketAddr::from(([0, 0, 0, 0], 8443));
        Self { issuer: String::new(), audience: None, listen, tls: Tls::default() }
    }
}

/// `[server.tls]`: how the partners' address is protected.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Tls {
    /// Where the certificate comes from (default `self-signed`).
    pub mode: TlsMode,
    /// Certificate chain, PEM (default `tls.crt` for a self-signed one). Needed for `files`.
    pub cert: Option<PathBuf>,
    /// Its private key, PEM (default `tls.key` for a self-signed one). Needed for `files`.
    pub key: Option<PathBuf>,
    /// Authorities whose client certificates identify partners, PEM. Not available yet.
    pub client_ca: Option<PathBuf>,
}

/// Where the certificate of the partners' address comes from.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TlsMode {
    /// `init` made it; partners pin it.
    #[default]
    SelfSigned,
    /// Named files, from an authority that partners trust.
    Files,
    /// No TLS at all. Only accepted on a loopback address, behind a proxy that ends TLS or in a test.
    DangerousPlaintext,
}

/// `[admin]`: where the operator and the local application reach us.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Admin {
    /// Address of the admin API and the probes (default `127.0.0.1:8480`). It has no TLS: keep it on a loopback or
    /// otherwise private address.
    #[serde(with = "quantity::address")]
    pub listen: SocketAddr,
    /// File with the bearer token that the API wants (default `admin.token`, made by `init`, mode 0600).
    pub token_file: PathBuf,
    /// Further `Host` names it answers to, beside loopback ones (default none). Needed behind a proxy or in a cluster;
    /// every other name is refused, so that no web page can reach the API under a name of its own.
    pub hosts: Vec<String>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8480)), token_file: "admin.token".into(), hosts: Vec::new() }
    }
}

/// `[store]`: where SETs and verdicts are kept.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Store {
    /// `sqlite:` and a path (default `sqlite:pushpull.db`). Put it on a disk of its own when that disk is slow: every
    /// accepted SET is on it before anybody hears of it.
    pub url: String,
    /// How long SETs are kept after the partner has acked them (default 7 d), so that `pushpull replay` can say them again;
    /// 30 days at most, `0s` to keep none.
    #[serde(with = "quantity::duration")]
    pub keep_settled: Duration,
    /// And as many bytes of them, over all peers (default 1 GiB); the oldest go first.
    #[serde(with = "quantity::size")]
    pub keep_settled_bytes_max: usize,
}

impl Store {
    /// The database file, when the url names one.
    pub fn path(&self) -> Option<&Path> {
        let path = self.url.strip_prefix("sqlite:")?;
        let path = path.strip_prefix("//").unwrap_or(path);
        (!path.is_empty() && !path.starts_with(':') && !path.contains('?')).then(|| Path::new(path))
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            url: "sqlite:pushpull.db".to_owned(),
            keep_settled: Duration::from_secs(7 * 86_400),
            keep_settled_bytes_max: 1 << 30,
        }
    }
}

/// `[keys]`: what SETs are signed with.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Keys {
    /// Directory with the private keys: PEM (PKCS#8, mode 0600), the file's stem is the `kid`, the kind of key decides
    /// the algorithm (default `keys`). All of them are published, one of them signs.
    pub dir: PathBuf,
    /// `kid` of the key that signs. Required when there are several and none was rotated to, so that adding a file never
    /// changes who signs. It loses its meaning when that key is rotated away.
    pub active: Option<String>,
    /// How long a change of the published keys takes to reach every partner (default 20 min): a new key signs so much
    /// later than it is published, an old one stays so much longer than it is needed. Raise it when partners or caches
    /// on the way keep our keys for longer than a quarter of an hour.
    #[serde(with = "quantity::duration")]
    pub publish_wait: Duration,
}

impl Default for Keys {
    fn default() -> Self {
        Self { dir: "keys".into(), active: None, publish_wait: crate::auth::keyring::PUBLISH_WAIT }
    }
}

/// `[network]`: where outgoing connections may go.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Network {
    /// Private or loopback ranges that outgoing connections may use, such as `["127.0.0.0/8"]` (default none: only
    /// public addresses). A partner can choose names that resolve to addresses inside; open no more than needed.
    pub allow: Vec<String>,
}

/// `[limits]`: how much a partner may send at once, and how much is kept.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one Communication Object (default 4 MiB). Lower it to save memory with very many partners.
    #[serde(with = "quantity::size")]
    pub object_bytes_max: usize,
    /// Bytes of one SET (default 256 KiB). Raise it when partners send large claims.
    #[serde(with = "quantity::size")]
    pub set_bytes_max: usize,
    /// SETs in one Communication Object (default 1000). Larger batches make larger commits; smaller ones answer sooner.
    pub sets_per_object_max: usize,
    /// Bytes of one `jti` (default 512).
    pub jti_bytes_max: usize,
    /// SETs received and not yet confirmed by every consumer (default 10,000,000). Beyond, partners' SETs get no
    /// answer until consumers catch up; raise it when consumers may be away for long and the disk is large.
    pub inbox_max: u64,
    /// Requests of one partner a second, handshakes of WebSockets too; twice as many at once (default 2,000). Beyond,
    /// they get 429. Lower it when one of very many partners shall not be able to keep a core busy.
    pub requests_per_second_max: u32,
    /// WebSocket messages of one partner a second; twice as many at once (default 25,000). Beyond, they are read more
    /// slowly, and after ten seconds of that the WebSocket is closed with 1013.
    pub messages_per_second_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            object_bytes_max: 4 << 20,
            set_bytes_max: 256 << 10,
            sets_per_object_max: 1000,
            jti_bytes_max: 512,
            inbox_max: 10_000_000,
            requests_per_second_max: 2000,
            messages_per_second_max: 25_000,
        }
    }
}

/// `[delivery]`: how hard we try.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Delivery {
    /// SETs sent and not yet answered, per peer (default 4096). Raise it when commits are slow or the line is long.
    pub window: usize,
    /// The same in bytes (default 16 MiB): bounds the memory of one peer.
    #[serde(with = "quantity::size")]
    pub window_bytes: usize,
    /// First pause before a SET is sent again (default 1 s), and the shortest time granted for an answer. Raise it
    /// when a partner is known to answer slowly.
    #[serde(with = "quantity::duration")]
    pub retry_first: Duration,
    /// Longest pause between two attempts (default 5 min).
    #[serde(with = "quantity::duration")]
    pub retry_max: Duration,
    /// Attempts after which a SET may be given up (default 20). A link that is down uses up none.
    pub attempts_max: u32,
    /// Time after which a SET may be given up (default 72 h), when the attempts are used up too: whichever comes later.
    #[serde(with = "quantity::duration")]
    pub give_up_after: Duration,
    /// Unsettled for longer, a SET becomes a dead letter in any case (default 14 d).
    #[serde(with = "quantity::duration")]
    pub age_max: Duration,
    /// SETs that wait on disk for one peer (default 20,000,000); sending fails beyond.
    pub outbox_max: u64,
    /// How often an Initiator that alone can dial asks, when it has nothing to say (default 5 s). Lower it when a
    /// partner that cannot dial us has urgent events and no WebSocket can be had.
    #[serde(with = "quantity::duration")]
    pub speak_interval: Duration,
    /// Pause between pings on an idle WebSocket (default 20 s). Lower it when something on the way drops idle
    /// connections sooner.
    #[serde(with = "quantity::duration")]
    pub ping_interval: Duration,
}

impl Delivery {
    /// What the core of a conversation needs of it.
    pub fn to_peer(&self) -> crate::peer::Config {
        crate::peer::Config {
            window: self.window,
            window_bytes: self.window_bytes,
            retry_first: self.retry_first,
            retry_max: self.retry_max,
            attempts_max: self.attempts_max,
            give_up_after: self.give_up_after,
            age_max: self.age_max,
            outbox_max: self.outbox_max,
            ..crate::peer::Config::default()
        }
    }
}

impl Default for Delivery {
    fn default() -> Self {
        let core = crate::peer::Config::default();
        Self {
            window: core.window,
            window_bytes: core.window_bytes,
            retry_first: core.retry_first,
            retry_max: core.retry_max,
            attempts_max: core.attempts_max,
            give_up_after: core.give_up_after,
            age_max: core.age_max,
            outbox_max: core.outbox_max,
            speak_interval: Duration::from_secs(5),
            ping_interval: Duration::from_secs(20),
        }
    }
}

/// `[log]`: what is written to standard error.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace` (default `info`). Dependencies stay at `info` at most, unless they
    /// are named: `info,hyper=debug`.
    pub level: String,
    /// How a line looks (default `auto`).
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Auto }
    }
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    #[default]
    Auto,
    /// Text for people.
    Text,
    /// One JSON object a line.
    Json,
}

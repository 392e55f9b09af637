//! From the configuration to a running Transceiver: the one place that knows both.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tokio::net::TcpListener;

use crate::auth::{KeyRing, Secret, keyring};
use crate::clock::{Clock as _, SystemClock};
use crate::codes::Code;
use crate::config::diff::{self, Contents};
use crate::config::{self, Config, Environment, Problem, TlsMode, Transport};
use crate::engine;
use crate::metrics::Metrics;
use crate::private;
use crate::set::{Digest, events::Filter};
use crate::store::Sqlite;
use crate::transceiver::{self, DialConfig, KeySource, Method, PeerConfig, Transceiver};
use crate::transport::pushpull;
use crate::wire;
use crate::wire::net::{Allow, Pin, Target, expires_at, server_config};

use super::{Error, Exit};

/// Starts the Transceiver that the configuration describes, on this listener; its peers come next.
pub(super) async fn transceiver(
    config: &Config,
    store: Arc<Sqlite>,
    listener: TcpListener,
    metrics: Metrics,
) -> Result<Transceiver, Error> {
    note_certificate(config, &metrics);
    let engine = engine::Config {
        peer: Arc::new(config.delivery.to_peer()),
        inbox_max: config.limits.inbox_max,
        metrics,
        ..engine::Config::default()
    };
    let keys = keys(config).await?;
    let builder = Transceiver::builder(&config.server.issuer)
        .audience(config.server.audience())
        .key_ring(keys)
        .store(store)
        .engine(engine)
        .pushpull(pushpull(config))
        .allow(allow(config)?)
        .listen(listener, tls(config)?.map(|(tls, _)| tls))
        .keep_settled(config.store.keep_settled, config.store.keep_settled_bytes_max as u64)
        .closed();
    builder.start().await.map_err(|error| match error {
        transceiver::Error::Store(error) => error.into(),
        other => Error::failed(other.to_string()),
    })
}

/// Limits and intervals of push-pull.
pub(super) fn pushpull(config: &Config) -> pushpull::Config {
    let limits = wire::Limits {
        object_bytes_max: config.limits.object_bytes_max,
        set_bytes_max: config.limits.set_bytes_max,
        sets_per_object_max: config.limits.sets_per_object_max,
        jti_bytes_max: config.limits.jti_bytes_max,
        ..wire::Limits::default()
    };
    pushpull::Config {
        limits,
        requests_per_second_max: config.limits.requests_per_second_max,
        messages_per_second_max: config.limits.messages_per_second_max,
        speak_interval: config.delivery.speak_interval,
        ping_interval: config.delivery.ping_interval,
        ..pushpull::Config::default()
    }
}

/// Where outgoing connections may go.
pub(super) fn allow(config: &Config) -> Result<Allow, Error> {
    Allow::parse(config.network.allow.iter().map(String::as_str)).map_err(invalid("network.allow"))
}

/// All peers: those of the file and those that were added at run time and are `kept`, with the files that they name read.
/// Or all that is wrong with them, one text each. `contents` learns what was read.
pub(super) fn peers(
    config: &Config,
    kept: Vec<(String, String)>,
    environment: &Environment,
    directory: &Path,
    contents: &mut Contents,
) -> Result<Vec<PeerConfig>, Vec<String>> {
    let mut problems = Vec::new();
    let mut definitions = config.peers.clone();
    for (name, definition) in kept {
        if let Some(peer) = config.peers.iter().find(|peer| peer.name == name) {
            let line = peer.line.map(|line| format!(" (line {line})")).unwrap_or_default();
            problems.push(format!(
                "peer {name:?} is in the file{line} and in the store: take the block out of the file, or rename it; or \
                 `pushpull peer rm {name}` with that block taken out"
            ));
            continue;
        }
        let definition = serde_json::from_str(&definition).unwrap_or(Value::Null);
        match read_peer(&name, definition, config, directory) {
            Ok(peer) => definitions.push(peer),
            Err(why) => problems.push(kept_fault(&name, &why)),
        }
    }
    let mut peers: Vec<PeerConfig> = Vec::with_capacity(definitions.len());
    for peer in &definitions {
        let ready = match peer_config(peer, environment) {
            Ok(ready) => ready,
            Err(why) => {
                // Those of the file have a line.
                let of_file = peer.line.is_some();
                let fault = if of_file { format!("peer {:?}: {why}", peer.name) } else { kept_fault(&peer.name, &why) };
                problems.push(fault);
                continue;
            }
        };
        let presents =
            |other: &&PeerConfig| other.accept_tokens.iter().any(|token| ready.accept_tokens.contains(token));
        if let Some(other) = peers.iter().find(presents) {
            let (name, other) = (&peer.name, &other.name);
            problems.push(format!(
                "peer {name:?}: accept_token_file: {other} and {name} would present the same token: give each its own"
            ));
        }
        note(&ready, contents);
        peers.push(ready);
    }
    if problems.is_empty() { Ok(peers) } else { Err(problems) }
}

/// What is wrong with a peer that the store keeps, which `serve --check` does not see.
fn kept_fault(name: &str, why: &str) -> String {
    format!(
        "peer {name:?}, added at run time: {why}: restore what is missing, or take the peer out: `pushpull peer rm {name}`"
    )
}

/// Remembers what stood in a peer's files, so that a change of it can be told.
pub(super) fn note(peer: &PeerConfig, contents: &mut Contents) {
    let whose = diff::of_peer(&peer.name);
    let mut put = |what: &'static str, digest: Digest| {
        contents.insert((whose.clone(), what), digest);
    };
    let digest = |secret: &Secret| Digest::of(secret.expose().as_bytes());
    if let Some(token) = peer.dial.as_ref().and_then(|dial| dial.token.as_ref()) {
        put("token", digest(token));
    }
    if let Some(token) = peer.accept_tokens.first() {
        put("accept token", digest(token));
    }
    if let KeySource::File(path) = &peer.keys
        && let Ok(keys) = private::read_public(path, private::PUBLIC_BYTES_MAX)
    {
        put("keys", Digest::of(&keys));
    }
}

/// The same for files that are not a peer's.
pub(super) fn note_others(config: &Config, contents: &mut Contents) -> Result<(), Error> {
    if let Some((_, digest)) = tls(config)? {
        contents.insert(("server.tls".to_owned(), "certificate or key"), digest);
    }
    let token = Secret::read_file(&config.admin.token_file).map_err(invalid("admin.token_file"))?;
    contents.insert((diff::ADMIN.to_owned(), "content of token_file"), Digest::of(token.expose().as_bytes()));
    Ok(())
}

/// A definition of the admin API, checked.
pub(super) fn read_peer(
    name: &str,
    definition: Value,
    config: &Config,
    directory: &Path,
) -> Result<config::Peer, String> {
    let told = |problems: Vec<Problem>| problems.iter().map(Problem::brief).collect::<Vec<_>>().join("; ");
    let mut peer = config::Peer::of_definition(name, definition).map_err(told)?;
    peer.resolve(directory);
    let problems = config.check_peer(&peer);
    if problems.is_empty() { Ok(peer) } else { Err(told(problems)) }
}

/// A checked definition with its files read.
pub(super) fn peer_config(peer: &config::Peer, environment: &Environment) -> Result<PeerConfig, String> {
    let pin = peer.tls_pin.as_deref().map(Pin::parse).transpose().map_err(|error| format!("tls_pin: {error}"))?;
    let target = |name: &str, url: &str| Target::parse(url).map_err(|error| format!("{name}: {error}"));
    let endpoint = peer.endpoint.as_deref().map(|url| target("endpoint", url)).transpose()?;
    let poll_endpoint = peer.poll_endpoint.as_deref().map(|url| target("poll_endpoint", url)).transpose()?;
    let keys = match (&peer.jwks_uri, &peer.jwks_file) {
        (Some(uri), _) => {
            let jwks = target("jwks_uri", uri)?;
            // The pin is of the endpoint's host; another host has another certificate.
            let same_host = endpoint.as_ref().is_none_or(|endpoint| endpoint.host() == jwks.host());
            let pin = pin.filter(|_| same_host);
            KeySource::Url { target: jwks, pin, refresh: peer.jwks_refresh }
        }
        (None, Some(file)) => KeySource::File(file.clone()),
        (None, None) => return Err("jwks_uri or jwks_file is missing".to_owned()),
    };
    let token = match (&peer.token_file, &peer.token) {
        (Some(file), _) => Some(Secret::read_file(file).map_err(|error| format!("token_file: {error}"))?),
        (None, Some(token)) => {
            let text = environment.get(&token.env).unwrap_or_default();
            Some(Secret::new(text.to_owned(), &token.env).map_err(|error| format!("token: {error}"))?)
        }
        (None, None) => None,
    };
    let accept = peer.accept_token_file.as_deref().map(Secret::read_file).transpose();
    let accept = accept.map_err(|error| format!("accept_token_file: {error}"))?;
    let method = match peer.transport {
        Transport::Websocket => Some(Method::Websocket),
        Transport::Http => Some(Method::Http),
        Transport::Push => Some(Method::Push),
        Transport::MultiPush => Some(Method::MultiPush),
        Transport::Poll => Some(Method::Poll),
        _ => None,
    };
    let pinned = |target: &Target| pin.filter(|_| endpoint.as_ref().is_none_or(|end| end.host() == target.host()));
    let collect = poll_endpoint.map(|target| DialConfig {
        pin: pinned(&target),
        target,
        token: token.clone(),
        method: Method::Poll,
    });
    let dial = method.zip(endpoint.clone()).map(|(method, target)| DialConfig { target, pin, token, method });
    Ok(PeerConfig {
        name: peer.name.clone(),
        issuer: peer.issuer.clone(),
        keys,
        audience: peer.audience.clone(),
        accept_audience: peer.accept_audience.clone(),
        dial,
        collect,
        accept_tokens: accept.into_iter().collect(),
        send: Filter::new(&peer.send).map_err(|error| format!("send: {error}"))?,
        accept: Filter::new(&peer.accept).map_err(|error| format!("accept: {error}"))?,
    })
}

async fn keys(config: &Config) -> Result<Arc<KeyRing>, Error> {
    let keys = config.keys.clone();
    let now = SystemClock::new().now().wall;
    let opening = move || KeyRing::open(&keys.dir, keys.active.as_deref(), keys.publish_wait, now);
    match tokio::task::spawn_blocking(opening).await {
        Ok(opened) => opened.map_err(|error| {
            let is_replaced = matches!(error, keyring::Error::Replaced { .. });
            let error = invalid("keys.dir")(error);
            if is_replaced { error.code(Code::KeyNameUsed) } else { error }
        }),
        Err(_) => Err(Error::failed("reading the keys panicked")),
    }
}

/// How the listener speaks TLS, if it does, and the digest of certificate and key.
pub(super) fn tls(config: &Config) -> Result<Option<(Arc<rustls::ServerConfig>, Digest)>, Error> {
    let tls = &config.server.tls;
    let (TlsMode::SelfSigned | TlsMode::Files, Some(cert), Some(key)) = (tls.mode, &tls.cert, &tls.key) else {
        return Ok(None);
    };
    let chain = private::read_public(cert, private::PUBLIC_BYTES_MAX).map_err(invalid(&cert.display().to_string()))?;
    let key = private::read(key).map_err(invalid(&key.display().to_string()))?;
    let config = server_config(&chain, &key).map_err(invalid("server.tls"))?;
    Ok(Some((config, Digest::of(&[chain.as_slice(), &key].concat()))))
}

/// Lets everybody see when our certificate expires.
pub(super) fn note_certificate(config: &Config, metrics: &Metrics) {
    let pem = config.server.tls.cert.as_ref().filter(|_| config.server.tls.mode != TlsMode::DangerousPlaintext);
    let expires = pem
        .and_then(|path| private::read_public(path, private::PUBLIC_BYTES_MAX).ok())
        .and_then(|pem| expires_at(&pem));
    if let Some(at) = expires {
        metrics.certificate_expires(at as f64);
    }
}

/// Names what is wrong with the configuration.
fn invalid<E: std::fmt::Display>(what: &str) -> impl FnOnce(E) -> Error + use<E> {
    let what = what.to_owned();
    move |error| Error::new(Exit::ConfigInvalid, format!("{what}: {error}"))
}

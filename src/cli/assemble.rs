//! From the configuration to a running Transceiver: the one place that knows both.

use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::admin::{AddFault, AddPeer};
use crate::auth::Secret;
use crate::config::{self, Config, Environment, TlsMode, Transport, key_files};
use crate::engine;
use crate::set::{SigningKey, events::Filter};
use crate::store::Sqlite;
use crate::transceiver::{AddError, DialConfig, KeySource, PeerConfig, Transceiver};
use crate::transport::pushpull;
use crate::wire;
use crate::wire::net::{Allow, Pin, Target, server_config};

use super::{Error, Exit};

/// Starts the Transceiver that the configuration describes, on this listener.
pub(super) async fn transceiver(
    config: &Config,
    environment: &Environment,
    store: Arc<Sqlite>,
    listener: TcpListener,
) -> Result<Transceiver, Error> {
    let limits = wire::Limits {
        object_bytes_max: config.limits.object_bytes_max,
        set_bytes_max: config.limits.set_bytes_max,
        sets_per_object_max: config.limits.sets_per_object_max,
        jti_bytes_max: config.limits.jti_bytes_max,
        ..wire::Limits::default()
    };
    let pushpull = pushpull::Config {
        limits,
        requests_per_second_max: config.limits.requests_per_second_max,
        messages_per_second_max: config.limits.messages_per_second_max,
        speak_interval: config.delivery.speak_interval,
        ping_interval: config.delivery.ping_interval,
        ..pushpull::Config::default()
    };
    let engine = engine::Config {
        peer: Arc::new(config.delivery.to_peer()),
        inbox_max: config.limits.inbox_max,
        ..engine::Config::default()
    };
    let allow = Allow::parse(config.network.allow.iter().map(String::as_str)).map_err(invalid("network.allow"))?;
    let mut builder = Transceiver::builder(&config.server.issuer)
        .audience(config.server.audience())
        .store(store)
        .engine(engine)
        .pushpull(pushpull)
        .allow(allow)
        .listen(listener, tls(config)?)
        .closed();
    for key in keys(config)? {
        builder = builder.signing_key(key);
    }
    if let Some(kid) = &config.keys.active {
        builder = builder.active_key(kid);
    }
    let transceiver = builder.start().await.map_err(|error| Error::failed(error.to_string()))?;
    for peer in &config.peers {
        add(&transceiver, peer, environment).await?;
    }
    Ok(transceiver)
}

/// Brings back the peers that were added at run time.
pub(super) async fn kept_peers(
    transceiver: &Transceiver,
    config: &Config,
    environment: &Environment,
    directory: &Path,
) -> Result<usize, Error> {
    let kept = transceiver.kept_peers().await.map_err(|error| Error::failed(error.to_string()))?;
    let count = kept.len();
    for (name, definition) in kept {
        if let Some(peer) = config.peers.iter().find(|peer| peer.name == name) {
            let line = peer.line.map(|line| format!(" (line {line})")).unwrap_or_default();
            return Err(Error::new(
                Exit::ConfigInvalid,
                format!("peer {name:?} is in the file{line} and in the store"),
            )
            .expected("one definition of each peer")
            .fix("take the block out of the file, or rename it"));
        }
        let definition = serde_json::from_str(&definition).unwrap_or(Value::Null);
        let peer = read_peer(&name, definition, config, directory)
            .map_err(|why| Error::new(Exit::ConfigInvalid, format!("peer {name:?}, added at run time: {why}")))?;
        add(transceiver, &peer, environment).await?;
    }
    Ok(count)
}

/// How the admin API adds peers.
pub(super) fn add_peer(
    transceiver: Transceiver,
    config: Arc<Config>,
    environment: Arc<Environment>,
    directory: Arc<Path>,
) -> AddPeer {
    Box::new(move |name, definition| {
        let (transceiver, config) = (transceiver.clone(), Arc::clone(&config));
        let (environment, directory) = (Arc::clone(&environment), Arc::clone(&directory));
        async move {
            if let Some(peer) = config.peers.iter().find(|peer| peer.name == name) {
                let line = peer.line.map(|line| format!(", line {line}")).unwrap_or_default();
                return Err(AddFault::Conflict(format!("peer {name:?} stands in the configuration file{line}")));
            }
            let peer = read_peer(&name, definition.clone(), &config, &directory).map_err(AddFault::Invalid)?;
            let ready = peer_config(&peer, &environment).map_err(AddFault::Invalid)?;
            // Kept before it is used: what works now must still be there after a restart.
            match transceiver.keep_peer(&name, &definition).await {
                Ok(true) => {}
                Ok(false) => return Err(AddFault::Conflict(format!("there is a peer {name:?} already"))),
                Err(error) => return Err(AddFault::Unavailable(error.to_string())),
            }
            if let Err(error) = transceiver.add_peer(ready).await {
                transceiver.unkeep_peer(&name).await.map_err(|error| AddFault::Unavailable(error.to_string()))?;
                return Err(match error {
                    AddError::NameTaken | AddError::TokenTaken(_) => AddFault::Conflict(error.to_string()),
                    AddError::Keys(_) => AddFault::Invalid(error.to_string()),
                    _ => AddFault::Unavailable(error.to_string()),
                });
            }
            Ok(())
        }
        .boxed()
    })
}

fn read_peer(name: &str, definition: Value, config: &Config, directory: &Path) -> Result<config::Peer, String> {
    let mut peer: config::Peer = serde_json::from_value(definition).map_err(|error| error.to_string())?;
    name.clone_into(&mut peer.name);
    peer.resolve(directory);
    let problems = config.check_peer(&peer);
    if problems.is_empty() {
        return Ok(peer);
    }
    let problems: Vec<String> = problems.iter().map(|problem| format!("{}: {}", problem.field, problem.what)).collect();
    Err(problems.join("; "))
}

async fn add(transceiver: &Transceiver, peer: &config::Peer, environment: &Environment) -> Result<(), Error> {
    let what = format!("peer {:?}", peer.name);
    let config =
        peer_config(peer, environment).map_err(|why| Error::new(Exit::ConfigInvalid, format!("{what}: {why}")))?;
    transceiver.add_peer(config).await.map_err(|error| Error::new(Exit::ConfigInvalid, format!("{what}: {error}")))
}

/// A checked definition with its files read.
fn peer_config(peer: &config::Peer, environment: &Environment) -> Result<PeerConfig, String> {
    let pin = peer.tls_pin.as_deref().map(Pin::parse).transpose().map_err(|error| format!("tls_pin: {error}"))?;
    let target = |name: &str, url: &str| Target::parse(url).map_err(|error| format!("{name}: {error}"));
    let endpoint = peer.endpoint.as_deref().map(|url| target("endpoint", url)).transpose()?;
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
    let dial = match (peer.transport, endpoint) {
        (Transport::None, _) | (_, None) => None,
        (transport, Some(target)) => Some(DialConfig { target, pin, token, http_only: transport == Transport::Http }),
    };
    Ok(PeerConfig {
        name: peer.name.clone(),
        issuer: peer.issuer.clone(),
        keys,
        audience: peer.audience.clone(),
        dial,
        accept_tokens: accept.into_iter().collect(),
        send: Filter::new(&peer.send).map_err(|error| format!("send: {error}"))?,
        accept: Filter::new(&peer.accept).map_err(|error| format!("accept: {error}"))?,
    })
}

fn keys(config: &Config) -> Result<Vec<SigningKey>, Error> {
    let files = key_files(&config.keys.dir).map_err(invalid("keys.dir"))?;
    let mut keys = Vec::with_capacity(files.len());
    for (kid, path) in files {
        let pem = std::fs::read_to_string(&path).map_err(invalid(&path.display().to_string()))?;
        keys.push(SigningKey::from_pem(&kid, &pem).map_err(invalid(&path.display().to_string()))?);
    }
    Ok(keys)
}

fn tls(config: &Config) -> Result<Option<Arc<rustls::ServerConfig>>, Error> {
    let tls = &config.server.tls;
    let (TlsMode::SelfSigned | TlsMode::Files, Some(cert), Some(key)) = (tls.mode, &tls.cert, &tls.key) else {
        return Ok(None);
    };
    let read = |path: &Path| std::fs::read(path).map_err(invalid(&path.display().to_string()));
    server_config(&read(cert)?, &read(key)?).map(Some).map_err(invalid("server.tls"))
}

/// Names what is wrong with the configuration.
fn invalid<E: std::fmt::Display>(what: &str) -> impl FnOnce(E) -> Error + use<E> {
    let what = what.to_owned();
    move |error| Error::new(Exit::ConfigInvalid, format!("{what}: {error}"))
}

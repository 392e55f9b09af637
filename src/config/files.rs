//! The files that a configuration names: are they there, and are they what they should be? Contents are never shown.

use std::io;
use std::path::{Path, PathBuf};

use crate::auth::keyring::Undecided;
use crate::auth::{Rotation, Secret, key_files};
use crate::set::{Digest, KeySet, SigningKey};
use crate::wire::net::server_config;

use super::problem::Problem;
use super::schema::{Keys, Tls, TlsMode};
use super::{Config, Environment, Peer};

/// Every fault of the files that this configuration names.
pub(super) fn problems(config: &Config, environment: &Environment) -> Vec<Problem> {
    let mut problems = Vec::new();
    tls(&config.server.tls, &mut problems);
    if let Err(problem) = secret("admin.token_file", &config.admin.token_file, "make it with `pushpull init`") {
        problems.push(*problem);
    }
    keys(&config.keys, &mut problems);
    if let Some(path) = config.store.path()
        && let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty())
        && !parent.is_dir()
    {
        let problem = Problem::at("store.url", "its directory does not exist").found(parent.display().to_string());
        problems.push(problem.fix("make the directory, or name another file"));
    }
    let mut accepted = Vec::new();
    for (index, peer) in config.peers.iter().enumerate() {
        problems.extend(peer_files(peer, environment, &mut accepted).into_iter().map(|problem| problem.in_peer(index)));
    }
    problems
}

/// Also fills `accepted` with the digests of the tokens by which partners are told apart.
fn peer_files(peer: &Peer, environment: &Environment, accepted: &mut Vec<(Digest, String)>) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(file) = &peer.jwks_file {
        problems.extend(jwk_set(file));
    }
    if let Some(file) = &peer.token_file {
        problems.extend(
            secret("token_file", file, "put the token there that the partner handed over")
                .err()
                .map(|problem| *problem),
        );
    }
    if let Some(token) = &peer.token {
        let value = environment.get(&token.env).unwrap_or_default().to_owned();
        if let Err(error) = Secret::new(value, &format!("environment variable {}", token.env)) {
            let problem = Problem::at("token", error.to_string());
            problems.push(problem.fix("set it to the token that the partner handed over, or use token_file"));
        }
    }
    let Some(file) = &peer.accept_token_file else { return problems };
    match secret("accept_token_file", file, "make it with `pushpull peer add`, and hand it to the partner") {
        Err(problem) => problems.push(*problem),
        Ok(digest) => match accepted.iter().find(|(other, _)| *other == digest) {
            Some((_, name)) => {
                let what = format!("{name} and {} would present the same token", peer.name);
                let problem = Problem::at("accept_token_file", what);
                problems.push(problem.fix("give each its own: a token says who is calling"));
            }
            None => accepted.push((digest, peer.name.clone())),
        },
    }
    problems
}

fn tls(tls: &Tls, problems: &mut Vec<Problem>) {
    let named = [("server.tls.cert", &tls.cert), ("server.tls.key", &tls.key)];
    let is_missing = |file: &Option<PathBuf>| file.as_ref().is_none_or(|file| !file.exists());
    let from_init = tls.mode == TlsMode::SelfSigned;
    if tls.mode == TlsMode::DangerousPlaintext || (from_init && named.iter().all(|(_, file)| is_missing(file))) {
        return;
    }
    let fix =
        if from_init { "restore it, or remove the other one too" } else { "name a PEM file that this user may read" };
    let mut contents = Vec::new();
    for (key, file) in named {
        let Some(file) = file else { continue };
        match read(key, file) {
            Ok(bytes) => contents.push(bytes),
            Err(problem) => problems.push(problem.fix(fix)),
        }
    }
    if let [cert, key] = contents.as_slice()
        && let Err(fault) = server_config(cert, key)
    {
        problems.push(
            Problem::at("server.tls.cert", fault.to_string()).fix("name a certificate and the key that belongs to it"),
        );
    }
}

fn keys(keys: &Keys, problems: &mut Vec<Problem>) {
    const NEW: &str = "make a key with `pushpull key new`";
    let files = match key_files(&keys.dir) {
        Ok(files) => files,
        Err(error) => {
            let problem = Problem::at("keys.dir", "this directory cannot be read");
            return problems.push(problem.found(format!("{}: {error}", keys.dir.display())).fix(NEW));
        }
    };
    let rotation = match Rotation::read(&keys.dir) {
        Ok(rotation) => rotation,
        Err(fault) => {
            let problem = Problem::at("keys.dir", "the state of the keys cannot be read").found(fault);
            return problems
                .push(problem.fix("restore the file, or remove it and name in keys.active the key that signs"));
        }
    };
    let files: Vec<_> = files.into_iter().filter(|(kid, _)| !rotation.is_rotated_away(kid)).collect();
    let kids = || files.iter().map(|(kid, _)| kid.as_str());
    let names = kids().collect::<Vec<_>>().join(", ");
    let problem = match rotation.decide(kids(), keys.active.as_deref(), keys.publish_wait) {
        Ok(_) => None,
        // Without any key, that one is missing is the thing to say, whatever keys.active names.
        Err(_) if files.is_empty() => Some(
            Problem::at("keys.dir", "there is no signing key")
                .expected("a file <kid>.pem")
                .found(keys.dir.display().to_string())
                .fix(NEW),
        ),
        Err(Undecided::NoSuchKey(active)) => Some(
            Problem::at("keys.active", "there is no such key")
                .expected(format!("one of {names}"))
                .found(format!("{active:?}"))
                .fix("name one that is there, or make it with `pushpull key new --kid`"),
        ),
        Err(_) => Some(
            Problem::at("keys.active", "missing, and there are several keys")
                .expected(format!("one of {names}"))
                .fix("say which one signs: active = \"…\" under [keys]"),
        ),
    };
    problems.extend(problem);
    for (kid, file) in &files {
        let readable = std::fs::read_to_string(file).map_err(|error| error.to_string());
        if let Err(fault) = readable.and_then(|pem| SigningKey::from_pem(kid, &pem).map_err(|error| error.to_string()))
        {
            let problem = Problem::at("keys.dir", format!("{} is no usable key: {fault}", file.display()));
            problems.push(problem.expected("a private key in PEM, PKCS#8: EC P-256, Ed25519 or RSA").fix(NEW));
        }
    }
}

fn jwk_set(file: &Path) -> Option<Problem> {
    let fix = "ask the partner for its JWK Set, or use jwks_uri";
    let bytes = match read("jwks_file", file) {
        Ok(bytes) => bytes,
        Err(problem) => return Some(problem.fix(fix)),
    };
    match KeySet::parse(&bytes) {
        Ok(keys) if !keys.is_empty() => None,
        Ok(_) => Some(Problem::at("jwks_file", "no key in it can be used").found(file.display().to_string()).fix(fix)),
        Err(fault) => Some(
            Problem::at("jwks_file", format!("this is no JWK Set: {fault}")).found(file.display().to_string()).fix(fix),
        ),
    }
}

/// The digest of the secret in a file, which must hold one.
fn secret(key: &str, file: &Path, fix: &str) -> Result<Digest, Box<Problem>> {
    match Secret::read_file(file) {
        Ok(secret) => Ok(Digest::of(secret.expose().as_bytes())),
        Err(error) => Err(Box::new(Problem::at(key, error.to_string()).fix(fix))),
    }
}

fn read(key: &str, file: &Path) -> Result<Vec<u8>, Box<Problem>> {
    std::fs::read(file).map_err(|error| {
        let what = match error.kind() {
            io::ErrorKind::NotFound => "there is no such file".to_owned(),
            _ => format!("cannot be read: {error}"),
        };
        Box::new(Problem::at(key, what).found(file.display().to_string()))
    })
}

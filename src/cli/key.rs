//! `pushpull key ls` and `key new`: the signing keys in the configuration's directory.

use std::path::Path;

use serde_json::json;

use crate::codes::Code;
use crate::config::{self, Config};
use crate::private;
use crate::set::{Algorithm, SigningKey};

use super::args::Global;
use super::site::Site;
use super::{Error, Exit, init, output};

pub(super) fn ls(global: &Global) -> Result<Exit, Error> {
    let config = Site::of(global).load()?;
    let files = files(&config)?;
    let active = active(&config, &files);
    let mut keys = Vec::new();
    for (kid, file) in &files {
        let key = read(kid, file)?;
        let is_active = Some(kid.as_str()) == active;
        keys.push(json!({ "kid": kid, "alg": key.algorithm().as_str(), "active": is_active, "file": file }));
    }
    if global.json {
        output::json(&json!({ "keys": keys }))?;
    } else {
        let row = |key: &serde_json::Value| {
            let text = |name: &str| key[name].as_str().unwrap_or_default().to_owned();
            let active = if key["active"] == true { "yes" } else { "" };
            vec![text("kid"), text("alg"), active.to_owned(), text("file")]
        };
        output::line(&output::table(&["KID", "ALG", "ACTIVE", "FILE"], &keys.iter().map(row).collect::<Vec<_>>()))?;
    }
    Ok(Exit::Done)
}

pub(super) fn new(algorithm: Algorithm, kid: Option<&str>, global: &Global) -> Result<Exit, Error> {
    let site = Site::of(global);
    let config = site.load()?;
    let files = if config.keys.dir.is_dir() { files(&config)? } else { Files::new() };
    let kid = match kid {
        Some(kid) => kid.to_owned(),
        None => next(&files, &config),
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if kid.is_empty() || kid.starts_with('.') || kid.len() > 128 || !kid.chars().all(is_plain) {
        return Err(Error::new(Exit::Usage, "this kid cannot be the name of a file")
            .expected("1 to 128 of A-Z, a-z, 0-9, -, _ and ., not starting with a dot")
            .found(format!("{kid:?}")));
    }
    let file = config.keys.dir.join(format!("{kid}.pem"));
    let failed = |error: &dyn std::fmt::Display| Error::failed(format!("cannot make a signing key: {error}"));
    if file.exists() {
        return Err(Error::new(
            Exit::Conflict,
            format!("{} exists already, and no key is overwritten", file.display()),
        )
        .code(Code::FileExists)
        .fix("choose another --kid, or leave it out"));
    }
    init::directory(&config.keys.dir, 0o700)?;
    let (_, pem) = SigningKey::generate(algorithm, &kid).map_err(|error| failed(&error))?;
    init::create(&file, pem.as_bytes(), 0o600)?;
    tell(&site, &config, &files, &kid, algorithm, &file, global.json)?;
    Ok(Exit::Done)
}

fn tell(
    site: &Site,
    config: &Config,
    before: &Files,
    kid: &str,
    algorithm: Algorithm,
    file: &Path,
    as_json: bool,
) -> Result<(), Error> {
    if as_json {
        output::json(&json!({ "kid": kid, "alg": algorithm.as_str(), "file": file, "active": before.is_empty() }))?;
    } else {
        output::line(&format!("created  {}  signing key {kid}, {algorithm}", file.display()))?;
    }
    let where_ = site.file.display();
    match (&config.keys.active, before.len()) {
        (None, 1) => {
            let old = before.keys().next().map(String::as_str).unwrap_or_default();
            output::note(&format!(
                "now      there are several keys, so {where_} must say which one signs: active = \"{old}\" under [keys]\n\
                 next     restart the daemon, which publishes {kid}; it signs once keys.active names it"
            ));
        }
        (_, 0) => output::note("next     pushpull serve"),
        _ => output::note(&format!(
            "next     restart the daemon, which publishes {kid}; when the partners have fetched it, set\n         \
             active = \"{kid}\" under [keys] in {where_} and restart again"
        )),
    }
    Ok(())
}

type Files = std::collections::BTreeMap<String, std::path::PathBuf>;

fn files(config: &Config) -> Result<Files, Error> {
    config::key_files(&config.keys.dir)
        .map_err(|error| Error::unreadable(&config.keys.dir, &error).fix("make a key with `pushpull key new`"))
}

/// The key that signs: the one that is named, or the only one.
fn active<'a>(config: &'a Config, files: &'a Files) -> Option<&'a str> {
    let only = files.keys().next().filter(|_| files.len() == 1);
    config.keys.active.as_ref().or(only).map(String::as_str)
}

/// The key that signs, or the one that is asked for.
pub(super) fn signing(config: &Config, kid: Option<&str>) -> Result<SigningKey, Error> {
    let files = files(config)?;
    let names = files.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let kid = kid.or_else(|| active(config, &files)).ok_or_else(|| {
        Error::new(Exit::ConfigInvalid, "there are several keys, and keys.active does not say which one signs")
            .expected(format!("one of {names}"))
            .fix("set keys.active, or name one with --kid")
    })?;
    let file = files.get(kid).ok_or_else(|| {
        Error::new(Exit::NotFound, format!("there is no key {kid:?}"))
            .code(Code::NoSuchKey)
            .expected(format!("one of {names}"))
    })?;
    read(kid, file)
}

/// Reads one private key.
pub(super) fn read(kid: &str, file: &Path) -> Result<SigningKey, Error> {
    let unusable = |fault: &dyn std::fmt::Display| {
        Error::failed(format!("{} cannot be used: {fault}", file.display()))
            .code(Code::KeyUnusable)
            .expected("a private key in PEM, PKCS#8: EC P-256, Ed25519 or RSA")
    };
    let pem = private::read_to_string(file).map_err(|error| match error {
        private::Error::Exposed(exposed) => exposed.into(),
        private::Error::File(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Error::new(Exit::NotFound, format!("there is no key file {}", file.display())).code(Code::NoSuchKey)
        }
        private::Error::File(error) => unusable(&private::said(&error)),
    })?;
    SigningKey::from_pem(kid, &pem).map_err(|error| unusable(&error))
}

/// The next name in the row: `acme-1`, `acme-2`, …
fn next(files: &Files, config: &Config) -> String {
    let numbered = |kid: &str| {
        let (stem, number) = kid.rsplit_once('-')?;
        Some((stem.to_owned(), number.parse::<u32>().ok()?))
    };
    let from_active = config.keys.active.as_deref().and_then(numbered).map(|(stem, _)| stem);
    let from_files = || files.keys().find_map(|kid| numbered(kid)).map(|(stem, _)| stem);
    let stem =
        from_active.or_else(from_files).or_else(|| init::label(&config.server.issuer)).unwrap_or_else(|| "key".into());
    let taken = files.keys().filter_map(|kid| numbered(kid)).filter(|(other, _)| *other == stem);
    let last = taken.map(|(_, number)| number).max().unwrap_or(0);
    format!("{stem}-{}", last.saturating_add(1))
}

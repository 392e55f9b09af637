//! `pushpull key …`: the signing keys. Rotating and retiring is the daemon's; listing and making needs none.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::auth::keyring::{self, Undecided, is_kid, next_kid};
use crate::auth::{KeyStatus, Rotation, key_files};
use crate::codes::Code;
use crate::config::Config;
use crate::private;
use crate::set::{Algorithm, SigningKey};

use super::args::Global;
use super::client::{Call, escape};
use super::output::clean;
use super::site::{self, Site};
use super::{Error, Exit, init, output};

/// How long the daemon may take to say how the keys fare, before the files are looked at instead.
const LIST_WITHIN: Duration = Duration::from_secs(5);

pub(super) async fn ls(global: &Global) -> Result<Exit, Error> {
    let asked = tokio::time::timeout(LIST_WITHIN, from_daemon(global)).await;
    let (keys, note) = match asked {
        Ok(Ok(keys)) => (keys, None),
        // Whoever names a daemon wants that one's answer.
        Ok(Err(error)) if global.admin.is_some() => return Err(error),
        _ => {
            let config = Site::of(global).load()?;
            let dir = &config.keys.dir;
            let keys = KeyStatus::look(dir, config.keys.active.as_deref(), config.keys.publish_wait);
            let keys = keys.map_err(|error| match error {
                keyring::Error::Exposed(exposed) => exposed.into(),
                error => Error::failed(error.to_string())
                    .code(Code::KeyUnusable)
                    .fix("mend or move the file that it names, or make a key with `pushpull key new`"),
            })?;
            let note = format!("no daemon of ours answers; this is what the files in {} say", dir.display());
            (keys.iter().map(KeyStatus::to_json).collect(), Some(note))
        }
    };
    if global.json {
        output::json(&json!({ "keys": keys }))?;
    } else {
        let rows: Vec<_> = keys.iter().map(row).collect();
        output::line(&output::table(&["KID", "ALG", "STATE", "SINCE", "FETCHED", "WAITS FOR"], &rows))?;
    }
    note.iter().for_each(|note| output::note(note));
    Ok(Exit::Done)
}

async fn from_daemon(global: &Global) -> Result<Vec<Value>, Error> {
    let answer = site::client(global)?.json(Call::get("/api/v1/keys")).await?;
    Ok(answer["keys"].as_array().cloned().unwrap_or_default())
}

fn row(key: &Value) -> Vec<String> {
    let text = |name: &str| clean(key[name].as_str().unwrap_or_default());
    let or_dash = |text: String| if text.is_empty() { "–".to_owned() } else { text };
    let fetched = match (key["fetches"].as_u64(), key["fetched_at"].as_str()) {
        (Some(times), Some(at)) => format!("{times}×, last {}", clean(at)),
        (Some(_), None) => "not yet".to_owned(),
        (None, _) => String::new(),
    };
    let cells = [text("kid"), text("alg"), text("state"), text("since"), fetched, text("waits_for")];
    cells.map(or_dash).to_vec()
}

pub(super) fn new(algorithm: Algorithm, kid: Option<&str>, global: &Global) -> Result<Exit, Error> {
    let site = Site::of(global);
    let config = site.load()?;
    let dir = &config.keys.dir;
    let files = if dir.is_dir() { files(&config)? } else { Files::new() };
    let rotation = rotation(&config)?;
    let kid = match kid {
        Some(kid) => kid.to_owned(),
        None => {
            // Behind retired names too: partners may remember what those stood for.
            let taken = files.keys().map(String::as_str).chain(rotation.keys().map(|(kid, _)| kid));
            let active = rotation.active().or(config.keys.active.as_deref());
            next_kid(taken, active, &init::label(&config.server.issuer).unwrap_or_else(|| "key".into()))
        }
    };
    if !is_kid(&kid) {
        return Err(Error::new(Exit::Usage, "this kid cannot be the name of a file")
            .expected("1 to 128 of A-Z, a-z, 0-9, -, _ and ., not starting with a dot")
            .found(format!("{kid:?}")));
    }
    let file = dir.join(format!("{kid}.pem"));
    if file.exists() {
        return Err(Error::new(
            Exit::Conflict,
            format!("{} exists already, and no key is overwritten", file.display()),
        )
        .code(Code::FileExists)
        .fix("choose another --kid, or leave it out"));
    }
    if rotation.get(&kid).is_some() {
        return Err(Error::new(Exit::Conflict, format!("there was a key {kid:?} before"))
            .code(Code::KeyNameUsed)
            .expected("a name that stands for one key for ever: partners may remember the old one")
            .fix("choose another --kid, or leave it out"));
    }
    let failed = |error: &dyn std::fmt::Display| Error::failed(format!("cannot make a signing key: {error}"));
    init::directory(dir, 0o700)?;
    let (_, pem) = SigningKey::generate(algorithm, &kid).map_err(|error| failed(&error))?;
    init::create(&file, pem.as_bytes(), 0o600)?;
    if global.json {
        let active = files.is_empty();
        output::json(&json!({ "kid": kid, "alg": algorithm.as_str(), "file": file, "active": active }))?;
    } else {
        output::line(&format!("created  {}  signing key {kid}, {algorithm}", file.display()))?;
    }
    tell_next(&site, &config, &rotation, &files, &kid);
    Ok(Exit::Done)
}

/// What to do with a new key.
fn tell_next(site: &Site, config: &Config, rotation: &Rotation, before: &Files, kid: &str) {
    if before.is_empty() {
        return output::note("next     pushpull serve");
    }
    let all = before.keys().map(String::as_str).chain([kid]);
    if rotation.decide(all, config.keys.active.as_deref(), config.keys.publish_wait).is_err() {
        let old = before.keys().next().map(String::as_str).unwrap_or_default();
        output::note(&format!(
            "now      there are several keys, so {} must say which one signs: active = \"{old}\" under [keys]",
            site.file.display()
        ));
    }
    output::note(&format!(
        "next     pushpull key rotate --kid {kid}: the running daemon publishes it, and signs with it when partners could fetch it"
    ));
}

pub(super) async fn rotate(
    algorithm: Option<Algorithm>,
    kid: Option<&str>,
    at_once: bool,
    global: &Global,
) -> Result<Exit, Error> {
    let mut order = json!({ "now": at_once });
    if let Some(algorithm) = algorithm {
        order["alg"] = algorithm.as_str().into();
    }
    if let Some(kid) = kid {
        order["kid"] = kid.into();
    }
    let answer =
        site::client(global)?.json(Call::post_json("/api/v1/keys/rotate", &order)).await.map_err(needs_daemon)?;
    if global.json {
        output::json(&answer)?;
        return Ok(Exit::Done);
    }
    let text = |name: &str| clean(answer[name].as_str().unwrap_or_default());
    let (kid, alg, old) = (text("kid"), text("alg"), text("from"));
    match answer["wait_seconds"].as_u64() {
        Some(seconds) => {
            output::line(&format!("published  {kid}, {alg}, in /jwks.json"))?;
            output::note(&format!(
                "next       nothing: it signs after {seconds} s, when partners could fetch it (`pushpull key ls`); until then {old} signs\n\
                 then       {old} stays published until the last SET that it signed is settled, and its private file is removed"
            ));
        }
        None => {
            output::line(&format!("signs      {kid}, {alg}, from now on"))?;
            output::note(&format!(
                "careful    partners that keep our keys for a while do not know it yet: until they refresh, they may refuse what\n\
                 \u{20}          it signs (invalid_key) or answer later\n\
                 next       nothing: {old} stays published until the last SET that it signed is settled\n\
                 stolen?    `pushpull key retire {old} --now` takes {old} out at once"
            ));
        }
    }
    Ok(Exit::Done)
}

pub(super) async fn retire(kid: &str, at_once: bool, global: &Global) -> Result<Exit, Error> {
    let path = format!("/api/v1/keys/{}/retire", escape(kid));
    let order = json!({ "now": at_once });
    let answer = site::client(global)?.json(Call::post_json(&path, &order)).await.map_err(needs_daemon)?;
    if global.json {
        output::json(&answer)?;
        return Ok(Exit::Done);
    }
    let kid = clean(kid);
    if answer["state"] == "retired" {
        output::line(&format!("retired    {kid}: not in /jwks.json any more, its private file is removed"))?;
    } else {
        output::line(&format!("retiring   {kid}: it may have signed SETs that are not settled"))?;
        output::note("next       nothing: it goes when they are settled (`pushpull key ls`)");
    }
    Ok(Exit::Done)
}

/// Without a daemon nobody serves the new key, and nobody knows which SETs the old one signed.
fn needs_daemon(error: Error) -> Error {
    match error.exit {
        Exit::Unreachable => error.expected("a running daemon: it publishes keys, and knows what is still unsettled"),
        _ => error,
    }
}

type Files = std::collections::BTreeMap<String, std::path::PathBuf>;

fn files(config: &Config) -> Result<Files, Error> {
    key_files(&config.keys.dir)
        .map_err(|error| Error::unreadable(&config.keys.dir, &error).fix("make a key with `pushpull key new`"))
}

fn rotation(config: &Config) -> Result<Rotation, Error> {
    Rotation::read(&config.keys.dir).map_err(|fault| Error::new(Exit::ConfigInvalid, fault))
}

/// The key that signs, or the one that is asked for.
pub(super) fn signing(config: &Config, kid: Option<&str>) -> Result<SigningKey, Error> {
    let files = files(config)?;
    let names = files.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let decided = || {
        let active = config.keys.active.as_deref();
        rotation(config)?.decide(files.keys().map(String::as_str), active, config.keys.publish_wait).map_err(|why| {
            match why {
                Undecided::NoSuchKey(_) => Error::new(Exit::NotFound, why.to_string())
                    .code(Code::NoSuchKey)
                    .expected(format!("one of {names}")),
                _ => Error::new(Exit::ConfigInvalid, why.to_string())
                    .expected(format!("one of {names}"))
                    .fix("set keys.active, or name one with --kid"),
            }
        })
    };
    let kid = match kid {
        Some(kid) => kid.to_owned(),
        None => decided()?.signs,
    };
    let file = files.get(&kid).ok_or_else(|| {
        Error::new(Exit::NotFound, format!("there is no key {kid:?}"))
            .code(Code::NoSuchKey)
            .expected(format!("one of {names}"))
    })?;
    read(&kid, file)
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

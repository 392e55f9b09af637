//! `pushpull peer add`: a partner's card becomes a peer, with the two bearer files by which both sides know each other.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::json;

use crate::auth::{Secret, SecretError};
use crate::codes::Code;
use crate::config::{self, Config, Peer, is_slug};
use crate::wire::net::{Allow, Target};

use super::args::{Add, Global};
use super::client::Call;
use super::site::{self, Site};
use super::{Error, Exit, card, output, set};

pub(super) async fn run(add: &Add, global: &Global) -> Result<Exit, Error> {
    let site = Site::of(global);
    let config = site.load()?;
    let mut peer = peer(add)?;
    peer.token_file = Some(format!("{}.token", peer.name).into());
    peer.accept_token_file = Some(format!("from-{}.token", peer.name).into());
    check(&peer, &config, add)?;
    let tokens = Tokens::make(&peer, add, site.directory())?;
    let stored = match store(&peer, &site, &config, global).await {
        Ok(stored) => stored,
        Err(error) => {
            tokens.made.iter().for_each(|file| drop(std::fs::remove_file(file)));
            return Err(error);
        }
    };
    tell(&peer, &tokens, stored, &site, &config, global.json)?;
    Ok(Exit::Done)
}

/// What a card may hold. Anything else is refused: a card comes from outside, and must not name our files.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CardFile {
    peer: Vec<CardPeer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CardPeer {
    name: String,
    issuer: String,
    jwks_uri: Option<String>,
    audience: Option<String>,
    #[serde(default)]
    transport: config::Transport,
    endpoint: Option<String>,
    tls_pin: Option<String>,
}

fn peer(add: &Add) -> Result<Peer, Error> {
    let text = set::read(&add.card)?;
    let bad = |what: String| {
        Error::new(Exit::ConfigInvalid, format!("{} is no card: {what}", add.card.display()))
            .code(Code::CardInvalid)
            .expected("one [[peer]] block, as `pushpull peer card` prints it")
            .who_acts("the partner who made the card")
    };
    let card: CardFile = toml::from_str(&text).map_err(|error| bad(output::clean(error.message())))?;
    let [card] =
        <[CardPeer; 1]>::try_from(card.peer).map_err(|cards| bad(format!("it holds {} peers", cards.len())))?;
    let given = |patterns: &Vec<String>| if patterns.is_empty() { vec!["*".to_owned()] } else { patterns.clone() };
    let peer = Peer {
        name: add.name.clone().unwrap_or(card.name),
        issuer: card.issuer,
        jwks_uri: card.jwks_uri,
        audience: card.audience,
        transport: card.transport,
        endpoint: card.endpoint,
        tls_pin: card.tls_pin,
        send: given(&add.send),
        accept: given(&add.accept),
        ..Peer::default()
    };
    if !is_slug(&peer.name) {
        return Err(Error::new(Exit::Usage, "the partner's name is no slug")
            .expected("1 to 63 of a-z, 0-9 and -, not starting with -")
            .found(format!("{:?}", peer.name))
            .fix("choose one with --name"));
    }
    Ok(peer)
}

fn check(peer: &Peer, config: &Config, add: &Add) -> Result<(), Error> {
    if let Some(other) = config.peers.iter().find(|other| other.name == peer.name || other.issuer == peer.issuer) {
        let line = other.line.map(|line| format!(", line {line}")).unwrap_or_default();
        let what = match other.name == peer.name {
            true => format!("there is a peer {} already", peer.name),
            false => format!("the issuer {} belongs to the peer {} already", peer.issuer, other.name),
        };
        return Err(Error::new(Exit::Conflict, what)
            .found(format!("[[peer]] {} of the configuration{line}", other.name))
            .fix("edit or remove that one, or choose another --name"));
    }
    let problems = config.check_peer(peer);
    if problems.is_empty() { Ok(()) } else { Err(config::Error { file: add.card.clone(), problems }.into()) }
}

/// The two bearer files.
struct Tokens {
    /// What we present.
    ours: PathBuf,
    /// What the partner presents to us.
    theirs: PathBuf,
    /// The partner handed `ours` over already.
    ours_is_agreed: bool,
    /// Files that were made here, and are removed again should the rest fail.
    made: Vec<PathBuf>,
}

impl Tokens {
    fn make(peer: &Peer, add: &Add, directory: &Path) -> Result<Self, Error> {
        let ours = directory.join(format!("{}.token", peer.name));
        let theirs = directory.join(format!("from-{}.token", peer.name));
        let mut tokens = Self { ours_is_agreed: add.token.is_some(), made: Vec::new(), ours, theirs };
        for (file, given) in [(tokens.ours.clone(), &add.token), (tokens.theirs.clone(), &add.accept_token)] {
            match write(&file, given.as_deref()) {
                Ok(true) => tokens.made.push(file),
                Ok(false) => {}
                Err(error) => {
                    tokens.made.iter().for_each(|file| drop(std::fs::remove_file(file)));
                    return Err(error);
                }
            }
        }
        Ok(tokens)
    }
}

/// Makes a bearer file from a given one, or anew. A file that is there is kept: false.
fn write(file: &Path, given: Option<&Path>) -> Result<bool, Error> {
    let failed = |error: SecretError| match error {
        SecretError::Exists { .. } => Error::new(Exit::Conflict, error.to_string()).code(Code::FileExists),
        SecretError::Exposed(exposed) => exposed.into(),
        SecretError::File { ref path, ref fault } if path == file => Error::unwritable(path, fault),
        SecretError::File { ref path, ref fault } => Error::unreadable(path, fault),
        _ => Error::failed(error.to_string()),
    };
    let Some(given) = given else {
        if file.exists() {
            return Ok(false);
        }
        Secret::mint().and_then(|token| token.write_file(file)).map_err(failed)?;
        return Ok(true);
    };
    let token = Secret::read_file(given).map_err(failed)?;
    if file.exists() && Secret::read_file(file).is_ok_and(|there| there == token) {
        return Ok(false);
    }
    token.write_file(file).map_err(failed)?;
    Ok(true)
}

/// Where a peer was stored.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Stored {
    Daemon,
    File,
}

/// A running daemon takes the peer at once and keeps it; without one it is written into the file.
async fn store(peer: &Peer, site: &Site, config: &Config, global: &Global) -> Result<Stored, Error> {
    let daemon = match site::client_of(global, config) {
        // Whoever names a daemon means no file.
        Err(error) if global.admin.is_some() => return Err(error),
        daemon => daemon.ok(),
    };
    if let Some(mut daemon) = daemon {
        let mut definition = peer.clone();
        // The daemon may have been started elsewhere, so relative paths would mislead it.
        let directory = site.directory().canonicalize().unwrap_or_else(|_| site.directory().to_owned());
        definition.resolve(&directory);
        let body = json!({ "name": peer.name, "definition": definition });
        match daemon.call(&Call::post_json("/api/v1/peers", &body)).await {
            Ok(answer) => return answer.into_json().map(|_| Stored::Daemon),
            // In the file as well as with the daemon, the peer would keep it from starting again.
            Err(no_answer) if global.admin.is_none() && !no_answer.reached => {}
            Err(no_answer) => return Err(no_answer.into()),
        }
    }
    append(peer, site)?;
    Ok(Stored::File)
}

/// Adds the block to the file, which is replaced as a whole: at any moment there is a complete one.
fn append(peer: &Peer, site: &Site) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::unwritable(&site.file, &error);
    let mut text = std::fs::read_to_string(&site.file).map_err(failed)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&card::block(peer));
    config::parse(&text, &site.file, &site.environment)?;
    let new = site.file.with_extension("toml.new");
    let write = || {
        let mode = std::fs::metadata(&site.file)?.permissions().mode();
        let mut file = std::fs::File::create(&new)?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, &site.file)
    };
    write().map_err(|error| {
        drop(std::fs::remove_file(&new));
        failed(error)
    })
}

fn tell(
    peer: &Peer,
    tokens: &Tokens,
    stored: Stored,
    site: &Site,
    config: &Config,
    as_json: bool,
) -> Result<(), Error> {
    let (ours, theirs) = (tokens.ours.display(), tokens.theirs.display());
    let name = &peer.name;
    let us = super::init::label(&config.server.issuer).unwrap_or_else(|| "us".to_owned());
    if as_json {
        return output::json(&json!({
            "name": name, "issuer": peer.issuer, "stored": if stored == Stored::Daemon { "daemon" } else { "file" },
            "token_file": tokens.ours, "accept_token_file": tokens.theirs, "hand_over": tokens.theirs,
        }));
    }
    output::line(&match stored {
        Stored::Daemon => format!("added      {name}, {}; the daemon has it", peer.issuer),
        Stored::File => format!("added      {name}, {}, to {}", peer.issuer, site.file.display()),
    })?;
    output::line(&format!("hand over  {theirs}: what {name} presents to us; with them it becomes {us}.token"))?;
    if tokens.ours_is_agreed {
        output::line(&format!("have       {ours}: what we present to {name}"))?;
    } else {
        output::line(&format!(
            "expect     {ours}: what we present to {name}; put the token there that they hand over (their from-{us}.token)"
        ))?;
    }
    match stored {
        Stored::File => output::note(
            "next       when the tokens are exchanged: `pushpull serve`, or `pushpull reload` if it runs already",
        ),
        // The daemon has read the token that was made just now, which the partner does not know.
        Stored::Daemon if !tokens.ours_is_agreed => {
            output::note("next       `pushpull reload` when their token is there");
        }
        Stored::Daemon => {}
    }
    if let Some(note) = unreachable(peer, config) {
        output::note(&note);
    }
    Ok(())
}

/// A partner at an address that our own filter forbids would never be reached.
fn unreachable(peer: &Peer, config: &Config) -> Option<String> {
    let target = Target::parse(peer.endpoint.as_deref()?).ok()?;
    let allow = Allow::parse(config.network.allow.iter().map(String::as_str)).ok()?;
    let address = target.address().or_else(|| (target.host() == "localhost").then(|| [127, 0, 0, 1].into()))?;
    (!allow.permits(address)).then(|| {
        let range =
            if address.is_loopback() && address.is_ipv4() { "127.0.0.0/8".to_owned() } else { address.to_string() };
        format!(
            "warning    {} is not a public address: add \"{range}\" to network.allow, or nothing connects",
            target.host()
        )
    })
}

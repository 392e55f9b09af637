//! `pushpull.toml` and the environment: read, checked, and all that is wrong reported at once, each with its line,
//! field and remedy. A [`Config`] that exists holds together; [`Config::check_files`] looks at what it names.

mod check;
mod document;
mod environment;
mod files;
mod partner;
mod peer;
mod problem;
mod schema;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use document::Document;

pub use crate::quantity::{duration_text, parse_duration, parse_size, size_text};
pub use environment::{Environment, PREFIX};
pub(crate) use partner::is_loopback;
pub use peer::{Peer, Token, Transport, is_slug};
pub use problem::{Error, Place, Problem};
pub use schema::{Admin, Delivery, Keys, Limits, Log, LogFormat, Network, Server, Store, Tls, TlsMode};

/// The whole configuration. Paths in it are relative to the file's directory until [`load`] has made them whole.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// Who we are and where partners reach us.
    pub server: Server,
    /// Where the operator and the local application reach us.
    pub admin: Admin,
    /// Where SETs and verdicts are kept.
    pub store: Store,
    /// What SETs are signed with.
    pub keys: Keys,
    /// Where outgoing connections may go.
    pub network: Network,
    /// How much a partner may send at once, and how much is kept.
    pub limits: Limits,
    /// How hard we try.
    pub delivery: Delivery,
    /// What is written to standard error.
    pub log: Log,
    /// The partners of the file.
    #[serde(rename = "peer")]
    pub peers: Vec<Peer>,
}

/// Reads and checks a configuration file; relative paths in the result start at the file's directory.
///
/// Only the file itself is read: whether the files it names exist is for [`Config::check_files`].
pub fn load(file: &Path, environment: &Environment) -> Result<Config, Error> {
    let text = std::fs::read_to_string(file).map_err(|error| unreadable(file, &error))?;
    let mut config = parse(&text, file, environment)?;
    config.resolve(file.parent().unwrap_or(Path::new("")));
    Ok(config)
}

/// Checks a text as if it stood in `file`, which is not read. Paths stay as they are written.
pub fn parse(text: &str, file: &Path, environment: &Environment) -> Result<Config, Error> {
    let (mut document, mut problems) = Document::parse(text, environment);
    let mut config: Config = document.read(&mut problems);
    for (index, peer) in config.peers.iter_mut().enumerate() {
        peer.line = document.peer_line(index);
    }
    problems.extend(check::problems(&config).into_iter().filter_map(|problem| document.locate(problem)));
    if problems.is_empty() {
        return Ok(config);
    }
    problems.sort_by_key(|problem| match problem.place {
        Place::File => (0, 0),
        Place::Line { line, column } => (line, column),
        Place::Environment(_) => (usize::MAX, 0),
    });
    Err(Error { file: file.to_owned(), problems })
}

impl Config {
    /// Looks at the files that the configuration names: keys, certificates, tokens, JWK Sets. All faults at once.
    pub fn check_files(&self, file: &Path, environment: &Environment) -> Result<(), Error> {
        let text = std::fs::read_to_string(file).map_err(|error| unreadable(file, &error))?;
        let (document, _) = Document::parse(&text, environment);
        let problems: Vec<Problem> =
            files::problems(self, environment).into_iter().filter_map(|problem| document.locate(problem)).collect();
        if problems.is_empty() { Ok(()) } else { Err(Error { file: file.to_owned(), problems }) }
    }

    /// What is wrong with a peer that is to join this configuration, such as one that is added at run time.
    pub fn check_peer(&self, peer: &Peer) -> Vec<Problem> {
        let locate = |mut problem: Problem| {
            problem.field = problem.path.iter().filter_map(problem::Step::key).collect::<Vec<_>>().join(".");
            problem
        };
        partner::problems(peer, self).into_iter().map(locate).collect()
    }

    fn resolve(&mut self, directory: &Path) {
        let at = |path: &mut PathBuf| *path = directory.join(&*path);
        let tls = &mut self.server.tls;
        if tls.mode == TlsMode::SelfSigned {
            tls.cert.get_or_insert_with(|| "tls.crt".into());
            tls.key.get_or_insert_with(|| "tls.key".into());
        }
        [&mut tls.cert, &mut tls.key, &mut tls.client_ca].into_iter().flatten().for_each(at);
        at(&mut self.admin.token_file);
        at(&mut self.keys.dir);
        if let Some(path) = self.store.path() {
            self.store.url = format!("sqlite:{}", directory.join(path).display());
        }
        self.peers.iter_mut().for_each(|peer| peer.resolve(directory));
    }
}

fn unreadable(file: &Path, error: &std::io::Error) -> Error {
    let (what, fix) = match error.kind() {
        std::io::ErrorKind::NotFound => (
            "there is no such file".to_owned(),
            "make one with `pushpull init --issuer https://…`, or name it with -c or PUSHPULL_CONFIG",
        ),
        _ => (format!("cannot be read: {error}"), "make it readable for this user"),
    };
    Error { file: file.to_owned(), problems: vec![Problem { what, fix: Some(fix.to_owned()), ..Problem::default() }] }
}

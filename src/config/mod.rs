//! `pushpull.toml` and the environment: read, checked, and all that is wrong reported at once, each with its line,
//! field and remedy. A [`Config`] that exists holds together; [`Config::check_files`] looks at what it names.

mod amounts;
mod check;
mod complaint;
mod definition;
pub mod diff;
mod document;
mod environment;
mod excerpt;
mod files;
mod partner;
mod peer;
mod problem;
mod schema;
mod sections;
mod syntax;
#[cfg(test)]
mod tests;
mod tree;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::codes::Code;

use document::Document;

use crate::private;

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
    let mut config = parse(&read(file)?, file, environment)?;
    config.resolve(file.parent().unwrap_or(Path::new("")));
    Ok(config)
}

/// Where the daemon's admin API is and what opens it, by a configuration that may have faults elsewhere; and how many it has. The daemon goes
/// on with what it has read before, so whoever asks it something needs no more than this.
///
/// # Errors
///
/// Faults of `[admin]` itself, or of the file as a whole.
pub fn load_admin(file: &Path, environment: &Environment) -> Result<(Admin, usize), Error> {
    let text = read(file)?;
    let (mut config, _, problems) = examine(&text, environment);
    config.resolve(file.parent().unwrap_or(Path::new("")));
    // One of the file as a whole has no key, and an unknown section may be meant for this one.
    let matters = |problem: &Problem| {
        let is_section = problem.code == Code::ConfigUnknownKey && !problem.field.contains('.');
        problem.code == Code::ConfigNotToml
            || problem.field.is_empty()
            || is_section
            || problem.field.starts_with("admin")
    };
    if problems.iter().any(matters) {
        return Err(Error::new(file, problems));
    }
    Ok((config.admin, problems.len()))
}

/// Checks a text as if it stood in `file`, which is not read. Paths stay as they are written.
pub fn parse(text: &str, file: &Path, environment: &Environment) -> Result<Config, Error> {
    let (config, _, problems) = examine(text, environment);
    if problems.is_empty() { Ok(config) } else { Err(Error::new(file, problems)) }
}

/// Reads and checks a configuration file and all the files that it names, as far as it can be understood: all faults of
/// both at once. Nothing is made, written or connected to.
pub fn check(file: &Path, environment: &Environment) -> Result<Config, Error> {
    let text = read(file)?;
    let (mut config, document, mut problems) = examine(&text, environment);
    config.resolve(file.parent().unwrap_or(Path::new("")));
    let of_files = files::problems(&config, file, environment);
    problems.extend(of_files.into_iter().filter_map(|problem| document.locate(problem)));
    if problems.is_empty() { Ok(config) } else { Err(Error::new(file, problems)) }
}

fn examine<'a>(text: &'a str, environment: &'a Environment) -> (Config, Document<'a>, Vec<Problem>) {
    let (mut document, mut problems) = Document::parse(text, environment);
    let mut config: Config = document.read(&mut problems);
    for (index, peer) in config.peers.iter_mut().enumerate() {
        peer.line = document.peer_line(index);
    }
    problems.extend(check::problems(&config).into_iter().filter_map(|problem| document.locate(problem)));
    (config, document, problems)
}

fn read(file: &Path) -> Result<String, Error> {
    let bytes = private::read_public(file, private::PUBLIC_BYTES_MAX).map_err(|error| unreadable(file, &error))?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..valid];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
        let what = "not TOML: this is no UTF-8".to_owned();
        let problem = Problem { place: Place::Line { line, column }, what, ..Problem::default() };
        Error::new(file, vec![problem.code(Code::ConfigNotToml).fix("save the file as UTF-8")])
    })
}

impl Config {
    /// Looks at the files that the configuration names: keys, certificates, tokens, JWK Sets. All faults at once.
    pub fn check_files(&self, file: &Path, environment: &Environment) -> Result<(), Error> {
        let text = read(file)?;
        let (document, _) = Document::parse(&text, environment);
        let of_files = files::problems(self, file, environment);
        let problems: Vec<Problem> = of_files.into_iter().filter_map(|problem| document.locate(problem)).collect();
        if problems.is_empty() { Ok(()) } else { Err(Error::new(file, problems)) }
    }

    /// What is wrong with a peer that is to join this configuration, such as one that is added at run time.
    pub fn check_peer(&self, peer: &Peer) -> Vec<Problem> {
        let locate = |mut problem: Problem| {
            problem.field = problem.path.iter().filter_map(problem::Step::key).collect::<Vec<_>>().join(".");
            problem.finish()
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
    let fix = match error.kind() {
        std::io::ErrorKind::NotFound => {
            "make one with `pushpull init --issuer https://…`, or name it with -c or PUSHPULL_CONFIG"
        }
        std::io::ErrorKind::IsADirectory => "name the file in it, such as pushpull.toml, with -c",
        _ => "make it readable for this user",
    };
    let what = crate::private::said(error);
    Error::new(file, vec![Problem { what, ..Problem::default() }.code(Code::ConfigBadFile).fix(fix)])
}

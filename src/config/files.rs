//! The files that a configuration names: are they there, and are they what they should be? Contents are never shown.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use crate::auth::keyring::{ROTATION_FILE, Undecided};
use crate::auth::{Rotation, Secret, SecretError, key_files};
use crate::codes::Code;
use crate::private::{self, Exposed};
use crate::set::nearest::nearest;
use crate::set::{Digest, KeySet, SigningKey};
use crate::store::{exposed_database, is_foreign_database};
use crate::wire::net::{TlsError, server_config};

use super::problem::Problem;
use super::schema::{Keys, Tls, TlsMode};
use super::{Config, Environment, Peer, partner};

/// The remedy for what is somebody else's.
const CHOWN: &str = "run this as the user that it belongs to, or give it to this one (chown)";

/// Every fault of the files that this configuration names.
pub(super) fn problems(config: &Config, file: &Path, environment: &Environment) -> Vec<Problem> {
    let mut look = Look { environment, problems: Vec::new(), exposed: BTreeSet::new(), accepted: HashMap::new() };
    if let Some(exposed) = private::check_public(file) {
        look.exposed("", exposed);
    }
    look.tls(&config.server.tls);
    let admin = look.secret("admin.token_file", &config.admin.token_file, "write 32 random bytes or more into it as text, as in `(umask 077; openssl rand -hex 32 > admin.token)`; `pushpull init` makes it beside a new configuration");
    look.keys(&config.keys);
    look.database(config);
    for (index, peer) in config.peers.iter().enumerate() {
        let before = look.problems.len();
        look.peer(peer, admin.as_ref());
        let own = look.problems.split_off(before);
        look.problems.extend(own.into_iter().map(|problem| problem.in_peer(index)));
    }
    look.problems
}

/// What has been seen of the files so far.
struct Look<'a> {
    environment: &'a Environment,
    problems: Vec<Problem>,
    /// What has been reported as open to others: many files may lie in one such directory.
    exposed: BTreeSet<PathBuf>,
    /// The digests of the tokens by which partners are told apart, and whose they are.
    accepted: HashMap<Digest, String>,
}

impl Look<'_> {
    fn peer(&mut self, peer: &Peer, admin: Option<&Digest>) {
        if let Some(file) = &peer.jwks_file {
            self.jwk_set(file);
        }
        if let Some(file) = &peer.token_file {
            let digest = self.secret("token_file", file, "put the token there that the partner handed over");
            self.not_the_admin_token("token_file", digest.as_ref(), admin);
        }
        // What cannot be a name has been reported, and may be the token itself.
        if let Some(token) = peer.token.as_ref().filter(|token| partner::is_variable(&token.env)) {
            self.variable(&token.env);
        }
        let Some(file) = &peer.accept_token_file else { return };
        let digest =
            self.secret("accept_token_file", file, "make it with `pushpull peer add`, and hand it to the partner");
        self.not_the_admin_token("accept_token_file", digest.as_ref(), admin);
        let Some(digest) = digest else { return };
        if let Some(name) = self.accepted.get(&digest) {
            let what = format!("{name} and {} would present the same token", peer.name);
            let problem = Problem::at("accept_token_file", what).code(Code::ConfigConflict);
            self.problems.push(problem.fix("give each its own: a token says who is calling"));
        } else {
            self.accepted.insert(digest, peer.name.clone());
        }
    }

    fn not_the_admin_token(&mut self, key: &str, digest: Option<&Digest>, admin: Option<&Digest>) {
        if digest.is_some() && digest == admin {
            self.problems.push(
                Problem::at(key, "this is the admin API's token: the partner could do all that you can")
                    .code(Code::ConfigConflict)
                    .fix("make another one with `pushpull peer add`"),
            );
        }
    }

    /// The token in an environment variable.
    fn variable(&mut self, name: &str) {
        let fix = "set it to the token that the partner handed over, or use token_file";
        let what = match self.environment.get(name) {
            None => format!("the environment variable {name} is not set"),
            Some(value) => match Secret::new(value.to_owned(), &format!("the environment variable {name}")) {
                Ok(_) => return,
                Err(error) => error.to_string(),
            },
        };
        self.problems.push(Problem::at("token", what).code(Code::ConfigBadFile).fix(fix));
    }

    fn tls(&mut self, tls: &Tls) {
        let named = [("server.tls.cert", &tls.cert), ("server.tls.key", &tls.key)];
        let is_missing = |file: &Option<PathBuf>| file.as_ref().is_none_or(|file| !file.exists());
        let from_init = tls.mode == TlsMode::SelfSigned;
        if tls.mode == TlsMode::DangerousPlaintext || (from_init && named.iter().all(|(_, file)| is_missing(file))) {
            return;
        }
        let fix = match from_init {
            true => "restore it, or remove the other one too",
            false => "name a PEM file that this user may read",
        };
        let mut contents = Vec::new();
        for (key, file) in named {
            let Some(file) = file else { continue };
            let bytes = match key {
                "server.tls.key" => private::read(file),
                _ => private::read_public(file, private::PUBLIC_BYTES_MAX).map_err(private::Error::from),
            };
            match bytes {
                Ok(bytes) => contents.push(bytes),
                Err(error) => self.unreadable(key, file, error, fix),
            }
        }
        let [cert, key] = contents.as_slice() else { return };
        let Err(fault) = server_config(cert, key) else { return };
        let at = if fault == TlsError::Key { "server.tls.key" } else { "server.tls.cert" };
        let problem = Problem::at(at, fault.to_string()).code(Code::ConfigBadFile).rests_on("server.tls.mode");
        self.problems.push(problem.fix("name a certificate and the key that belongs to it"));
    }

    fn keys(&mut self, keys: &Keys) {
        const NEW: &str = "make a key with `pushpull key new`";
        let problem = |key: &str, what: &str| Problem::at(key, what).code(Code::ConfigBadFile);
        if let Some(exposed) = private::check_directory(&keys.dir) {
            self.exposed("keys.dir", exposed);
        }
        let files = match key_files(&keys.dir) {
            Ok(files) => files,
            Err(error) => {
                let what = match error.kind() {
                    io::ErrorKind::NotFound => "there is no such directory".to_owned(),
                    io::ErrorKind::NotADirectory => "this is a file, and no directory".to_owned(),
                    _ => format!("this directory cannot be read: {}", private::said(&error)),
                };
                let found = keys.dir.display().to_string();
                let fix = if error.kind() == io::ErrorKind::PermissionDenied { CHOWN } else { NEW };
                return self.problems.push(problem("keys.dir", &what).found(found).fix(fix));
            }
        };
        let rotation =
            match Rotation::read(&keys.dir) {
                Ok(rotation) => rotation,
                Err(fault) => {
                    let problem = problem("keys.dir", "the state of the keys cannot be read").found(fault);
                    return self.problems.push(problem.fix(format!(
                        "restore {ROTATION_FILE}, or remove it and name in keys.active the key that signs"
                    )));
                }
            };
        // What was rotated away is not read, even if its file is still there.
        let files: Vec<_> = files.into_iter().filter(|(kid, _)| !rotation.is_rotated_away(kid)).collect();
        let kids = || files.iter().map(|(kid, _)| kid.as_str());
        let names = kids().collect::<Vec<_>>().join(", ");
        match rotation.decide(kids(), keys.active.as_deref(), keys.publish_wait) {
            Ok(_) => {}
            // Without any key, that one is missing is the thing to say, whatever keys.active names.
            Err(_) if files.is_empty() => {
                let problem = problem("keys.dir", "there is no signing key");
                let found = keys.dir.display().to_string();
                self.problems.push(problem.expected("a file <kid>.pem").found(found).fix(NEW));
            }
            Err(Undecided::NoSuchKey(active)) => {
                let near = nearest(&active, kids()).or(kids().next());
                self.problems.push(
                    problem("keys.active", "there is no such key")
                        .rests_on("keys.dir")
                        .expected(format!("one of {names}"))
                        .found(format!("{active:?}"))
                        .fix(match near {
                            Some(near) => format!("write \"{near}\", or make it with `pushpull key new --kid`"),
                            None => NEW.to_owned(),
                        }),
                );
            }
            Err(_) => self.problems.push(
                Problem::at("keys.active", "missing, and there are several keys")
                    .code(Code::ConfigMissingKey)
                    .rests_on("keys.dir")
                    .expected(format!("one of {names}"))
                    .fix("say which one signs: active = \"…\" under [keys]"),
            ),
        }
        for (kid, file) in &files {
            let pem = match private::read_to_string(file) {
                Ok(pem) => pem,
                Err(error) => {
                    self.unreadable("keys.dir", file, error, NEW);
                    continue;
                }
            };
            if let Err(fault) = SigningKey::from_pem(kid, &pem) {
                self.problems.push(
                    problem("keys.dir", &format!("{} is no usable key: {fault}", file.display()))
                        .expected("a private key in PEM, PKCS#8: EC P-256, Ed25519 or RSA")
                        .fix("move it away, or make a key with `pushpull key new`"),
                );
            }
        }
    }

    fn database(&mut self, config: &Config) {
        let Some(path) = config.store.path() else { return };
        let problem = |what: &str, path: &Path| {
            Problem::at("store.url", what).code(Code::ConfigBadFile).found(path.display().to_string())
        };
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.is_dir()) {
            let problem = problem("its directory does not exist", parent);
            return self.problems.push(problem.fix("make the directory, or name another file"));
        }
        for exposed in exposed_database(path) {
            self.exposed("store.url", exposed);
        }
        let (what, fix) = if path.is_dir() {
            ("this is a directory, and no file", "name another file, or one that is not there yet: it is made")
        } else if is_foreign_database(path) {
            (
                "this file is no SQLite database",
                "name another file, or one that is not there yet: it is made. If this was the database, it is damaged: restore a backup",
            )
        } else {
            return;
        };
        self.problems.push(problem(what, path).fix(fix));
    }

    fn jwk_set(&mut self, file: &Path) {
        let fix = "ask the partner for its JWK Set, or use jwks_uri";
        if let Some(exposed) = private::check_public(file) {
            self.exposed("jwks_file", exposed);
        }
        let bytes = match private::read_public(file, private::PUBLIC_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) => return self.unreadable("jwks_file", file, error.into(), fix),
        };
        let what = match KeySet::parse(&bytes) {
            Ok(keys) if !keys.is_empty() => return,
            Ok(_) => "no key in it can be used".to_owned(),
            Err(fault) => format!("this is no JWK Set: {fault}"),
        };
        let problem = Problem::at("jwks_file", what).code(Code::ConfigBadFile);
        self.problems.push(problem.found(file.display().to_string()).fix(fix));
    }

    /// The digest of the secret in a file, which must hold one.
    fn secret(&mut self, key: &str, file: &Path, fix: &str) -> Option<Digest> {
        let what = match Secret::read_file(file) {
            Ok(secret) => return Some(Digest::of(secret.expose().as_bytes())),
            Err(SecretError::Exposed(exposed)) => {
                self.exposed(key, exposed);
                return None;
            }
            Err(error) => error.to_string(),
        };
        // It is there, and to make another one would be wrong.
        let fix = if what.contains(private::NOT_OURS) { CHOWN } else { fix };
        self.problems.push(Problem::at(key, what).code(Code::ConfigBadFile).fix(fix));
        None
    }

    fn unreadable(&mut self, key: &str, file: &Path, error: private::Error, fix: &str) {
        match error {
            private::Error::Exposed(exposed) => self.exposed(key, exposed),
            private::Error::File(error) => self.problems.push(
                Problem::at(key, private::said(&error))
                    .code(Code::ConfigBadFile)
                    .found(file.display().to_string())
                    .fix(if error.kind() == io::ErrorKind::PermissionDenied { CHOWN } else { fix }),
            ),
        }
    }

    fn exposed(&mut self, key: &str, exposed: Exposed) {
        if self.exposed.insert(exposed.path.clone()) {
            self.problems.push(
                Problem::at(key, exposed.what())
                    .code(Code::ConfigPermissions)
                    .expected(exposed.expected())
                    .found(format!("{}, {}", exposed.path.display(), exposed.found()))
                    .fix(exposed.fix()),
            );
        }
    }
}

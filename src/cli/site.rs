//! What the typed flags mean: which configuration file, which daemon, which token.

use std::path::{Path, PathBuf};

use crate::auth::{Secret, SecretError};
use crate::codes::Code;
use crate::config::{self, Config, Environment};

use super::args::Global;
use super::client::Client;
use super::{Error, Exit};

/// The configuration file that a command works with.
pub(super) struct Site {
    pub(super) file: PathBuf,
    pub(super) environment: Environment,
}

impl Site {
    pub(super) fn of(global: &Global) -> Self {
        let file = global.config.clone().unwrap_or_else(|| "pushpull.toml".into());
        Self { file, environment: Environment::of_process() }
    }

    /// Where the file lies, and with it everything that it names.
    pub(super) fn directory(&self) -> &Path {
        match self.file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    /// Whether there is a configuration at all; commands that can do without ask first.
    pub(super) fn exists(&self) -> bool {
        self.file.exists()
    }

    pub(super) fn load(&self) -> Result<Config, Error> {
        Ok(config::load(&self.file, &self.environment)?)
    }
}

/// A client of the daemon's admin API. Nothing is connected yet.
pub(super) fn client(global: &Global) -> Result<Client, Error> {
    if let (Some(admin), Some(token_file)) = (&global.admin, &global.token_file) {
        return Ok(Client::new(authority(admin), token(token_file)?));
    }
    let config = Site::of(global).load()?;
    client_of(global, &config)
}

/// The same, where the configuration has been read already.
pub(super) fn client_of(global: &Global, config: &Config) -> Result<Client, Error> {
    let address = global.admin.as_deref().map_or_else(|| reachable(config.admin.listen), authority);
    let token_file = global.token_file.as_ref().unwrap_or(&config.admin.token_file);
    Ok(Client::new(address, token(token_file)?))
}

/// People copy addresses from a browser's bar.
fn authority(admin: &str) -> String {
    admin.strip_prefix("http://").unwrap_or(admin).trim_end_matches('/').to_owned()
}

/// A daemon that listens on every address is reached on the loopback one.
fn reachable(mut listen: std::net::SocketAddr) -> String {
    if listen.ip().is_unspecified() {
        listen.set_ip(match listen {
            std::net::SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    listen.to_string()
}

fn token(file: &Path) -> Result<Secret, Error> {
    Secret::read_file(file).map_err(|error| match error {
        SecretError::Exposed(exposed) => exposed.into(),
        error => Error::new(Exit::NotAllowed, format!("there is no token for the admin API: {error}"))
            .code(Code::NoToken)
            .expected("the daemon's bearer token")
            .fix("name it with --token-file, or the configuration with -c"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_address_is_reached_on_loopback() {
        assert_eq!(reachable("0.0.0.0:8480".parse().unwrap()), "127.0.0.1:8480");
        assert_eq!(reachable("[::]:8480".parse().unwrap()), "[::1]:8480");
        assert_eq!(reachable("192.0.2.1:8480".parse().unwrap()), "192.0.2.1:8480");
        assert_eq!(authority("http://127.0.0.1:8480/"), "127.0.0.1:8480");
    }
}

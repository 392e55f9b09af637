//! What the typed flags mean: which configuration file, which daemon, which token.

use std::path::{Path, PathBuf};

use crate::auth::{Secret, SecretError};
use crate::codes::Code;
use crate::config::{self, Admin, Config, Environment};

use super::args::Global;
use super::client::Client;
use super::{Error, Exit, output};

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
        return Ok(Client::new(authority(admin)?, token(token_file)?));
    }
    let site = Site::of(global);
    let (admin, faults) = config::load_admin(&site.file, &site.environment)?;
    if faults > 0 {
        output::note(&format!(
            "note: {} has faults that a reload or a start would refuse: pushpull serve --check",
            output::clean(&site.file.to_string_lossy())
        ));
    }
    client_by(global, &admin)
}

/// The same, where the configuration has been read already.
pub(super) fn client_of(global: &Global, config: &Config) -> Result<Client, Error> {
    client_by(global, &config.admin)
}

fn client_by(global: &Global, admin: &Admin) -> Result<Client, Error> {
    let address = global.admin.as_deref().map_or_else(|| Ok(reachable(admin.listen)), authority)?;
    let token_file = global.token_file.as_ref().unwrap_or(&admin.token_file);
    Ok(Client::new(address, token(token_file)?))
}

/// People copy addresses from a browser's bar.
fn authority(admin: &str) -> Result<String, Error> {
    let address = admin.strip_prefix("http://").unwrap_or(admin).trim_end_matches('/');
    let parts = address.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    match parts {
        Some((host, _)) if !host.contains(['/', '@', ' ']) => Ok(address.to_owned()),
        _ => Err(Error::new(Exit::Usage, "--admin is no address")
            .expected("host and port of the admin API, which speaks plain HTTP")
            .found(format!("{admin:?}"))
            .fix("write it as in --admin 127.0.0.1:8480")),
    }
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
    }

    #[test]
    fn an_address_is_host_and_port() {
        for (text, address) in
            [("http://127.0.0.1:8480/", "127.0.0.1:8480"), ("[::1]:1", "[::1]:1"), ("admin:80", "admin:80")]
        {
            assert_eq!(authority(text).ok().as_deref(), Some(address), "{text}");
        }
        for text in ["garbage", "8480", ":8480", "127.0.0.1", "https://127.0.0.1:8480", "a:b", "a:99999", ""] {
            assert_eq!(authority(text).unwrap_err().exit, Exit::Usage, "{text}");
        }
    }
}

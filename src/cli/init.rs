//! `pushpull init`: everything that a daemon needs to start, or nothing at all.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::auth::Secret;
use crate::clock::{Clock as _, SystemClock};
use crate::codes::Code;
use crate::config::{self, Environment};
use crate::set::SigningKey;
use crate::wire::net::{Pin, Target, mint};

use super::args::Init;
use super::{Error, Exit, output};

pub(super) fn run(init: &Init, as_json: bool) -> Result<Exit, Error> {
    let label = label(&init.issuer).ok_or_else(|| bad_issuer(&init.issuer))?;
    let kid = format!("{label}-1");
    let text = configuration(init, &kid);
    if let Err(error) = config::parse(&text, Path::new("pushpull.toml"), &Environment::default()) {
        return Err(match error.problems.iter().any(|problem| problem.field == "server.issuer") {
            true => bad_issuer(&init.issuer),
            false => Error::from(error),
        });
    }
    let files = Files::in_directory(&init.dir, &kid);
    if let Some(existing) = files.all().into_iter().find(|file| file.exists()) {
        return Err(exists(existing));
    }
    let pin = make(init, &files, &kid, &text)?;
    tell(init, &files, &kid, &pin, as_json)?;
    Ok(Exit::Done)
}

/// What an organisation is called, by its issuer's host: `signals.acme.example` is `acme`. Names that many hosts of
/// this kind begin with say nothing. `None` when there is no host.
pub(super) fn label(issuer: &str) -> Option<String> {
    const GENERIC: [&str; 11] =
        ["signals", "ssf", "sets", "events", "pushpull", "www", "api", "auth", "idp", "login", "sso"];
    let target = Target::parse(issuer).ok()?;
    let host = target.host();
    if target.address().is_some() {
        return Some(slug(&target.authority()));
    }
    let labels: Vec<&str> = host.split('.').collect();
    let telling = labels.iter().take(labels.len().saturating_sub(1)).find(|label| !GENERIC.contains(label));
    let label = slug(telling.or(labels.first())?);
    (!label.is_empty()).then_some(label)
}

fn slug(text: &str) -> String {
    let one = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    text.chars().map(one).collect::<String>().trim_matches('-').chars().take(60).collect()
}

fn bad_issuer(issuer: &str) -> Error {
    Error::new(Exit::Usage, "--issuer is no issuer")
        .expected("an https URL without query, such as https://signals.acme.example (http only for loopback hosts)")
        .found(format!("{issuer:?}"))
}

/// Where everything goes.
struct Files {
    directory: PathBuf,
    config: PathBuf,
    keys: PathBuf,
    key: PathBuf,
    cert: PathBuf,
    tls_key: PathBuf,
    token: PathBuf,
}

impl Files {
    fn in_directory(directory: &Path, kid: &str) -> Self {
        let keys = directory.join("keys");
        Self {
            directory: directory.to_owned(),
            config: directory.join("pushpull.toml"),
            key: keys.join(format!("{kid}.pem")),
            keys,
            cert: directory.join("tls.crt"),
            tls_key: directory.join("tls.key"),
            token: directory.join("admin.token"),
        }
    }

    fn all(&self) -> [&Path; 5] {
        [&self.config, &self.key, &self.cert, &self.tls_key, &self.token]
    }
}

fn exists(file: &Path) -> Error {
    Error::new(Exit::Conflict, format!("{} exists already, and nothing is overwritten", file.display()))
        .code(Code::FileExists)
        .found("an earlier configuration, or part of one")
        .fix("choose another directory, or move that file away")
}

/// Makes all files, the configuration last; after a failure none of them is left.
fn make(init: &Init, files: &Files, kid: &str, text: &str) -> Result<Pin, Error> {
    let failed = |what: &str, error: &dyn std::fmt::Display| Error::failed(format!("cannot make {what}: {error}"));
    let (_, key_pem) = SigningKey::generate(init.alg, kid).map_err(|error| failed("a signing key", &error))?;
    let now = SystemClock::new().now().wall;
    let minted = mint(&names(init), now).map_err(|error| failed("a certificate", &error))?;
    let pin = Pin::of_cert_pem(minted.cert_pem.as_bytes()).map_err(|error| failed("a pin", &error))?;
    let token = Secret::mint().map_err(|error| failed("a token", &error))?;
    directory(&files.directory, 0o755)?;
    directory(&files.keys, 0o700)?;
    let mut made = Vec::new();
    let mut step = |file: &Path, write: &dyn Fn(&Path) -> Result<(), Error>| {
        let written = write(file);
        // What another process made meanwhile is not ours to remove.
        if !written.as_ref().is_err_and(|error| error.exit == Exit::Conflict) {
            made.push(file.to_owned());
        }
        written
    };
    let all = step(&files.key, &|file| create(file, key_pem.as_bytes(), 0o600))
        .and_then(|()| step(&files.tls_key, &|file| create(file, minted.key_pem.as_bytes(), 0o600)))
        .and_then(|()| step(&files.cert, &|file| create(file, minted.cert_pem.as_bytes(), 0o644)))
        .and_then(|()| step(&files.token, &|file| create(file, format!("{}\n", token.expose()).as_bytes(), 0o600)))
        .and_then(|()| step(&files.config, &|file| create(file, text.as_bytes(), 0o644)));
    if let Err(error) = all {
        made.iter().for_each(|file| drop(std::fs::remove_file(file)));
        return Err(error);
    }
    Ok(pin)
}

/// Host names and addresses that the certificate is for.
fn names(init: &Init) -> Vec<String> {
    let host = Target::parse(&init.issuer).map(|target| target.host());
    let listen = init.listen.map(|listen| listen.ip()).filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string());
    host.into_iter().chain(listen).collect()
}

/// Makes a directory with this mode, unless there is one.
pub(super) fn directory(path: &Path, mode: u32) -> Result<(), Error> {
    let failed = |error| Error::unwritable(path, &error);
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(failed)?;
    // A strange umask may have taken from the owner too.
    let made = std::fs::metadata(path).map_err(failed)?.permissions().mode() & mode;
    std::fs::set_permissions(path, Permissions::from_mode(made | 0o700)).map_err(failed)
}

/// Writes a new file, durably, with exactly this mode whatever the umask says.
pub(super) fn create(file: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::AlreadyExists => exists(file),
        _ => Error::unwritable(file, &error),
    };
    let mut handle = OpenOptions::new().write(true).create_new(true).mode(mode).open(file).map_err(failed)?;
    let written = handle
        .set_permissions(Permissions::from_mode(mode))
        .and_then(|()| handle.write_all(content))
        .and_then(|()| handle.sync_all());
    written.map_err(|error| {
        drop(std::fs::remove_file(file));
        failed(error)
    })
}

fn tell(init: &Init, files: &Files, kid: &str, pin: &Pin, as_json: bool) -> Result<(), Error> {
    if as_json {
        return output::json(&json!({
            "config": files.config, "kid": kid, "alg": init.alg.as_str(), "pin": pin.to_string(), "key": files.key,
            "cert": files.cert, "token_file": files.token, "issuer": init.issuer,
        }));
    }
    let config = files.config.display();
    output::line(&format!(
        "created  {config}\n\
         created  {key}    signing key {kid}, {alg}\n\
         created  {cert}   self-signed; partners pin it: {pin}\n\
         created  {tls_key}\n\
         created  {token}  for the admin API",
        key = files.key.display(),
        alg = init.alg,
        cert = files.cert.display(),
        tls_key = files.tls_key.display(),
        token = files.token.display(),
    ))?;
    output::note(&format!("next     pushpull serve -c {config}\n         pushpull peer card -c {config}"));
    Ok(())
}

/// The file. Every default stands there as a comment, so that it shows what can be changed.
fn configuration(init: &Init, kid: &str) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let listen = |given: Option<SocketAddr>, default: &str| match given {
        Some(address) => format!("listen = \"{address}\""),
        None => format!("# listen = \"{default}\""),
    };
    include_str!("pushpull.template.toml")
        .replace("@ISSUER@", &quoted(&init.issuer))
        .replace("@LISTEN@", &listen(init.listen, "0.0.0.0:8443"))
        .replace("@ADMIN_LISTEN@", &listen(init.admin_listen, "127.0.0.1:8480"))
        .replace("@KID@", &quoted(kid))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn init(issuer: &str) -> Init {
        let (listen, admin_listen) = (None, None);
        Init { dir: ".".into(), issuer: issuer.to_owned(), listen, admin_listen, alg: crate::set::Algorithm::Es256 }
    }

    #[test]
    fn an_organisation_is_called_by_the_telling_part_of_its_host() {
        for (issuer, name) in [
            ("https://signals.acme.example", "acme"),
            ("https://acme.example/tenant", "acme"),
            ("https://alpha.test:8443", "alpha"),
            ("https://localhost:8443", "localhost"),
            ("https://sso.example", "sso"),
            ("http://127.0.0.1:18443", "127-0-0-1-18443"),
        ] {
            assert_eq!(label(issuer).as_deref(), Some(name), "{issuer}");
        }
        assert_eq!(label("acme"), None);
    }

    /// Uncommented, the template is a complete configuration; its values must be the defaults, or it would lie.
    #[test]
    fn the_comments_of_the_file_show_the_defaults() {
        let text = configuration(&init("https://signals.acme.example"), "acme-1");
        let is_setting = |line: &str| {
            let key = line.split(" = ").next().unwrap_or_default();
            line.contains(" = ") && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        };
        let mut uncommented = String::new();
        for line in text.lines().take_while(|line| !line.contains("[[peer]]")) {
            let bare = line.strip_prefix("# ").unwrap_or(line);
            let keep = !line.starts_with('#') || is_setting(bare) || bare.starts_with('[');
            uncommented.push_str(if keep { bare } else { "" });
            uncommented.push('\n');
        }
        let parsed =
            |text: &str| config::parse(text, Path::new("pushpull.toml"), &Environment::default()).expect("sound");
        let (mut shown, meant) = (parsed(&uncommented), parsed(&text));
        assert_eq!(shown.server.audience.take().as_deref(), Some(meant.server.audience()));
        assert_eq!(shown, meant);
        assert!(uncommented.contains("\nwindow_bytes = \"16MiB\""), "{uncommented}");
        let every_key = serde_json::to_value(&meant).expect("it serialises");
        for (section, keys) in every_key.as_object().expect("an object") {
            for key in keys.as_object().into_iter().flat_map(|keys| keys.keys()) {
                let absent = ["tls", "client_ca"].contains(&key.as_str());
                assert!(absent || uncommented.contains(&format!("\n{key} = ")), "{section}.{key} is not shown");
            }
        }
    }
}

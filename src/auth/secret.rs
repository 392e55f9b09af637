//! Secrets in files and in memory: read with care, never printed, wiped when dropped.

use std::fs::{OpenOptions, Permissions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::private::{self, Exposed};

/// A token or password. `Debug` shows no part of it, and there is no `Display`.
///
/// Comparing two takes the same time wherever they differ.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

/// Why a secret cannot be read or written. No text repeats any of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system said no.
    #[error("{}: {}", path.display(), private::said(fault))]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        fault: std::io::Error,
    },
    /// Others can read or replace the file.
    #[error("{0}")]
    Exposed(Exposed),
    /// The file exists, and secrets are never overwritten.
    #[error("{}: the file exists already and is not overwritten; move it away first", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The content cannot be a secret.
    #[error("{origin}: {fault}")]
    Content {
        /// The file or variable.
        origin: String,
        /// What is wrong.
        fault: &'static str,
    },
    /// The system gave no randomness.
    #[error("the system gives no random numbers")]
    Random,
}

impl Secret {
    /// Takes a secret from elsewhere, for example the environment; `origin` names the place in errors.
    pub fn new(text: String, origin: &str) -> Result<Self, Error> {
        let text = Zeroizing::new(text);
        let invalid = |fault| Err(Error::Content { origin: origin.to_owned(), fault });
        if text.is_empty() {
            return invalid("the secret is empty");
        }
        if text.len() > BYTES_MAX {
            return invalid("a secret of more than 4096 bytes is taken for a mistake; is it the right file?");
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return invalid("expected one line of visible ASCII characters without spaces");
        }
        Ok(Self(text))
    }

    /// Reads the secret that a file consists of; one line break at the end does not belong to it. A file that others
    /// can get at is refused ([`crate::private`]).
    pub fn read_file(path: &Path) -> Result<Self, Error> {
        let failed = |fault| Error::File { path: path.to_owned(), fault };
        let mut bytes = Zeroizing::new(Vec::with_capacity(BYTES_MAX + 3));
        let file = private::open(path).map_err(|error| match error {
            private::Error::File(fault) => failed(fault),
            private::Error::Exposed(exposed) => Error::Exposed(exposed),
        })?;
        file.take(BYTES_MAX as u64 + 3).read_to_end(&mut bytes).map_err(failed)?;
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // What is not UTF-8 is not ASCII either; the replacement character makes `new` refuse it.
        Self::new(String::from_utf8_lossy(line).into_owned(), &path.display().to_string())
    }

    /// A new random secret: 256 bits as 43 characters of base64url.
    pub fn mint() -> Result<Self, Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(bytes.as_mut()).map_err(|_| Error::Random)?;
        Ok(Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes))))
    }

    /// Writes the secret and a line break to a new file that only its owner can read, whatever the umask. Durable when
    /// it returns.
    pub fn write_file(&self, path: &Path) -> Result<(), Error> {
        let failed = |fault: std::io::Error| match fault.kind() {
            ErrorKind::AlreadyExists => Error::Exists { path: path.to_owned() },
            _ => Error::File { path: path.to_owned(), fault },
        };
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        let mut write = || {
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(self.0.as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()
        };
        write().map_err(|fault| {
            // Whoever tries again when the disk has room would find half a secret, and that it is there already.
            let _ = std::fs::remove_file(path);
            failed(fault)
        })
    }

    /// The secret itself, for the one place that presents it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `Authorization: Bearer <secret>`, marked as sensitive.
    pub fn to_bearer(&self) -> http::HeaderValue {
        let text = Zeroizing::new(format!("Bearer {}", self.expose()));
        // A secret is visible ASCII by construction, so this is always a header value.
        let mut value = http::HeaderValue::from_str(&text).unwrap_or_else(|_| http::HeaderValue::from_static("Bearer"));
        value.set_sensitive(true);
        value
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

const BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_survives_the_way_through_a_file_readable_by_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let secret = Secret::mint().unwrap();
        assert_eq!(secret.expose().len(), 43);
        secret.write_file(&path).unwrap();
        assert_eq!(Secret::read_file(&path).unwrap(), secret);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(secret.write_file(&path), Err(Error::Exists { .. })));
        assert_ne!(Secret::mint().unwrap(), secret);
    }

    #[test]
    fn one_line_break_is_trimmed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let read = |content: &[u8]| {
            write(&path, content, 0o600);
            Secret::read_file(&path)
        };
        for fine in [b"abc".as_slice(), b"abc\n", b"abc\r\n"] {
            assert_eq!(read(fine).unwrap().expose(), "abc");
        }
        for wrong in [b"".as_slice(), b"\n", b"abc\n\n", b"a b", b" abc", b"ab\0c", b"\xff\xfe", "bücher".as_bytes()] {
            let error = read(wrong).expect_err(&String::from_utf8_lossy(wrong));
            assert!(matches!(error, Error::Content { .. }));
            assert!(error.to_string().contains("token: "), "the file is named: {error}");
        }
        assert!(read(&[b'x'; 4096]).is_ok());
        assert!(read(&[b'x'; 4097]).is_err());
        assert!(read(&[b'x'; 9999]).is_err());
        assert!(matches!(Secret::read_file(&dir.path().join("none")), Err(Error::File { .. })));
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused_with_the_remedy_and_without_the_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        write(&path, b"hunter2", 0o644);
        let error = Secret::read_file(&path).expect_err("it is exposed").to_string();
        assert!(error.ends_with(&format!("`chmod 600 {}`", path.display())) && error.contains("mode 0644"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    fn write(path: &Path, content: &[u8], mode: u32) {
        std::fs::write(path, content).unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new("hunter2".into(), "test").unwrap();
        assert_eq!(format!("{secret:?}"), "…");
        assert_eq!(secret.to_bearer(), "Bearer hunter2");
        assert!(!format!("{:?}", secret.to_bearer()).contains("hunter2"));
    }
}

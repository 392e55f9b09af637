//! The key directory: private keys, one a file, and `rotation.json`. What is written is durable when a call returns, and
//! readable for the owner alone whatever the umask says.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::Rotation;
use crate::private;

/// Where the state of the keys is kept, in the key directory.
pub const ROTATION_FILE: &str = "rotation.json";

/// The private keys in a directory by their `kid`, which is the file's stem, in alphabetical order.
pub fn key_files(directory: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        if let Some(kid) = stem
            && path.extension().is_some_and(|extension| extension == "pem")
        {
            files.insert(kid.to_owned(), path.clone());
        }
    }
    Ok(files)
}

impl Rotation {
    /// What has been so far in this key directory; nothing if there never was a rotation.
    pub fn read(directory: &Path) -> Result<Self, String> {
        let file = directory.join(ROTATION_FILE);
        // Whoever can write it can have a key of their own published as ours.
        // It holds the names of all keys that ever were, which are never used again.
        let text = match private::read_up_to(&file, private::PUBLIC_BYTES_MAX) {
            Ok(text) => text,
            Err(private::Error::File(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(private::Error::File(error)) => return Err(format!("{}: {}", file.display(), private::said(&error))),
            Err(private::Error::Exposed(exposed)) => return Err(exposed.to_string()),
        };
        serde_json::from_slice(&text).map_err(|error| {
            format!("{}: damaged ({error}): restore it, or remove it and say in keys.active who signs", file.display())
        })
    }

    /// All or nothing, also through a crash: a new file that takes the old one's place.
    pub(super) fn save(&self, directory: &Path) -> io::Result<()> {
        let (file, fresh) = (directory.join(ROTATION_FILE), directory.join("rotation.json.new"));
        let mut text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        text.push(b'\n');
        create_anew(&fresh, &text)?;
        std::fs::rename(&fresh, &file)?;
        sync(directory)
    }
}

/// Where the private key of this name is.
pub(super) fn key_file(directory: &Path, kid: &str) -> PathBuf {
    directory.join(format!("{kid}.pem"))
}

/// Keeps a new private key. None is ever overwritten. All of it or nothing, also through a crash: a key that is cut short
/// would keep the next process from starting.
pub(super) fn write_key(directory: &Path, kid: &str, pem: &str) -> io::Result<()> {
    let (file, fresh) = (key_file(directory, kid), directory.join(format!("{kid}.pem.new")));
    create_anew(&fresh, pem.as_bytes())?;
    // A link overwrites nothing. Where there are none we look first: nobody else makes keys here.
    let linked = std::fs::hard_link(&fresh, &file).or_else(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Err(error),
        _ if file.exists() => Err(io::ErrorKind::AlreadyExists.into()),
        _ => std::fs::rename(&fresh, &file),
    });
    // What stays behind is no key, and is overwritten by the next of that name.
    let _ = std::fs::remove_file(&fresh);
    linked?;
    sync(directory)
}

/// Removes a private key; one that is gone already is fine.
pub(super) fn remove_key(directory: &Path, kid: &str) -> io::Result<()> {
    match std::fs::remove_file(key_file(directory, kid)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync(directory),
    }
}

/// The same for a passing file, which a process that was killed may have left.
fn create_anew(path: &Path, content: &[u8]) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => create(path, content),
    }
}

fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file
        .set_permissions(Permissions::from_mode(0o600))
        .and_then(|()| file.write_all(content))
        .and_then(|()| file.sync_all());
    written.inspect_err(|_| drop(std::fs::remove_file(path)))
}

/// Makes names durable: a file's own sync does not.
fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_there_as_a_whole_or_not_at_all_and_none_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path();
        // As a process leaves it that is killed while it writes.
        std::fs::write(place.join("k-1.pem.new"), "-----BEGIN PRIV").unwrap();
        assert!(key_files(place).unwrap().is_empty(), "what is not complete is no key");
        write_key(place, "k-1", "whole").unwrap();
        assert_eq!(std::fs::read_to_string(place.join("k-1.pem")).unwrap(), "whole");
        let mode = std::fs::metadata(place.join("k-1.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = write_key(place, "k-1", "other").unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(place.join("k-1.pem")).unwrap(), "whole");
        assert_eq!(std::fs::read_dir(place).unwrap().count(), 1, "nothing else is left behind");
    }
}

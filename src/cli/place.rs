//! Where a command that runs several Transceivers keeps their files.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use super::Error;

/// A folder.
pub(super) struct Place {
    pub(super) path: PathBuf,
    /// Made by us and nobody's wish: removed at the end.
    pub(super) passing: bool,
}

impl Place {
    /// The wished one, or one of our own that is named for this command.
    pub(super) fn new(command: &str, wished: Option<PathBuf>) -> Result<Self, Error> {
        let passing = wished.is_none();
        let own = || std::env::temp_dir().join(format!("pushpull-{command}-{}", uuid::Uuid::now_v7().simple()));
        let path = wished.unwrap_or_else(own);
        // Private keys come to lie in it.
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|error| Error::unwritable(&path, &error))?;
        Ok(Self { path, passing })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.passing {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

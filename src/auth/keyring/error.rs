//! Why a key cannot be changed as somebody asked, with what to do instead.

use std::io;
use std::path::PathBuf;

use super::Undecided;
use super::status::listed;
use crate::private::Exposed;
use crate::set::{KeyError, KeySet};

/// Why a key cannot be changed like that.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is none of this name.
    #[error("there is no key {0:?}")]
    NoSuchKey(String),
    /// The name is taken, or was: partners may remember what it stood for.
    #[error("there is or was a key {0:?}")]
    Taken(String),
    /// A file holds another key than it did, and SETs that the earlier one signed may be under way.
    #[error(
        "{}: this is another key than {kid:?} has been so far, which signs or has signed: restore the file, or save the new key as another NAME.pem and run `pushpull key rotate --kid NAME`",
        .file.display()
    )]
    Replaced {
        /// The key.
        kid: String,
        /// What has been replaced.
        file: PathBuf,
    },
    /// The name cannot be one.
    #[error("{0:?} cannot be a kid: expected 1 to 128 of A-Z, a-z, 0-9, -, _ and ., not starting with a dot")]
    Name(String),
    /// The key signs.
    #[error("{0} is the key that signs")]
    Signs(String),
    /// The key has been taken out already, or is about to be.
    #[error("{0} has been rotated away and does not sign again")]
    RotatedAway(String),
    /// Another rotation has not ended.
    #[error("a rotation to {0} is under way")]
    UnderWay(String),
    /// The keys are in a directory, and this one is not.
    #[error("the keys are kept in a directory: put the new one there, and rotate to its name")]
    KeptElsewhere,
    /// Another rotation has ended just now.
    #[error("another rotation has just ended")]
    Busy,
    /// Unsettled SETs are signed with it.
    #[error("{}", in_use(kid, peers.as_deref()))]
    InUse {
        /// The key.
        kid: String,
        /// Names of peers that have not settled all of them; none while that is being found out.
        peers: Option<Vec<String>>,
    },
    /// A JWK Set takes no more keys.
    #[error("{max} keys are published, and partners read no more", max = KeySet::KEYS_MAX)]
    TooMany,
    /// Nothing says which key signs.
    #[error(transparent)]
    Undecided(#[from] Undecided),
    /// A key cannot be made or read.
    #[error("{0}: {1}")]
    Key(String, KeyError),
    /// Others can read or replace a private key, or what says which one signs.
    #[error("{0}")]
    Exposed(Exposed),
    /// The key directory cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// The key directory cannot be written. Nothing has changed.
    #[error("the key directory {} cannot be written, nothing has changed: {error}", .directory.display())]
    Unwritable {
        /// The directory.
        directory: PathBuf,
        /// Why.
        error: io::Error,
    },
}

fn in_use(kid: &str, peers: Option<&[String]>) -> String {
    let who = match peers {
        None => "what was submitted last is still being stored".to_owned(),
        Some([peer]) => format!("1 peer still has some: {peer}"),
        Some(peers) => format!("{} peers still have some: {}", peers.len(), listed(peers)),
    };
    format!("unsettled SETs are signed with {kid}: {who}")
}

//! Why a key cannot be changed as somebody asked, with what to do instead.

use std::io;
use std::path::PathBuf;

use super::Undecided;
use crate::set::{KeyError, KeySet};

/// Why a key cannot be changed like that.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is none of this name.
    #[error("there is no key {0:?}: `pushpull key ls` shows those there are")]
    NoSuchKey(String),
    /// The name is taken, or was: partners may remember what it stood for.
    #[error("there is or was a key {0:?}, and a name stands for one key for ever: choose another kid, or leave it out")]
    Taken(String),
    /// The name cannot be one.
    #[error("{0:?} cannot be a kid: expected 1 to 128 of A-Z, a-z, 0-9, -, _ and ., not starting with a dot")]
    Name(String),
    /// The key signs.
    #[error("{0} signs: make another key sign first, with `pushpull key rotate`")]
    Signs(String),
    /// The key has been taken out already, or is about to be.
    #[error("{0} has been rotated away and cannot sign again: `pushpull key rotate` makes a new key")]
    RotatedAway(String),
    /// Another rotation has not ended.
    #[error(
        "a rotation to {0} is under way: wait for it (`pushpull key ls`), end it at once with `pushpull key rotate \
         --now`, or call it off with `pushpull key retire {0}`"
    )]
    UnderWay(String),
    /// The keys are in a directory, and this one is not.
    #[error("the keys are kept in a directory: put the new one there, and rotate to its name")]
    KeptElsewhere,
    /// Another rotation has ended just now.
    #[error("another rotation has just ended: look at `pushpull key ls`, and rotate again if you still want to")]
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
    #[error("{max} keys are published, and partners read no more: retire one first", max = KeySet::KEYS_MAX)]
    TooMany,
    /// Nothing says which key signs.
    #[error(transparent)]
    Undecided(#[from] Undecided),
    /// A key cannot be made or read.
    #[error("{0}: {1}")]
    Key(String, KeyError),
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
        Some(peers) => format!("{} still {} some: {}", count(peers.len()), has(peers.len()), peers.join(", ")),
    };
    format!(
        "unsettled SETs are signed with {kid}; {who}. It retires by itself when they are settled. With --now it goes at \
         once, and partners that have not verified those SETs yet refuse them as invalid_key"
    )
}

fn count(peers: usize) -> String {
    if peers == 1 { "1 peer".to_owned() } else { format!("{peers} peers") }
}

fn has(peers: usize) -> &'static str {
    if peers == 1 { "has" } else { "have" }
}

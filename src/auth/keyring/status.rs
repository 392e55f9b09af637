//! How our keys fare, for an operator to read: with a running daemon, and from the files alone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Error, Rotation, State, folder, publics, read_keys};
use crate::clock::Wall;

/// One key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyStatus {
    /// Its name.
    pub kid: String,
    /// What it signs with.
    pub algorithm: String,
    /// Where it stands: `next`, `active`, `retiring` or `retired`.
    pub state: &'static str,
    /// Since when.
    pub since: Wall,
    /// Its private file, where there is one.
    pub file: Option<PathBuf>,
    /// What has to happen before it moves on.
    pub waits_for: WaitsFor,
    /// How often `/jwks.json` was fetched since the key is in it; none if it was there when the process started.
    pub fetches: Option<u64>,
    /// When that was last.
    pub fetched_at: Option<Wall>,
}

/// What a key waits for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum WaitsFor {
    /// Nothing.
    Nothing,
    /// That somebody has it sign, or takes it out.
    Operator,
    /// Next: that partners could fetch it.
    Fetches(Duration),
    /// Retiring: that what was submitted last is stored.
    Submissions,
    /// Retiring: that these peers have settled the SETs which it signed.
    Peers(Vec<String>),
    /// Retiring: that no partner has an older JWK Set.
    Caches(Duration),
}

impl WaitsFor {
    /// In words; empty if it waits for nothing.
    pub fn text(&self, kid: &str) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Operator => format!("`pushpull key rotate --kid {kid}`, or `key retire {kid}`"),
            Self::Fetches(left) => format!("partners to fetch it: {} more, then it signs", shown(*left)),
            Self::Submissions => "the last submissions to be stored".to_owned(),
            Self::Peers(peers) => format!("SETs that it signed, at {}", listed(peers)),
            Self::Caches(left) => format!("partners' caches: {} more", shown(*left)),
        }
    }
}

impl KeyStatus {
    /// What the files alone say, for when no daemon runs. Changes nothing. `active` is `keys.active`.
    pub fn look(directory: &Path, active: Option<&str>, publish_wait: Duration) -> Result<Vec<Self>, Error> {
        let mut rotation = Rotation::read(directory).map_err(Error::Unreadable)?;
        let files = publics(&read_keys(directory, &rotation)?);
        // When nothing says which key signs, that is to be seen.
        let never = Wall(0);
        if rotation.reconcile(&files, active, publish_wait, never).is_err() {
            for (kid, jwk) in files {
                if rotation.get(&kid).is_none() {
                    rotation.publish(&kid, jwk, never);
                }
            }
        }
        Ok(Self::all(&rotation, publish_wait, Some(directory)))
    }

    /// As commands and API show it.
    pub fn to_json(&self) -> Value {
        let mut value = json!({
            "kid": self.kid,
            "alg": self.algorithm,
            "state": self.state,
            "active": self.state == "active",
            "published": self.state != "retired",
            "since": (self.since != Wall(0)).then(|| self.since.to_rfc3339()),
            "waits_for": self.waits_for.text(&self.kid),
            "file": self.file,
        });
        let Value::Object(members) = &mut value else { return value };
        match &self.waits_for {
            WaitsFor::Fetches(left) | WaitsFor::Caches(left) => {
                members.insert("wait_seconds".to_owned(), json!(left.as_millis().div_ceil(1000)));
            }
            WaitsFor::Peers(peers) => {
                members.insert("peers".to_owned(), json!(peers));
            }
            WaitsFor::Nothing | WaitsFor::Operator | WaitsFor::Submissions => {}
        }
        if let Some(fetches) = self.fetches {
            members.insert("fetches".to_owned(), json!(fetches));
            members.insert("fetched_at".to_owned(), json!(self.fetched_at.map(Wall::to_rfc3339)));
        }
        value
    }

    /// Every key of a rotation: those that are published, then the retired ones.
    pub fn all(rotation: &Rotation, publish_wait: Duration, directory: Option<&Path>) -> Vec<Self> {
        let (retired, published): (Vec<_>, Vec<_>) = rotation.keys().partition(|(_, key)| key.state == State::Retired);
        let status = |(kid, key): (&str, &super::Key)| {
            let left = key.left(publish_wait).unwrap_or_default();
            let waits_for = match &key.state {
                State::Next { takes_over: true, .. } => WaitsFor::Fetches(left),
                State::Next { .. } => WaitsFor::Operator,
                State::Retiring { marks: None, .. } => WaitsFor::Submissions,
                State::Retiring { .. } if key.is_settled() => WaitsFor::Caches(left),
                State::Retiring { marks: Some(marks), .. } => WaitsFor::Peers(marks.keys().cloned().collect()),
                State::Active | State::Retired => WaitsFor::Nothing,
            };
            let file = directory.map(|directory| folder::key_file(directory, kid)).filter(|file| file.exists());
            Self {
                kid: kid.to_owned(),
                algorithm: key.algorithm().to_owned(),
                state: key.state.as_str(),
                since: key.since(),
                file,
                waits_for,
                fetches: None,
                fetched_at: None,
            }
        };
        published.into_iter().chain(retired).map(status).collect()
    }
}

/// What differs between two rotations, in words.
pub(super) fn changes(before: &Rotation, after: &Rotation) -> Vec<String> {
    let mut changes = Vec::new();
    for (kid, key) in after.keys() {
        match before.get(kid) {
            None => changes.push(format!("key {kid}: new, {}", key.state.as_str())),
            Some(old) if old.state.as_str() != key.state.as_str() => {
                changes.push(format!("key {kid}: {}, was {}", key.state.as_str(), old.state.as_str()));
            }
            Some(_) if after.heir() == Some(kid) && before.heir() != Some(kid) => {
                changes.push(format!("key {kid}: is to sign next"));
            }
            Some(old) if old.jwk != key.jwk => changes.push(format!("key {kid}: another key under the same name")),
            Some(_) => {}
        }
    }
    let gone = before.keys().filter(|(kid, _)| after.get(kid).is_none());
    changes.extend(gone.map(|(kid, _)| format!("key {kid}: gone")));
    changes
}

/// In minutes, or in seconds towards the end; rounded up, so that it does not run down to zero and wait on.
fn shown(left: Duration) -> String {
    let seconds = left.as_millis().div_ceil(1000);
    if seconds > 120 { format!("{} min", seconds.div_ceil(60)) } else { format!("{seconds} s") }
}

/// The first few names; a thousand would fill the screen.
pub(super) fn listed(peers: &[String]) -> String {
    const SHOWN: usize = 3;
    match peers.len().checked_sub(SHOWN) {
        None | Some(0) => peers.join(", "),
        Some(more) => format!("{} and {more} more", peers.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ")),
    }
}

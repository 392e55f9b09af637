//! What operators order: another key to sign, a key to go, the directory to be read again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};
use zeroize::Zeroizing;

use super::{Error, Kept, KeyRing, Rotation, State, folder, is_kid, next_kid, publics, read_keys, status, tell_stale};
use crate::clock::Wall;
use crate::codes::Code;
use crate::private;
use crate::set::{Algorithm, KeySet, SigningKey};

/// What a rotation leads to.
#[derive(Debug)]
pub enum Rotate {
    /// To the key of this name, if one is published that has not signed yet; else to a key that is made now, under this
    /// name or the next one in the row, with this algorithm or that of the key that signs.
    Named(Option<String>, Option<Algorithm>),
    /// To this key, which the caller keeps. Not for a ring that keeps its keys in a directory.
    Given(SigningKey),
}

/// A rotation has begun, or is over already.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rotated {
    /// The new key.
    pub kid: String,
    /// What it signs with.
    pub algorithm: String,
    /// The key that signed before.
    pub from: String,
    /// How long it has still to be published before it signs; none if it signs now.
    pub left: Option<Duration>,
}

/// A key that is to retire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Retire {
    /// It is not published any more.
    Done,
    /// It stays published until everything that was queued by now is settled, and retires by itself then.
    Begun,
}

/// A key that is new to the ring, and the text to keep it by unless it is kept already.
type Made = (SigningKey, Option<Zeroizing<String>>);

impl KeyRing {
    /// Makes another key sign: now, or once it has been published for long enough. Durable when it returns. Blocks.
    ///
    /// With `at_once` and no name while a rotation is under way, it is that one which ends at once.
    pub fn rotate(&self, to: Rotate, at_once: bool, now: Wall) -> Result<Rotated, Error> {
        let (named, made) = match to {
            Rotate::Given(_) if self.folder.is_some() => return Err(Error::KeptElsewhere),
            Rotate::Given(key) => (Some(key.kid().to_owned()), Some((key, None))),
            Rotate::Named(kid, algorithm) => {
                let made = self.candidate(kid.as_deref(), algorithm)?;
                (kid, made)
            }
        };
        let mut kept = self.kept();
        let mut rotation = kept.rotation.clone();
        let mut written = None;
        let kid = match (rotation.heir().map(str::to_owned), named, made) {
            (Some(heir), None, _) if at_once => heir,
            (Some(heir), Some(kid), _) if at_once && kid == heir => heir,
            (Some(heir), ..) => return Err(Error::UnderWay(heir)),
            (None, _, Some((key, pem))) => {
                let kid = key.kid().to_owned();
                may_add(&rotation, &kid)?;
                if let Some(pem) = pem {
                    self.keep(&kid, &pem)?;
                    written = Some(kid.clone());
                }
                rotation.publish(&kid, key.public_jwk().to_json(), now);
                kept.keys.insert(kid.clone(), Arc::new(key));
                kid
            }
            (None, Some(kid), None) => match rotation.get(&kid).map(|key| &key.state) {
                None => return Err(Error::NoSuchKey(kid)),
                Some(State::Active) => return Err(Error::Signs(kid)),
                Some(State::Next { .. }) if kept.keys.contains_key(&kid) => kid,
                Some(_) => return Err(Error::RotatedAway(kid)),
            },
            // The rotation that was under way a moment ago has just ended.
            (None, None, None) => return Err(Error::Busy),
        };
        let from = rotation.active().unwrap_or_default().to_owned();
        rotation.schedule(&kid);
        if at_once {
            rotation.switch(&kid, now);
        }
        if let Err(error) = self.change(&mut kept, rotation) {
            let Kept { rotation, keys, .. } = &mut *kept;
            keys.retain(|kid, _| rotation.get(kid).is_some());
            if let (Some(folder), Some(kid)) = (&self.folder, written) {
                let _ = folder::remove_key(folder, &kid);
            }
            return Err(error);
        }
        let left = kept.rotation.get(&kid).and_then(|key| key.left(kept.publish_wait));
        let algorithm = kept.rotation.get(&kid).map(|key| key.algorithm().to_owned()).unwrap_or_default();
        if at_once {
            warn!(
                code = %Code::KeyNotFetchedYet,
                kid,
                from,
                "a key signs before partners could fetch it, by order: those that cache our keys may refuse its SETs"
            );
        } else {
            let seconds = left.map(|left| left.as_secs());
            info!(kid, from, seconds, "a key is published; it signs when partners could fetch it");
        }
        Ok(Rotated { kid, algorithm, from, left })
    }

    /// Takes a key out of what is published, if no unsettled SET needs it or with `at_once` in any case. Its private file
    /// goes with it. A key that was to sign next is called off; one that is retired stays so. Durable when it returns. Blocks.
    pub fn retire(&self, kid: &str, at_once: bool, now: Wall) -> Result<Retire, Error> {
        let mut kept = self.kept();
        let mut rotation = kept.rotation.clone();
        let Some(key) = rotation.get(kid) else { return Err(Error::NoSuchKey(kid.to_owned())) };
        let end = match &key.state {
            State::Active => return Err(Error::Signs(kid.to_owned())),
            State::Retired => return Ok(Retire::Done),
            State::Next { may_have_signed: true, .. } if !at_once => Retire::Begun,
            State::Retiring { marks, .. } if !at_once && !key.is_settled() => {
                let peers = marks.as_ref().map(|marks| marks.keys().cloned().collect());
                return Err(Error::InUse { kid: kid.to_owned(), peers });
            }
            State::Next { .. } | State::Retiring { .. } => Retire::Done,
        };
        let is_needed = !key.is_settled() && !matches!(key.state, State::Next { may_have_signed: false, .. });
        rotation.set(kid, if end == Retire::Done { State::Retired } else { State::retiring() }, now);
        self.change(&mut kept, rotation)?;
        self.sweep(&kept);
        match (end, is_needed) {
            (Retire::Begun, _) => {
                info!(kid, "a key retires; it stays published until what it may have signed is settled")
            }
            (Retire::Done, false) => info!(kid, "a key is not published any more, and its private file is gone"),
            (Retire::Done, true) => {
                warn!(code = %Code::KeyWithdrawn, kid, "a key is not published any more, by order: partners refuse unsettled SETs that it signed")
            }
        }
        Ok(end)
    }

    /// Reads the key directory again: new files are published, `keys.active` is followed by the same rules as a rotation,
    /// and files that are gone are dropped. Says what changed, in words. Nothing changes when anything is wrong. Blocks.
    pub fn reread(&self, active: Option<&str>, publish_wait: Duration, now: Wall) -> Result<Vec<String>, Error> {
        let mut kept = self.kept();
        let Some(folder) = &self.folder else { return Ok(Vec::new()) };
        let mut keys = read_keys(folder, &kept.rotation)?;
        for (kid, key) in &mut keys {
            // The same key stays the same value, so that whoever holds it is still known to.
            if let Some(held) =
                kept.keys.get(kid).filter(|held| held.public_jwk().to_json() == key.public_jwk().to_json())
            {
                *key = Arc::clone(held);
            }
        }
        let mut rotation = kept.rotation.clone();
        rotation.reconcile(&publics(&keys), active, publish_wait, now)?;
        let changes = status::changes(&kept.rotation, &rotation);
        let (keys, wait) =
            (std::mem::replace(&mut kept.keys, keys), std::mem::replace(&mut kept.publish_wait, publish_wait));
        if let Err(error) = self.change(&mut kept, rotation) {
            (kept.keys, kept.publish_wait) = (keys, wait);
            return Err(error);
        }
        tell_stale(&kept.rotation, active);
        Ok(changes)
    }

    /// The new key of a rotation that needs one. Making an RSA key takes its time, in which nobody shall have to wait for
    /// the ring.
    fn candidate(&self, name: Option<&str>, algorithm: Option<Algorithm>) -> Result<Option<Made>, Error> {
        let (kid, algorithm) = {
            let rotation = &self.kept().rotation;
            if rotation.heir().is_some() {
                return Ok(None);
            }
            if let Some((kid, key)) = name.and_then(|kid| Some((kid, rotation.get(kid)?))) {
                let is_other = algorithm.is_some_and(|algorithm| algorithm.as_str() != key.algorithm());
                return if is_other { Err(Error::Taken(kid.to_owned())) } else { Ok(None) };
            }
            let kid = match name {
                Some(kid) if !is_kid(kid) => return Err(Error::Name(kid.to_owned())),
                Some(kid) => kid.to_owned(),
                None => next_kid(rotation.keys().map(|(kid, _)| kid), rotation.active(), "key"),
            };
            may_add(rotation, &kid)?;
            if let Some(key) = self.key_of_file(&kid)? {
                let is_other = algorithm.is_some_and(|algorithm| algorithm != key.algorithm());
                return if is_other { Err(Error::Taken(kid)) } else { Ok(Some((key, None))) };
            }
            (kid, algorithm.unwrap_or_else(|| self.signer.load().key.algorithm()))
        };
        let (key, pem) = SigningKey::generate(algorithm, &kid).map_err(|error| Error::Key(kid, error))?;
        Ok(Some((key, Some(pem))))
    }

    /// A key that somebody has put into the directory since it was read.
    fn key_of_file(&self, kid: &str) -> Result<Option<SigningKey>, Error> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let path = folder::key_file(folder, kid);
        match private::read_to_string(&path).map(Zeroizing::new) {
            Ok(pem) => SigningKey::from_pem(kid, &pem).map(Some).map_err(|error| Error::Key(kid.to_owned(), error)),
            Err(private::Error::Exposed(exposed)) => Err(Error::Exposed(exposed)),
            Err(private::Error::File(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(private::Error::File(error)) => Err(Error::Unreadable(format!("{}: {error}", path.display()))),
        }
    }

    /// Writes down a new private key.
    fn keep(&self, kid: &str, pem: &str) -> Result<(), Error> {
        let Some(folder) = &self.folder else { return Ok(()) };
        folder::write_key(folder, kid, pem).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::Taken(kid.to_owned()),
            _ => Error::Unwritable { directory: folder.clone(), error },
        })
    }
}

/// Whether a key of this name may be added.
fn may_add(rotation: &Rotation, kid: &str) -> Result<(), Error> {
    if rotation.get(kid).is_some() {
        return Err(Error::Taken(kid.to_owned()));
    }
    if rotation.published().count() >= KeySet::KEYS_MAX {
        return Err(Error::TooMany);
    }
    Ok(())
}

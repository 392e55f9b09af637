//! Our own keys while the process runs: which one signs, which are published, and the way from one to the next.
//!
//! A key is published before it signs, for as long as partners may go on with an older JWK Set, and stays published
//! until the last SET that it signed is settled. The ring knows the rules and keeps the files; when time has passed and
//! what is settled it is told (`transceiver/keys.rs`). It never looks at a queue.

mod error;
mod folder;
mod name;
mod orders;
mod rotation;
#[cfg(test)]
mod simulation;
mod status;
mod tending;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::clock::Wall;
use crate::codes::Code;
use crate::private;
use crate::set::SigningKey;

pub use error::Error;
pub use folder::{ROTATION_FILE, key_files};
pub use name::{is_kid, next_kid};
pub use orders::{Retire, Rotate, Rotated};
pub use rotation::{Decision, Key, Rotation, State, Undecided};
pub use status::{KeyStatus, WaitsFor};
pub use tending::Unmarked;

/// How long a change of the published keys takes to reach every partner, unless the configuration says otherwise: a
/// refresh every ten minutes that may be a tenth late, and five minutes in a cache on the way, are sixteen.
pub const PUBLISH_WAIT: Duration = Duration::from_secs(20 * 60);

/// Our keys. Reading who signs and what is published never waits; changing something blocks, for as long as the disk
/// takes to make it durable.
pub struct KeyRing {
    /// Where the keys are kept; none keeps them in memory alone.
    folder: Option<PathBuf>,
    signer: ArcSwap<Signer>,
    published: ArcSwap<Published>,
    state: Mutex<Kept>,
    fetches: AtomicU64,
    fetched_at: AtomicU64,
    /// Wakes whoever tends the keys.
    changed: Arc<Notify>,
}

/// The key that signs. As long as one of these is held, what is signed with it is not known to be queued yet, and
/// nobody takes the key for unused.
pub struct Signer {
    /// The key.
    pub key: Arc<SigningKey>,
    in_use: Arc<InUse>,
}

/// While it is held, its key stays published, and what is queued until it is dropped counts as signed with that key.
#[derive(Debug)]
pub struct InUse(Arc<Notify>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// What `/jwks.json` shows.
struct Published {
    jwks: Bytes,
    kids: Vec<String>,
}

/// What only changes together.
struct Kept {
    rotation: Rotation,
    /// Those that can sign.
    keys: BTreeMap<String, Arc<SigningKey>>,
    publish_wait: Duration,
    uses: HashMap<String, Usage>,
    /// Fetches of `/jwks.json` before a key was in it.
    fetches_before: HashMap<String, u64>,
    /// How many changes there have been, and with which of them a key's wait began.
    changes: u64,
    waits_since: HashMap<String, u64>,
    /// Time that has passed and is not written down.
    unsaved: Duration,
    /// Writing failed, and has been reported.
    in_trouble: bool,
}

/// Who holds a key that does not sign.
#[derive(Default)]
struct Usage {
    in_use: Weak<InUse>,
    /// Rises with every hold, so that marks which were being taken meanwhile do not count.
    holds: u64,
}

/// Time that a crash may make a key wait anew, in parts of the whole wait.
const SAVED_PARTS: u32 = 20;

impl KeyRing {
    /// Keys that are kept by somebody else. The first one signs, unless `active` names another; all are published.
    pub fn of(keys: Vec<SigningKey>, active: Option<&str>, now: Wall) -> Result<Arc<Self>, Error> {
        let active = active.map(str::to_owned).or_else(|| keys.first().map(|key| key.kid().to_owned()));
        let mut ring = BTreeMap::new();
        for key in keys {
            ring.entry(key.kid().to_owned()).or_insert_with(|| Arc::new(key));
        }
        Self::assemble(None, Rotation::default(), ring, active.as_deref(), PUBLISH_WAIT, now)
    }

    /// The keys of a directory, with what has been so far. `active` is `keys.active`. Goes on with a rotation that a
    /// restart, or a crash at any point of it, has interrupted. Blocks.
    pub fn open(directory: &Path, active: Option<&str>, publish_wait: Duration, now: Wall) -> Result<Arc<Self>, Error> {
        let rotation = Rotation::read(directory).map_err(Error::Unreadable)?;
        let keys = read_keys(directory, &rotation)?;
        Self::assemble(Some(directory.to_owned()), rotation, keys, active, publish_wait, now)
    }

    fn assemble(
        folder: Option<PathBuf>,
        rotation: Rotation,
        keys: BTreeMap<String, Arc<SigningKey>>,
        active: Option<&str>,
        publish_wait: Duration,
        now: Wall,
    ) -> Result<Arc<Self>, Error> {
        let before = rotation.clone();
        let changed = Arc::new(Notify::new());
        let mut kept = Kept {
            rotation,
            keys,
            publish_wait,
            uses: HashMap::new(),
            fetches_before: HashMap::new(),
            changes: 0,
            waits_since: HashMap::new(),
            unsaved: Duration::ZERO,
            in_trouble: false,
        };
        kept.rotation.reconcile(&publics(&kept.keys), active, publish_wait, now)?;
        let signer = kept.signer(&changed)?;
        let ring = Self {
            folder,
            signer: ArcSwap::from_pointee(signer),
            published: ArcSwap::from_pointee(Published::of(&kept.rotation)),
            state: Mutex::new(kept),
            fetches: AtomicU64::new(0),
            fetched_at: AtomicU64::new(0),
            changed,
        };
        {
            let mut kept = ring.kept();
            if kept.rotation != before {
                // A directory that cannot be written must not keep the daemon from starting. As long as there is but one
                // key, nothing is lost.
                let saved = ring.save(&mut kept);
                if let Some(error) = saved.err().filter(|_| kept.rotation.published().count() > 1) {
                    kept.report(&error);
                }
            }
            ring.sweep(&kept);
            tell_stale(&kept.rotation, active);
        }
        Ok(Arc::new(ring))
    }

    /// The key that signs now. Hold it until what it has signed is durably queued, or has failed.
    pub fn signer(&self) -> Arc<Signer> {
        self.signer.load_full()
    }

    /// Our JWK Set.
    pub fn jwks(&self) -> Bytes {
        self.published.load().jwks.clone()
    }

    /// Whether partners can verify what this key has signed.
    pub fn is_published(&self, kid: &str) -> bool {
        self.published.load().kids.iter().any(|published| published == kid)
    }

    /// Somebody has fetched the JWK Set.
    pub fn note_fetch(&self, now: Wall) {
        self.fetched_at.store(now.0, Ordering::Relaxed);
        self.fetches.fetch_add(1, Ordering::Relaxed);
    }

    /// Keeps a key published that has signed something which is to be queued again, until the guard is dropped and all
    /// that was queued by then is settled. None if it is not published any more: partners would refuse it. Blocks.
    pub fn hold(&self, kid: &str) -> Result<Option<Arc<InUse>>, Error> {
        let mut kept = self.kept();
        let mut rotation = kept.rotation.clone();
        match rotation.state_mut(kid) {
            None | Some(State::Retired) => return Ok(None),
            Some(State::Active) => return Ok(Some(Arc::clone(&self.signer.load().in_use))),
            Some(State::Next { may_have_signed, .. }) => *may_have_signed = true,
            Some(state @ State::Retiring { .. }) => *state = State::retiring(),
        }
        let usage = kept.uses.entry(kid.to_owned()).or_default();
        usage.holds += 1;
        let in_use = usage.in_use.upgrade().unwrap_or_else(|| Arc::new(InUse(Arc::clone(&self.changed))));
        usage.in_use = Arc::downgrade(&in_use);
        // Before anything is queued: a crash in between must not forget it.
        self.change(&mut kept, rotation)?;
        Ok(Some(in_use))
    }

    /// How every key fares, the retired ones last.
    pub fn statuses(&self) -> Vec<KeyStatus> {
        let kept = self.kept();
        let fetches = self.fetches.load(Ordering::Relaxed);
        let fetched_at = Wall(self.fetched_at.load(Ordering::Relaxed));
        let mut statuses = KeyStatus::all(&kept.rotation, kept.publish_wait, self.folder.as_deref());
        for status in &mut statuses {
            if let Some(before) = kept.fetches_before.get(&status.kid) {
                let since = fetches.saturating_sub(*before);
                status.fetches = Some(since);
                status.fetched_at = (since > 0).then_some(fetched_at);
            }
        }
        statuses
    }

    /// Carries out a change: durable first, then published, then signed with (so that no SET is ever signed with a key
    /// that is not published, and a crash at any point finds the state of before or after). Nothing changes on an error.
    fn change(&self, kept: &mut Kept, rotation: Rotation) -> Result<(), Error> {
        let before = std::mem::replace(&mut kept.rotation, rotation);
        let signer = kept.signer(&self.changed);
        // Where nothing changes nothing is written: the directory may be one that cannot be written.
        let is_news = kept.rotation != before;
        let saved = signer.and_then(|signer| if is_news { self.save(kept).map(|()| signer) } else { Ok(signer) });
        let signer = match saved {
            Ok(signer) => signer,
            Err(error) => {
                kept.rotation = before;
                // The new file may be in its place, and only that not be certain.
                let _ = self.save(kept);
                return Err(error);
            }
        };
        kept.note_waits(&before);
        let Kept { rotation, keys, fetches_before, .. } = &mut *kept;
        for (kid, _) in rotation.published().filter(|(kid, _)| before.get(kid).is_none()) {
            fetches_before.insert(kid.to_owned(), self.fetches.load(Ordering::Relaxed));
        }
        // Private halves that never sign again leave the memory too.
        keys.retain(|kid, _| !rotation.is_rotated_away(kid));
        self.published.store(Arc::new(Published::of(&kept.rotation)));
        let old = self.signer.load_full();
        if !Arc::ptr_eq(&old.key, &signer.key) {
            let usage = kept.uses.entry(old.key.kid().to_owned()).or_default();
            usage.holds += 1;
            usage.in_use = Arc::downgrade(&old.in_use);
            self.signer.store(Arc::new(signer));
        }
        self.changed.notify_one();
        Ok(())
    }

    fn save(&self, kept: &mut Kept) -> Result<(), Error> {
        if let Some(folder) = &self.folder {
            kept.rotation.save(folder).map_err(|error| Error::Unwritable { directory: folder.clone(), error })?;
        }
        kept.unsaved = Duration::ZERO;
        kept.in_trouble = false;
        Ok(())
    }

    fn save_if_possible(&self, kept: &mut Kept) {
        if let Err(error) = self.save(kept) {
            kept.report(&error);
        }
    }

    /// Removes private files of retired keys: they can never sign again, and a secret that nobody needs is only a risk.
    fn sweep(&self, kept: &Kept) {
        let Some(folder) = &self.folder else { return };
        for (kid, key) in kept.rotation.keys().filter(|(_, key)| key.state == State::Retired) {
            let path = folder::key_file(folder, kid);
            let Ok(pem) = std::fs::read_to_string(&path).map(Zeroizing::new) else { continue };
            let is_it = SigningKey::from_pem(kid, &pem).is_ok_and(|file| file.public_jwk().to_json() == key.jwk);
            if !is_it {
                let file = path.display();
                warn!(code = %Code::KeyNameUsed, kid, %file, "a key of this name was retired: the file is not used, name it otherwise");
            } else if let Err(error) = folder::remove_key(folder, kid) {
                let file = path.display();
                warn!(code = %Code::KeysUnwritable, kid, %file, why = %error, "the private file of a retired key cannot be removed: remove it");
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// The key that signs by the rotation, with a use of its own.
    fn signer(&self, changed: &Arc<Notify>) -> Result<Signer, Error> {
        let kid = self.rotation.active().ok_or(Undecided::NoKey)?;
        let key = self.keys.get(kid).ok_or_else(|| Error::NoSuchKey(kid.to_owned()))?;
        // Somebody may hold it already.
        let held = self.uses.get(kid).and_then(|usage| usage.in_use.upgrade());
        let in_use = held.unwrap_or_else(|| Arc::new(InUse(Arc::clone(changed))));
        Ok(Signer { key: Arc::clone(key), in_use })
    }

    /// Remembers whose wait has begun with this change: time from before it does not count.
    fn note_waits(&mut self, before: &Rotation) {
        self.changes += 1;
        for (kid, key) in self.rotation.keys() {
            let left = key.left(self.publish_wait);
            let went_on = before.get(kid).is_some_and(|old| old.left(self.publish_wait) == left && old.jwk == key.jwk);
            if left.is_some() && !went_on {
                self.waits_since.insert(kid.to_owned(), self.changes);
            }
        }
    }

    /// Says once that the directory cannot be written, until it can.
    fn report(&mut self, error: &Error) {
        if !std::mem::replace(&mut self.in_trouble, true) {
            warn!(code = %Code::KeysUnwritable, why = %error, "the state of the keys cannot be kept; it is tried again");
        }
    }
}

impl Published {
    fn of(rotation: &Rotation) -> Self {
        let keys: Vec<&Value> = rotation.published().map(|(_, key)| &key.jwk).collect();
        let jwks = json!({ "keys": keys }).to_string().into();
        Self { jwks, kids: rotation.published().map(|(kid, _)| kid.to_owned()).collect() }
    }
}

/// The private keys of a directory that are, or may become, of use.
fn read_keys(directory: &Path, rotation: &Rotation) -> Result<BTreeMap<String, Arc<SigningKey>>, Error> {
    let unreadable = |path: &Path, error: private::Error| match error {
        private::Error::Exposed(exposed) => Error::Exposed(exposed),
        private::Error::File(error) => Error::Unreadable(format!("{}: {}", path.display(), private::said(&error))),
    };
    let mut keys = BTreeMap::new();
    for (kid, path) in key_files(directory).map_err(|error| unreadable(directory, error.into()))? {
        if rotation.is_rotated_away(&kid) {
            // Not needed, so that it may be missing or damaged. Another key in its place is one that somebody counts on.
            let pem = private::read_to_string(&path).map(Zeroizing::new);
            let key = pem.ok().and_then(|pem| SigningKey::from_pem(&kid, &pem).ok());
            if key.is_some_and(|key| rotation.is_replaced(&kid, &key.public_jwk().to_json())) {
                return Err(Error::Replaced { kid, file: path });
            }
            continue;
        }
        let pem = Zeroizing::new(private::read_to_string(&path).map_err(|error| unreadable(&path, error))?);
        let key = SigningKey::from_pem(&kid, &pem).map_err(|error| Error::Key(path.display().to_string(), error))?;
        if rotation.is_replaced(&kid, &key.public_jwk().to_json()) {
            return Err(Error::Replaced { kid, file: path });
        }
        keys.insert(kid, Arc::new(key));
    }
    Ok(keys)
}

fn publics(keys: &BTreeMap<String, Arc<SigningKey>>) -> BTreeMap<String, Value> {
    keys.iter().map(|(kid, key)| (kid.clone(), key.public_jwk().to_json())).collect()
}

/// Says that `keys.active` does not mean what somebody may think it does.
fn tell_stale(rotation: &Rotation, configured: Option<&str>) {
    let active = rotation.active();
    let Some(named) = configured.filter(|kid| Some(*kid) != active) else { return };
    if rotation.is_rotated_away(named) {
        info!(
            named,
            signs = active,
            "keys.active names a key that has been rotated away; remove or change it when convenient"
        );
    } else {
        info!(
            named,
            signs = active,
            "keys.active names another key than the one that signs; it is published, and signs when partners could fetch it"
        );
    }
}

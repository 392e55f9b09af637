//! What is asked of the ring by whoever tends it: time passes, queues empty, and keys move on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tracing::info;

use super::{Error, Kept, KeyRing, SAVED_PARTS, State};
use crate::clock::Wall;

/// Short waits are not written down more often than this.
const SAVED_EVERY_MIN: Duration = Duration::from_millis(200);

/// A retiring key of which it is not known yet who needs it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unmarked {
    /// The key.
    pub kid: String,
    holds: u64,
}

impl KeyRing {
    /// Waits until something changed that may need attention.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether any key waits for something.
    pub fn is_waiting(&self) -> bool {
        let kept = self.kept();
        kept.rotation.is_waiting(kept.publish_wait)
    }

    /// How often to look, so that no wait is much longer than it has to be.
    pub fn pace(&self) -> Duration {
        (self.kept().publish_wait / SAVED_PARTS).clamp(Duration::from_millis(20), Duration::from_secs(5))
    }

    /// Where we are in the row of changes: to be asked for before the time is taken that `advance_since` is told of.
    pub fn moment(&self) -> u64 {
        self.kept().changes
    }

    /// So much time has passed in which the keys were served as they are now: whoever is due signs, or goes. Blocks.
    pub fn advance(&self, elapsed: Duration, now: Wall) {
        self.advance_since(self.moment(), elapsed, now);
    }

    /// So much time has passed since that moment; a wait that began later is not credited with it. Blocks.
    pub fn advance_since(&self, moment: u64, elapsed: Duration, now: Wall) {
        let mut kept = self.kept();
        let wait = kept.publish_wait;
        let Kept { rotation, waits_since, .. } = &mut *kept;
        rotation.advance(elapsed, |kid| waits_since.get(kid).is_none_or(|since| *since <= moment));
        kept.unsaved += elapsed;
        let mut rotation = kept.rotation.clone();
        let signs = rotation.due_to_sign(wait).filter(|kid| kept.keys.contains_key(*kid)).map(str::to_owned);
        if let Some(kid) = &signs {
            rotation.switch(kid, now);
        }
        let mut retired = Vec::new();
        while let Some(kid) = rotation.due_to_retire(wait).map(str::to_owned) {
            rotation.set(&kid, State::Retired, now);
            retired.push(kid);
        }
        if signs.is_none() && retired.is_empty() {
            if kept.unsaved >= (wait / SAVED_PARTS).max(SAVED_EVERY_MIN) && kept.rotation.is_counting(wait) {
                self.save_if_possible(&mut kept);
            }
            return;
        }
        // What cannot be written down does not happen: it is tried again at the next look.
        if let Err(error) = self.change(&mut kept, rotation) {
            return kept.report(&error);
        }
        if let Some(kid) = signs {
            info!(kid, "a key signs from now on: partners could fetch it");
        }
        for kid in retired {
            info!(
                kid,
                "a key has retired: no unsettled SET needs it, it is not published any more and its private file is gone"
            );
        }
        self.sweep(&kept);
    }

    /// Retiring keys of which it has to be found out who needs them. Everything that was signed with one of these is
    /// durably queued by now, has failed, or waits in an actor's mailbox.
    pub fn unmarked(&self) -> Vec<Unmarked> {
        let kept = self.kept();
        let keys = kept.rotation.keys().filter(|(_, key)| matches!(key.state, State::Retiring { marks: None, .. }));
        keys.filter_map(|(kid, _)| {
            let usage = kept.uses.get(kid);
            let free = usage.is_none_or(|usage| usage.in_use.strong_count() == 0);
            free.then(|| Unmarked { kid: kid.to_owned(), holds: usage.map_or(0, |usage| usage.holds) })
        })
        .collect()
    }

    /// These peers may have unsettled SETs of these keys, each among those before its `seq`. Blocks.
    pub fn mark(&self, unmarked: &[Unmarked], marks: &BTreeMap<String, u64>) -> Result<(), Error> {
        let mut kept = self.kept();
        let mut rotation = kept.rotation.clone();
        for Unmarked { kid, holds } in unmarked {
            // Somebody has taken the key up again meanwhile: then what was found out may be too little.
            let same = kept.uses.get(kid).map_or(0, |usage| usage.holds) == *holds;
            match rotation.state_mut(kid) {
                Some(State::Retiring { marks: place @ None, .. }) if same => *place = Some(marks.clone()),
                _ => {}
            }
        }
        if rotation == kept.rotation { Ok(()) } else { self.change(&mut kept, rotation) }
    }

    /// The peers that retiring keys wait for.
    pub fn awaited(&self) -> BTreeSet<String> {
        let kept = self.kept();
        let marks = kept.rotation.keys().filter_map(|(_, key)| match &key.state {
            State::Retiring { marks: Some(marks), .. } => Some(marks.keys().cloned()),
            _ => None,
        });
        marks.flatten().collect()
    }

    /// The oldest unsettled SET of these peers has this `seq`, or they have none: keys that wait for earlier ones wait
    /// for that peer no longer. Blocks.
    pub fn settled(&self, oldest: &BTreeMap<String, Option<u64>>) {
        let mut kept = self.kept();
        let mut rotation = kept.rotation.clone();
        let kids: Vec<String> = rotation.keys().map(|(kid, _)| kid.to_owned()).collect();
        for kid in kids {
            if let Some(State::Retiring { marks: Some(marks), .. }) = rotation.state_mut(&kid) {
                marks.retain(|peer, mark| match oldest.get(peer) {
                    Some(oldest) => oldest.is_some_and(|oldest| oldest < *mark),
                    None => true,
                });
            }
        }
        if rotation != kept.rotation
            && let Err(error) = self.change(&mut kept, rotation)
        {
            kept.report(&error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::keyring::Rotate;
    use crate::set::{Algorithm, SigningKey};

    #[test]
    fn time_from_before_a_key_was_published_or_settled_is_not_credited_to_it() {
        let (now, wait) = (Wall(1_795_000_000_000), crate::auth::keyring::PUBLISH_WAIT);
        let key = |kid: &str| SigningKey::generate(Algorithm::EdDsa, kid).unwrap().0;
        let ring = KeyRing::of(vec![key("a")], None, now).unwrap();
        let before = ring.moment();
        ring.rotate(Rotate::Given(key("b")), false, now).unwrap();
        ring.advance_since(before, 2 * wait, now);
        assert_eq!(ring.signer().key.kid(), "a", "the time was before b was published");
        let since = ring.moment();
        ring.advance_since(since, wait, now);
        assert_eq!(ring.signer().key.kid(), "b");
        ring.mark(&ring.unmarked(), &BTreeMap::new()).unwrap();
        ring.advance_since(since, 2 * wait, now);
        assert!(ring.is_published("a"), "the time was before a was known to be settled");
        ring.advance_since(ring.moment(), wait, now);
        assert!(!ring.is_published("a"));
    }
}

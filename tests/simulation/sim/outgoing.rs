//! A slot that tells of every object that was put into it: also of those that the link then never took, which whoever made
//! them cannot know.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use pushpull::engine::Slot;
use pushpull::peer::{Blame, Ending, SlotId, SlotSpec, Transmission};
use pushpull::set::Jti;

use super::event::{Event, Org};
use super::life::Life;
use super::objects;

/// An open slot of a process.
pub struct Outgoing {
    slot: Option<Slot>,
    life: Arc<Life>,
    to: Org,
    link: u64,
    spec: SlotSpec,
    /// It takes an object.
    is_free: bool,
    pub unanswered: Arc<Mutex<Unanswered>>,
}

/// What has left since the partner last answered any of it, as `transport/pushpull/objects.rs` remembers it.
#[derive(Default)]
pub struct Unanswered {
    sets: usize,
    alone: Option<Jti>,
    verdicts: bool,
}

impl Unanswered {
    fn left(&mut self, object: &Transmission) {
        self.alone = match object.sets.as_slice() {
            [] => self.alone.take(),
            [(jti, _)] if self.sets == 0 => Some(jti.clone()),
            _ => None,
        };
        self.sets += object.sets.len();
        self.verdicts |= !object.verdicts.is_empty();
    }
}

/// An object that has to be sent.
pub struct Leaving {
    pub bytes: Bytes,
    pub sets: usize,
    /// Its only SET.
    pub alone: Option<Jti>,
    /// Its `maxResponseEvents`.
    pub asked_for: Option<u64>,
}

impl Outgoing {
    pub fn new(slot: Slot, life: &Arc<Life>, to: Org, link: u64, spec: SlotSpec) -> Self {
        Self { slot: Some(slot), life: Arc::clone(life), to, link, spec, is_free: true, unanswered: Arc::default() }
    }

    pub fn id(&self) -> SlotId {
        self.slot().id()
    }

    /// The next object; none when the actor or the process has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Leaving> {
        self.next_asking(|| None).await
    }

    /// The same, with what `maxResponseEvents` is at the time when it leaves.
    pub async fn next_asking(&mut self, ask: impl FnOnce() -> Option<u64>) -> Option<Leaving> {
        let mut object = self.slot.as_mut()?.next().await?;
        self.is_free = false;
        let asked_for = ask();
        self.unanswered.lock().expect("nobody panics").left(&object);
        let bytes = objects::leaves(&self.life, self.to, self.link, &self.spec, &mut object, asked_for)?;
        let alone = match object.sets.as_slice() {
            [(jti, _)] => Some(jti.clone()),
            _ => None,
        };
        Some(Leaving { bytes, sets: object.sets.len(), alone, asked_for })
    }

    pub async fn ready(&mut self) {
        self.is_free = true;
        self.slot().ready().await;
    }

    pub fn alive(&self) {
        self.heard();
        self.slot().alive();
    }

    /// The partner has answered what left by it.
    pub fn answered(&self) {
        if std::mem::take(&mut *self.unanswered.lock().expect("nobody panics")).sets > 0 {
            self.life.partner(self.to).suspicion.answered();
        }
    }

    /// The partner was reached and said nothing, as `transport/caller.rs` takes it. True if what it carried leaves again in
    /// parts.
    pub fn fail(self, retry_after: Duration, one_link: bool) -> bool {
        let partner = self.life.partner(self.to);
        let Unanswered { sets, alone, verdicts } = std::mem::take(&mut *self.unanswered.lock().expect("nobody panics"));
        let blame = match sets {
            0 => None,
            _ => partner.suspicion.failed(alone.as_ref(), partner.now()),
        };
        let Some(blame) = blame else {
            self.close(Ending::Lost { retry_after });
            return false;
        };
        let blame = match blame {
            Blame::Set if verdicts && !one_link => Blame::Unknown,
            blame => blame,
        };
        self.life.note(&Event::Suspected { org: self.life.org, partner: self.to });
        self.life.world.meet(if blame == Blame::Partner { "all kept failing" } else { "exchanges kept failing" });
        self.close(Ending::Failed { retry_after, blame });
        blame != Blame::Partner
    }

    pub fn close(mut self, ending: Ending) {
        self.finish();
        if !matches!(ending, Ending::Lost { .. } | Ending::Failed { blame: Blame::Unknown | Blame::Partner, .. }) {
            self.heard();
        }
        if let Some(slot) = self.slot.take() {
            slot.close(ending);
        }
    }

    fn heard(&self) {
        self.life.note(&Event::Heard { org: self.life.org, from: self.to });
    }

    fn finish(&mut self) {
        if !self.is_free {
            return;
        }
        let Some(slot) = &mut self.slot else { return };
        let (org, partner) = (self.life.org, self.to);
        self.life.note(&match slot.next().now_or_never().flatten() {
            Some(object) => {
                Event::Stranded { org, partner, sets: object.sets.into_iter().map(|(jti, _)| jti).collect() }
            }
            None => Event::Parted { org, partner },
        });
    }

    fn slot(&self) -> &Slot {
        self.slot.as_ref().expect("it is taken by its end alone")
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.finish();
    }
}

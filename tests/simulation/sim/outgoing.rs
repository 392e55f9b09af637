//! A slot that tells of every object that was put into it: also of those that the link then never took, which whoever made
//! them cannot know.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use pushpull::engine::Slot;
use pushpull::peer::{Ending, SlotId, SlotSpec};

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
}

/// An object that has to be sent.
pub struct Leaving {
    pub bytes: Bytes,
    pub sets: usize,
    /// Its `maxResponseEvents`.
    pub asked_for: Option<u64>,
}

impl Outgoing {
    pub fn new(slot: Slot, life: &Arc<Life>, to: Org, link: u64, spec: SlotSpec) -> Self {
        Self { slot: Some(slot), life: Arc::clone(life), to, link, spec, is_free: true }
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
        let bytes = objects::leaves(&self.life, self.to, self.link, &self.spec, &mut object, asked_for)?;
        Some(Leaving { bytes, sets: object.sets.len(), asked_for })
    }

    pub async fn ready(&mut self) {
        self.is_free = true;
        self.slot().ready().await;
    }

    pub fn alive(&self) {
        self.heard();
        self.slot().alive();
    }

    pub fn close(mut self, ending: Ending) {
        self.finish();
        if !matches!(ending, Ending::Lost { .. }) {
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

//! A slot that tells of every object that was put into it: also of those that the link then never took, for whoever made them
//! cannot know.

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
    /// `maxResponseEvents` of what leaves by it.
    asks_for: Option<u64>,
}

/// An object that has to be sent.
pub struct Leaving {
    pub bytes: Bytes,
    pub sets: usize,
}

impl Outgoing {
    pub fn new(slot: Slot, life: &Arc<Life>, to: Org, link: u64, spec: SlotSpec, asks_for: Option<u64>) -> Self {
        Self { slot: Some(slot), life: Arc::clone(life), to, link, spec, is_free: true, asks_for }
    }

    pub fn id(&self) -> SlotId {
        self.slot().id()
    }

    /// The next object; none when the actor or the process has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Leaving> {
        self.tell_next(true).await
    }

    async fn tell_next(&mut self, taken: bool) -> Option<Leaving> {
        let mut object = self.slot.as_mut()?.next().await?;
        self.is_free = false;
        let bytes = objects::leaves(&self.life, self.to, self.link, &self.spec, &mut object, self.asks_for, taken)?;
        Some(Leaving { bytes, sets: object.sets.len() })
    }

    pub async fn ready(&mut self) {
        self.is_free = true;
        self.slot().ready().await;
    }

    pub fn alive(&self) {
        self.slot().alive();
    }

    pub fn close(mut self, ending: Ending) {
        self.finish();
        if let Some(slot) = self.slot.take() {
            slot.close(ending);
        }
    }

    fn finish(&mut self) {
        if self.slot.is_some() && self.is_free && self.tell_next(false).now_or_never().flatten().is_none() {
            self.life.note(&Event::Parted { org: self.life.org, partner: self.to });
        }
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

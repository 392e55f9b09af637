//! A slot as a transport holds it: the permission to send one Communication Object at a time.

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::actor::Message;
use super::place::Taker;
use crate::peer::{Ending, SlotId, Transmission};

/// An open slot. Dropping it unfinished reports it lost, so an exchange cannot be forgotten: not by an error, not by a
/// cancelled task, not by a panic.
#[derive(Debug)]
pub struct Slot {
    id: SlotId,
    objects: Taker<Transmission>,
    mailbox: mpsc::Sender<Message>,
    /// A place in the mailbox, kept from the beginning, because `drop` cannot wait for one.
    closing: Option<mpsc::OwnedPermit<Message>>,
    /// Its place among those that are open at once.
    _place: OwnedSemaphorePermit,
}

impl Slot {
    pub(super) fn new(
        id: SlotId,
        objects: Taker<Transmission>,
        mailbox: mpsc::Sender<Message>,
        closing: mpsc::OwnedPermit<Message>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self { id, objects, mailbox, closing: Some(closing), _place: place }
    }

    /// Its name in [`crate::engine::Handle::arrived`].
    pub fn id(&self) -> SlotId {
        self.id
    }

    /// The next object to send; `None` when the peer's actor has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Transmission> {
        self.objects.take().await
    }

    /// The last object has left; the next may follow. Waits while the peer's mailbox is full.
    pub async fn ready(&self) {
        // A closed mailbox shows in `next`.
        let _ = self.mailbox.send(Message::SlotReady(self.id)).await;
    }

    /// The partner was heard on this link, if only by a pong. Dropped when the mailbox is full: then there is other news.
    pub fn alive(&self) {
        let _ = self.mailbox.try_send(Message::SlotAlive(self.id));
    }

    /// Ends the slot.
    pub fn close(mut self, ending: Ending) {
        self.finish(ending);
    }

    fn finish(&mut self, ending: Ending) {
        if let Some(permit) = self.closing.take() {
            permit.send(Message::SlotClosed(self.id, ending));
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.finish(Ending::Lost { retry_after: std::time::Duration::ZERO });
    }
}

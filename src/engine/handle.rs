//! How everybody else reaches a peer's actor.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use super::actor::{Arrived, Message};
use super::place::place;
use super::settled::Settled;
use super::slot::Slot;
use crate::clock::Clock;
use crate::peer::{Act, Inspected, Outcome, SlotId, SlotSpec, Stats};
use crate::set::{Jti, SignedSet};

/// Of the mailbox's places, open slots keep one in so many at most.
const SLOTS_SHARE: usize = 4;

/// Why SETs were not accepted for sending. None of the call's SETs was, but for [`SendError::StorageFull`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Too many SETs wait for this peer already.
    #[error("the outbox is full: {max} SETs wait for this peer (delivery.outbox_max)")]
    OutboxFull {
        /// `outbox_max`.
        max: u64,
    },
    /// This jti was submitted before, with other content.
    #[error("jti {0} was submitted before with other content: a jti names one SET for ever")]
    Conflict(Jti),
    /// The disk is full; try again when there is room. They may still be accepted then, all of them.
    #[error("the disk of the store is full")]
    StorageFull,
    /// The process is stopping.
    #[error("shutting down")]
    Stopped,
}

/// The peer's actor has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the conversation with this peer has stopped")]
pub struct Stopped;

/// Reaches one peer's actor. Cheap to clone: every `send` does.
#[derive(Clone)]
pub struct Handle(Arc<Reach>);

struct Reach {
    mailbox: mpsc::Sender<Message>,
    /// The actor's task; none if there never was one.
    task: Option<AbortHandle>,
    slots: AtomicU64,
    /// Bounds the slots that are open at once: each keeps a place of the mailbox, and what is to be taken in needs some too.
    places: Arc<Semaphore>,
    /// Bounds the bytes of arrived objects that wait for the actor, in KiB.
    arrivals: Arc<Semaphore>,
    arrivals_max: u32,
    /// Turns true when the conversation is to end.
    draining: watch::Sender<bool>,
    clock: Arc<dyn Clock>,
}

impl Handle {
    pub(super) fn new(
        mailbox: mpsc::Sender<Message>,
        task: AbortHandle,
        arrivals_bytes_max: usize,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self::of(mailbox, Some(task), arrivals_bytes_max, clock)
    }

    /// Reaches nobody: the peer has retired.
    pub(super) fn ended_already(arrivals_bytes_max: usize, clock: Arc<dyn Clock>) -> Self {
        Self::of(mpsc::channel(1).0, None, arrivals_bytes_max, clock)
    }

    fn of(
        mailbox: mpsc::Sender<Message>,
        task: Option<AbortHandle>,
        arrivals_bytes_max: usize,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let arrivals_max = u32::try_from(arrivals_bytes_max / 1024).unwrap_or(u32::MAX).max(1);
        let places = (mailbox.max_capacity() / SLOTS_SHARE).max(1);
        Self(Arc::new(Reach {
            mailbox,
            task,
            slots: AtomicU64::new(1),
            places: Arc::new(Semaphore::new(places)),
            arrivals: Arc::new(Semaphore::new(arrivals_max as usize)),
            arrivals_max,
            draining: watch::Sender::new(false),
            clock,
        }))
    }

    /// Accepts SETs for sending: all or none. When it returns `Ok` they are durable.
    ///
    /// A SET whose jti was accepted before with the same digest is accepted again without effect. `fresh` says that the
    /// jtis were just made here, which spares the look-up. Waits while the mailbox is full. If the future is dropped
    /// the SETs may or may not have been accepted.
    pub async fn send(&self, sets: Vec<SignedSet>, fresh: bool) -> Result<(), SendError> {
        let (reply, answer) = oneshot::channel();
        self.0.mailbox.send(Message::Send { sets, fresh, reply }).await.map_err(|_| SendError::Stopped)?;
        answer.await.unwrap_or(Err(SendError::Stopped))
    }

    /// Offers a slot. `by` is how long it may wait before it must speak ([`SlotSpec::by`] is set from it). Waits while a quarter
    /// of the mailbox's places are kept for slots that are open, in the order in which it was asked.
    pub async fn open_slot(&self, mut spec: SlotSpec, by: Option<Duration>) -> Result<Slot, Stopped> {
        let open = tokio::select! {
            biased;
            open = Arc::clone(&self.0.places).acquire_owned() => open.map_err(|_| Stopped)?,
            // Those who hold the others may take their time to let them go.
            () = self.0.mailbox.closed() => return Err(Stopped),
        };
        let id = SlotId(self.0.slots.fetch_add(1, Ordering::Relaxed));
        let closing = self.0.mailbox.clone().reserve_owned().await.map_err(|_| Stopped)?;
        let (giver, objects) = place();
        // From here on a cancelled caller drops the slot, which closes it properly.
        let slot = Slot::new(id, objects, self.0.mailbox.clone(), closing, open);
        spec.by = by.map(|by| self.0.clock.now().mono + by);
        self.0.mailbox.send(Message::SlotOpened(Box::new((id, spec, giver)))).await.map_err(|_| Stopped)?;
        Ok(slot)
    }

    /// Room for an arrived object of so many bytes. Waits for it, so that a reader stops reading.
    pub async fn arrival_room(&self, bytes: usize) -> Result<ArrivalRoom, Stopped> {
        let permits = self.arrival_permits(bytes);
        let permit = Arc::clone(&self.0.arrivals).acquire_many_owned(permits).await.map_err(|_| Stopped)?;
        Ok(ArrivalRoom(permit))
    }

    /// The same without waiting; `None` means overload (503).
    pub fn try_arrival_room(&self, bytes: usize) -> Option<ArrivalRoom> {
        let permits = self.arrival_permits(bytes);
        Arc::clone(&self.0.arrivals).try_acquire_many_owned(permits).ok().map(ArrivalRoom)
    }

    /// Brings an inspected object. `slot` is the slot that waits for its answers, or whose link brought it.
    /// `at` is when its last byte had come (monotonic time).
    pub async fn arrived(
        &self,
        slot: Option<SlotId>,
        object: Inspected,
        room: ArrivalRoom,
        at: Duration,
    ) -> Result<(), Stopped> {
        let arrived = Arrived { slot, object, room, at };
        self.0.mailbox.send(Message::Arrived(Box::new(arrived))).await.map_err(|_| Stopped)
    }

    /// Pauses or resumes sending; durable when it returns.
    pub async fn operate(&self, act: Act) -> Result<(), Stopped> {
        let (reply, answer) = oneshot::channel();
        self.0.mailbox.send(Message::Operate(Box::new(act), reply)).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// Figures about the conversation.
    pub async fn stats(&self) -> Result<Stats, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.0.mailbox.send(Message::Stats(reply)).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// Whether the SET with this jti is under way, and its attempts; `None` if it is not in memory.
    pub async fn under_way(&self, jti: Jti) -> Result<Option<(bool, u32)>, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.0.mailbox.send(Message::UnderWay(Box::new(jti), reply)).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// Tells the end of the SET with this jti, which is about to be sent: call it before [`Handle::send`].
    pub async fn watch(&self, jti: Jti) -> Result<oneshot::Receiver<Outcome>, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.0.mailbox.send(Message::Watch(Box::new(jti), reply)).await.map_err(|_| Stopped)?;
        Ok(answer)
    }

    /// Tells the end of every SET from now on, as long as the actor runs. Who falls far behind misses some, and is told so.
    pub async fn follow(&self) -> Result<broadcast::Receiver<Settled>, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.0.mailbox.send(Message::Follow(reply)).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// Stops sending new SETs; the actor ends when it owes nothing any more.
    pub async fn drain(&self) {
        self.0.draining.send_replace(true);
        let _ = self.0.mailbox.send(Message::Drain).await;
    }

    /// Waits until the conversation is to end.
    pub async fn draining(&self) {
        let _ = self.0.draining.subscribe().wait_for(|draining| *draining).await;
    }

    /// Waits until the actor has ended.
    pub async fn ended(&self) {
        self.0.mailbox.closed().await;
    }

    /// Ends the actor where it stands.
    pub(super) fn abort(&self) {
        if let Some(task) = &self.0.task {
            task.abort();
        }
    }

    pub(super) async fn post(&self, message: Message) -> Result<(), Stopped> {
        self.0.mailbox.send(message).await.map_err(|_| Stopped)
    }

    pub(super) fn is_running(&self) -> bool {
        !self.0.mailbox.is_closed()
    }

    fn arrival_permits(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).clamp(1, self.0.arrivals_max)
    }
}

/// Room for one arrived object; given back when the actor has taken it in.
#[derive(Debug)]
pub struct ArrivalRoom(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use crate::clock::SystemClock;
    use crate::engine::{Config, Supervisor};
    use crate::peer::{SlotSpec, Verdicts, WaitsFor};
    use crate::store::{Memory, Registry as _};

    #[tokio::test]
    async fn however_many_slots_are_asked_for_the_mailbox_has_places_for_what_is_to_be_taken_in() {
        let store = Arc::new(Memory::new());
        let id = store.peer_id("globex".to_owned()).await.unwrap();
        let config = Config { mailbox_max: 16, ..Config::default() };
        let supervisor = Supervisor::new(config, store, Arc::new(SystemClock::new()));
        let handle = supervisor.handle(id, &"globex".into(), &AtomicBool::new(false));
        let spec = || SlotSpec {
            sets_max: 1,
            bytes_max: 1_024,
            verdicts: Verdicts::Any,
            waits_for: WaitsFor::Anything,
            by: None,
        };
        let soon = Duration::from_millis(50);
        let mut open = Vec::new();
        for _ in 0..4 {
            open.push(handle.open_slot(spec(), None).await.unwrap());
        }
        // Sixteen more wait; before, they would have taken the rest of the mailbox for their ends.
        let waiting: Vec<_> = (0..16)
            .map(|_| {
                let (handle, spec) = (handle.clone(), spec());
                tokio::spawn(async move { handle.open_slot(spec, None).await.map(drop) })
            })
            .collect();
        assert!(tokio::time::timeout(soon, handle.open_slot(spec(), None)).await.is_err(), "there is no place");
        assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
        let stats = tokio::time::timeout(Duration::from_secs(10), handle.stats()).await;
        assert!(stats.is_ok(), "the mailbox takes in what else comes");
        drop(open);
        for waiting in waiting {
            waiting.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn no_conversation_begins_while_the_others_are_brought_to_their_ends() {
        let store = Arc::new(Memory::new());
        let [one, other] = [store.peer_id("one".to_owned()).await, store.peer_id("other".to_owned()).await];
        let supervisor = Supervisor::new(Config::default(), store, Arc::new(SystemClock::new()));
        let running = supervisor.handle(one.unwrap(), &"one".into(), &AtomicBool::new(false));
        running.stats().await.unwrap();
        assert!(supervisor.drain(Duration::from_secs(10)).await);
        let other = other.unwrap();
        let late = supervisor.handle(other, &"other".into(), &AtomicBool::new(false));
        assert!(late.stats().await.is_err() && supervisor.running(other).is_none());
    }
}

//! The actor's commits: each is tried until it is durable, however long the disk is full.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::{error, info};

use super::actor::{Actor, Message};
use super::handle::SendError;
use crate::codes::Code;
use crate::peer::Write;
use crate::store::{self, Epoch, Journal};

/// How long to wait before a commit that met a full disk is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// So many messages are put off while the disk is full; then others wait in the mailbox.
const PUT_OFF_MAX: usize = 4_096;

impl Actor {
    /// Makes a step durable. A full disk is waited out: nothing of the step has happened until it is over. Callers of `send` are
    /// told at once that it is full; what they handed in may still be accepted.
    pub(super) async fn commit(&mut self, writes: Vec<Write>) -> Result<(), store::Error> {
        if writes.is_empty() {
            return Ok(());
        }
        let writes = Arc::new(writes);
        let mut full = false;
        loop {
            match self.journal.commit(self.id, Epoch(1), Arc::clone(&writes)).await {
                Ok(()) => {
                    if full {
                        info!(peer = %self.name, "the disk has room again, going on");
                    }
                    return Ok(());
                }
                Err(store::Error::Full) => {
                    if !full {
                        error!(peer = %self.name, code = %Code::StorageFull, "the disk is full: nothing is acked or accepted until there is room");
                    }
                    full = true;
                    for caller in self.callers.drain(..) {
                        let _ = caller.send(Err(SendError::StorageFull));
                    }
                    self.wait_for_room().await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn wait_for_room(&mut self) {
        put_off(PAUSE, &mut self.mailbox, &mut self.put_off, &*self.journal).await;
    }
}

/// Waits a moment. What is handed in meanwhile is not taken: its caller shall not wait for as long as the disk is full. All else
/// keeps its place, unless nobody waits for it any more.
pub(super) async fn put_off(
    time: Duration,
    mailbox: &mut mpsc::Receiver<Message>,
    put_off: &mut VecDeque<Message>,
    journal: &dyn Journal,
) {
    if put_off.len() >= PUT_OFF_MAX {
        put_off.retain(|message| !message.is_abandoned());
    }
    let mut pause = pin!(sleep(time));
    while put_off.len() < PUT_OFF_MAX {
        tokio::select! {
            biased;
            () = &mut pause => return,
            message = mailbox.recv() => match message {
                // Of a store that has failed it hears when this ends unanswered.
                Some(Message::Send { .. }) if journal.failed() => {}
                Some(Message::Send { reply, .. }) => {
                    let _ = reply.send(Err(SendError::StorageFull));
                }
                // That a link is alive is news for now alone.
                Some(Message::SlotAlive(_)) => {}
                Some(message) => put_off.push_back(message),
                None => break,
            },
        }
    }
    pause.await;
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use futures_util::FutureExt as _;

    use crate::clock::SystemClock;
    use crate::engine::{Config, Supervisor};
    use crate::set::{Digest, SignedSet};
    use crate::store::{Journal, Memory, Registry};

    fn signed(jti: &str) -> SignedSet {
        let digest = Digest::of(jti.as_bytes());
        SignedSet { jti: jti.into(), compact: "token".into(), digest, label: "other", reissue_of: None }
    }

    /// How many SETs are queued once the first caller, who sends so many, is told that his are.
    async fn queued_with(sets: usize) -> u64 {
        let store = Arc::new(Memory::new());
        let id = store.peer_id("globex".to_owned()).await.unwrap();
        let journal = Arc::clone(&store) as Arc<dyn Journal>;
        let supervisor = Supervisor::new(Config::default(), journal, Arc::new(SystemClock::new()));
        let handle = supervisor.handle(id, &"globex".into(), &AtomicBool::new(false));
        // It has begun, and waits for news.
        handle.stats().await.unwrap();
        let mut first = pin!(handle.send((0..sets).map(|number| signed(&format!("{number}"))).collect(), true));
        assert_eq!(first.as_mut().now_or_never(), None);
        let other = handle.clone();
        let second = tokio::spawn(async move { other.send(vec![signed("late")], true).await });
        first.await.unwrap();
        let queued = store.recover(id).await.unwrap().counts.queued;
        second.await.unwrap().unwrap();
        queued
    }

    #[tokio::test]
    async fn a_large_commit_waits_for_what_others_have_ready_and_a_small_one_does_not() {
        // As tasks: each has its turn in the order in which it was woken.
        let (large, small) = (tokio::spawn(queued_with(64)).await, tokio::spawn(queued_with(63)).await);
        assert_eq!((large.unwrap(), small.unwrap()), (65, 63));
    }
}

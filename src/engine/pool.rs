//! Signatures on all cores, beside the actors: in chunks, signing and verifying in separate bounded queues.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::Semaphore;

/// Runs costly work off the runtime's own threads. One shared queue would let a burst of signing starve verification.
#[derive(Clone, Debug)]
pub struct Pool {
    signing: Arc<Semaphore>,
    verifying: Arc<Semaphore>,
}

/// Which queue a job waits in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Queue {
    /// Making signatures.
    Signing,
    /// Checking signatures.
    Verifying,
}

/// Items in one hand-over to a thread: the hand-over costs some microseconds, an item tens of them.
const CHUNK: usize = 32;

/// So few items are done on the spot.
const INLINE_MAX: usize = 2;

impl Pool {
    /// A pool for this machine: each queue may use every core.
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self { signing: Arc::new(Semaphore::new(cores)), verifying: Arc::new(Semaphore::new(cores)) }
    }

    /// Applies `work` to every item, keeping their order.
    pub async fn map<T, R, F>(&self, queue: Queue, items: Vec<T>, work: F) -> Vec<R>
    where
        T: Send + 'static,
        R: Send + 'static,
        F: Fn(T) -> R + Clone + Send + 'static,
    {
        if items.len() <= INLINE_MAX {
            return items.into_iter().map(work).collect();
        }
        let semaphore = match queue {
            Queue::Signing => &self.signing,
            Queue::Verifying => &self.verifying,
        };
        let total = items.len();
        let mut items = items.into_iter();
        let mut chunks = Vec::with_capacity(total.div_ceil(CHUNK));
        loop {
            let chunk: Vec<T> = items.by_ref().take(CHUNK).collect();
            if chunk.is_empty() {
                break;
            }
            let (semaphore, work) = (Arc::clone(semaphore), work.clone());
            chunks.push(async move {
                // The semaphore is never closed; without a permit the work would merely run unbounded.
                let permit = semaphore.acquire_owned().await;
                let done = tokio::task::spawn_blocking(move || chunk.into_iter().map(work).collect::<Vec<R>>()).await;
                drop(permit);
                match done {
                    Ok(results) => results,
                    Err(join) => std::panic::resume_unwind(join.into_panic()),
                }
            });
        }
        join_all(chunks).await.into_iter().flatten().collect()
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn results_come_in_the_order_of_the_items() {
        for count in [0, 1, 2, 3, 31, 32, 33, 1000] {
            let results = Pool::new().map(Queue::Verifying, (0..count).collect(), |n: u32| n * 2).await;
            assert_eq!(results, (0..count).map(|n| n * 2).collect::<Vec<_>>());
        }
    }
}

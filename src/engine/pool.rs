//! Signatures on all cores, beside the actors: in chunks, each kind of work in a bounded queue of its own.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};
use tokio::sync::Semaphore;

/// Runs costly work off the runtime's own threads. One shared queue would let a burst of signing starve verification.
#[derive(Clone, Debug)]
pub struct Pool {
    signing: Arc<Semaphore>,
    verifying: Arc<Semaphore>,
    reading: Arc<Semaphore>,
    cores: usize,
    inline: bool,
}

/// Which queue a job waits in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Queue {
    /// Making signatures.
    Signing,
    /// Checking signatures.
    Verifying,
    /// Parsing large objects.
    Reading,
}

/// Items in one hand-over to a thread: the hand-over costs some microseconds, an item tens of them.
const CHUNK: usize = 32;

/// So few items are done on the spot.
const INLINE_MAX: usize = 2;

impl Pool {
    /// A pool for this machine: each queue may use every core.
    pub fn new() -> Self {
        Self::of(std::thread::available_parallelism().map_or(2, std::num::NonZero::get))
    }

    /// A pool without threads: everything is done where it is asked for, at once. For runtimes in which nothing may happen
    /// beside what they run themselves, such as a simulation's.
    pub fn inline() -> Self {
        Self { inline: true, ..Self::of(1) }
    }

    fn of(cores: usize) -> Self {
        let [signing, verifying, reading] = std::array::from_fn(|_| Arc::new(Semaphore::new(cores)));
        Self { signing, verifying, reading, cores, inline: false }
    }

    /// Applies `work` to every item, keeping their order.
    pub async fn map<T, R, F>(&self, queue: Queue, items: Vec<T>, work: F) -> Vec<R>
    where
        T: Send + 'static,
        R: Send + 'static,
        F: Fn(T) -> R + Clone + Send + 'static,
    {
        if self.inline || items.len() <= INLINE_MAX {
            return items.into_iter().map(work).collect();
        }
        let mut items = items.into_iter();
        let chunks = std::iter::from_fn(move || {
            let chunk: Vec<T> = items.by_ref().take(CHUNK).collect();
            (!chunk.is_empty()).then_some(chunk)
        });
        let work = chunks.map(|chunk| {
            let work = work.clone();
            self.run(queue, move || chunk.into_iter().map(work).collect::<Vec<R>>())
        });
        // Only so many wait in the queue, else a call with a thousand items would go before all that come after it.
        let done: Vec<Vec<R>> = stream::iter(work).buffered(self.cores + 1).collect().await;
        done.into_iter().flatten().collect()
    }

    /// Does one piece of work, when it is its turn.
    pub async fn run<R, F>(&self, queue: Queue, work: F) -> R
    where
        R: Send + 'static,
        F: FnOnce() -> R + Send + 'static,
    {
        if self.inline {
            return work();
        }
        let semaphore = match queue {
            Queue::Signing => &self.signing,
            Queue::Verifying => &self.verifying,
            Queue::Reading => &self.reading,
        };
        // The semaphore is never closed; without a permit the work would merely run unbounded.
        let permit = Arc::clone(semaphore).acquire_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            // Whoever asked may have gone; the thread is busy all the same.
            let _permit = permit;
            work()
        });
        match done.await {
            Ok(result) => result,
            Err(broken) => match broken.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is going down, and this task with it.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn results_come_in_the_order_of_the_items() {
        for count in [0, 1, 2, 3, 31, 32, 33, 1000] {
            let results = Pool::new().map(Queue::Verifying, (0..count).collect(), |n: u32| n * 2).await;
            assert_eq!(results, (0..count).map(|n| n * 2).collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn a_pool_without_threads_does_everything_on_the_spot() {
        let (pool, here) = (Pool::inline(), std::thread::current().id());
        let on = pool.map(Queue::Verifying, vec![(); 3 * CHUNK], |()| std::thread::current().id()).now_or_never();
        assert_eq!(on, Some(vec![here; 3 * CHUNK]));
        assert_eq!(pool.run(Queue::Reading, || std::thread::current().id()).now_or_never(), Some(here));
    }

    #[tokio::test]
    async fn a_small_call_does_not_wait_for_all_of_a_large_one() {
        let pool = Pool::of(1);
        let done = Arc::new(AtomicUsize::new(0));
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let gate = Arc::new(std::sync::Mutex::new(gate));
        let large = {
            let (pool, done) = (pool.clone(), Arc::clone(&done));
            let work = move |n: usize| {
                if n == 0 {
                    let _ = gate.lock().unwrap().recv();
                }
                done.fetch_add(1, Ordering::SeqCst);
            };
            tokio::spawn(async move { pool.map(Queue::Verifying, (0..20 * CHUNK).collect(), work).await })
        };
        tokio::task::yield_now().await;
        let small = {
            let done = Arc::clone(&done);
            let work = move |_| done.load(Ordering::SeqCst);
            tokio::spawn(async move { pool.map(Queue::Verifying, vec![(); CHUNK], work).await })
        };
        tokio::task::yield_now().await;
        go.send(()).unwrap();
        let before = small.await.unwrap()[0];
        assert!(before <= 3 * CHUNK, "{before} items of the large call went before");
        assert_eq!(large.await.unwrap().len(), 20 * CHUNK);
    }
}

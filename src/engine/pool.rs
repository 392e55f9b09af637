//! Signatures on all cores, beside the actors: in chunks, each kind of work in a bounded queue of its own, in which parties
//! take turns.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::bucket::{Bucket, Rate};
use super::turns::Turns;

/// Runs costly work off the runtime's own threads. One shared queue would let a burst of signing starve verification.
///
/// Its clones are one party; [`Pool::party`] makes another.
#[derive(Clone, Debug)]
pub struct Pool {
    lines: Arc<Lines>,
    party: Arc<Party>,
    cores: usize,
    inline: bool,
}

#[derive(Debug, Default)]
struct Lines {
    signing: Arc<Line>,
    verifying: Arc<Line>,
    reading: Arc<Line>,
    parties: AtomicU64,
}

/// Whoever has work done, in turns with all others.
#[derive(Debug)]
struct Party {
    number: u64,
    since: Instant,
    /// Pays for what is done on the spot, in microseconds.
    on_the_spot: Bucket,
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

/// One queue, and the threads that work it off. A thread that has finished a job takes the next one itself: handed over by the
/// runtime, it would leave the core idle until a worker, which may have much else to do, comes to it.
#[derive(Default)]
struct Line(Mutex<Jobs>);

#[derive(Default)]
struct Jobs {
    waiting: Turns<Job>,
    /// Threads at work.
    threads: usize,
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread, or one that is about to be. It counts until it finds no job, or is dropped without having worked.
struct Hand {
    line: Arc<Line>,
    first: Option<Job>,
    has_left: bool,
}

/// Items in one job: to queue it and to answer costs some microseconds, an item tens of them.
const CHUNK: usize = 32;

/// How long a job goes on when others may wait: a chunk of the usual signatures, few of the most costly ones.
const SLICE: Duration = Duration::from_millis(3);

/// So few items are done on the spot.
const INLINE_MAX: usize = 2;

/// As long as a party keeps the runtime's threads from all others for no more than a quarter of a core in all: it may choose
/// what an item costs, and send as many small calls as it likes.
const INLINE: Rate = Rate { per_second: 250_000, burst: Duration::from_millis(200) };

/// What was spent on the spot beyond that is forgotten after so long.
const INLINE_DEBT_MAX: Duration = Duration::from_secs(1);

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
        Self { lines: Arc::default(), party: Party::new(0), cores, inline: false }
    }

    /// The same threads for another party, whose work takes turns with that of all others.
    pub fn party(&self) -> Self {
        let number = 1 + self.lines.parties.fetch_add(1, Ordering::Relaxed);
        Self { party: Party::new(number), ..self.clone() }
    }

    /// Applies `work` to every item, keeping their order.
    pub async fn map<T, R, F>(&self, queue: Queue, items: Vec<T>, work: F) -> Vec<R>
    where
        T: Send + 'static,
        R: Send + 'static,
        F: Fn(T) -> R + Clone + Send + 'static,
    {
        if self.inline {
            return items.into_iter().map(work).collect();
        }
        if items.len() <= INLINE_MAX
            && let Some(spot) = self.party.spot()
        {
            let done = items.into_iter().map(work).collect();
            self.party.pay(spot);
            return done;
        }
        let mut items = items.into_iter();
        let chunks = std::iter::from_fn(move || {
            let chunk: Vec<T> = items.by_ref().take(CHUNK).collect();
            (!chunk.is_empty()).then_some(chunk)
        });
        let work = chunks.map(|chunk| self.chunk(queue, chunk, work.clone()));
        // Only so many wait in the queue, else a call with a thousand items would hold up the next one of the same party.
        let done: Vec<Vec<R>> = stream::iter(work).buffered(self.cores + 1).collect().await;
        done.into_iter().flatten().collect()
    }

    /// Does a chunk, in as many turns as it takes.
    async fn chunk<T, R, F>(&self, queue: Queue, mut items: Vec<T>, work: F) -> Vec<R>
    where
        T: Send + 'static,
        R: Send + 'static,
        F: Fn(T) -> R + Clone + Send + 'static,
    {
        let mut done = Vec::new();
        while !items.is_empty() {
            let work = work.clone();
            let job = move || {
                let (started, mut left) = (Instant::now(), items.into_iter());
                let mut done = Vec::with_capacity(left.len());
                for item in left.by_ref() {
                    done.push(work(item));
                    if started.elapsed() > SLICE {
                        break;
                    }
                }
                (done, left.collect())
            };
            let (next, left) = self.run(queue, job).await;
            items = left;
            if done.is_empty() {
                done = next;
            } else {
                done.extend(next);
            }
        }
        done
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
        let line = match queue {
            Queue::Signing => &self.lines.signing,
            Queue::Verifying => &self.lines.verifying,
            Queue::Reading => &self.lines.reading,
        };
        let (reply, done) = oneshot::channel();
        line.add(self.party.number, self.cores, move || {
            // Whoever asked may have gone.
            if !reply.is_closed() {
                let _ = reply.send(catch_unwind(AssertUnwindSafe(work)));
            }
        });
        match done.await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => resume_unwind(panic),
            // The runtime is going down, and this task with it.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Party {
    fn new(number: u64) -> Arc<Self> {
        Arc::new(Self { number, since: Instant::now(), on_the_spot: Bucket::default() })
    }

    /// The time now, if something may be done on the spot.
    fn spot(&self) -> Option<Duration> {
        let now = self.since.elapsed();
        self.on_the_spot.has_any(INLINE, now).then_some(now)
    }

    /// Pays for what was done there since then.
    fn pay(&self, began: Duration) {
        let now = self.since.elapsed();
        let micros = usize::try_from((now - began).as_micros()).unwrap_or(usize::MAX);
        self.on_the_spot.charge(micros, INLINE, INLINE_DEBT_MAX, now);
    }
}

impl Line {
    /// Has a job done when it is its party's turn, by one of so many threads.
    fn add(self: &Arc<Self>, party: u64, threads_max: usize, job: impl FnOnce() + Send + 'static) {
        let mut jobs = self.lock();
        if jobs.threads >= threads_max {
            return jobs.waiting.push(party, Box::new(job));
        }
        jobs.threads += 1;
        drop(jobs);
        let hand = Hand { line: Arc::clone(self), first: Some(Box::new(job)), has_left: false };
        tokio::task::spawn_blocking(move || hand.work());
    }

    /// The next job; without one the thread that asks counts no more.
    fn next(&self) -> Option<Job> {
        let mut jobs = self.lock();
        let job = jobs.waiting.pop();
        jobs.threads -= usize::from(job.is_none());
        job
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let jobs = self.lock();
        f.debug_struct("Line").field("waiting", &jobs.waiting.len()).field("threads", &jobs.threads).finish()
    }
}

impl Hand {
    fn work(mut self) {
        let mut job = self.first.take();
        while let Some(work) = job {
            work();
            job = self.line.next();
        }
        self.has_left = true;
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        if self.has_left {
            return;
        }
        // The runtime did not take it, since it is going down: nobody else may come to do what waits.
        let mut jobs = self.line.lock();
        jobs.threads -= 1;
        let left = if jobs.threads == 0 { std::mem::take(&mut jobs.waiting) } else { Turns::default() };
        // What a job owns may ask for another when it goes.
        drop(jobs);
        drop(left);
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

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_more_threads_than_cores_work_on_one_queue_and_each_job_is_done_once() {
        let pool = Pool::of(2);
        let (at_work, most, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let counts = Arc::new((at_work, most, done));
        for round in 1..=50 {
            let jobs = (0..20).map(|_| {
                let counts = Arc::clone(&counts);
                pool.run(Queue::Signing, move || {
                    let (at_work, most, done) = &*counts;
                    most.fetch_max(at_work.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    at_work.fetch_sub(1, Ordering::SeqCst);
                    done.fetch_add(1, Ordering::SeqCst);
                })
            });
            // Also a job that comes just as the last thread leaves is taken up.
            futures_util::future::join_all(jobs).await;
            assert_eq!(counts.2.load(Ordering::SeqCst), round * 20);
        }
        assert!(counts.1.load(Ordering::SeqCst) <= 2);
    }

    #[tokio::test]
    async fn a_panic_is_that_of_whoever_asked_and_the_queue_goes_on() {
        let pool = Pool::of(1);
        let asking = |n: usize| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.run(Queue::Reading, move || assert_ne!(n, 1, "it is one")).await })
        };
        let asked = [0, 1, 2].map(asking);
        for (n, asked) in asked.into_iter().enumerate() {
            let panic = asked.await.err().map(|error| *error.into_panic().downcast::<String>().unwrap());
            assert_eq!(panic.is_some_and(|panic| panic.contains("it is one")), n == 1);
        }
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_done() {
        let pool = Pool::of(1);
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let first = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(Queue::Reading, move || gate.recv().unwrap()).await }
        });
        tokio::task::yield_now().await;
        let done = Arc::new(AtomicUsize::new(0));
        let note = |done: &Arc<AtomicUsize>| {
            let done = Arc::clone(done);
            move || done.fetch_add(1, Ordering::SeqCst)
        };
        let mut left = Box::pin(pool.run(Queue::Reading, note(&done)));
        assert!(left.as_mut().now_or_never().is_none());
        drop(left);
        go.send(()).unwrap();
        first.await.unwrap();
        assert_eq!(pool.run(Queue::Reading, note(&done)).await, 0, "the one before it was done too");
    }

    #[test]
    fn a_pool_outlives_a_runtime_that_did_not_take_its_work() {
        let (pool, runtime) = (Pool::of(1), || tokio::runtime::Builder::new_current_thread().build().unwrap());
        let ended = runtime();
        let handle = ended.handle().clone();
        drop(ended);
        let entered = handle.enter();
        assert!(pool.run(Queue::Reading, || 1).now_or_never().is_none(), "it is never answered");
        drop(entered);
        assert_eq!(runtime().block_on(pool.run(Queue::Reading, || 2)), 2);
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

    /// One that has a job of its own at work, which ends when it is told to.
    async fn busy() -> (Pool, std::sync::mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
        let pool = Pool::of(1);
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let at_work = tokio::spawn({
            let pool = pool.party();
            async move { pool.run(Queue::Verifying, move || gate.recv().unwrap()).await }
        });
        tokio::task::yield_now().await;
        (pool, go, at_work)
    }

    #[tokio::test]
    async fn whoever_queues_a_hundred_jobs_waits_for_whoever_queues_one() {
        let (pool, go, at_work) = busy().await;
        let done = Arc::new(AtomicUsize::new(0));
        let note = |pool: Pool| {
            let done = Arc::clone(&done);
            tokio::spawn(async move { pool.run(Queue::Verifying, move || done.fetch_add(1, Ordering::SeqCst)).await })
        };
        let loud = pool.party();
        let many: Vec<_> = (0..100).map(|_| note(loud.clone())).collect();
        tokio::task::yield_now().await;
        let one = note(pool.party());
        tokio::task::yield_now().await;
        go.send(()).unwrap();
        at_work.await.unwrap();
        assert_eq!(one.await.unwrap(), 1, "jobs before it");
        for job in many {
            job.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_chunk_of_costly_items_lets_others_go_first() {
        let (pool, go, at_work) = busy().await;
        let done = Arc::new(AtomicUsize::new(0));
        let costly = {
            let (pool, done) = (pool.party(), Arc::clone(&done));
            let work = move |n: usize| {
                std::thread::sleep(SLICE + Duration::from_millis(1));
                done.fetch_add(1, Ordering::SeqCst);
                n
            };
            tokio::spawn(async move { pool.map(Queue::Verifying, (0..CHUNK).collect(), work).await })
        };
        tokio::task::yield_now().await;
        let other = {
            let (pool, done) = (pool.party(), Arc::clone(&done));
            tokio::spawn(async move { pool.run(Queue::Verifying, move || done.load(Ordering::SeqCst)).await })
        };
        tokio::task::yield_now().await;
        go.send(()).unwrap();
        at_work.await.unwrap();
        assert_eq!(other.await.unwrap(), 1, "costly items before it");
        assert_eq!(costly.await.unwrap(), (0..CHUNK).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_party_keeps_the_threads_of_others_for_a_part_of_the_time_only() {
        let (greedy, modest) = (Pool::of(1).party(), Pool::of(1).party());
        let here = std::thread::current().id();
        let spin = |_| {
            let until = Instant::now() + Duration::from_millis(5);
            while Instant::now() < until {}
            std::thread::current().id()
        };
        let started = Instant::now();
        let (mut on_the_spot, mut elsewhere) = (Duration::ZERO, 0);
        while elsewhere < 20 {
            let began = Instant::now();
            if greedy.map(Queue::Verifying, vec![()], spin).await == [here] {
                on_the_spot += began.elapsed();
            } else {
                elsewhere += 1;
            }
        }
        // The quarter of a core, what may be spent at once, and the one that goes beyond it.
        let most = started.elapsed() / 4 + INLINE.burst / 4 + Duration::from_millis(50);
        assert!(on_the_spot <= most, "{on_the_spot:?} of {:?}", started.elapsed());
        assert_eq!(modest.map(Queue::Verifying, vec![()], |()| std::thread::current().id()).await, [here]);
        tokio::time::sleep(INLINE_DEBT_MAX + INLINE.burst).await;
        assert_eq!(greedy.map(Queue::Verifying, vec![()], spin).await, [here], "it has its share again");
    }
}

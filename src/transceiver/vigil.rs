//! Looks for all calls that wait for their commits whether anything can be written: by one timer, since there are thousands of
//! such calls a second, and a timer for each costs more than the call's way through the core.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::store::Journal;

/// How often it looks while somebody waits.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Tells those who wait when nothing can be written. While nobody does, nothing runs.
pub(super) struct Vigil(Arc<Shared>);

struct Shared {
    /// Not held: whoever closes a store may open it again at once.
    journal: Weak<dyn Journal>,
    /// Somebody has come to wait since the last look.
    asked: AtomicBool,
    /// A task looks.
    kept: AtomicBool,
    /// That those who wait look themselves.
    look: Notify,
    /// That of the Transceiver: the one of whoever calls may end before it.
    runtime: Handle,
}

impl Vigil {
    /// To be called within a runtime.
    pub(super) fn new(journal: &Arc<dyn Journal>) -> Self {
        Self(Arc::new(Shared {
            journal: Arc::downgrade(journal),
            asked: AtomicBool::new(false),
            kept: AtomicBool::new(false),
            look: Notify::new(),
            runtime: Handle::current(),
        }))
    }

    /// Ends when nothing can be written to the journal that it was made for.
    pub(super) async fn stuck(&self, journal: &dyn Journal) {
        loop {
            // Before looking, or a word in between would be missed.
            let look = self.0.look.notified();
            if !journal.healthy() {
                return;
            }
            self.0.ask();
            look.await;
        }
    }
}

impl Shared {
    fn is_healthy(&self) -> bool {
        self.journal.upgrade().is_some_and(|journal| journal.healthy())
    }

    fn ask(self: &Arc<Self>) {
        // Mostly both are so already: whoever only reads does not take them away from the others.
        if !self.asked.load(Ordering::SeqCst) {
            self.asked.store(true, Ordering::SeqCst);
        }
        self.keep();
    }

    fn keep(self: &Arc<Self>) {
        if !self.kept.load(Ordering::SeqCst) && !self.kept.swap(true, Ordering::SeqCst) {
            let this = Arc::clone(self);
            self.runtime.spawn(async move { this.run().await });
        }
    }

    /// Looks until nobody waits any more.
    async fn run(self: Arc<Self>) {
        let mut quiet = false;
        loop {
            sleep(LOOK_EVERY).await;
            if self.asked.swap(false, Ordering::SeqCst) {
                quiet = false;
                if !self.is_healthy() {
                    self.look.notify_waiters();
                }
            } else if !quiet {
                // Those who came long ago and still wait come again now.
                quiet = true;
                self.look.notify_waiters();
            } else {
                break;
            }
        }
        self.kept.store(false, Ordering::SeqCst);
        // Whoever came just now may have taken this task for one that goes on.
        if self.asked.load(Ordering::SeqCst) {
            self.keep();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use futures_util::future::join_all;
    use tokio::time::{Instant, advance};

    use super::*;
    use crate::transceiver::troubled::Troubled;

    fn vigil() -> (Arc<Troubled>, Arc<dyn Journal>, Vigil) {
        let store = Arc::new(Troubled::default());
        let journal: Arc<dyn Journal> = Arc::clone(&store) as _;
        let vigil = Vigil::new(&journal);
        (store, journal, vigil)
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_hears_of_a_full_disk_soon_however_long_it_has_waited() {
        for waited in [0, 1, 499, 500, 501, 1_400, 1_600, 20_000] {
            let (store, _journal, vigil) = vigil();
            let mut waiting = [(); 3].map(|()| Box::pin(vigil.stuck(&*store)));
            for one in &mut waiting {
                assert!(one.as_mut().now_or_never().is_none());
            }
            let (until, mut rest) = (Instant::now() + Duration::from_millis(waited), join_all(waiting));
            assert!(tokio::time::timeout_at(until, &mut rest).await.is_err(), "everything is well");
            store.full.store(true, Ordering::Relaxed);
            let since = Instant::now();
            rest.await;
            assert!(since.elapsed() <= 2 * LOOK_EVERY, "{:?} after {waited} ms", since.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_runs_when_nobody_waits_any_more_and_whoever_comes_then_is_told_as_well() {
        let (store, _journal, vigil) = vigil();
        for _ in 0..3 {
            assert!(vigil.stuck(&*store).now_or_never().is_none());
            for _ in 0..4 {
                assert!(vigil.0.kept.load(Ordering::SeqCst));
                advance(LOOK_EVERY).await;
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
                if !vigil.0.kept.load(Ordering::SeqCst) {
                    break;
                }
            }
            assert!(!vigil.0.kept.load(Ordering::SeqCst));
        }
        let mut waiting = std::pin::pin!(vigil.stuck(&*store));
        assert!(waiting.as_mut().now_or_never().is_none());
        store.full.store(true, Ordering::Relaxed);
        waiting.await;
        vigil.stuck(&*store).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_whose_runtime_ends_does_not_take_the_watch_along() {
        let (store, _journal, vigil) = vigil();
        let first = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let scope = |store: &Troubled| assert!(first.block_on(async { vigil.stuck(store).now_or_never() }).is_none());
        std::thread::scope(|threads| threads.spawn(|| scope(&store)).join().unwrap());
        std::thread::scope(|threads| threads.spawn(|| drop(first)).join().unwrap());
        let mut waiting = std::pin::pin!(vigil.stuck(&*store));
        assert!(waiting.as_mut().now_or_never().is_none());
        store.full.store(true, Ordering::Relaxed);
        tokio::time::timeout(4 * LOOK_EVERY, waiting).await.unwrap();
    }
}

//! CPU time: of threads, of the process, and by stage of a SET's way, for `pushpull bench`. The stages count nothing until somebody switches it on, since to read the
//! clock of a thread costs as much as the smaller stages do.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

/// CPU time that this thread has used. A call of the system: some tenths of a microsecond.
pub fn thread_cpu() -> Duration {
    cpu(rustix::time::ClockId::ThreadCPUTime)
}

/// CPU time that this process has used, all of its threads.
pub fn process_cpu() -> Duration {
    cpu(rustix::time::ClockId::ProcessCPUTime)
}

fn cpu(clock: rustix::time::ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// A part of the way of a SET.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(usize)]
pub enum Stage {
    /// Checking and completing what an application hands in, and signing it.
    Sign,
    /// Connections: objects written and read, WebSocket or HTTP, TLS, the calls of the system for them.
    Frame,
    /// The store: its transactions and its reads.
    Store,
    /// Checking received SETs, their signatures above all.
    Verify,
    /// Actors and the core: windows, verdicts, what is settled.
    Ack,
    /// Whoever makes the load and reads the inbox.
    Load,
}

impl Stage {
    /// All of them, in the order of a SET's way.
    pub const ALL: [Self; 6] = [Self::Sign, Self::Frame, Self::Store, Self::Verify, Self::Ack, Self::Load];

    /// As it stands in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sign => "sign",
            Self::Frame => "frame",
            Self::Store => "store",
            Self::Verify => "verify",
            Self::Ack => "ack",
            Self::Load => "load",
        }
    }
}

static ON: AtomicBool = AtomicBool::new(false);
static SPENT: [AtomicU64; Stage::ALL.len()] = [const { AtomicU64::new(0) }; Stage::ALL.len()];

thread_local! {
    /// The stage that this thread is in, and the CPU time up to which it has been charged.
    static CURRENT: Cell<Option<(Stage, Duration)>> = const { Cell::new(None) };
}

/// Counts from now on, or no more. What was counted before stays.
pub fn switch(on: bool) {
    ON.store(on, Ordering::Relaxed);
}

/// CPU time spent in each stage since the process started, in the order of [`Stage::ALL`].
pub fn spent() -> [Duration; Stage::ALL.len()] {
    std::array::from_fn(|stage| Duration::from_nanos(SPENT[stage].load(Ordering::Relaxed)))
}

/// Does something whose time is charged to this stage, except for what is charged to a stage within.
pub fn within<R>(stage: Stage, work: impl FnOnce() -> R) -> R {
    if !ON.load(Ordering::Relaxed) {
        return work();
    }
    let _back = Back::enter(stage);
    work()
}

/// The same for what waits in between.
pub fn throughout<F: Future>(stage: Stage, work: F) -> Throughout<F> {
    Throughout { stage, work: Box::pin(work) }
}

/// What [`throughout`] returns. On the heap, since an `async fn` around it would hold the work twice.
#[derive(Debug)]
pub struct Throughout<F> {
    stage: Stage,
    work: Pin<Box<F>>,
}

impl<F: Future> Future for Throughout<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let stage = self.stage;
        within(stage, || self.work.as_mut().poll(context))
    }
}

/// Goes back to the stage around, also when the work panics.
struct Back(Option<Stage>);

impl Back {
    fn enter(stage: Stage) -> Self {
        let now = thread_cpu();
        let around = CURRENT.replace(Some((stage, now)));
        Self(around.map(|(around, since)| charge(around, since, now)))
    }
}

impl Drop for Back {
    fn drop(&mut self) {
        let now = thread_cpu();
        if let Some((stage, since)) = CURRENT.replace(self.0.map(|around| (around, now))) {
            charge(stage, since, now);
        }
    }
}

fn charge(stage: Stage, since: Duration, now: Duration) -> Stage {
    let nanos = u64::try_from(now.saturating_sub(since).as_nanos()).unwrap_or(u64::MAX);
    SPENT[stage as usize].fetch_add(nanos, Ordering::Relaxed);
    stage
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burn(time: Duration) {
        let until = thread_cpu() + time;
        while thread_cpu() < until {}
    }

    #[tokio::test]
    async fn time_is_charged_to_the_innermost_stage_alone_and_only_when_it_is_switched_on() {
        // Others of this process may be counted at the same time, in other stages.
        let of = |stage: Stage| spent()[stage as usize];
        within(Stage::Load, || burn(Duration::from_millis(5)));
        assert_eq!(of(Stage::Load), Duration::ZERO);
        switch(true);
        throughout(Stage::Load, async {
            burn(Duration::from_millis(5));
            within(Stage::Sign, || burn(Duration::from_millis(20)));
            tokio::task::yield_now().await;
            burn(Duration::from_millis(5));
        })
        .await;
        switch(false);
        let load = of(Stage::Load);
        assert!((Duration::from_millis(10)..Duration::from_millis(20)).contains(&load), "{load:?}");
        assert!(of(Stage::Sign) >= Duration::from_millis(20));
    }
}

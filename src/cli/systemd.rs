//! What the service manager is told (systemd's notification protocol): ready, stopping, how it stands, and that
//! the process still turns. Without one nothing is told.

use std::convert::Infallible;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tracing::debug;

use crate::store;
use crate::transceiver::{LinkState, Transceiver};

/// How often the manager is told how the daemon stands, where it does not want to hear more often that it lives.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// Whoever has started us and wants to hear from us.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manager {
    listens: bool,
}

impl Manager {
    /// The one that the environment names (`NOTIFY_SOCKET`), if any.
    pub(super) fn of_process() -> Self {
        Self { listens: std::env::var_os("NOTIFY_SOCKET").is_some() }
    }

    /// It serves.
    pub(super) fn ready(self) {
        self.tell(&[NotifyState::Ready]);
    }

    /// It rereads its configuration; [`Manager::ready`] says that this is over.
    pub(super) fn reloading(self) {
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.tell(&[NotifyState::Reloading, now]);
        }
    }

    /// It has begun to stop, and takes up to `grace`.
    pub(super) fn stopping(self, grace: Duration) {
        let micros = u32::try_from(grace.as_micros()).unwrap_or(u32::MAX);
        self.tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(micros), NotifyState::Status("draining")]);
    }

    /// Tells how the daemon stands, and that it lives, until it is dropped. The watchdog is fed only after the store has
    /// written something: a process whose storage hangs is of no use, and had better be started anew. A full disk is no
    /// such fault, since it heals.
    pub(super) async fn attend(self, transceiver: &Transceiver) -> Infallible {
        if !self.listens {
            return std::future::pending().await;
        }
        let watchdog = sd_notify::watchdog_enabled();
        // A third of the time, of which the store may take another third to answer.
        let every = watchdog.map_or(STATUS_EVERY, |limit| (limit / 3).max(Duration::from_millis(10)));
        let mut ticks = interval_at(Instant::now(), every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if watchdog.is_some() && turns(transceiver.probe(), every).await {
                self.tell(&[NotifyState::Watchdog]);
            }
            if let Ok(standing) = timeout(every / 2, standing(transceiver)).await {
                self.tell(&[NotifyState::Status(&standing)]);
            }
        }
    }

    fn tell(self, news: &[NotifyState<'_>]) {
        if self.listens
            && let Err(error) = sd_notify::notify(news)
        {
            debug!(why = %error, "the service manager does not listen");
        }
    }
}

/// Whether the store has answered in time, be it that it is full.
async fn turns(probe: impl Future<Output = Result<(), store::Error>>, within: Duration) -> bool {
    matches!(timeout(within, probe).await, Ok(Ok(()) | Err(store::Error::Full)))
}

/// One line for `systemctl status`.
async fn standing(transceiver: &Transceiver) -> String {
    let peers = transceiver.peers().await;
    let up = peers.iter().filter(|peer| peer.link == LinkState::Up).count();
    let queued: u64 = peers.iter().map(|peer| peer.queued).sum();
    let disk = if transceiver.ready() { "" } else { "; not ready: draining, or the disk is full" };
    format!("{up} of {} peers up, {queued} SETs queued{disk}", peers.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_starves_when_the_store_hangs_or_fails_but_not_when_the_disk_is_full() {
        let second = Duration::from_secs(1);
        assert!(turns(async { Ok(()) }, second).await);
        assert!(turns(async { Err(store::Error::Full) }, second).await);
        assert!(!turns(async { Err(store::Error::Fatal("gone".to_owned())) }, second).await);
        assert!(!turns(std::future::pending(), second).await);
    }
}

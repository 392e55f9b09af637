//! Removes, in small steps, what is no longer needed.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::Inner;
use crate::clock::{Timestamp, Wall};
use crate::codes::Code;
use crate::engine::Timekeeper;
use crate::store::{Horizon, Keep};

/// How often what is no longer needed is looked for.
const TIDY_EVERY: Duration = Duration::from_secs(5);

/// How long the store does nothing but its work between two steps in which its files become smaller.
const GIVE_BACK_EVERY: Duration = Duration::from_millis(20);

/// How long seen jtis are remembered, at least: older SETs are refused by their `iat`, which may be 30 days ago. A day longer,
/// since a copy may wait from the look at its `iat` to the look at the memory, and a clock go back by what is no jump yet.
pub const MEMORY: Duration = Duration::from_secs(31 * 86_400);

/// For as long as the process runs. Its clock was last believed at that time by one before.
pub(super) async fn tidy(inner: Arc<Inner>, last: Option<Wall>, (settled, bytes_max): (Duration, u64)) {
    let (mut horizon, mut settled_horizon) = (Horizon::new(MEMORY), Horizon::new(settled.min(MEMORY)));
    if let Some(last) = last {
        horizon.resume(inner.clock.now(), last);
        settled_horizon.resume(inner.clock.now(), last);
    }
    let bytes_max = if settled.is_zero() { 0 } else { bytes_max };
    let (mut doubted, mut timekeeper) = (false, Timekeeper::default());
    loop {
        let now = look(&inner, &mut doubted);
        if let Err(error) = timekeeper.keep(now, &*inner.journal).await {
            inner.supervisor.note_failure(&error);
        }
        horizon.pass(now);
        settled_horizon.pass(now);
        rest(&inner).await;
        let makes_room = !inner.journal.healthy();
        let since = settled_horizon.pass(inner.clock.now()).unwrap_or_default();
        loop {
            match inner.journal.forget_settled(Keep { since, bytes_max, makes_room }).await {
                Ok(true) => tokio::task::yield_now().await,
                Ok(false) => break,
                Err(error) => break inner.supervisor.note_failure(&error),
            }
        }
        let Some(before) = horizon.pass(inner.clock.now()) else { continue };
        loop {
            match inner.journal.purge(before).await {
                Ok(true) => tokio::task::yield_now().await,
                Ok(false) => break,
                Err(error) => break inner.supervisor.note_failure(&error),
            }
        }
    }
}

/// Until the next round. What is free in the store's files is given back meanwhile.
async fn rest(inner: &Inner) {
    let end = Instant::now() + TIDY_EVERY;
    while Instant::now() < end {
        match inner.journal.give_back().await {
            Ok(true) => tokio::time::sleep(GIVE_BACK_EVERY).await,
            Ok(false) => break,
            Err(error) => {
                inner.supervisor.note_failure(&error);
                break;
            }
        }
    }
    tokio::time::sleep_until(end).await;
}

/// What time it is. Says when the clock is not believed any more, and when it is again.
fn look(inner: &Inner, doubted: &mut bool) -> Timestamp {
    let now = inner.clock.now();
    let (shown, dated) = (now.shown.to_rfc3339(), now.wall.to_rfc3339());
    match (std::mem::replace(doubted, now.suspect), now.suspect) {
        (false, true) => warn!(
            code = %Code::ClockSuspect, shown, dated,
            "the clock is not believed for ten minutes: nothing is given up, refused for its date or forgotten by it"
        ),
        (true, false) => info!(shown, "the clock is believed again"),
        _ => {}
    }
    now
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::clock::Clock;
    use crate::peer::{OutboxRow, Outcome, Select, Story, Verdict, Write};
    use crate::set::{Algorithm, Digest, Jti, SigningKey};
    use crate::store::{Epoch, Journal as _, Memory, Options, Registry as _, Sqlite};
    use crate::transceiver::Transceiver;

    const START: u64 = 1_700_000_000_000;
    const HOUR: Duration = Duration::from_secs(3_600);
    const DAY: Duration = Duration::from_secs(86_400);

    /// Shows what it is set to.
    struct Set(Mutex<Timestamp>);

    impl Set {
        fn to(&self, mono: Duration, wall: Duration) {
            let wall = Wall(START + wall.as_millis() as u64);
            *self.0.lock().unwrap() = Timestamp { mono, wall, shown: wall, suspect: false };
        }
    }

    impl Clock for Set {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }
    }

    async fn started(clock: &Arc<Set>, store: &Arc<Memory>) -> Transceiver {
        let (key, _) = SigningKey::generate(Algorithm::EdDsa, "k").unwrap();
        let builder = Transceiver::builder("https://us.example").signing_key(key).clock(Arc::clone(clock) as _);
        builder.store(Arc::clone(store) as _).start().await.unwrap()
    }

    /// With a SET that was seen at the beginning of time.
    async fn one_seen() -> (Arc<Set>, Arc<Memory>, Transceiver, Jti) {
        let clock = Arc::new(Set(Mutex::default()));
        clock.to(Duration::ZERO, Duration::ZERO);
        let store = Arc::new(Memory::new());
        let transceiver = started(&clock, &store).await;
        let peer = store.peer_id("them".to_owned()).await.unwrap();
        let (jti, at) = (Jti::from("seen"), Wall(START));
        let answer = Write::Answer { jti: jti.clone(), digest: Digest::default(), verdict: Verdict::Acked, at };
        store.commit(peer, Epoch(1), Arc::new(vec![answer])).await.unwrap();
        (clock, store, transceiver, jti)
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_lately_is_remembered_although_the_clock_was_a_year_ahead_and_believed() {
        let (clock, store, transceiver, jti) = one_seen().await;
        let mut remembered = Vec::new();
        for (mono, wall) in [(1, 1), (2, 366), (3, 3), (29, 29), (32, 32)] {
            clock.to(mono * DAY, wall * DAY);
            tokio::time::sleep(2 * TIDY_EVERY).await;
            remembered.push(!store.history(jti.clone()).await.unwrap().is_empty());
        }
        assert_eq!(remembered, [true, true, true, true, false], "and it is forgotten when its time has come");
        drop(transceiver);
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_before_a_restart_is_remembered_although_the_clock_starts_a_year_ahead_and_is_believed() {
        let (clock, store, transceiver, jti) = one_seen().await;
        tokio::time::sleep(2 * TIDY_EVERY).await;
        transceiver.shutdown(Duration::ZERO).await;
        clock.to(Duration::ZERO, 366 * DAY);
        let transceiver = started(&clock, &store).await;
        let mut remembered = Vec::new();
        for (mono, wall) in [(1, 367), (2, 3), (29, 30), (34, 35)] {
            clock.to(mono * DAY, wall * DAY);
            tokio::time::sleep(2 * TIDY_EVERY).await;
            remembered.push(!store.history(jti.clone()).await.unwrap().is_empty());
        }
        assert_eq!(remembered, [true, true, true, false]);
        drop(transceiver);
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_that_was_just_young_enough_still_meets_the_memory_of_the_first_when_it_had_to_wait() {
        let (clock, store, transceiver, jti) = one_seen().await;
        // Its `iat` was looked at when it was exactly thirty days ago.
        clock.to(30 * DAY + HOUR, 30 * DAY + HOUR);
        tokio::time::sleep(2 * TIDY_EVERY).await;
        assert!(!store.history(jti).await.unwrap().is_empty());
        drop(transceiver);
    }

    #[tokio::test(start_paused = true)]
    async fn the_disk_gets_back_what_a_drained_queue_took() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let store = Arc::new(Sqlite::open(&path, Options { archive: false, ..Options::default() }).unwrap());
        let peer = store.peer_id("them".to_owned()).await.unwrap();
        let compact: Arc<str> = "x".repeat(60_000).into();
        let row = |seq: u64| OutboxRow {
            seq,
            jti: seq.to_string().into(),
            compact: Arc::clone(&compact),
            digest: Digest::default(),
            accepted_at: Wall(START),
            attempts: 0,
            story: Story::default(),
        };
        let settle = |seq: u64| {
            let OutboxRow { jti, digest, accepted_at, story, .. } = row(seq);
            let outcome = Outcome::Acked;
            Write::Settle { seq, jti, digest, accepted_at, outcome, at: Wall(START), attempts: 1, story }
        };
        let commit = |writes| store.commit(peer, Epoch(1), Arc::new(writes));
        for first in (1..=1_000).step_by(100) {
            commit((first..first + 100).map(row).map(Write::Enqueue).collect()).await.unwrap();
        }
        commit((1..=990).map(settle).collect()).await.unwrap();
        let length = || std::fs::metadata(&path).unwrap().len() >> 20;
        let (key, _) = SigningKey::generate(Algorithm::EdDsa, "k").unwrap();
        let builder = Transceiver::builder("https://us.example").signing_key(key);
        let transceiver = builder.store(Arc::clone(&store) as _).start().await.unwrap();
        let mut waited = 0;
        loop {
            // The file is cut when the log is moved into it.
            commit(vec![Write::Paused(waited % 2 == 0)]).await.unwrap();
            tokio::time::sleep(TIDY_EVERY).await;
            waited += 1;
            if waited > 1 && length() < 40 {
                break;
            }
            assert!(waited < 200, "{} MiB", length());
        }
        let page = store.read_outbox(peer, Select::Seqs((991..=1_000).collect())).await.unwrap();
        assert_eq!((page.rows.len(), page.damaged), (10, vec![]));
        assert!(page.rows.iter().all(|row| row.compact == compact));
        transceiver.shutdown(Duration::ZERO).await;
    }
}

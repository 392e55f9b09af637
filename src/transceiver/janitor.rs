//! Removes, in small steps, what is no longer needed.

use std::sync::Arc;
use std::time::Duration;

use super::Inner;
use crate::store::Horizon;

/// How often what is no longer needed is looked for.
const TIDY_EVERY: Duration = Duration::from_secs(5);

/// How long seen jtis are remembered, at least (30 days): older SETs are refused by their `iat`.
const MEMORY: Duration = Duration::from_secs(30 * 86_400);

/// For as long as the process runs.
pub(super) async fn tidy(inner: Arc<Inner>) {
    let mut horizon = Horizon::new(MEMORY);
    horizon.pass(inner.clock.now());
    loop {
        tokio::time::sleep(TIDY_EVERY).await;
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::clock::{Clock, Timestamp, Wall};
    use crate::peer::{Verdict, Write};
    use crate::set::{Algorithm, Digest, Jti, SigningKey};
    use crate::store::{Epoch, Journal as _, Memory, Registry as _};
    use crate::transceiver::Transceiver;

    const START: u64 = 1_700_000_000_000;
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

    #[tokio::test(start_paused = true)]
    async fn what_came_lately_is_remembered_although_the_clock_was_a_year_ahead_and_believed() {
        let clock = Arc::new(Set(Mutex::default()));
        clock.to(Duration::ZERO, Duration::ZERO);
        let store = Arc::new(Memory::new());
        let (key, _) = SigningKey::generate(Algorithm::EdDsa, "k").unwrap();
        let builder = Transceiver::builder("https://us.example").signing_key(key).clock(Arc::clone(&clock) as _);
        let transceiver = builder.store(Arc::clone(&store) as _).start().await.unwrap();
        let peer = store.peer_id("them".to_owned()).await.unwrap();
        let jti = Jti::from("seen");
        let at = Wall(START);
        let answer = Write::Answer { jti: jti.clone(), digest: Digest::default(), verdict: Verdict::Acked, at };
        store.commit(peer, Epoch(1), Arc::new(vec![answer])).await.unwrap();
        let mut remembered = Vec::new();
        for (mono, wall) in [(1, 1), (2, 366), (3, 3), (29, 29), (31, 31)] {
            clock.to(mono * DAY, wall * DAY);
            tokio::time::sleep(2 * TIDY_EVERY).await;
            remembered.push(!store.history(jti.clone()).await.unwrap().is_empty());
        }
        assert_eq!(remembered, [true, true, true, true, false], "and it is forgotten when its time has come");
        drop(transceiver);
    }
}

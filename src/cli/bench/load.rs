//! The load: callers of `send`, and the consumer that reads and confirms the inbox.

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::flights::{self, Flights};
use super::flood;
use super::plan::Pace;
use crate::cli::Error;
use crate::clock::Wall;
use crate::cpu::{self, Stage};
use crate::set::{Defaults, Draft, complete};
use crate::transceiver::{Event, Received, Transceiver};

/// The name of the consumer.
const CONSUMER: &str = "bench";

/// SETs that the consumer reads at a time.
const READ_MAX: usize = 1000;

/// What is sent, by whom, to whom.
pub(super) struct Load {
    pub(super) transceiver: Transceiver,
    /// Its partners' names.
    pub(super) peers: Vec<String>,
    pub(super) draft: Arc<Draft>,
    /// Signed beforehand, if SETs are only relayed.
    pub(super) stock: Option<Mutex<VecDeque<String>>>,
    pub(super) used_up: AtomicBool,
    pub(super) flights: Flights,
    pub(super) received: AtomicU64,
    turn: AtomicUsize,
    /// Places for SETs that wait for their ack; callers pause when there is none, and end when it is closed. A new one for each
    /// run.
    room: Mutex<Arc<Semaphore>>,
    /// What went wrong first.
    pub(super) fault: Mutex<Option<String>>,
}

impl Load {
    pub(super) fn new(
        transceiver: Transceiver,
        peers: Vec<String>,
        draft: Arc<Draft>,
        folder: &Path,
    ) -> Result<Self, Error> {
        Ok(Self {
            transceiver,
            peers,
            draft,
            stock: None,
            used_up: AtomicBool::new(false),
            flights: Flights::new(folder)?,
            received: AtomicU64::new(0),
            turn: AtomicUsize::new(0),
            room: Mutex::new(Arc::new(Semaphore::new(0))),
            fault: Mutex::default(),
        })
    }

    /// Sends until `stop`, at this pace.
    pub(super) async fn run(
        self: Arc<Self>,
        pace: Pace,
        callers: usize,
        unsettled: usize,
        stop: watch::Receiver<bool>,
    ) {
        match pace {
            Pace::Silent => {}
            Pace::Max => self.callers(callers, unsettled, stop).await,
            Pace::One => self.callers(1, 1, stop).await,
            Pace::Fixed(rate) => self.ticking(rate, stop).await,
        }
    }

    /// Closed loop: each caller goes on when its SET is durable and there is room for another one under way.
    async fn callers(self: Arc<Self>, callers: usize, unsettled: usize, mut stop: watch::Receiver<bool>) {
        let room = Arc::new(Semaphore::new(unsettled));
        *lock(&self.room) = Arc::clone(&room);
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let (load, room) = (Arc::clone(&self), Arc::clone(&room));
            tasks.spawn(cpu::throughout(Stage::Load, async move {
                while let Ok(place) = room.acquire().await {
                    place.forget();
                    if !load.one(Instant::now()).await {
                        return;
                    }
                }
            }));
        }
        let _ = stop.wait_for(|stop| *stop).await;
        room.close();
        while tasks.join_next().await.is_some() {}
    }

    /// Open loop: each SET is due at its time, whatever became of those before it.
    async fn ticking(self: Arc<Self>, rate: f64, mut stop: watch::Receiver<bool>) {
        if rate <= 0.0 {
            let _ = stop.wait_for(|stop| *stop).await;
            return;
        }
        let started = Instant::now();
        let mut tasks = JoinSet::new();
        let mut number = 0_u64;
        while !*stop.borrow() {
            let due = started + Duration::from_secs_f64(number as f64 / rate);
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
            let now = Instant::now();
            // The timer's own grain is a millisecond: whatever has become due since leaves at once.
            while started + Duration::from_secs_f64(number as f64 / rate) <= now {
                let due = started + Duration::from_secs_f64(number as f64 / rate);
                let load = Arc::clone(&self);
                tasks.spawn(cpu::throughout(Stage::Load, async move { load.one(due).await }));
                number += 1;
            }
            while tasks.try_join_next().is_some() {}
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Sends one; false when there is nothing more to send.
    async fn one(&self, begun: Instant) -> bool {
        let event = match &self.stock {
            None => Event::Shared(Arc::clone(&self.draft)),
            Some(stock) => match lock(stock).pop_front() {
                Some(set) => Event::Signed(set),
                None => {
                    self.used_up.store(true, Ordering::Relaxed);
                    return false;
                }
            },
        };
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.peers.len();
        match self.transceiver.send(&self.peers[turn], event).await {
            Ok(jti) => self.note(self.flights.accepted(&jti, begun)),
            Err(error) => {
                self.fail(error.to_string());
                false
            }
        }
    }

    /// Notes how SETs for this peer end. `timed`: none of them was queued before the load began.
    pub(super) async fn follow(self: Arc<Self>, peer: usize, timed: bool) {
        let mut settlements = match self.transceiver.settlements(&self.peers[peer]).await {
            Ok(settlements) => settlements,
            Err(fault) => return self.fail(fault.to_string()),
        };
        loop {
            match settlements.next().await {
                Ok(settled) => {
                    if !self.note(self.flights.settled(&settled, Instant::now(), timed)) {
                        return;
                    }
                    lock(&self.room).add_permits(settled.len());
                }
                Err(crate::transceiver::Unfollowed::Stopped) => return,
                Err(missed) => return self.fail(missed.to_string()),
            }
        }
    }

    /// Reads and confirms the inbox, and writes down every jti.
    pub(super) async fn consume(self: Arc<Self>, folder: std::path::PathBuf) {
        let mut list = match flights::list(&folder.join("received.jtis")) {
            Ok(list) => list,
            Err(error) => return self.fail(error.to_string()),
        };
        let mut inbox = self.transceiver.inbox(CONSUMER);
        let mut after = None;
        loop {
            let batch = match inbox.read(after, READ_MAX, Duration::from_millis(200)).await {
                Ok(batch) => batch,
                Err(error) => return self.fail(error.to_string()),
            };
            let Some(last) = batch.last() else {
                if !self.note(list.flush()) {
                    return;
                }
                continue;
            };
            after = Some(last.seq);
            // What floods is in nobody's accounts.
            let counts = |received: &&Received| !received.redelivered && &*received.peer != flood::NAME;
            // What comes again after a restart was counted before it.
            for received in batch.iter().filter(counts) {
                if !self.note(list.write_all(&flights::key(&received.jti).to_le_bytes())) {
                    return;
                }
            }
            self.received.fetch_add(batch.iter().filter(counts).count() as u64, Ordering::Relaxed);
            if let Err(error) = last.confirm().await {
                return self.fail(error.to_string());
            }
        }
    }

    fn note(&self, written: std::io::Result<()>) -> bool {
        written.map_err(|error| self.fail(format!("the list of jtis: {error}"))).is_ok()
    }

    fn fail(&self, why: String) {
        lock(&self.fault).get_or_insert(why);
    }

    /// What went wrong first, if anything did.
    pub(super) fn check(&self) -> Result<(), String> {
        lock(&self.fault).clone().map_or(Ok(()), Err)
    }
}

/// A session that changed, for a reason that is as long as it takes for `bytes` of claims.
pub(super) fn draft(bytes: usize) -> Result<Draft, Error> {
    let of = |filling: usize| Draft {
        event_type: "caep:session-revoked".to_owned(),
        sub_id: json!({
            "format": "complex",
            "user": {"format": "iss_sub", "iss": "https://idp.example/", "sub": "jane.smith@example.com"},
            "session": {"format": "opaque", "id": "dMTlD-9f2c-41d5-8bb4"},
        }),
        event: Map::from_iter([
            ("event_timestamp".to_owned(), json!(1_764_417_600_000_u64)),
            ("initiating_entity".to_owned(), json!("policy")),
            ("reason_admin".to_owned(), json!({ "en": "x".repeat(filling) })),
        ]),
        ..Draft::default()
    };
    let defaults = Defaults {
        issuer: "https://alpha.example",
        audience: "https://beta.example",
        now: Wall(1_764_417_600_000),
        jti_bytes_max: 64,
    };
    let claims = of(0).into_claims().and_then(|claims| complete(claims, defaults));
    let (_, claims) = claims.map_err(|error| Error::failed(error.to_string()))?;
    Ok(of(bytes.saturating_sub(Value::Object(claims).to_string().len())))
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_as_long_as_it_was_asked_for() {
        let defaults = Defaults {
            issuer: "https://alpha.example",
            audience: "https://beta.example",
            now: Wall(1_764_417_600_000),
            jti_bytes_max: 64,
        };
        for bytes in [668, 5000] {
            let (_, claims) = complete(draft(bytes).unwrap().into_claims().unwrap(), defaults).unwrap();
            assert_eq!(Value::Object(claims).to_string().len(), bytes);
        }
    }
}

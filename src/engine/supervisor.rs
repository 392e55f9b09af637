//! Starts a peer's actor when it is first needed, and ends all of them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dashmap::{DashMap, Entry};
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::sync::{mpsc, watch};
use tracing::{debug, error};

use super::actor::{Actor, Message, Restraints};
use super::commit::put_off;
use super::counting::Counting;
use super::handle::Handle;
use super::inbox::Inbox;
use super::recent::Recent;
use super::settled::Followers;
use crate::clock::Clock;
use crate::codes::Code;
use crate::cpu::{self, Stage};
use crate::metrics::Metrics;
use crate::peer::{self, Peer, PeerId, Saved};
use crate::store::{self, Handed, Journal};

/// How long an actor that cannot begin, since the disk is full, waits before it tries again. Not as long as one with a commit
/// that waits: what is asked of the store together fails together, and to begin takes no room by itself.
const PAUSE: Duration = Duration::from_millis(300);

/// Limits of the engine.
#[derive(Clone, Debug)]
pub struct Config {
    /// The core's configuration, one for all peers.
    pub peer: Arc<peer::Config>,
    /// Received SETs kept and not yet confirmed by every consumer (`limits.inbox_max`).
    pub inbox_max: u64,
    /// Messages that wait for one actor.
    pub mailbox_max: usize,
    /// Bytes of arrived objects that wait for one actor.
    pub arrivals_bytes_max: usize,
    /// Where is counted what happens.
    pub metrics: Metrics,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            peer: Arc::new(peer::Config::default()),
            inbox_max: 10_000_000,
            mailbox_max: 1024,
            arrivals_bytes_max: 16 << 20,
            metrics: Metrics::default(),
        }
    }
}

/// All live actors. 10,000 configured peers cost little: only those with something to do have one.
pub struct Supervisor {
    config: Config,
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    actors: DashMap<PeerId, Handle>,
    /// What happened last with each peer.
    recent: DashMap<PeerId, Arc<Recent>>,
    /// Draining: an actor that has ended is not started again.
    draining: AtomicBool,
    /// Set once, when the store has failed: the process must end.
    failure: watch::Sender<Option<String>>,
}

impl Supervisor {
    /// A supervisor without actors.
    pub fn new(config: Config, journal: Arc<dyn Journal>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let failure = watch::Sender::new(None);
        Arc::new(Self {
            config,
            journal,
            clock,
            actors: DashMap::new(),
            recent: DashMap::new(),
            draining: AtomicBool::new(false),
            failure,
        })
    }

    /// The handle of this peer's actor, which is started if it is not running, unless the peer has retired. `name` is for
    /// logs. Never waits.
    pub fn handle(self: &Arc<Self>, id: PeerId, name: &Arc<str>, retired: &AtomicBool) -> Handle {
        // The guard lives in this function alone, which does not wait.
        let entry = self.actors.entry(id);
        // While the others are drained none begins: nobody would wait for its end.
        let is_late = self.draining.load(Ordering::SeqCst) && matches!(entry, Entry::Vacant(_));
        if is_late || retired.load(Ordering::SeqCst) {
            return Handle::ended_already(self.config.arrivals_bytes_max, Arc::clone(&self.clock));
        }
        let mut entry = entry.or_insert_with(|| self.start(id, name));
        if !entry.is_running() && !self.draining.load(Ordering::SeqCst) && self.failure.borrow().is_none() {
            *entry = self.start(id, name);
        }
        entry.clone()
    }

    /// The handle of this peer's actor, if it is running.
    pub fn running(&self, id: PeerId) -> Option<Handle> {
        self.actors.get(&id).map(|entry| entry.clone()).filter(Handle::is_running)
    }

    /// Ends this peer's actor, in order as far as it can be done in this time: no new SETs leave, owed verdicts still do.
    /// None is started for this partner any more; when this returns, another one of the same peer may have its own.
    pub async fn retire(&self, id: PeerId, retired: &AtomicBool, within: Duration) {
        // Under the guard, so that whoever starts an actor at the same time has done so before, or finds the flag.
        let running = match self.actors.entry(id) {
            Entry::Occupied(entry) => {
                retired.store(true, Ordering::SeqCst);
                Some(entry.get().clone())
            }
            Entry::Vacant(_) => {
                retired.store(true, Ordering::SeqCst);
                None
            }
        };
        let Some(handle) = running else { return };
        let ending = async {
            handle.drain().await;
            handle.ended().await;
        };
        if tokio::time::timeout(within, ending).await.is_err() {
            // A commit that was begun takes effect or not, as after a crash; nothing else is lost.
            handle.abort();
            handle.ended().await;
        }
        self.actors.remove_if(&id, |_, handle| !handle.is_running());
    }

    /// What happened last with this peer.
    pub fn recent(&self, id: PeerId) -> Arc<Recent> {
        Arc::clone(&self.recent.entry(id).or_default())
    }

    /// Where is counted what happens.
    pub fn metrics(&self) -> &Metrics {
        &self.config.metrics
    }

    /// The store.
    pub fn journal(&self) -> &Arc<dyn Journal> {
        &self.journal
    }

    /// Received SETs find no room.
    pub fn inbox_is_full(&self) -> bool {
        self.journal.inbox_len() >= self.config.inbox_max
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The inbox as this consumer sees it.
    pub fn inbox(&self, consumer: &str) -> Inbox {
        Inbox::new(Arc::clone(&self.journal), consumer.to_owned())
    }

    /// Up to `rows_max` received SETs behind `after`, waiting up to `wait` for the first; it changes nothing.
    pub async fn peek(&self, after: Option<u64>, rows_max: usize, wait: Duration) -> Result<Vec<Handed>, store::Error> {
        super::inbox::peek(&*self.journal, after, rows_max, wait).await
    }

    /// Waits until the store has failed, and says why. The process must end then: recovery is the only way on.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.subscribe();
        let why = failure.wait_for(Option::is_some).await.map(|failure| failure.clone());
        match why {
            Ok(why) => why.unwrap_or_default(),
            // The sender lives in `self`.
            Err(_) => std::future::pending().await,
        }
    }

    /// Looks at an error of the store: one that it cannot recover from ends everything ([`Supervisor::failed`]).
    pub fn note_failure(&self, error: &store::Error) {
        if !matches!(error, store::Error::Fatal(_)) {
            return;
        }
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            if first {
                error!(code = %Code::StorageFailed, why = %error, "the store has failed, stopping to protect the data");
                *failure = Some(error.to_string());
            }
            first
        });
    }

    /// No new SETs leave, owed verdicts still do; returns when every actor has ended, or after `grace`. What is not
    /// settled stays queued. False if the time was not enough.
    pub async fn drain(&self, grace: Duration) -> bool {
        self.draining.store(true, Ordering::SeqCst);
        let mut handles: Vec<(PeerId, Handle)> =
            self.actors.iter().map(|entry| (*entry.key(), entry.clone())).collect();
        // The map has another order in every process.
        handles.sort_by_key(|(id, _)| id.0);
        let ended = join_all(handles.iter().map(|(_, handle)| async move {
            handle.drain().await;
            handle.ended().await;
        }));
        tokio::time::timeout(grace, ended).await.is_ok()
    }

    fn start(self: &Arc<Self>, id: PeerId, name: &Arc<str>) -> Handle {
        let (sender, mailbox) = mpsc::channel(self.config.mailbox_max);
        let (this, name) = (Arc::clone(self), Arc::clone(name));
        let task = tokio::spawn(async move {
            let run = cpu::throughout(Stage::Ack, this.run(id, Arc::clone(&name), mailbox));
            let running = AssertUnwindSafe(run).catch_unwind();
            match running.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    error!(peer = %name, code = %Code::Unavailable, why = %error, "the conversation has ended; it goes on when it is next needed");
                    this.note_failure(&error);
                }
                // The panic itself is on stderr. What was not durable has had no effect.
                Err(_) => {
                    error!(peer = %name, code = %Code::InternalFault, "the conversation has ended by a fault of this program (panic); it goes on from the store when it is next needed")
                }
            }
        });
        Handle::new(sender, task.abort_handle(), self.config.arrivals_bytes_max, Arc::clone(&self.clock))
    }

    async fn run(&self, id: PeerId, name: Arc<str>, mut mailbox: mpsc::Receiver<Message>) -> Result<(), store::Error> {
        let mut put_off = VecDeque::new();
        let saved = self.recover(id, &mut mailbox, &mut put_off).await?;
        debug!(peer = %name, queued = saved.counts.queued, paused = saved.paused, "conversation opened");
        let seed = u64::from(id.0) ^ self.clock.now().wall.0;
        let counting = Counting::new(self.config.metrics.peer(&name), self.recent(id));
        let actor = Box::new(Actor {
            id,
            name,
            peer: Peer::recover(Arc::clone(&self.config.peer), &saved, seed),
            journal: Arc::clone(&self.journal),
            clock: Arc::clone(&self.clock),
            mailbox,
            inbox_max: self.config.inbox_max,
            outbox_max: self.config.peer.outbox_max,
            slots: BTreeMap::new(),
            watchers: HashMap::new(),
            followers: Followers::default(),
            accepting: HashMap::new(),
            put_off,
            callers: Vec::new(),
            operators: Vec::new(),
            redriving: VecDeque::new(),
            reading: None,
            wake: Some(Duration::ZERO),
            now: self.clock.now(),
            restraints: Restraints::default(),
            counting,
        });
        actor.run().await
    }

    /// What is kept of this peer. Where the disk is full it may have to be asked for again: an actor that ended would not be
    /// there when it has room again, and nothing that waits for a partner who never comes would grow old.
    async fn recover(
        &self,
        id: PeerId,
        mailbox: &mut mpsc::Receiver<Message>,
        waiting: &mut VecDeque<Message>,
    ) -> Result<Saved, store::Error> {
        loop {
            match self.journal.recover(id).await {
                Err(store::Error::Full) => put_off(PAUSE, mailbox, waiting, &*self.journal).await,
                done => return done,
            }
        }
    }
}

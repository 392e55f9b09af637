//! The library's front door: a Transceiver with its peers, its inbox and its end. Puts the floors below together.

mod advice;
mod backlog;
mod builder;
mod change;
mod dead_letters;
mod event;
mod janitor;
mod keys;
mod peers;
mod received;
mod redrive;
mod redrive_fault;
mod replay;
mod scrape;
mod settlements;
mod single;
mod status;
mod submit;
#[cfg(test)]
mod troubled;
mod window;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use crate::transport::Method;
pub use advice::{Advice, named, named_by_reason};
pub use backlog::Backlog;
pub use builder::{Builder, DialConfig, KeySource, PeerConfig};
pub use change::{ChangeError, Changed, Changes, Closed, OwnKeys, Removed};
pub use dead_letters::{Cursor, DeadLetter, DeadLetters, Group, Hindrance, Sieve};
pub use event::Event;
#[doc(hidden)]
pub use janitor::MEMORY;
pub use peers::{Verified, VerifyError};
pub use received::{Inbox, Received};
pub use redrive::{Bulk, Remedy};
pub use redrive_fault::RedriveFault;
pub use replay::{Progress, Replay, Replayed};
pub use settlements::{Settlements, Unfollowed};
pub use status::{EventRecord, KeysStatus, LinkState, Moment, PeerStatus, State};
pub use submit::{Submission, SubmitError, SubmitFault};
pub use window::{Wanted, Window};

use crate::auth::{KeyRing, keyring};
use crate::clock::{Clock, Timestamp};
use crate::engine::{self, Pool, Supervisor};
use crate::metrics::Metrics;
use crate::peer::PeerId;
use crate::set::Jti;
use crate::store::{self, Journal, Registry};
use crate::transport::server::Server;
use crate::transport::{App, Directory, pushpull, router};
use crate::wire::net::Dialer;
use peers::Entry;

/// Our organisation's end of all its federations: sender and receiver in one.
///
/// Cheap to clone; all clones are the same Transceiver. It keeps running until [`Transceiver::shutdown`].
#[derive(Clone)]
pub struct Transceiver(Arc<Inner>);

/// Why a Transceiver cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The builder was not given what it needs.
    #[error("a transceiver needs {0}")]
    Missing(&'static str),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Our own keys cannot be used.
    #[error(transparent)]
    Keys(#[from] keyring::Error),
}

struct Inner {
    issuer: String,
    audience: String,
    keys: Arc<KeyRing>,
    journal: Arc<dyn Journal>,
    registry: Arc<dyn Registry>,
    supervisor: Arc<Supervisor>,
    pool: Pool,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    dialer: Arc<Dialer>,
    directory: Arc<Directory>,
    pushpull: Arc<ArcSwap<pushpull::Config>>,
    /// Held while peers come, change or go.
    changing: tokio::sync::Mutex<()>,
    peers: RwLock<HashMap<String, Arc<Entry>>>,
    /// Names of all peers that ever had a number, for what the store still holds of them.
    names: RwLock<HashMap<PeerId, Arc<str>>>,
    /// Shutting down: nothing is accepted any more.
    stopping: AtomicBool,
    /// How the listener speaks TLS; none if it does not.
    tls: Option<Arc<ArcSwap<rustls::ServerConfig>>>,
    /// Turns true when partners may be served.
    open: watch::Sender<bool>,
    /// Turns true when dialling and listening have to end.
    quiet: watch::Sender<bool>,
    /// Turns true when open connections have to close.
    stop: watch::Sender<bool>,
    server: std::sync::Mutex<Option<JoinHandle<()>>>,
    janitor: std::sync::Mutex<Option<JoinHandle<()>>>,
    key_keeper: std::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Transceiver {
    /// Begins a Transceiver whose SETs carry this `iss`.
    pub fn builder(issuer: impl Into<String>) -> Builder {
        Builder::new(issuer.into())
    }

    async fn start(builder: Builder) -> Result<Self, Error> {
        let journal = builder.journal.ok_or(Error::Missing("a store"))?;
        let registry = builder.registry.ok_or(Error::Missing("a store"))?;
        let last = engine::resume(&*builder.clock, &*journal).await?;
        let keys = match builder.key_ring {
            Some(keys) => keys,
            None if builder.keys.is_empty() => return Err(Error::Missing("a signing key")),
            None => KeyRing::of(builder.keys, builder.active.as_deref(), builder.clock.now().wall)?,
        };
        let keep_settled = builder.keep_settled;
        let names = registry.names().await?;
        let names = names.into_iter().map(|(id, name)| (id, Arc::from(name))).collect();
        let (quiet, stop) = (watch::Sender::new(false), watch::Sender::new(false));
        let open = watch::Sender::new(!builder.closed);
        let directory = Arc::new(Directory::default());
        let config = Arc::new(ArcSwap::from_pointee(builder.pushpull));
        let clock = builder.clock;
        let tls = builder.public.as_ref().and_then(|public| public.tls.clone());
        let tls = tls.map(|tls| Arc::new(ArcSwap::new(tls)));
        let metrics = builder.engine.metrics.clone();
        let inner = Arc::new(Inner {
            audience: builder.audience.unwrap_or_else(|| builder.issuer.clone()),
            issuer: builder.issuer,
            keys,
            supervisor: Supervisor::new(builder.engine, Arc::clone(&journal), Arc::clone(&clock)),
            journal,
            registry,
            pool: Pool::new(),
            metrics: metrics.clone(),
            clock,
            dialer: Arc::new(Dialer::new(builder.allow)),
            directory: Arc::clone(&directory),
            pushpull: Arc::clone(&config),
            changing: tokio::sync::Mutex::default(),
            peers: RwLock::default(),
            names: RwLock::new(names),
            stopping: AtomicBool::new(false),
            tls,
            open,
            quiet,
            stop,
            server: std::sync::Mutex::default(),
            janitor: std::sync::Mutex::default(),
            key_keeper: std::sync::Mutex::default(),
        });
        let this = Self(inner);
        if let Some(public) = builder.public {
            let app = App {
                directory,
                pushpull: config,
                keys: Arc::clone(&this.0.keys),
                clock: Arc::clone(&this.0.clock),
                stop: this.0.stop.subscribe(),
            };
            // A partner's request has its answer within a second or so.
            let mut server = Server::new("partners", router(Arc::new(app), &metrics)).answering_half_closed();
            if let Some(tls) = &this.0.tls {
                server = server.with_tls(Arc::clone(tls));
            }
            let mut quiet = this.0.quiet.subscribe();
            let stop = async move {
                let _ = quiet.wait_for(|quiet| *quiet).await;
            };
            let mut open = this.0.open.subscribe();
            let serving = async move {
                if open.wait_for(|open| *open).await.is_ok() {
                    server.run(public.listener, stop, LAST_WORDS).await;
                }
            };
            *lock(&this.0.server) = Some(tokio::spawn(serving));
        }
        *lock(&this.0.janitor) = Some(tokio::spawn(janitor::tidy(Arc::clone(&this.0), last, keep_settled)));
        *lock(&this.0.key_keeper) = Some(tokio::spawn(keys::tend(Arc::clone(&this.0))));
        Ok(this)
    }

    /// Accepts an event for one peer. Durable when it returns: from then on it ends acked, refused or as a dead letter.
    ///
    /// If the future is dropped, the event may or may not have been accepted; with a `jti` of the caller's it can be
    /// submitted again without harm.
    pub async fn send(&self, peer: &str, event: Event) -> Result<Jti, SubmitError> {
        self.submit_one(peer, event).await.map_err(|fault| SubmitError { index: 0, fault })
    }

    /// The received SETs of all peers as this consumer sees them. A consumer is made by its first read.
    pub fn inbox(&self, consumer: &str) -> Inbox {
        Inbox::new(self.clone(), consumer)
    }

    /// Begins to serve partners, all of which have been added; only needed after [`Builder::closed`].
    pub fn open(&self) {
        self.0.open.send_replace(true);
    }

    /// Presents another certificate, from the next connection on. It changes nothing where no TLS is spoken.
    pub fn set_tls(&self, tls: Arc<rustls::ServerConfig>) {
        if let Some(current) = &self.0.tls {
            current.store(tls);
        }
    }

    /// What time it goes by, and whether the clock is believed at the moment.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// What keeps it from taking SETs, in words; empty when nothing does.
    pub async fn obstacles(&self) -> Vec<&'static str> {
        let mut obstacles = Vec::new();
        if self.is_stopping() {
            obstacles.push("draining: the process is stopping");
        }
        if !*self.0.open.borrow() {
            obstacles.push("listeners: partners are not let in yet");
        } else if lock(&self.0.server).as_ref().is_some_and(JoinHandle::is_finished) {
            obstacles.push("listeners: the one for partners has ended");
        }
        if !self.0.journal.healthy() {
            obstacles.push("store: the disk is full, or the store has failed");
        } else if !matches!(tokio::time::timeout(WRITTEN_WITHIN, self.probe()).await, Ok(Ok(()))) {
            obstacles.push("store: nothing could be written within a second");
        }
        obstacles
    }

    /// False while the store cannot take anything, or during shutdown.
    pub fn ready(&self) -> bool {
        self.0.journal.healthy() && !self.is_stopping()
    }

    /// Nothing can be written until there is room on the disk again.
    pub fn disk_is_full(&self) -> bool {
        !self.0.journal.healthy() && !self.0.journal.failed()
    }

    /// Received SETs find no room (`limits.inbox_max`) until consumers have confirmed some.
    pub fn inbox_is_full(&self) -> bool {
        self.0.supervisor.inbox_is_full()
    }

    /// Writes something small to the store, durably: it returns when the process and its store still turn, also when the
    /// disk is full. For a watchdog.
    pub async fn probe(&self) -> Result<(), store::Error> {
        self.0.journal.probe().await.inspect_err(|error| self.0.supervisor.note_failure(error))
    }

    /// Waits until the store has failed for good, and says why. The process must end then (exit code 70).
    pub async fn failed(&self) -> String {
        self.0.supervisor.failed().await
    }

    /// Stops: no more submissions, no more dialling or listening; owed verdicts still leave; then connections close.
    /// Returns after `grace` at the latest, and grants at least a moment for connections to close; what is not settled stays
    /// queued on disk. False if grace was not enough.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        self.0.stopping.store(true, Ordering::SeqCst);
        let closing = (LAST_WORDS + AFTERWARDS).min(grace / 2);
        let drained = self.0.supervisor.drain(grace - closing).await;
        let _ = self.0.quiet.send(true);
        let _ = self.0.stop.send(true);
        self.open();
        let server = lock(&self.0.server).take();
        let serving = async {
            if let Some(server) = server {
                let _ = tokio::time::timeout(LAST_WORDS, server).await;
            }
        };
        // Each of them has its last words to say, and they do not wait for one another.
        tokio::join!(serving, self.0.end_peers());
        for task in [&self.0.janitor, &self.0.key_keeper] {
            if let Some(task) = lock(task).take() {
                task.abort();
            }
        }
        drained
    }

    /// The `iss` of what we sign.
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::SeqCst)
    }
}

/// Time for connections to close, at the end of the grace period.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Time for whatever closes after that, the store above all.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// How long a store that works may take to write something small.
const WRITTEN_WITHIN: Duration = Duration::from_secs(1);

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Peers that come, change and go while everything runs: all that can fail first, then everything at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;

use super::builder::{DialConfig, KeySource, PeerConfig};
use super::peers::{Entry, Links, Task};
use super::{Inner, SubmitFault, Transceiver};
use crate::auth::keyring;
use crate::auth::{PartnerKeys, Reread, Secret, TokenTaken};
use crate::engine::{Inspector, Partner};
use crate::peer::{PeerId, Select};
use crate::set::{KeySet, Policy, Profile};
use crate::store;
use crate::transport::{self, Method, pushpull};
use crate::wire::net::Allow;

/// What is to become of the peers, all at once.
#[derive(Clone, Default)]
pub struct Changes {
    /// Peers that go. Their queues and histories stay in the store.
    pub remove: Vec<String>,
    /// Peers as they are to be: those that are new come, others change in what differs.
    pub set: Vec<PeerConfig>,
    /// Other ranges that outgoing connections may use.
    pub allow: Option<Allow>,
    /// Other limits and intervals of push-pull. Links that we dialled are dialled anew.
    pub pushpull: Option<pushpull::Config>,
    /// Our own key directory is to be read again.
    pub own_keys: Option<OwnKeys>,
}

/// By what our own keys are to be read again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnKeys {
    /// `keys.active`.
    pub active: Option<String>,
    /// `keys.publish_wait`.
    pub publish_wait: Duration,
}

/// What became of the peers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Changed {
    /// Those that have gone.
    pub removed: Vec<Removed>,
    /// Names of those that have come.
    pub added: Vec<String>,
    /// What has changed in our own keys, in words.
    pub own_keys: Vec<String>,
}

/// What stays in the store of a peer that has gone. When one of its name comes again, its queue goes on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Removed {
    /// Its name.
    pub name: String,
    /// SETs accepted for it and not settled.
    pub queued: u64,
    /// SETs that were given up or refused: dead letters.
    pub dead: u64,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// There is one of this name.
    #[error("there is a peer {0:?} already")]
    NameTaken(String),
    /// There is none of this name.
    #[error("there is no peer {0:?}")]
    NoSuchPeer(String),
    /// A token is another peer's.
    #[error(transparent)]
    TokenTaken(#[from] TokenTaken),
    /// A partner's keys cannot be read.
    #[error("keys of {peer}: {fault}")]
    Keys {
        /// Whose.
        peer: String,
        /// Why not.
        fault: String,
    },
    /// Our own keys cannot be taken over as they are.
    #[error("keys: {0}")]
    OwnKeys(#[from] keyring::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Shutting down.
    #[error("shutting down")]
    Stopped,
}

/// While it lives, nothing more can be submitted for a peer.
#[must_use = "dropped, it opens the queue again"]
pub struct Closed(Arc<AtomicUsize>);

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A peer as it will be, with everything done that can fail.
struct Prepared {
    config: PeerConfig,
    before: Option<Arc<Entry>>,
    partner: Arc<Partner>,
    keys: Arc<PartnerKeys<KeySet>>,
    reread: Option<Reread<KeySet>>,
}

impl Transceiver {
    /// Adds a peer and starts its link. It lasts as long as this Transceiver; the caller keeps its definition.
    pub async fn add_peer(&self, config: PeerConfig) -> Result<(), ChangeError> {
        let name = config.name.clone();
        let changes = Changes { set: vec![config], ..Changes::default() };
        self.change(changes, move |inner| match inner.find(&name) {
            Ok(_) => Err(ChangeError::NameTaken(name)),
            Err(_) => Ok(()),
        })
        .await
        .map(drop)
    }

    /// Gives a peer another configuration. What does not change goes on undisturbed: with the same endpoint and tokens its
    /// links stay up.
    pub async fn replace_peer(&self, config: PeerConfig) -> Result<(), ChangeError> {
        let name = config.name.clone();
        let changes = Changes { set: vec![config], ..Changes::default() };
        self.change(changes, move |inner| inner.find(&name).map(drop).map_err(|_| ChangeError::NoSuchPeer(name)))
            .await
            .map(drop)
    }

    /// Removes a peer: its tokens mean nothing from now on, verdicts that are owed to it may still leave for a moment, then
    /// its links close. Queue, history and received SETs stay in the store, and a peer that is added under its name goes
    /// on with them.
    pub async fn remove_peer(&self, name: &str) -> Result<Removed, ChangeError> {
        let changes = Changes { remove: vec![name.to_owned()], ..Changes::default() };
        let name = name.to_owned();
        let none = name.clone();
        let changed = self
            .change(changes, move |inner| inner.find(&name).map(drop).map_err(|_| ChangeError::NoSuchPeer(name)))
            .await?;
        changed.removed.into_iter().next().ok_or(ChangeError::NoSuchPeer(none))
    }

    /// Brings all this about, or nothing of it. A token may pass from a peer that goes, or that gives it up, to another.
    /// Changes wait for each other; one that was begun is carried through, even if the future is dropped.
    pub async fn change_peers(&self, changes: Changes) -> Result<Changed, ChangeError> {
        self.change(changes, |_| Ok(())).await
    }

    /// Names of the peers there are.
    pub fn peer_names(&self) -> Vec<String> {
        self.0.entries().iter().map(|entry| entry.config.name.clone()).collect()
    }

    /// Takes nothing more for this peer until the answer is dropped; what was taken before is sent as ever.
    pub fn close_queue(&self, peer: &str) -> Result<Closed, SubmitFault> {
        let closed = Arc::clone(&self.0.find(peer)?.closed);
        closed.fetch_add(1, Ordering::SeqCst);
        Ok(Closed(closed))
    }

    async fn change(
        &self,
        changes: Changes,
        allowed: impl FnOnce(&Inner) -> Result<(), ChangeError> + Send + 'static,
    ) -> Result<Changed, ChangeError> {
        let this = self.clone();
        let changing = tokio::spawn(async move {
            let inner = &this.0;
            let _turn = inner.changing.lock().await;
            if this.is_stopping() {
                return Err(ChangeError::Stopped);
            }
            allowed(inner)?;
            inner.change(changes).await
        });
        match changing.await {
            Ok(changed) => changed,
            Err(broken) => match broken.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(ChangeError::Stopped),
            },
        }
    }
}

impl Inner {
    async fn change(self: &Arc<Self>, changes: Changes) -> Result<Changed, ChangeError> {
        // A name that stands in both is meant to stay.
        let goes = |name: &&String| !changes.set.iter().any(|config| config.name == **name);
        let leaving: Vec<Arc<Entry>> =
            changes.remove.iter().filter(goes).filter_map(|name| self.find(name).ok()).collect();
        let settings = changes.pushpull.map(Arc::new);
        let limits = settings.as_ref().map_or_else(|| self.pushpull.load().limits, |settings| settings.limits);
        let mut coming = Vec::with_capacity(changes.set.len());
        for config in changes.set {
            coming.push(self.prepare(config, limits).await?);
        }
        let ids: Vec<PeerId> = leaving.iter().map(|entry| entry.partner.id).collect();
        let tokens: Vec<(Arc<Partner>, &[Secret])> =
            coming.iter().map(|peer| (Arc::clone(&peer.partner), peer.config.accept_tokens.as_slice())).collect();
        self.directory.may_change(&ids, &tokens)?;
        // The last that can fail, because it is durable: everybody's tokens change only here, one change at a time.
        let own_keys = match changes.own_keys {
            None => Vec::new(),
            Some(OwnKeys { active, publish_wait }) => {
                let reread = move |keys: &keyring::KeyRing, inner: &Self| {
                    keys.reread(active.as_deref(), publish_wait, inner.clock.now().wall)
                };
                self.with_keys(reread).await?
            }
        };
        let departing = self.directory.change(&ids, &tokens)?;

        // From here on nothing fails.
        let redial = settings.is_some();
        if let Some(settings) = settings {
            self.pushpull.store(settings);
        }
        if let Some(allow) = changes.allow {
            self.dialer.set_allow(allow);
        }
        let mut changed = Changed { own_keys, ..Changed::default() };
        let (mut ending, mut starting) = (Vec::new(), Vec::new());
        {
            let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
            for entry in &leaving {
                peers.remove(&entry.config.name);
            }
            for peer in coming {
                let is_new = peer.before.is_none();
                if is_new {
                    changed.added.push(peer.config.name.clone());
                }
                let (entry, keys) = self.install(peer, limits, redial, &mut ending);
                peers.insert(entry.config.name.clone(), Arc::clone(&entry));
                starting.push((entry, keys, is_new));
            }
        }
        join_all(ending.into_iter().map(Task::end)).await;
        let mut added = Vec::new();
        for (entry, keys, is_new) in starting {
            self.start(&entry, keys);
            added.extend(is_new.then_some(entry));
        }
        // When all have started: a disk may be slow, and no link has to wait for it.
        join_all(added.iter().map(|entry| self.wake(&entry.partner))).await;
        join_all(leaving.iter().map(|entry| entry.partner.retire(LAST_WORDS))).await;
        drop(departing);
        join_all(leaving.iter().flat_map(|entry| entry.take_tasks()).map(Task::end)).await;
        for entry in leaving {
            changed.removed.push(self.left_behind(&entry).await);
        }
        Ok(changed)
    }

    async fn prepare(&self, config: PeerConfig, limits: crate::wire::Limits) -> Result<Prepared, ChangeError> {
        let Ok(before) = self.find(&config.name) else {
            let id = self.registry.peer_id(config.name.clone()).await?;
            let keys = self.partner_keys(&config)?;
            let name: Arc<str> = config.name.as_str().into();
            let inspector = self.inspector(&config, Arc::clone(&keys), limits);
            let partner = Arc::new(Partner::new(name, id, Arc::clone(&self.supervisor), inspector));
            return Ok(Prepared { config, before: None, partner, keys, reread: None });
        };
        let partner = Arc::clone(&before.partner);
        let known = Arc::clone(partner.inspector().keys());
        let (keys, reread) = match before.config.keys == config.keys {
            true => {
                // A file, which may lie on a file system that hangs: no thread of those that serve others waits for it.
                let reading = Arc::clone(&known);
                let reread = tokio::task::spawn_blocking(move || reading.reread()).await;
                let reread = reread.unwrap_or_else(|failed| Err(failed.to_string()));
                let reread = reread.map_err(|fault| ChangeError::Keys { peer: config.name.clone(), fault })?;
                (known, reread)
            }
            false => (self.partner_keys(&config)?, None),
        };
        Ok(Prepared { config, before: Some(before), partner, keys, reread })
    }

    fn inspector(&self, config: &PeerConfig, keys: Arc<PartnerKeys<KeySet>>, limits: crate::wire::Limits) -> Inspector {
        let policy = Policy {
            issuer: config.issuer.clone(),
            audience: config.accept_audience.clone().unwrap_or_else(|| self.audience.clone()),
            accept: config.accept.clone(),
            jti_bytes_max: limits.jti_bytes_max,
            set_bytes_max: limits.set_bytes_max,
            profile: Profile::Ssf,
        };
        Inspector::new(policy, keys, self.pool.clone(), Arc::clone(&self.clock)).with_metrics(self.metrics.clone())
    }

    /// Makes the new entry, and takes the tasks out that have to end for it.
    fn install(
        &self,
        peer: Prepared,
        limits: crate::wire::Limits,
        redial: bool,
        ending: &mut Vec<Task>,
    ) -> (Arc<Entry>, Arc<PartnerKeys<KeySet>>) {
        let Prepared { config, before, partner, keys, reread } = peer;
        if let Some(reread) = reread {
            keys.adopt(reread);
        }
        let (mut links, mut closed) = (Arc::new(Mutex::new(Links::default())), Arc::default());
        if let Some(before) = before {
            links = Arc::clone(&before.links);
            closed = Arc::clone(&before.closed);
            let mut links = links.lock().unwrap_or_else(PoisonError::into_inner);
            if before.config.keys != config.keys {
                ending.extend(links.refresh.take());
            }
            if before.config.dial != config.dial || (redial && config.dial.is_some()) {
                ending.extend(links.dial.take());
            }
            if before.config.collect != config.collect || (redial && config.collect.is_some()) {
                ending.extend(links.collect.take());
            }
            drop(links);
            partner.set_inspector(self.inspector(&config, Arc::clone(&keys), limits));
        }
        let names = &mut self.names.write().unwrap_or_else(PoisonError::into_inner);
        names.insert(partner.id, Arc::clone(&partner.name));
        keys.count_in(Arc::clone(&partner.metrics));
        (Arc::new(Entry { config, partner, links, closed }), keys)
    }

    /// Starts the conversation with a partner for whom something waits: it grows old, and is given up in time, whether or not
    /// the partner ever comes. With the others it starts when it is needed.
    async fn wake(&self, partner: &Partner) {
        let first = Select::After { after: 0, rows_max: 1, bytes_max: 0 };
        let page = self.journal.read_outbox(partner.id, first).await;
        if page.is_ok_and(|page| page.rows.is_empty() && page.damaged.is_empty()) {
            return;
        }
        // Also if it cannot be read: the conversation says why.
        drop(partner.handle());
    }

    /// Starts what does not run for this peer.
    fn start(&self, entry: &Entry, keys: Arc<PartnerKeys<KeySet>>) {
        let partner = &entry.partner;
        let mut links = entry.links.lock().unwrap_or_else(PoisonError::into_inner);
        // A file is read again when somebody asks for that, and needs nobody to wait.
        if matches!(entry.config.keys, KeySource::Url { .. }) {
            links.refresh.get_or_insert_with(|| {
                Task::start(&partner.name, "the refresh of its keys", move |mut stop| {
                    Arc::clone(&keys).run(async move {
                        let _ = stop.wait_for(|stop| *stop).await;
                    })
                })
            });
        }
        if links.dial.is_none() && links.collect.is_none() {
            // What was said of the link before was about another one.
            partner.update_link(|link| (link.trouble, link.socketless, link.exchanged_at) = (None, None, None));
        }
        let Links { dial, collect, .. } = &mut *links;
        let both = entry.config.dial.is_some() && entry.config.collect.is_some();
        for (config, task, what) in
            [(&entry.config.dial, dial, "dialling"), (&entry.config.collect, collect, "collecting")]
        {
            if let Some(config) = config {
                task.get_or_insert_with(|| self.dial(partner, config, both, what));
            }
        }
    }

    fn dial(&self, partner: &Arc<Partner>, config: &DialConfig, both: bool, what: &'static str) -> Task {
        let method = config.method;
        let dial = Arc::new(pushpull::Dial {
            dialer: Arc::clone(&self.dialer),
            target: config.target.clone(),
            pin: config.pin,
            token: config.token.clone(),
            http_only: method == Method::Http,
            name: both.then_some(if method == Method::Poll { "poll_endpoint" } else { "endpoint" }),
            clock: Arc::clone(&self.clock),
        });
        let (config, partner) = (self.pushpull.load_full(), Arc::clone(partner));
        let name = Arc::clone(&partner.name);
        Task::start(&name, what, move |stop| {
            transport::dial(method, Arc::clone(&dial), Arc::clone(&partner), Arc::clone(&config), stop)
        })
    }

    async fn left_behind(&self, entry: &Entry) -> Removed {
        let saved = self.journal.recover(entry.partner.id).await;
        let counts = saved.inspect_err(|error| self.supervisor.note_failure(error)).map(|saved| saved.counts);
        let counts = counts.unwrap_or_default();
        Removed { name: entry.config.name.clone(), queued: counts.queued, dead: counts.dead + counts.refused }
    }
}

/// How long what is owed to a peer that goes may take to leave.
const LAST_WORDS: Duration = Duration::from_secs(2);

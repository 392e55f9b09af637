//! The peers of a Transceiver: added, found, verified, removed, while it runs.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::error;

use super::builder::{KeySource, PeerConfig};
use super::event::Event;
use super::submit::{Submission, SubmitError};
use super::{Inner, Transceiver};
use crate::auth::{Parsed, PartnerKeys, TokenTaken};
use crate::codes::Code;
use crate::engine::{Inspector, Partner};
use crate::peer::{Act, Outcome};
use crate::set::{Draft, Jti, KeySet, Policy, Profile, SetErr, events};
use crate::store;
use crate::transport::pushpull;
use crate::wire::net::Client;

/// One configured peer and its tasks.
pub(super) struct Entry {
    pub(super) config: PeerConfig,
    pub(super) partner: Arc<Partner>,
    /// Turns true when this peer's own tasks have to end.
    stop: watch::Sender<bool>,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

/// Why a peer was not added.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// There is one of this name.
    #[error("there is a peer of this name already")]
    NameTaken,
    /// Its token is another peer's.
    #[error(transparent)]
    TokenTaken(#[from] TokenTaken),
    /// Its keys cannot be read.
    #[error("keys of the partner: {0}")]
    Keys(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// A verification event came back acknowledged.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Of the event.
    pub jti: Jti,
    /// From submission to ack.
    pub after: Duration,
}

/// Why a link was not verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The event was not accepted for sending.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The partner refused the event.
    #[error("the partner refused the verification event: {}: {}", .0.err, .0.description)]
    Refused(SetErr),
    /// No answer in time. The event stays queued.
    #[error("no answer within {} s; the event stays queued", .0.as_secs())]
    TimedOut(Duration),
}

impl Transceiver {
    /// Adds a peer and starts its link. It lasts as long as this Transceiver; the caller keeps its definition.
    pub async fn add_peer(&self, config: PeerConfig) -> Result<(), AddError> {
        let inner = &self.0;
        let id = inner.registry.peer_id(config.name.clone()).await?;
        let name: Arc<str> = config.name.as_str().into();
        let keys = inner.partner_keys(&config)?;
        let policy = Policy {
            issuer: config.issuer.clone(),
            audience: inner.audience.clone(),
            accept: config.accept.clone(),
            jti_bytes_max: inner.policy.jti_bytes_max,
            set_bytes_max: inner.policy.set_bytes_max,
            profile: Profile::Ssf,
        };
        let inspector = Inspector::new(policy, Arc::clone(&keys), inner.pool.clone(), Arc::clone(&inner.clock));
        let partner = Arc::new(Partner::new(Arc::clone(&name), id, Arc::clone(&inner.supervisor), inspector));
        let entry = Arc::new(Entry {
            config,
            partner: Arc::clone(&partner),
            stop: watch::Sender::new(false),
            tasks: tokio::sync::Mutex::default(),
        });
        {
            let mut peers = inner.peers.write().unwrap_or_else(PoisonError::into_inner);
            if peers.contains_key(&entry.config.name) {
                return Err(AddError::NameTaken);
            }
            for token in &entry.config.accept_tokens {
                if let Err(taken) = inner.directory.admit(token, Arc::clone(&partner)) {
                    inner.directory.expel(id);
                    return Err(taken.into());
                }
            }
            peers.insert(entry.config.name.clone(), Arc::clone(&entry));
        }
        inner.names.write().unwrap_or_else(PoisonError::into_inner).insert(id, name);
        let mut tasks = entry.tasks.lock().await;
        let stop = entry.stop.subscribe();
        tasks.spawn(persist(Arc::clone(&partner.name), "the refresh of its keys", move || {
            let mut stop = stop.clone();
            Arc::clone(&keys).run(async move {
                let _ = stop.wait_for(|stop| *stop).await;
            })
        }));
        if let Some(dial) = &entry.config.dial {
            let dial = pushpull::Dial {
                dialer: Arc::clone(&inner.dialer),
                target: dial.target.clone(),
                pin: dial.pin,
                token: dial.token.clone(),
                http_only: dial.http_only,
                clock: Arc::clone(&inner.clock),
            };
            let (config, stop) = (Arc::clone(&inner.pushpull), entry.stop.subscribe());
            tasks.spawn(persist(Arc::clone(&partner.name), "dialling", move || {
                pushpull::dial(dial.clone(), Arc::clone(&partner), Arc::clone(&config), stop.clone())
            }));
        }
        Ok(())
    }

    /// Sends a signed verification event (SSF §8.1.4) and waits for its ack. It never reaches the partner's inbox.
    pub async fn verify(&self, peer: &str, patience: Duration) -> Result<Verified, VerifyError> {
        let entry = self.0.find(peer).map_err(|fault| SubmitError { index: 0, fault })?;
        let stopped = |_| SubmitError { index: 0, fault: super::SubmitFault::Stopped };
        let jti = Jti::new();
        let started = self.0.clock.now().mono;
        let end = entry.partner.handle().watch(jti.clone()).await.map_err(stopped)?;
        let event = Event::Draft(Draft {
            event_type: events::VERIFICATION.to_owned(),
            sub_id: json!({"format": "opaque", "id": self.0.issuer}),
            jti: Some(jti.clone()),
            ..Draft::default()
        });
        self.submit(vec![Submission { peer: peer.to_owned(), event }]).await?;
        match tokio::time::timeout(patience, end).await {
            Ok(Ok(Outcome::Acked)) => Ok(Verified { jti, after: self.0.clock.now().mono.saturating_sub(started) }),
            Ok(Ok(Outcome::Refused(error))) => Err(VerifyError::Refused(error)),
            Ok(Ok(Outcome::Dead(_)) | Err(_)) | Err(_) => Err(VerifyError::TimedOut(patience)),
        }
    }

    /// Stops sending SETs to a peer, or goes on. Received ones are answered all the same. Durable when it returns.
    pub async fn pause(&self, peer: &str, paused: bool) -> Result<(), SubmitError> {
        let entry = self.0.find(peer).map_err(|fault| SubmitError { index: 0, fault })?;
        let act = if paused { Act::Pause } else { Act::Resume };
        let stopped = |_| SubmitError { index: 0, fault: super::SubmitFault::Stopped };
        entry.partner.handle().operate(act).await.map_err(stopped)
    }

    /// The configured issuer and audience of a peer; `None` if there is none of that name.
    pub fn peer_config(&self, peer: &str) -> Option<PeerConfig> {
        self.0.find(peer).ok().map(|entry| entry.config.clone())
    }

    /// Definitions of peers that were added at run time and are kept in the store: name and definition.
    pub async fn kept_peers(&self) -> Result<Vec<(String, String)>, store::Error> {
        self.0.registry.added_peers().await
    }

    /// Keeps the definition of a peer that was added at run time. False if one of that name is kept.
    pub async fn keep_peer(&self, name: &str, definition: &Value) -> Result<bool, store::Error> {
        self.0.registry.add_peer(name.to_owned(), definition.to_string()).await
    }

    /// Forgets the kept definition of a peer. False if there is none.
    pub async fn unkeep_peer(&self, name: &str) -> Result<bool, store::Error> {
        self.0.registry.remove_peer(name.to_owned()).await
    }
}

impl Inner {
    pub(super) fn find(&self, peer: &str) -> Result<Arc<Entry>, super::SubmitFault> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.get(peer).cloned().ok_or_else(|| super::SubmitFault::NoSuchPeer(peer.to_owned()))
    }

    /// All configured peers by name.
    pub(super) fn entries(&self) -> Vec<Arc<Entry>> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        let mut entries: Vec<_> = peers.values().cloned().collect();
        entries.sort_by(|a, b| a.config.name.cmp(&b.config.name));
        entries
    }

    pub(super) async fn end_peers(&self) {
        for entry in self.entries() {
            let _ = entry.stop.send(true);
        }
        for entry in self.entries() {
            let mut tasks = entry.tasks.lock().await;
            let ending = async { while tasks.join_next().await.is_some() {} };
            if tokio::time::timeout(super::LAST_WORDS, ending).await.is_err() {
                tasks.abort_all();
            }
        }
    }

    fn partner_keys(&self, config: &PeerConfig) -> Result<Arc<PartnerKeys<KeySet>>, AddError> {
        let clock = Arc::clone(&self.clock);
        match &config.keys {
            KeySource::Url { target, pin, refresh } => {
                let client = Client::new(Arc::clone(&self.dialer), target.clone(), *pin);
                Ok(PartnerKeys::from_url(&config.name, client, parse_keys, *refresh, clock))
            }
            KeySource::File(path) => {
                PartnerKeys::from_file(&config.name, path, parse_keys, clock).map_err(AddError::Keys)
            }
        }
    }
}

/// Runs a task of a peer to its end, and again should it panic: nobody else would notice that it is gone.
async fn persist<F: Future<Output = ()>>(peer: Arc<str>, task: &'static str, start: impl Fn() -> F) {
    while AssertUnwindSafe(start()).catch_unwind().await.is_err() {
        error!(peer = %peer, code = %Code::InternalFault, task, "ended by a fault of this program (panic); it is started again");
        tokio::time::sleep(AGAIN).await;
    }
}

/// The pause before a task that has panicked is started again.
const AGAIN: Duration = Duration::from_secs(5);

fn parse_keys(bytes: &[u8]) -> Result<Parsed<KeySet>, String> {
    let keys = KeySet::parse(bytes).map_err(|error| error.to_string())?;
    let skipped = keys.skipped().iter().map(|key| key.reason.clone()).collect();
    Ok(Parsed { count: keys.len(), keys, skipped })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_started_again_and_one_that_ends_is_not() {
        let starts = AtomicU32::new(0);
        persist("globex".into(), "dialling", || async {
            assert!(starts.fetch_add(1, Ordering::Relaxed) > 0, "the first time it panics");
        })
        .await;
        assert_eq!(starts.into_inner(), 2);
    }
}

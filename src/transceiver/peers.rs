//! The peers of a Transceiver: found, verified, paused, and what runs for them.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::error;

use super::builder::{KeySource, PeerConfig};
use super::change::ChangeError;
use super::event::Event;
use super::submit::{Submission, SubmitError};
use super::{Inner, Transceiver};
use crate::auth::{Parsed, PartnerKeys};
use crate::codes::Code;
use crate::cpu;
use crate::engine::Partner;
use crate::peer::{Act, Outcome};
use crate::set::{Draft, Jti, KeySet, SetErr, events};
use crate::store;
use crate::wire::net::Client;

/// How long a verification waits for the conversation to take up what had been put off.
const HURRY: Duration = Duration::from_secs(1);

/// One configured peer. A change of its configuration makes another entry with the same partner and links.
pub(super) struct Entry {
    pub(super) config: PeerConfig,
    pub(super) partner: Arc<Partner>,
    pub(super) links: Arc<Mutex<Links>>,
    /// How many at present want nothing more to be submitted for it.
    pub(super) closed: Arc<AtomicUsize>,
}

impl Entry {
    /// What had been put off, and the link that rests after something went wrong, are taken up at once.
    async fn hurry(&self) {
        let _ = tokio::time::timeout(HURRY, self.partner.handle().operate(Act::Hurry)).await;
        self.partner.hurry();
    }
}

/// What runs for a peer.
#[derive(Default)]
pub(super) struct Links {
    /// Refreshes its keys.
    pub(super) refresh: Option<Task>,
    /// Dials it.
    pub(super) dial: Option<Task>,
    /// Collects from it.
    pub(super) collect: Option<Task>,
}

/// A task of a peer. It also ends when this is dropped, by and by.
pub(super) struct Task {
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
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
    /// Sends a signed verification event (SSF §8.1.4) and waits for its ack. It never reaches the partner's inbox. A link that rests
    /// after something went wrong is tried at once.
    pub async fn verify(&self, peer: &str, patience: Duration) -> Result<Verified, VerifyError> {
        let entry = self.0.find(peer).map_err(|fault| SubmitError { index: 0, fault })?;
        let stopped = |_| SubmitError { index: 0, fault: self.0.stopped(&entry) };
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
        // What was wrong may have been mended, and its link may rest for an hour if the partner has asked for that.
        entry.hurry().await;
        let ended = tokio::time::timeout(patience, end).await;
        let outcome = match &ended {
            Ok(Ok(Outcome::Acked)) => "acked",
            Ok(Ok(Outcome::Refused(_))) => "refused",
            _ => "timed_out",
        };
        entry.partner.metrics.verification("out", outcome);
        match ended {
            Ok(Ok(Outcome::Acked)) => Ok(Verified { jti, after: self.0.clock.now().mono.saturating_sub(started) }),
            Ok(Ok(Outcome::Refused(error))) => Err(VerifyError::Refused(error)),
            Ok(Ok(Outcome::Dead(_)) | Err(_)) | Err(_) => Err(VerifyError::TimedOut(patience)),
        }
    }

    /// Stops sending SETs to a peer, or goes on, at once if its link rests after something went wrong. Received ones are answered all the
    /// same. Durable when it returns.
    pub async fn pause(&self, peer: &str, paused: bool) -> Result<(), SubmitError> {
        let entry = self.0.find(peer).map_err(|fault| SubmitError { index: 0, fault })?;
        let act = if paused { Act::Pause } else { Act::Resume };
        let stopped = |_| SubmitError { index: 0, fault: self.0.stopped(&entry) };
        let handle = entry.partner.handle();
        tokio::select! {
            // First, so that it stands in its place among others that are asked for while nothing can be written: all of them hold
            // in their order when there is room, and what was wanted last is what is.
            biased;
            done = handle.operate(act) => {
                if !paused {
                    entry.hurry().await;
                }
                done.map_err(stopped)
            }
            () = self.0.stuck() => Err(SubmitError { index: 0, fault: self.0.unwritable() }),
        }
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
        // A change that is under way ends first, and none begins any more.
        let _turn = self.changing.lock().await;
        let tasks = self.entries().into_iter().flat_map(|entry| entry.take_tasks());
        join_all(tasks.map(Task::end)).await;
    }

    pub(super) fn partner_keys(&self, config: &PeerConfig) -> Result<Arc<PartnerKeys<KeySet>>, ChangeError> {
        let clock = Arc::clone(&self.clock);
        match &config.keys {
            KeySource::Url { target, pin, refresh } => {
                let client = Client::new(Arc::clone(&self.dialer), target.clone(), *pin);
                Ok(PartnerKeys::from_url(&config.name, client, parse_keys, *refresh, clock))
            }
            KeySource::File(path) => PartnerKeys::from_file(&config.name, path, parse_keys, clock)
                .map_err(|fault| ChangeError::Keys { peer: config.name.clone(), fault }),
        }
    }
}

impl Entry {
    /// Whether somebody wants nothing more to be submitted for it.
    pub(super) fn is_leaving(&self) -> bool {
        self.closed.load(Ordering::SeqCst) > 0
    }

    /// Why its actor did not answer.
    pub(super) fn stopped(&self) -> super::SubmitFault {
        match self.partner.is_retired() {
            true => super::SubmitFault::NoSuchPeer(self.config.name.clone()),
            false => super::SubmitFault::Stopped,
        }
    }

    pub(super) fn take_tasks(&self) -> impl Iterator<Item = Task> + use<> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        [links.refresh.take(), links.dial.take(), links.collect.take()].into_iter().flatten()
    }
}

impl Task {
    /// Starts one, which ends when what it is given turns true.
    pub(super) fn start<F: Future<Output = ()> + Send + 'static>(
        peer: &Arc<str>,
        task: &'static str,
        start: impl Fn(watch::Receiver<bool>) -> F + Send + 'static,
    ) -> Self {
        let (stop, stopping) = watch::channel(false);
        let running = tokio::spawn(cpu::throughout(
            cpu::Stage::Frame,
            persist(Arc::clone(peer), task, move || start(stopping.clone())),
        ));
        Self { stop, running }
    }

    /// Ends it, in order if that does not take too long.
    pub(super) async fn end(mut self) {
        let _ = self.stop.send(true);
        if tokio::time::timeout(super::LAST_WORDS, &mut self.running).await.is_err() {
            self.running.abort();
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
    // A key for encryption is none of our business, and no fault.
    let faulty = keys.skipped().iter().filter(|key| !key.encrypts);
    let skipped = faulty.map(|key| key.reason.clone()).collect();
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

    #[test]
    fn a_key_for_encryption_is_left_out_without_a_word() {
        let keys = parse_keys(br#"{"keys": [{"kty": "RSA", "use": "enc"}, {"kty": "RSA", "use": "sig"}]}"#).unwrap();
        assert_eq!(keys.count, 0);
        assert_eq!(keys.skipped.len(), 1, "{:?}", keys.skipped);
    }
}

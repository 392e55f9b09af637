//! From what an application hands in to SETs that are durably queued: all of a call, or nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::event::{Event, Unsigned};
use super::peers::Entry;
use super::{Inner, Transceiver};
use crate::auth::keyring::Signer;
use crate::cpu::{self, Stage};
use crate::engine::{Queue, SendError};
use crate::metrics::Metrics;
use crate::peer::Direction;
use crate::set::{
    Defaults, Digest, Draft, Incomplete, Jti, KeyError, SignedSet, SigningKey, Written, complete, events, glance,
};
use crate::store;

/// How often an operator's call that waits for a commit looks whether anything can be written.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// An event and the peer it is for.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The peer's name.
    pub peer: String,
    /// What to send.
    pub event: Event,
}

/// Nothing of the call was accepted, because of one of its submissions.
#[derive(Debug, thiserror::Error)]
#[error("{fault}")]
pub struct SubmitError {
    /// Which submission of the call, from 0.
    pub index: usize,
    /// What is wrong with it.
    pub fault: SubmitFault,
}

/// What can be wrong with a submission.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitFault {
    /// No peer of this name.
    #[error("there is no peer {0:?}: pushpull peer ls shows those there are")]
    NoSuchPeer(String),
    /// The peer is about to be removed, and what is queued for it is sent first.
    #[error("{0} is about to be removed and takes nothing more: its queue is being emptied")]
    Leaving(String),
    /// It cannot become a SET.
    #[error("{0}")]
    Invalid(String),
    /// Its type is not among those that this peer gets.
    #[error("{0} is not sent to this peer: its `send` list in the configuration does not have it")]
    NotSent(String),
    /// Its jti was used before for something else.
    #[error("jti {0} was submitted before with other content: a jti names one SET for ever")]
    Conflict(Jti),
    /// Too many SETs wait for this peer.
    #[error("{max} SETs wait for this peer already (delivery.outbox_max): they leave when the partner answers")]
    OutboxFull {
        /// `outbox_max`.
        max: u64,
    },
    /// The disk is full.
    #[error("the disk of the store is full: free some space, no restart is needed")]
    StorageFull,
    /// The store has failed.
    #[error("the store has failed: the process stops to protect the data")]
    StorageFailed,
    /// Shutting down.
    #[error("shutting down")]
    Stopped,
}

/// A submission that is checked and complete, but not signed.
pub(super) struct Checked {
    pub(super) entry: Arc<Entry>,
    jti: Jti,
    digest: Digest,
    /// The caller chose the jti, so it may have been used before.
    pub(super) named: bool,
    form: Form,
    label: &'static str,
}

enum Form {
    Written(Written),
    Claims(Map<String, Value>),
    Signed(Arc<str>),
}

/// What signs, and what is asked of the outcome.
#[derive(Clone)]
pub(super) struct Bench {
    signer: Arc<Signer>,
    metrics: Metrics,
    set_bytes_max: usize,
}

impl Transceiver {
    /// Accepts submissions: all of them or, with an error that names one, none. Durable when it returns; the jtis come
    /// in order. Repeating a call whose jtis were given by the caller changes nothing.
    ///
    /// After [`SubmitFault::StorageFull`], or when the future was dropped, they may have been accepted all the same.
    pub async fn submit(&self, submissions: Vec<Submission>) -> Result<Vec<Jti>, SubmitError> {
        let inner = &self.0;
        if self.is_stopping() {
            return Err(SubmitError { index: 0, fault: SubmitFault::Stopped });
        }
        if !inner.journal.healthy() {
            return Err(SubmitError { index: 0, fault: inner.unwritable() });
        }
        let mut checked = Vec::with_capacity(submissions.len());
        for (index, submission) in submissions.into_iter().enumerate() {
            let one = cpu::within(Stage::Sign, || inner.check(&submission.peer, submission.event));
            checked.push(one.map_err(|fault| SubmitError { index, fault })?);
        }
        consistent(&checked)?;
        let jtis: Vec<Jti> = checked.iter().map(|checked| checked.jti.clone()).collect();
        let mut peers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, one) in checked.iter().enumerate() {
            peers.entry(one.entry.config.name.as_str()).or_default().push(index);
        }
        let groups: Vec<Vec<usize>> = peers.into_values().collect();
        if groups.len() > 1 {
            // Two actors cannot commit together: what can be told beforehand is asked before either does. What then
            // still comes between (the other's outbox fills up that moment) is why callers should name their jtis.
            inner.foresee(&checked, &groups).await?;
            inner.room(&checked, &groups).await?;
        }
        let entries: Vec<(Arc<Entry>, bool)> = checked.iter().map(|one| (Arc::clone(&one.entry), one.named)).collect();
        // Held until everything is stored: so long nobody believes that the end of a queue is known (`keys.rs`).
        let signer = inner.keys.signer();
        let signed = inner.sign(&signer, checked).await?;
        let mut sets: Vec<Option<SignedSet>> = signed.into_iter().map(Some).collect();
        for group in groups {
            let fresh = group.iter().all(|index| !entries[*index].1);
            let batch: Vec<SignedSet> = group.iter().filter_map(|index| sets[*index].take()).collect();
            let first = group.first().copied().unwrap_or_default();
            let handle = entries[first].0.partner.handle();
            handle.send(batch, fresh).await.map_err(|error| {
                let index = match &error {
                    SendError::Conflict(jti) => {
                        group.iter().copied().find(|index| jtis[*index] == *jti).unwrap_or(first)
                    }
                    _ => first,
                };
                SubmitError { index, fault: inner.unsent(&entries[first].0, error) }
            })?;
        }
        drop(signer);
        Ok(jtis)
    }
}

impl Inner {
    /// Why nothing can be written.
    pub(super) fn unwritable(&self) -> SubmitFault {
        if self.journal.failed() { SubmitFault::StorageFailed } else { SubmitFault::StorageFull }
    }

    /// Why the actor of this peer did not take something.
    pub(super) fn unsent(&self, entry: &Entry, error: SendError) -> SubmitFault {
        match error {
            SendError::Stopped => self.stopped(entry),
            SendError::StorageFull => self.unwritable(),
            error => error.into(),
        }
    }

    /// Why the actor of this peer has ended.
    pub(super) fn stopped(&self, entry: &Entry) -> SubmitFault {
        if self.journal.failed() { SubmitFault::StorageFailed } else { entry.stopped() }
    }

    /// Ends when nothing can be written. What an actor was asked for before waits there for room.
    pub(super) async fn stuck(&self) {
        while self.journal.healthy() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub(super) fn check(&self, peer: &str, event: Event) -> Result<Checked, SubmitFault> {
        let entry = self.find(peer)?;
        if entry.is_leaving() {
            return Err(SubmitFault::Leaving(peer.to_owned()));
        }
        match event {
            Event::Draft(draft) => self.check_draft(entry, &draft),
            Event::Shared(draft) => self.check_draft(entry, &draft),
            Event::Claims(claims) => self.check_claims(entry, claims),
            Event::Signed(compact) => self.check_signed(entry, compact),
        }
    }

    fn defaults<'a>(&'a self, entry: &'a Entry) -> Defaults<'a> {
        Defaults {
            issuer: &self.issuer,
            audience: entry.config.audience.as_deref().unwrap_or(&entry.config.issuer),
            now: self.clock.now().wall,
            jti_bytes_max: self.pushpull.load().limits.jti_bytes_max,
        }
    }

    fn check_draft(&self, entry: Arc<Entry>, draft: &Draft) -> Result<Checked, SubmitFault> {
        let (written, uri) = Written::new(draft, self.defaults(&entry)).map_err(invalid)?;
        sent(&entry, &uri)?;
        let (jti, digest, label) = (written.jti().clone(), written.digest(), written.label());
        Ok(Checked { entry, jti, digest, named: draft.jti.is_some(), form: Form::Written(written), label })
    }

    fn check_claims(&self, entry: Arc<Entry>, claims: Map<String, Value>) -> Result<Checked, SubmitFault> {
        let unsigned = Unsigned::new(claims);
        let (jti, claims) = complete(unsigned.claims, self.defaults(&entry)).map_err(invalid)?;
        if claims.get("iss").and_then(Value::as_str) != Some(&self.issuer) {
            // It would be signed with our key and refused by every partner for its issuer.
            let text =
                format!("claim `iss` must be ours, {}: a SET of another issuer is relayed as `set`", self.issuer);
            return Err(SubmitFault::Invalid(text));
        }
        if let Some(types) = claims.get("events").and_then(Value::as_object) {
            for uri in types.keys() {
                sent(&entry, uri)?;
            }
        }
        let label = label(&claims);
        let form = Form::Claims(claims);
        Ok(Checked { entry, jti, digest: unsigned.digest, named: unsigned.named, form, label })
    }

    /// A SET of somebody else's: it only has to be one. Whether it is any good is for the partner to say.
    fn check_signed(&self, entry: Arc<Entry>, compact: String) -> Result<Checked, SubmitFault> {
        let compact = compact.trim();
        if compact.len() > self.pushpull.load().limits.set_bytes_max {
            let max = self.pushpull.load().limits.set_bytes_max;
            return Err(SubmitFault::Invalid(format!("set: longer than {max} bytes (limits.set_bytes_max)")));
        }
        let glance =
            glance(compact).map_err(|refusal| SubmitFault::Invalid(format!("set: {}", refusal.description)))?;
        let jti = glance.jti.ok_or_else(|| SubmitFault::Invalid("set: it has no jti".to_owned()))?;
        let max = self.pushpull.load().limits.jti_bytes_max;
        if jti.as_str().len() > max {
            return Err(SubmitFault::Invalid(format!("jti: longer than {max} bytes (limits.jti_bytes_max)")));
        }
        let types = glance.types.ok_or_else(|| SubmitFault::Invalid("set: it has no events".to_owned()))?;
        for uri in &types {
            sent(&entry, uri)?;
        }
        let (digest, label) = (Digest::of(compact.as_bytes()), events::label(types.iter().map(String::as_str)));
        Ok(Checked { entry, jti, digest, named: true, form: Form::Signed(compact.into()), label })
    }

    async fn foresee(&self, checked: &[Checked], groups: &[Vec<usize>]) -> Result<(), SubmitError> {
        for group in groups {
            let first = group.first().copied().unwrap_or_default();
            let partner = &checked[first].entry.partner;
            let jtis = group.iter().map(|index| checked[*index].jti.clone()).collect();
            let known = self
                .journal
                .known(partner.id, Direction::Out, jtis)
                .await
                .map_err(|error| SubmitError { index: first, fault: error.into() })?;
            for (index, known) in group.iter().zip(known) {
                if known.is_some_and(|known| known.digest != checked[*index].digest) {
                    let fault = SubmitFault::Conflict(checked[*index].jti.clone());
                    return Err(SubmitError { index: *index, fault });
                }
            }
        }
        Ok(())
    }

    /// Whether every outbox has room for its part.
    async fn room(&self, checked: &[Checked], groups: &[Vec<usize>]) -> Result<(), SubmitError> {
        for group in groups {
            let index = group.first().copied().unwrap_or_default();
            let entry = &checked[index].entry;
            let stats = entry.partner.handle().stats().await;
            let stats = stats.map_err(|_| SubmitError { index, fault: self.stopped(entry) })?;
            if group.len() as u64 > stats.room {
                let max = stats.counts.queued + stats.room;
                return Err(SubmitError { index, fault: SubmitFault::OutboxFull { max } });
            }
        }
        Ok(())
    }

    pub(super) fn bench(&self, signer: &Arc<Signer>) -> Bench {
        let set_bytes_max = self.pushpull.load().limits.set_bytes_max;
        Bench { signer: Arc::clone(signer), metrics: self.metrics.clone(), set_bytes_max }
    }

    async fn sign(&self, signer: &Arc<Signer>, checked: Vec<Checked>) -> Result<Vec<SignedSet>, SubmitError> {
        let bench = self.bench(signer);
        let signed = self.pool.map(Queue::Signing, checked, move |one| bench.sign(one)).await;
        let indexed = signed.into_iter().enumerate();
        indexed.map(|(index, set)| set.map_err(|fault| SubmitError { index, fault })).collect()
    }
}

impl Bench {
    pub(super) fn sign(&self, one: Checked) -> Result<SignedSet, SubmitFault> {
        let Checked { jti, digest, label, form, .. } = one;
        let whole = |compact| SignedSet { jti, compact, digest, label, reissue_of: None };
        let set = match form {
            Form::Written(written) => self.measure(|key| written.sign(key))?,
            Form::Claims(claims) => whole(self.measure(|key| key.sign(&claims))?),
            Form::Signed(compact) => whole(compact),
        };
        if set.compact.len() > self.set_bytes_max {
            let text = format!("the SET would be longer than {} bytes (limits.set_bytes_max)", self.set_bytes_max);
            return Err(SubmitFault::Invalid(text));
        }
        Ok(set)
    }

    fn measure<T>(&self, sign: impl FnOnce(&SigningKey) -> Result<T, KeyError>) -> Result<T, SubmitFault> {
        let (key, started) = (&self.signer.key, tokio::time::Instant::now());
        let signed = cpu::within(Stage::Sign, || sign(key));
        let signed = signed.map_err(|error| SubmitFault::Invalid(error.to_string()))?;
        self.metrics.signed(key.algorithm().as_str(), started.elapsed());
        Ok(signed)
    }
}

fn invalid(error: Incomplete) -> SubmitFault {
    SubmitFault::Invalid(error.to_string())
}

/// One jti may stand twice in a call, but only for the same: told here, where it is known which of the two is at fault.
fn consistent(checked: &[Checked]) -> Result<(), SubmitError> {
    let mut digests: HashMap<(&str, &Jti), Digest> = HashMap::with_capacity(checked.len());
    for (index, one) in checked.iter().enumerate() {
        if *digests.entry((&one.entry.config.name, &one.jti)).or_insert(one.digest) != one.digest {
            return Err(SubmitError { index, fault: SubmitFault::Conflict(one.jti.clone()) });
        }
    }
    Ok(())
}

fn label(claims: &Map<String, Value>) -> &'static str {
    let types = claims.get("events").and_then(Value::as_object);
    events::label(types.into_iter().flat_map(Map::keys).map(String::as_str))
}

fn sent(entry: &Entry, uri: &str) -> Result<(), SubmitFault> {
    if uri == events::VERIFICATION || entry.config.send.allows(uri) {
        return Ok(());
    }
    Err(SubmitFault::NotSent(events::shorten(uri).chars().take(120).collect()))
}

impl From<SendError> for SubmitFault {
    fn from(error: SendError) -> Self {
        match error {
            SendError::OutboxFull { max } => Self::OutboxFull { max },
            SendError::Conflict(jti) => Self::Conflict(jti),
            SendError::StorageFull => Self::StorageFull,
            SendError::Stopped => Self::Stopped,
        }
    }
}

impl From<store::Error> for SubmitFault {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Full => Self::StorageFull,
            _ => Self::StorageFailed,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::set::{Algorithm, KeySet, SigningKey};
    use crate::store::{Options, Sqlite};
    use crate::transceiver::PeerConfig;

    fn event() -> Event {
        Event::new("caep:session-revoked", json!({"format": "opaque", "id": "someone"}))
    }

    #[tokio::test]
    async fn a_store_that_has_failed_is_not_taken_for_a_full_disk() {
        let folder = tempfile::tempdir().unwrap();
        let (key, _) = SigningKey::generate(Algorithm::EdDsa, "k").unwrap();
        let keys = folder.path().join("keys");
        std::fs::write(&keys, KeySet::of([key.public_jwk()]).to_json().to_string()).unwrap();
        let store = Arc::new(Sqlite::open(folder.path().join("store.db"), Options::default()).unwrap());
        let builder = Transceiver::builder("https://us.example").signing_key(key).store(Arc::clone(&store));
        let transceiver = builder.start().await.unwrap();
        let peer = PeerConfig::that_comes("them", keys);
        transceiver.add_peer(peer).await.unwrap();
        transceiver.send("them", event()).await.unwrap();
        // Closed as well as failed: nothing can be asked of it any more.
        store.close().await;
        for _ in 0..2 {
            let refused = transceiver.send("them", event()).await.unwrap_err();
            assert!(matches!(refused.fault, SubmitFault::StorageFailed), "{refused}");
            let refused = transceiver.pause("them", true).await.unwrap_err();
            assert!(matches!(refused.fault, SubmitFault::StorageFailed), "{refused}");
        }
        transceiver.shutdown(Duration::ZERO).await;
    }
}

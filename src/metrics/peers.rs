//! The peers that are counted, and the families of the exposition that are written by asking each of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::count::Spread;
use super::peer::PeerMetrics;

/// Every peer that somebody holds a handle of, by name, so that an exposition has them in order.
#[derive(Debug, Default)]
pub(super) struct Peers(Mutex<BTreeMap<Arc<str>, Weak<PeerMetrics>>>);

impl Peers {
    /// The handle of this peer: the same one for everybody, as long as anybody holds it.
    pub(super) fn of(self: &Arc<Self>, name: &str) -> Arc<PeerMetrics> {
        let mut peers = self.locked();
        if let Some(peer) = peers.get(name).and_then(Weak::upgrade) {
            return peer;
        }
        let name: Arc<str> = name.into();
        let peer = Arc::new(PeerMetrics::new(Arc::clone(&name), Arc::clone(self)));
        peers.insert(name, Arc::downgrade(&peer));
        peer
    }

    /// Called when the last handle is gone: its series end, unless the name has come back meanwhile.
    pub(super) fn forget(&self, name: &str) {
        let mut peers = self.locked();
        if peers.get(name).is_some_and(|handle| handle.strong_count() == 0) {
            peers.remove(name);
        }
    }

    /// Those there are. Not to be dropped under the lock: one of them may be the last handle of its peer, which then comes
    /// to be forgotten.
    fn all(&self) -> Vec<Arc<PeerMetrics>> {
        self.locked().values().filter_map(Weak::upgrade).collect()
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Weak<PeerMetrics>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the series of a family go.
pub(super) trait Series {
    fn counter(&mut self, labels: &[(&str, &str)], value: u64) -> fmt::Result;
    fn gauge(&mut self, labels: &[(&str, &str)], value: f64) -> fmt::Result;
    fn histogram(&mut self, labels: &[(&str, &str)], spread: Spread) -> fmt::Result;
}

/// Has what is held write its series of one family.
pub(super) type Tell<T> = fn(&T, &mut dyn Series) -> fmt::Result;

/// A family whose numbers somebody else holds.
pub(super) struct Told<T> {
    pub(super) held: Arc<T>,
    pub(super) kind: MetricType,
    pub(super) tell: Tell<T>,
}

impl<T> fmt::Debug for Told<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Told").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// The same of every peer.
#[derive(Debug)]
pub(super) struct OfPeers {
    pub(super) peers: Arc<Peers>,
    pub(super) kind: MetricType,
    pub(super) tell: Tell<PeerMetrics>,
}

impl<T> EncodeMetric for Told<T> {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        (self.tell)(&self.held, &mut Written(encoder))
    }

    fn metric_type(&self) -> MetricType {
        self.kind
    }

    fn is_empty(&self) -> bool {
        is_silent(&*self.held, self.tell)
    }
}

impl EncodeMetric for OfPeers {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        let mut written = Written(encoder);
        self.peers.all().iter().try_for_each(|peer| (self.tell)(peer, &mut written))
    }

    fn metric_type(&self) -> MetricType {
        self.kind
    }

    fn is_empty(&self) -> bool {
        self.peers.all().iter().all(|peer| is_silent(&**peer, self.tell))
    }
}

/// Writes what it is told.
struct Written<'a>(MetricEncoder<'a>);

impl Series for Written<'_> {
    fn counter(&mut self, labels: &[(&str, &str)], value: u64) -> fmt::Result {
        self.0.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn gauge(&mut self, labels: &[(&str, &str)], value: f64) -> fmt::Result {
        self.0.encode_family(&labels)?.encode_gauge(&value)
    }

    fn histogram(&mut self, labels: &[(&str, &str)], spread: Spread) -> fmt::Result {
        let Spread { sum, count, buckets } = spread;
        self.0.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

/// Whether nothing would be written: then the family has no heading either.
fn is_silent<T>(held: &T, tell: Tell<T>) -> bool {
    let mut heard = Heard(false);
    let _ = tell(held, &mut heard);
    !heard.0
}

/// Notices that there is something.
struct Heard(bool);

impl Series for Heard {
    fn counter(&mut self, _: &[(&str, &str)], _: u64) -> fmt::Result {
        self.0 = true;
        // No need to hear the rest.
        Err(fmt::Error)
    }

    fn gauge(&mut self, labels: &[(&str, &str)], _: f64) -> fmt::Result {
        self.counter(labels, 0)
    }

    fn histogram(&mut self, labels: &[(&str, &str)], _: Spread) -> fmt::Result {
        self.counter(labels, 0)
    }
}

//! The keys with which one partner signs: fetched from where the operator says, kept through outages, and fetched anew
//! when a SET arrives that none of them verifies. A passing fault never looks like a withdrawn key.

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

use crate::clock::Clock;
use crate::codes::Code;
use crate::metrics::PeerMetrics;
use crate::private;
use crate::random::Random;
use crate::set::Digest;
use crate::wire::net::{Backoff, Client, Limits};

/// Reads a JWK Set; the text of an error follows "the keys cannot be read:".
pub type Parse<K> = fn(&[u8]) -> Result<Parsed<K>, String>;

/// What came out of a JWK Set.
#[derive(Debug)]
pub struct Parsed<K> {
    /// The usable keys.
    pub keys: K,
    /// How many they are.
    pub count: usize,
    /// Why others, which were meant for signatures, were left out, one text each.
    pub skipped: Vec<String>,
}

/// Keys, and when the fetch that brought them began.
#[derive(Debug)]
pub struct Snapshot<K> {
    /// The keys.
    pub keys: Arc<K>,
    /// Monotonic time at which the fetch started: the partner had published these keys at that time or later.
    pub started_at: Duration,
}

/// A key file that was read again.
#[derive(Debug)]
pub struct Reread<K> {
    started_at: Duration,
    parsed: Parsed<K>,
    digest: Digest,
}

/// Fetches a JWK Set by other means than HTTP; the text of an error is for people. A call that never ends stops all
/// fetching from there.
pub type Fetch = Box<dyn Fn() -> BoxFuture<'static, Result<Bytes, String>> + Send + Sync>;

/// Where keys come from.
enum Source {
    /// `jwks_uri`.
    Url(Client),
    /// Whoever embeds us.
    Given(Fetch),
    /// `jwks_file`.
    File(PathBuf),
}

/// One partner's keys. Shared by all who verify that partner's SETs.
pub struct PartnerKeys<K> {
    partner: String,
    source: Source,
    parse: Parse<K>,
    refresh: Duration,
    retry_first: Duration,
    /// Decides the jitter of refreshes and nothing else.
    seed: u64,
    clock: Arc<dyn Clock>,
    state: Mutex<State<K>>,
    /// Told whenever a fetch has ended, well or badly: everybody who waits then, in their order.
    ended: Notify,
    /// Where fetches are counted, once somebody does.
    metrics: OnceLock<Arc<PeerMetrics>>,
}

struct State<K> {
    snapshot: Option<Snapshot<K>>,
    /// What the keys were read from, to notice a change.
    digest: Digest,
    count: usize,
    /// A fetch is under way.
    fetching: bool,
    /// When the last fetch that has ended started.
    ended_start: Option<Duration>,
    /// When the last two fetches on demand started, older first.
    on_demand: [Option<Duration>; 2],
    trouble: Option<String>,
}

/// What a caller that needs newer keys can do.
enum Plan<K> {
    Have(Snapshot<K>),
    Wait,
    GiveUp,
}

impl<K: Send + Sync + 'static> PartnerKeys<K> {
    /// Keys published at the client's target. Nothing is fetched until [`PartnerKeys::run`] or
    /// [`PartnerKeys::after`] is called.
    pub fn from_url(
        partner: &str,
        client: Client,
        parse: Parse<K>,
        refresh: Duration,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        Arc::new(Self::new(partner, Source::Url(client), parse, refresh, clock))
    }

    /// Keys that `fetch` brings, under the same rules as those of a URL. `seed` decides when they are refreshed, within the
    /// jitter.
    pub fn from_fetch(
        partner: &str,
        fetch: Fetch,
        parse: Parse<K>,
        refresh: Duration,
        seed: u64,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        Arc::new(Self { seed, ..Self::new(partner, Source::Given(fetch), parse, refresh, clock) })
    }

    /// Keys of a file, which is read now and at every [`PartnerKeys::reread`]. Blocks.
    pub fn from_file(partner: &str, path: &Path, parse: Parse<K>, clock: Arc<dyn Clock>) -> Result<Arc<Self>, String> {
        let keys = Self::new(partner, Source::File(path.to_owned()), parse, Duration::MAX, clock);
        let outcome = read_file(path).and_then(|bytes| keys.read(&bytes))?;
        keys.settle(keys.clock.now().mono, Ok(outcome));
        Ok(Arc::new(keys))
    }

    fn new(partner: &str, source: Source, parse: Parse<K>, refresh: Duration, clock: Arc<dyn Clock>) -> Self {
        let state = State {
            snapshot: None,
            digest: Digest::default(),
            count: 0,
            fetching: false,
            ended_start: None,
            on_demand: [None; 2],
            trouble: None,
        };
        let ended = Notify::new();
        let (partner, state) = (partner.to_owned(), Mutex::new(state));
        let (metrics, seed) = (OnceLock::new(), Random::from_system().next_u64());
        Self { partner, source, parse, refresh, retry_first: RETRY_FIRST, seed, clock, state, ended, metrics }
    }

    /// From now on fetches are counted there.
    pub fn count_in(&self, metrics: Arc<PeerMetrics>) {
        // Whoever came first goes on counting.
        let _ = self.metrics.set(metrics);
    }

    /// How many usable keys are held, and how old they are; `None` before there were any.
    pub fn held_now(&self) -> Option<(usize, Duration)> {
        let state = self.state();
        let age = self.clock.now().mono.saturating_sub(self.held(&state)?.started_at);
        Some((state.count, age))
    }

    /// Reads a key file again, to be taken over by [`PartnerKeys::adopt`]: so far nothing has changed. None for a URL.
    /// Blocks.
    pub fn reread(&self) -> Result<Option<Reread<K>>, String> {
        let Source::File(path) = &self.source else { return Ok(None) };
        let started_at = self.clock.now().mono;
        let (parsed, digest) = read_file(path).and_then(|bytes| self.read(&bytes))?;
        Ok(Some(Reread { started_at, parsed, digest }))
    }

    /// From now on the keys that were read again are the partner's, and no others.
    pub fn adopt(&self, reread: Reread<K>) {
        self.settle(reread.started_at, Ok((reread.parsed, reread.digest)));
    }

    /// The keys held, however old; `None` until the first fetch has succeeded. A file always counts as just read.
    pub fn current(&self) -> Option<Snapshot<K>> {
        self.held(&self.state())
    }

    /// Keys to try for a SET that arrived at `arrival` (monotonic time) when those whose fetch started at `tried` do not
    /// verify it: the next ones to be had, fetching them if need be. Only keys whose fetch started after it came prove that
    /// its key is not published; until then ask again, with the ones just tried.
    ///
    /// `None` means no verdict: a fetch since the arrival has failed, it was not over by `give_up`, or two fetches on
    /// demand were made in the last minute. Whoever waits at the same time shares one fetch. Safe to cancel: the fetch goes
    /// on for the others.
    pub async fn after(
        self: &Arc<Self>,
        tried: Option<Duration>,
        arrival: Duration,
        give_up: Instant,
    ) -> Option<Snapshot<K>> {
        loop {
            // Made before looking, so that no end is missed.
            let ended = self.ended.notified();
            match self.plan(tried, arrival) {
                Plan::Have(snapshot) => return Some(snapshot),
                Plan::GiveUp => return None,
                Plan::Wait => timeout_at(give_up, ended).await.ok()?,
            }
        }
    }

    /// Keeps the keys fresh until `stop`: every `jwks_refresh`, or sooner as long as no fetch has ever succeeded.
    pub async fn run(self: Arc<Self>, stop: impl Future<Output = ()>) {
        let work = async {
            if matches!(self.source, Source::File(_)) {
                return std::future::pending().await;
            }
            let mut random = Random::new(self.seed);
            let longest = RETRY_MAX.min(self.refresh);
            let mut backoff = Backoff::new(self.retry_first.min(longest), longest, random.next_u64());
            loop {
                let ended = self.ended.notified();
                if self.begin(&mut self.state()) {
                    self.spawn_fetch();
                }
                ended.await;
                let pause = match self.current() {
                    Some(_) => self.refresh.mul_f64(0.9).saturating_add(random.jitter(self.refresh / 5)),
                    None => backoff.pause(),
                };
                sleep(pause).await;
            }
        };
        tokio::select! {
            biased;
            () = stop => {}
            () = work => {}
        }
    }

    /// Why the last fetch failed, if it did; for people.
    pub fn trouble(&self) -> Option<String> {
        self.state().trouble.clone()
    }

    fn plan(self: &Arc<Self>, tried: Option<Duration>, arrival: Duration) -> Plan<K> {
        let mut state = self.state();
        let is_news = |snapshot: &Snapshot<K>| {
            snapshot.started_at >= arrival || tried.is_none_or(|tried| snapshot.started_at > tried)
        };
        if let Some(snapshot) = self.held(&state).filter(is_news) {
            return Plan::Have(snapshot);
        }
        if state.fetching {
            // Even one that started too early: only one runs at a time.
            return Plan::Wait;
        }
        let failed_since = state.ended_start.is_some_and(|start| start >= arrival);
        let now = self.clock.now().mono;
        let [older, newer] = state.on_demand;
        let too_often = older.is_some_and(|older| now.saturating_sub(older) < ON_DEMAND_PER);
        if failed_since || too_often || matches!(self.source, Source::File(_)) {
            return Plan::GiveUp;
        }
        state.on_demand = [newer, Some(now)];
        if self.begin(&mut state) {
            self.spawn_fetch();
        }
        Plan::Wait
    }

    fn held(&self, state: &State<K>) -> Option<Snapshot<K>> {
        let snapshot = state.snapshot.as_ref()?;
        let started_at = match self.source {
            Source::Url(_) | Source::Given(_) => snapshot.started_at,
            Source::File(_) => self.clock.now().mono,
        };
        Some(Snapshot { keys: snapshot.keys.clone(), started_at })
    }

    /// Claims the right to fetch; false if somebody has it.
    fn begin(&self, state: &mut State<K>) -> bool {
        !std::mem::replace(&mut state.fetching, true)
    }

    /// In a task of its own, so that no caller's deadline cuts it short for the others.
    fn spawn_fetch(self: &Arc<Self>) {
        let keys = self.clone();
        tokio::spawn(async move {
            let over = Over(&keys);
            let started_at = keys.clock.now().mono;
            let outcome = match &keys.source {
                Source::Url(client) => fetch(client).await.and_then(|bytes| keys.read(&bytes)),
                Source::Given(fetch) => fetch().await.and_then(|bytes| keys.read(&bytes)),
                Source::File(path) => read_file(path).and_then(|bytes| keys.read(&bytes)),
            };
            keys.settle(started_at, outcome);
            drop(over);
        });
    }

    fn read(&self, bytes: &[u8]) -> Result<(Parsed<K>, Digest), String> {
        let parsed =
            (self.parse)(bytes).map_err(|fault| format!("{}: the keys cannot be read: {fault}", self.source))?;
        Ok((parsed, Digest::of(bytes)))
    }

    /// Takes over the outcome of a fetch and logs it if it is news.
    fn settle(&self, started_at: Duration, outcome: Result<(Parsed<K>, Digest), String>) {
        let mut state = self.state();
        state.ended_start = Some(started_at);
        let partner = &self.partner;
        if let Some(metrics) = self.metrics.get() {
            metrics.fetched_keys(outcome.is_ok());
        }
        match outcome {
            Ok((parsed, digest)) => {
                let (before, count) = (state.count, parsed.count);
                if state.snapshot.is_none() {
                    tracing::info!(peer = %partner, keys = count, "the partner's keys are there");
                } else if state.digest != digest {
                    tracing::info!(peer = %partner, keys = count, before, "the partner's keys have changed");
                }
                if state.snapshot.is_none() || state.digest != digest {
                    for reason in parsed.skipped.iter().take(SKIPPED_LOGGED_MAX) {
                        tracing::warn!(peer = %partner, code = %Code::PartnerKeyUnusable, why = reason, "a key of the partner is not usable");
                    }
                }
                if state.trouble.take().is_some() {
                    tracing::info!(peer = %partner, "fetching the partner's keys works again");
                }
                state.snapshot = Some(Snapshot { keys: Arc::new(parsed.keys), started_at });
                (state.digest, state.count) = (digest, count);
            }
            Err(fault) => {
                if state.trouble.is_none() {
                    let held = state.count;
                    tracing::warn!(peer = %partner, code = %Code::PartnerKeysUnreachable, why = fault, held, "the partner's keys cannot be fetched; those held stay valid");
                }
                state.trouble = Some(fault);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> fmt::Debug for PartnerKeys<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartnerKeys").field("partner", &self.partner).field("source", &self.source.to_string()).finish()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(client) => client.target().fmt(f),
            Self::Given(_) => f.write_str("our own source"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Says that a fetch is over, also when it panicked or its runtime ended.
struct Over<'a, K>(&'a PartnerKeys<K>);

impl<K> Drop for Over<'_, K> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).fetching = false;
        self.0.ended.notify_waiters();
    }
}

async fn fetch(client: &Client) -> Result<Bytes, String> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/jwk-set+json, application/json"));
    let target = client.target();
    let response = client.get(headers, FETCH).await.map_err(|error| format!("{target}: {error}"))?;
    match response.status {
        StatusCode::OK => Ok(response.body),
        status if status.is_redirection() => Err(format!(
            "{target}: expected 200, found {}: redirects are never followed; set jwks_uri to the final address",
            status.as_u16()
        )),
        status => Err(format!("{target}: expected 200, found {}", status.as_u16())),
    }
}

fn read_file(path: &Path) -> Result<Bytes, String> {
    let read = private::read_public(path, FETCH.body_bytes_max as u64);
    Ok(read.map_err(|error| format!("{}: {error}", path.display()))?.into())
}

const FETCH: Limits =
    Limits { body_bytes_max: 256 * 1024, timeout: Duration::from_secs(5), answer: None, head_counts: false };
/// Within this time at most two fetches on demand are made, so that SETs with invented key ids cannot make us knock.
const ON_DEMAND_PER: Duration = Duration::from_secs(60);
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// A hostile set of ten thousand odd keys shall not fill the log.
const SKIPPED_LOGGED_MAX: usize = 5;

#[cfg(test)]
mod tests;

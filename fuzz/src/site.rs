//! One organisation with one partner, all of it in memory and in pretended time, made anew for each input; and a
//! connection whose far end says what the input has.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use pushpull::auth::{Parsed, PartnerKeys};
use pushpull::clock::{Clock, Timestamp, Wall};
use pushpull::engine::{self, Inspector, Partner, Pool, Supervisor};
use pushpull::metrics::Metrics;
use pushpull::set::{Algorithm, Digest, KeySet, SignedSet, SigningKey};
use pushpull::store::{Memory, Registry as _};
use pushpull::transport::pushpull::Config;
use pushpull::wire;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};

use super::token::{NOW, POLICY};

/// So narrow that an input of some hundred bytes can break each of them.
pub const LIMITS: wire::Limits = wire::Limits {
    object_bytes_max: 2048,
    set_bytes_max: 600,
    sets_per_object_max: 2,
    jti_bytes_max: 40,
    verdicts_max: 5,
};

/// SETs that wait for the partner.
pub const WAITING: usize = 3;

/// How long the far end is still there after its last byte.
const LINGERS: Duration = Duration::from_secs(3);

/// Us, seen from a transport.
pub struct Site {
    /// The partner.
    pub partner: Arc<Partner>,
    /// How we speak.
    pub config: Arc<Config>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Never turns true while this is held.
    pub stop: watch::Receiver<bool>,
    _running: watch::Sender<bool>,
}

/// Pretended time goes on from here.
struct Pretended(Instant);

impl Clock for Pretended {
    fn now(&self) -> Timestamp {
        let mono = Instant::now().saturating_duration_since(self.0);
        Timestamp { mono, wall: Wall(NOW * 1000), shown: Wall(NOW * 1000), suspect: false }
    }
}

/// What is costly to make and has no memory of an input.
struct Shared {
    clock: Arc<dyn Clock>,
    keys: Arc<PartnerKeys<KeySet>>,
    pool: Pool,
    metrics: Metrics,
}

static SHARED: LazyLock<Shared> = LazyLock::new(|| {
    pushpull::set::install_crypto();
    let clock: Arc<dyn Clock> = Arc::new(Pretended(Instant::now()));
    let (key, _) = SigningKey::generate(Algorithm::EdDsa, "k").expect("a key");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), KeySet::of([key.public_jwk()]).to_json().to_string()).expect("it can be written");
    let parse = |bytes: &[u8]| {
        let keys = KeySet::parse(bytes).map_err(|error| error.to_string())?;
        Ok(Parsed { count: keys.len(), skipped: Vec::new(), keys })
    };
    let keys = PartnerKeys::from_file("partner", file.path(), parse, Arc::clone(&clock)).expect("it is a JWK Set");
    Shared { clock, keys, pool: Pool::new(), metrics: Metrics::default() }
});

/// Runs a conversation in a runtime of its own, in which time passes only while everybody waits. Whatever is left over of
/// it ends with the runtime, so that an input meets nothing of those before it.
pub fn within<T>(conversation: impl AsyncFnOnce(Site) -> T) -> T {
    let shared = &*SHARED;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let config = engine::Config { metrics: shared.metrics.clone(), ..engine::Config::default() };
        let store = Arc::new(Memory::new());
        let id = store.peer_id("partner".to_owned()).await.expect("a new store takes a peer");
        let supervisor = Supervisor::new(config, store, Arc::clone(&shared.clock));
        let inspector =
            Inspector::new(POLICY.clone(), Arc::clone(&shared.keys), shared.pool.clone(), Arc::clone(&shared.clock));
        let partner = Arc::new(Partner::new("partner".into(), id, supervisor, inspector));
        let sets = (0..WAITING).map(|number| SignedSet {
            jti: format!("ours-{number}").as_str().into(),
            compact: "e30.e30.AA".into(),
            digest: Digest::of(&[number as u8]),
            label: "other",
            reissue_of: None,
        });
        partner.handle().send(sets.collect(), true).await.expect("there is room");
        let (running, stop) = watch::channel(false);
        let config = Arc::new(Config { limits: LIMITS, ..Config::default() });
        conversation(Site { partner, config, clock: Arc::clone(&shared.clock), stop, _running: running }).await
    })
}

/// How everything that is shared counts what happens.
pub fn metrics() -> &'static Metrics {
    &SHARED.metrics
}

/// What we have written to a connection.
#[derive(Clone, Default)]
pub struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    /// So far.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a far end that has been spoken to says instead.
type Answer = fn(&[u8], Vec<u8>) -> Vec<u8>;

/// A connection whose far end writes some bytes, waits a while, and goes. It takes whatever is written to it.
pub struct Wire {
    bytes: Vec<u8>,
    at: usize,
    /// Bytes of one read.
    portion: usize,
    /// Rewrites what has not been read yet by what we have written.
    answer: Option<Answer>,
    lingering: Option<Pin<Box<Sleep>>>,
    written: Written,
}

impl Wire {
    /// Brings `bytes`, so many in one read.
    pub fn new(bytes: &[u8], portion: usize) -> Self {
        Self {
            bytes: bytes.to_vec(),
            at: 0,
            portion: portion.max(1),
            answer: None,
            lingering: None,
            written: Written::default(),
        }
    }

    /// Speaks only once it is spoken to, and may say something about it.
    pub fn answering(mut self, answer: Answer) -> Self {
        self.answer = Some(answer);
        self
    }

    /// What is written to it, readable when it is gone.
    pub fn written(&self) -> Written {
        self.written.clone()
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(answer) = this.answer.take() {
            let written = this.written.0.lock().unwrap_or_else(PoisonError::into_inner);
            this.bytes = answer(&written, std::mem::take(&mut this.bytes));
        }
        let left = &this.bytes[this.at..];
        if left.is_empty() {
            let lingering = this.lingering.get_or_insert_with(|| Box::pin(sleep(LINGERS)));
            return lingering.as_mut().poll(cx).map(Ok);
        }
        let here = left.len().min(this.portion).min(buf.remaining());
        buf.put_slice(&left[..here]);
        this.at += here;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.written.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

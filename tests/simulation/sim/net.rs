//! The network between two organisations: how long things take, what gets lost, and who can be reached at all.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use pushpull::random::Random;
use pushpull::set::Jti;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};

use super::chaos::KeyServer;
use super::event::{Org, Role};
use super::options::{Kind, Options};
use super::world::{World, luck, some_of, strikes};

/// All ways between all members.
pub struct Net {
    ways: BTreeMap<(Org, Org), Mutex<Way>>,
    pairs: BTreeMap<[Org; 2], Mutex<Pair>>,
}

/// One direction.
struct Way {
    luck: Random,
    latency: Duration,
    /// What whoever sends adds to it.
    slowness: Duration,
    /// Nothing gets through.
    dark: bool,
}

/// Both.
#[derive(Default)]
struct Pair {
    /// Something on the way does not let WebSockets through.
    no_sockets: bool,
    links: u64,
    connections: Vec<Weak<Connection>>,
}

/// An object as bytes.
#[derive(Clone, Debug)]
pub struct Parcel {
    pub bytes: Bytes,
    /// It breaks the rules on purpose, and these jtis stand in it.
    pub broken: Option<Arc<Vec<Jti>>>,
}

impl From<Bytes> for Parcel {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, broken: None }
    }
}

/// What a WebSocket carries.
#[derive(Clone, Debug)]
pub enum Frame {
    Text(Parcel),
    Ping,
    Pong,
    Close(u16),
}

/// One end of a WebSocket.
pub struct Wire {
    pub out: Outlet,
    pub inlet: Inlet,
    /// Held by both ends: while one does, the connection may be reset.
    pub life: Arc<Connection>,
}

/// What both ends share.
#[derive(Default)]
pub struct Connection {
    is_reset: AtomicBool,
    /// Wakes both in their order; a `watch` would draw lots.
    reset: Notify,
}

impl Connection {
    /// Waits until it is reset.
    async fn reset(&self) {
        while !self.is_reset.load(Ordering::Relaxed) {
            self.reset.notified().await;
        }
    }
}

/// Where frames go.
pub struct Outlet {
    frames: mpsc::UnboundedSender<(Instant, Frame)>,
    last: Mutex<Instant>,
    way: (Org, Org),
    world: Weak<World>,
    /// Something was lost on the way: nothing that comes after it is delivered.
    gap: AtomicBool,
}

/// Where they come from.
pub struct Inlet {
    frames: mpsc::UnboundedReceiver<(Instant, Frame)>,
    next: Option<(Instant, Frame)>,
    connection: Arc<Connection>,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum Refused {
    Unreachable,
    /// Answered with this instead, and with this `Retry-After`.
    Handshake(u16, Option<Duration>),
}

/// What a slow organisation says takes so much longer at most.
const SLOWNESS: Duration = Duration::from_secs(12);

/// The longest that a connection is tried for.
const OPENING: Duration = Duration::from_secs(10);

/// A JWK Set is waited for so long.
const FETCHING: Duration = Duration::from_secs(5);

impl Net {
    pub fn new(options: &Options) -> Self {
        let (mut ways, mut pairs) = (BTreeMap::new(), BTreeMap::new());
        for pair in &options.pairs {
            let [one, other] = pair.ends;
            for (from, to) in [(one, other), (other, one)] {
                let luck = luck(options.seed, &[30, u64::from(from.0), u64::from(to.0)]);
                let slow = options.members[from.0 as usize].role == Role::Slow;
                let slowness = if slow { SLOWNESS } else { Duration::ZERO };
                ways.insert((from, to), Mutex::new(Way { luck, latency: pair.latency, slowness, dark: false }));
            }
            let no_sockets = pair.kind == Kind::Http;
            pairs.insert(pair.ends, Mutex::new(Pair { no_sockets, ..Pair::default() }));
        }
        Self { ways, pairs }
    }

    /// How long something takes from one to the other.
    pub fn latency(&self, from: Org, to: Org) -> Duration {
        let mut way = self.way(from, to);
        let latency = way.latency + way.slowness;
        some_of(&mut way.luck, latency)
    }

    /// A number for a new link.
    pub fn number(&self, one: Org, other: Org) -> u64 {
        let mut pair = self.pair(one, other);
        pair.links += 1;
        pair.links * 100 + u64::from(one.0) * 10 + u64::from(other.0)
    }

    /// Whether luck has it that so many in a thousand things from one to the other go wrong.
    pub fn strikes(&self, from: Org, to: Org, per_mille: u64) -> bool {
        strikes(&mut self.way(from, to).luck, per_mille)
    }

    /// Luck of this way.
    pub fn below(&self, from: Org, to: Org, n: u64) -> u64 {
        self.way(from, to).luck.below(n)
    }

    pub fn is_dark(&self, from: Org, to: Org) -> bool {
        self.way(from, to).dark
    }

    /// Lets nothing through any more, or all again.
    pub fn set_dark(&self, from: Org, to: Org, dark: bool) {
        self.way(from, to).dark = dark;
    }

    pub fn takes_sockets(&self, one: Org, other: Org) -> bool {
        !self.pair(one, other).no_sockets
    }

    /// Lets WebSockets through or not; those that are open break.
    pub fn set_sockets(&self, one: Org, other: Org, let_through: bool) {
        self.pair(one, other).no_sockets = !let_through;
        if !let_through {
            self.reset(one, other);
        }
    }

    /// Breaks all their connections; how many there were.
    pub fn reset(&self, one: Org, other: Org) -> usize {
        let connections = std::mem::take(&mut self.pair(one, other).connections);
        let open = connections.iter().filter_map(Weak::upgrade).inspect(|connection| {
            connection.is_reset.store(true, Ordering::Relaxed);
            connection.reset.notify_waiters();
        });
        open.count()
    }

    /// Everything is whole again.
    pub fn heal(&self, options: &Options) {
        for way in self.ways.values() {
            let mut way = lock(way);
            (way.dark, way.slowness) = (false, Duration::ZERO);
        }
        for pair in &options.pairs {
            self.pair(pair.ends[0], pair.ends[1]).no_sockets = pair.kind == Kind::Http;
        }
    }

    /// Dials; the other end is given to whoever runs there.
    pub async fn connect(&self, world: &Arc<World>, from: Org, to: Org) -> Result<Wire, Refused> {
        sleep(self.latency(from, to) + self.latency(to, from)).await;
        if self.is_dark(from, to) || self.is_dark(to, from) {
            sleep(OPENING).await;
            return Err(Refused::Unreachable);
        }
        if !world.member(to).answers() {
            return Err(Refused::Unreachable);
        }
        if !self.takes_sockets(from, to) {
            return Err(Refused::Handshake(403, None));
        }
        if self.is_busy(world, from, to) {
            world.fault(None, "handshake answered 429");
            let wait = match self.below(from, to, 8) {
                0 => None,
                1 => Some(Duration::from_secs(30 * 86_400)),
                most => Some(Duration::from_secs(self.below(from, to, most * 10))),
            };
            return Err(Refused::Handshake(429, wait));
        }
        let life = Arc::new(Connection::default());
        let (there, here) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let outlet = |frames, way| Outlet {
            frames,
            last: Mutex::new(Instant::now()),
            way,
            world: Arc::downgrade(world),
            gap: Default::default(),
        };
        let inlet = |frames| Inlet { frames, next: None, connection: Arc::clone(&life) };
        let dialled = Wire { out: outlet(there.0, (from, to)), inlet: inlet(here.1), life: Arc::clone(&life) };
        let accepted = Wire { out: outlet(here.0, (to, from)), inlet: inlet(there.1), life: Arc::clone(&life) };
        {
            let mut pair = self.pair(from, to);
            pair.connections.retain(|connection| connection.strong_count() > 0);
            pair.connections.push(Arc::downgrade(&life));
        }
        world.member(to).accept(from, accepted);
        Ok(dialled)
    }

    /// Whether it lets nobody in just now. A hostile one does as it likes.
    fn is_busy(&self, world: &World, from: Org, to: Org) -> bool {
        let (options, is_real) = (&world.options, world.member(to).is_real());
        let per_mille = match is_real {
            true => options.faults.refuse,
            false if options.mute => 0,
            false => 100,
        };
        !world.is_healed() && self.strikes(from, to, per_mille)
    }

    /// The keys that `of` publishes, as `by` gets them.
    pub async fn fetch_keys(&self, world: &Arc<World>, by: Org, of: Org) -> Result<Bytes, String> {
        let way = self.latency(by, of) + self.latency(of, by);
        // Where a fetch takes longer than an answer may, nobody learns in time that a key is not published: no verdict.
        let most = if world.is_healed() { Duration::from_millis(300) } else { FETCHING };
        sleep(way.min(most)).await;
        if self.is_dark(by, of) || self.is_dark(of, by) {
            sleep(FETCHING).await;
            return Err("no answer within 5 s".to_owned());
        }
        let member = world.member(of);
        match member.key_server() {
            KeyServer::Fine => Ok(member.ring.jwks()),
            KeyServer::Down => {
                world.fault(Some(of), "key server down");
                Err("expected 200, found 503".to_owned())
            }
            KeyServer::Slow => {
                world.fault(Some(of), "key server slow");
                sleep(FETCHING - way.min(FETCHING)).await;
                Err("no answer within 5 s".to_owned())
            }
            KeyServer::Wrong => {
                world.fault(Some(of), "key server wrong");
                Ok(Bytes::from_static(b"<html>It works!</html>"))
            }
            KeyServer::Stale => {
                world.fault(Some(of), "keys from an old cache");
                Ok(member.old_keys())
            }
        }
    }

    fn way(&self, from: Org, to: Org) -> MutexGuard<'_, Way> {
        lock(&self.ways[&(from, to)])
    }

    fn pair(&self, one: Org, other: Org) -> MutexGuard<'_, Pair> {
        lock(&self.pairs[&[one.min(other), one.max(other)]])
    }
}

impl Outlet {
    /// Sends a frame; it arrives in its turn, or not.
    pub fn send(&self, frame: Frame) {
        let Some(world) = self.world.upgrade() else { return };
        let (from, to) = self.way;
        if world.net.is_dark(from, to) {
            self.gap.store(true, Ordering::Relaxed);
        }
        if self.gap.load(Ordering::Relaxed) {
            return;
        }
        let mut last = lock(&self.last);
        *last = (*last).max(Instant::now() + world.net.latency(from, to));
        // Whoever is gone hears nothing.
        let _ = self.frames.send((*last, frame));
    }
}

impl Inlet {
    /// The next frame; none when the connection is broken. Cancel-safe.
    pub async fn next(&mut self) -> Option<Frame> {
        if self.next.is_none() {
            let frames = &mut self.frames;
            self.next = tokio::select! {
                biased;
                () = self.connection.reset() => None,
                frame = frames.recv() => frame,
            };
        }
        let (at, _) = self.next.as_ref()?;
        let at = *at;
        tokio::select! {
            biased;
            () = self.connection.reset() => return None,
            () = tokio::time::sleep_until(at) => {}
        }
        self.next.take().map(|(_, frame)| frame)
    }
}

fn lock<T>(place: &Mutex<T>) -> MutexGuard<'_, T> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

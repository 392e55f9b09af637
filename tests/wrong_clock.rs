//! A Transceiver that starts by a clock which is wrong, as that of a machine may be until it has asked for the time. What is
//! queued must not die of it, and what comes must not be refused for it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pushpull::auth::Secret;
use pushpull::clock::{Clock, Timestamp, Wall, Watch};
use pushpull::engine;
use pushpull::set::events::Filter;
use pushpull::set::{Algorithm, KeySet, SigningKey};
use pushpull::store::{Journal as _, Memory};
use pushpull::transceiver::{DialConfig, Event, KeySource, Method, PeerConfig, Transceiver};
use pushpull::wire::net::{Allow, Target};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::Instant;

const DAY: i64 = 86_400_000;
/// What time it is when a test begins.
const BEGINNING: i64 = 1_800_000_000_000;

/// A machine, and the clock of a process on it.
struct Machine {
    began: Instant,
    started: Instant,
    wrong_by: AtomicI64,
    watch: Mutex<Watch>,
}

impl Machine {
    /// A process that starts now, by a clock that is wrong by so many milliseconds.
    fn start(began: Instant, wrong_by: i64) -> Arc<Self> {
        let started = Instant::now();
        let shown = BEGINNING + millis(started - began) + wrong_by;
        let watch = Mutex::new(Watch::new(Wall(shown as u64)));
        Arc::new(Self { began, started, wrong_by: AtomicI64::new(wrong_by), watch })
    }

    fn set_right(&self) {
        self.wrong_by.store(0, Ordering::SeqCst);
    }

    fn read(&self) -> (Duration, Wall) {
        let shown = BEGINNING + millis(self.began.elapsed()) + self.wrong_by.load(Ordering::SeqCst);
        (self.started.elapsed(), Wall(shown as u64))
    }
}

impl Clock for Machine {
    fn now(&self) -> Timestamp {
        let (mono, wall) = self.read();
        self.watch.lock().unwrap().judge(mono, wall)
    }

    fn resume(&self, last: Wall) {
        let (mono, wall) = self.read();
        self.watch.lock().unwrap().resume(mono, wall, last);
    }
}

fn millis(time: Duration) -> i64 {
    time.as_millis() as i64
}

/// Two organisations, their keys on a disk.
struct Place {
    folder: TempDir,
    /// As PEM.
    keys: [String; 2],
    token: Secret,
}

const NAMES: [&str; 2] = ["a", "b"];

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = NAMES.map(|name| {
            let (key, pem) = SigningKey::generate(Algorithm::EdDsa, &format!("{name}-1")).unwrap();
            let jwks = KeySet::of([key.public_jwk()]).to_json().to_string();
            std::fs::write(folder.path().join(name), jwks).unwrap();
            pem.to_string()
        });
        Self { folder, keys, token: Secret::mint().unwrap() }
    }

    /// One of the two, with the other as its partner, which it dials if there is where.
    async fn transceiver(
        &self,
        index: usize,
        store: &Arc<Memory>,
        clock: &Arc<Machine>,
        listener: Option<TcpListener>,
        dial: Option<&str>,
    ) -> Transceiver {
        let (own, other) = (NAMES[index], NAMES[1 - index]);
        let retry_first = Duration::from_millis(500);
        let peer = pushpull::peer::Config { retry_first, ..pushpull::peer::Config::default() };
        let engine = engine::Config { peer: Arc::new(peer), ..engine::Config::default() };
        let mut builder = Transceiver::builder(format!("https://{own}.example"))
            .signing_key(SigningKey::from_pem(&format!("{own}-1"), &self.keys[index]).unwrap())
            .store(Arc::clone(store))
            .clock(Arc::clone(clock) as Arc<dyn Clock>)
            .engine(engine)
            .allow(Allow::parse(["127.0.0.0/8"]).unwrap());
        if let Some(listener) = listener {
            builder = builder.listen(listener, None);
        }
        let transceiver = builder.start().await.unwrap();
        let token = || self.token.clone();
        let dial = dial.map(|url| DialConfig {
            target: Target::parse(url).unwrap(),
            pin: None,
            token: Some(token()),
            method: Method::Websocket,
        });
        let accept_tokens = if dial.is_none() { vec![token()] } else { Vec::new() };
        let peer = PeerConfig {
            name: other.to_owned(),
            issuer: format!("https://{other}.example"),
            keys: KeySource::File(self.folder.path().join(other)),
            audience: None,
            accept_audience: None,
            dial,
            collect: None,
            accept_tokens,
            send: Filter::all(),
            accept: Filter::all(),
        };
        transceiver.add_peer(peer).await.unwrap();
        transceiver
    }
}

fn event(id: &str) -> Event {
    Event::new("caep:session-revoked", json!({"format": "opaque", "id": id}))
}

/// The store keeps when the clock was believed.
async fn noted(store: &Memory) {
    while store.last_time().await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// How many wait for the partner, and how many were given up.
async fn standing(transceiver: &Transceiver) -> (u64, u64) {
    let status = transceiver.peer("b").await.unwrap();
    (status.queued, status.dead)
}

#[tokio::test(start_paused = true)]
async fn what_is_queued_outlives_a_start_by_a_clock_that_is_weeks_ahead() {
    let (place, store, began) = (Place::new(), Arc::new(Memory::new()), Instant::now());
    let first = place.transceiver(0, &store, &Machine::start(began, 0), None, None).await;
    first.send("b", event("queued")).await.unwrap();
    noted(&store).await;
    first.shutdown(Duration::from_secs(1)).await;

    let clock = Machine::start(began, 20 * DAY);
    let second = place.transceiver(0, &store, &clock, None, None).await;
    tokio::time::sleep(Duration::from_secs(570)).await;
    assert_eq!(standing(&second).await, (1, 0), "older than `age_max` by that clock, which is not believed");
    assert!(second.now().suspect, "and that is told");
    clock.set_right();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(standing(&second).await, (1, 0));
    second.shutdown(Duration::from_secs(1)).await;

    let third = place.transceiver(0, &store, &Machine::start(began, 20 * DAY), None, None).await;
    tokio::time::sleep(Duration::from_secs(700)).await;
    assert_eq!(standing(&third).await, (0, 1), "it has run so for ten minutes: we were away for weeks");
    third.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_refused_by_a_clock_that_is_months_off_at_the_start() {
    for (wrong_by, is_taken_at_once) in [
        (60 * DAY, false),
        // Dates go on from where they ended before.
        (-60 * DAY, true),
    ] {
        let (place, began) = (Place::new(), Instant::now());
        let stores = [Arc::new(Memory::new()), Arc::new(Memory::new())];
        // The first life of `b`.
        let before = place.transceiver(1, &stores[1], &Machine::start(began, 0), None, None).await;
        before.send("a", event("before")).await.unwrap();
        noted(&stores[1]).await;
        before.shutdown(Duration::from_secs(1)).await;

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/pushpull", listener.local_addr().unwrap());
        let clock = Machine::start(began, wrong_by);
        let b = place.transceiver(1, &stores[1], &clock, Some(listener), None).await;
        let a = place.transceiver(0, &stores[0], &Machine::start(began, 0), None, Some(&url)).await;
        a.send("b", event("good")).await.unwrap();
        // What `b` had queued comes through meanwhile: the link is there, and `b` answers.
        let mut inbox = a.inbox("test");
        let received = tokio::time::timeout(Duration::from_secs(20), inbox.next()).await.unwrap().unwrap();
        assert_eq!(received.claims()["sub_id"]["id"], "before");
        if !is_taken_at_once {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let status = a.peer("b").await.unwrap();
            assert_eq!((status.queued, status.acked, status.refused), (1, 0, 0), "no verdict by that clock");
            clock.set_right();
        }
        let taken = async {
            while a.peer("b").await.unwrap().acked == 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), taken).await.expect("taken when the date can be told");
        assert_eq!(a.peer("b").await.unwrap().refused, 0);
        a.shutdown(Duration::from_secs(5)).await;
        b.shutdown(Duration::from_secs(5)).await;
    }
}

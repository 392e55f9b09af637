//! The proxy before one of the two: takes connections, and does to them what it is told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::air::{Air, Door, Kind, Strike};
use super::connection;
use crate::plan::Random;

/// A running mangler; dropping it ends every connection.
pub(crate) struct Mangler {
    pub(super) state: Arc<State>,
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

/// What its connections share.
pub(super) struct State {
    pub(super) upstream: String,
    pub(super) air: watch::Sender<Air>,
    pub(super) strikes: broadcast::Sender<Strike>,
    /// How often each kind of fault has met something.
    met: [AtomicUsize; Kind::ALL.len()],
    /// When each connection was dialled.
    dials: Mutex<Vec<Instant>>,
    /// How long it took, each time, until a WebSocket that had become half-open was given up.
    pub(super) found: Mutex<Vec<Duration>>,
    /// Half-open WebSockets that were given up too late, or not at all.
    pub(super) unfound: Mutex<Vec<String>>,
    /// Connections of which somebody still does not know that they are half-open.
    pub(super) half_open: AtomicUsize,
    /// Requests that have passed and are not answered yet, and the news of another one.
    pub(super) asked: AtomicUsize,
    pub(super) request_passed: Notify,
    /// The door was shut, and nobody has come since.
    shut: AtomicBool,
}

impl Mangler {
    pub(crate) async fn start(name: &str, seed: u64, listen: &str, upstream: String) -> Self {
        let state = Arc::new(State {
            upstream,
            air: watch::Sender::new(Air::default()),
            strikes: broadcast::Sender::new(64),
            met: Default::default(),
            dials: Mutex::default(),
            found: Mutex::default(),
            unfound: Mutex::default(),
            half_open: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            request_passed: Notify::new(),
            shut: AtomicBool::new(false),
        });
        let listener = crate::pairing::listen(listen).await;
        let address = listener.local_addr().expect("it is bound");
        let mut tasks = JoinSet::new();
        let random = Random::new(seed, &format!("mangler {name}"));
        tasks.spawn(take_in(Arc::clone(&state), listener, address, random));
        Self { state, address, _tasks: tasks }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on everything passes so.
    pub(crate) fn set(&self, air: Air) {
        self.state.air.send_replace(air);
    }

    /// Strikes what is open now.
    pub(crate) fn strike(&self, strike: Strike) {
        // Without a connection there is nobody to hear it.
        let _ = self.state.strikes.send(strike);
    }

    pub(crate) fn met(&self, kind: Kind) -> usize {
        self.state.met[kind as usize].load(Ordering::Relaxed)
    }

    /// Connections that were dialled so far, and when. Refused ones are seen by nobody here.
    pub(crate) fn dials(&self) -> Vec<Instant> {
        self.state.dials.lock().expect("nobody panicked").clone()
    }
}

impl State {
    pub(super) fn meet(&self, kind: Kind) {
        self.met[kind as usize].fetch_add(1, Ordering::Relaxed);
    }
}

async fn take_in(state: Arc<State>, listener: TcpListener, address: SocketAddr, mut random: Random) {
    let mut door = state.air.subscribe();
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let is = door.borrow_and_update().door;
        if is == Door::Shut {
            // The kernel refuses from here on.
            listener = None;
            state.shut.store(true, Ordering::Relaxed);
            let _ = door.wait_for(|air| air.door != Door::Shut).await;
            continue;
        }
        let Some(open) = &listener else {
            // An old connection may still hold the address for a moment.
            listener = TcpListener::bind(address).await.ok();
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        tokio::select! {
            accepted = open.accept() => if let Ok((stream, _)) = accepted {
                state.dials.lock().expect("nobody panicked").push(Instant::now());
                if state.shut.swap(false, Ordering::Relaxed) {
                    state.meet(Kind::Refused);
                }
                if state.air.borrow().door == Door::Slammed {
                    state.meet(Kind::Slammed);
                    reset(&stream);
                    continue;
                }
                connections.spawn(connection::serve(Arc::clone(&state), stream, random.fork()));
            },
            _ = door.changed() => {}
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Has the kernel say RST instead of FIN when this end is dropped.
pub(super) fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

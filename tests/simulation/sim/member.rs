//! One organisation: its disk, its wall clock and its keys, which outlive the processes that it starts one after the other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pushpull::auth::KeyRing;
use pushpull::clock::Wall;
use pushpull::random::Random;

use super::chaos::KeyServer;
use super::clock::{Gauge, WallClock};
use super::disk::{self, Disk, End};
use super::event::{Death, Event, Org, Role};
use super::exchange::{self, Reply, Way};
use super::hostile::Hostile;
use super::life::Life;
use super::mint;
use super::net::{Parcel, Wire};
use super::options::MemberPlan;
use super::socket;
use super::world::{Outside, World, some_of, strikes};

/// One organisation.
pub struct Member {
    pub org: Org,
    pub plan: MemberPlan,
    pub disk: Disk,
    pub wall: Arc<WallClock>,
    pub gauge: Arc<Gauge>,
    /// As if kept in files: what it says is durable is.
    pub ring: Arc<KeyRing>,
    pub hostile: Option<Arc<Hostile>>,
    /// Up to which row of the inbox the application was told that its confirmation is durable.
    pub confirmed: AtomicU64,
    world: Outside,
    state: Mutex<State>,
}

struct State {
    life: Option<Arc<Life>>,
    lives: u64,
    luck: Random,
    published: Vec<String>,
    keys: KeyServer,
    old_keys: bytes::Bytes,
    /// Shut down for good: the run is over.
    over: bool,
}

/// Whoever has to be started more often will never stay up.
const LIVES_MAX: u64 = 500;

/// The longest time until somebody starts a process again.
const DOWN_MAX: Duration = Duration::from_secs(20);

impl Member {
    pub fn new(world: &Arc<World>, plan: &MemberPlan) -> Arc<Self> {
        let org = plan.org;
        let witness = Arc::new(DiskWitness { org, world: Arc::downgrade(world) });
        let disk_seed = world.luck(&[10, u64::from(org.0)]).next_u64();
        let key = mint::make_key(org, 1);
        let ring = KeyRing::of(vec![key], None, Wall(mint::BEGINNING * 1000)).expect("one key is a ring");
        let state = State {
            life: None,
            lives: 0,
            luck: world.luck(&[11, u64::from(org.0)]),
            published: Vec::new(),
            keys: KeyServer::Fine,
            old_keys: ring.jwks(),
            over: false,
        };
        Arc::new(Self {
            org,
            plan: plan.clone(),
            disk: Disk::new(disk_seed, world.options.bugs, witness),
            wall: WallClock::new(world.began),
            gauge: Gauge::new(),
            ring,
            hostile: (plan.role == Role::Hostile).then(|| Hostile::new(world, org)),
            confirmed: AtomicU64::new(0),
            world: Arc::downgrade(world),
            state: Mutex::new(state),
        })
    }

    /// Whether it runs the product.
    pub fn is_real(&self) -> bool {
        self.plan.role != Role::Hostile
    }

    /// Whether anybody is there to be reached.
    pub fn answers(&self) -> bool {
        !self.is_real() || self.state().life.is_some()
    }

    /// Somebody opened a WebSocket.
    pub fn accept(&self, from: Org, wire: Wire) {
        if let Some(hostile) = &self.hostile {
            tokio::spawn(Arc::clone(hostile).run(from, wire));
        } else if let Some(life) = self.life() {
            let this = Arc::clone(&life);
            life.spawn(async move {
                socket::run(this, from, wire).await;
            });
        }
    }

    /// Somebody makes a request.
    pub fn answer(&self, from: Org, way: Way, body: Parcel, reply: Reply) {
        if let Some(hostile) = &self.hostile {
            hostile.answer(from, &body, reply);
        } else if let Some(life) = self.life() {
            life.spawn(exchange::respond(Arc::clone(&life), from, way, body, reply));
        }
    }

    /// The process that runs, if one does.
    pub fn life(&self) -> Option<Arc<Life>> {
        self.state().life.clone()
    }

    /// Starts a process, as soon as its store can be opened.
    pub async fn start(self: Arc<Self>) {
        loop {
            let Some(world) = self.world.upgrade() else { return };
            let opened = self.disk.open().await;
            // A machine that boots is told the time before anything else starts, or a while after that. A store that remembers
            // nothing knows no better than a wrong clock.
            let contents = self.disk.contents();
            let remembers =
                !(contents.outbox.is_empty() && contents.answered.is_empty() && contents.settled.is_empty());
            if !remembers || strikes(&mut self.state().luck, 500) {
                self.wall.set_right();
            }
            match opened {
                Ok(store) => {
                    let number = {
                        let mut state = self.state();
                        state.lives += 1;
                        state.lives
                    };
                    if number > LIVES_MAX {
                        return world.violate(format!("{:?} was started {LIVES_MAX} times", self.org));
                    }
                    world.note(&Event::Started { org: self.org, contents: self.disk.contents() });
                    if number > 1 {
                        world.meet("restarted");
                    }
                    let store = Arc::new(store);
                    // A store may die before there is anybody to notice.
                    let life = tokio::select! {
                        biased;
                        life = Life::new(&world, &self, Arc::clone(&store), number) => life,
                        _ = store.ended() => {
                            self.disk.crash();
                            let contents = self.disk.contents();
                            world.note(&Event::Died { org: self.org, why: Death::Killed, contents });
                            let pause = self.pause();
                            tokio::time::sleep(pause).await;
                            continue;
                        }
                    };
                    self.state().life = Some(Arc::clone(&life));
                    life.begin();
                    return;
                }
                Err(_) => {
                    self.disk.crash();
                    let pause = self.pause();
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Ends this process where it stands, if it still runs; another one is started after a while.
    pub fn end(self: &Arc<Self>, life: &Arc<Life>, why: Death) {
        if !self.take(life) {
            return;
        }
        life.cut();
        self.disk.crash();
        let Some(world) = self.world.upgrade() else { return };
        world.note(&Event::Died { org: self.org, why, contents: self.disk.contents() });
        if self.state().over {
            return;
        }
        let (this, pause) = (Arc::clone(self), self.pause());
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            if this.plan.role == Role::Forgetful {
                this.forget();
            }
            this.start().await;
        });
    }

    /// Looks after a process until its store has failed or hangs.
    pub async fn tend(self: Arc<Self>, life: Arc<Life>) {
        let ended = tokio::select! {
            biased;
            end = life.store.ended() => end,
            why = life.supervisor.failed() => End::Failed(why),
        };
        if let End::Failed(why) = &ended {
            life.world.meet(if why.contains("recover") { "died in recovery" } else { "store failed" });
        }
        let why = match ended {
            End::Hangs => Death::Killed,
            End::Failed(_) => Death::StoreFailed,
        };
        self.end(&life, why);
    }

    /// Whether it is news that these keys are published.
    pub fn publishes(&self, kids: &[String]) -> bool {
        let mut state = self.state();
        let is_news = state.published != kids;
        if is_news {
            state.published = kids.to_vec();
        }
        is_news
    }

    pub fn key_server(&self) -> KeyServer {
        self.state().keys
    }

    pub fn set_key_server(&self, keys: KeyServer) {
        let now = self.ring.jwks();
        let mut state = self.state();
        (state.keys, state.old_keys) = (keys, now);
    }

    /// What was published when the cache on the way was filled.
    pub fn old_keys(&self) -> bytes::Bytes {
        self.state().old_keys.clone()
    }

    /// The run is over: nothing is started again, and nobody holds the world any more.
    pub fn finish(&self) {
        let life = {
            let mut state = self.state();
            state.over = true;
            state.life.take()
        };
        if let Some(life) = life {
            life.cut();
        }
    }

    fn forget(&self) {
        let Some(world) = self.world.upgrade() else { return };
        if !world.is_healed() {
            self.disk.wipe();
            self.confirmed.store(0, Ordering::Relaxed);
            world.note(&Event::Forgot { org: self.org });
        }
    }

    fn take(&self, life: &Arc<Life>) -> bool {
        let mut state = self.state();
        let runs = state.life.as_ref().is_some_and(|running| Arc::ptr_eq(running, life));
        if runs {
            state.life = None;
        }
        runs
    }

    fn pause(&self) -> Duration {
        some_of(&mut self.state().luck, DOWN_MAX)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells what happens on a disk.
struct DiskWitness {
    org: Org,
    world: Outside,
}

impl disk::Witness for DiskWitness {
    fn org(&self) -> Org {
        self.org
    }

    fn partner(&self, name: &str) -> Org {
        mint::org(name)
    }

    fn note(&self, event: &Event) {
        if let Some(world) = self.world.upgrade() {
            world.note(event);
        }
    }
}

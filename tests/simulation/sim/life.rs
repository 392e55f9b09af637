//! One process of an organisation, from its start until it is ended where it stands: the real engine, and the pretend
//! application, operator and drivers around it.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pushpull::auth::{Parsed, PartnerKeys};
use pushpull::clock::{Clock, Wall};
use pushpull::engine::{self, Inspector, Partner, Pool, Supervisor, Timekeeper};
use pushpull::peer::PeerId;
use pushpull::random::Random;
use pushpull::set::events::Filter;
use pushpull::set::{KeySet, Policy, Profile};
use pushpull::store::{Journal, Registry};
use pushpull::transport::pushpull as transport;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::application;
use super::clock::ProcessClock;
use super::dialler;
use super::disk::Store;
use super::event::{Death, Event, Org};
use super::member::Member;
use super::mint;
use super::remembered;
use super::world::{World, strikes};
use super::{bounds, calls, keys, operator};

/// One process.
pub struct Life {
    pub org: Org,
    pub world: Arc<World>,
    pub member: Arc<Member>,
    /// The how manyth process of its organisation.
    pub number: u64,
    pub clock: Arc<ProcessClock>,
    /// When a process before last believed its clock.
    pub last_time: Option<Wall>,
    pub store: Arc<Store>,
    pub supervisor: Arc<Supervisor>,
    pub partners: BTreeMap<Org, Arc<Partner>>,
    pub orgs: BTreeMap<PeerId, Org>,
    configs: BTreeMap<Org, Arc<transport::Config>>,
    alive: AtomicBool,
    tasks: Mutex<Vec<AbortHandle>>,
    /// While the process does nothing outside.
    stopped: AtomicBool,
    /// Wakes all in their order; a `watch` would draw lots.
    goes_on: Notify,
    luck: Mutex<Random>,
}

/// So often a process is killed and started again.
const LIVES_MAX: u64 = 40;

/// How often the time is looked at to note it: the janitor does more often, but a spin shall be told from that.
const KEEP_EVERY: Duration = Duration::from_secs(30);

/// How often the partners' keys are fetched anew.
const JWKS_REFRESH: Duration = Duration::from_secs(600);

impl Life {
    pub async fn new(world: &Arc<World>, member: &Arc<Member>, store: Arc<Store>, number: u64) -> Arc<Self> {
        let org = member.org;
        let clock = ProcessClock::new(Arc::clone(&member.wall), Arc::clone(&member.gauge));
        // As the product's front door does. A store that may not be read at all is the end of this process anyway.
        let mut resumed = engine::resume(&*clock, &*store).await;
        while resumed == Err(pushpull::store::Error::Full) {
            // That start has failed; whoever looks after the process makes another one.
            tokio::time::sleep(Duration::from_secs(1)).await;
            resumed = engine::resume(&*clock, &*store).await;
        }
        let last_time = resumed.ok().flatten();
        if clock.now().suspect {
            world.meet("clock suspect at the start");
        }
        let config = engine::Config {
            peer: Arc::new(member.plan.peer.clone()),
            inbox_max: member.plan.inbox_max,
            ..engine::Config::default()
        };
        let supervisor =
            Supervisor::new(config, Arc::clone(&store) as Arc<dyn Journal>, Arc::clone(&clock) as Arc<dyn Clock>);
        let (mut partners, mut orgs, mut configs) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for other in world.members().iter().map(|member| member.org).filter(|other| *other != org) {
            // The store may die at any moment; then this process never begins to do anything.
            let mut id = store.peer_id(mint::name(other)).await;
            while id == Err(pushpull::store::Error::Full) {
                tokio::time::sleep(Duration::from_secs(1)).await;
                id = store.peer_id(mint::name(other)).await;
            }
            let id = id.unwrap_or(PeerId(u32::from(other.0) + 1));
            let seed = world.luck(&[20, u64::from(org.0), u64::from(other.0), number]).next_u64();
            let inspector = inspector(world, member, other, &clock, seed);
            let name = mint::name(other).into();
            partners.insert(other, Arc::new(Partner::new(name, id, Arc::clone(&supervisor), inspector)));
            orgs.insert(id, other);
            let pair = world.options.pair(org, other);
            let config = transport::Config {
                limits: member.plan.limits,
                speak_interval: pair.speak_interval,
                ping_interval: pair.ping_interval,
                ..transport::Config::default()
            };
            configs.insert(other, Arc::new(config));
        }
        Arc::new(Self {
            org,
            world: Arc::clone(world),
            member: Arc::clone(member),
            number,
            clock,
            last_time,
            store,
            supervisor,
            partners,
            orgs,
            configs,
            alive: AtomicBool::new(true),
            tasks: Mutex::default(),
            stopped: AtomicBool::new(false),
            goes_on: Notify::new(),
            luck: Mutex::new(world.luck(&[21, u64::from(org.0), number])),
        })
    }

    /// As the janitor does, which does more besides.
    async fn keep_time(self: Arc<Self>) {
        let mut timekeeper = Timekeeper::default();
        loop {
            self.awake().await;
            if let Err(error) = timekeeper.keep(self.clock.now(), &*self.store).await {
                self.supervisor.note_failure(&error);
            }
            tokio::time::sleep(KEEP_EVERY).await;
        }
    }

    /// Starts everything that a process does by itself.
    pub fn begin(self: &Arc<Self>) {
        self.spawn(Arc::clone(&self.member).tend(Arc::clone(self)));
        for (other, partner) in &self.partners {
            let keys = Arc::clone(partner.inspector().keys());
            self.spawn(keys.run(std::future::pending()));
            self.spawn(dialler::run(Arc::clone(self), *other));
            calls::begin(self, *other);
            // Its queue goes on whether or not somebody comes.
            drop(partner.handle());
        }
        self.spawn(application::run(Arc::clone(self)));
        self.spawn(keys::tend(Arc::clone(self)));
        self.spawn(Arc::clone(self).keep_time());
        self.spawn(operator::run(Arc::clone(self)));
        self.spawn(bounds::watch(Arc::clone(self)));
        if self.world.is_healed() {
            self.spawn(operator::resume(Arc::clone(self)));
        }
    }

    pub fn partner(&self, other: Org) -> &Arc<Partner> {
        &self.partners[&other]
    }

    pub fn config(&self, other: Org) -> &Arc<transport::Config> {
        &self.configs[&other]
    }

    /// Does something for as long as the process lives.
    pub fn spawn(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        if !self.is_alive() {
            return;
        }
        let task = tokio::spawn(work).abort_handle();
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if tasks.len() % 64 == 63 {
            tasks.retain(|task| !task.is_finished());
        }
        tasks.push(task);
    }

    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    /// This process did or met this. False if it does not live any more: then it did not.
    pub fn note(self: &Arc<Self>, event: &Event) -> bool {
        if !self.is_alive() {
            return false;
        }
        self.world.note(event);
        let kill = self.world.options.faults.kill;
        let killed = kill > 0
            && !self.world.is_healed()
            && self.number < LIVES_MAX
            && strikes(&mut self.luck.lock().unwrap_or_else(PoisonError::into_inner), kill);
        if killed {
            self.world.fault(Some(self.org), "killed");
            self.member.end(self, Death::Killed);
        }
        !killed
    }

    /// Stops what the process does outside, or lets it go on: nothing comes in, goes out or is handed out meanwhile.
    pub fn set_running(&self, running: bool) {
        self.stopped.store(!running, Ordering::Relaxed);
        if running {
            self.goes_on.notify_waiters();
        }
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Waits while the process is stopped.
    pub async fn awake(&self) {
        while self.stopped.load(Ordering::Relaxed) {
            self.goes_on.notified().await;
        }
    }

    /// Nothing of this process happens any more.
    pub fn cut(&self) {
        self.alive.store(false, Ordering::Relaxed);
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
    }
}

fn inspector(world: &Arc<World>, member: &Arc<Member>, other: Org, clock: &Arc<ProcessClock>, seed: u64) -> Inspector {
    let policy = Policy {
        issuer: mint::issuer(other),
        audience: mint::issuer(member.org),
        accept: Filter::all(),
        jti_bytes_max: member.plan.limits.jti_bytes_max,
        set_bytes_max: member.plan.limits.set_bytes_max,
        profile: Profile::Ssf,
    };
    let (outside, org) = (Arc::downgrade(world), member.org);
    let fetch = move || -> futures_util::future::BoxFuture<'static, Result<bytes::Bytes, String>> {
        let outside = outside.clone();
        Box::pin(async move {
            let world = outside.upgrade().ok_or("the world is over")?;
            world.net.fetch_keys(&world, org, other).await
        })
    };
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    let keys =
        PartnerKeys::from_fetch(&mint::name(other), Box::new(fetch), parse, JWKS_REFRESH, seed, Arc::clone(&clock));
    Inspector::new(policy, keys, Pool::inline(), clock)
}

fn parse(bytes: &[u8]) -> Result<Parsed<KeySet>, String> {
    let mut keys = KeySet::parse(bytes).map_err(|error| error.to_string())?;
    remembered::remember(&mut keys);
    let skipped = keys.skipped().iter().map(|key| key.reason.clone()).collect();
    Ok(Parsed { count: keys.len(), keys, skipped })
}

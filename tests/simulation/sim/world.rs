//! One federation: its members, its time, and where everything that happens is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use pushpull::random::Random;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::event::{Event, Org};
use super::member::Member;
use super::net::Net;
use super::options::Options;
use super::paths::Paths;
use super::recorder::Witness;

/// Everything there is in one simulated federation.
pub struct World {
    pub options: Options,
    pub began: Instant,
    pub net: Net,
    members: OnceLock<Vec<Arc<Member>>>,
    witness: Arc<dyn Witness>,
    state: Mutex<State>,
    /// Wakes whoever runs the world: something is so wrong that it need not go on.
    pub broken: Notify,
}

/// A federation in which more happens runs away (L6): the busiest of the sound ones come to a tenth of it.
const EVENTS_MAX: u64 = 1_000_000;

#[derive(Default)]
struct State {
    violations: Vec<String>,
    met: BTreeMap<&'static str, u64>,
    healed: bool,
    /// Calls of applications that have not come to an end.
    calls: usize,
    paths: Paths,
}

impl World {
    pub fn new(options: Options, witness: Arc<dyn Witness>) -> Arc<Self> {
        let net = Net::new(&options);
        let world = Arc::new(Self {
            began: Instant::now(),
            net,
            members: OnceLock::new(),
            witness,
            state: Mutex::default(),
            broken: Notify::new(),
            options,
        });
        let members = world.options.members.iter().map(|plan| Member::new(&world, plan)).collect();
        let _ = world.members.set(members);
        let windows = world.options.members.iter().map(|plan| (plan.org, plan.peer.window));
        world.state().paths.windows = windows.collect();
        world
    }

    pub fn members(&self) -> &[Arc<Member>] {
        self.members.get().map_or(&[], Vec::as_slice)
    }

    pub fn member(&self, org: Org) -> &Arc<Member> {
        &self.members()[org.0 as usize]
    }

    /// This happened.
    pub fn note(&self, event: &Event) {
        if let Event::Fault { what, .. } = event {
            self.meet(what);
        }
        {
            let State { paths, met, .. } = &mut *self.state();
            paths.see(event, |what| *met.entry(what).or_default() += 1);
        }
        let (events, is_broken) = self.witness.note(self.began.elapsed(), event);
        if is_broken {
            self.broken.notify_one();
        }
        if events == EVENTS_MAX {
            self.violate(format!("runs away: {EVENTS_MAX} events"));
        }
        // Whoever goes on all the same, and lets nobody else have a turn, is ended: nothing else would end the run.
        assert!(events < EVENTS_MAX + 1000, "runs away: more than {EVENTS_MAX} events");
    }

    /// Trouble of this kind was met.
    pub fn fault(&self, org: Option<Org>, what: &'static str) {
        self.note(&Event::Fault { org, what });
    }

    /// A path in the product was taken, or a fault met.
    pub fn meet(&self, what: &'static str) {
        *self.state().met.entry(what).or_default() += 1;
    }

    /// How often each thing was met.
    pub fn met(&self) -> BTreeMap<&'static str, u64> {
        self.state().met.clone()
    }

    /// SETs that were accepted.
    pub fn sets(&self) -> u64 {
        self.state().paths.sets.len() as u64
    }

    /// Something that must never be, and that needs no judge to be seen.
    pub fn violate(&self, what: String) {
        self.state().violations.push(what);
        self.broken.notify_one();
    }

    pub fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    /// From now on nothing goes wrong any more.
    pub fn set_healed(&self) {
        self.state().healed = true;
    }

    pub fn is_healed(&self) -> bool {
        self.state().healed
    }

    /// An application has begun to hand something in, or has come to an end with it.
    pub fn count_call(&self, begins: bool) {
        let calls = &mut self.state().calls;
        *calls = if begins { *calls + 1 } else { calls.saturating_sub(1) };
    }

    /// Whether all applications have handed in what they had.
    pub fn has_no_calls(&self) -> bool {
        self.state().calls == 0
    }

    /// Luck of its own for everything that has a name, so that nobody's luck depends on what others do.
    pub fn luck(&self, names: &[u64]) -> Random {
        luck(self.options.seed, names)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Luck from a seed and a name.
pub fn luck(seed: u64, names: &[u64]) -> Random {
    let mut state = seed;
    for name in names {
        state = Random::new(state ^ name.wrapping_mul(0x9e37_79b9_7f4a_7c15)).next_u64();
    }
    Random::new(state)
}

/// Whether something happens that is so many times in a thousand the case.
pub fn strikes(random: &mut Random, per_mille: u64) -> bool {
    per_mille > 0 && random.below(1000) < per_mille
}

/// A time between nothing and all of it.
pub fn some_of(random: &mut Random, most: Duration) -> Duration {
    Duration::from_micros(random.below(most.as_micros() as u64 + 1))
}

/// One out of these.
pub fn pick<T: Copy>(random: &mut Random, from: &[T]) -> T {
    from[random.below(from.len() as u64) as usize]
}

/// The world, for those whom it owns.
pub type Outside = Weak<World>;

//! Random lives of keys and queues: whatever happens in whatever order, the key of every unsettled SET is published
//! (invariant I19), and exactly one key signs.

use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::set::Algorithm;

/// As the ring in memory has it.
const WAIT: Duration = PUBLISH_WAIT;
const NOW: Wall = Wall(1_795_000_000_000);
const PEERS: [&str; 3] = ["a", "b", "c"];

/// What happens. Numbers choose among what is there.
#[derive(Clone, Debug)]
enum Op {
    /// A caller takes the key that signs…
    Sign(usize),
    /// …and what it signed is stored, or given up.
    Store(usize, bool),
    Settle(usize, usize),
    /// A SET is given up, and kept.
    Die(usize),
    /// A dead letter is taken up with its old signature, and queued again now or later.
    Resend(usize),
    Rotate(bool),
    Retire(usize),
    /// Somebody looks where the queues end, and reports it, perhaps after much else has happened.
    Look,
    Report,
    /// The queues are asked how far they are settled.
    Ask,
    /// So many hundredths of the wait pass.
    Advance(u32),
    Crash,
}

fn ops() -> impl Strategy<Value = Op> {
    let peer = 0..PEERS.len();
    prop_oneof![
        6 => peer.clone().prop_map(Op::Sign),
        6 => (0..9usize, prop::bool::weighted(0.8)).prop_map(|(which, stored)| Op::Store(which, stored)),
        6 => (peer.clone(), 0..9usize).prop_map(|(peer, which)| Op::Settle(peer, which)),
        2 => peer.prop_map(Op::Die),
        2 => (0..9usize).prop_map(Op::Resend),
        2 => prop::bool::weighted(0.7).prop_map(Op::Rotate),
        1 => (0..9usize).prop_map(Op::Retire),
        6 => Just(Op::Look),
        6 => Just(Op::Report),
        6 => Just(Op::Ask),
        4 => (1..500u32).prop_map(Op::Advance),
        1 => Just(Op::Crash),
    ]
}

/// Signed, and not stored yet: for which peer, by which key, and what keeps that key.
struct UnderWay(usize, String, Guard);

enum Guard {
    Signed(#[expect(dead_code, reason = "held for its drop")] Arc<Signer>),
    Held(#[expect(dead_code, reason = "held for its drop")] Arc<InUse>),
}

struct World {
    /// Without it all is in memory, which is quick, and there is no crash.
    site: Option<tempfile::TempDir>,
    made: u32,
    ring: Arc<KeyRing>,
    /// Place and signing key of what is unsettled, by peer.
    queues: [BTreeMap<u64, String>; PEERS.len()],
    next_seq: [u64; PEERS.len()],
    dead: Vec<(usize, String)>,
    under_way: VecDeque<UnderWay>,
    looked: Option<(Vec<Unmarked>, BTreeMap<String, u64>)>,
}

impl World {
    fn new(on_disk: bool) -> Self {
        let (key, pem) = SigningKey::generate(Algorithm::EdDsa, "k-1").unwrap();
        let site = on_disk.then(|| tempfile::tempdir().unwrap());
        let ring = match &site {
            Some(site) => {
                folder::write_key(site.path(), "k-1", &pem).unwrap();
                Self::open(site)
            }
            None => KeyRing::of(vec![key], None, NOW).unwrap(),
        };
        let (queues, dead, under_way, looked) = Default::default();
        Self { site, made: 1, ring, queues, next_seq: [1; PEERS.len()], dead, under_way, looked }
    }

    fn open(site: &tempfile::TempDir) -> Arc<KeyRing> {
        KeyRing::open(site.path(), Some("k-1"), WAIT, NOW).unwrap()
    }

    fn next_key(&mut self) -> Rotate {
        if self.site.is_some() {
            return Rotate::Named(None, None);
        }
        self.made += 1;
        Rotate::Given(SigningKey::generate(Algorithm::EdDsa, &format!("k-{}", self.made)).unwrap().0)
    }

    fn happen(&mut self, op: Op) {
        match op {
            Op::Sign(peer) => {
                let signer = self.ring.signer();
                let kid = signer.key.kid().to_owned();
                self.under_way.push_back(UnderWay(peer, kid, Guard::Signed(signer)));
            }
            Op::Store(which, stored) if !self.under_way.is_empty() => {
                let which = which % self.under_way.len();
                if let Some(UnderWay(peer, kid, guard)) = self.under_way.remove(which)
                    && stored
                {
                    self.queues[peer].insert(self.next_seq[peer], kid);
                    self.next_seq[peer] += 1;
                    drop(guard);
                }
            }
            Op::Settle(peer, which) => drop(self.take(peer, which)),
            Op::Die(peer) => {
                let dead = self.take(peer, 0).map(|kid| (peer, kid));
                self.dead.extend(dead);
            }
            Op::Resend(which) if !self.dead.is_empty() => {
                let (peer, kid) = self.dead.swap_remove(which % self.dead.len());
                if let Some(held) = self.ring.hold(&kid).unwrap() {
                    self.under_way.push_back(UnderWay(peer, kid, Guard::Held(held)));
                }
            }
            Op::Rotate(at_once) => {
                let next = self.next_key();
                let _ = self.ring.rotate(next, at_once, NOW);
            }
            Op::Retire(which) => {
                let kids: Vec<String> = self.ring.statuses().into_iter().map(|key| key.kid).collect();
                let _ = self.ring.retire(&kids[which % kids.len()], false, NOW);
            }
            Op::Look => {
                let unmarked = self.ring.unmarked();
                let ends = (0..PEERS.len()).filter(|peer| !self.queues[*peer].is_empty());
                let ends = ends.map(|peer| (PEERS[peer].to_owned(), self.next_seq[peer])).collect();
                self.looked = Some((unmarked, ends));
            }
            Op::Report => {
                if let Some((unmarked, ends)) = self.looked.take() {
                    self.ring.mark(&unmarked, &ends).unwrap();
                }
            }
            Op::Ask => {
                let first = |peer: usize| self.queues[peer].keys().next().copied();
                self.ring.settled(&(0..PEERS.len()).map(|peer| (PEERS[peer].to_owned(), first(peer))).collect());
            }
            Op::Advance(hundredths) => self.ring.advance(WAIT / 100 * hundredths, NOW),
            Op::Crash => {
                if let Some(site) = &self.site {
                    self.under_way.clear();
                    self.looked = None;
                    self.ring = Self::open(site);
                }
            }
            Op::Store(..) | Op::Resend(_) => {}
        }
    }

    fn take(&mut self, peer: usize, which: usize) -> Option<String> {
        let len = self.queues[peer].len().max(1);
        let seq = self.queues[peer].keys().nth(which % len).copied()?;
        self.queues[peer].remove(&seq)
    }

    fn check(&self) {
        let active = self.ring.statuses().into_iter().filter(|key| key.state == "active").map(|key| key.kid);
        let signer = self.ring.signer().key.kid().to_owned();
        assert_eq!(active.collect::<Vec<_>>(), [signer.as_str()]);
        assert!(self.ring.is_published(&signer));
        for (peer, queue) in self.queues.iter().enumerate() {
            for (seq, kid) in queue {
                assert!(self.ring.is_published(kid), "{kid} is gone; {} still needs it at {seq}", PEERS[peer]);
            }
        }
    }

    /// When all is settled and somebody looks, nothing but the key that signs is left.
    fn quiet(&mut self) {
        self.under_way.clear();
        self.queues.iter_mut().for_each(BTreeMap::clear);
        for _ in 0..2 {
            for op in [Op::Look, Op::Report, Op::Ask, Op::Advance(100), Op::Advance(100)] {
                self.happen(op);
            }
            self.check();
        }
        let left: Vec<_> = self.ring.statuses().into_iter().filter(|key| key.state != "retired").collect();
        assert!(left.len() == 1, "{left:?}");
    }
}

fn live(on_disk: bool, ops: Vec<Op>) {
    let mut world = World::new(on_disk);
    for op in ops {
        world.happen(op);
        world.check();
    }
    world.quiet();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_key_of_every_unsettled_set_is_published_whatever_happens(ops in vec(ops(), 1..250)) {
        live(false, ops);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn the_key_of_every_unsettled_set_is_published_also_after_crashes(ops in vec(ops(), 1..150)) {
        live(true, ops);
    }
}

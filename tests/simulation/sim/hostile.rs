//! An organisation without the product: sends whatever it likes under its own identity, answers as it likes, and remembers
//! what it was sent.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pushpull::random::Random;
use pushpull::set::Jti;
use pushpull::wire;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::event::Org;
use super::exchange::{self, Answer, Reply, Way};
use super::mint::{self, Kind, Order};
use super::net::{Frame, Parcel, Wire};
use super::options::Kind as Link;
use super::world::{Outside, World, pick, some_of, strikes};

/// What it knows of one partner, and what it will do to it.
pub struct Hostile {
    org: Org,
    world: Outside,
    state: Mutex<State>,
}

struct State {
    luck: Random,
    /// SETs that came, with their tokens, by partner.
    seen: Vec<(Org, Jti, Arc<str>)>,
    /// Objects of its own, to be sent again.
    sent: Vec<(Org, Bytes)>,
    made: u64,
}

/// Things it does to each partner in a second of chaos, at most.
const ACTS_MAX: u64 = 60;

/// How often it is heard when it does no harm any more.
const IDLE: Duration = Duration::from_secs(10);

impl Hostile {
    pub fn new(world: &Arc<World>, org: Org) -> Arc<Self> {
        let luck = world.luck(&[90, u64::from(org.0)]);
        let state = Mutex::new(State { luck, seen: Vec::new(), sent: Vec::new(), made: 0 });
        Arc::new(Self { org, world: Arc::downgrade(world), state })
    }

    /// Begins to do harm.
    pub fn begin(self: &Arc<Self>, world: &Arc<World>) {
        for victim in world.members().iter().filter(|member| member.is_real()) {
            let (this, world, to) = (Arc::clone(self), Arc::clone(world), victim.org);
            tokio::spawn(async move {
                let pair = world.options.pair(this.org, to);
                let dials = pair.dials[usize::from(pair.ends[0] != this.org)];
                if dials && pair.kind != Link::Http {
                    this.dial(&world, to).await;
                } else if dials {
                    this.request(&world, to).await;
                }
            });
        }
    }

    async fn dial(self: Arc<Self>, world: &Arc<World>, to: Org) {
        loop {
            if let Ok(wire) = world.net.connect(world, self.org, to).await {
                Arc::clone(&self).run(to, wire).await;
            }
            sleep(Duration::from_secs(2)).await;
        }
    }

    async fn request(self: Arc<Self>, world: &Arc<World>, to: Org) {
        loop {
            let pause = if world.is_healed() { IDLE } else { self.pause() };
            sleep(pause).await;
            let parcel = if world.is_healed() { Parcel::from(Bytes::from_static(b"{}")) } else { self.act(world, to) };
            let exchange = exchange::request(world, self.org, to, Way::PushPull, parcel);
            if let Ok(Some(answer)) = tokio::time::timeout(Duration::from_secs(5), exchange).await {
                self.learn(to, &answer.body.bytes);
            }
        }
    }

    /// One WebSocket, whoever opened it.
    pub async fn run(self: Arc<Self>, to: Org, wire: Wire) {
        let Some(world) = self.world.upgrade() else { return };
        let Wire { out, mut inlet, life } = wire;
        let (pong, mut pongs) = mpsc::unbounded_channel();
        let reading = async {
            while let Some(frame) = inlet.next().await {
                match frame {
                    Frame::Text(parcel) => self.learn(to, &parcel.bytes),
                    Frame::Ping => drop(pong.send(())),
                    Frame::Pong => {}
                    Frame::Close(_) => return,
                }
            }
        };
        let writing = async {
            loop {
                let pause = if world.is_healed() { IDLE } else { self.pause() };
                tokio::select! {
                    biased;
                    Some(()) = pongs.recv() => {
                        out.send(Frame::Pong);
                        continue;
                    }
                    () = sleep(pause) => {}
                }
                // After healing it is silent, and its links stay up.
                if !world.is_healed() && !world.options.mute {
                    let flood = if self.strikes(10) { 200 } else { 1 };
                    for _ in 0..flood {
                        out.send(Frame::Text(self.act(&world, to)));
                    }
                    if self.strikes(10) {
                        world.meet("hostile: closed 1013");
                        out.send(Frame::Close(1013));
                        return;
                    }
                    if self.strikes(50) {
                        world.meet("hostile: two contents at once");
                        self.two_contents(to).into_iter().for_each(|parcel| out.send(Frame::Text(parcel)));
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = reading => {}
            () = writing => {}
        }
        drop(life);
    }

    /// Answers a request.
    pub fn answer(&self, from: Org, parcel: &Parcel, reply: Reply) {
        let Some(world) = self.world.upgrade() else { return };
        self.learn(from, &parcel.bytes);
        if world.is_healed() || world.options.mute {
            let body = Parcel::from(Bytes::from_static(b"{}"));
            drop(reply.send(Answer { status: 200, body, retry_after: None }));
            return;
        }
        if self.strikes(100) {
            let status = pick(&mut self.state().luck, &[400, 401, 404, 413, 429, 500, 503]);
            let not_you = status == 400 && self.strikes(500);
            if not_you {
                world.meet("hostile: 400 authentication_failed");
            }
            drop(reply.send(if not_you { Answer::not_you() } else { Answer::status(status) }));
            return;
        }
        let body = self.act(&world, from);
        drop(reply.send(Answer { status: 200, body, retry_after: None }));
    }

    fn pause(&self) -> Duration {
        let most = Duration::from_millis(pick(&mut self.state().luck, &[100, 5_000, 60_000]));
        some_of(&mut self.state().luck, most) + Duration::from_millis(1000 / ACTS_MAX)
    }

    fn strikes(&self, per_mille: u64) -> bool {
        strikes(&mut self.state().luck, per_mille)
    }

    fn learn(&self, from: Org, bytes: &[u8]) {
        let Ok(object) = wire::parse(bytes, &wire::Limits::default()) else { return };
        let mut state = self.state();
        for (jti, compact) in object.sets {
            if state.seen.len() < 300 {
                state.seen.push((from, jti, compact));
            }
        }
    }

    /// Its next object for somebody.
    fn act(&self, world: &Arc<World>, to: Org) -> Parcel {
        let org = self.org;
        let state = &mut *self.state();
        let which = state.luck.below(14);
        let acks = |jtis: Vec<Jti>| wire::write(&[], jtis.iter(), [].into_iter(), None);
        let bytes: Vec<u8> = match which {
            0..3 => {
                let kind = pick(&mut state.luck, &[Kind::Sound, Kind::Sound, Kind::Verification]);
                let jti = state.fresh(org, to);
                state.with_sets(org, to, vec![(jti, kind)])
            }
            3 => {
                let kinds: Vec<Kind> =
                    (0..=state.luck.below(6)).map(|_| pick(&mut state.luck, &Kind::UNSOUND)).collect();
                let sets = kinds.into_iter().map(|kind| (state.fresh(org, to), kind)).collect();
                world.meet("hostile: unsound SETs");
                state.with_sets(org, to, sets)
            }
            4 => {
                world.meet("hostile: other content");
                let jti = state.known(org, to);
                state.with_sets(org, to, vec![(jti, Kind::Changed)])
            }
            5 => {
                let again: Vec<Bytes> =
                    state.sent.iter().filter(|(victim, _)| *victim == to).map(|(_, bytes)| bytes.clone()).collect();
                world.meet("hostile: replay");
                match again.len() {
                    0 => b"{}".to_vec(),
                    count => again[state.luck.below(count as u64) as usize].to_vec(),
                }
            }
            6 => {
                // Tokens of others: those that came here, and those that were stolen.
                world.meet("hostile: relay");
                let stolen =
                    world.members().iter().map(|member| member.org).find(|other| *other != org && *other != to);
                match (state.luck.below(2), stolen) {
                    (0, Some(from)) => {
                        let jti = guess(&mut state.luck, from, to);
                        let set = mint::token(&Order { from, to, jti, kind: Kind::Sound, key: 1 });
                        wire::write(&[(set.jti, set.compact)], [].iter(), [].into_iter(), None)
                    }
                    _ => {
                        let place = state.luck.below(state.seen.len().max(1) as u64) as usize;
                        let set = state.seen.get(place).map(|(_, jti, compact)| (jti.clone(), Arc::clone(compact)));
                        wire::write(set.as_slice(), [].iter(), [].into_iter(), None)
                    }
                }
            }
            7 => {
                // What it really got: acknowledged, perhaps not for the first time.
                let got: Vec<Jti> =
                    state.seen.iter().filter(|(from, ..)| *from == to).map(|(_, jti, _)| jti.clone()).collect();
                let half: Vec<Jti> = got.into_iter().filter(|_| strikes(&mut state.luck, 500)).collect();
                acks(dedup(half))
            }
            8 => {
                world.meet("hostile: guessed verdicts");
                let jtis = (0..=state.luck.below(5)).map(|_| guess(&mut state.luck, to, org)).collect();
                acks(dedup(jtis))
            }
            9 => {
                world.meet("hostile: foreign verdicts");
                let others: Vec<Org> = world
                    .members()
                    .iter()
                    .map(|member| member.org)
                    .filter(|other| *other != org && *other != to)
                    .collect();
                let other = if others.is_empty() { org } else { pick(&mut state.luck, &others) };
                let jtis = (0..=state.luck.below(5)).map(|_| guess(&mut state.luck, to, other)).collect();
                acks(dedup(jtis))
            }
            10 => {
                world.meet("hostile: guessed refusals");
                let jti = guess(&mut state.luck, to, org);
                wire::write(&[], [].iter(), [(&jti, "invalid_key", "no")].into_iter(), None)
            }
            11 => {
                world.meet("hostile: another name");
                let jti = state.fresh(org, to);
                let set = mint::token(&Order { from: org, to, jti, kind: Kind::Sound, key: 1 });
                let name = guess(&mut state.luck, org, to);
                wire::write(&[(name, set.compact)], [].iter(), [].into_iter(), None)
            }
            12 => {
                world.meet("hostile: malformed");
                return state.malformed(org, to);
            }
            _ => {
                let max = pick(&mut state.luck, &[0, 1, u64::MAX]);
                wire::write(&[], [].iter(), [].into_iter(), Some(max))
            }
        };
        let bytes = Bytes::from(bytes);
        if state.sent.len() < 100 {
            state.sent.push((to, bytes.clone()));
        }
        bytes.into()
    }

    /// A new SET and an unsound one of the same jti, to be judged at the same time.
    fn two_contents(&self, to: Org) -> [Parcel; 2] {
        let state = &mut *self.state();
        let jti = state.fresh(self.org, to);
        let unsound = pick(&mut state.luck, &Kind::UNSOUND);
        [Kind::Sound, unsound].map(|kind| Bytes::from(state.with_sets(self.org, to, vec![(jti.clone(), kind)])).into())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fresh(&mut self, org: Org, to: Org) -> Jti {
        self.made += 1;
        Jti::from(format!("{}{}-x{}", mint::name(org), mint::name(to), self.made).as_str())
    }

    fn known(&mut self, org: Org, to: Org) -> Jti {
        let number = self.luck.below(self.made + 1);
        Jti::from(format!("{}{}-x{number}", mint::name(org), mint::name(to)).as_str())
    }

    fn with_sets(&mut self, from: Org, to: Org, sets: Vec<(Jti, Kind)>) -> Vec<u8> {
        let sets: Vec<(Jti, Arc<str>)> = sets
            .into_iter()
            .map(|(jti, kind)| {
                let set = mint::token(&Order { from, to, jti, kind, key: 1 });
                (set.jti, set.compact)
            })
            .collect();
        wire::write(&sets, [].iter(), [].into_iter(), None)
    }

    /// An object that nobody may read, with things in it that would have an effect.
    fn malformed(&mut self, org: Org, to: Org) -> Parcel {
        let jti = self.fresh(org, to);
        let set = mint::token(&Order { from: org, to, jti: jti.clone(), kind: Kind::Sound, key: 1 });
        let acked = match self.seen.iter().find(|(from, ..)| *from == to) {
            Some((_, jti, _)) => jti.clone(),
            None => guess(&mut self.luck, to, org),
        };
        let (name, token) = (jti.as_str(), &set.compact);
        let text = match self.luck.below(7) {
            0 => format!(r#"{{"sets":{{"{name}":"{token}"}},"ack":["{acked}"]"#),
            1 => format!(r#"{{"sets":{{"{name}":"{token}","{name}":"{token}"}}}}"#),
            2 => format!(r#"{{"sets":{{"{name}":"{token}"}},"sets":{{}}}}"#),
            3 => format!(r#"{{"ack":["{acked}"],"setErrs":{{"{acked}":{{"err":"x","description":"y"}}}}}}"#),
            4 => format!(r#"{{"sets":{{"{name}":"{token}"}},"ack":"{acked}"}}"#),
            5 => format!(r#"{{"sets":{{"{name}":"{token}"}},"ack":["{acked}"]}} trailing"#),
            _ => format!(r#"{{"ack":["{acked}"],"sets":["{token}"]}}"#),
        };
        Parcel { bytes: text.into_bytes().into(), broken: Some(Arc::new(vec![jti, acked])) }
    }
}

/// A jti that somebody may have used, or may be about to.
fn guess(luck: &mut Random, from: Org, to: Org) -> Jti {
    Jti::from(format!("{}{}-{}", mint::name(from), mint::name(to), luck.below(60)).as_str())
}

fn dedup(mut jtis: Vec<Jti>) -> Vec<Jti> {
    jtis.sort();
    jtis.dedup();
    jtis
}

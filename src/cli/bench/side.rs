//! One side of the bench: a Transceiver in a process of its own, which does what it is told over its standard input.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::environment::resident;
use super::fill;
use super::flood;
use super::load::{self, Load};
use super::plan::{
    Allowed, Dialled, Ended, Filled, Measured, Memory, Opened, Order, Pace, Partners, Plan, Remote, Run,
};
use super::target;
use crate::auth::Secret;
use crate::cli::{Error, Exit, output};
use crate::clock::{Clock as _, SystemClock};
use crate::cpu;
use crate::engine;
use crate::metrics::{Format, Metrics};
use crate::peer::Outcome;
use crate::set::{Algorithm, Draft, KeySet, SigningKey, events::Filter, install_crypto};
use crate::store::{Options, Sqlite};
use crate::transceiver::{DialConfig, Event, KeySource, LinkState, Method, PeerConfig, PeerStatus, Transceiver};
use crate::transport::pushpull;
use crate::wire::net::{Allow, Pin, Target, mint, server_config};

/// The partner that takes and never answers.
const MUTE: &str = "mute";

/// A partner somewhere else.
const PARTNER: &str = "partner";
/// How long it may take to ack the first SET, connection and all.
const PROBE: Duration = Duration::from_secs(15);
/// How often it is looked what keeps it from doing so.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// How long links may take to come up, and SETs to be settled at the end.
const PATIENCE: Duration = Duration::from_secs(120);

/// A tenth of a second: the steps of the series.
const STEP: Duration = Duration::from_millis(100);

/// Obeys until it is told to end, or its standard input closes.
pub(super) async fn run() -> Result<Exit, Error> {
    install_crypto();
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let mut side = None;
    while let Some(line) = orders.next_line().await? {
        let order: Order = serde_json::from_str(&line).map_err(|error| Error::failed(format!("an order: {error}")))?;
        match (order, side.as_mut()) {
            (Order::Open(plan), _) => {
                let (opened, answer) = Side::open(plan).await?;
                side = Some(opened);
                reply(&answer)?;
            }
            (Order::Partners(partners), Some(side)) => reply(&side.partners(partners).await?)?,
            (Order::Target(remote), Some(side)) => reply(&side.target(remote).await?)?,
            (Order::Link, Some(side)) => reply(&side.link().await?)?,
            (Order::Run(run), Some(side)) => reply(&side.measure(run).await?)?,
            (Order::End, Some(side)) => {
                reply(&side.end().await?)?;
                return Ok(Exit::Done);
            }
            (_, None) => return Err(Error::failed("the first order is to open")),
        }
    }
    Ok(Exit::Done)
}

fn reply(answer: &impl Serialize) -> Result<(), Error> {
    output::json(answer)
}

struct Side {
    plan: Plan,
    store: Arc<Sqlite>,
    metrics: Metrics,
    load: Arc<Load>,
    followers: Vec<tokio::task::JoinHandle<()>>,
    /// Whether there is a link before the first SET.
    dials: bool,
}

impl Side {
    async fn open(plan: Plan) -> Result<(Self, Opened), Error> {
        let failed =
            |what: &str, error: &dyn std::fmt::Display| Error::failed(format!("{}: {what}: {error}", plan.name));
        fs::create_dir_all(&plan.dir).map_err(|error| failed("its folder", &error))?;
        let metrics = Metrics::default();
        let (metrics_of_store, commit_delay) = (metrics.clone(), plan.commit_delay);
        let options = Options { metrics: metrics_of_store, commit_delay, ..Options::default() };
        let store = Sqlite::open(plan.dir.join("pushpull.db"), options).map_err(Error::from)?;
        let store = Arc::new(store);
        let key = signing_key(plan.identity.as_ref().unwrap_or(&plan.dir), &plan.alg, &plan.name)?;
        let jwks = KeySet::of([key.public_jwk()]).to_json().to_string();
        fs::write(plan.dir.join("jwks.json"), jwks).map_err(|error| failed("its public keys", &error))?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (mut tls, mut pin) = (None, None);
        if plan.tls {
            let minted = mint(&[], SystemClock::new().now().wall).map_err(|error| failed("its certificate", &error))?;
            let config = server_config(minted.cert_pem.as_bytes(), minted.key_pem.as_bytes());
            tls = Some(config.map_err(|error| failed("its certificate", &error))?);
            let own = Pin::of_cert_pem(minted.cert_pem.as_bytes());
            pin = Some(own.map_err(|error| failed("its certificate", &error))?.to_string());
        }
        // A partner somewhere else was named by whoever runs the bench.
        let ranges: &[&str] = if plan.identity.is_some() { &["0.0.0.0/0", "::/0"] } else { &["127.0.0.0/8"] };
        let engine = engine::Config { metrics: metrics.clone(), ..engine::Config::default() };
        let transceiver = Transceiver::builder(issuer(&plan.name))
            .signing_key(key)
            .store(Arc::clone(&store))
            .engine(engine)
            .pushpull(unrestrained())
            .allow(Allow::parse(ranges.iter().copied()).map_err(|error| failed("addresses", &error))?)
            .listen(listener, tls)
            .start()
            .await
            .map_err(|error| failed("its Transceiver", &error))?;
        let load = Load::new(transceiver, Vec::new(), Arc::new(load::draft(plan.payload)?), &plan.dir)?;
        let side = Self { plan, store, metrics, load: Arc::new(load), followers: Vec::new(), dials: true };
        Ok((side, Opened { address, pin, rss: resident() }))
    }

    async fn partners(&mut self, partners: Partners) -> Result<Filled, Error> {
        let transceiver = self.load.transceiver.clone();
        let failed = |error: &dyn std::fmt::Display| Error::failed(format!("a partner: {error}"));
        // Whoever is pushed to hears nothing before the first push.
        self.dials = partners.dial.is_some() || !partners.is_quiet;
        let secure = if partners.pin.is_some() { "s" } else { "" };
        let pin = partners.pin.as_deref().map(Pin::parse).transpose().map_err(|error| failed(&error))?;
        let other = |name: String, token: &str, dial: Option<Dialled>| {
            let token = Secret::new(token.to_owned(), "the bench").map_err(|error| failed(&error))?;
            let dial = match dial {
                None => None,
                Some(how) => {
                    let (scheme, path) = how.endpoint();
                    let target = Target::parse(&format!("{scheme}{secure}://{}{path}", partners.address));
                    let (target, token) = (target.map_err(|error| failed(&error))?, Some(token.clone()));
                    Some(DialConfig { target, pin, token, method: how.method() })
                }
            };
            Ok::<_, Error>(PeerConfig {
                name,
                issuer: issuer(&partners.name),
                keys: KeySource::File(partners.dir.join("jwks.json")),
                audience: None,
                accept_audience: None,
                dial,
                collect: None,
                accept_tokens: vec![token],
                send: Filter::all(),
                accept: Filter::all(),
            })
        };
        let mut names = Vec::new();
        for (number, token) in partners.tokens.iter().enumerate() {
            let name = format!("{}-{number}", partners.name);
            let peer = other(name.clone(), token, None)?;
            transceiver.add_peer(peer).await.map_err(|error| failed(&error))?;
            names.push(name);
        }
        if let Some(token) = &partners.mute_token {
            transceiver.add_peer(other(MUTE.to_owned(), token, None)?).await.map_err(|error| failed(&error))?;
        }
        if let Some(flooding) = &partners.flood {
            let (issuer, keys) = (issuer(flood::NAME), KeySource::File(flooding.keys.clone()));
            let peer = PeerConfig { issuer, keys, ..other(flood::NAME.to_owned(), &flooding.token, None)? };
            transceiver.add_peer(peer).await.map_err(|error| failed(&error))?;
        }
        let mut loaded = Load::new(transceiver.clone(), names.clone(), self.load.draft.clone(), &self.plan.dir)?;
        if let Some(count) = self.plan.presigned {
            loaded.stock = Some(fill::stock(
                &signing_key(&self.plan.dir, &self.plan.alg, &self.plan.name)?,
                &loaded.draft,
                &self.plan.name,
                count,
            )?);
        }
        self.load = Arc::new(loaded);
        fill::backlog(&transceiver, &names, &self.load, self.plan.backlog).await?;
        fill::mute(&transceiver, MUTE, &self.load.draft, self.plan.mute).await?;
        fill::tombstones(&*self.store, &names, self.plan.tombstones).await?;
        let timed = self.queued().await? == 0;
        // Idle links are to be as an application has them that sends nothing.
        for peer in (0..names.len()).filter(|_| self.plan.sends) {
            self.followers
                .push(tokio::spawn(cpu::throughout(cpu::Stage::Load, Arc::clone(&self.load).follow(peer, timed))));
        }
        let consume = Arc::clone(&self.load).consume(self.plan.dir.clone());
        self.followers.push(tokio::spawn(cpu::throughout(cpu::Stage::Load, consume)));
        // Those that are dialled come last: nothing of a backlog leaves before it is complete.
        if let Some(how) = partners.dial {
            for (number, token) in partners.tokens.iter().enumerate() {
                let peer = other(format!("{}-{number}", partners.name), token, Some(how))?;
                transceiver.replace_peer(peer).await.map_err(|error| failed(&error))?;
            }
        }
        Ok(Filled { queued: self.queued().await?, rss: resident() })
    }

    /// Takes a partner that is no side of the bench, and makes sure that it takes what the bench sends.
    async fn target(&mut self, remote: Remote) -> Result<Allowed, Error> {
        let transceiver = self.load.transceiver.clone();
        let failed = |error: &dyn std::fmt::Display| Error::failed(format!("the partner: {error}"));
        let token = Secret::new(remote.token, "the bench").map_err(|error| failed(&error))?;
        // What it may send is none of the bench's business: without keys nothing of it is taken, and nothing refused.
        let keys = self.plan.dir.join("none.json");
        fs::write(&keys, KeySet::default().to_json().to_string()).map_err(|error| failed(&error))?;
        let url = Target::parse(&remote.target).map_err(|error| failed(&error))?;
        let method = if url.is_websocket() { Method::Websocket } else { Method::Http };
        let pin = remote.pin.as_deref().map(Pin::parse).transpose().map_err(|error| failed(&error))?;
        let peer = PeerConfig {
            name: PARTNER.to_owned(),
            issuer: remote.audience,
            keys: KeySource::File(keys),
            audience: None,
            accept_audience: None,
            dial: Some(DialConfig { target: url, pin, token: Some(token), method }),
            collect: None,
            accept_tokens: Vec::new(),
            send: Filter::all(),
            accept: Filter::all(),
        };
        transceiver.add_peer(peer).await.map_err(|error| failed(&error))?;
        let draft = Arc::new(Draft { event_type: target::EVENT.to_owned(), ..(*self.load.draft).clone() });
        let mut settlements = transceiver.settlements(PARTNER).await.map_err(|error| failed(&error))?;
        transceiver.send(PARTNER, Event::Shared(Arc::clone(&draft))).await.map_err(|error| failed(&error))?;
        let started = Instant::now();
        loop {
            match tokio::time::timeout(LOOK_EVERY, settlements.next()).await {
                Ok(Ok(ends)) => match ends.first() {
                    Some((_, Outcome::Refused(refused))) => {
                        return Ok(Allowed::Refused(format!("{} ({})", refused.err, refused.description)));
                    }
                    Some((_, Outcome::Acked)) => break,
                    _ => return Ok(Allowed::Silent("it has not acked it".to_owned())),
                },
                Ok(Err(stopped)) => return Err(failed(&stopped)),
                Err(_) => {}
            }
            // What is wrong with the link is wrong for longer than we wait.
            let trouble = transceiver.peer(PARTNER).await.and_then(|peer| peer.trouble);
            if trouble.is_some() || started.elapsed() > PROBE {
                return Ok(Allowed::Silent(trouble.unwrap_or_else(|| "it does not answer".to_owned())));
            }
        }
        self.load = Arc::new(Load::new(transceiver, vec![PARTNER.to_owned()], draft, &self.plan.dir)?);
        let follow = Arc::clone(&self.load).follow(0, true);
        self.followers.push(tokio::spawn(cpu::throughout(cpu::Stage::Load, follow)));
        Ok(Allowed::Yes(Memory { rss: resident() }))
    }

    async fn link(&mut self) -> Result<Memory, Error> {
        let deadline = Instant::now() + PATIENCE;
        let transceiver = self.load.transceiver.clone();
        loop {
            let all = transceiver.peers().await;
            let up = |peer: &&PeerStatus| peer.link == LinkState::Up || !self.dials;
            if all.iter().filter(|peer| is_side(&peer.name)).all(|peer| up(&peer)) {
                // Until handshakes and first looks at the queues are over.
                sleep(Duration::from_secs(1)).await;
                return Ok(Memory { rss: resident() });
            }
            if Instant::now() > deadline {
                return Err(Error::new(Exit::TimedOut, "the links did not come up"));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn measure(&mut self, run: Run) -> Result<Measured, Error> {
        let load = &self.load;
        let (stop, stopping) = watch::channel(false);
        let sending = match run.pace {
            Pace::Silent => Pace::Silent,
            pace if self.plan.sends => pace,
            _ => Pace::Silent,
        };
        let running = tokio::spawn(Arc::clone(load).run(sending, run.callers, run.unsettled, stopping));
        sleep(run.warmup).await;
        if load.used_up.load(Ordering::Relaxed) {
            return Err(Error::failed("all SETs signed beforehand were used up before the measurement began")
                .fix("raise --presigned, or lower --warmup"));
        }
        load.flights.restart();
        let (started, cpu, counts) = (Instant::now(), cpu::process_cpu(), load.flights.counts());
        let (received, bytes) = (load.received.load(Ordering::Relaxed), self.bytes_sent());
        let mut series = Vec::new();
        let mut before = counts.settled();
        while started.elapsed() < run.duration && !load.used_up.load(Ordering::Relaxed) {
            sleep_until(started + STEP * (series.len() as u32 + 1)).await;
            let settled = load.flights.counts().settled();
            series.push(settled - before);
            before = settled;
            load.check().map_err(Error::failed)?;
        }
        let seconds = started.elapsed().as_secs_f64();
        let cpu = cpu::process_cpu().saturating_sub(cpu).as_secs_f64();
        let after = load.flights.counts();
        let mut measured = Measured {
            seconds,
            sent: after.sent - counts.sent,
            settled: after.settled() - counts.settled(),
            received: load.received.load(Ordering::Relaxed) - received,
            bytes: self.bytes_sent() - bytes,
            latency: load.flights.latency(),
            cpu,
            series,
            under_way: after.sent.saturating_sub(after.settled()),
            unacked: after.unacked - counts.unacked,
            used_up: load.used_up.load(Ordering::Relaxed),
            rss: resident(),
            ..Measured::default()
        };
        if !run.stages.is_zero() && !measured.used_up {
            let (before, sets) = (cpu::spent(), after.settled() + load.received.load(Ordering::Relaxed));
            cpu::switch(true);
            sleep(run.stages).await;
            cpu::switch(false);
            measured.stage_sets = load.flights.counts().settled() + load.received.load(Ordering::Relaxed) - sets;
            let spent = cpu::Stage::ALL.into_iter().zip(cpu::spent()).zip(before);
            measured.stages = spent
                .map(|((stage, after), before)| (stage.as_str().to_owned(), after.saturating_sub(before).as_secs_f64()))
                .collect();
        }
        let _ = stop.send(true);
        match tokio::time::timeout(PATIENCE, running).await {
            Ok(Ok(())) => {}
            Ok(Err(broken)) => return Err(Error::failed(format!("a caller has ended: {broken}"))),
            Err(_) => return Err(Error::new(Exit::TimedOut, "callers of send did not return")),
        }
        load.check().map_err(Error::failed)?;
        Ok(measured)
    }

    /// Waits until nothing moves any more, and closes everything.
    async fn end(&mut self) -> Result<Ended, Error> {
        let load = &self.load;
        let leaves_a_backlog = self.plan.backlog > 0;
        if leaves_a_backlog {
            for name in &load.peers {
                load.transceiver.pause(name, true).await.map_err(|error| Error::failed(error.to_string()))?;
            }
        }
        // A partner somewhere else shall not be flooded for minutes with what it could not take in time.
        let deadline = Instant::now() + if self.plan.identity.is_some() { PROBE } else { PATIENCE };
        let (mut before, mut still) = ((0, 0, 0), 0);
        // The other side may still be sending: a second and a half of silence, beside everything settled.
        while still < 15 && Instant::now() < deadline {
            sleep(STEP).await;
            let counts = load.flights.counts();
            let now = (counts.sent, counts.settled(), load.received.load(Ordering::Relaxed));
            let over = leaves_a_backlog || counts.sent == counts.settled();
            still = if now == before && over { still + 1 } else { 0 };
            before = now;
        }
        load.check().map_err(Error::failed)?;
        load.flights.flush()?;
        let (queued, rss) = (self.queued().await?, resident());
        let counts = load.flights.counts();
        let received = load.received.load(Ordering::Relaxed);
        let ended = Ended { sent: counts.sent, acked: counts.acked, received, queued, rss };
        load.transceiver.shutdown(Duration::from_secs(5)).await;
        for follower in self.followers.drain(..) {
            follower.abort();
            let _ = follower.await;
        }
        self.store.close().await;
        Ok(ended)
    }

    /// SETs in the queues for the other side.
    async fn queued(&self) -> Result<u64, Error> {
        let all = self.load.transceiver.peers().await;
        Ok(all.iter().filter(|peer| is_side(&peer.name)).map(|peer| peer.queued).sum())
    }

    /// Bytes of Communication Objects sent so far, from what is counted for Prometheus.
    fn bytes_sent(&self) -> u64 {
        let text = self.metrics.expose(Format::Prometheus).unwrap_or_default();
        let lines = text.lines().filter(|line| line.starts_with("pushpull_sent_bytes_total"));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
    }
}

/// Whoever measures how fast it goes wants no bound on how fast it may go: by push a request is a SET.
fn unrestrained() -> pushpull::Config {
    pushpull::Config { requests_per_second_max: u32::MAX, messages_per_second_max: u32::MAX, ..Default::default() }
}

/// The signing key of this side, made if there is none in this folder.
pub(super) fn signing_key(dir: &Path, alg: &str, name: &str) -> Result<SigningKey, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::failed(format!("{name}: its signing key: {error}"));
    let algorithm: Algorithm = alg.parse().map_err(|error: crate::set::UnknownAlgorithm| failed(&error))?;
    let (path, kid) = (key_path(dir), format!("{name}-1"));
    if path.exists() {
        let pem = crate::private::read_to_string(&path).map_err(|error| failed(&error))?;
        return SigningKey::from_pem(&kid, &pem).map_err(|error| failed(&error));
    }
    let (key, pem) = SigningKey::generate(algorithm, &kid).map_err(|error| failed(&error))?;
    let file = fs::File::options().write(true).create_new(true).mode(0o600).open(&path);
    file.and_then(|mut file| file.write_all(pem.as_bytes())).map_err(|error| failed(&error))?;
    Ok(key)
}

pub(super) fn key_path(dir: &Path) -> PathBuf {
    dir.join("key.pem")
}

/// Whether this partner is the other side, and its SETs are in the accounts.
fn is_side(name: &str) -> bool {
    ![MUTE, flood::NAME].contains(&name)
}

/// The `iss` of a side.
pub(super) fn issuer(name: &str) -> String {
    format!("https://{name}.example")
}

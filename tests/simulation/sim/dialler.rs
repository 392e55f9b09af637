//! Keeps the link to a partner that we dial, with the habits of `transport/pushpull/dialler.rs` and `initiator.rs`: by
//! WebSocket if that can be had, by HTTP as long as it cannot.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pushpull::clock::Clock as _;
use pushpull::engine::Handle;
use pushpull::peer::{Ending, WaitsFor};
use pushpull::transport::pushpull as transport;
use pushpull::transport::pushpull::{Exchange, Experience};
use pushpull::wire;
use pushpull::wire::net::Backoff;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep};

use super::event::Org;
use super::exchange::{self, Answer, Way};
use super::life::Life;
use super::net::{Refused, Wire};
use super::options::Kind;
use super::outgoing::{Leaving, Outgoing};
use super::socket::End;
use super::{objects, socket};

/// A connection that lived this long was a good one.
const GOOD: Duration = Duration::from_secs(10);

/// So many in a row that broke off sooner, and HTTP is used for a while.
const BROKEN_MAX: u32 = 4;

/// The least pause after a partner said that it is overloaded (1013).
const OVERLOADED: Duration = Duration::from_secs(2);

/// How soon to ask for what is overdue.
const ASK_SOON: Duration = Duration::from_millis(100);

/// An exchange that has begun.
type UnderWay = Pin<Box<dyn Future<Output = Exchange> + Send>>;

/// What has become of exchanges that a WebSocket has overtaken, and when they ended.
type Overtaken = VecDeque<oneshot::Receiver<(Exchange, Duration)>>;

/// Keeps the link for as long as the process lives.
pub async fn run(life: Arc<Life>, to: Org) {
    let pair = life.world.options.pair(life.org, to);
    let is_first = pair.ends[0] == life.org;
    if !pair.dials[usize::from(!is_first)] {
        return;
    }
    let http_only = pair.kind == Kind::Http || (pair.kind == Kind::Both && !is_first);
    let seed = life.world.luck(&[40, u64::from(life.org.0), u64::from(to.0), life.number]).next_u64();
    let dialler = Arc::new(Dialler { life, to, config_seed: seed });
    if http_only {
        let mut experience = dialler.experience();
        drop(dialler.exchanges(std::future::pending(), &mut experience).await);
        return;
    }
    dialler.sockets().await;
}

struct Dialler {
    life: Arc<Life>,
    to: Org,
    config_seed: u64,
}

impl Dialler {
    fn experience(&self) -> Experience {
        Experience::new(self.config_seed, self.life.config(self.to).limits.sets_per_object_max)
    }

    async fn sockets(self: &Arc<Self>) {
        let config = Arc::clone(self.life.config(self.to));
        let mut reconnect = Backoff::new(Duration::from_millis(200), Duration::from_secs(30), self.config_seed);
        let mut upgrade = Backoff::new(config.websocket_retry_first, config.websocket_retry_max, self.config_seed);
        let (mut experience, mut overtaken) = (self.experience(), Overtaken::new());
        let (mut broken, mut connected_before, mut opened) = (0, false, None);
        loop {
            let attempt = match opened.take() {
                Some(opened) => opened,
                None => self.open().await,
            };
            let pause = match attempt {
                Ok(wire) => {
                    if std::mem::replace(&mut connected_before, true) {
                        self.life.world.meet("reconnected");
                    }
                    let since = Instant::now();
                    self.life.partner(self.to).update_link(|link| link.exchanged_at = None);
                    let end = socket::run(Arc::clone(&self.life), self.to, wire).await;
                    let overloaded = end == End::Theirs(Some(1013));
                    if overloaded {
                        self.life.world.meet("told to come back later");
                    }
                    while let Some(ended) = overtaken.front_mut().map(oneshot::Receiver::try_recv) {
                        match ended {
                            Ok((exchange, at)) => drop(experience.learn(&exchange, at)),
                            Err(oneshot::error::TryRecvError::Empty) => break,
                            Err(oneshot::error::TryRecvError::Closed) => {}
                        }
                        overtaken.pop_front();
                    }
                    if since.elapsed() >= GOOD && !overloaded {
                        reconnect.reset();
                        upgrade.reset();
                        experience.reset();
                        broken = 0;
                    }
                    broken += u32::from(end.broke_off());
                    if broken < BROKEN_MAX {
                        let least = if overloaded { OVERLOADED } else { Duration::ZERO };
                        reconnect.pause().max(least)
                    } else {
                        self.life.world.meet("WebSockets do not last");
                        broken = 0;
                        opened = Some(self.bridge(&mut upgrade, &mut experience, &mut overtaken).await);
                        Duration::ZERO
                    }
                }
                Err(Refused::Unreachable) => reconnect.pause(),
                Err(Refused::Handshake(status, wait)) => {
                    let busy = self.is_busy(status, wait);
                    if let Some(wait) = busy {
                        self.life.world.meet("handshake answered 429, waited");
                        sleep(wait).await;
                    }
                    self.life.world.meet("fell back to HTTP");
                    opened = Some(self.bridge(&mut upgrade, &mut experience, &mut overtaken).await);
                    if busy.is_none() && !experience.last_failed() {
                        reconnect.reset();
                    }
                    Duration::ZERO
                }
            };
            sleep(pause).await;
        }
    }

    async fn open(&self) -> Result<Wire, Refused> {
        self.life.awake().await;
        self.life.world.net.connect(&self.life.world, self.life.org, self.to).await
    }

    /// For how long nothing at all is tried after this answer to a handshake.
    fn is_busy(&self, status: u16, retry_after: Option<Duration>) -> Option<Duration> {
        retry_after.filter(|_| status == 429).map(|wait| self.believed(wait))
    }

    /// Uses HTTP until a WebSocket can be had again, or until the partner cannot be reached at all.
    async fn bridge(
        self: &Arc<Self>,
        upgrade: &mut Backoff,
        experience: &mut Experience,
        overtaken: &mut Overtaken,
    ) -> Result<Wire, Refused> {
        let (enough, over) = (AtomicBool::new(false), Notify::new());
        // Beside the exchanges: an attempt may hang for long.
        let attempts = async {
            let mut least = Duration::ZERO;
            let end = loop {
                sleep(upgrade.pause().max(least)).await;
                match self.open().await {
                    Err(Refused::Handshake(status, wait)) => {
                        let busy = self.is_busy(status, wait);
                        if busy.is_some() {
                            self.life.world.meet("handshake answered 429, HTTP went on");
                        }
                        least = busy.unwrap_or_default();
                    }
                    end => break end,
                }
            };
            enough.store(true, Ordering::Relaxed);
            over.notify_waiters();
            end
        };
        let stop = async {
            while !enough.load(Ordering::Relaxed) {
                over.notified().await;
            }
        };
        let exchanges = async {
            let mut stop = pin!(stop);
            while let Some(exchange) = overtaken.front_mut() {
                let exchange = tokio::select! {
                    biased;
                    () = &mut stop => return None,
                    exchange = exchange => exchange,
                };
                overtaken.pop_front();
                let _ = exchange.map(|(exchange, at)| experience.learn(&exchange, at));
            }
            self.exchanges(stop, experience).await
        };
        let (end, under_way) = tokio::join!(attempts, exchanges);
        match (under_way, &end) {
            (Some(under_way), Ok(_)) => {
                self.life.world.meet("a WebSocket overtook an exchange");
                let (done, told) = oneshot::channel();
                overtaken.push_back(told);
                let partner = Arc::clone(self.life.partner(self.to));
                self.life.spawn(async move { drop(done.send((under_way.await, partner.now()))) });
            }
            (Some(under_way), Err(_)) => drop(self.conclude(&under_way.await, experience)),
            (None, _) => {}
        }
        end
    }

    /// Learns from an exchange: the pause before the next.
    fn conclude(&self, exchange: &Exchange, experience: &mut Experience) -> Option<Duration> {
        let partner = self.life.partner(self.to);
        let now = partner.now();
        partner.update_link(|link| link.exchanged_at = matches!(exchange, Exchange::Done).then_some(now));
        if matches!(exchange, Exchange::Rejected { .. }) {
            self.life.world.meet("object refused as a whole");
        }
        experience.learn(exchange, now)
    }

    /// Runs until `stop`; the exchange that is then under way is for the caller to finish.
    async fn exchanges(
        self: &Arc<Self>,
        stop: impl Future<Output = ()>,
        experience: &mut Experience,
    ) -> Option<UnderWay> {
        let mut stop = pin!(stop);
        if let Some(pause) = experience.pause(self.life.partner(self.to).now()) {
            self.life.world.meet("pauses kept over a change to HTTP");
            tokio::select! {
                biased;
                () = &mut stop => return None,
                () = sleep(pause) => {}
            }
        }
        let partner = Arc::clone(self.life.partner(self.to));
        let config = Arc::clone(self.life.config(self.to));
        let mut overdue = true;
        loop {
            self.life.awake().await;
            let handle = partner.handle();
            let spec = config.exchange_spec(usize::MAX, WaitsFor::Anything);
            let taken = async {
                let slot = handle.open_slot(spec, self.ask_after(&config, overdue)).await.ok()?;
                let (net, org) = (&self.life.world.net, self.life.org);
                let link = net.number(org, self.to);
                let mut slot = Outgoing::new(slot, &self.life, self.to, link, spec);
                let object = slot.next_asking(|| Some(experience.ask(partner.now()))).await?;
                Some((slot, object, link))
            };
            let taken = tokio::select! {
                biased;
                () = &mut stop => return None,
                taken = taken => taken,
            };
            let Some((slot, object, link)) = taken else {
                tokio::select! {
                    biased;
                    () = &mut stop => return None,
                    () = sleep(Duration::from_secs(1)) => {}
                }
                continue;
            };
            let mut under_way: UnderWay =
                Box::pin(Arc::clone(self).exchange(Arc::clone(&config), handle, slot, object, link));
            let exchange = tokio::select! {
                biased;
                exchange = &mut under_way => exchange,
                () = &mut stop => return Some(under_way),
            };
            overdue = matches!(exchange, Exchange::Failed { .. } | Exchange::Oversized { .. });
            let Some(pause) = self.conclude(&exchange, experience) else { continue };
            tokio::select! {
                biased;
                () = &mut stop => return None,
                () = sleep(pause) => {}
            }
        }
    }

    fn ask_after(&self, config: &transport::Config, overdue: bool) -> Option<Duration> {
        let partner = self.life.partner(self.to);
        let (link, interval) = (partner.link(), config.speak_interval);
        if link.sockets > 0 {
            return None;
        }
        let seen = link.requested_at.is_some_and(|at| partner.now().saturating_sub(at) < interval);
        Some(match (seen, overdue) {
            (true, _) => interval * 3,
            (false, true) => interval.min(ASK_SOON),
            (false, false) => interval,
        })
    }

    async fn exchange(
        self: Arc<Self>,
        config: Arc<transport::Config>,
        handle: Handle,
        slot: Outgoing,
        object: Leaving,
        link: u64,
    ) -> Exchange {
        self.life.awake().await;
        let request = exchange::request(&self.life.world, self.life.org, self.to, Way::PushPull, object.bytes.into());
        let sets = (object.sets, object.alone.as_ref());
        let answer = exchange::within(&self.life, self.to, config.exchange_within, sets, request).await;
        self.life.awake().await;
        let Some(Answer { status, body, retry_after }) = answer else { return fail(slot, Duration::ZERO) };
        let pause = retry_after.map(|pause| self.believed(pause)).unwrap_or_default();
        match status {
            200 => {
                let bytes = body.bytes.len();
                let partner = self.life.partner(self.to);
                objects::broken(&self.life, self.to, link, &body);
                let answer = partner.inspector().read(body.bytes, config.limits).await;
                if answer.as_ref().is_err_and(|malformed| malformed.kind.is_too_big()) {
                    self.life.world.meet("answer too large");
                    objects::malformed(&self.life, self.to, link);
                    let asked = object.asked_for.unwrap_or(u64::MAX);
                    let retry_after = if asked > 1 { Duration::ZERO } else { pause };
                    slot.close(Ending::Lost { retry_after });
                    return Exchange::Oversized { why: String::new(), asked, retry_after };
                }
                let Ok(answer) = answer else {
                    objects::malformed(&self.life, self.to, link);
                    self.life.world.meet("unreadable answer");
                    return lose(slot, pause);
                };
                if !objects::comes(&self.life, self.to, link, &answer) {
                    return failed(Duration::ZERO);
                }
                slot.answered();
                self.take_in(&config, &handle, slot, answer, bytes).await
            }
            400 | 413 => {
                let error = wire::parse_error_body(&body.bytes);
                let code = error.as_ref().map_or("", |error| error.err.as_str());
                if matches!(code, "authentication_failed" | "access_denied") {
                    self.life.world.meet("refused for who we are");
                    return lose(slot, pause);
                }
                if object.sets > 1 {
                    self.life.world.meet("batch refused");
                }
                slot.close(Ending::REJECTED);
                rejected()
            }
            500 => fail(slot, pause),
            _ => lose(slot, pause),
        }
    }

    /// What the product makes of a `Retry-After` of so long.
    fn believed(&self, pause: Duration) -> Duration {
        let value = http::HeaderValue::from(pause.as_secs());
        let headers = http::HeaderMap::from_iter([(http::header::RETRY_AFTER, value)]);
        wire::net::retry_after(&headers, self.life.clock.now()).unwrap_or_default()
    }

    async fn take_in(
        &self,
        config: &transport::Config,
        handle: &Handle,
        slot: Outgoing,
        answer: wire::Object,
        bytes: usize,
    ) -> Exchange {
        let Ok(room) = handle.arrival_room(bytes).await else { return failed(Duration::ZERO) };
        let partner = self.life.partner(self.to);
        if !objects::bring(&self.life, self.to, partner, handle, slot.id(), (answer, room), config.patience()).await {
            return failed(Duration::ZERO);
        }
        slot.close(Ending::Delivered);
        Exchange::Done
    }
}

/// The partner was reached, and said nothing.
fn fail(slot: Outgoing, retry_after: Duration) -> Exchange {
    if slot.fail(retry_after, false) { rejected() } else { failed(retry_after) }
}

fn lose(slot: Outgoing, retry_after: Duration) -> Exchange {
    slot.close(Ending::Lost { retry_after });
    failed(retry_after)
}

fn rejected() -> Exchange {
    Exchange::Rejected { why: String::new(), retry_after: Duration::ZERO }
}

fn failed(retry_after: Duration) -> Exchange {
    Exchange::Failed { why: String::new(), retry_after }
}

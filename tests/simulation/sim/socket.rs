//! One end of a pretend WebSocket, with the habits of `transport/pushpull/websocket.rs`: objects out by one slot, objects in
//! as they come, pings, and an end that is either said or noticed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pushpull::engine::{Handle, Partner};
use pushpull::peer::{Ending, SlotId};
use pushpull::transport::pushpull as transport;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};

use super::event::Org;
use super::life::Life;
use super::net::{Frame, Inlet, Outlet, Wire};
use super::objects;
use super::outgoing::{Outgoing, Unanswered};

/// How a connection ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// We close it, with this code.
    Ours(u16),
    /// The partner closed it, or (none) it broke.
    Theirs(Option<u16>),
}

/// Objects of one connection that are inspected at the same time.
const INSPECTIONS_MAX: usize = 4;

impl End {
    pub fn broke_off(self) -> bool {
        self == Self::Theirs(None)
    }

    fn ending(self) -> Ending {
        match self {
            Self::Theirs(Some(1007 | 1009)) => Ending::REJECTED,
            _ => Ending::Lost { retry_after: Duration::ZERO },
        }
    }
}

/// Runs a connection until either side ends it.
pub async fn run(life: Arc<Life>, partner: Org, wire: Wire) -> End {
    let Wire { out, mut inlet, life: connection } = wire;
    let seat = life.partner(partner).seat();
    let config = Arc::clone(life.config(partner));
    let handle = life.partner(partner).handle();
    let spec = config.socket_spec();
    let Ok(slot) = handle.open_slot(spec, None).await else {
        out.send(Frame::Close(1001));
        return End::Ours(1001);
    };
    let link = life.world.net.number(life.org, partner);
    let mut slot = Outgoing::new(slot, &life, partner, link, spec);
    let (alive, heard) = mpsc::channel(1);
    let mut reader = Reader {
        life: Arc::clone(&life),
        from: partner,
        partner: Arc::clone(seat.partner()),
        handle,
        config: Arc::clone(&config),
        slot: slot.id(),
        alive,
        inspections: Arc::new(Semaphore::new(INSPECTIONS_MAX)),
        link,
        unanswered: Arc::clone(&slot.unanswered),
    };
    let writer = Writer { life: &life, out: &out, config: &config };
    let end = tokio::select! {
        biased;
        end = reader.run(&mut inlet, &out) => end,
        end = writer.run(&mut slot, heard) => end,
    };
    drop(seat);
    // What came before the end counts.
    let _ = timeout(Duration::from_secs(2), reader.inspections.acquire_many(INSPECTIONS_MAX as u32)).await;
    if end.broke_off() {
        slot.fail(Duration::ZERO, true);
    } else {
        slot.close(end.ending());
    }
    if let End::Ours(code) = end {
        out.send(Frame::Close(code));
    }
    drop(connection);
    end
}

struct Reader {
    life: Arc<Life>,
    from: Org,
    partner: Arc<Partner>,
    handle: Handle,
    config: Arc<transport::Config>,
    slot: SlotId,
    alive: mpsc::Sender<()>,
    inspections: Arc<Semaphore>,
    link: u64,
    unanswered: Arc<Mutex<Unanswered>>,
}

impl Reader {
    async fn run(&mut self, inlet: &mut Inlet, out: &Outlet) -> End {
        loop {
            let Ok(frame) = timeout(self.config.silence_max(), inlet.next()).await else {
                self.life.world.meet("silent link given up");
                return End::Theirs(None);
            };
            self.life.awake().await;
            let Some(frame) = frame else { return End::Theirs(None) };
            let _ = self.alive.try_send(());
            match frame {
                Frame::Text(parcel) => {
                    if self.is_overloaded() {
                        return End::Ours(1013);
                    }
                    objects::broken(&self.life, self.from, self.link, &parcel);
                    if let Err(end) = self.arrived(parcel.bytes).await {
                        return end;
                    }
                }
                Frame::Ping => out.send(Frame::Pong),
                Frame::Pong => {}
                Frame::Close(code) => {
                    if matches!(code, 1007 | 1009) {
                        self.life.world.meet("object refused as a whole");
                    }
                    return End::Theirs(Some(code));
                }
            }
        }
    }

    /// Luck stands for the partner's rate, and for how long it has been too high.
    fn is_overloaded(&self) -> bool {
        let (world, way) = (&self.life.world, (self.from, self.life.org));
        let strikes = !world.is_healed()
            && world.net.strikes(way.0, way.1, world.options.faults.refuse)
            && world.net.below(way.0, way.1, 4) == 0;
        if strikes {
            world.fault(None, "closed 1013");
        }
        strikes
    }

    async fn arrived(&mut self, text: bytes::Bytes) -> Result<(), End> {
        let bytes = text.len();
        let object = match self.partner.inspector().read(text, self.config.limits).await {
            Ok(object) => object,
            Err(malformed) => {
                objects::malformed(&self.life, self.from, self.link);
                self.life.world.meet("malformed object closed on");
                return Err(End::Ours(if malformed.kind.is_too_big() { 1009 } else { 1007 }));
            }
        };
        if !objects::comes(&self.life, self.from, self.link, &object) {
            return Err(End::Theirs(None));
        }
        if !object.acks.is_empty() || !object.errors.is_empty() {
            *self.unanswered.lock().expect("nobody panics") = Unanswered::default();
            self.partner.suspicion.answered();
        }
        let room = self.handle.arrival_room(bytes).await.map_err(|_| End::Ours(1001))?;
        let Ok(permit) = Arc::clone(&self.inspections).acquire_owned().await else { return Ok(()) };
        let (partner, handle, slot) = (Arc::clone(&self.partner), self.handle.clone(), self.slot);
        let (patience, life, from) = (self.config.patience(), Arc::clone(&self.life), self.from);
        self.life.spawn(async move {
            objects::bring(&life, from, &partner, &handle, slot, (object, room), patience).await;
            drop(permit);
        });
        Ok(())
    }
}

struct Writer<'a> {
    life: &'a Arc<Life>,
    out: &'a Outlet,
    config: &'a transport::Config,
}

impl Writer<'_> {
    async fn run(&self, slot: &mut Outgoing, mut heard: mpsc::Receiver<()>) -> End {
        let mut ping = tokio::time::interval_at(Instant::now() + self.config.ping_interval, self.config.ping_interval);
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let object = tokio::select! {
                biased;
                object = slot.next() => object,
                Some(()) = heard.recv() => {
                    slot.alive();
                    continue;
                }
                _ = ping.tick() => {
                    // A process that is stopped says nothing; but what is put into its slot is told at once.
                    if !self.life.is_stopped() {
                        self.out.send(Frame::Ping);
                    }
                    continue;
                }
            };
            let Some(object) = object else { return End::Ours(1001) };
            self.life.awake().await;
            self.out.send(Frame::Text(object.bytes.into()));
            // What was heard while it waited to leave says nothing about it.
            if heard.try_recv().is_ok() {
                slot.alive();
            }
            slot.ready().await;
        }
    }
}

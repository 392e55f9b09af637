//! Push-pull on a WebSocket, either end: objects out by one slot, objects in as they come.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tracing::info;

use super::elastic::Elastic;
use super::websocket::{CLOSING, End, Farewell, Hearing, Speaking, Wire, part, stopped};
use super::{Config, encode};
use crate::cpu;
use crate::engine::{Empty, Handle, Partner, Rate, Seat, Slot};
use crate::metrics::{PeerMetrics, Transport};
use crate::peer::{Blame, Ending, SlotId, Transmission};
use crate::set::Jti;
use crate::transport::Pass;

/// What a SET takes beside its text until it is judged, its refusal included.
const SET_BYTES: usize = 256;

/// Objects of one connection that are inspected at the same time.
const INSPECTIONS_MAX: usize = 4;

/// Runs a connection until either side ends it. `stop` turning true closes it as going away; a `pass` that is revoked,
/// as not authorised any more.
pub(super) async fn run<S>(
    socket: Elastic<S>,
    seat: Seat,
    config: Arc<Config>,
    stop: watch::Receiver<bool>,
    pass: Option<Pass>,
) -> Farewell
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let partner = Arc::clone(seat.partner());
    let handle = partner.handle();
    let Ok(slot) = handle.open_slot(config.socket_spec(), None).await else {
        let end = stopped(pass.as_ref());
        let _ = timeout(CLOSING, part(socket, &end)).await;
        return end.farewell();
    };
    partner.update_link(|link| (link.trouble, link.socketless) = (None, None));
    let metrics = Arc::clone(&partner.metrics);
    let objects = Objects {
        handle,
        partner,
        config: Arc::clone(&config),
        slot: slot.id(),
        inspections: JoinSet::new(),
        pass: pass.clone(),
        unanswered: Arc::default(),
    };
    let unanswered = Arc::clone(&objects.unanswered);
    let mut turns = Turns { slot, sets: 0, unanswered, metrics: Arc::clone(&metrics) };
    let is_theirs = pass.is_some();
    let mut wire = Wire::new(socket, objects, config, stop, pass);
    let end = wire.converse(&mut turns).await;
    drop(seat);
    metrics.closed(end.code());
    if is_theirs && end.is_fault() {
        let why = format!("the partner comes to us, and its last WebSocket ended: {}", end.why());
        wire.hearing().partner.update_link(|link| {
            // Another connection may do, and what keeps us from it says more.
            if !link.is_connected() {
                link.trouble.get_or_insert(why);
            }
        });
    }
    // What came before the end counts: a partner's last words are the verdicts that it owed us.
    let _ = timeout(CLOSING, wire.hearing().finish()).await;
    let (ending, parted) = wire.hearing().ending(&end);
    turns.slot.close(ending);
    wire.part(&end).await;
    Farewell { parted, ..end.farewell() }
}

/// Objects of a partner on their way to its actor.
struct Objects {
    handle: Handle,
    partner: Arc<Partner>,
    config: Arc<Config>,
    slot: SlotId,
    inspections: JoinSet<()>,
    pass: Option<Pass>,
    unanswered: Arc<Mutex<Unanswered>>,
}

/// What has left since a verdict last came.
#[derive(Default)]
enum Unanswered {
    /// No SETs.
    #[default]
    Nothing,
    /// One SET in an object of its own, as the last part of a refused batch does.
    Alone(Jti),
    /// Several.
    Many,
}

impl Unanswered {
    fn left(&mut self, object: &Transmission) {
        *self = match (object.sets.as_slice(), std::mem::take(self)) {
            ([], before) => before,
            ([(jti, _)], Self::Nothing) => Self::Alone(jti.clone()),
            _ => Self::Many,
        };
    }
}

impl Hearing for Objects {
    fn pay(&self, rate: Rate) -> Result<(), Empty> {
        self.partner.messages.take(rate, self.partner.now())
    }

    async fn hear(&mut self, message: Message) -> Result<(), End> {
        match message {
            // Boxed, since an idle connection keeps the room for it, and a message costs far more than that.
            Message::Text(text) => Box::pin(self.arrived(text)).await,
            _ => Err(End::Ours(CloseCode::Unsupported, "binary message: only text is spoken".to_owned())),
        }
    }
}

fn lock(unanswered: &Mutex<Unanswered>) -> MutexGuard<'_, Unanswered> {
    unanswered.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Objects {
    /// What the end of the connection says about what it carried, and whether a SET in it is looked for.
    fn ending(&self, end: &End) -> (Ending, bool) {
        let alone = match &*lock(&self.unanswered) {
            Unanswered::Nothing => return (end.ending(), false),
            _ if !end.is_fault() => return (end.ending(), false),
            Unanswered::Alone(jti) => Some(jti.clone()),
            Unanswered::Many => None,
        };
        match self.partner.suspicion.failed(alone.as_ref(), self.partner.now()) {
            None => (end.ending(), false),
            Some(blame) => {
                if let Some(jti) = &alone
                    && let Some(count) = self.partner.note_unanswered()
                {
                    let (peer, why) = (&self.partner.name, end.why());
                    info!(%peer, %jti, transport = "websocket", count, why, "no verdict");
                }
                (Ending::Failed { retry_after: Duration::ZERO, blame }, blame != Blame::Partner)
            }
        }
    }

    /// Waits until what has arrived is judged and with the actor.
    async fn finish(&mut self) {
        while self.inspections.join_next().await.is_some() {}
    }

    /// Takes one object in. Waits while too much of this partner is unfinished: then nothing is read, and TCP pushes
    /// back.
    async fn arrived(&mut self, text: Utf8Bytes) -> Result<(), End> {
        let length = text.len();
        let read = self.partner.inspector().read(text.into(), self.config.limits).await;
        self.partner.metrics.received_bytes(Transport::Websocket, length);
        let object = read.map_err(|malformed| {
            let code = if malformed.kind.is_too_big() { CloseCode::Size } else { CloseCode::Invalid };
            End::Ours(code, malformed.to_string())
        })?;
        if !object.acks.is_empty() || !object.errors.is_empty() {
            self.partner.suspicion.answered();
            *lock(&self.unanswered) = Unanswered::Nothing;
        }
        // What is made of it takes more room than the text, if its SETs are small.
        let taken = length + object.sets.len() * SET_BYTES;
        let room = self.handle.arrival_room(taken).await.map_err(|_| stopped(self.pass.as_ref()))?;
        while self.inspections.len() >= INSPECTIONS_MAX {
            self.inspections.join_next().await;
        }
        let (partner, handle, slot) = (Arc::clone(&self.partner), self.handle.clone(), self.slot);
        let patience = self.config.patience();
        self.inspections.spawn(cpu::throughout(cpu::Stage::Frame, async move {
            // A stopped actor shows in the slot, which ends this connection.
            let _ = partner.bring(&handle, Some(slot), object, room, patience).await;
        }));
        Ok(())
    }
}

/// The slot of a connection, whose turn it is again after each object.
struct Turns {
    slot: Slot,
    /// SETs in the object that leaves.
    sets: usize,
    unanswered: Arc<Mutex<Unanswered>>,
    metrics: Arc<PeerMetrics>,
}

impl Speaking for Turns {
    async fn next(&mut self) -> Option<Result<Message, End>> {
        let object = self.slot.next().await?;
        self.sets = object.sets.len();
        lock(&self.unanswered).left(&object);
        let text = Utf8Bytes::try_from(encode(&object, None));
        Some(text.map(Message::Text).map_err(|error| End::Ours(CloseCode::Error, error.to_string())))
    }

    async fn left(&mut self, length: usize) {
        self.metrics.sent(Transport::Websocket, self.sets, length);
        self.slot.ready().await;
    }

    fn alive(&mut self) {
        self.slot.alive();
    }
}

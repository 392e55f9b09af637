//! Push-pull (draft-tulshibagwale-saag-pushpull-delivery): Communication Objects over HTTP POST and over WebSocket.
//!
//! Each driver is a codec and a source of slots; what is sent when is decided by the core alone.

mod accept;
mod dialler;
pub mod echo;
mod elastic;
mod frames;
mod initiator;
mod objects;
mod responder;
mod watched;
mod websocket;

use std::time::Duration;

use bytes::Bytes;

#[doc(hidden)]
pub use accept::converse;
pub use accept::upgrade;
pub use dialler::{Dial, run as dial};
pub use responder::exchange;

use crate::engine::Rate;
use crate::peer::{SlotSpec, Transmission, Verdict, Verdicts, WaitsFor};
use crate::set::Jti;
#[doc(hidden)]
pub use crate::transport::experience::{Exchange, Experience};
use crate::wire;

/// The WebSocket subprotocol (draft §Pushpull Subprotocol Handshake).
pub const SUBPROTOCOL: &str = "pushpull";

/// Limits and intervals of the push-pull drivers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// What a Communication Object may hold.
    pub limits: wire::Limits,
    /// Requests of one partner a second, handshakes of WebSockets too (`limits.requests_per_second_max`, default 2,000).
    pub requests_per_second_max: u32,
    /// WebSocket messages of one partner a second (`limits.messages_per_second_max`, default 25,000).
    pub messages_per_second_max: u32,
    /// How often an Initiator that has nothing to say asks for SETs (`delivery.speak_interval`, default 5 s).
    pub speak_interval: Duration,
    /// How often a WebSocket is pinged (`delivery.ping_interval`, default 20 s). A link that is silent for twice as
    /// long is given up.
    pub ping_interval: Duration,
    /// The longest time from a request's last byte to our answer (1 s). What has no verdict by then is answered later.
    pub answer_within: Duration,
    /// The longest time for a whole exchange that we began (30 s), and for one object to leave by a WebSocket.
    pub exchange_within: Duration,
    /// How long a poll waits for SETs (15 s).
    pub poll_hold: Duration,
    /// The pause before a WebSocket is tried again after its handshake failed; doubles up to `websocket_retry_max`.
    pub websocket_retry_first: Duration,
    /// The longest such pause.
    pub websocket_retry_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: wire::Limits::default(),
            requests_per_second_max: 2000,
            messages_per_second_max: 25_000,
            speak_interval: Duration::from_secs(5),
            ping_interval: Duration::from_secs(20),
            answer_within: Duration::from_secs(1),
            exchange_within: Duration::from_secs(30),
            poll_hold: crate::transport::poll::HOLD,
            websocket_retry_first: Duration::from_secs(2),
            websocket_retry_max: Duration::from_secs(60),
        }
    }
}

impl Config {
    /// The part of `answer_within` that may be spent on waiting for a partner's newer keys.
    pub fn patience(&self) -> Duration {
        self.answer_within * 6 / 10
    }

    /// How long a Responder's slot waits for verdicts before it answers without them.
    pub fn hold(&self) -> Duration {
        self.answer_within * 8 / 10
    }

    /// The longest silence on a WebSocket.
    pub fn silence_max(&self) -> Duration {
        self.ping_interval * 2
    }

    pub(super) fn request_rate(&self) -> Rate {
        Rate { per_second: self.requests_per_second_max, burst: BURST }
    }

    fn message_rate(&self) -> Rate {
        Rate { per_second: self.messages_per_second_max, burst: BURST }
    }

    /// A slot for whole exchanges over HTTP.
    pub fn exchange_spec(&self, sets_max: usize, waits_for: WaitsFor) -> SlotSpec {
        SlotSpec {
            sets_max: sets_max.min(self.limits.sets_per_object_max),
            bytes_max: self.bytes_max(),
            verdicts: Verdicts::Any,
            waits_for,
            by: None,
        }
    }

    /// A slot for a WebSocket. Smaller objects than over HTTP: the next can follow at once, and both ends work on
    /// different objects at the same time.
    pub fn socket_spec(&self) -> SlotSpec {
        SlotSpec {
            sets_max: SOCKET_SETS_MAX.min(self.limits.sets_per_object_max),
            bytes_max: self.bytes_max(),
            verdicts: Verdicts::Any,
            waits_for: WaitsFor::Anything,
            by: None,
        }
    }

    /// We keep to half of our own limit, which is the best guess at the partner's.
    fn bytes_max(&self) -> usize {
        (self.limits.object_bytes_max / 2).min(1 << 20)
    }
}

/// What a partner may do at once: as much as in so many seconds at its rate.
const BURST: Duration = Duration::from_secs(2);

/// SETs in one WebSocket message. There is one message a commit, so that with slow commits this bounds what leaves; and a
/// partner may take fewer than we do.
const SOCKET_SETS_MAX: usize = 500;

/// The object as it goes on the wire.
pub fn encode(object: &Transmission, max_response_events: Option<u64>) -> Bytes {
    let (acks, errors) = verdicts(object);
    wire::write(&object.sets, acks, errors, max_response_events).into()
}

/// Its verdicts as they are written: acks, and setErrs with code and description.
pub(super) fn verdicts(
    object: &Transmission,
) -> (impl Iterator<Item = &Jti>, impl Iterator<Item = (&Jti, &str, &str)>) {
    let acks = object.verdicts.iter().filter_map(|(jti, verdict)| match verdict {
        Verdict::Acked => Some(jti),
        Verdict::Refused(_) => None,
    });
    let errors = object.verdicts.iter().filter_map(|(jti, verdict)| match verdict {
        Verdict::Acked => None,
        Verdict::Refused(refusal) => Some((jti, refusal.code.as_str(), refusal.description.as_str())),
    });
    (acks, errors)
}

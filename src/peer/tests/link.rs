//! The pretend link: a WebSocket with one long-lived slot an end, HTTP exchanges that the left end dials, or both.

use std::collections::BTreeMap;
use std::time::Duration;

use super::end::News;
use super::pair::{self, Left, Pair, Right, Side};
use crate::peer::{Ending, SlotId, SlotSpec, Transmission, Verdicts, WaitsFor};

/// Which bindings are in use. With both, there are simply more slots.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mode {
    pub(super) websocket: bool,
    pub(super) http: bool,
}

impl Mode {
    pub(super) const WEBSOCKET: Self = Self { websocket: true, http: false };
    pub(super) const HTTP: Self = Self { websocket: false, http: true };
    pub(super) const BOTH: Self = Self { websocket: true, http: true };
    /// Neither: SETs go by calls (`calls.rs`).
    pub(super) const CALLS: Self = Self { websocket: false, http: false };
}

/// What happens on the link.
#[derive(Debug)]
pub(super) enum Event {
    Connect,
    Ping { connection: u64, missed: u32 },
    Frame { connection: u64, to: Side, object: Transmission },
    Flushed { connection: u64, side: Side },
    Dial,
    Request { exchange: u64, object: Transmission, copy: bool },
    Response { exchange: u64, object: Transmission },
    Failed { exchange: u64, ending: Ending },
}

/// The link's state and its faults; tests turn the knobs while it runs.
pub(super) struct Link {
    pub(super) mode: Mode,
    pub(super) latency: Duration,
    /// Added to the latency, at random.
    pub(super) jitter: Duration,
    pub(super) up: bool,
    /// Nothing reaches this end, and nobody has noticed.
    pub(super) deaf: Option<Side>,
    /// So many of the next objects are lost; then so many of a hundred.
    pub(super) lose_next: u32,
    pub(super) loss: u64,
    /// Of a hundred requests or frames, so many arrive twice.
    pub(super) doubling: u64,
    /// So many of the next requests are answered 503; then so many of a hundred.
    pub(super) busy_next: u32,
    pub(super) busy: u64,
    pub(super) retry_after: Duration,
    /// Requests that are answered 400 or 413.
    pub(super) rejects: Box<dyn Fn(&Transmission) -> bool>,
    /// How long the right end takes to answer a request.
    pub(super) answer_time: Duration,
    /// When the Initiator gives up an exchange.
    pub(super) patience: Duration,
    pub(super) sets_max: usize,
    pub(super) response_sets_max: usize,
    pub(super) bytes_max: usize,
    pub(super) speak_interval: Duration,
    /// Requests made, and how many of them were rejected.
    pub(super) requests: u64,
    pub(super) rejected: u64,
    connection: Option<(u64, [SlotId; 2])>,
    exchanges: BTreeMap<u64, Exchange>,
    next: u64,
}

/// An HTTP exchange under way.
#[derive(Debug)]
struct Exchange {
    left: SlotId,
    right: Option<SlotId>,
    /// The right end's slot for a request that came twice; its response goes nowhere.
    echo: Option<SlotId>,
}

impl Link {
    pub(super) fn new(mode: Mode) -> Self {
        Self {
            mode,
            latency: Duration::from_millis(10),
            jitter: Duration::ZERO,
            up: true,
            deaf: None,
            lose_next: 0,
            loss: 0,
            doubling: 0,
            busy_next: 0,
            busy: 0,
            retry_after: Duration::ZERO,
            rejects: Box::new(|_| false),
            answer_time: Duration::ZERO,
            patience: Duration::from_secs(2),
            sets_max: 1000,
            response_sets_max: 1000,
            bytes_max: 1 << 20,
            speak_interval: Duration::from_secs(1),
            requests: 0,
            rejected: 0,
            connection: None,
            exchanges: BTreeMap::new(),
            next: 0,
        }
    }

    fn spec(&self, sets_max: usize, waits_for: WaitsFor, by: Option<Duration>) -> SlotSpec {
        SlotSpec { sets_max, bytes_max: self.bytes_max, verdicts: Verdicts::Any, waits_for, by }
    }
}

impl Pair {
    /// The link is cut, and both ends notice at once; everything on its way is lost.
    pub(super) fn cut(&mut self) {
        self.link.up = false;
        self.hang_up();
    }

    pub(super) fn restore(&mut self) {
        self.link.up = true;
        self.link.deaf = None;
    }

    pub(super) fn connect_soon(&mut self, delay: Duration) {
        if self.link.mode.websocket {
            self.schedule(delay, pair::Event::Link(Event::Connect));
        }
        if self.link.mode.http {
            self.schedule(delay, pair::Event::Link(Event::Dial));
        }
        self.dial_soon(delay);
    }

    /// The WebSocket is gone, for both ends.
    pub(super) fn hang_up(&mut self) {
        let Some((_, slots)) = self.link.connection.take() else { return };
        for side in [Left, Right] {
            self.end(side).close_slot(slots[side as usize], Ending::Lost { retry_after: Duration::ZERO });
        }
        self.schedule(RECONNECT, pair::Event::Link(Event::Connect));
    }

    /// The process of `side` is gone, and its sockets with it.
    pub(super) fn partner_gone(&mut self, side: Side) {
        self.hang_up();
        self.callers_gone(side);
        for (id, exchange) in std::mem::take(&mut self.link.exchanges) {
            if side == Left {
                self.give_up(&exchange);
                self.schedule(RECONNECT, pair::Event::Link(Event::Dial));
            } else {
                let ending = Ending::Lost { retry_after: Duration::ZERO };
                self.link.exchanges.insert(id, Exchange { right: None, echo: None, ..exchange });
                self.schedule(RECONNECT, pair::Event::Link(Event::Failed { exchange: id, ending }));
            }
        }
    }

    pub(super) fn transmit(&mut self, side: Side, slot: SlotId, object: Transmission) {
        if self.transmit_call(side, slot, &object) {
            return;
        }
        if let Some((connection, _)) = self.link.connection.filter(|(_, slots)| slots[side as usize] == slot) {
            return self.frame(connection, side, object);
        }
        let mine = |exchange: &Exchange| match side {
            Left => exchange.left == slot,
            Right => exchange.right == Some(slot) || exchange.echo == Some(slot),
        };
        let Some((&id, _)) = self.link.exchanges.iter().find(|(_, exchange)| mine(exchange)) else { return };
        if side == Left { self.request(id, object) } else { self.respond(id, slot, object) }
    }

    pub(super) fn on_link(&mut self, event: Event) {
        match event {
            Event::Connect => self.connect(),
            Event::Ping { connection, missed } => self.ping(connection, missed),
            Event::Flushed { connection, side } => {
                if let Some((_, slots)) = self.link.connection.filter(|(id, _)| *id == connection) {
                    self.end(side).ready(slots[side as usize]);
                }
            }
            Event::Frame { connection, to, object } => {
                if let Some((_, slots)) = self.link.connection.filter(|(id, _)| *id == connection) {
                    self.end(to).alive(slots[to as usize]);
                    self.end(to).news.push_back(News::Object { slot: None, object, asks_again: false });
                }
            }
            Event::Dial => self.dial(),
            Event::Request { exchange, object, copy } => self.requested(exchange, object, copy),
            Event::Response { exchange, object } => {
                if let Some(exchange) = self.link.exchanges.remove(&exchange) {
                    self.end(Left).news.push_back(News::Object { slot: None, object, asks_again: false });
                    self.end(Left).close_slot(exchange.left, Ending::Delivered);
                    self.schedule(Duration::ZERO, pair::Event::Link(Event::Dial));
                }
            }
            Event::Failed { exchange, ending } => {
                if let Some(exchange) = self.link.exchanges.remove(&exchange) {
                    self.end(Left).close_slot(exchange.left, ending);
                    self.give_up(&exchange);
                    let pause = if let Ending::Lost { retry_after } = ending {
                        retry_after + RECONNECT
                    } else {
                        Duration::ZERO
                    };
                    self.schedule(pause, pair::Event::Link(Event::Dial));
                }
            }
        }
    }

    fn connect(&mut self) {
        let possible = self.link.up && self.ends.iter().all(|end| end.peer.is_some());
        if !possible || self.link.connection.is_some() {
            if self.link.connection.is_none() && self.link.mode.websocket {
                self.schedule(RECONNECT, pair::Event::Link(Event::Connect));
            }
            return;
        }
        self.link.next += 1;
        let spec = self.link.spec(self.link.sets_max, WaitsFor::Anything, None);
        let slots = [self.end(Left).open_slot(spec), self.end(Right).open_slot(spec)];
        self.link.connection = Some((self.link.next, slots));
        let ping = Event::Ping { connection: self.link.next, missed: 0 };
        self.schedule(PING, pair::Event::Link(ping));
    }

    fn ping(&mut self, connection: u64, missed: u32) {
        let Some((_, slots)) = self.link.connection.filter(|(id, _)| *id == connection) else { return };
        let answered = self.link.up && self.link.deaf.is_none();
        if answered {
            self.end(Left).alive(slots[0]);
            self.end(Right).alive(slots[1]);
        }
        let missed = if answered { 0 } else { missed + 1 };
        if missed > 3 {
            return self.hang_up();
        }
        self.schedule(PING, pair::Event::Link(Event::Ping { connection, missed }));
    }

    fn frame(&mut self, connection: u64, side: Side, object: Transmission) {
        let to = side.other();
        if !self.lost(to) {
            let delay = self.travel();
            if self.random.below(100) < self.link.doubling {
                let again = self.travel();
                let object = object.clone();
                self.schedule(again, pair::Event::Link(Event::Frame { connection, to, object }));
            }
            self.schedule(delay, pair::Event::Link(Event::Frame { connection, to, object }));
        }
        self.schedule(Duration::from_micros(100), pair::Event::Link(Event::Flushed { connection, side }));
    }

    fn dial(&mut self) {
        if !self.link.mode.http || !self.link.exchanges.is_empty() {
            return;
        }
        if self.end(Left).peer.is_none() {
            return self.schedule(RECONNECT, pair::Event::Link(Event::Dial));
        }
        let by = self.ends[0].clock(self.now).mono + self.link.speak_interval;
        let spec = self.link.spec(self.link.sets_max, WaitsFor::Anything, Some(by));
        let left = self.end(Left).open_slot(spec);
        self.link.next += 1;
        self.link.exchanges.insert(self.link.next, Exchange { left, right: None, echo: None });
    }

    fn request(&mut self, exchange: u64, object: Transmission) {
        self.link.requests += 1;
        let (there, back) = (self.travel(), self.travel());
        let lost = Ending::Lost { retry_after: Duration::ZERO };
        let busy = self.link.busy_next > 0 || self.random.below(100) < self.link.busy;
        let (delay, event) = if self.lost(Right) {
            (self.link.patience, Event::Failed { exchange, ending: lost })
        } else if busy {
            self.link.busy_next = self.link.busy_next.saturating_sub(1);
            (there + back, Event::Failed { exchange, ending: Ending::Lost { retry_after: self.link.retry_after } })
        } else if (self.link.rejects)(&object) {
            self.link.rejected += 1;
            (there + back + self.link.answer_time, Event::Failed { exchange, ending: Ending::REJECTED })
        } else {
            if self.random.below(100) < self.link.doubling {
                let object = object.clone();
                self.schedule(there + back, pair::Event::Link(Event::Request { exchange, object, copy: true }));
            }
            let patience = self.link.patience + self.link.answer_time + 4 * self.link.latency;
            self.schedule(patience, pair::Event::Link(Event::Failed { exchange, ending: lost }));
            (there, Event::Request { exchange, object, copy: false })
        };
        self.schedule(delay, pair::Event::Link(event));
    }

    fn requested(&mut self, id: u64, object: Transmission, copy: bool) {
        if self.ends[1].peer.is_none() || !self.link.up {
            return;
        }
        let by = self.ends[1].clock(self.now).mono + Duration::from_millis(500);
        let spec = self.link.spec(self.link.response_sets_max, WaitsFor::Answers, Some(by));
        let slot = self.end(Right).open_slot(spec);
        match self.link.exchanges.get_mut(&id) {
            Some(exchange) if copy => exchange.echo = Some(slot),
            Some(exchange) => exchange.right = Some(slot),
            // The client is gone already; the server finds out when it answers.
            None => {}
        }
        self.end(Right).news.push_back(News::Object { slot: Some(slot), object, asks_again: false });
        if !self.link.exchanges.contains_key(&id) {
            self.end(Right).close_slot(slot, Ending::Lost { retry_after: Duration::ZERO });
        }
    }

    fn respond(&mut self, id: u64, slot: SlotId, object: Transmission) {
        let Some(exchange) = self.link.exchanges.get(&id) else { return };
        let real = exchange.right == Some(slot);
        // Written to the socket: the right end never learns whether it arrived.
        self.end(Right).close_slot(slot, Ending::Delivered);
        if real && !self.lost(Left) {
            let delay = self.travel() + self.link.answer_time;
            self.schedule(delay, pair::Event::Link(Event::Response { exchange: id, object }));
        }
    }

    /// The Initiator is gone: the right end's slots for this exchange have nobody to speak to.
    fn give_up(&mut self, exchange: &Exchange) {
        for slot in [exchange.right, exchange.echo].into_iter().flatten() {
            self.end(Right).close_slot(slot, Ending::Lost { retry_after: Duration::ZERO });
        }
    }

    pub(super) fn lost(&mut self, to: Side) -> bool {
        if self.link.lose_next > 0 {
            self.link.lose_next -= 1;
            return true;
        }
        !self.link.up || self.link.deaf == Some(to) || self.random.below(100) < self.link.loss
    }

    pub(super) fn travel(&mut self) -> Duration {
        let extra = self.some_of(self.link.jitter);
        self.link.latency + extra
    }
}

/// The pause after a lost connection or exchange.
const RECONNECT: Duration = Duration::from_millis(100);

/// Between two pings of a WebSocket.
const PING: Duration = Duration::from_secs(1);

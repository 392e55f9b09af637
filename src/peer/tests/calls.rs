//! The pretend link of methods that carry SETs one way: push, multi-set push and poll, each as calls that are answered.

use std::collections::BTreeMap;
use std::time::Duration;

use super::end::News;
use super::pair::{self, Left, Pair, Right, Side};
use crate::peer::{Ending, SlotId, SlotSpec, Transmission, Verdicts, WaitsFor};

/// By what SETs go one way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Method {
    Push,
    MultiPush,
    Poll,
}

impl Method {
    pub(super) const ALL: [Self; 3] = [Self::Push, Self::MultiPush, Self::Poll];

    /// Who calls, where `sender` is whose SETs are carried.
    fn caller(self, sender: Side) -> Side {
        if self == Self::Poll { sender.other() } else { sender }
    }

    /// Calls at the same time.
    fn calls(self) -> usize {
        if self == Self::Push { 3 } else { 1 }
    }
}

/// What happens to a call.
#[derive(Debug)]
pub(super) enum Event {
    /// There may be another one.
    Dial {
        sender: Side,
    },
    Request {
        call: u64,
        object: Transmission,
        copy: bool,
    },
    Answer {
        call: u64,
        object: Transmission,
    },
    Failed {
        call: u64,
        ending: Ending,
    },
}

/// The calls under way.
pub(super) struct Calls {
    /// By what the left end's SETs go, and the right end's.
    methods: [Option<Method>; 2],
    open: BTreeMap<u64, Call>,
    next: u64,
}

#[derive(Debug)]
struct Call {
    sender: Side,
    method: Method,
    /// The slot of whoever calls.
    asks: SlotId,
    /// The slots of whoever answers: for the request, and for a copy of it, whose answer goes nowhere.
    answers: Option<SlotId>,
    echo: Option<SlotId>,
}

impl Calls {
    pub(super) fn new(methods: [Option<Method>; 2]) -> Self {
        Self { methods, open: BTreeMap::new(), next: 0 }
    }
}

impl Pair {
    pub(super) fn dial_soon(&mut self, delay: Duration) {
        for sender in [Left, Right] {
            if self.calls.methods[sender as usize].is_some() {
                self.schedule(delay, pair::Event::Call(Event::Dial { sender }));
            }
        }
    }

    /// The process of `side` is gone, and its calls with it.
    pub(super) fn callers_gone(&mut self, side: Side) {
        for (id, call) in std::mem::take(&mut self.calls.open) {
            let caller = call.method.caller(call.sender);
            if caller == side {
                self.forsake(&call);
                self.schedule(AGAIN, pair::Event::Call(Event::Dial { sender: call.sender }));
            } else {
                self.calls.open.insert(id, Call { answers: None, echo: None, ..call });
                let ending = Ending::Lost { retry_after: Duration::ZERO };
                self.schedule(AGAIN, pair::Event::Call(Event::Failed { call: id, ending }));
            }
        }
    }

    /// Takes an object that left by a slot of a call; false if it was none.
    pub(super) fn transmit_call(&mut self, side: Side, slot: SlotId, object: &Transmission) -> bool {
        let asked = |call: &Call| call.method.caller(call.sender) == side && call.asks == slot;
        let answered = |call: &Call| {
            call.method.caller(call.sender) != side && (call.answers == Some(slot) || call.echo == Some(slot))
        };
        let found = self.calls.open.iter().find(|(_, call)| asked(call) || answered(call));
        let Some((&id, is_question)) = found.map(|(id, call)| (id, asked(call))) else { return false };
        if is_question {
            self.ask(id, object.clone())
        } else {
            self.answer(id, slot, object.clone())
        }
        true
    }

    pub(super) fn on_call(&mut self, event: Event) {
        match event {
            Event::Dial { sender } => self.dial_call(sender),
            Event::Request { call, object, copy } => self.asked(call, object, copy),
            Event::Answer { call, object } => self.answered(call, object),
            Event::Failed { call, ending } => {
                if let Some(call) = self.calls.open.remove(&call) {
                    self.end(call.method.caller(call.sender)).close_slot(call.asks, ending);
                    self.forsake(&call);
                    let pause = if ending == Ending::REJECTED { Duration::ZERO } else { AGAIN };
                    self.schedule(pause, pair::Event::Call(Event::Dial { sender: call.sender }));
                }
            }
        }
    }

    /// Opens slots up to as many as the method calls at once.
    fn dial_call(&mut self, sender: Side) {
        let Some(method) = self.calls.methods[sender as usize] else { return };
        let caller = method.caller(sender);
        if self.end(caller).peer.is_none() {
            return self.schedule(AGAIN, pair::Event::Call(Event::Dial { sender }));
        }
        let spec = SlotSpec {
            sets_max: match method {
                Method::Push => 1,
                Method::MultiPush => self.link.sets_max,
                Method::Poll => 0,
            },
            bytes_max: self.link.bytes_max,
            verdicts: if method == Method::Poll { Verdicts::Any } else { Verdicts::None },
            waits_for: WaitsFor::Anything,
            by: match method {
                Method::Push => None,
                Method::MultiPush => Some(self.ends[caller as usize].clock(self.now).mono + self.link.speak_interval),
                Method::Poll => Some(self.ends[caller as usize].clock(self.now).mono + SOON),
            },
        };
        while self.calls.open.values().filter(|call| call.sender == sender).count() < method.calls() {
            let asks = self.end(caller).open_slot(spec);
            self.calls.next += 1;
            self.calls.open.insert(self.calls.next, Call { sender, method, asks, answers: None, echo: None });
        }
    }

    fn ask(&mut self, call: u64, object: Transmission) {
        let Some(Call { sender, method, .. }) = self.calls.open.get(&call) else { return };
        let (method, to) = (*method, method.caller(*sender).other());
        self.link.requests += 1;
        let (there, back) = (self.travel(), self.travel());
        let lost = Ending::Lost { retry_after: Duration::ZERO };
        let busy = self.random.below(100) < self.link.busy;
        let rejected = method != Method::Poll && (self.link.rejects)(&object);
        let (delay, event) = if self.lost(to) {
            (self.link.patience, Event::Failed { call, ending: lost })
        } else if busy {
            (there + back, Event::Failed { call, ending: Ending::Lost { retry_after: self.link.retry_after } })
        } else if rejected {
            (there + back + self.link.answer_time, Event::Failed { call, ending: Ending::REJECTED })
        } else {
            if self.random.below(100) < self.link.doubling {
                let object = object.clone();
                self.schedule(there + back, pair::Event::Call(Event::Request { call, object, copy: true }));
            }
            let patience = self.link.patience + HOLD + self.link.answer_time + 4 * self.link.latency;
            self.schedule(patience, pair::Event::Call(Event::Failed { call, ending: lost }));
            (there, Event::Request { call, object, copy: false })
        };
        self.schedule(delay, pair::Event::Call(event));
    }

    /// A request has come.
    fn asked(&mut self, id: u64, object: Transmission, copy: bool) {
        // Whoever asked may have gone: then the method is still that of the SETs in it, or a poll's.
        let Some(Call { sender, method, .. }) = self.calls.open.get(&id) else { return };
        let (method, side) = (*method, method.caller(*sender).other());
        if self.ends[side as usize].peer.is_none() || !self.link.up {
            return;
        }
        let by = |hold| Some(self.ends[side as usize].clock(self.now).mono + hold);
        let spec = match method {
            Method::Push => SlotSpec {
                sets_max: 0,
                bytes_max: 0,
                verdicts: Verdicts::Own,
                waits_for: WaitsFor::Answers,
                by: by(Duration::from_millis(500)),
            },
            Method::MultiPush => SlotSpec {
                sets_max: 0,
                bytes_max: self.link.bytes_max,
                verdicts: Verdicts::Any,
                waits_for: WaitsFor::Answers,
                by: by(Duration::from_millis(500)),
            },
            Method::Poll => SlotSpec {
                sets_max: self.link.response_sets_max,
                bytes_max: self.link.bytes_max,
                verdicts: Verdicts::None,
                waits_for: WaitsFor::Sets,
                by: by(HOLD),
            },
        };
        let asks_again = method == Method::Push;
        if method == Method::Poll {
            self.end(side).news.push_back(News::Object { slot: None, object: object.clone(), asks_again });
        }
        let slot = self.end(side).open_slot(spec);
        match self.calls.open.get_mut(&id) {
            Some(call) if copy => call.echo = Some(slot),
            Some(call) => call.answers = Some(slot),
            None => {}
        }
        if method != Method::Poll {
            self.end(side).news.push_back(News::Object { slot: Some(slot), object, asks_again });
        }
    }

    fn answer(&mut self, id: u64, slot: SlotId, object: Transmission) {
        let Some(call) = self.calls.open.get(&id) else { return };
        let (caller, is_real) = (call.method.caller(call.sender), call.answers == Some(slot));
        // Written to the socket: whoever answers never learns whether it arrived.
        self.end(caller.other()).close_slot(slot, Ending::Delivered);
        if is_real && !self.lost(caller) {
            let delay = self.travel() + self.link.answer_time;
            self.schedule(delay, pair::Event::Call(Event::Answer { call: id, object }));
        }
    }

    fn answered(&mut self, id: u64, object: Transmission) {
        let Some(call) = self.calls.open.remove(&id) else { return };
        let caller = call.method.caller(call.sender);
        // An answer without a verdict is a 503.
        let ending = match call.method {
            Method::Push if object.verdicts.is_empty() => Ending::Lost { retry_after: self.link.retry_after },
            _ => Ending::Delivered,
        };
        self.end(caller).news.push_back(News::Object { slot: Some(call.asks), object, asks_again: false });
        self.end(caller).close_slot(call.asks, ending);
        if let Some(echo) = call.echo {
            self.end(caller.other()).close_slot(echo, Ending::Lost { retry_after: Duration::ZERO });
        }
        let pause = if ending == Ending::Delivered { Duration::ZERO } else { AGAIN };
        self.schedule(pause, pair::Event::Call(Event::Dial { sender: call.sender }));
    }

    /// Whoever asked is gone: the slots of the answer have nobody to speak to.
    fn forsake(&mut self, call: &Call) {
        let answering = call.method.caller(call.sender).other();
        for slot in [call.answers, call.echo].into_iter().flatten() {
            self.end(answering).close_slot(slot, Ending::Lost { retry_after: Duration::ZERO });
        }
    }
}

/// The pause after a call that failed.
const AGAIN: Duration = Duration::from_millis(100);

/// How long a poll waits for verdicts to take along.
const SOON: Duration = Duration::from_millis(50);

/// How long a poll is held.
const HOLD: Duration = Duration::from_secs(1);

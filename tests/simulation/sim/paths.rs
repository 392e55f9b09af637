//! Which paths in the product were taken: by what it logs, and by what is seen of it. A workload that never gets somewhere
//! proves nothing about that place.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use pushpull::peer::{DeathCause, Outcome, Verdict, Write};
use pushpull::set::{Digest, Jti};
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event as Line, Level, Metadata, Subscriber};

use super::event::{Event, Org};

/// What every large enough campaign has to have met: what people call it, and by what it is known.
pub const EXPECTED: &[(&str, &str)] = &[
    ("fault: killed", "killed"),
    ("fault: died in recovery", "died in recovery"),
    ("fault: died within a commit", "commit unknown"),
    ("fault: write failed (EIO)", "write failed"),
    ("fault: sync failed (EIO)", "sync failed"),
    ("fault: unsynced writes lost", "unsynced writes lost"),
    ("fault: links and applications stopped for a while", "links and applications stopped for a while"),
    ("fault: disk full", "disk full"),
    ("path: process ended because its store failed", "store failed"),
    ("fault: row damaged at rest", "row damaged"),
    ("fault: request dropped", "request dropped"),
    ("fault: answer dropped", "answer dropped"),
    ("fault: request delayed up to ten minutes", "request delayed"),
    ("fault: request duplicated", "request duplicated"),
    ("fault: answer truncated", "answer truncated"),
    ("fault: 400 on the way", "answered 400"),
    ("fault: 401 on the way", "answered 401"),
    ("fault: 413 on the way", "answered 413"),
    ("fault: 429 on the way", "answered 429"),
    ("fault: 503 on the way", "answered 503"),
    ("fault: 400 authentication_failed on the way", "answered 400 authentication_failed"),
    ("fault: handshake of a WebSocket answered 429", "handshake answered 429"),
    ("fault: WebSocket closed as overloaded (1013)", "closed 1013"),
    ("fault: Retry-After of a month", "absurd Retry-After"),
    ("fault: connection reset", "connection reset"),
    ("fault: blackhole", "blackhole"),
    ("fault: one-way partition", "one-way partition"),
    ("fault: WebSockets switched on and off", "WebSockets switched"),
    ("fault: clock jumped", "clock jumped"),
    ("fault: clock jumped by months", "clock jumped far"),
    ("path: clock suspect at the start", "clock suspect at the start"),
    ("fault: clock stood still", "clock stood still"),
    ("fault: clock ran wrong", "clock ran wrong"),
    ("fault: key server down", "key server down"),
    ("fault: key server slow", "key server slow"),
    ("fault: key server wrong", "key server wrong"),
    ("fault: keys from an old cache", "keys from an old cache"),
    ("fault: disk slow", "disk slow"),
    ("fault: application crashed", "application crashed before it confirmed"),
    ("hostile: unsound SETs", "hostile: unsound SETs"),
    ("hostile: other content", "hostile: other content"),
    ("hostile: replay", "hostile: replay"),
    ("hostile: two contents of a jti at once", "hostile: two contents at once"),
    ("hostile: relay", "hostile: relay"),
    ("hostile: guessed verdicts", "hostile: guessed verdicts"),
    ("hostile: foreign verdicts", "hostile: foreign verdicts"),
    ("hostile: guessed refusals", "hostile: guessed refusals"),
    ("hostile: another name", "hostile: another name"),
    ("hostile: malformed", "hostile: malformed"),
    ("hostile: 400 authentication_failed", "hostile: 400 authentication_failed"),
    ("hostile: WebSocket closed as overloaded (1013)", "hostile: closed 1013"),
    ("path: acked", "settled: acked"),
    ("path: refused by the partner", "settled: refused"),
    ("path: gave up after attempts", "settled: given up"),
    ("path: gave up for age", "settled: too old"),
    ("path: sent again", "sent again"),
    ("path: batch refused as a whole", "batch refused"),
    ("path: exchanges kept failing, batch in parts", "exchanges kept failing"),
    ("path: many SETs failed alone, others first", "all kept failing"),
    ("path: an answer waited for less long after a silence", "less time for an answer"),
    ("path: answer too large to read", "answer too large"),
    ("path: known SET came again", "came again"),
    ("path: duplicate answered again", "answered again"),
    ("path: known jti with other content", "came with other content"),
    ("path: SET refused", "answered: refused"),
    ("path: verification event answered", "answered: verification"),
    ("path: window full", "window full"),
    ("path: inbox full", "no room for received SETs, they were neither stored nor acked: confirm the inbox"),
    ("path: refusals suppressed", "too many SETs to refuse, or verification events; these got no verdict"),
    ("path: unknown verdicts ignored", "verdicts about SETs that are not under way"),
    ("path: sent when all was well again", "sent after healing"),
    ("path: outbox full", "send: outbox full"),
    ("path: send declined by a full disk", "send: storage full"),
    ("path: send cut short by a stop", "send: stopped"),
    ("path: conflict at send", "send: conflict"),
    ("path: newer keys awaited", "newer keys awaited"),
    ("path: silent link given up", "silent link given up"),
    ("path: fell back to HTTP", "fell back to HTTP"),
    ("path: reconnected", "reconnected"),
    ("path: WebSockets do not last", "WebSockets do not last"),
    ("path: pauses kept over a change to HTTP", "pauses kept over a change to HTTP"),
    ("path: told to come back later (1013)", "told to come back later"),
    ("path: waited after 429 to a handshake", "handshake answered 429, waited"),
    ("path: HTTP went on beside 429 to a handshake", "handshake answered 429, HTTP went on"),
    ("path: 400 for who we are, not for the object", "refused for who we are"),
    ("path: a WebSocket overtook an exchange", "a WebSocket overtook an exchange"),
    ("path: no answer to a request within a second", "no answer within a second"),
    ("path: resend refused, its key has retired", "resend refused for its key"),
    ("path: drained too slowly", "drained too slowly"),
    ("path: push without a verdict for its sender", "push without a verdict"),
    ("path: push answered without a verdict", "push answered without a verdict"),
    ("path: late verdicts collected by an empty request", "late verdicts collected"),
    ("path: batch too large, halved", "batch too large, halved"),
    ("path: poll answered with SETs", "poll answered with SETs"),
    ("path: client gone while it waited", "client gone while it waited"),
    ("path: malformed object closed on", "malformed object closed on"),
    ("path: malformed object answered", "malformed object answered"),
    ("path: client gone before its answer", "client gone before its answer"),
    ("path: recovered with a backlog", "recovered with a backlog"),
    ("path: submitted again after a crash", "submitted again after a crash"),
    ("path: redelivered", "redelivered"),
    ("path: verdicts kept back", "verdicts kept back"),
    ("path: forgot everything", "forgot everything"),
    ("path: paused by an operator", "paused by an operator"),
    ("path: purged", "purged"),
    ("path: restarted in order", "restarted in order"),
    ("path: dead letter resent", "dead letter resent"),
    ("path: dead letter reissued", "dead letter reissued"),
    ("path: dead letter asked for twice at once", "dead letter asked for twice"),
    ("path: dead letter discarded", "dead letter discarded"),
    ("path: key rotation begun", "key rotation begun"),
    ("path: signed with a second key", "signed with a second key"),
    ("path: looked at what is under way", "looked at what is under way"),
    ("path: key retired", "key retired"),
];

/// What is counted and need not have been met. Nobody should take the simulation for a proof about it: memory is kept for
/// a month and no federation lasts a day, hardly ever is so much of a partner's unfinished, and verdicts nearly always go with
/// the next poll.
pub const SELDOM: &[(&str, &str)] = &[
    ("path: verdicts told beside a poll that waits", "verdicts told beside a poll"),
    ("path: memory of a jti ended", "memory of a jti ended"),
    ("path: too much of a partner's unfinished", "too much of a partner's unfinished"),
];

/// What is seen of the product from outside.
#[derive(Default)]
pub struct Paths {
    /// How often each SET left, by sender and receiver.
    left: HashMap<(Org, Org, Jti), u32>,
    came: HashMap<(Org, Org, Jti), Digest>,
    answered: HashSet<(Org, Org, Jti)>,
    flight: HashMap<(Org, Org), HashSet<Jti>>,
    pub windows: HashMap<Org, usize>,
    /// SETs that were handed to `send` and accepted, each once however often that was.
    pub sets: HashSet<(Org, Org, Jti)>,
}

impl Paths {
    /// The names of what this event shows.
    pub fn see(&mut self, event: &Event, mut meet: impl FnMut(&'static str)) {
        match event {
            Event::Accepted { from, to, jti, .. } => {
                self.sets.insert((*from, *to, jti.clone()));
            }
            Event::Left { from, to, sets, acks, errors, .. } => {
                for (jti, _) in sets {
                    let left = self.left.entry((*from, *to, jti.clone())).or_default();
                    *left += 1;
                    if *left == 2 {
                        meet("sent again");
                    }
                    let flight = self.flight.entry((*from, *to)).or_default();
                    flight.insert(jti.clone());
                    if self.windows.get(from).is_some_and(|window| flight.len() >= *window) {
                        meet("window full");
                    }
                }
                for jti in acks.iter().chain(errors.iter().map(|(jti, _)| jti)) {
                    if !self.answered.insert((*from, *to, jti.clone())) {
                        meet("answered again");
                    }
                }
            }
            Event::Came { to, from, sets, .. } => {
                for (jti, digest, _) in sets {
                    match self.came.insert((*from, *to, jti.clone()), *digest) {
                        Some(before) if before == *digest => meet("came again"),
                        Some(_) => meet("came with other content"),
                        None => {}
                    }
                }
            }
            Event::Durable { org, partner, writes } => {
                for write in writes.iter() {
                    match write {
                        Write::Settle { outcome, jti, .. } => {
                            if let Some(flight) = self.flight.get_mut(&(*org, *partner)) {
                                flight.remove(jti);
                            }
                            meet(match outcome {
                                Outcome::Acked => "settled: acked",
                                Outcome::Refused(_) => "settled: refused",
                                Outcome::Dead(DeathCause::Attempts) => "settled: given up",
                                Outcome::Dead(DeathCause::Age) => "settled: too old",
                            });
                        }
                        Write::Answer { verdict: Verdict::Refused(_), .. } => meet("answered: refused"),
                        Write::Answer { .. } => meet("answered: verification"),
                        _ => {}
                    }
                }
            }
            Event::Handed { redelivered: true, .. } => meet("redelivered"),
            Event::Started { contents, .. } if contents.outbox.values().any(|rows| !rows.is_empty()) => {
                meet("recovered with a backlog");
            }
            Event::Forgot { .. } => meet("forgot everything"),
            Event::Damaged { .. } => meet("row damaged"),
            Event::Signed { kid, .. } if kid.ends_with("-2") => meet("signed with a second key"),
            _ => {}
        }
    }
}

thread_local! {
    static KNOWN: RefCell<HashSet<&'static str>> = RefCell::new(HashSet::new());
    static LINES: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// What the product has logged on this thread since the last call, by the lines' own words.
pub fn lines() -> BTreeMap<&'static str, u64> {
    LINES.with_borrow_mut(std::mem::take)
}

/// Counts what the product logs. To be set once for the process.
pub struct Ear;

impl Subscriber for Ear {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= Level::DEBUG && metadata.target().starts_with("pushpull")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, line: &Line<'_>) {
        line.record(&mut Words);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Words;

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() != "message" {
            return;
        }
        let words = format!("{value:?}");
        let words = KNOWN.with_borrow_mut(|known| match known.get(words.as_str()) {
            Some(words) => *words,
            None => {
                // There are as many as there are places in the product that log.
                let words: &'static str = words.leak();
                known.insert(words);
                words
            }
        });
        LINES.with_borrow_mut(|lines| *lines.entry(words).or_default() += 1);
    }
}

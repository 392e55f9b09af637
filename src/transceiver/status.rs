//! What an operator sees: how each peer fares, and what became of one SET.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::peers::Entry;
use super::{Inner, Transceiver};
use crate::clock::Wall;
use crate::engine::Last;
use crate::peer::{Direction, Fate, Outcome, Remembered, Select, Stats, Verdict};
use crate::set::Jti;
use crate::store;

/// How one peer fares.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Its name.
    pub name: Arc<str>,
    /// The connection, and whether SETs may leave by it.
    pub link: LinkState,
    /// The connection alone: a pause is about what leaves.
    link_in: LinkState,
    /// By what SETs travel now, or would: `websocket`, `http`, or `none` if it comes to us and has not.
    pub transport: &'static str,
    /// Why the link is down, in words.
    pub trouble: Option<String>,
    /// Why the partner takes no WebSocket, while HTTP is used.
    pub socketless: Option<String>,
    /// Since when the link is up, or is not; `None` if that was before the start.
    pub since: Option<Wall>,
    /// Open WebSockets.
    pub sockets: usize,
    /// The operator has paused sending.
    pub paused: bool,
    /// It was too busy to tell its figures: they are zero.
    pub busy: bool,
    /// Of its published keys: how many we hold, how old they are, and why they cannot be read.
    pub keys: KeysStatus,
    /// What happened last, since the start.
    pub last: Last,
    /// Dead letters that are kept.
    pub dead_letters: u64,
    /// SETs accepted and not settled.
    pub queued: u64,
    /// Of these, sent and within their time for an answer.
    pub in_flight: usize,
    /// Age of the oldest unsettled SET.
    pub oldest: Option<Duration>,
    /// Verdicts that wait to leave.
    pub owed: usize,
    /// Totals since the peer was first seen.
    pub acked: u64,
    /// Refused by the partner.
    pub refused: u64,
    /// Given up.
    pub dead: u64,
    /// Received and put into the inbox.
    pub received: u64,
    /// Refused by us.
    pub rejected: u64,
}

/// The published keys of a partner, as we hold them.
#[derive(Clone, Debug, Default)]
pub struct KeysStatus {
    /// Usable ones.
    pub count: usize,
    /// How old they are; `None` before there were any.
    pub age: Option<Duration>,
    /// Why they could not be read the last time.
    pub trouble: Option<String>,
}

/// How the connection to a peer stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LinkState {
    /// Objects travel.
    Up,
    /// We dial and have not got through yet.
    Connecting,
    /// There is none.
    Down,
    /// The operator paused it.
    Paused,
}

impl PeerStatus {
    /// How the connection stands for what comes: a pause is about what leaves.
    pub fn link_in(&self) -> LinkState {
        self.link_in
    }
}

impl LinkState {
    /// As the API shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Connecting => "connecting",
            Self::Down => "down",
            Self::Paused => "paused",
        }
    }
}

/// What is known of one jti with one peer in one direction.
#[derive(Clone, Debug)]
pub struct EventRecord {
    /// To or from the peer.
    pub direction: Direction,
    /// The peer.
    pub peer: Arc<str>,
    /// Where it stands.
    pub state: State,
    /// Attempts so far (out).
    pub attempts: u32,
    /// The setErr: the partner's (out) or ours (in): code and description.
    pub error: Option<(String, String)>,
    /// What happened when.
    pub timeline: Vec<Moment>,
}

/// One entry of a timeline.
#[derive(Clone, Debug)]
pub struct Moment {
    /// When.
    pub at: Wall,
    /// What.
    pub what: &'static str,
}

/// Where a SET stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// Out: waits to be sent, or to be sent again.
    Queued,
    /// Out: sent, within its time for an answer.
    InFlight,
    /// Out: acknowledged.
    Acked,
    /// Refused, by the partner (out) or by us (in).
    Refused,
    /// Out: given up.
    Dead,
    /// In: valid and stored.
    Received,
}

impl State {
    /// As the API shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::InFlight => "in_flight",
            Self::Acked => "acked",
            Self::Refused => "refused",
            Self::Dead => "dead",
            Self::Received => "received",
        }
    }
}

impl Transceiver {
    /// All configured peers, by name.
    pub async fn peers(&self) -> Vec<PeerStatus> {
        let entries = self.0.entries();
        // Side by side, so that those who are busy are waited for once, and not one after the other.
        join_all(entries.iter().map(|entry| self.0.status(entry))).await
    }

    /// One peer; `None` if there is none of that name.
    pub async fn peer(&self, name: &str) -> Option<PeerStatus> {
        let entry = self.0.find(name).ok()?;
        Some(self.0.status(&entry).await)
    }

    /// Everything known of a jti, with any peer, in either direction; empty if nothing.
    pub async fn event(&self, jti: &Jti) -> Result<Vec<EventRecord>, store::Error> {
        let mut records = Vec::new();
        let history = self.0.journal.history(jti.clone()).await;
        let history = history.inspect_err(|error| self.0.supervisor.note_failure(error))?;
        for (peer, direction, remembered) in history {
            let name = self.0.name_of(peer);
            let mut record = EventRecord::new(name, direction, remembered);
            if record.state == State::Queued
                && let Some(handle) = self.0.supervisor.running(peer)
                && let Ok(Some((in_flight, attempts))) = handle.under_way(jti.clone()).await
            {
                record.state = if in_flight { State::InFlight } else { State::Queued };
                record.attempts = attempts;
            }
            records.push(record);
        }
        Ok(records)
    }
}

impl Inner {
    async fn status(&self, entry: &Entry) -> PeerStatus {
        let told = tokio::time::timeout(TOLD_WITHIN, self.stats(entry)).await.ok();
        let busy = told.is_none();
        let stats = told.unwrap_or_default();
        let link = entry.partner.link();
        let now = self.clock.now();
        let recent = |at: Option<Duration>| {
            at.is_some_and(|at| now.mono.saturating_sub(at) < self.pushpull.load().speak_interval * 4)
        };
        let (up, transport) = if link.sockets > 0 {
            (true, "websocket")
        } else if link.exchanged_at.is_some() || recent(link.requested_at) {
            (true, "http")
        } else {
            (false, entry.config.dial.as_ref().map_or("none", |dial| if dial.http_only { "http" } else { "websocket" }))
        };
        let link_in = match up {
            true => LinkState::Up,
            false if link.trouble.is_none() && entry.config.dial.is_some() => LinkState::Connecting,
            false => LinkState::Down,
        };
        let since = match (link.is_connected(), up, link.requested_at) {
            (true, _, _) => Some(link.since),
            (false, true, _) => link.requesting_since,
            // Gone since it last came by itself, or since what we had broke.
            (false, false, Some(at)) => {
                let away = u64::try_from(now.mono.saturating_sub(at).as_millis()).unwrap_or(u64::MAX);
                Some(link.since.max(Wall(now.wall.0.saturating_sub(away))))
            }
            (false, false, None) => Some(link.since),
        };
        let held = entry.partner.inspector().keys().held_now();
        let keys = KeysStatus {
            count: held.map_or(0, |(count, _)| count),
            age: held.map(|(_, age)| age),
            trouble: entry.partner.inspector().keys().trouble(),
        };
        PeerStatus {
            name: Arc::clone(&entry.partner.name),
            link: if stats.paused { LinkState::Paused } else { link_in },
            link_in,
            transport,
            trouble: if up { None } else { link.trouble },
            socketless: link.socketless,
            since,
            sockets: link.sockets,
            paused: stats.paused,
            busy,
            keys,
            last: entry.partner.last(),
            dead_letters: stats.counts.refused + stats.counts.dead,
            queued: stats.counts.queued,
            in_flight: stats.in_flight,
            oldest: stats.oldest.map(|at| now.wall.since(at)),
            owed: stats.owed,
            acked: stats.counts.acked,
            refused: stats.counts.refused,
            dead: stats.counts.dead,
            received: stats.counts.received,
            rejected: stats.counts.rejected,
        }
    }

    /// Figures, with the oldest SET's time looked up on disk when it is not in memory.
    async fn stats(&self, entry: &Entry) -> Stats {
        let told = match self.supervisor.running(entry.partner.id) {
            Some(handle) => handle.stats().await.ok(),
            None => None,
        };
        let mut stats = match told {
            Some(stats) => stats,
            None => self.stored_stats(entry).await,
        };
        if stats.oldest.is_none() && stats.counts.queued > 0 {
            let first = Select::After { after: 0, rows_max: 1, bytes_max: 0 };
            let page = self.journal.read_outbox(entry.partner.id, first).await;
            stats.oldest = page.ok().and_then(|page| page.rows.first().map(|row| row.accepted_at));
        }
        stats
    }

    async fn stored_stats(&self, entry: &Entry) -> Stats {
        match self.journal.recover(entry.partner.id).await {
            Ok(saved) => Stats { counts: saved.counts, paused: saved.paused, ..Stats::default() },
            Err(_) => Stats::default(),
        }
    }
}

/// How long a conversation may take to tell its figures. One that is stuck must not keep the others from being seen.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

impl EventRecord {
    fn new(peer: Arc<str>, direction: Direction, remembered: Remembered) -> Self {
        let since = remembered.since;
        let mut timeline = Vec::new();
        let (state, attempts, error) = match remembered.fate {
            Fate::Queued => {
                timeline.push(Moment { at: since, what: "accepted" });
                (State::Queued, 0, None)
            }
            Fate::Settled { outcome, at, attempts } => {
                timeline.push(Moment { at: since, what: "accepted" });
                let (state, what, error) = match outcome {
                    Outcome::Acked => (State::Acked, "acked", None),
                    Outcome::Refused(error) => (State::Refused, "refused", Some((error.err, error.description))),
                    Outcome::Dead(_) => (State::Dead, "dead", None),
                };
                timeline.push(Moment { at, what });
                (state, attempts, error)
            }
            Fate::Answered(Verdict::Acked) => {
                timeline.push(Moment { at: since, what: "received" });
                (State::Received, 0, None)
            }
            Fate::Answered(Verdict::Refused(refusal)) => {
                timeline.push(Moment { at: since, what: "refused" });
                (State::Refused, 0, Some((refusal.code.as_str().to_owned(), refusal.description)))
            }
        };
        Self { direction, peer, state, attempts, error, timeline }
    }
}

//! What an operator sees: how each peer fares, and what became of one SET.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::advice::{Advice, advice, cause_of_death, named, reason};
use super::peers::Entry;
use super::{Inner, Transceiver};
use crate::clock::Wall;
use crate::codes::Code;
use crate::engine::Last;
use crate::metrics::Transport;
use crate::peer::{Chapter, Direction, Fate, Outcome, Remembered, Select, Stats, Story, Verdict};
use crate::set::Jti;
use crate::store;
use crate::transport::Method;

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
    /// Whether we bring it what we send; else it comes for it, or never does.
    pub is_sent_to: bool,
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
    /// Dead letters that nobody has dealt with.
    pub dead_letters: u64,
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
    /// The SET that it says again (out).
    pub reissue_of: Option<Jti>,
    /// The SET that says it again (out).
    pub reissued_as: Option<Jti>,
    /// When an operator did away with the dead letter that it was (out).
    pub discarded_at: Option<Wall>,
    /// It is a dead letter: who has to act, and how.
    pub advice: Option<Advice>,
}

/// One entry of a timeline.
#[derive(Clone, Debug)]
pub struct Moment {
    /// When.
    pub at: Wall,
    /// What: `accepted`, `acked`, `refused`, `dead`, `resent`, `reissued`, `discarded`; `received` or `refused` (in).
    pub what: &'static str,
    /// Of `dead`: why; of `refused`: the code.
    pub reason: Option<String>,
    /// Of `dead` and `refused`: attempts before it.
    pub attempts: Option<u32>,
    /// Of `reissued`: the new SET.
    pub jti: Option<Jti>,
}

impl Moment {
    fn new(at: Wall, what: &'static str) -> Self {
        Self { at, what, reason: None, attempts: None, jti: None }
    }

    fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }

    fn after(self, attempts: u32) -> Self {
        Self { attempts: Some(attempts), ..self }
    }
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
            let seq = remembered.seq;
            let mut record = EventRecord::new(name, direction, jti, remembered);
            if direction == Direction::Out && record.advice.is_some() {
                // The SET itself tells more: who signed it, and whether it can be signed anew.
                let page = self.0.journal.dead_letters_at(peer, vec![seq]).await;
                let page = page.inspect_err(|error| self.0.supervisor.note_failure(error))?;
                if let Some((id, letter)) = page.letters.into_iter().next() {
                    record.advice = Some(self.0.shown(id, letter).advice());
                }
            }
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
        let told = tokio::time::timeout(TOLD_WITHIN, self.stats(entry)).await.ok().flatten();
        let busy = told.is_none();
        let stats = told.unwrap_or_default();
        let link = entry.partner.link();
        let now = self.clock.now();
        let recent = |at: Option<Duration>| {
            at.is_some_and(|at| now.mono.saturating_sub(at) < self.pushpull.load().speak_interval * 4)
        };
        let method = entry.config.dial.as_ref().or(entry.config.collect.as_ref()).map(|dial| dial.method);
        // Whoever pushes finds out by what it pushes: until that fails, nothing is wrong.
        let pushes = matches!(method, Some(Method::Push | Method::MultiPush)) && link.trouble.is_none();
        // Nor does the silence of a partner that pushes tell anything, while nothing waits for it.
        let is_pushed_to =
            matches!(link.requested_by, Some(Transport::Push | Transport::MultiPush)) && stats.counts.queued == 0;
        let (up, transport) = if link.sockets > 0 {
            (true, "websocket")
        } else if link.exchanged_at.is_some() || pushes {
            (true, method.filter(|method| *method != Method::Websocket).map_or("http", Method::as_str))
        } else if recent(link.requested_at) || (is_pushed_to && link.trouble.is_none()) {
            (true, link.requested_by.map_or("http", Transport::as_str))
        } else {
            (false, method.map_or("none", Method::as_str))
        };
        let link_in = match up {
            true => LinkState::Up,
            false if link.trouble.is_none() && method.is_some() => LinkState::Connecting,
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
            is_sent_to: entry.config.dial.as_ref().is_some_and(|dial| dial.method.carries_ours()),
            trouble: if up { None } else { link.trouble },
            socketless: link.socketless,
            since,
            sockets: link.sockets,
            paused: stats.paused,
            busy,
            keys,
            last: entry.partner.last(),
            queued: stats.counts.queued,
            in_flight: stats.in_flight,
            oldest: stats.oldest.map(|at| now.wall.since(at)),
            owed: stats.owed,
            acked: stats.counts.acked,
            refused: stats.counts.refused,
            dead: stats.counts.dead,
            received: stats.counts.received,
            rejected: stats.counts.rejected,
            dead_letters: stats.counts.dead_letters,
        }
    }

    /// Figures, with the oldest SET's time looked up on disk when it is not in memory. None while the store does not tell them:
    /// to say that nothing waits would end an alarm in the middle of the trouble.
    async fn stats(&self, entry: &Entry) -> Option<Stats> {
        let told = match self.supervisor.running(entry.partner.id) {
            Some(handle) => handle.stats().await.ok(),
            None => None,
        };
        let mut stats = match told {
            Some(stats) => stats,
            None => self.stored_stats(entry).await?,
        };
        if stats.oldest.is_none() && stats.counts.queued > 0 {
            let first = Select::After { after: 0, rows_max: 1, bytes_max: 0 };
            let page = self.journal.read_outbox(entry.partner.id, first).await;
            stats.oldest = page.ok().and_then(|page| page.rows.first().map(|row| row.accepted_at));
        }
        Some(stats)
    }

    async fn stored_stats(&self, entry: &Entry) -> Option<Stats> {
        let saved = self.journal.recover(entry.partner.id).await.ok()?;
        Some(Stats { counts: saved.counts, paused: saved.paused, ..Stats::default() })
    }
}

/// How long a conversation may take to tell its figures. One that is stuck must not keep the others from being seen.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

impl EventRecord {
    fn new(peer: Arc<str>, direction: Direction, jti: &Jti, remembered: Remembered) -> Self {
        let Remembered { since, fate, story, .. } = remembered;
        let mut timeline = begun(&story, direction, since);
        let mut advised = None;
        let (state, attempts, error) = match fate {
            Fate::Queued => (State::Queued, 0, None),
            Fate::Settled { outcome, at, attempts } => {
                let why = reason(&outcome);
                let (state, end) = match &outcome {
                    Outcome::Acked => (State::Acked, Moment::new(at, "acked")),
                    Outcome::Refused(_) => (State::Refused, Moment::new(at, "refused").because(&why).after(attempts)),
                    Outcome::Dead(_) => (State::Dead, Moment::new(at, "dead").because(&why).after(attempts)),
                };
                timeline.push(end);
                let error = match outcome {
                    Outcome::Refused(error) => Some((error.err, error.description)),
                    Outcome::Acked | Outcome::Dead(_) => None,
                };
                if state != State::Acked && !story.is_closed() {
                    let refused = error.is_some();
                    advised = Some(advice(&why, refused, &peer, !refused, true, named(jti.as_str()).as_deref()));
                }
                (state, attempts, error)
            }
            Fate::Answered(Verdict::Acked) => {
                timeline.push(Moment::new(since, "received"));
                (State::Received, 0, None)
            }
            Fate::Answered(Verdict::Refused(refusal)) => {
                let err = refusal.code.as_str();
                timeline.push(Moment::new(since, "refused").because(err));
                let entry = Code::SetRefused.entry();
                let fix = format!("Tell {peer} what was wrong: {err}. Its SET may come again under a jti of its own.");
                advised = Some(Advice { who: entry.who, fix, command: None });
                (State::Refused, 0, Some((err.to_owned(), refusal.description)))
            }
        };
        timeline.extend(story.chapters().iter().filter_map(dealt_with));
        Self {
            direction,
            peer,
            state,
            attempts,
            error,
            timeline,
            reissue_of: story.reissue_of().cloned(),
            reissued_as: story.reissued_as().cloned(),
            discarded_at: story.discarded_at(),
            advice: advised,
        }
    }
}

/// How a SET that we sent came into the queue, as often as it did.
fn begun(story: &Story, direction: Direction, since: Wall) -> Vec<Moment> {
    let mut timeline = Vec::new();
    if direction == Direction::In {
        return timeline;
    }
    let mut what = "accepted";
    for chapter in story.chapters() {
        if let Chapter::Series { since, cause, at, attempts } = chapter {
            timeline.push(Moment::new(*since, what));
            timeline.push(Moment::new(*at, "dead").because(cause_of_death(*cause)).after(*attempts));
            what = "resent";
        }
    }
    timeline.push(Moment::new(since, what));
    timeline
}

/// What was done for good with the dead letter that it was.
fn dealt_with(chapter: &Chapter) -> Option<Moment> {
    match chapter {
        Chapter::ReissuedAs { jti, at } => Some(Moment { jti: Some(jti.clone()), ..Moment::new(*at, "reissued") }),
        Chapter::Discarded { at } => Some(Moment::new(*at, "discarded")),
        Chapter::Series { .. } | Chapter::ReissueOf(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::DeathCause;
    use crate::set::Digest;

    fn record(fate: Fate, chapters: Vec<Chapter>) -> EventRecord {
        let memory =
            Remembered { digest: Digest::default(), seq: 7, since: Wall(50), fate, story: Story::of(chapters) };
        EventRecord::new("globex".into(), Direction::Out, &"j1".into(), memory)
    }

    fn told(record: &EventRecord) -> Vec<(u64, &str)> {
        record.timeline.iter().map(|moment| (moment.at.0, moment.what)).collect()
    }

    #[test]
    fn the_timeline_tells_every_series_in_order() {
        let series =
            |since, at| Chapter::Series { since: Wall(since), cause: DeathCause::Age, at: Wall(at), attempts: 3 };
        let acked = Fate::Settled { outcome: Outcome::Acked, at: Wall(60), attempts: 0 };
        let record = record(acked, vec![series(10, 20), series(30, 40)]);
        let all = [(10, "accepted"), (20, "dead"), (30, "resent"), (40, "dead"), (50, "resent"), (60, "acked")];
        assert_eq!(told(&record), all);
        assert_eq!((record.timeline[1].attempts, record.timeline[1].reason.as_deref()), (Some(3), Some("too_old")));
        assert!(record.advice.is_none());
    }

    #[test]
    fn who_has_to_act_is_told_until_somebody_has() {
        let dead = Fate::Settled { outcome: Outcome::Dead(DeathCause::Attempts), at: Wall(60), attempts: 9 };
        let open = record(dead.clone(), vec![Chapter::ReissueOf("j0".into())]);
        assert_eq!(open.advice.and_then(|advice| advice.command).as_deref(), Some("pushpull dlq resend j1"));
        assert_eq!(open.reissue_of, Some("j0".into()));
        let done = record(dead, vec![Chapter::ReissuedAs { jti: "j2".into(), at: Wall(70) }]);
        assert_eq!(told(&done), [(50, "accepted"), (60, "dead"), (70, "reissued")]);
        assert_eq!((done.reissued_as, done.advice.is_none()), (Some("j2".into()), true));
    }
}

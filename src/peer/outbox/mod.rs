//! The outbound queue: which SETs are in memory, which are under way, which wait to be sent again.
//!
//! On disk are all unsettled SETs; here at most a window of them with their tokens, and the retries by number alone.

mod ages;
pub(super) mod bisect;
#[cfg(test)]
mod check;
mod entries;
mod entry;
mod flight;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ages::Ages;
use bisect::Group;
use entries::Entries;
use entry::State;
pub(super) use entry::{Entry, Expiry};

use super::config::Config;
use super::input::SlotId;
use super::output::Retries;
use super::row::{OutboxRow, Page, Saved, Select};
use crate::planted::{self, Bug};
use crate::random::Random;
use crate::set::Jti;

/// The sending half of a [`super::Peer`].
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) config: Arc<Config>,
    pub(super) next_seq: u64,
    /// Of those that were accepted since the process started.
    ages: Ages,
    /// Every SET up to here is in `entries` or has ended; those behind it are on disk alone.
    read_to: u64,
    reading: Option<Reading>,
    pub(super) entries: Entries,
    seqs: HashMap<Jti, u64>,
    /// Ready to leave for the first time, or again after a lost exchange. May name SETs that have ended.
    fresh: VecDeque<u64>,
    /// Retries that are due and have their token.
    due: VecDeque<u64>,
    /// Retries that are due and whose token has to be read.
    due_unread: VecDeque<u64>,
    /// Parts of batches that are being bisected; each leaves alone, one at a time.
    groups: VecDeque<Group>,
    /// SETs under way from such a batch.
    suspects_out: usize,
    /// SETs in an object: fewer while the partner takes nothing.
    sets_max: usize,
    /// Some failed alone and were not charged for it, since the partner took none.
    failed_unblamed: bool,
    /// One entry for each SET in flight (its answer is late then) or waiting (it is due then).
    timers: BTreeSet<(Duration, u64)>,
    held: usize,
    held_bytes: usize,
    in_flight: usize,
    retries_in_flight: usize,
    waiting: usize,
    /// Whose turn it is to go first in an object.
    retries_first: bool,
    ack_time: Option<Duration>,
    pub(super) damaged: usize,
    /// Since the last step.
    pub(super) retries: Retries,
    random: Random,
}

/// A read of the store that is under way.
#[derive(Debug)]
enum Reading {
    /// Backlog; the last `seq` there was when it was asked for.
    Backlog(u64),
    /// Tokens of these retries or suspects.
    Tokens(Vec<u64>),
}

impl Outbox {
    pub(super) fn new(config: Arc<Config>, saved: &Saved, seed: u64) -> Self {
        let next_seq = saved.next_seq.max(1);
        Self {
            ages: Ages::new(config.give_up_after, config.age_max),
            config,
            next_seq,
            read_to: if saved.counts.queued == 0 { next_seq - 1 } else { 0 },
            reading: None,
            entries: Entries::default(),
            seqs: HashMap::new(),
            fresh: VecDeque::new(),
            due: VecDeque::new(),
            due_unread: VecDeque::new(),
            groups: VecDeque::new(),
            suspects_out: 0,
            sets_max: usize::MAX,
            failed_unblamed: false,
            timers: BTreeSet::new(),
            held: 0,
            held_bytes: 0,
            in_flight: 0,
            retries_in_flight: 0,
            waiting: 0,
            retries_first: true,
            ack_time: None,
            damaged: 0,
            retries: Retries::default(),
            random: Random::new(seed),
        }
    }

    /// Takes the row of a new SET. It stays in memory only if it is next in line and there is room.
    pub(super) fn accept(&mut self, row: &OutboxRow, now: Duration) {
        debug_assert_eq!(row.seq, self.next_seq, "rows are numbered without gaps");
        self.ages.accept(row.seq, now);
        self.next_seq = row.seq + 1;
        let next = self.read_to + 1 == row.seq;
        if next && self.has_room(row.compact.len()) && self.parked() < self.parked_max() {
            self.read_to = row.seq;
            self.admit(row.clone());
        }
    }

    /// Takes rows that were asked for. Returns how many of them are damaged.
    pub(super) fn rows(&mut self, page: Page) -> usize {
        match self.reading.take() {
            Some(Reading::Backlog(last)) => {
                let nothing = page.rows.is_empty() && page.damaged.is_empty();
                let nothing = nothing || planted::is(Bug::BacklogSkipped);
                self.read_to = if nothing { last } else { page.read_to.max(self.read_to) };
                for row in page.rows {
                    self.admit(row);
                }
            }
            Some(Reading::Tokens(asked)) => {
                for (index, mut row) in page.rows.into_iter().enumerate() {
                    if planted::is(Bug::TokensMixedUp) {
                        row.seq = asked[index];
                    }
                    self.reunite(row);
                }
                self.forget_unreadable(&asked);
            }
            None => {}
        }
        self.damaged += page.damaged.len();
        page.damaged.len()
    }

    /// The next read to ask for, if there is something to read and room for it.
    pub(super) fn want_rows(&mut self) -> Option<Select> {
        if self.reading.is_some() {
            return None;
        }
        // Nothing else leaves before these do, so they must not wait for room: for a while there are two windows.
        let suspects = self.unread_suspects();
        if !suspects.is_empty() {
            self.reading = Some(Reading::Tokens(suspects.clone()));
            return Some(Select::Seqs(suspects));
        }
        let retry_room = self.retries_max().saturating_sub(self.retries_in_flight + self.due.len());
        if retry_room > 0 && !self.due_unread.is_empty() && self.has_room(0) {
            let mut seqs = Vec::new();
            let mut bytes = self.held_bytes;
            let room = self.window().saturating_sub(self.held).max(1);
            while seqs.len() < retry_room.min(READ_MAX).min(room)
                && (seqs.is_empty() || bytes < self.config.window_bytes)
            {
                let Some(seq) = self.due_unread.pop_front() else { break };
                if let Some(entry) = self.entries.get(&seq).filter(|entry| entry.state == State::Unread) {
                    bytes += entry.token_bytes;
                    seqs.push(seq);
                }
            }
            if !seqs.is_empty() {
                self.reading = Some(Reading::Tokens(seqs.clone()));
                return Some(Select::Seqs(seqs));
            }
        }
        let last = self.next_seq - 1;
        let room = self.window().saturating_sub(self.held);
        // Asking for a few rows at a time would cost a read for each ack: wait until a good part of the window is free.
        let worth = room >= (self.config.window / 4).max(1) || self.held == 0;
        if self.read_to < last && worth && self.has_room(0) && self.parked() < self.parked_max() {
            self.reading = Some(Reading::Backlog(last));
            let bytes_max = self.config.window_bytes.saturating_sub(self.held_bytes);
            return Some(Select::After { after: self.read_to, rows_max: room.min(READ_MAX), bytes_max });
        }
        None
    }

    /// No SET can leave now, but some are being read.
    pub(super) fn is_about_to_have_more(&self) -> bool {
        self.reading.is_some() && self.fresh.is_empty() && self.due.is_empty()
    }

    /// SETs could leave now, or could as soon as they are read. Those that a refused batch has left behind do not count:
    /// they leave one part at a time.
    pub(super) fn has_more(&mut self) -> bool {
        if self.bisecting() {
            return false;
        }
        let ready = |seq: &u64, state| self.entries.get(seq).is_some_and(|entry| entry.state == state);
        let retries = self.retries_in_flight < self.retries_max();
        self.in_flight < self.window()
            && (self.fresh.iter().any(|seq| ready(seq, State::Fresh))
                || (retries && self.due.iter().any(|seq| ready(seq, State::Due)))
                || (retries && !self.due_unread.is_empty() && self.has_room(0))
                || (self.read_to + 1 < self.next_seq && self.has_room(0) && self.parked() < self.parked_max()))
    }

    /// Takes the next SETs to transmit by `slot`, as long as `fits` agrees.
    pub(super) fn take(
        &mut self,
        slot: SlotId,
        now: Duration,
        sets_max: usize,
        mut fits: impl FnMut(&Jti, &str) -> bool,
    ) -> Vec<(u64, Jti, Arc<str>)> {
        if self.bisecting() {
            return self.take_group(slot, now, sets_max, fits);
        }
        let (mut taken, sets_max) = (Vec::new(), sets_max.min(self.sets_max));
        // Retries and the others share an object and take turns in going first, or in small objects that are answered
        // slowly those that nobody answers would stall the rest (R9).
        let first = self.retries_first;
        for (retry, taken_max) in [(first, sets_max.div_ceil(2)), (!first, sets_max), (first, sets_max)] {
            if !self.take_from(retry, slot, now, taken_max, &mut taken, &mut fits) {
                break;
            }
        }
        self.retries_first ^= !taken.is_empty();
        taken
    }

    /// The verdict on this jti, if it is one that we sent and that has not ended: its number.
    pub(super) fn sent(&self, jti: &Jti) -> Option<u64> {
        let seq = *self.seqs.get(jti)?;
        let entry = self.entries.get(&seq)?;
        if planted::is(Bug::LateVerdictIgnored) && !matches!(entry.state, State::InFlight { .. }) {
            return None;
        }
        (entry.sent.is_some() || planted::is(Bug::SettleOfUnsent)).then_some(seq)
    }

    /// Whether this jti is under way, and its attempts; `None` if it is not in memory.
    pub(super) fn standing(&self, jti: &Jti) -> Option<(bool, u32)> {
        let entry = self.entries.get(self.seqs.get(jti)?)?;
        Some((matches!(entry.state, State::InFlight { .. }), entry.attempts))
    }

    /// This SET is not settled, and its last transmission was by this slot.
    pub(super) fn left_last_by(&self, seq: u64, slot: SlotId) -> bool {
        self.entries.get(&seq).is_some_and(|entry| entry.left_by(slot))
    }

    /// Learns from the verdict on this SET how long the partner takes; how long it was for this one.
    pub(super) fn measure(&mut self, seq: u64, now: Duration) -> Option<Duration> {
        let entry = self.entries.get(&seq)?;
        let (_, sent_at) = entry.sent?;
        let time = now.saturating_sub(sent_at);
        self.ack_time = Some(match self.ack_time {
            None => time,
            // Of a SET that left more than once, nobody knows which copy was answered, but none left later than the
            // last: the partner takes at least so long. Without this a slow link would never be measured.
            Some(old) if entry.tries > 1 => old.max(time),
            Some(old) => (old * 7 + time) / 8,
        });
        Some(time)
    }

    /// Takes a SET out for good.
    pub(super) fn remove(&mut self, seq: u64) -> Option<Entry> {
        if planted::is(Bug::ResendAfterSettle) {
            return self.entries.get(&seq).cloned();
        }
        let entry = self.entries.remove(&seq)?;
        self.left(seq, entry.state);
        self.seqs.remove(&entry.jti);
        self.release(&entry);
        self.shrink();
        Some(entry)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn ack_time(&self) -> Option<Duration> {
        self.ack_time
    }
}

/// Of a queue.
#[derive(Clone, Copy)]
enum End {
    Front,
    Back,
}

/// Rows in one read of the store.
const READ_MAX: usize = 1024;

/// Room for so many SETs is kept while there is none.
const KEPT_MAX: usize = 64;

impl Outbox {
    /// Takes retries, or the others, up to `taken_max` in all. False if nothing more may join them.
    fn take_from(
        &mut self,
        retry: bool,
        slot: SlotId,
        now: Duration,
        taken_max: usize,
        taken: &mut Vec<(u64, Jti, Arc<str>)>,
        fits: &mut impl FnMut(&Jti, &str) -> bool,
    ) -> bool {
        while taken.len() < taken_max && self.in_flight < self.window() {
            if retry && self.retries_in_flight >= self.retries_max() {
                break;
            }
            // While it is not known what the partner takes at all, those that it did not take wait for the others.
            let is_behind = retry && self.sets_max < usize::MAX && !self.fresh.is_empty();
            let (queue, ready) = if retry { (&mut self.due, State::Due) } else { (&mut self.fresh, State::Fresh) };
            let Some(&seq) = queue.front() else { break };
            let entry = self.entries.get(&seq).filter(|entry| entry.state == ready);
            let Some((entry, token)) = entry.and_then(|entry| Some((entry, entry.token.clone()?))) else {
                queue.pop_front();
                continue;
            };
            if entry.alone > 0 && (is_behind || !taken.is_empty()) {
                break;
            }
            if !fits(&entry.jti, &token) && !taken.is_empty() {
                return false;
            }
            let alone = entry.alone > 0;
            let token = if retry && planted::is(Bug::ResignedAtRetry) { format!("{token}A").into() } else { token };
            queue.pop_front();
            taken.push((seq, entry.jti.clone(), token));
            self.launch(seq, slot, now, retry, false);
            if alone {
                return false;
            }
        }
        true
    }

    /// Retries under way at the same time.
    fn retries_max(&self) -> usize {
        (self.config.window / 2).max(1)
    }

    fn admit(&mut self, row: OutboxRow) {
        if self.entries.contains_key(&row.seq) {
            return;
        }
        self.seqs.insert(row.jti.clone(), row.seq);
        self.held += 1;
        self.held_bytes += row.compact.len();
        if row.attempts == 0 || !planted::is(Bug::TimerLostInCrash) {
            self.fresh.push_back(row.seq);
        }
        self.entries.insert(row.seq, Entry::new(row));
    }

    /// Gives a retry or a suspect its token back.
    fn reunite(&mut self, row: OutboxRow) {
        let Some(entry) = self.entries.get_mut(&row.seq) else { return };
        let wanted = matches!(entry.state, State::Unread | State::Suspect);
        if !wanted || entry.token.is_some() {
            return;
        }
        self.held += 1;
        self.held_bytes += row.compact.len();
        entry.token_bytes = row.compact.len();
        entry.token = Some(row.compact);
        if entry.state == State::Unread {
            entry.state = State::Due;
            self.due.push_back(row.seq);
        }
    }

    /// SETs whose row could not be read stay on disk, as damaged rows; the core has nothing to send for them.
    fn forget_unreadable(&mut self, asked: &[u64]) {
        for seq in asked {
            let unread = |entry: &Entry| matches!(entry.state, State::Unread | State::Suspect) && entry.token.is_none();
            if !self.entries.get(seq).is_some_and(unread) {
                continue;
            }
            if let Some(entry) = self.entries.remove(seq) {
                self.seqs.remove(&entry.jti);
            }
        }
        self.shrink();
    }

    /// When nothing is left, gives back what a burst took: else each peer would keep, for ever, the room for the most that
    /// it ever had to do. To grow it again costs less than the SETs that need it.
    fn shrink(&mut self) {
        if !self.entries.is_empty() {
            return;
        }
        if self.seqs.capacity() > KEPT_MAX {
            self.seqs = HashMap::new();
        }
        for queue in [&mut self.fresh, &mut self.due, &mut self.due_unread] {
            if queue.capacity() > KEPT_MAX {
                // It names only SETs that have ended.
                *queue = VecDeque::new();
            }
        }
    }

    /// SETs with their tokens that may be in memory, and under way.
    fn window(&self) -> usize {
        if planted::is(Bug::WindowIgnored) { usize::MAX } else { self.config.window }
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.held == 0 || (self.held < self.window() && self.held_bytes + bytes <= self.config.window_bytes)
    }

    /// SETs that nobody answered: kept without their tokens until they are sent again.
    fn parked(&self) -> usize {
        self.entries.len() - self.held
    }

    /// Beyond this many, nothing new leaves until some of them end, or a silent partner would fill the memory.
    fn parked_max(&self) -> usize {
        self.config.window * 16
    }

    fn release(&mut self, entry: &Entry) {
        if entry.token.is_some() {
            self.held -= 1;
            self.held_bytes -= entry.token_bytes;
        }
    }
}

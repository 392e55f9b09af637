//! The inbox of the disk: what consumers read, how far they are, and what is purged behind them.

use pushpull::clock::Wall;
use pushpull::peer::{Fate, InboxRow, PeerId, Remembered};
use pushpull::set::Jti;
use pushpull::store::{Error, INBOX_PAGE_BYTES_MAX};

use super::bugs::Bug;
use super::log::{memory_bytes, row_bytes};
use super::memory;
use super::tables::{Memories, Position, Tables};

/// Inbox rows, and as many memories, that one purge removes.
const STEP: u64 = 2_000;

impl Tables {
    /// Up to so many good rows behind this one; what is damaged is left out.
    pub(super) fn read_inbox(&self, after: u64, rows_max: usize) -> Vec<(u64, PeerId, InboxRow)> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        for (seq, row) in self.inbox.range(after.saturating_add(1)..) {
            if rows.len() >= rows_max || bytes >= INBOX_PAGE_BYTES_MAX {
                break;
            }
            if row.whole {
                bytes += row.value.1.compact.len();
                rows.push((*seq, row.value.0, row.value.1.clone()));
            }
        }
        rows
    }

    pub(super) fn make_consumer(&mut self, name: &str) {
        let confirmed = self.purged;
        self.consumers.entry(name.to_owned()).or_insert(Position { confirmed, handed: 0 });
    }

    /// Marks what was handed out up to here, and some more; false if there is no such consumer.
    pub(super) fn mark(&mut self, consumer: &str, last: u64, ahead: u64) -> bool {
        let tail = self.tail;
        let position = self.consumers.get_mut(consumer);
        if let Some(position) = position {
            position.handed = position.handed.max(last).max(last.saturating_add(ahead).min(tail));
            return true;
        }
        false
    }

    pub(super) fn confirm(&mut self, consumer: &str, up_to: u64) -> Result<(), Error> {
        let tail = self.tail;
        let position = self.consumers.get_mut(consumer).ok_or_else(|| {
            Error::Invalid(format!("there is no consumer {consumer:?}: a consumer is made by its first read"))
        })?;
        if up_to > tail {
            return Err(Error::Invalid(format!("cannot confirm up to {up_to}: the inbox ends at {tail}")));
        }
        position.confirmed = position.confirmed.max(up_to);
        Ok(())
    }

    /// Where the slowest consumer is; the beginning without any.
    pub(super) fn confirmed_by_all(&self) -> u64 {
        self.consumers.values().map(|position| position.confirmed).min().unwrap_or(0)
    }

    pub(super) fn inbox_len(&self) -> u64 {
        // Behind `purged` the rows have no gaps. What is damaged takes no place: nobody could ever make room of it.
        let from = self.confirmed_by_all().max(self.purged);
        let damaged = self.inbox.range(from.saturating_add(1)..).filter(|(_, row)| !row.whole).count() as u64;
        self.tail.saturating_sub(from).saturating_sub(damaged)
    }

    /// One step of removing what is not needed any more; true if there is more.
    pub(super) fn purge(&mut self, memory_before: Wall) -> bool {
        if self.bugs.has(Bug::PurgeUnsettled) {
            let up_to = self.confirmed_by_all();
            self.outbox.retain(|(_, seq), _| *seq > up_to);
        }
        let more_rows = self.purge_inbox();
        let more_memories = self.purge_memory(memory_before);
        more_rows || more_memories
    }

    fn purge_inbox(&mut self) -> bool {
        let confirmed = self.confirmed_by_all();
        if confirmed <= self.purged {
            return false;
        }
        let to = confirmed.min(self.purged + STEP);
        for seq in self.purged + 1..=to {
            // A damaged row stays: nobody was ever given it.
            if self.inbox.get(&seq).is_some_and(|row| row.whole)
                && let Some(row) = self.inbox.remove(&seq)
            {
                self.bytes -= row_bytes(&row.value.1.compact, row.value.1.jti.as_str());
            }
        }
        self.purged = to;
        to < confirmed
    }

    fn purge_memory(&mut self, before: Wall) -> bool {
        let waits = |(peer, jti): &(PeerId, Jti)| {
            let mut rows = self.outbox.range((*peer, 0)..=(*peer, u64::MAX));
            rows.any(|(_, row)| row.value.jti == *jti)
        };
        let old = |memory: &Remembered| memory.fate != Fate::Queued && memory::age(memory) < before;
        let keys = |memories: &Memories| {
            let old = memories.iter().filter(|(_, row)| old(&row.value)).map(|(key, _)| key.clone());
            let mut old: Vec<_> = old.collect();
            // The map has an order that is nobody's.
            old.sort_unstable();
            old
        };
        let mut sent = keys(&self.sent);
        sent.retain(|key| !waits(key));
        let received = keys(&self.received);
        let count = sent.len() + received.len();
        let step = usize::try_from(STEP).unwrap_or(usize::MAX);
        let directions = std::iter::repeat_n(true, sent.len()).chain(std::iter::repeat_n(false, received.len()));
        for (key, is_out) in sent.into_iter().chain(received).zip(directions).take(step) {
            let memories = if is_out { &mut self.sent } else { &mut self.received };
            memories.remove(&key);
            self.bytes -= memory_bytes(key.1.as_str());
        }
        count > step
    }
}

//! Recounts the outbox's own bookkeeping, for tests.

use std::collections::BTreeSet;

use super::entry::State;
use super::{KEPT_MAX, Outbox};

impl Outbox {
    /// Panics unless every counter, timer and queue agrees with the entries.
    pub(in crate::peer) fn check(&self) {
        let entries = || self.entries.values();
        let flying = |pick: fn(bool, bool) -> bool| {
            entries()
                .filter(|entry| matches!(entry.state, State::InFlight { retry, suspect, .. } if pick(retry, suspect)))
                .count()
        };
        assert_eq!(self.in_flight, flying(|_, _| true), "SETs in flight");
        assert_eq!(self.retries_in_flight, flying(|retry, _| retry), "retries in flight");
        assert_eq!(self.suspects_out, flying(|_, suspect| suspect), "suspects under way");
        assert_eq!(self.held, entries().filter(|entry| entry.token.is_some()).count(), "tokens held");
        let bytes: usize = entries().filter_map(|entry| entry.token.as_ref()).map(|token| token.len()).sum();
        assert_eq!(self.held_bytes, bytes, "bytes held");
        let waiting = entries().filter(|entry| matches!(entry.state, State::Waiting { .. })).count();
        assert_eq!(self.waiting, waiting, "SETs waiting");
        assert_eq!(self.timers.len(), self.in_flight + self.waiting, "timers");
        assert_eq!(self.seqs.len(), self.entries.len(), "jtis");
        let room = [self.seqs.capacity(), self.fresh.capacity(), self.due.capacity(), self.due_unread.capacity()];
        assert!(!self.entries.is_empty() || room.iter().all(|room| *room <= KEPT_MAX), "{room:?} kept for nothing");
        assert!(self.in_flight <= self.config.window, "the window is exceeded");
        assert!(self.retries_in_flight <= (self.config.window / 2).max(1), "retries exceed their half");
        let [fresh, due, due_unread] =
            [&self.fresh, &self.due, &self.due_unread].map(|queue| queue.iter().copied().collect::<BTreeSet<u64>>());
        let grouped: BTreeSet<u64> = self.groups.iter().flat_map(|group| &group.seqs).copied().collect();
        let most = self.parked_max() + 3 * self.config.window;
        assert!(self.entries.len() <= most, "{} SETs in memory", self.entries.len());
        for (seq, entry) in self.entries.keys().zip(self.entries.values()) {
            let at_home = match entry.state {
                State::Fresh => entry.token.is_some() && fresh.contains(&seq),
                State::InFlight { late_at, .. } => entry.token.is_some() && self.timers.contains(&(late_at, seq)),
                State::Waiting { due } => entry.token.is_none() && self.timers.contains(&(due, seq)),
                State::Unread => entry.token.is_none() && (self.reading.is_some() || due_unread.contains(&seq)),
                State::Due => entry.token.is_some() && due.contains(&seq),
                State::Suspect => grouped.contains(&seq),
            };
            assert!(at_home, "SET {seq} is lost in {:?}", entry.state);
            assert_eq!(self.seqs.get(&entry.jti), Some(&seq), "the number of a jti");
            assert!(seq <= self.read_to, "SET {seq} is in memory beyond {}", self.read_to);
        }
    }
}

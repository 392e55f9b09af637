//! Finding the SET that a partner minds: a refused batch leaves again in halves, one at a time, until it stands alone.

use std::sync::Arc;
use std::time::Duration;

use super::Outbox;
use super::entry::{Expiry, State};
use crate::clock::Timestamp;
use crate::peer::input::SlotId;
use crate::set::Jti;

impl Outbox {
    /// The partner refused an object as a whole: its SETs leave again in halves. A SET that was refused alone has used
    /// up an attempt; its number comes back.
    pub(in crate::peer) fn rejected(&mut self, slot: SlotId, carried: &[u64]) -> Option<u64> {
        let mut suspects: Vec<u64> = carried
            .iter()
            .copied()
            .filter(|seq| {
                self.entries.get(seq).is_some_and(|entry| {
                    matches!(entry.state, State::InFlight { .. }) && entry.via.is_some_and(|(via, _)| via == slot)
                })
            })
            .collect();
        suspects.sort_unstable();
        suspects.dedup();
        for &seq in &suspects {
            self.leave_state(seq);
            if let Some(entry) = self.entries.get_mut(&seq) {
                entry.via = None;
            }
        }
        match suspects.as_slice() {
            [] => None,
            [one] => {
                if let Some(entry) = self.entries.get_mut(one) {
                    entry.alone = true;
                }
                Some(*one)
            }
            many => {
                let (left, right) = many.split_at(many.len() / 2);
                for group in [right, left] {
                    for seq in group {
                        self.set_state(*seq, State::Suspect);
                    }
                    self.groups.push_front(group.to_vec());
                }
                None
            }
        }
    }

    /// A SET was refused alone: it has used up an attempt and waits.
    pub(in crate::peer) fn penalise(&mut self, seq: u64, now: Timestamp) -> Expiry {
        if let Some(entry) = self.entries.get_mut(&seq) {
            entry.via = Some((SlotId(u64::MAX), now.mono));
            entry.delivered = true;
        }
        let attempts = self.count_attempt(seq, true);
        if self.exhausted(seq, now) {
            return Expiry::Exhausted;
        }
        let pause = self.pause(seq);
        self.wait(seq, now.mono + pause);
        attempts.filter(|attempts| *attempts > 1).map_or(Expiry::Quiet, Expiry::Attempted)
    }

    /// A batch is being bisected: until that is over, only its parts leave.
    pub(in crate::peer) fn bisecting(&mut self) -> bool {
        while let Some(group) = self.groups.front_mut() {
            let entries = &self.entries;
            group.retain(|seq| entries.get(seq).is_some_and(|entry| entry.state == State::Suspect));
            if !group.is_empty() {
                return true;
            }
            self.groups.pop_front();
        }
        self.suspects_out > 0
    }

    /// The next part of a bisected batch, once the one before it has been answered.
    pub(super) fn take_group(&mut self, slot: SlotId, now: Duration, sets_max: usize) -> Vec<(u64, Jti, Arc<str>)> {
        if self.suspects_out > 0 {
            return Vec::new();
        }
        let Some(mut group) = self.groups.pop_front() else { return Vec::new() };
        let rest = group.split_off(group.len().min(sets_max));
        if !rest.is_empty() {
            self.groups.push_front(rest);
        }
        let mut taken = Vec::new();
        for seq in group {
            let Some(entry) = self.entries.get(&seq) else { continue };
            let Some(token) = entry.token.clone() else { continue };
            taken.push((seq, entry.jti.clone(), token));
            self.launch(seq, slot, now, false, true);
        }
        taken
    }
}

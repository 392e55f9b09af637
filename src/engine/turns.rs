//! A queue in which parties take turns: whoever has much to do waits for itself.

use std::collections::{HashMap, VecDeque};

/// Jobs of several parties. The next one is that of the party that has waited longest for its turn, not the oldest: else one
/// that queues a hundred at once would go before all that come after it.
#[derive(Debug)]
pub(super) struct Turns<J> {
    /// Never an empty one.
    waiting: HashMap<u64, VecDeque<J>>,
    /// Whose turn it is, each party once.
    order: VecDeque<u64>,
}

impl<J> Turns<J> {
    /// Queues a job behind those of the same party.
    pub(super) fn push(&mut self, party: u64, job: J) {
        let jobs = self.waiting.entry(party).or_default();
        if jobs.is_empty() {
            self.order.push_back(party);
        }
        jobs.push_back(job);
    }

    /// The first job of the party whose turn it is.
    pub(super) fn pop(&mut self) -> Option<J> {
        let party = self.order.pop_front()?;
        let jobs = self.waiting.get_mut(&party)?;
        let job = jobs.pop_front();
        if jobs.is_empty() {
            self.waiting.remove(&party);
        } else {
            self.order.push_back(party);
        }
        job
    }

    /// How many jobs wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }
}

impl<J> Default for Turns<J> {
    fn default() -> Self {
        Self { waiting: HashMap::new(), order: VecDeque::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parties_take_turns_and_each_keeps_its_order() {
        let mut turns = Turns::default();
        for job in ["a1", "a2", "a3", "a4"] {
            turns.push(1, job);
        }
        turns.push(2, "b1");
        turns.push(3, "c1");
        assert_eq!(turns.len(), 6);
        assert_eq!(turns.pop(), Some("a1"));
        turns.push(2, "b2");
        let rest: Vec<_> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(rest, ["b1", "c1", "a2", "b2", "a3", "a4"]);
        assert!(turns.waiting.is_empty() && turns.order.is_empty(), "nothing is kept of who has nothing to do");
    }

    #[test]
    fn whoever_comes_again_comes_behind_all_who_wait() {
        let mut turns = Turns::default();
        turns.push(1, 1);
        turns.push(2, 2);
        assert_eq!(turns.pop(), Some(1));
        turns.push(1, 3);
        assert_eq!([turns.pop(), turns.pop(), turns.pop()], [Some(2), Some(3), None]);
    }
}

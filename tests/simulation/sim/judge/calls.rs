//! I1: what an application hands in together is taken as a whole or not at all.

use pushpull::peer::{OutboxRow, Write};
use pushpull::set::Jti;

use super::Judge;
use super::ghost::Standing;
use super::invariant::{Checked, Invariant};
use crate::sim::event::Org;

impl Judge {
    pub(super) fn calling(&mut self, from: Org, to: Org, jtis: &[Jti]) {
        let calls = &mut self.lane(from, to).calls;
        let place = calls.len();
        calls.push(jtis.to_vec());
        for jti in jtis {
            self.sent(from, to, jti).calls.push(place);
        }
    }

    /// I1: what was handed in together is durable together, or not at all.
    pub(super) fn calls_are_whole(&mut self, from: Org, to: Org, writes: &[Write]) -> Checked {
        for write in writes {
            let Write::Enqueue(OutboxRow { jti, .. }) = write else { continue };
            let case = self.case(from, to, Some(jti));
            let Some(lane) = self.lanes.get(&(from, to)) else { continue };
            let is_there = |jti: &Jti| lane.sets.get(jti).is_some_and(|track| track.sent.standing != Standing::Absent);
            let Some(calls) = lane.sets.get(jti).map(|track| &track.sent.calls) else { continue };
            let holds = calls.is_empty() || calls.iter().any(|call| lane.calls[*call].iter().all(is_there));
            self.tally.demand(Invariant::I1, case, holds, || {
                ("all that was handed in with it, in the same commit", "a part of it")
            })?;
        }
        Ok(())
    }
}

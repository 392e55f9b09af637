//! What the fixture checks after every step: the promises that hold at every moment, whatever is being tested.

use std::collections::HashMap;
use std::sync::Arc;

use super::pair::Side;
use super::store::Store;
use crate::peer::{Config, DeathCause, Fate, Outcome, SlotSpec, Transmission, Verdict, Write};
use crate::set::Jti;

/// Remembers what was promised, beyond every crash. The product knows nothing of it.
#[derive(Debug, Default)]
pub(super) struct Judge {
    tokens: [HashMap<Jti, Arc<str>>; 2],
    verdicts: [HashMap<Jti, Verdict>; 2],
    outcomes: [HashMap<Jti, Outcome>; 2],
    /// What was found broken. A run stops at the first.
    pub(super) violations: Vec<String>,
    /// Outputs are performed before their writes are durable: whether that is found must show by its consequences.
    pub(super) blind: bool,
}

impl Judge {
    pub(super) fn demand(&mut self, holds: bool, broken: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(broken());
        }
    }

    /// An object leaves `side`, whose durable state is `store`.
    pub(super) fn leaves(&mut self, side: Side, store: &Store, spec: SlotSpec, object: &Transmission) {
        let count = object.sets.len();
        self.demand(count <= spec.sets_max, || format!("{side:?}: {count} SETs in an object for {}", spec.sets_max));
        let bytes = object_bytes(object);
        let small = count + object.verdicts.len() <= 1;
        self.demand(bytes <= spec.bytes_max || small, || format!("{side:?}: {bytes} bytes for {}", spec.bytes_max));
        for (jti, compact) in &object.sets {
            let first = self.tokens[side as usize].entry(jti.clone()).or_insert_with(|| Arc::clone(compact)).clone();
            self.demand(first == *compact, || format!("{side:?}: the bytes of {jti} have changed (R8)"));
            let settled = self.outcomes[side as usize].contains_key(jti);
            self.demand(!settled, || format!("{side:?}: {jti} left after it was settled (R8)"));
            let queued = store.sent.get(jti).is_some_and(|memory| memory.fate == Fate::Queued);
            let blind = self.blind;
            self.demand(queued || blind, || format!("{side:?}: {jti} left and is not in the outbox (R1)"));
        }
        for (jti, verdict) in &object.verdicts {
            let first = self.verdicts[side as usize].entry(jti.clone()).or_insert_with(|| verdict.clone()).clone();
            self.demand(first == *verdict, || format!("{side:?}: the verdict on {jti} has changed (R11)"));
            let durable = store.seen.get(jti).map(|memory| memory.fate.clone()) == Some(Fate::Answered(first));
            let blind = self.blind;
            self.demand(durable || blind, || format!("{side:?}: the verdict on {jti} is not durable (R1)"));
        }
    }

    /// A write of `side` becomes durable; `news` if it takes effect. `other` is what its partner holds.
    pub(super) fn written(&mut self, side: Side, config: &Config, other: &Store, write: &Write, news: bool) {
        match write {
            Write::Settle { jti, outcome, attempts, accepted_at, at, .. } => {
                let first = self.outcomes[side as usize].insert(jti.clone(), outcome.clone());
                self.demand(first.is_none(), || format!("{side:?}: {jti} ended twice"));
                let said = other.seen.get(jti).map(|memory| memory.fate.clone());
                let holds = match outcome {
                    Outcome::Acked => said == Some(Fate::Answered(Verdict::Acked)),
                    Outcome::Refused(_) => matches!(said, Some(Fate::Answered(Verdict::Refused(_)))),
                    Outcome::Dead(DeathCause::Attempts) => {
                        *attempts >= config.attempts_max && at.since(*accepted_at) >= config.give_up_after
                    }
                    Outcome::Dead(DeathCause::Age) => at.since(*accepted_at) >= config.age_max,
                };
                self.demand(holds, || format!("{side:?}: {jti} ended as {outcome:?}, its partner knows {said:?}"));
            }
            Write::Receive(row) => {
                self.demand(news, || format!("{side:?}: {} was stored once more (R4)", row.jti));
            }
            Write::Answer { jti, .. } => self.demand(news, || format!("{side:?}: {jti} was judged twice (R11)")),
            Write::Enqueue(row) => {
                self.demand(news, || format!("{side:?}: {} was queued twice", row.jti));
                // A new series, by an operator: only of what was never answered, and with the bytes it had.
                let ended = self.outcomes[side as usize].remove(&row.jti);
                let fit = matches!(ended, None | Some(Outcome::Dead(_)));
                self.demand(fit, || format!("{side:?}: {} was queued again after {ended:?} (R8)", row.jti));
                let first = self.tokens[side as usize].get(&row.jti);
                let same = first.is_none_or(|first| *first == row.compact);
                self.demand(same, || format!("{side:?}: the bytes of {} have changed (R8)", row.jti));
            }
            Write::Lift { jti, .. } => self.demand(news, || format!("{side:?}: {jti} was dealt with twice")),
            Write::Attempts { .. } | Write::Paused(_) => {}
        }
    }
}

/// About as many bytes as the object has on the wire.
pub(super) fn object_bytes(object: &Transmission) -> usize {
    let sets: usize = object.sets.iter().map(|(jti, compact)| jti.as_str().len() + compact.len() + 8).sum();
    let verdicts: usize = object.verdicts.iter().map(|(jti, _)| jti.as_str().len() + 3).sum();
    sets + verdicts
}

//! I14: what hostile partners do changes nothing between the others. Two runs are compared: one with them, one without.

use std::collections::BTreeMap;
use std::fmt;

use pushpull::set::Jti;

use super::Judge;
use super::ghost::{Standing, Track};
use crate::sim::event::Org;

/// How one SET has ended at both ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ended {
    /// At its sender: "acked", "refused", "dead", "queued", "absent".
    sender: &'static str,
    /// At its receiver: how it was decided.
    receiver: String,
    confirmed: bool,
}

/// A SET that has ended otherwise.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Difference {
    pub from: Org,
    pub to: Org,
    pub jti: Jti,
    pub with: Option<Ended>,
    pub without: Option<Ended>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, jti, with, without } = self;
        let name = super::Invariant::I14;
        write!(f, "{name}: {jti} from {} to {} ended as {with:?} with hostile partners", from.0, to.0)?;
        write!(f, ", and as {without:?} without them")
    }
}

/// Compares how all SETs between honest organisations have ended in two runs that differ by what hostile partners did; how
/// many there were, or the first that differs. What an operator did with a dead letter counts as its end.
///
/// # Errors
///
/// The first SET that ended otherwise.
pub fn isolated(with: &Judge, without: &Judge) -> Result<usize, Box<Difference>> {
    let (with, without) = (ends(with), ends(without));
    for key in with.keys().chain(without.keys()) {
        let (one, other) = (with.get(key), without.get(key));
        if one != other {
            let (from, to, jti) = key.clone();
            return Err(Box::new(Difference { from, to, jti, with: one.cloned(), without: other.cloned() }));
        }
    }
    Ok(with.len())
}

fn ends(judge: &Judge) -> BTreeMap<(Org, Org, Jti), Ended> {
    let ended = |track: &Track| Ended {
        sender: track.sent.standing.word(),
        receiver: format!("{:?}", track.got.decision),
        confirmed: track.got.confirmed_at.is_some(),
    };
    let met = |track: &&Track| track.sent.standing != Standing::Absent || track.got.decision.is_some();
    let all = judge.honest_ends().filter(|(_, _, track)| met(track));
    all.map(|((from, to), jti, track)| ((from, to, jti.clone()), ended(track))).collect()
}

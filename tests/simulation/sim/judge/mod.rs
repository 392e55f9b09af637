//! The judge: keeps what really happened beside the product and never asks it, and checks after every event what must hold.
//! Every exception stands beside its check with its reason, and is counted.

mod answers;
mod calls;
mod disk;
mod end;
mod ghost;
mod incoming;
mod invariant;
mod isolation;
mod limits;
mod outgoing;
mod policy;
#[cfg(test)]
mod tests;
mod timely;

use std::collections::BTreeMap;
use std::time::Duration;

use pushpull::peer::Write;
use pushpull::set::Jti;

use super::event::{Event, Org, Role, Watch};
use ghost::{Lane, Lanes, Member};
use invariant::{Case, Checked};
pub use invariant::{Invariant, Tally, Violation};
pub use isolation::isolated;
pub use limits::{Bounds, Limits};

/// The one fault of a clock that is longer than the memory of jtis: the others come to hours.
pub const FAR: &str = "clock jumped far";

/// After so much time at most it is set right again.
pub const FAR_LASTS: Duration = Duration::from_secs(500);

/// Looks at every event, and stops at the first breach.
#[derive(Debug)]
pub struct Judge {
    bounds: Bounds,
    limits: BTreeMap<Org, Limits>,
    /// Who sends by calls of its own, to whom.
    called: BTreeMap<(Org, Org), Calls>,
    default: Limits,
    members: BTreeMap<Org, Member>,
    lanes: Lanes,
    /// Settled before they were seen to leave, and when: they must leave after all.
    unsent: Vec<(Duration, Org, Org, Jti)>,
    now: Duration,
    /// All faults are over since then.
    healed: Option<Duration>,
    /// There was nothing left to do then.
    quiet_at: Option<Duration>,
    /// What had to be settled by then has been looked at.
    settled_checked: bool,
    /// Looks at disks so far, to tell which rows one of them has met.
    looks: u64,
    /// SETs that were given up, and had reached the application.
    pub delivered_unacknowledged: u64,
    tally: Tally,
    violation: Option<Box<Violation>>,
}

/// When verdicts are told to whoever calls.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Calls {
    /// With the answer to the call that brought the SET, or not at all: it comes again.
    AtOnce,
    /// With the answer to any call, as long as there are calls.
    WithAny,
}

impl Judge {
    /// A judge of a federation whose organisations are configured like this, where [`Judge::configure`] says nothing else.
    pub fn new(limits: Limits, bounds: Bounds) -> Self {
        Self {
            bounds,
            limits: BTreeMap::new(),
            called: BTreeMap::new(),
            default: limits,
            members: BTreeMap::new(),
            lanes: BTreeMap::new(),
            unsent: Vec::new(),
            now: Duration::ZERO,
            healed: None,
            quiet_at: None,
            settled_checked: false,
            looks: 0,
            delivered_unacknowledged: 0,
            tally: Tally::default(),
            violation: None,
        }
    }

    /// This organisation is configured like this.
    pub fn configure(&mut self, org: Org, limits: Limits) {
        self.limits.insert(org, limits);
    }

    /// SETs of this organisation for that one come by calls of its own, and nobody else tells it the verdicts.
    pub fn calls(&mut self, from: Org, to: Org, how: Calls) {
        self.called.insert((from, to), how);
    }

    /// The first breach, if there was one. Nothing is noted after it.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_deref()
    }

    /// What was put to the test how often.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    fn case<'a>(&self, org: Org, partner: Org, jti: Option<&'a Jti>) -> Case<'a> {
        Case { at: self.now, org, partner, jti }
    }

    fn limits(&self, org: Org) -> &Limits {
        self.limits.get(&org).unwrap_or(&self.default)
    }

    /// What goes from one to the other.
    fn lane(&mut self, from: Org, to: Org) -> &mut Lane {
        self.lanes.entry((from, to)).or_default()
    }

    fn member(&mut self, org: Org) -> &mut Member {
        self.members.entry(org).or_insert_with(|| Member::new(Role::Honest))
    }

    fn role(&self, org: Org) -> Role {
        self.members.get(&org).map_or(Role::Honest, |member| member.role)
    }

    /// Whether it runs the product. Of the others nothing is demanded.
    fn runs_product(&self, org: Org) -> bool {
        self.role(org) != Role::Hostile
    }

    /// Both run the product and have all that they ever knew: only of such a pair can it be demanded that both ends agree. Who
    /// has lost its store by its own fault has broken its promises, and nobody else's.
    fn is_whole_pair(&self, one: Org, other: Org) -> bool {
        let is_whole = |org| self.runs_product(org) && !self.members.get(&org).is_some_and(|member| member.forgot);
        is_whole(one) && is_whole(other)
    }

    fn check(&mut self, event: &Event) -> Checked {
        self.time_passes()?;
        match event {
            Event::Member { org, role } => {
                self.members.insert(*org, Member::new(*role));
                Ok(())
            }
            Event::Calling { from, to, jtis } => {
                self.calling(*from, *to, jtis);
                Ok(())
            }
            Event::Submitted { from, to, jti, digest } => {
                self.submitted(*from, *to, jti, *digest);
                Ok(())
            }
            Event::Accepted { from, to, jti, digest } => self.accepted(*from, *to, jti, *digest),
            Event::Declined { from, to, jti, digest, why } => self.declined(*from, *to, jti, *digest, why),
            Event::Left { from, to, link, sets, acks, errors, sets_max, bytes, bytes_max, tells } => {
                if !self.runs_product(*from) {
                    return Ok(());
                }
                self.within_limits(*from, *to, sets.len(), acks.len() + errors.len(), (*sets_max, *bytes, *bytes_max))?;
                for (jti, digest) in sets {
                    self.left(*from, *to, *link, jti, *digest)?;
                }
                for jti in acks {
                    self.ack_left(*from, *to, jti)?;
                }
                for (jti, code) in errors {
                    self.error_left(*from, *to, jti, code)?;
                }
                self.answers_left(*from, *to, acks.iter().chain(errors.iter().map(|(jti, _)| jti)), sets.len(), *tells)
            }
            Event::Parted { org, partner } => {
                let now = self.now;
                self.lane(*org, *partner).parted_at = Some(now);
                Ok(())
            }
            Event::Suspected { org, partner } => {
                let now = self.now;
                self.lane(*org, *partner).suspected_at = Some(now);
                Ok(())
            }
            Event::Came { to, from, sets, acks, errors, .. } => {
                if !self.runs_product(*to) {
                    return Ok(());
                }
                self.read_whole(*to, *from, event)?;
                for (jti, digest, truth) in sets {
                    self.came(*to, *from, jti, *digest, *truth)?;
                }
                let now = self.now;
                self.lane(*to, *from).heard_at = Some(now);
                self.verdicts_came(*to, *from, acks, errors);
                self.lane(*to, *from).spoken_to |= !(sets.is_empty() && acks.is_empty() && errors.is_empty());
                Ok(())
            }
            Event::Broken { to, from, link, jtis } => {
                self.broken(*to, *from, *link, jtis);
                Ok(())
            }
            Event::Malformed { to, from, link } => self.malformed(*to, *from, *link),
            Event::Durable { org, partner, writes } => self.durable(*org, *partner, writes),
            Event::Handed { org, from, jti, digest, redelivered } => {
                self.handed(*org, *from, jti, *digest, *redelivered)
            }
            Event::Confirmed { org, from, jti } => self.confirmed(*org, *from, jti),
            Event::Redriving { org, to, jti, how } => {
                self.redriving(*org, *to, jti, how);
                Ok(())
            }
            Event::Redriven { org, to, jti, how, new } => self.redriven(*org, *to, jti, how, new.as_ref()),
            Event::Published { org, kids } => {
                self.member(*org).published.clone_from(kids);
                Ok(())
            }
            Event::Signed { org, jti, kid } => {
                self.member(*org).signed.entry(jti.clone()).or_default().push(kid.clone());
                Ok(())
            }
            Event::Died { org, contents, .. } => {
                self.unsent.retain(|(_, from, ..)| from != org);
                self.died(*org);
                self.look_at(*org, contents)
            }
            Event::Started { org, contents } => {
                self.member(*org).life += 1;
                self.look_at(*org, contents)
            }
            Event::Forgot { org } => {
                self.forget(*org);
                Ok(())
            }
            Event::Damaged { org, partner, jti } => {
                self.damaged(*org, *partner, jti);
                Ok(())
            }
            Event::Fault { org, what } => {
                if let Some(org) = org.filter(|_| *what == "disk full") {
                    self.member(org).disk_full_at = Some(self.now);
                }
                if what.contains("clock") {
                    self.clock_is_wrong(*org, *what == FAR);
                }
                Ok(())
            }
            Event::Healed => {
                self.heal();
                Ok(())
            }
            Event::Stranded { org, partner, sets } => {
                self.stranded(*org, *partner, sets);
                Ok(())
            }
            Event::Heard { org, from } => {
                let now = self.now;
                self.lane(*org, *from).heard_at = Some(now);
                Ok(())
            }
            Event::Quiet => self.quiet(),
            Event::Ends { org, contents } => {
                self.look_at(*org, contents)?;
                self.ends(*org)
            }
        }
    }

    fn durable(&mut self, org: Org, partner: Org, writes: &[Write]) -> Checked {
        let now = self.now;
        let lane = self.lane(org, partner);
        (lane.durable_before, lane.durable_at) = (lane.durable_at, Some(now));
        self.note_crowd(org, partner);
        for write in writes {
            match write {
                Write::Enqueue(row) => self.enqueued(org, partner, row)?,
                Write::Attempts { seq, attempts } => self.attempted(org, partner, *seq, *attempts)?,
                Write::Settle { seq, jti, outcome, attempts, .. } => {
                    self.settled(org, partner, (*seq, jti), outcome, *attempts)?;
                }
                Write::Lift { seq, jti, memory } => self.lifted(org, partner, (*seq, jti), memory.as_ref())?,
                Write::Receive(row) => self.received(org, partner, &row.jti, row.digest)?,
                Write::Answer { jti, digest, verdict, .. } => self.decided(org, partner, jti, *digest, verdict)?,
                Write::Paused(paused) => self.lane(org, partner).paused_since = paused.then_some(self.now),
            }
        }
        self.calls_are_whole(org, partner, writes)?;
        self.nothing_lifted(org, partner, writes)
    }

    /// A wrong clock of one, or of all.
    fn clock_is_wrong(&mut self, org: Option<Org>, is_far: bool) {
        let now = self.now;
        for (_, state) in self.members.iter_mut().filter(|(member, _)| org.is_none_or(|org| org == **member)) {
            state.clock_was_wrong = true;
            state.clock_was_far |= is_far;
            if is_far {
                state.far_since.push(now);
            } else {
                state.clock_was_near = true;
            }
        }
    }
}

impl Watch for Judge {
    fn note(&mut self, at: Duration, event: &Event) {
        if self.violation.is_some() {
            return;
        }
        self.now = self.now.max(at);
        let checked = self.left_after_all();
        if let Err(violation) = checked.and_then(|()| self.check(event)) {
            self.violation = Some(violation);
        }
    }

    fn is_broken(&self) -> bool {
        self.violation.is_some()
    }
}

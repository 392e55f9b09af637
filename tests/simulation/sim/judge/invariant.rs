//! The names of what must hold, what a breach of it looks like, and how often each was really put to the test.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use pushpull::set::Jti;

use crate::sim::event::Org;

macro_rules! invariants {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// One promise, by its number in the list of invariants.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Invariant { $($(#[$doc])* $name,)+ }

        impl Invariant {
            /// All of them, in order.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Its number and name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

invariants! {
    /// What was accepted is on disk in exactly one place, with the bytes it had, and nothing else is.
    I1 = "I1 conservation",
    /// A SET ends once; a new series needs an operator, and only what was never answered has one.
    I2 = "I2 one end",
    /// What is settled does not leave again.
    I3 = "I3 silence after settle",
    /// What leaves was asked for, is durable, and has the same bytes each time.
    I4 = "I4 no invention, no mutation",
    /// An ack promises a row that no crash can take.
    I5 = "I5 ack after durable",
    /// Only the partner that a SET was sent to settles it.
    I6 = "I6 settle only by the owner",
    /// Handed over once, confirmed once.
    I7 = "I7 once",
    /// One verdict for ever, durable before it is said.
    I8 = "I8 one verdict",
    /// Nothing is answered that did not come.
    I9 = "I9 no verdict without receipt",
    /// Every copy of a SET that has a verdict is answered with it.
    I10 = "I10 answer every copy",
    /// What is refused never reaches the application.
    I11 = "I11 refused never reached the application",
    /// Only what anybody would refuse at any time is refused.
    I12 = "I12 permanent only for permanent",
    /// Given up only when attempts and time are used up.
    I13 = "I13 dead only by policy",
    /// Hostile partners change nothing between others.
    I14 = "I14 isolation",
    /// A malformed object has no effect.
    I15 = "I15 zero effects",
    /// No object and no queue is larger than it may be.
    I16 = "I16 limits",
    /// What is damaged is told and never used.
    I18 = "I18 damage is loud",
    /// A key is published for as long as a SET that it signed is under way.
    I19 = "I19 key life",
    /// Nothing is taken a second time, however old.
    I20 = "I20 replay",
    /// After healing everything is settled in time, and nothing that could be delivered is given up.
    L1 = "L1 everything settles",
    /// After healing every SET that comes is answered in time.
    L2 = "L2 everything is answered",
    /// Nobody talks when there is nothing to say.
    L6 = "L6 no busy loop",
    /// Both ends tell the same story when all is quiet.
    End = "end check",
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whom a check is about.
#[derive(Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) at: Duration,
    /// Whose product is judged.
    pub(super) org: Org,
    pub(super) partner: Org,
    pub(super) jti: Option<&'a Jti>,
}

/// A promise was broken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    pub invariant: Invariant,
    /// Simulated time since the beginning.
    pub at: Duration,
    /// Whose product broke it.
    pub org: Org,
    /// In its conversation with whom.
    pub partner: Org,
    pub jti: Option<Jti>,
    pub expected: String,
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { invariant, at, org, partner, jti, expected, found } = self;
        write!(f, "{invariant}: broken at {:.6} s by {} towards {}", at.as_secs_f64(), org.0, partner.0)?;
        if let Some(jti) = jti {
            write!(f, ", jti {jti}")?;
        }
        write!(f, ": expected {expected}; found {found}")
    }
}

/// Boxed, because it is rare and large.
pub(super) type Checked = Result<(), Box<Violation>>;

/// How often each invariant was put to the test, and each exception was made.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    tested: [u64; Invariant::ALL.len()],
    exceptions: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Checks one promise.
    pub(super) fn demand<T: Into<String>, U: Into<String>>(
        &mut self,
        invariant: Invariant,
        case: Case<'_>,
        holds: bool,
        told: impl FnOnce() -> (T, U),
    ) -> Checked {
        self.tested[invariant as usize] += 1;
        if holds {
            return Ok(());
        }
        let (expected, found) = told();
        let Case { at, org, partner, jti } = case;
        let (expected, found) = (expected.into(), found.into());
        Err(Box::new(Violation { invariant, at, org, partner, jti: jti.cloned(), expected, found }))
    }

    /// Something that looks like a breach was let pass, for a reason that stands beside the check.
    pub(super) fn excuse(&mut self, why: &'static str) {
        *self.exceptions.entry(why).or_default() += 1;
    }

    /// How often this one was put to the test.
    pub fn tested(&self, invariant: Invariant) -> u64 {
        self.tested[invariant as usize]
    }

    /// Exceptions that were made, with their number.
    pub fn exceptions(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.exceptions.iter().map(|(why, count)| (*why, *count))
    }

    /// Adds what another run has come to.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.tested.iter_mut().zip(other.tested) {
            *count += more;
        }
        for (why, count) in &other.exceptions {
            *self.exceptions.entry(why).or_default() += count;
        }
    }
}

/// A line for each invariant, also for those that were never put to the test; then the exceptions.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for invariant in Invariant::ALL {
            let count = self.tested(*invariant);
            let note = match invariant {
                // By `isolated`, which compares two runs and counts for itself.
                Invariant::I14 => continue,
                _ if count == 0 => "  NEVER PUT TO THE TEST",
                _ => "",
            };
            writeln!(f, "{count:>12}  {invariant}{note}")?;
        }
        for (why, count) in self.exceptions() {
            writeln!(f, "{count:>12}  let pass: {why}")?;
        }
        Ok(())
    }
}

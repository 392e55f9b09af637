//! What happens in a simulated federation, as values: the trace is made of them, the trace's hash is theirs, and the judge
//! knows nothing else. The product never sees any of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pushpull::peer::{Counts, Write};
use pushpull::set::{Digest, Jti};

/// One Transceiver of the federation, by its number.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Org(pub u8);

/// How an organisation behaves. All but the hostile one run the product.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Keeps every rule.
    Honest,
    /// Takes everything in, and its verdicts never leave (until the federation is healed).
    Lazy,
    /// Answers late, reads slowly.
    Slow,
    /// Loses its own state at times: starts again with an empty store.
    Forgetful,
    /// Sends whatever it likes under its own identity.
    Hostile,
}

/// What is true of a SET on the wire, by the one who made it: with all dependencies at hand and the true time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Truth {
    /// A valid SET of the organisation whose connection brought it, for the one it reached.
    Sound,
    /// Valid, and only for the transport: a verification event. Acknowledged, never handed over.
    Verification,
    /// Refused by anybody who looks, at any time.
    Unsound,
}

/// Why a process ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Death {
    /// `kill -9`, or a power cut: what was not synced is as the store says.
    Killed,
    /// Its store failed (exit code 70).
    StoreFailed,
    /// In order.
    Stopped,
}

/// What a store holds, read behind the product's back: what a new process would find, and nothing that is not durable.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// Unsettled SETs by partner: jti and digest of the compact token.
    pub outbox: BTreeMap<Org, Vec<(Jti, Digest)>>,
    /// Dead letters (refused or given up) by partner.
    pub dead: BTreeMap<Org, Vec<(Jti, Digest)>>,
    /// Inbox rows still kept, by partner.
    pub inbox: BTreeMap<Org, Vec<(Jti, Digest)>>,
    /// Jtis answered, by partner, with whether the answer is an ack.
    pub answered: BTreeMap<Org, Vec<(Jti, bool)>>,
    /// Jtis settled, by partner, with how: "acked", "refused", "dead".
    pub settled: BTreeMap<Org, Vec<(Jti, &'static str)>>,
    /// Rows whose checksum fails, by partner: outbox and inbox.
    pub damaged: BTreeMap<Org, Vec<Jti>>,
    /// The totals that are kept with the rows, by partner. Whoever stands in `counts` is compared with what was counted here.
    pub counts: BTreeMap<Org, Counts>,
}

/// One thing that happened, in the order in which it really happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The federation has this member.
    Member { org: Org, role: Role },
    /// The application of `from` is about to call `send` with these: it takes all of them or none.
    Calling { from: Org, to: Org, jtis: Vec<Jti> },
    /// The application of `from` called `send`. `digest` is of the compact token.
    Submitted { from: Org, to: Org, jti: Jti, digest: Digest },
    /// `send` returned `Ok` (also for one accepted before with the same content).
    Accepted { from: Org, to: Org, jti: Jti, digest: Digest },
    /// `send` returned an error.
    Declined { from: Org, to: Org, jti: Jti, digest: Digest, why: &'static str },
    /// The product of `from` gave an object to a link, whose limits were these.
    Left {
        from: Org,
        to: Org,
        link: u64,
        sets: Vec<(Jti, Digest)>,
        acks: Vec<Jti>,
        errors: Vec<(Jti, String)>,
        sets_max: usize,
        bytes: usize,
        bytes_max: usize,
        /// It could have carried verdicts.
        tells: bool,
    },
    /// A link of `org` to its partner ended while its slot was free. What the product puts into that slot before it hears of
    /// it goes nowhere, and nobody sees it.
    Parted { org: Org, partner: Org },
    /// Exchanges of `org` with its partner kept failing without a word: what they carried is taken for a refused batch.
    Suspected { org: Org, partner: Org },
    /// An object reached the product of `to` on a link that is authenticated as `from`, and was read. The name of a SET is its
    /// name in `sets`.
    Came { to: Org, from: Org, link: u64, sets: Vec<(Jti, Digest, Truth)>, acks: Vec<Jti>, errors: Vec<(Jti, String)> },
    /// The next object that reaches `to` on this link breaks the rules of objects, whatever the product makes of it: it has
    /// to be refused as a whole. These jtis stand in it, as SETs or as verdicts.
    Broken { to: Org, from: Org, link: u64, jtis: Vec<Jti> },
    /// An object reached the product and was refused as a whole (400, 1007): it must have no effect.
    Malformed { to: Org, from: Org, link: u64 },
    /// These writes of `org` about its partner are on disk now. Emitted the moment they are, whoever learns of it.
    Durable { org: Org, partner: Org, writes: Arc<Vec<Write>> },
    /// The application of `org` was given this SET.
    Handed { org: Org, from: Org, jti: Jti, digest: Digest, redelivered: bool },
    /// Its confirmation is durable.
    Confirmed { org: Org, from: Org, jti: Jti },
    /// The operator of `org` is about to act on a dead letter: "resent", "reissued" or "discarded" is what it asks for.
    /// Without it nothing may be done; and a process that dies in between may have done it or not.
    Redriving { org: Org, to: Org, jti: Jti, how: &'static str },
    /// The operator of `org` acted on a dead letter, and it was done: "resent", "reissued" (as that jti), "discarded".
    Redriven { org: Org, to: Org, jti: Jti, how: &'static str, new: Option<Jti> },
    /// A link of `org` ended with these in its slot: they were chosen, and never left.
    Stranded { org: Org, partner: Org, sets: Vec<Jti> },
    /// The link's task of `org` has told its core that the partner is there.
    Heard { org: Org, from: Org },
    /// The keys that `org` publishes now, by their kid.
    Published { org: Org, kids: Vec<String> },
    /// `org` signed the SET with this key.
    Signed { org: Org, jti: Jti, kid: String },
    /// The process of `org` ended; this is on its disk.
    Died { org: Org, why: Death, contents: Contents },
    /// It started again.
    Started { org: Org, contents: Contents },
    /// A forgetful organisation lost everything it knew.
    Forgot { org: Org },
    /// Somebody damaged a row at rest.
    Damaged { org: Org, partner: Org, jti: Jti },
    /// Trouble of this kind was met (not merely possible).
    Fault { org: Option<Org>, what: &'static str },
    /// All faults are over; from now on everything must get better.
    Healed,
    /// Nothing is left to do. `contents` of all organisations follow with [`Event::Ends`].
    Quiet,
    /// What an organisation holds in the end, and what its own counters say.
    Ends { org: Org, contents: Contents },
}

/// Looks at every event as it happens.
pub trait Watch: Send {
    /// Notes what happened at this simulated time since the beginning.
    fn note(&mut self, at: Duration, event: &Event);

    /// Whether something was broken, so that nothing need happen any more.
    fn is_broken(&self) -> bool {
        false
    }
}

impl Watch for () {
    fn note(&mut self, _: Duration, _: &Event) {}
}

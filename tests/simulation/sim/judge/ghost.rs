//! What really happened, as the judge keeps it: never asked of the product, only of what was seen to happen.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use pushpull::set::{Digest, Jti};

use super::FAR_LASTS;
use crate::sim::event::{Org, Role, Truth};

/// One organisation.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) role: Role,
    /// Counts its processes: what was accepted in an earlier one is known by wall clock alone.
    pub(super) life: u32,
    /// It has lost its store by its own fault.
    pub(super) forgot: bool,
    /// Its wall clock was wrong at some time.
    pub(super) clock_was_wrong: bool,
    /// By so much that what it dated may look older than the memory of jtis.
    pub(super) clock_was_far: bool,
    /// When its disk was last full.
    pub(super) disk_full_at: Option<Duration>,
    /// The times at which it became so wrong.
    pub(super) far_since: Vec<Duration>,
    /// By less than that, but for so long that it had to be believed.
    pub(super) clock_was_near: bool,
    /// Kids of the keys that it publishes.
    pub(super) published: Vec<String>,
    /// By which keys it signed each jti; several when it said the same again to another partner.
    pub(super) signed: HashMap<Jti, Vec<String>>,
    /// Received rows, of all partners, that its application has not confirmed.
    pub(super) unconfirmed: u64,
    /// When there was last no room for more of them.
    pub(super) full_at: Option<Duration>,
}

impl Member {
    pub(super) fn new(role: Role) -> Self {
        Self {
            role,
            life: 0,
            forgot: false,
            clock_was_wrong: false,
            clock_was_far: false,
            disk_full_at: None,
            far_since: Vec::new(),
            clock_was_near: false,
            published: Vec::new(),
            signed: HashMap::new(),
            unconfirmed: 0,
            full_at: None,
        }
    }
}

impl Member {
    /// Whether nobody can tell, after a restart, how old that is which it accepted at this time. A clock that is far off for a
    /// short while is no excuse: it is suspect, also at the start. What was dated by it is another matter.
    pub(super) fn cannot_tell_age(&self, accepted: Duration) -> bool {
        let is_in = |since: &Duration| (*since..=*since + FAR_LASTS + Duration::from_secs(10)).contains(&accepted);
        self.clock_was_near || self.far_since.iter().any(is_in)
    }
}

/// One direction of one conversation: what `from` sends to `to`, at both ends.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) sets: HashMap<Jti, Track>,
    /// What was handed in together.
    pub(super) calls: Vec<Vec<Jti>>,
    /// Of the sender's queue.
    pub(super) seqs: HashMap<u64, Jti>,
    /// When a link of the sender last ended while its slot was free.
    pub(super) parted_at: Option<Duration>,
    /// When exchanges last kept failing, so that parts of a batch go first.
    pub(super) suspected_at: Option<Duration>,
    /// When the sender last heard the receiver, on whatever link.
    pub(super) heard_at: Option<Duration>,
    /// When the sender last made something durable about it, and the time before.
    pub(super) durable_at: Option<Duration>,
    pub(super) durable_before: Option<Duration>,
    /// When more was last queued than may be retried at the same time.
    pub(super) crowded_at: Option<Duration>,
    /// When the receiver last refused an object as a whole: the parts of such a one leave one at a time.
    pub(super) refused_at: Option<Duration>,
    /// Totals at the sender, then at the receiver, counted from what became durable.
    pub(super) totals: Totals,
    /// Jtis in objects that had to be refused as a whole.
    pub(super) broken: HashSet<Jti>,
    /// Links whose next object is such a one.
    pub(super) broken_next: HashSet<u64>,
    /// Verdicts that the receiver owes, by when and at which of its objects; may name some that it has given since.
    pub(super) owed: VecDeque<Owed>,
    /// After healing: SETs that came and have no verdict yet.
    pub(super) awaited: VecDeque<Awaited>,
    /// Objects that the receiver has sent back so far.
    pub(super) answers_left: u64,
    /// Since when nothing may leave for the receiver, by the word of the sender's operator.
    pub(super) paused_since: Option<Duration>,
    /// Empty objects of the sender after healing: since when, and how many.
    pub(super) idle: (Duration, u64),
    /// The partner has said something since an object last left: the next one may be empty, for it is an answer.
    pub(super) spoken_to: bool,
}

/// A verdict that has to leave.
#[derive(Clone, Debug)]
pub(super) struct Owed {
    pub(super) since: Duration,
    pub(super) answers_left: u64,
    pub(super) jti: Jti,
}

/// A SET that waits for its verdict: when it came, and how many objects had left for its sender by then.
#[derive(Clone, Debug)]
pub(super) struct Awaited {
    pub(super) came_at: Duration,
    pub(super) answers_left: u64,
    pub(super) jti: Jti,
}

/// What the rows of a lane must come to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Totals {
    pub(super) queued: u64,
    pub(super) acked: u64,
    pub(super) refused: u64,
    pub(super) dead: u64,
    pub(super) dead_letters: u64,
    pub(super) received: u64,
    pub(super) rejected: u64,
    /// Jtis that have ended, however often.
    pub(super) ended: u64,
    /// Jtis that were answered.
    pub(super) answered: u64,
    /// Received and not confirmed.
    pub(super) unconfirmed: u64,
}

/// One jti at both ends of a lane.
#[derive(Debug, Default)]
pub(super) struct Track {
    pub(super) sent: Sent,
    pub(super) got: Got,
    /// The last look at a disk that has met it: by table.
    pub(super) seen: [u64; 6],
}

/// One content that the application asked to send under a jti.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) digest: Digest,
    /// When it was first asked for: its age counts from when the engine took it, which may be long before a full disk does.
    pub(super) at: Duration,
    /// Calls without an answer.
    pub(super) open: u32,
    /// A call returned `Ok`.
    pub(super) accepted: bool,
    /// A call got no answer that says so: it may have been taken or not.
    pub(super) unknown: bool,
}

/// Where a SET stands at its sender, by what is durable there.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Standing {
    /// Not on disk, and never was.
    #[default]
    Absent,
    Queued,
    Acked,
    Refused,
    Dead,
    /// The operator resends it: its row has to be queued by the same commit.
    Lifted,
    /// The operator discarded or reissued it; how it had ended.
    Closed(End),
}

/// How a dead letter had ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    Refused,
    Dead,
}

impl Standing {
    /// It has ended, whatever an operator did with it then.
    pub(super) fn has_ended(self) -> bool {
        matches!(self, Self::Acked | Self::Refused | Self::Dead | Self::Closed(_))
    }

    /// A row holds its token.
    pub(super) fn has_row(self) -> bool {
        matches!(self, Self::Queued | Self::Refused | Self::Dead)
    }

    /// As the memory of a store calls it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Queued => "queued",
            Self::Lifted => "lifted",
            Self::Acked => "acked",
            Self::Refused | Self::Closed(End::Refused) => "refused",
            Self::Dead | Self::Closed(End::Dead) => "dead",
        }
    }
}

/// The sender's half.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) asked: Vec<Asked>,
    /// The calls in which it was asked for, by their place in the lane.
    pub(super) calls: Vec<usize>,
    pub(super) standing: Standing,
    /// Of the token that is stored.
    pub(super) digest: Option<Digest>,
    pub(super) seq: u64,
    /// When its present series was queued, and in which life of the process.
    pub(super) since: Duration,
    pub(super) life: u32,
    /// When it ended.
    pub(super) ended_at: Duration,
    /// Transmissions of the present series; the first of them; those a while after healing.
    pub(super) times: u32,
    pub(super) first_at: Duration,
    pub(super) times_healed: u32,
    /// When the first of those left.
    pub(super) healed_at: Duration,
    /// When it first left, in whatever series.
    pub(super) left_at: Option<Duration>,
    /// Its last transmission: when, by which link, in which life.
    pub(super) last: Option<(Duration, u64, u32)>,
    /// When a verdict came about it while it was under way, and in which life.
    pub(super) told: Option<(Duration, u32)>,
    /// The partner's verdicts about it, and when each last came.
    pub(super) acked_at: Option<Duration>,
    pub(super) refused_at: Vec<(String, Duration)>,
    /// The highest number of attempts that is written.
    pub(super) attempts: u32,
    /// What operators have asked to be done with it.
    pub(super) asked_for: Vec<&'static str>,
    /// When the last act was asked for: a new series counts from then.
    pub(super) redriving_at: Option<Duration>,
    /// Its row was damaged, in which life.
    pub(super) damaged: Option<u32>,
}

impl Sent {
    /// Of this content.
    pub(super) fn asked(&mut self, digest: Digest) -> Option<&mut Asked> {
        self.asked.iter_mut().find(|asked| asked.digest == digest)
    }

    /// `send` has returned `Ok` for it.
    pub(super) fn is_accepted(&self) -> bool {
        self.asked.iter().any(|asked| asked.accepted)
    }
}

/// What the receiver has decided, durably.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Decision {
    /// A row of the inbox.
    Received,
    /// Acknowledged without handing it over.
    Noted,
    /// With this code.
    Refused(&'static str),
}

impl Decision {
    pub(super) fn is_ack(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }
}

/// The receiver's half.
#[derive(Debug, Default)]
pub(super) struct Got {
    /// What came under this name: each content once, with what is true of it.
    pub(super) came: Vec<(Digest, Truth)>,
    pub(super) decision: Option<Decision>,
    pub(super) digest: Digest,
    pub(super) decided_at: Duration,
    /// Handed over as new, or at all.
    pub(super) handed_new: bool,
    pub(super) handed: bool,
    pub(super) confirmed_at: Option<Duration>,
    /// A copy came, or a verdict was decided, and no verdict has left since.
    pub(super) owed_since: Option<Duration>,
    /// A verdict has left.
    pub(super) answered: bool,
    /// When its row was damaged.
    pub(super) damaged_at: Option<Duration>,
}

impl Got {
    /// This content came, and this is true of it.
    pub(super) fn has(&self, digest: Digest, fits: impl Fn(Truth) -> bool) -> bool {
        self.came.iter().any(|(came, truth)| *came == digest && fits(*truth))
    }
}

/// All lanes, by sender and receiver.
pub(super) type Lanes = BTreeMap<(Org, Org), Lane>;

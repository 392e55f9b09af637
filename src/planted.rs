//! Mistakes planted on purpose, one at a time, to prove that the simulation finds what it is there to find. Without the
//! feature `planted-bugs` nothing of them is in a build: `is` is the constant `false`.

#[cfg(feature = "planted-bugs")]
use std::cell::Cell;
#[cfg(feature = "planted-bugs")]
use std::sync::LazyLock;

// A hunt wants what is optimised for a release, and shares its dependencies; but nobody gets the mistakes by mistake.
#[cfg(all(feature = "planted-bugs", not(debug_assertions)))]
const _: () = assert!(
    option_env!("PUSHPULL_HUNT").is_some(),
    "planted-bugs is never part of a release: a hunt with optimised code needs `--config examples/hunt/release.toml`"
);

/// Whether this mistake is made here and now: `if planted::is(Bug::…)` stands wherever one could have been made.
#[cfg(not(feature = "planted-bugs"))]
#[inline]
pub const fn is(_bug: Bug) -> bool {
    false
}

/// Whether this mistake is made here and now: in this thread, by [`plant`], or in the whole process, by the environment
/// variable `PUSHPULL_PLANTED_BUG`.
#[cfg(feature = "planted-bugs")]
pub fn is(bug: Bug) -> bool {
    PLANTED.get().or(*EVERYWHERE) == Some(bug)
}

/// From now on this mistake is made in this thread, and no other.
#[cfg(feature = "planted-bugs")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

#[cfg(feature = "planted-bugs")]
thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// For daemons, which have many threads.
#[cfg(feature = "planted-bugs")]
static EVERYWHERE: LazyLock<Option<Bug>> = LazyLock::new(|| {
    let name = std::env::var("PUSHPULL_PLANTED_BUG").ok()?;
    let bug = Bug::named(&name);
    assert!(bug.is_some(), "PUSHPULL_PLANTED_BUG: there is no bug {name:?}");
    bug
});

macro_rules! bugs {
    ($($(#[doc = $what:literal])+ $bug:ident = $number:literal,)+) => {
        /// A mistake that somebody could have made. Those up to 30 are the ones that every implementation of reliable
        /// delivery has made at some time, by their customary numbers (19, a lease without fencing, needs leases, which
        /// we do not have); the others are our own.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Bug {
            $($(#[doc = $what])+ $bug = $number,)+
        }

        #[cfg(feature = "planted-bugs")]
        impl Bug {
            /// All of them, by number.
            pub const ALL: &[Self] = &[$(Self::$bug),+];

            /// What goes wrong.
            pub fn what(self) -> &'static str {
                match self {
                    $(Self::$bug => concat!($($what),+).trim(),)+
                }
            }

            /// Its name in the code.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$bug => stringify!($bug),)+
                }
            }

            /// The bug of this name.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|bug| bug.name() == name)
            }
        }
    };
}

bugs! {
    /// An ack leaves before the commit that it rests on.
    AckBeforeCommit = 1,
    /// A commit is answered before it is synced.
    AckBeforeSync = 2,
    /// A received jti is known already if any partner sent it.
    DedupeWithoutPartner = 3,
    /// A verdict settles the SET of that jti, whichever partner it is for.
    SettleWithoutPartner = 4,
    /// The memory of received jtis ends with the process.
    DedupeInRamOnly = 5,
    /// A settled SET stays among those under way, and leaves again when its slot is lost.
    ResendAfterSettle = 6,
    /// A SET is refused although no keys newer than it could be fetched.
    RefuseOnKeyOutage = 7,
    /// A SET is refused because the disk is full.
    RefuseOnStoreError = 8,
    /// Queueing a SET counts as an attempt.
    AttemptCountedAtEnqueue = 9,
    /// The number of attempts is not written down.
    AttemptsNeverWritten = 10,
    /// A SET is given up by a wall clock that has jumped.
    DeadByWallClock = 11,
    /// Of two members of `sets` with one name the last one counts.
    LastMemberWins = 12,
    /// A SET that was answered before gets no answer.
    VerdictNotRepeated = 13,
    /// A SET that was answered before is judged anew.
    VerdictRecomputed = 14,
    /// A SET is taken under the name in `sets`, whatever its jti.
    NameUnchecked = 15,
    /// A refused SET is acknowledged as well.
    AckBesideError = 16,
    /// An object holds one SET more than its slot may carry.
    ResponseEventsOffByOne = 17,
    /// What a response carried counts as acknowledged once it is written.
    DeliveredIsAcked = 18,
    /// A key is withdrawn as soon as another one signs.
    OldKeyDropped = 20,
    /// A refused batch leaves again as it is.
    BatchNotBisected = 21,
    /// What can be read of a malformed object has effect.
    PartialEffects = 22,
    /// What is old is removed although it is unsettled.
    PurgeOfUnsettled = 23,
    /// A damaged row is passed over in silence.
    DamagedRowSkipped = 24,
    /// A retry is made into a new token.
    ResignedAtRetry = 25,
    /// After a crash, a SET that had been sent waits for a timer that nobody set.
    TimerLostInCrash = 26,
    /// A commit of unknown outcome is taken as failed: a repeated submission is accepted once more.
    UnknownCommitTakenAsFailed = 27,
    /// A SET is handed out again as if for the first time.
    RedeliveredFlagMissing = 28,
    /// What was under way on a lost WebSocket is not queued again.
    InFlightNotReturned = 29,
    /// A verdict settles a SET that was never sent.
    SettleOfUnsent = 30,
    /// Verdicts that left by a lost slot are not owed again.
    LostVerdictsForgotten = 31,
    /// A lost exchange sets the number of attempts to nothing.
    AttemptsReset = 32,
    /// A paused peer gets SETs all the same.
    PausedPeerSends = 33,
    /// Tokens that are read for retries are given out in the order asked for, not by number.
    TokensMixedUp = 34,
    /// A confirmation returns before it is durable.
    ConfirmBeforeDurable = 35,
    /// A SET that found the inbox full is acknowledged.
    AckWithInboxFull = 36,
    /// The window does not shrink again when a SET leaves it.
    WindowLeak = 37,
    /// A partner's `Retry-After` is believed, however long.
    RetryAfterForEver = 38,
    /// Of a batch that is bisected one half is forgotten.
    HalfForgotten = 39,
    /// Nobody wakes the core for retries.
    WakeLost = 40,
    /// A known jti with other content is accepted for sending.
    ConflictAccepted = 41,
    /// A SET that could not be judged is acknowledged.
    UndecidableAcked = 42,
    /// An ack is noted in memory alone.
    AckNotWritten = 43,
    /// A clock that has jumped refuses SETs for their age.
    RefuseBySuspectClock = 44,
    /// Two copies of a new SET in one step are judged each for itself.
    StepForgetsItsVerdicts = 45,
    /// Reading the backlog goes on behind its end, whatever was left out.
    BacklogSkipped = 46,
    /// An object grows beyond the bytes of its slot.
    BytesUnbounded = 47,
    /// A SET for another audience is taken.
    AudienceUnchecked = 48,
    /// A dead letter that the partner has refused is sent again under its jti.
    RefusedIsResent = 49,
    /// A transmission counts as an attempt although its link was dead.
    DeadLinkCounts = 50,
    /// A verdict that comes after its ack wait is not heard.
    LateVerdictIgnored = 51,
    /// An operator who asks twice at once for a dead letter to be sent queues it twice.
    RedrivenTwice = 52,
    /// The store tries a failed sync again and believes it.
    SyncRetried = 53,
    /// The store answers a commit as done that found the disk full.
    FullSwallowed = 54,
    /// The store recovers torn transactions as far as they go.
    TornTaken = 55,
    /// The store does not notice that a repeated commit had happened before.
    CommitRepeated = 56,
    /// The store keeps no number of attempts.
    StoreForgetsAttempts = 57,
    /// The store marks nothing as redelivered.
    StoreForgetsHandOuts = 58,
    /// A clock is believed when the process starts, whenever it was last believed.
    ClockBelievedAtStart = 59,
    /// As many SETs are read and sent as there are, and no more wait on disk alone.
    WindowIgnored = 60,
    /// A verdict that came too late for its push is owed, though nobody will ever ask for it.
    UnheardIsOwed = 61,
}

#[cfg(all(test, feature = "planted-bugs"))]
mod tests {
    use super::*;

    #[test]
    fn a_planted_bug_is_there_in_its_own_thread_until_it_is_taken_out() {
        plant(Some(Bug::WakeLost));
        assert!(is(Bug::WakeLost) && !is(Bug::WindowLeak));
        assert!(!std::thread::spawn(|| is(Bug::WakeLost)).join().unwrap());
        plant(None);
        assert!(!Bug::ALL.iter().any(|bug| is(*bug)));
    }

    #[test]
    fn bugs_are_found_by_their_names() {
        assert!(Bug::ALL.iter().all(|bug| Bug::named(bug.name()) == Some(*bug)));
        assert_eq!(Bug::named("Nobody"), None);
    }
}

/// A build without the feature can make none of them: this is decided when it is compiled.
#[cfg(all(test, not(feature = "planted-bugs")))]
mod tests {
    use super::*;

    const _: () = assert!(!is(Bug::AckBeforeCommit));

    #[test]
    fn without_the_feature_there_is_no_bug_to_switch_on() {
        assert!(!is(Bug::AckBeforeCommit));
    }
}

//! What the judge measures by: the configuration of the organisations, and what is granted to the federation as a whole.

use std::time::Duration;

use pushpull::peer;

/// The configuration of one organisation, as far as promises depend on it.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The core's.
    pub peer: peer::Config,
    /// Received rows that are kept and not confirmed.
    pub inbox_max: u64,
    /// The receiver's actors look at the inbox one by one, so each of the others may add what it has in one step.
    /// Not bounded by what they did add lately: room made by a confirmation shows in the store before the application has told
    /// of it.
    pub inbox_slack: u64,
    /// How much faster than the federation's its monotonic clock may run.
    pub clock_rate_max: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { peer: peer::Config::default(), inbox_max: 10_000_000, inbox_slack: 0, clock_rate_max: 1.0 }
    }
}

impl Limits {
    /// The shortest time in which so many attempts can be made: between two transmissions lies at least half of the pause,
    /// which doubles from the first on.
    pub(super) fn attempts_take(&self, attempts: u32) -> Duration {
        let pause = |tries: u32| {
            let pause = self.peer.retry_first.saturating_mul(1 << (tries - 1).min(20));
            pause.min(self.peer.retry_max) / 2
        };
        let sum = (1..attempts.clamp(1, 10_000)).map(pause).fold(Duration::ZERO, Duration::saturating_add);
        sum.div_f64(self.clock_rate_max.max(1.0))
    }

    /// As much of this time as an organisation's own clock may make of it.
    pub(super) fn at_least(&self, time: Duration) -> Duration {
        time.div_f64(self.clock_rate_max.max(1.0))
    }
}

/// What is granted to the federation as a whole.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// L1: from healing (or acceptance, if later) to the end of a SET. Attempts × longest pause + 2 × ping.
    pub settle_within: Duration,
    /// L2: from the arrival of a SET after healing to its verdict; how long a link takes to come about is part of it.
    pub answer_within: Duration,
    /// How long it may take to find out that a key is unknown: what limits the fetches of a partner's keys.
    pub decide_within: Duration,
    /// I3: from a verdict's arrival to the end of its SET; the object that brought it may have to wait for keys.
    pub verdict_within: Duration,
    /// A sign of life on a link is known to the core at once: no disk and no process stands still meanwhile.
    pub links_are_heard_at_once: bool,
    /// How long after healing a link may still be half-open: twice the ping.
    pub links_whole_within: Duration,
    /// How long after healing a clock that was set right may still be suspect: so long a SET may have no verdict (R7).
    pub clocks_believed_within: Duration,
    /// For how long a partner may ask not to be spoken to (`Retry-After`).
    pub asked_for: Duration,
    /// I10: a copy of a SET that has a verdict may wait for so long and so many objects, while objects leave.
    pub repeat_within: Duration,
    pub repeat_objects: u64,
    /// L6: objects with nothing in them, by each organisation to each partner in a minute after healing.
    pub empty_objects_per_minute: u64,
    /// How long answered and settled jtis are remembered at least.
    pub memory: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            settle_within: Duration::from_secs(3600),
            answer_within: Duration::from_secs(60),
            decide_within: Duration::from_secs(70),
            verdict_within: Duration::from_secs(120),
            links_are_heard_at_once: true,
            links_whole_within: Duration::from_secs(60),
            clocks_believed_within: Duration::ZERO,
            asked_for: Duration::ZERO,
            repeat_within: Duration::from_secs(120),
            repeat_objects: 64,
            empty_objects_per_minute: 60,
            memory: Duration::from_secs(30 * 86_400),
        }
    }
}

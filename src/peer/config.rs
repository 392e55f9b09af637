//! The limits and intervals of one conversation, and when to change them.

use std::time::Duration;

/// Configuration of a [`super::Peer`]; the `[delivery]` section of the file and what follows from it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// SETs sent and not yet answered (default 4096). Raise it when commits are slow or the line is long: a SET stays
    /// in the window for one round trip and two commits.
    pub window: usize,
    /// The same in bytes of tokens (default 16 MiB): bounds the core's memory.
    pub window_bytes: usize,
    /// First pause before a SET is sent again (default 1 s), and the shortest time granted for an answer.
    pub retry_first: Duration,
    /// Longest pause between two attempts (default 5 min).
    pub retry_max: Duration,
    /// Attempts after which a SET may be given up (default 20). A link that is down uses up none.
    pub attempts_max: u32,
    /// Time after which a SET may be given up (default 72 h). Both must be exceeded.
    pub give_up_after: Duration,
    /// Unsettled for longer, a SET becomes a dead letter in any case (default 14 d).
    pub age_max: Duration,
    /// SETs that wait on disk for this peer (default 20,000,000); `send` fails beyond.
    pub outbox_max: u64,
    /// Verdicts waiting for a way out (default 65,536). Beyond, received SETs are neither stored nor answered.
    pub owed_max: usize,
    /// Refusals, and acks of verification events, written per second and peer, on average (default 100; ten seconds' worth may
    /// come at once). What is beyond it gets no verdict, so that it cannot fill the disk.
    pub refusals_per_second: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            window: 4096,
            window_bytes: 16 << 20,
            retry_first: Duration::from_secs(1),
            retry_max: Duration::from_secs(300),
            attempts_max: 20,
            give_up_after: Duration::from_secs(72 * 3600),
            age_max: Duration::from_secs(14 * 86_400),
            outbox_max: 20_000_000,
            owed_max: 65_536,
            refusals_per_second: 100,
        }
    }
}

//! What exchanges with a partner have taught: how soon to try again, and how many SETs to ask for.

use std::time::Duration;

use super::wanted::Wanted;
use crate::wire::net::Backoff;

/// How one exchange went.
#[derive(Debug)]
pub enum Exchange {
    /// It went well.
    Done,
    /// The partner minds what was sent, or fails at it time and again, and it does not leave again in parts.
    Rejected {
        /// What it says.
        why: String,
        /// The partner's `Retry-After`, where it is not for the one SET alone that was refused.
        retry_after: Duration,
    },
    /// The partner minds a batch of several SETs, or fails at it time and again; they leave again in parts, soon.
    Parted {
        /// What it says.
        why: String,
        /// The partner's `Retry-After`.
        retry_after: Duration,
    },
    /// The answer to a request for so many SETs was too large; ask for fewer.
    Oversized {
        /// What is too large.
        why: String,
        /// What was asked for.
        asked: u64,
        /// The partner's `Retry-After`.
        retry_after: Duration,
    },
    /// Try again after a pause.
    Failed {
        /// What went wrong.
        why: String,
        /// The partner's `Retry-After`.
        retry_after: Duration,
    },
    /// The partner has answered and there was no actor any more to be told of it, as when the daemon stops: nothing is known
    /// of what it carried, and nothing is wrong with the partner.
    Untold,
}

/// Outlives a change from HTTP to attempts at a WebSocket and back: else each change would begin with short pauses again,
/// and a partner that is down be dialled too often; and with an answer again that is known to be too large.
#[derive(Debug)]
pub struct Experience {
    /// Pauses after exchanges that failed.
    failures: Backoff,
    /// Whether the last exchange failed.
    last_failed: bool,
    /// No exchange begins sooner, by the monotonic clock. It counts on while WebSockets come and go: one that opens and is
    /// cut again and again would else begin the pause anew each time, and nothing would ever go over HTTP.
    not_before: Duration,
    /// Pauses after exchanges that were in vain although the partner is there.
    rejections: Backoff,
    /// Pauses between the parts of a batch that was refused. They stay short however many are refused in a row: a batch has
    /// only so many halves, and all that waits behind them is good but for the SET that is looked for.
    partings: Backoff,
    wanted: Wanted,
}

impl Experience {
    /// None yet. `sets_max` is as many as we take at once.
    pub fn new(seed: u64, sets_max: usize) -> Self {
        Self {
            failures: Backoff::new(Duration::from_millis(500), Duration::from_secs(60), seed),
            last_failed: false,
            not_before: Duration::ZERO,
            rejections: Backoff::new(Duration::from_millis(20), Duration::from_secs(60), seed),
            partings: Backoff::new(Duration::from_millis(20), Duration::from_millis(100), seed),
            wanted: Wanted::new(sets_max),
        }
    }

    /// The partner is there.
    pub fn reset(&mut self) {
        self.failures.reset();
        self.last_failed = false;
        self.not_before = Duration::ZERO;
    }

    /// Whether the last exchange failed.
    pub fn last_failed(&self) -> bool {
        self.last_failed
    }

    /// An operator wants to know now: the next exchange begins at once. If it fails the pauses go on growing from where they were.
    pub(super) fn hurry(&mut self) {
        self.not_before = Duration::ZERO;
    }

    /// How many SETs to ask for at this time of the monotonic clock.
    pub fn ask(&mut self, at: Duration) -> u64 {
        self.wanted.ask(at)
    }

    /// What is left of the pause at this time of the monotonic clock.
    pub fn pause(&self, at: Duration) -> Option<Duration> {
        self.not_before.checked_sub(at).filter(|pause| !pause.is_zero())
    }

    /// Learns from an exchange that was under way when another one failed: it adds nothing but the patience it asks for.
    /// Many at once that meet a partner which is down would else be taken for as many failures in a row.
    pub(super) fn confirm(&mut self, exchange: &Exchange, at: Duration) {
        if let Exchange::Failed { retry_after, .. }
        | Exchange::Oversized { retry_after, .. }
        | Exchange::Parted { retry_after, .. }
        | Exchange::Rejected { retry_after, .. } = exchange
        {
            self.not_before = self.not_before.max(at + *retry_after);
        }
    }

    /// Learns from an exchange that ended at this time of the monotonic clock: the pause before the next.
    pub fn learn(&mut self, exchange: &Exchange, at: Duration) -> Option<Duration> {
        if let Exchange::Oversized { asked, .. } = exchange {
            self.wanted.too_large(at, usize::try_from(*asked).unwrap_or(usize::MAX));
        }
        let pause = match exchange {
            Exchange::Untold => return self.pause(at),
            Exchange::Done => {
                self.reset();
                self.rejections.reset();
                self.partings.reset();
                return None;
            }
            // One SET that is too large alone is for an operator to allow, and no reason to hurry.
            Exchange::Oversized { asked: ..=1, retry_after, .. } | Exchange::Failed { retry_after, .. } => {
                self.last_failed = true;
                self.failures.pause().max(*retry_after)
            }
            Exchange::Rejected { retry_after, .. } => self.rejections.pause().max(*retry_after),
            Exchange::Parted { retry_after, .. } => self.partings.pause().max(*retry_after),
            Exchange::Oversized { .. } => self.rejections.pause(),
        };
        self.not_before = self.not_before.max(at + pause);
        self.pause(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Duration = Duration::from_secs(1);

    fn failed() -> Exchange {
        Exchange::Failed { why: String::new(), retry_after: Duration::ZERO }
    }

    fn oversized(asked: u64, retry_after: Duration) -> Exchange {
        Exchange::Oversized { why: String::new(), asked, retry_after }
    }

    #[test]
    fn pauses_after_failures_grow_and_end_with_success() {
        for seed in 0..100 {
            let (mut experience, mut at) = (Experience::new(seed, 100), AT);
            assert_eq!(experience.pause(at), None, "there is nothing to wait for yet");
            for failure in 0..12 {
                let pause = experience.learn(&failed(), at).expect("a pause");
                assert!(pause >= Duration::from_millis(if failure < 10 { 500 } else { 4_000 }), "{experience:?}");
                at += pause;
                assert_eq!(experience.pause(at), None, "it is over");
            }
            assert_eq!(experience.learn(&Exchange::Done, at), None);
            assert_eq!(experience.pause(at), None);
            assert!(experience.learn(&failed(), at) <= Some(Duration::from_millis(1500)));
        }
    }

    #[test]
    fn a_pause_goes_on_while_websockets_come_and_go() {
        let rejected = Exchange::Rejected { why: String::new(), retry_after: Duration::ZERO };
        for exchange in [failed(), rejected, oversized(1, Duration::from_secs(60))] {
            let mut experience = Experience::new(1, 100);
            let pause = experience.learn(&exchange, AT).expect("a pause");
            assert_eq!(experience.pause(AT), Some(pause));
            assert_eq!(
                experience.pause(AT + pause / 4),
                Some(pause - pause / 4),
                "each series waits for the rest of it"
            );
            assert_eq!(experience.pause(AT + pause), None);
            assert_eq!(experience.pause(AT + pause * 2), None);
            experience.reset();
            assert_eq!(experience.pause(AT), None, "a WebSocket that lasted shows that the partner is there");
        }
    }

    #[test]
    fn what_an_exchange_came_to_that_a_websocket_overtook_counts_from_its_end() {
        let (mut experience, patience) = (Experience::new(1, 100), Duration::from_secs(600));
        let exchange = Exchange::Failed { why: String::new(), retry_after: patience };
        experience.learn(&exchange, AT);
        assert_eq!(experience.pause(AT + patience / 3), Some(patience - patience / 3));
        assert_eq!(experience.pause(AT + patience * 100), None, "it was learned of days later");
    }

    #[test]
    fn the_parts_of_a_batch_follow_each_other_soon_and_what_is_refused_alone_does_not() {
        let parted = Exchange::Parted { why: String::new(), retry_after: Duration::ZERO };
        let rejected = Exchange::Rejected { why: String::new(), retry_after: Duration::ZERO };
        for seed in 0..100 {
            let (mut experience, mut at) = (Experience::new(seed, 100), AT);
            // As of a batch of a thousand whose first SET is minded: each first half is refused.
            for _ in 0..10 {
                at += experience.learn(&parted, at).expect("a pause");
            }
            assert!(at - AT <= Duration::from_secs(1), "seed {seed}: it took {:?}", at - AT);
            assert!(at - AT >= Duration::from_millis(200), "seed {seed}: it took {:?}", at - AT);
            // A partner that refuses everything is not hurried for ever.
            let pauses: Vec<_> = (0..40).filter_map(|_| experience.learn(&rejected, at)).collect();
            assert!(pauses[20..].iter().all(|pause| *pause >= Duration::from_secs(1)), "seed {seed}: {pauses:?}");
        }
        let patience = Duration::from_secs(600);
        let asked = Exchange::Parted { why: String::new(), retry_after: patience };
        assert_eq!(Experience::new(1, 100).learn(&asked, AT), Some(patience), "as the partner asks for");
    }

    #[test]
    fn after_an_answer_that_is_too_large_fewer_are_asked_for_soon() {
        let mut experience = Experience::new(1, 8);
        for asked in [8, 4, 2] {
            assert_eq!(experience.ask(AT), asked);
            let pause = experience.learn(&oversized(asked, Duration::ZERO), AT);
            assert!(pause > Some(Duration::ZERO) && pause < Some(Duration::from_millis(500)), "{pause:?}");
            assert!(!experience.last_failed(), "the partner is there");
        }
    }

    #[test]
    fn one_set_that_is_too_large_alone_is_asked_for_as_seldom_as_a_partner_that_is_down() {
        let mut experience = Experience::new(1, 1);
        let pauses: Vec<_> = (0..30).filter_map(|_| experience.learn(&oversized(1, Duration::ZERO), AT)).collect();
        assert!(pauses[0] >= Duration::from_millis(500) && pauses[20..].iter().all(|pause| pause.as_secs() >= 20));
        assert_eq!(experience.ask(AT), 1);
        let patience = Duration::from_secs(600);
        assert!(experience.learn(&oversized(1, patience), AT) >= Some(patience), "as the partner asks for");
    }
}

//! One run's faults of the network, drawn from its seed.

use std::time::Duration;

use super::air::{Air, Door, Kind, Strike, Way};
use crate::plan::Random;

/// One fault for a while.
pub(super) struct Episode {
    pub(super) kind: Kind,
    /// Before alpha, and before beta.
    pub(super) airs: [Air; 2],
    /// At the beginning, and again until it meets something.
    pub(super) strike: Option<Strike>,
    pub(super) lasting: Duration,
    /// What is half-open at its end is reset by the middle, and has not to be found by those who wait for an answer.
    pub(super) forget: bool,
}

/// How long a half-open WebSocket may stay undiscovered: two ping intervals, and what the end of a connection may take on
/// a busy machine. Three intervals would be too long.
pub(super) fn found_within() -> Duration {
    2 * PING_INTERVAL + Duration::from_millis(1_500)
}

/// The daemons' ping interval in these runs.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(2);

/// Draws episodes: every kind comes once before any comes again.
pub(super) fn draw(count: usize, longest: Duration, plaintext: bool, random: &mut Random) -> Vec<Episode> {
    let mut deck = Vec::new();
    let mut episodes = Vec::new();
    while episodes.len() < count {
        if deck.is_empty() {
            // What a mangler cannot read it cannot repeat.
            deck.extend(Kind::ALL.into_iter().filter(|kind| plaintext || *kind != Kind::Repeated));
        }
        let kind = deck.swap_remove(random.below(deck.len() as u64) as usize);
        episodes.push(episode(kind, longest, random));
    }
    episodes
}

fn episode(kind: Kind, longest: Duration, random: &mut Random) -> Episode {
    let lasting = longest.mul_f64(0.4 + 0.6 * random.fraction());
    let mut airs = [Air::default(); 2];
    for air in &mut airs {
        fill(air, kind, random);
        // Seldom alone.
        if random.chance(0.3) {
            let others = [Kind::Late, Kind::Chopped, Kind::Narrow];
            fill(air, others[random.below(3) as usize], random);
        }
    }
    let strike = match kind {
        Kind::Reset | Kind::Refused | Kind::Slammed => Some(Strike::Reset),
        Kind::HalfOpen => {
            let ways = [[true, false], [false, true], [true, true]][random.below(3) as usize];
            Some(Strike::HalfOpen { ways, within: found_within(), sockets_alone: false })
        }
        _ => None,
    };
    // An exchange may wait for its answer for half a minute: only in long runs.
    let forget = longest < Duration::from_secs(5) || random.chance(0.5);
    Episode { kind, airs, strike, lasting, forget }
}

fn fill(air: &mut Air, kind: Kind, random: &mut Random) {
    // One way, or both.
    let ways = [[true, false], [false, true], [true, true]][random.below(3) as usize];
    let millis = |random: &mut Random, from: u64, to: u64| Duration::from_millis(from + random.below(to - from));
    match kind {
        Kind::Truncated => air.truncate = 0.05 + 0.3 * random.fraction(),
        Kind::Repeated => air.repeat = 0.3 + 0.7 * random.fraction(),
        Kind::Refused => air.door = Door::Shut,
        Kind::Slammed => air.door = Door::Slammed,
        Kind::Reset | Kind::HalfOpen => {}
        Kind::Late | Kind::Narrow | Kind::Chopped | Kind::Dribbled | Kind::Stalled => {
            for (way, _) in air.ways.iter_mut().zip(ways).filter(|(_, chosen)| *chosen) {
                let piece = 1 + random.below(200) as usize;
                *way = match kind {
                    Kind::Late => Way { delay: millis(random, 5, 300), jitter: millis(random, 1, 200), ..*way },
                    Kind::Narrow => Way { bytes_per_second: (48 << 10) + random.below(200 << 10), ..*way },
                    Kind::Chopped => Way { piece: 10 * piece, ..*way },
                    Kind::Dribbled => Way { piece, pause: millis(random, 1, 10), ..*way },
                    _ => Way { stalled: true, ..*way },
                };
            }
        }
    }
}

//! The SETs under way: when each began, how long it took, and every jti written down for the accounts.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasherDefault, Hasher};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::load::lock;
use crate::cli::Error;
use crate::peer::Outcome;
use crate::set::Jti;

/// A jti as a number; ours are UUIDs.
pub(super) type Key = u128;

/// The number of this jti.
pub(super) fn key(jti: &Jti) -> Key {
    uuid::Uuid::try_parse(jti.as_str()).map_or(0, |uuid| uuid.as_u128())
}

/// The accounts of one side as a sender. What begins is noted as it comes, by hundreds of callers, and looked up only when
/// others have ended, which happens by hundreds at a time: so callers hold no lock for longer than a line takes.
pub(super) struct Flights {
    begun: Mutex<Begun>,
    ended: Mutex<Ended>,
}

struct Begun {
    sent: BufWriter<File>,
    count: u64,
    /// Not yet among those under way.
    new: Vec<(Key, Instant)>,
}

struct Ended {
    /// When it began; or that it ended before we had its jti.
    under_way: HashMap<Key, Flight, BuildHasherDefault<Mixed>>,
    latency: Histogram<u64>,
    acked: BufWriter<File>,
    count: u64,
    unacked: u64,
    /// Empty: the room for those that begin next.
    spare: Vec<(Key, Instant)>,
}

#[derive(Clone, Copy)]
enum Flight {
    Begun(Instant),
    Ended(Instant),
}

/// How many there were.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Counts {
    pub(super) sent: u64,
    pub(super) acked: u64,
    /// Refused or given up.
    pub(super) unacked: u64,
}

impl Counts {
    pub(super) fn settled(self) -> u64 {
        self.acked + self.unacked
    }
}

impl Flights {
    /// Writes `sent.jtis` and `acked.jtis` into this folder, or goes on with them.
    pub(super) fn new(folder: &Path) -> Result<Self, Error> {
        let (sent, acked) = (list(&folder.join("sent.jtis"))?, list(&folder.join("acked.jtis"))?);
        let (under_way, latency) = (HashMap::default(), histogram());
        Ok(Self {
            begun: Mutex::new(Begun { sent, count: 0, new: Vec::new() }),
            ended: Mutex::new(Ended { under_way, latency, acked, count: 0, unacked: 0, spare: Vec::new() }),
        })
    }

    /// It has been accepted; `send` was called then, or should have been.
    pub(super) fn accepted(&self, jti: &Jti, begun: Instant) -> io::Result<()> {
        let key = key(jti);
        let mut accounts = lock(&self.begun);
        accounts.count += 1;
        accounts.new.push((key, begun));
        accounts.sent.write_all(&key.to_le_bytes())
    }

    /// These were queued beforehand: their time is not taken.
    pub(super) fn queued(&self, jtis: &[Jti]) -> io::Result<()> {
        let mut accounts = lock(&self.begun);
        accounts.count += jtis.len() as u64;
        jtis.iter().try_for_each(|jti| accounts.sent.write_all(&key(jti).to_le_bytes()))
    }

    /// These have ended. Without `timed` only those are looked for whose beginning is known already: a backlog's is not.
    pub(super) fn settled(&self, settled: &[(Jti, Outcome)], now: Instant, timed: bool) -> io::Result<()> {
        let mut accounts = self.ended();
        for (jti, outcome) in settled {
            let key = key(jti);
            if matches!(outcome, Outcome::Acked) {
                accounts.count += 1;
                accounts.acked.write_all(&key.to_le_bytes())?;
            } else {
                accounts.unacked += 1;
            }
            match accounts.under_way.remove(&key) {
                Some(Flight::Begun(begun)) => accounts.record(begun, now),
                _ if timed => drop(accounts.under_way.insert(key, Flight::Ended(now))),
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn counts(&self) -> Counts {
        let ended = lock(&self.ended);
        let (acked, unacked) = (ended.count, ended.unacked);
        Counts { sent: lock(&self.begun).count, acked, unacked }
    }

    /// Measures latency anew.
    pub(super) fn restart(&self) {
        self.ended().latency.reset();
    }

    /// The latency since then, in microseconds: values and how often.
    pub(super) fn latency(&self) -> Vec<(u64, u64)> {
        self.ended().latency.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        lock(&self.begun).sent.flush()?;
        lock(&self.ended).acked.flush()
    }

    /// The accounts of what has ended, with all that has begun.
    fn ended(&self) -> MutexGuard<'_, Ended> {
        let mut ended = lock(&self.ended);
        let spare = std::mem::take(&mut ended.spare);
        let mut new = std::mem::replace(&mut lock(&self.begun).new, spare);
        for (key, begun) in new.drain(..) {
            if let Some(Flight::Ended(at)) = ended.under_way.insert(key, Flight::Begun(begun)) {
                ended.under_way.remove(&key);
                ended.record(begun, at);
            }
        }
        ended.spare = new;
        ended
    }
}

impl Ended {
    fn record(&mut self, begun: Instant, ended: Instant) {
        let micros = ended.saturating_duration_since(begun).as_micros();
        self.latency.saturating_record(u64::try_from(micros).unwrap_or(u64::MAX).max(1));
    }
}

/// From a microsecond to ten minutes, in steps of a thousandth.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).unwrap_or_else(|_| unreachable!("the bounds are sound"))
}

/// A file to which jtis are added.
pub(super) fn list(path: &Path) -> Result<BufWriter<File>, Error> {
    let file = File::options().create(true).append(true).open(path);
    file.map(BufWriter::new).map_err(|error| Error::unwritable(path, &error))
}

/// For keys that are random already.
#[derive(Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, key: u128) {
        // The upper half of a UUID of version 7 is the time.
        self.0 = (key as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (key >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_end_that_is_heard_of_before_the_jti_counts_and_everything_is_written_down() {
        let folder = tempfile::tempdir().unwrap();
        let flights = Flights::new(folder.path()).unwrap();
        let begun = Instant::now();
        let (early, late, refused) = (Jti::new(), Jti::new(), Jti::new());
        let after = |ms| begun + Duration::from_millis(ms);
        flights.settled(&[(early.clone(), Outcome::Acked)], after(5), true).unwrap();
        flights.accepted(&early, begun).unwrap();
        flights.accepted(&late, begun).unwrap();
        flights.accepted(&refused, begun).unwrap();
        let error = crate::set::SetErr { err: "invalid_key".into(), description: String::new() };
        flights.settled(&[(late, Outcome::Acked), (refused, Outcome::Refused(error))], after(20), true).unwrap();
        assert_eq!(flights.counts(), Counts { sent: 3, acked: 2, unacked: 1 });
        let latency = flights.latency();
        assert_eq!(latency.iter().map(|(_, count)| count).sum::<u64>(), 3);
        assert!((4_990..5_010).contains(&latency[0].0) && latency[0].1 == 1, "{latency:?}");
        flights.flush().unwrap();
        assert_eq!(std::fs::metadata(folder.path().join("sent.jtis")).unwrap().len(), 3 * 16);
        assert_eq!(std::fs::metadata(folder.path().join("acked.jtis")).unwrap().len(), 2 * 16);
    }
}

//! Memory and open files of both daemons over time, and whether they grow.

use std::fmt;
use std::fs;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::process::Memory;
use crate::world::{Violation, World};

/// One look at one daemon.
#[derive(Clone, Copy)]
struct Sample {
    at: Duration,
    /// Which of its processes, by the kills before.
    life: usize,
    memory_kib: u64,
    files: usize,
    queued: u64,
}

pub(super) struct Samples {
    every: Duration,
    lasts: Duration,
    sides: [Vec<Sample>; 2],
}

/// A run begins with filling what is bounded: page caches, and the newest jtis, of which 131,072 are held until they are
/// written away, a cycle of five and a half minutes at the recorded rate. So its first third says nothing.
const WARM_PART: u32 = 3;
/// And neither do the first seconds of a process that was started anew.
const YOUNG: Duration = Duration::from_secs(20);
/// From the first half of what is warm to the second, the median may grow by so much: a tenth, or this many KiB.
const GROWTH_PART: u64 = 10;
const GROWTH_KIB: u64 = 8 << 10;
const GROWTH_FILES: usize = 4;
/// Without so many warm samples nothing can be judged; and a short run says nothing about memory, which fills up first.
const ENOUGH: usize = 8;
const LONG: Duration = Duration::from_secs(1_000);

impl Samples {
    pub(super) fn new(every: Duration, lasts: Duration) -> Self {
        Self { every, lasts, sides: Default::default() }
    }

    /// Looks at both again and again. Ends only with what is wrong.
    pub(super) async fn take(&mut self, world: &World, begun: Instant) -> Result<(), Violation> {
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for (side, samples) in world.sides.iter().zip(&mut self.sides) {
                // It may be dead at the moment.
                let Some(pid) = side.pid().await else { continue };
                let life = side.history().kills;
                let memory_kib = Memory::of(pid).now;
                let files = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
                let queued = tokio::time::timeout(Duration::from_secs(2), async {
                    let answer = side.client().get("/api/v1/peers").await.ok()?;
                    answer.json()["peers"][0]["queued"].as_u64()
                });
                let queued = queued.await.ok().flatten().unwrap_or(0);
                if memory_kib > 0 && files > 0 {
                    samples.push(Sample { at: begun.elapsed(), life, memory_kib, files, queued });
                }
            }
        }
    }

    /// How both went, of which one was killed again and again.
    pub(super) fn judge(&self, victim: usize) -> [Verdict; 2] {
        [0, 1].map(|side| Verdict::of(&self.sides[side], self.lasts / WARM_PART, side == victim))
    }
}

/// How a daemon went from the first half of its warm samples to the second.
pub(super) struct Verdict {
    samples: usize,
    /// Long enough for memory to be judged.
    long: bool,
    lives: usize,
    memory_kib: [u64; 2],
    /// By the median of the slopes between any two samples of the same process.
    kib_an_hour: f64,
    files: [usize; 2],
    /// The plateau of each life, when there are several: the median of its warm samples.
    plateaus: Vec<u64>,
}

impl Verdict {
    fn of(samples: &[Sample], warm_after: Duration, is_killed: bool) -> Self {
        let born = |life: usize| samples.iter().find(|sample| sample.life == life).map_or(Duration::ZERO, |one| one.at);
        let young = YOUNG.min(warm_after / 10);
        let is_warm = |sample: &Sample| sample.at >= warm_after && sample.at >= born(sample.life) + young;
        let warm: Vec<Sample> = samples.iter().copied().filter(is_warm).collect();
        let lives = samples.last().map_or(0, |sample| sample.life + 1);
        let (first, second) = warm.split_at(warm.len() / 2);
        let halves = [first, second];
        let plateau = |life: usize| {
            median(warm.iter().filter(|sample| sample.life == life).map(|sample| sample.memory_kib).collect())
        };
        let slopes = warm.iter().enumerate().flat_map(|(index, a)| {
            warm[index + 1..].iter().filter(|b| b.life == a.life || is_killed).map(|b| {
                let hours = (b.at - a.at).as_secs_f64() / 3600.0;
                (b.memory_kib as f64 - a.memory_kib as f64) / hours
            })
        });
        let mut slopes: Vec<f64> = slopes.collect();
        slopes.sort_unstable_by(f64::total_cmp);
        Self {
            samples: warm.len(),
            long: samples.last().is_some_and(|sample| sample.at >= LONG),
            lives,
            memory_kib: halves.map(|half| median(half.iter().map(|sample| sample.memory_kib).collect())),
            kib_an_hour: slopes.get(slopes.len() / 2).copied().unwrap_or(0.0),
            files: halves.map(|half| median(half.iter().map(|sample| sample.files).collect())),
            plateaus: if lives > 1 {
                (0..lives).map(plateau).filter(|plateau| *plateau > 0).collect()
            } else {
                Vec::new()
            },
        }
    }

    pub(super) fn grown(&self) -> Option<String> {
        if self.samples < ENOUGH {
            return None;
        }
        let [first, last] = self.memory_kib;
        if self.long && last > first + (first / GROWTH_PART).max(GROWTH_KIB) {
            return Some(format!("memory from {first} to {last} KiB"));
        }
        let [first, last] = self.files;
        (last > first + GROWTH_FILES).then(|| format!("open files from {first} to {last}"))
    }
}

fn median<T: Copy + Default + Ord>(mut values: Vec<T>) -> T {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, long, lives, memory_kib, kib_an_hour, files, plateaus } = self;
        let [first, last] = memory_kib;
        write!(
            f,
            "memory {first} KiB in the first half, {last} KiB in the second, open files {} and {}; {samples} warm samples of \
             {lives} processes",
            files[0], files[1]
        )?;
        if !plateaus.is_empty() {
            write!(f, "; their plateaus in KiB: {plateaus:?}")?;
        }
        match *long && *samples >= ENOUGH {
            true => write!(f, "; slope {kib_an_hour:+.0} KiB an hour")?,
            false => write!(f, "; too short to judge memory")?,
        }
        Ok(())
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  time (s)  alpha: life  KiB  files  queued    beta: life  KiB  files  queued")?;
        let cell = |sample: Option<&Sample>| match sample {
            Some(Sample { life, memory_kib, files, queued, .. }) => {
                format!("{life:>4} {memory_kib:>7} {files:>4} {queued:>7}")
            }
            None => "   dead".to_owned(),
        };
        let every = self.every.as_secs_f64();
        let slot = |sample: &Sample| (sample.at.as_secs_f64() / every).round() as u64;
        let last = self.sides.iter().flatten().map(slot).max().unwrap_or(0);
        for turn in 0..=last {
            let [alpha, beta] = [0, 1].map(|side| self.sides[side].iter().find(|sample| slot(sample) == turn));
            if alpha.is_some() || beta.is_some() {
                write!(f, "\n  {:>8.1}  {}    {}", turn as f64 * every, cell(alpha), cell(beta))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half an hour, looked at every ten seconds, of a process whose memory is this, in KiB, after so many seconds.
    fn half_an_hour(memory: impl Fn(u64) -> u64, files: impl Fn(u64) -> u64, lives_for: u64) -> Verdict {
        let lasts = Duration::from_secs(1_800);
        let samples = (0..180).map(|turn| turn * 10).map(|at| Sample {
            at: Duration::from_secs(at),
            life: (at / lives_for) as usize,
            memory_kib: memory(at),
            files: files(at) as usize,
            queued: 0,
        });
        Verdict::of(&samples.collect::<Vec<_>>(), lasts / WARM_PART, lives_for < 1_800)
    }

    #[test]
    fn what_fills_up_and_what_goes_up_and_down_has_not_grown() {
        let filling = |at: u64| 30_000 + 100 * at.min(400) + 40 * (at % 330);
        let verdict = half_an_hour(filling, |at| 22 + at / 10 % 3, 1_800);
        assert_eq!(verdict.grown(), None, "{verdict}");
        let young = |at: u64| 20_000 + 500 * (at % 60);
        assert_eq!(half_an_hour(young, |_| 22, 60).grown(), None);
    }

    #[test]
    fn a_leak_of_memory_or_of_files_is_found() {
        // A hundred bytes for each of four hundred SETs a second.
        let leak = half_an_hour(|at| 30_000 + 40 * at, |_| 22, 1_800);
        assert!(leak.grown().is_some_and(|grown| grown.starts_with("memory")), "{leak}");
        let leak = half_an_hour(|_| 30_000, |at| 22 + at / 100, 1_800);
        assert!(leak.grown().is_some_and(|grown| grown.starts_with("open files")), "{leak}");
        // What is on disk makes each process of a victim larger than the one before.
        let leak = half_an_hour(|at| 30_000 + 1_000 * (at / 60), |_| 22, 60);
        assert!(leak.grown().is_some(), "{leak}");
    }
}

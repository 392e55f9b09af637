//! The clocks of one pretend machine, which jump, run wrong or stand still; and the gauge that finds who spins.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pushpull::clock::{Clock, Timestamp, Wall, Watch};
use tokio::time::Instant;

use super::mint::BEGINNING;

/// The wall clock of a machine: survives its processes.
#[derive(Debug)]
pub struct WallClock {
    began: Instant,
    state: Mutex<Course>,
}

/// Since a moment of true time it shows so much, and runs at this rate.
#[derive(Clone, Copy, Debug)]
struct Course {
    since: Duration,
    shown: i64,
    rate: f64,
}

impl WallClock {
    pub fn new(began: Instant) -> Arc<Self> {
        let course = Course { since: Duration::ZERO, shown: truth(Duration::ZERO), rate: 1.0 };
        Arc::new(Self { began, state: Mutex::new(course) })
    }

    pub fn now(&self) -> Wall {
        let elapsed = self.began.elapsed();
        Wall(self.state.lock().unwrap_or_else(PoisonError::into_inner).at(elapsed).max(0) as u64)
    }

    /// It jumps by so many milliseconds.
    pub fn jump(&self, millis: i64) {
        self.change(|course| course.shown += millis);
    }

    /// From now on it runs at this rate; at none it stands still.
    pub fn run_at(&self, rate: f64) {
        self.change(|course| course.rate = rate);
    }

    /// It is set right, and runs right.
    pub fn set_right(&self) {
        let elapsed = self.began.elapsed();
        self.change(|course| (course.shown, course.rate) = (truth(elapsed), 1.0));
    }

    /// By how many milliseconds it is wrong.
    pub fn error(&self) -> i64 {
        let elapsed = self.began.elapsed();
        self.state.lock().unwrap_or_else(PoisonError::into_inner).at(elapsed) - truth(elapsed)
    }

    fn change(&self, change: impl FnOnce(&mut Course)) {
        let elapsed = self.began.elapsed();
        let mut course = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        course.shown = course.at(elapsed);
        course.since = elapsed;
        change(&mut course);
    }
}

impl Course {
    fn at(&self, elapsed: Duration) -> i64 {
        let since = elapsed.saturating_sub(self.since).as_millis() as f64;
        self.shown + (since * self.rate) as i64
    }
}

fn truth(elapsed: Duration) -> i64 {
    (BEGINNING * 1000) as i64 + elapsed.as_millis() as i64
}

/// The clocks as one process reads them.
pub struct ProcessClock {
    wall: Arc<WallClock>,
    started: Instant,
    watch: Mutex<Watch>,
    gauge: Arc<Gauge>,
}

impl ProcessClock {
    pub fn new(wall: Arc<WallClock>, gauge: Arc<Gauge>) -> Arc<Self> {
        let watch = Mutex::new(Watch::new(wall.now()));
        Arc::new(Self { wall, started: Instant::now(), watch, gauge })
    }
}

impl Clock for ProcessClock {
    fn now(&self) -> Timestamp {
        self.gauge.read();
        let (mono, wall) = (self.started.elapsed(), self.wall.now());
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).judge(mono, wall)
    }

    fn resume(&self, last: Wall) {
        let (mono, wall) = (self.started.elapsed(), self.wall.now());
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).resume(mono, wall, last);
    }
}

/// Counts how often the product looks at its clocks, which it does at every step: whoever spins does so very often in little
/// time (L6).
#[derive(Debug)]
pub struct Gauge {
    counted: Mutex<Counted>,
}

#[derive(Debug)]
struct Counted {
    since: Instant,
    readings: u64,
    all: u64,
    spun: bool,
}

/// So many readings within a second of simulated time are a spin.
const READINGS_MAX: u64 = 200_000;

impl Gauge {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { counted: Mutex::new(Counted { since: Instant::now(), readings: 0, all: 0, spun: false }) })
    }

    /// How many readings there have been.
    pub fn all(&self) -> u64 {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).all
    }

    /// Whether somebody spins.
    pub fn has_spun(&self) -> bool {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).spun
    }

    fn read(&self) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.all += 1;
        counted.readings += 1;
        if counted.since.elapsed() >= Duration::from_secs(1) {
            (counted.since, counted.readings) = (Instant::now(), 0);
        }
        if counted.readings > READINGS_MAX {
            counted.spun = true;
            drop(counted);
            // Ends the task that spins, so that the run can end too.
            panic!("spins: more than {READINGS_MAX} looks at the clock within a second of simulated time");
        }
    }
}

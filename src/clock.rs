//! The only place that reads the system's clocks; everybody else is handed a [`Timestamp`].

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Wall-clock time in milliseconds since the Unix epoch: for what is shown, signed or kept across restarts.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Wall(pub u64);

impl Wall {
    /// Whole seconds since the Unix epoch, as `iat` counts them.
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// In the form of RFC 3339, in UTC, to the millisecond.
    pub fn to_rfc3339(self) -> String {
        let (days, rest) = (self.0 / 86_400_000, self.0 % 86_400_000);
        let (year, month, day) = civil(days);
        let (seconds, millis) = (rest / 1000, rest % 1000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }

    /// Reads what [`Wall::to_rfc3339`] writes.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let digits = |from: usize, to: usize| {
            let part = text.get(from..to)?;
            if part.bytes().all(|digit| digit.is_ascii_digit()) { part.parse::<u64>().ok() } else { None }
        };
        let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
        let (hour, minute, second, millis) = (digits(11, 13)?, digits(14, 16)?, digits(17, 19)?, digits(20, 23)?);
        let (shifted, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
        let days = 365 * shifted + shifted / 4 - shifted / 100 + shifted / 400 + (153 * month + 2) / 5 + day;
        let days = days.checked_sub(719_469)?;
        let at = Self((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + millis);
        (at.to_rfc3339() == text).then_some(at)
    }

    /// Reads what a person writes for a time in UTC: as much of RFC 3339 as is needed, `2026-11-30`, `2026-11-30T08:15Z` or
    /// `2026-11-30T08:15:00Z`.
    pub fn from_person(text: &str) -> Option<Self> {
        let missing = match text.len() {
            10 => "T00:00:00.000",
            17 => ":00.000",
            20 => ".000",
            _ => "",
        };
        Self::from_rfc3339(&format!("{}{missing}Z", text.strip_suffix('Z').unwrap_or(text)))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// One reading of both clocks.
///
/// Waiting is done by `mono` alone. `wall` decides only what must hold across restarts or between organisations, and
/// nothing that is final while it is `suspect`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Timestamp {
    /// Monotonic time since the process started.
    pub mono: Duration,
    /// Wall-clock time. After a jump it runs on as before until the new time is believed: what is dated by it meanwhile
    /// goes to partners, who would refuse what comes from next year.
    pub wall: Wall,
    /// What the wall clock shows, believed or not.
    pub shown: Wall,
    /// The wall clock has lately jumped against the monotonic one by more than [`JUMP_MAX`], or its time when the process
    /// started is not likely ([`Clock::resume`]).
    pub suspect: bool,
}

impl Timestamp {
    /// The later of the two times that it may be: what a partner has dated so is not ahead of its time.
    pub fn latest(self) -> Wall {
        self.wall.max(self.shown)
    }
}

/// Where time comes from: the system, or a test.
pub trait Clock: Send + Sync + 'static {
    /// Reads both clocks at once.
    fn now(&self) -> Timestamp;

    /// This is when a process before this one last believed its clock: a wall clock that does not go on from there may be
    /// wrong. To be called once, at the start. A clock of which that cannot be said need not listen.
    fn resume(&self, _last: Wall) {}
}

/// A wall clock that moves this far against the monotonic clock has jumped.
pub const JUMP_MAX: Duration = Duration::from_secs(5 * 60);

/// After a jump the wall clock must run steadily for this long before it is believed again.
pub const TRUST_AFTER: Duration = Duration::from_secs(10 * 60);

/// A process that starts so long after the one before it is thought to have been away; if it seems longer, its clock may be
/// wrong. By less than this a clock does no harm that lasts: what a partner dates so far ahead, or we do, gets no verdict
/// until the clock is right.
pub const AWAY_MAX: Duration = Duration::from_secs(86_400);

/// A clock that shows less (2020) has never been set. When it jumps, the new time is the better one at once.
const NEVER_SET: Wall = Wall(1_577_836_800_000);

/// The system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
    watch: Mutex<Watch>,
}

/// What has to be remembered of a wall clock to notice that it jumps.
#[derive(Debug)]
pub struct Watch {
    /// Wall minus monotonic time, in milliseconds, as it is believed.
    believed: i64,
    /// The same when the clock was last believed or last jumped.
    offset: i64,
    /// Monotonic time of the last jump.
    jumped_at: Option<Duration>,
    /// What is believed is only a guess until the clock is: none of a clock that was believed.
    guess: Option<Guess>,
}

/// What is guessed at the start, when the clock does not go on from where the process before it ended.
#[derive(Clone, Copy, Debug)]
struct Guess {
    /// Wall minus monotonic time, in milliseconds: the real one is not before this.
    floor: i64,
}

impl SystemClock {
    /// Starts counting monotonic time now.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn new() -> Self {
        let watch = Mutex::new(Watch::new(read_wall()));
        Self { started: Instant::now(), watch }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let (mono, wall) = (self.started.elapsed(), read_wall());
        let mut watch = self.watch.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        watch.judge(mono, wall)
    }

    fn resume(&self, last: Wall) {
        let (mono, wall) = (self.started.elapsed(), read_wall());
        self.watch.lock().unwrap_or_else(std::sync::PoisonError::into_inner).resume(mono, wall, last);
    }
}

impl Watch {
    /// A wall clock that is believed, and shows this when monotonic time begins.
    pub fn new(wall: Wall) -> Self {
        Self { believed: millis(wall), offset: millis(wall), jumped_at: None, guess: None }
    }

    /// When a clock was last believed before monotonic time began: see [`Clock::resume`]. A clock behind that is wrong, and
    /// dates go on from there; one that is far ahead of it may be right, so dates go by it, but nothing is final.
    pub fn resume(&mut self, mono: Duration, wall: Wall, last: Wall) {
        let floor = millis(last).saturating_sub(elapsed(mono));
        let offset = millis(wall).saturating_sub(elapsed(mono));
        let (jump, away) = (JUMP_MAX.as_millis() as i64, AWAY_MAX.as_millis() as i64);
        if (floor.saturating_sub(jump)..=floor.saturating_add(away)).contains(&offset) {
            return;
        }
        (self.believed, self.offset, self.jumped_at) = (offset.max(floor), offset, Some(mono));
        self.guess = Some(Guess { floor });
    }

    /// Looks at a reading of both clocks, in their order: what to think of it.
    pub fn judge(&mut self, mono: Duration, wall: Wall) -> Timestamp {
        let elapsed = elapsed(mono);
        let offset = millis(wall).saturating_sub(elapsed);
        if offset.abs_diff(self.offset) > JUMP_MAX.as_millis() as u64 {
            (self.offset, self.jumped_at) = (offset, Some(mono));
            // The clock is being set: the new time is better than a guess, if it is nearer to what is known.
            if let Some(Guess { floor }) = self.guess
                && offset >= floor.saturating_sub(JUMP_MAX.as_millis() as i64)
                && (self.believed == floor || offset < self.believed)
            {
                self.believed = offset;
            }
        }
        let suspect = self.jumped_at.is_some_and(|at| mono.saturating_sub(at) < TRUST_AFTER);
        let as_before = self.believed.saturating_add(elapsed);
        if !suspect || as_before < millis(NEVER_SET) {
            (self.believed, self.guess) = (offset, None);
            return Timestamp { mono, wall, shown: wall, suspect };
        }
        Timestamp { mono, wall: Wall(u64::try_from(as_before).unwrap_or(0)), shown: wall, suspect }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn read_wall() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Year, month and day of a number of days since the epoch: counted in years that begin in March, so that the leap day
/// comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, of_month)
}

fn millis(wall: Wall) -> i64 {
    i64::try_from(wall.0).unwrap_or(i64::MAX)
}

fn elapsed(mono: Duration) -> i64 {
    i64::try_from(mono.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn times_are_written_as_rfc_3339_has_them() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_000, "2024-02-29T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Wall(millis).to_rfc3339(), text);
            assert_eq!(Wall::from_rfc3339(text), Some(Wall(millis)));
        }
    }

    #[test]
    fn a_person_may_leave_out_what_is_zero() {
        for (text, whole) in [
            ("2026-11-30", "2026-11-30T00:00:00.000Z"),
            ("2026-11-30T08:15Z", "2026-11-30T08:15:00.000Z"),
            ("2026-11-30T08:15:09Z", "2026-11-30T08:15:09.000Z"),
            ("2026-11-30T08:15:09.123Z", "2026-11-30T08:15:09.123Z"),
        ] {
            assert_eq!(Wall::from_person(text), Wall::from_rfc3339(whole), "{text}");
            assert!(Wall::from_person(text).is_some());
        }
        for text in
            ["2026-11-3", "2026-02-30", "08:15Z", "2026-11-30T08:15+01:00", "2026-11-30 08:15Z", "yesterday", "\u{e9}"]
        {
            assert_eq!(Wall::from_person(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_of_ours_is_not_read() {
        for text in ["", "yesterday", "2026-02-30T00:00:00.000Z", "1969-12-31T23:59:59.999Z", "2026-01-01T00:00:00Z"] {
            assert_eq!(Wall::from_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn a_jump_of_the_wall_clock_is_suspect_until_it_has_run_steadily() {
        let mut watch = Watch::new(wall(0, 0));
        assert!(!watch.judge(at(1), wall(1, 0)).suspect);
        assert!(!watch.judge(at(2), wall(2, 299_000)).suspect, "five minutes are tolerated");
        assert!(watch.judge(at(3), wall(3, HOUR)).suspect);
        assert!(watch.judge(at(12), wall(12, HOUR)).suspect);
        assert!(!watch.judge(at(14), wall(14, HOUR)).suspect, "ten steady minutes later it is believed");
        assert!(watch.judge(at(15), wall(15, 0)).suspect, "back again is a jump too");
    }

    #[test]
    fn what_is_dated_while_the_clock_is_suspect_is_dated_as_before_the_jump() {
        let year = 365 * 24 * HOUR;
        let mut watch = Watch::new(wall(0, 0));
        assert_eq!(watch.judge(at(1), wall(1, 1_000)).wall, wall(1, 1_000), "small steps are followed");
        let ahead = watch.judge(at(2), wall(2, year));
        assert_eq!((ahead.wall, ahead.shown, ahead.latest()), (wall(2, 1_000), wall(2, year), wall(2, year)));
        assert_eq!(watch.judge(at(3), wall(3, 0)).wall, wall(3, 1_000), "back again");
        assert_eq!(watch.judge(at(12), wall(12, 0)).wall, wall(12, 1_000));
        assert_eq!(watch.judge(at(14), wall(14, 0)).wall, wall(14, 0), "ten steady minutes later it is believed");
        assert_eq!(watch.judge(at(15), Wall(wall(15, 0).0 - year)).wall, wall(15, 0), "the other way too");
        let behind = watch.judge(at(20), Wall(wall(20, 0).0 - year));
        assert_eq!((behind.wall, behind.latest()), (wall(20, 0), wall(20, 0)));
        assert_eq!(watch.judge(at(26), Wall(wall(26, 0).0 - year)).wall.0, wall(26, 0).0 - year);
    }

    #[test]
    fn a_clock_that_never_runs_right_is_never_followed_and_never_dates_backwards() {
        let mut watch = Watch::new(wall(0, 0));
        let mut last = wall(0, 0);
        // Twice as fast as the monotonic clock, for a day.
        for minute in 1..1_440 {
            let now = watch.judge(at(minute), wall(2 * minute, 0));
            assert!(now.wall >= last && now.wall <= wall(minute, 300_000), "{minute}: {now:?}");
            assert_eq!(now.suspect, minute > 5, "{minute}");
            last = now.wall;
        }
    }

    #[test]
    fn a_clock_that_was_never_set_is_believed_as_soon_as_it_is() {
        let mut watch = Watch::new(Wall(5_000));
        let set = watch.judge(at(1), wall(1, 0));
        assert_eq!((set.wall, set.suspect), (wall(1, 0), true));
        assert_eq!(watch.judge(at(2), wall(2, 0)).wall, wall(2, 0));
    }

    const DAY: u64 = 24 * HOUR;

    /// A process that starts at this time, after one that believed its clock last an hour before the beginning of time.
    fn resumed(shown: Wall) -> Watch {
        let mut watch = Watch::new(shown);
        watch.resume(Duration::ZERO, shown, Wall(wall(0, 0).0 - HOUR));
        watch
    }

    #[test]
    fn a_clock_that_goes_on_where_the_process_before_ended_is_believed() {
        for shown in [wall(0, 0), Wall(wall(0, 0).0 - HOUR), Wall(wall(0, 0).0 - HOUR - 299_000)] {
            let now = resumed(shown).judge(at(0), shown);
            assert_eq!((now.wall, now.suspect), (shown, false));
        }
    }

    #[test]
    fn a_clock_that_starts_far_ahead_dates_but_decides_nothing_for_ten_minutes() {
        let mut watch = resumed(wall(0, 15 * DAY));
        for minute in 0..10 {
            let now = watch.judge(at(minute), wall(minute, 15 * DAY));
            assert_eq!((now.wall, now.suspect), (wall(minute, 15 * DAY), true), "{minute}");
        }
        assert!(!watch.judge(at(10), wall(10, 15 * DAY)).suspect, "we were away for fifteen days");
    }

    #[test]
    fn a_clock_that_starts_behind_goes_on_from_when_it_was_last_believed() {
        let year = 365 * DAY;
        let mut watch = resumed(Wall(wall(0, 0).0 - 5 * year));
        let behind = watch.judge(at(1), Wall(wall(1, 0).0 - 5 * year));
        assert_eq!((behind.wall, behind.suspect), (Wall(wall(1, 0).0 - HOUR), true));
        let set = watch.judge(at(2), wall(2, 0));
        assert_eq!((set.wall, set.suspect), (wall(2, 0), true), "once it is set it is followed at once");
        assert!(!watch.judge(at(12), wall(12, 0)).suspect);
        // Nobody sets it: then it may be that the process before was ahead.
        let mut watch = resumed(Wall(wall(0, 0).0 - DAY));
        assert_eq!(watch.judge(at(9), Wall(wall(9, 0).0 - DAY)).wall, Wall(wall(9, 0).0 - HOUR));
        let believed = watch.judge(at(10), Wall(wall(10, 0).0 - DAY));
        assert_eq!((believed.wall.0, believed.suspect), (wall(10, 0).0 - DAY, false));
    }

    #[test]
    fn what_was_guessed_at_the_start_is_followed_to_a_likelier_time_and_no_other() {
        let mut watch = resumed(wall(0, 60 * DAY));
        let back = watch.judge(at(1), wall(1, 0));
        assert_eq!((back.wall, back.suspect), (wall(1, 0), true), "it was set right");
        let mut watch = resumed(wall(0, 60 * DAY));
        for (minute, shown) in [(1, wall(1, 600 * DAY)), (2, Wall(wall(2, 0).0 - 60 * DAY))] {
            let now = watch.judge(at(minute), shown);
            assert_eq!((now.wall, now.suspect), (wall(minute, 60 * DAY), true), "neither is likelier");
        }
        let mut watch = resumed(wall(0, 60 * DAY));
        watch.judge(at(11), wall(11, 60 * DAY));
        let jumped = watch.judge(at(12), wall(12, 0));
        assert_eq!(jumped.wall, wall(12, 60 * DAY), "a clock that has been believed is not guessed any more");
    }

    fn at(minutes: u64) -> Duration {
        Duration::from_secs(60 * minutes)
    }

    /// So long after a time in 2024, and so many milliseconds ahead of that.
    fn wall(minutes: u64, ahead: u64) -> Wall {
        Wall(475_000 * HOUR + minutes * 60_000 + ahead)
    }
}

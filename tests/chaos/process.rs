//! What the kernel tells about a process: its memory and the CPU time it has used.

use std::fs;
use std::time::Duration;

/// Resident memory now and at most, in KiB.
#[derive(Clone, Copy, Default)]
pub(crate) struct Memory {
    pub(crate) now: u64,
    pub(crate) peak: u64,
}

impl Memory {
    /// Of a running process; zeros where there is no `/proc`.
    pub(crate) fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
        };
        Self { now: field("VmRSS:"), peak: field("VmHWM:") }
    }
}

/// CPU time of a process in user and kernel mode, all threads; zero where there is no `/proc`.
pub(crate) fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field is the program's name in parentheses, and may hold spaces.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    // Linux shows 100 ticks a second to programs, whatever it uses itself.
    Duration::from_millis(ticks * 10)
}

//! What the system knows of the process, as `process_*`: read from `/proc` when somebody scrapes, absent where there is none.

use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

#[derive(Debug)]
pub(super) struct Process;

/// Ticks of the processor clock in a second: the same on every Linux, whatever the kernel counts in.
const TICKS: f64 = 100.0;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: Option<f64>| match value {
            None => Ok(()),
            Some(value) => {
                let metric = ConstGauge::new(value);
                metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
            }
        };
        gauge("process_resident_memory_bytes", "Memory in use", memory("VmRSS:"))?;
        gauge("process_virtual_memory_bytes", "Address space in use", memory("VmSize:"))?;
        gauge("process_open_fds", "Open file descriptors", open_files())?;
        gauge("process_max_fds", "Open file descriptors that are allowed", open_files_max())?;
        gauge("process_start_time_seconds", "When the process started, since 1970", started_at())?;
        if let Some(seconds) = processor_time() {
            let metric = ConstCounter::new(seconds);
            let help = "Processor time used";
            metric.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, metric.metric_type())?)?;
        }
        Ok(())
    }
}

/// A line of `/proc/self/status`, which counts in KiB.
fn memory(name: &str) -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0)
}

fn open_files() -> Option<f64> {
    // Reading the folder opens one more.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

fn open_files_max() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn processor_time() -> Option<f64> {
    let [user, system] = [14, 15].map(stat);
    Some((user? + system?) / TICKS)
}

fn started_at() -> Option<f64> {
    let booted = fs::read_to_string("/proc/stat").ok()?;
    let booted: f64 = booted.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(booted + stat(22)? / TICKS)
}

/// A field of `/proc/self/stat`, counted from 1 as its manual does. The second is the name, which may hold anything.
fn stat(field: usize) -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_whitespace().nth(field - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_tells_what_the_process_uses() {
        assert!(memory("VmRSS:").is_some_and(|bytes| bytes > 1e6 && bytes < 1e11));
        assert!(open_files().zip(open_files_max()).is_some_and(|(open, max)| open >= 3.0 && open <= max));
        assert!(processor_time().is_some_and(|seconds| (0.0..1e6).contains(&seconds)));
        assert!(started_at().is_some_and(|at| at > 1.6e9));
    }
}

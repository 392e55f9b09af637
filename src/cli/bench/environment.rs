//! On what was measured: a figure without its machine says little.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde_json::{Value, json};
use tokio::time::Instant;

/// Resident memory of this process, in bytes.
pub(super) fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// The machine, the system, the disk under `folder`, and this program.
pub(super) fn describe(folder: &Path) -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let cpu = info.lines().find_map(|line| line.strip_prefix("model name")).and_then(|line| line.split_once(':'));
    let memory = read("/proc/meminfo");
    let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let memory = memory.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
    json!({
        "pushpull": env!("CARGO_PKG_VERSION"),
        "build": if cfg!(debug_assertions) { "debug" } else { "release" },
        "cpu": cpu.map_or("unknown", |(_, model)| model.trim()),
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "memory_bytes": memory.unwrap_or(0) * 1024,
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "filesystem": filesystem(folder),
        "sync_us": sync_us(folder),
    })
}

/// The file system of this folder, as the mounts name it.
fn filesystem(folder: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let device = fs::metadata(folder).map_or(0, |metadata| metadata.dev());
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let line = mounts.lines().rfind(|line| line.split(' ').nth(2) == Some(&*device));
    let kind = line.and_then(|line| line.split_once(" - ")).and_then(|(_, rest)| rest.split(' ').next());
    kind.unwrap_or("unknown").to_owned()
}

/// The median time of writing 16 KiB and syncing them, in microseconds; zero if it cannot be done.
fn sync_us(folder: &Path) -> u64 {
    let path = folder.join("sync");
    let mut times: Vec<u64> = Vec::new();
    if let Ok(mut file) = fs::File::create(&path) {
        for _ in 0..51 {
            let started = Instant::now();
            if file.write_all(&[1; 16 << 10]).and_then(|()| file.sync_data()).is_ok() {
                times.push(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
            }
        }
    }
    let _ = fs::remove_file(path);
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or(0)
}

/// The environment in a line for people.
pub(super) fn line(environment: &Value) -> String {
    format!(
        "{}, {} cores, Linux {}, {} (sync {} us), pushpull {} ({})",
        environment["cpu"].as_str().unwrap_or_default(),
        environment["cores"],
        environment["kernel"].as_str().unwrap_or_default(),
        environment["filesystem"].as_str().unwrap_or_default(),
        environment["sync_us"],
        environment["pushpull"].as_str().unwrap_or_default(),
        environment["build"].as_str().unwrap_or_default(),
    )
}

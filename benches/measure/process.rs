//! What processes cost beside their time: processor seconds and memory (Linux, `/proc`).

#![expect(clippy::disallowed_methods, reason = "a benchmark looks at its own process")]

/// Ticks of `/proc/self/stat` in a second.
const TICKS: f64 = 100.0;

/// Processor time of this process, and of its children that have ended, in seconds.
pub fn cpu_seconds() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let rest = stat.rsplit(')').next().expect("fields");
    let fields: Vec<f64> = rest.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect();
    ((fields[11] + fields[12]) / TICKS, (fields[13] + fields[14]) / TICKS)
}

/// Begins the high-water mark of this process's memory anew.
pub fn forget_peak() {
    // Writing 5 resets it (proc(5), clear_refs); without the right to, the peak is that of all before.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The most memory that this process had, in MiB.
pub fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

//! Processes that a crash takes: found by the folder in which they work, killed at once.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal};

/// Processes that work in a folder or below it, with their number and command line.
fn at_work(folder: &Path) -> Vec<(u32, Vec<String>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder)) {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
            found.push((pid, words.collect()));
        }
    }
    found
}

/// Servers that work below a folder: processes whose parent is none of them.
pub fn postmasters(folder: &Path) -> BTreeSet<u32> {
    let mut found = Vec::new();
    for (pid, _) in at_work(folder) {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let state = fields.next().unwrap_or("Z").to_owned();
        let parent = fields.next().and_then(|field| field.parse::<u32>().ok());
        if stat.contains("(postgres)") && state != "Z" {
            found.push((pid, parent));
        }
    }
    let pids: BTreeSet<u32> = found.iter().map(|(pid, _)| *pid).collect();
    found.iter().filter(|(_, parent)| parent.is_none_or(|up| !pids.contains(&up))).map(|(pid, _)| *pid).collect()
}

/// Kills the servers that work below a folder; tells how many.
pub fn kill_servers(folder: &Path) -> usize {
    postmasters(folder).into_iter().filter(|pid| kill(*pid)).count()
}

/// Kills the pushes and fetches of the servers that work below a folder; tells how many.
pub fn kill_wal(folder: &Path) -> usize {
    let is_wal = |words: &[String]| words.get(1).is_some_and(|word| word == "wal");
    at_work(folder).into_iter().filter(|(pid, words)| is_wal(words) && kill(*pid)).count()
}

fn kill(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::kill_process(pid, Signal::KILL).is_ok())
}

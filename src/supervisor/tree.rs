//! The processes below a supervisor, whatever sessions and groups they moved to.
//!
//! A supervisor is the subreaper of its descendants, so a process that forks twice and loses its
//! parents is still found below it.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use rustix::process::Signal;

use super::identity::{ProcessFacts, ProcessId, facts};

/// Lists every living process below `root`, parents before children.
pub(super) fn descendants(root: u32) -> io::Result<Vec<ProcessId>> {
    let mut children: BTreeMap<u32, Vec<ProcessFacts>> = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if let Some(facts) = facts(pid)? {
            children.entry(facts.parent).or_default().push(facts);
        }
    }
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(parent) = open.pop() {
        for facts in children.remove(&parent).unwrap_or_default() {
            open.push(facts.id.pid);
            if !facts.zombie {
                found.push(facts.id);
            }
        }
    }
    Ok(found)
}

/// Sends a signal to each of the processes. One that is gone or may not be signalled is passed over:
/// whether all are gone is judged by what is left, never by what was sent.
pub(super) fn signal_all(processes: &[ProcessId], signal: Signal) {
    for process in processes {
        if process.signal(signal).unwrap_or_default() && signal == Signal::TERM {
            // A stopped process acts on TERM only when it goes on.
            let _ = process.signal(Signal::CONT);
        }
    }
}

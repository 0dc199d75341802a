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
    for facts in everything()? {
        children.entry(facts.parent).or_default().push(facts);
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

/// Lists every living process that a supervisor left behind when it was killed.
///
/// A supervisor leads its session, and its number is not given away while the session has a member. What
/// began a session of its own is not found.
pub(super) fn left_by(supervisor: ProcessId) -> io::Result<Vec<ProcessId>> {
    let mut found = everything()?;
    // A session whose leader is another process than the supervisor is another session.
    if found.iter().any(|facts| facts.id.pid == supervisor.pid && facts.id.start != supervisor.start) {
        return Ok(Vec::new());
    }
    found.retain(|facts| {
        facts.session == supervisor.pid && facts.id.pid != supervisor.pid && facts.id.start >= supervisor.start
    });
    Ok(found.into_iter().filter(|facts| !facts.zombie).map(|facts| facts.id).collect())
}

fn everything() -> io::Result<Vec<ProcessFacts>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        all.extend(facts(pid)?);
    }
    Ok(all)
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

//! Processes that a crash takes: found by the folder in which they work, killed at once.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use runbook::pgformat::{ClusterState, ControlFile};
use rustix::process::{Pid, Signal};

use super::cli::until;

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
        let is_server = fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "postgres");
        let (state, parent) = state(pid);
        if is_server && state != 'Z' {
            found.push((pid, parent));
        }
    }
    let pids: BTreeSet<u32> = found.iter().map(|(pid, _)| *pid).collect();
    found.iter().filter(|(_, parent)| parent.is_none_or(|up| !pids.contains(&up))).map(|(pid, _)| *pid).collect()
}

/// Kills the pushes and fetches of the servers that work below a folder; tells how many.
pub fn kill_wal(folder: &Path) -> usize {
    let is_wal = |words: &[String]| words.get(1).is_some_and(|word| word == "wal");
    at_work(folder).into_iter().filter(|(pid, words)| is_wal(words) && kill(*pid)).count()
}

fn kill(pid: u32) -> bool {
    signal(pid, Signal::KILL)
}

fn signal(pid: u32, signal: Signal) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::kill_process(pid, signal).is_ok())
}

/// The state of a process and its parent; `Z` when it is gone or only waits to be buried.
fn state(pid: u32) -> (char, Option<u32>) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let state = fields.next().and_then(|field| field.chars().next()).unwrap_or('Z');
    (state, fields.next().and_then(|field| field.parse().ok()))
}

/// A process that is held in the middle of its work; killed when it is dropped.
pub struct Held(u32);

impl Held {
    /// Holds a process; none when it ended before.
    fn hold(pid: u32) -> Option<Self> {
        let held = signal(pid, Signal::STOP).then_some(Self(pid))?;
        until("a process stands still, or is gone", || matches!(state(pid).0, 'T' | 'Z'));
        (state(pid).0 == 'T').then_some(held)
    }

    /// Holds a push of the servers that work below a folder; none when there is none.
    pub fn push(folder: &Path) -> Option<Self> {
        let is_push = |words: &[String]| words.get(1).is_some_and(|word| word == "wal") && words[2] == "push";
        let mut pushes = at_work(folder).into_iter().filter(|(_, words)| is_push(words));
        pushes.find_map(|(pid, _)| Self::hold(pid))
    }

    /// Lets it go on.
    pub fn release(self) {
        signal(self.0, Signal::CONT);
        std::mem::forget(self);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        kill(self.0);
    }
}

/// A server that is held in the middle of a replay: it goes no further, and does not open. Killed when it is dropped.
pub struct HeldReplay {
    startup: Held,
    postmaster: u32,
    pgdata: PathBuf,
}

/// Who dies of a server that replays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dies {
    /// All of it at once.
    Postmaster,
    /// The process that replays; the server ends itself then.
    Startup,
}

impl HeldReplay {
    /// Holds a server that works below a folder and replays its archive; none where none does.
    pub fn catch(folder: &Path) -> Option<Self> {
        let replays = |words: &[String]| words[0].contains(": startup") && words[0].contains("recovering");
        let (pid, _) = at_work(folder).into_iter().find(|(_, words)| replays(words))?;
        let startup = Held::hold(pid)?;
        let pgdata = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
        let held = Self { postmaster: state(pid).1?, startup, pgdata };
        // Whoever is past it removed the file before it made its new timeline known.
        let signalled = ["recovery.signal", "standby.signal"].iter().any(|name| held.pgdata.join(name).exists());
        match signalled && held.control() == Some(ClusterState::InArchiveRecovery) {
            true => Some(held),
            false => {
                held.startup.release();
                None
            }
        }
    }

    fn control(&self) -> Option<ClusterState> {
        let bytes = fs::read(self.pgdata.join(ControlFile::PATH)).ok()?;
        ControlFile::parse(&bytes).ok().map(|control| control.state)
    }

    /// Lets it go on.
    pub fn release(self) {
        self.startup.release();
    }

    /// Kills it, and waits until nothing of it is left: what lies there is a replay that was cut off.
    #[track_caller]
    pub fn kill(self, who: Dies) {
        match who {
            Dies::Postmaster => assert!(kill(self.postmaster), "the server was there"),
            Dies::Startup => {}
        }
        assert!(kill(self.startup.0), "it replayed");
        // Its fetches go with it: one that outlives it would make its folders anew.
        until("the killed server is gone", || {
            kill_wal(&self.pgdata);
            state(self.postmaster).0 == 'Z' && at_work(&self.pgdata).is_empty()
        });
        assert_eq!(self.control(), Some(ClusterState::InArchiveRecovery), "the replay was cut off in the middle");
    }
}

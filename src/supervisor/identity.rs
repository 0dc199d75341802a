//! Which process a number means: numbers are reused, so the start time and the boot belong to it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// One process of one boot of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct ProcessId {
    /// Its number.
    pub(super) pid: u32,
    /// When it started, in clock ticks since boot.
    pub(super) start: u64,
}

/// What the kernel tells of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProcessFacts {
    pub(super) id: ProcessId,
    pub(super) parent: u32,
    pub(super) session: u32,
    pub(super) zombie: bool,
}

impl ProcessId {
    /// The calling process.
    pub(super) fn own() -> io::Result<Self> {
        Self::of(std::process::id())
    }

    /// The process that has this number now.
    pub(super) fn of(pid: u32) -> io::Result<Self> {
        facts(pid)?.map(|facts| facts.id).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Opens a handle to exactly this process; `None` when it is gone or a zombie.
    pub(super) fn open(self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // The handle was opened first: if the facts fit now, the handle means this process for good.
        match facts(self.pid)? {
            Some(facts) => Ok((facts.id == self && !facts.zombie).then_some(handle)),
            None if has_ended(&handle)? => Ok(None),
            // It lives and `/proc` hides it from this user: it must not be taken for gone.
            None => Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("process {} is hidden", self.pid))),
        }
    }

    /// Sends a signal to exactly this process; `false` when it is gone.
    pub(super) fn signal(self, signal: Signal) -> io::Result<bool> {
        let Some(handle) = self.open()? else { return Ok(false) };
        match pidfd_send_signal(&handle, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// A handle of a process is readable once the process has ended.
fn has_ended(handle: &OwnedFd) -> io::Result<bool> {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&now))? > 0)
}

/// Reads the facts of a process; `None` when there is none.
pub(super) fn facts(pid: u32) -> io::Result<Option<ProcessFacts>> {
    match fs::read(format!("/proc/{pid}/stat")) {
        Ok(bytes) => Ok(parse_stat(pid, &String::from_utf8_lossy(&bytes))),
        // Where processes of others are hidden, they are not ours to look after.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => Ok(None),
        // A process that ends while it is read answers so.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The name in parentheses may hold anything, so fields are counted from its last `)`.
fn parse_stat(pid: u32, stat: &str) -> Option<ProcessFacts> {
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().collect();
    let state = *fields.first()?;
    let parent = fields.get(1)?.parse().ok()?;
    let session = fields.get(3)?.parse().ok()?;
    let start = fields.get(19)?.parse().ok()?;
    Some(ProcessFacts { id: ProcessId { pid, start }, parent, session, zombie: matches!(state, "Z" | "X" | "x") })
}

#[cfg(test)]
mod tests {
    use super::{ProcessId, facts, parse_stat};

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_confuse_the_fields() {
        let stat = "7 (a) b (c)) S 3 7 7 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 4242 1 1";
        let facts = parse_stat(7, stat).expect("facts");
        assert_eq!((facts.id.start, facts.parent, facts.session, facts.zombie), (4242, 3, 7, false));
    }

    #[test]
    fn the_own_process_is_found_and_another_start_time_is_not() {
        let own = ProcessId::own().expect("the own process");
        assert!(own.open().expect("a handle").is_some());
        let other = ProcessId { start: own.start + 1, ..own };
        assert!(other.open().expect("an answer").is_none());
        assert_eq!(facts(u32::MAX).expect("an answer"), None);
    }
}

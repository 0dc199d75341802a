//! Stays behind for processes that were left alone and still hold the pipes of their ended program.
//!
//! Without a reader they would die of SIGPIPE at their next word; what they write is thrown away.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{WaitOptions, wait};

use super::signal::Signals;

const CHUNK: usize = 16 << 10;

/// Reads until every pipe is closed, or until this process itself is told to end.
pub(super) fn linger(mut pipes: Vec<File>, mut signals: Signals) -> io::Result<()> {
    while !pipes.is_empty() {
        // Orphans of the tree are still ours to bury.
        while matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {}
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(5);
        let watched = pipes.iter().map(|pipe| pipe.as_fd()).chain(signals.fds());
        fds.extend(watched.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        drop(fds);
        pipes.retain_mut(is_open);
        if signals.take()?.is_some() {
            return Ok(());
        }
    }
    Ok(())
}

fn is_open(pipe: &mut File) -> bool {
    let mut chunk = [0; CHUNK];
    match pipe.read(&mut chunk) {
        Ok(read) => read > 0,
        Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
    }
}

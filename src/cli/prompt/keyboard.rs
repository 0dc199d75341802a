//! Lines typed at the terminal of a live run, without ever blocking for long.

use std::io::IsTerminal as _;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::getpgrp;
use rustix::termios::tcgetpgrp;

/// How long one look at the terminal takes.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// What one look gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing was typed.
    Nothing,
    /// A line.
    Line(String),
    /// Nothing more can come.
    Closed,
}

/// Looks whether a line was typed. One that was typed for the shell, while the run is in the background, is left alone.
pub(super) fn look() -> Look {
    let stdin = std::io::stdin();
    let mut ready = [PollFd::new(&stdin, PollFlags::IN)];
    match poll(&mut ready, Some(&LOOK)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => return Look::Nothing,
        Ok(_) => {}
        Err(_) => return Look::Closed,
    }
    if !stdin.is_terminal() {
        return Look::Closed;
    }
    if tcgetpgrp(&stdin).is_ok_and(|front| front != getpgrp()) {
        let _ = poll(&mut [], Some(&LOOK));
        return Look::Nothing;
    }
    // The terminal gives one line at a time.
    let mut bytes = [0; 4096];
    match rustix::io::read(&stdin, &mut bytes) {
        Ok(0) => Look::Closed,
        Ok(count) => Look::Line(String::from_utf8_lossy(&bytes[..count]).into_owned()),
        Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Look::Nothing,
        Err(_) => Look::Closed,
    }
}

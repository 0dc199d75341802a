//! The signals a supervisor listens to.
//!
//! TERM ends the tree, USR1 kills it at once: so a resumed engine speaks to a supervisor whose socket
//! died with the engine that started it. INT, HUP and QUIT are caught and do nothing; a caught signal,
//! unlike an ignored one, has its default effect again in the program.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};

use crate::supervisor::request::EndLevel;

/// Signals turned into readable sockets.
pub(super) struct Signals {
    child: UnixStream,
    terminate: UnixStream,
    kill: UnixStream,
}

impl Signals {
    /// Takes the signals over.
    pub(super) fn catch() -> io::Result<Self> {
        for harmless in [SIGINT, SIGHUP, SIGQUIT] {
            signal_hook::flag::register(harmless, Arc::new(AtomicBool::new(false)))?;
        }
        Ok(Self { child: on(SIGCHLD)?, terminate: on(SIGTERM)?, kill: on(SIGUSR1)? })
    }

    /// The descriptors to poll.
    pub(super) fn fds(&self) -> [BorrowedFd<'_>; 3] {
        [self.child.as_fd(), self.terminate.as_fd(), self.kill.as_fd()]
    }

    /// Tells whether a signal asks to end the tree. A pending SIGCHLD is taken too.
    pub(super) fn take(&mut self) -> io::Result<Option<EndLevel>> {
        drain(&mut self.child)?;
        let terminate = drain(&mut self.terminate)?.then_some(EndLevel::Terminate);
        let kill = drain(&mut self.kill)?.then_some(EndLevel::Kill);
        Ok(kill.or(terminate))
    }
}

fn on(signal: i32) -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(signal, write)?;
    Ok(read)
}

fn drain(socket: &mut UnixStream) -> io::Result<bool> {
    let mut any = false;
    let mut chunk = [0; 64];
    loop {
        match socket.read(&mut chunk) {
            Ok(0) => return Ok(any),
            Ok(_) => any = true,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(any),
            Err(error) => return Err(error),
        }
    }
}

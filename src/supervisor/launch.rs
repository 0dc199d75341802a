//! The engine's way to a supervisor: starts it and hands it the task.

use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;

use zeroize::Zeroizing;

use super::EARLY_PATH;
use super::request::{Life, Request, Task};
use super::session::{Session, Transcript};
use super::wire::{Kind, put};
use crate::action::{CommandOutput, HostError};

/// Starts supervisors from our own binary.
#[derive(Debug, Clone)]
pub struct Launcher {
    binary: PathBuf,
}

impl Launcher {
    /// Starts `binary`, which must dispatch [`super::EARLY_PATH`] to [`super::main`] first of all.
    #[must_use]
    pub fn new(binary: PathBuf) -> Self {
        Self { binary }
    }

    /// Starts a program under a supervisor and gives the session with it.
    ///
    /// # Errors
    /// Fails when the supervisor cannot be started. Whether the program could be is told by the session.
    pub fn launch(&self, task: &Task) -> Result<Session, HostError> {
        let failed = |source| HostError::Spawn { program: task.spec.program.clone(), source };
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let mut command = tokio::process::Command::from(self.command(theirs));
        let child = command.spawn().map_err(failed)?;
        drop(command);
        ours.set_nonblocking(true).map_err(failed)?;
        let stream = tokio::net::UnixStream::from_std(ours).map_err(failed)?;
        let hello = hello(task).map_err(failed)?;
        Ok(Session::new(&task.spec.program, stream, child, hello))
    }

    /// Runs a probe to its end, blocking the thread; for the few places that are not async.
    ///
    /// # Errors
    /// As a host's `run`.
    pub fn probe_blocking(&self, mut task: Task) -> Result<CommandOutput, HostError> {
        // Of a probe nothing is left, so its supervisor never stays behind.
        task.life = Life::Probe;
        let program = &task.spec.program;
        let failed = |source| HostError::Spawn { program: program.clone(), source };
        let (mut ours, theirs) = UnixStream::pair().map_err(failed)?;
        let mut child = self.command(theirs).spawn().map_err(failed)?;
        ours.write_all(&hello(&task).map_err(failed)?).map_err(failed)?;
        let mut transcript = Transcript::new(program);
        let result = transcript.read_from(&mut ours);
        drop(ours);
        // The supervisor has said its last word or is gone; this only takes its exit status.
        child.wait().map_err(failed)?;
        result
    }

    #[expect(clippy::disallowed_methods, reason = "the supervisor is the one home of starting programs")]
    fn command(&self, socket: UnixStream) -> std::process::Command {
        let mut command = std::process::Command::new(&self.binary);
        command.arg(EARLY_PATH).stdin(OwnedFd::from(socket)).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

/// The first bytes to a supervisor; they hold secrets.
fn hello(task: &Task) -> io::Result<Zeroizing<Vec<u8>>> {
    let request = Zeroizing::new(serde_json::to_vec(&Request::of(task))?);
    let mut bytes = Zeroizing::new(Vec::with_capacity(request.len() + task.spec.stdin.len() + 16));
    if !task.spec.stdin.is_empty() {
        put(&mut bytes, Kind::Stdin, &task.spec.stdin);
    }
    put(&mut bytes, Kind::Request, &request);
    Ok(bytes)
}

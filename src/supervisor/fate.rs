//! What became of an attempt whose engine died, told from the attempt's folder.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

use super::folder::{Claim, Folder, Identity, Owner, is_torn};
use super::identity::ProcessId;
use super::request::EndLevel;
use super::session::Stream;
use super::tail::Tail;
use super::tree;
use crate::action::{CommandOutput, HostError};
use crate::base::boot::boot_id;
use crate::event::Progress;

/// How often the output of an adopted program is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// What a program is called whose name went with its record.
const FORGOTTEN: &str = "a program of an earlier boot";

/// What became of an attempt.
#[derive(Debug)]
pub enum AttemptFate {
    /// Its program was never started, and now never will be.
    NeverStarted,
    /// Its program is still watched by its supervisor.
    Running(RunningAttempt),
    /// It ended; output and errors as the host's `run` would have given them.
    Ended(Result<CommandOutput, HostError>),
    /// Its supervisor is gone without a record: it is not known how far the program came.
    Lost {
        /// The program.
        program: String,
        /// What still runs of it without a supervisor: its main process first, then what that started.
        alive: Vec<u32>,
    },
}

/// A program that outlived the engine that started it.
#[derive(Debug)]
pub struct RunningAttempt {
    folder: Folder,
    program: String,
    supervisor: ProcessId,
    handle: OwnedFd,
}

/// Tells what became of the attempt in `dir`.
///
/// An attempt without a trace is claimed, so that a supervisor that is only now being scheduled
/// refuses to start it: the answer stays true.
///
/// # Errors
/// Fails when the folder or the process table cannot be read.
pub fn fate(dir: &Path) -> Result<AttemptFate, HostError> {
    judge(dir).map_err(|source| HostError::File { operation: "judge the attempt in", path: dir.to_owned(), source })
}

fn judge(dir: &Path) -> io::Result<AttemptFate> {
    let (folder, boot) = (Folder::new(dir), boot_id()?);
    let identity = match folder.owner(&boot)? {
        Owner::Known(identity) => identity,
        Owner::Forgotten => return forgotten(&folder),
        Owner::Nobody => {
            let claim = Identity { boot: boot.clone(), supervisor: None, program: String::new() };
            match folder.claim(&claim) {
                Ok(Claim::Ours) => return Ok(AttemptFate::NeverStarted),
                Ok(Claim::Taken) => match folder.owner(&boot)? {
                    Owner::Known(identity) => identity,
                    Owner::Nobody | Owner::Forgotten => return Err(io::ErrorKind::NotFound.into()),
                },
                // Without a folder no supervisor can claim it either; none did, since a claim is durable with the folder's name.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(AttemptFate::NeverStarted),
                Err(error) => return Err(error),
            }
        }
    };
    let Some(supervisor) = identity.supervisor else { return Ok(AttemptFate::NeverStarted) };
    let same_boot = identity.boot == boot;
    let handle = if same_boot { supervisor.open()? } else { None };
    // Looked at after the process: a supervisor that ended in between has left its record.
    let record = match folder.exit() {
        Err(error) if !same_boot && is_torn(&error) => None,
        other => other?,
    };
    if let Some(record) = record {
        let output = folder.output(&record)?;
        return Ok(AttemptFate::Ended(record.result(output)));
    }
    if let Some(handle) = handle {
        return Ok(AttemptFate::Running(RunningAttempt { folder, program: identity.program, supervisor, handle }));
    }
    let alive = if same_boot { unwatched(&folder, supervisor)? } else { Vec::new() };
    Ok(AttemptFate::Lost { program: identity.program, alive })
}

/// What became of an attempt whose record an earlier boot took with it. How it ended may have been written out all the same.
fn forgotten(folder: &Folder) -> io::Result<AttemptFate> {
    match folder.exit() {
        Ok(Some(record)) => {
            let output = folder.output(&record)?;
            Ok(AttemptFate::Ended(record.result(output)))
        }
        Ok(None) => Ok(AttemptFate::Lost { program: FORGOTTEN.to_owned(), alive: Vec::new() }),
        Err(error) if is_torn(&error) => Ok(AttemptFate::Lost { program: FORGOTTEN.to_owned(), alive: Vec::new() }),
        Err(error) => Err(error),
    }
}

/// Tells whether anything of the attempt in `dir` runs now, watched or not. Claims nothing.
///
/// # Errors
/// Fails when the folder or the process table cannot be read.
pub fn still_runs(dir: &Path) -> io::Result<bool> {
    let (folder, now) = (Folder::new(dir), boot_id()?);
    let Owner::Known(Identity { boot, supervisor: Some(supervisor), .. }) = folder.owner(&now)? else {
        return Ok(false);
    };
    if boot != now || folder.exit()?.is_some() {
        return Ok(false);
    }
    Ok(supervisor.open()?.is_some() || !unwatched(&folder, supervisor)?.is_empty())
}

/// What runs on after its supervisor was killed.
fn unwatched(folder: &Folder, supervisor: ProcessId) -> io::Result<Vec<u32>> {
    let main = match folder.child()? {
        Some(child) => child.open()?.map(|_| child.pid),
        None => None,
    };
    let rest = tree::left_by(supervisor)?.into_iter().map(|process| process.pid).filter(|pid| main != Some(*pid));
    Ok(main.into_iter().chain(rest).collect())
}

impl RunningAttempt {
    /// The program.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Asks the supervisor to end the tree; returns at once. Nothing happens when it is gone.
    ///
    /// # Errors
    /// Fails when the supervisor may not be signalled.
    pub fn end(&self, level: EndLevel) -> Result<(), HostError> {
        let signal = match level {
            EndLevel::Terminate => Signal::TERM,
            EndLevel::Kill => Signal::USR1,
        };
        match self.supervisor.signal(signal) {
            Ok(_) => Ok(()),
            Err(source) => Err(HostError::Spawn { program: self.program.clone(), source }),
        }
    }

    /// Waits for the end. `cancel` ends the tree with a grace, `kill` without; new lines go to `show`.
    /// Cancel-safe.
    ///
    /// # Errors
    /// As a host's `run`: too long, cancelled, lost.
    pub async fn wait(
        self,
        cancel: &CancellationToken,
        kill: &CancellationToken,
        show: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<CommandOutput, HostError> {
        let lost = || HostError::Lost { program: self.program.clone() };
        let handle = self.handle.try_clone().and_then(ended_handle);
        let handle = handle.map_err(|source| HostError::Spawn { program: self.program.clone(), source })?;
        let (mut asked, mut killed) = (false, false);
        let mut tails = [Tail::new(self.folder.stdout(), Stream::Out), Tail::new(self.folder.stderr(), Stream::Err)];
        let mut looks = tokio::time::interval(LOOK);
        let result = loop {
            tokio::select! {
                _ = looks.tick() => {
                    tails.iter_mut().for_each(|tail| tail.look(show));
                    // A supervisor that stays behind for survivors has left its record before.
                    if let Some(result) = self.recorded() {
                        break result;
                    }
                }
                // A handle of a process is readable once the process has ended.
                ended = handle.readable() => {
                    ended.map_err(|_| lost())?.retain_ready();
                    break self.recorded().unwrap_or_else(|| Err(lost()));
                }
                () = kill.cancelled(), if !killed => {
                    killed = true;
                    self.end(EndLevel::Kill)?;
                }
                () = cancel.cancelled(), if !asked => {
                    asked = true;
                    self.end(EndLevel::Terminate)?;
                }
            }
        };
        tails.iter_mut().for_each(|tail| tail.look(show));
        result
    }

    /// How it ended, once that is recorded.
    fn recorded(&self) -> Option<Result<CommandOutput, HostError>> {
        let record = self.folder.exit().ok().flatten()?;
        let output = self.folder.output(&record).ok()?;
        Some(record.result(output))
    }
}

#[expect(deprecated, reason = "its successor is unsafe code; an owned descriptor meets its conditions")]
fn ended_handle(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

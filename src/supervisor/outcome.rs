//! How a supervised program ended.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::action::{CommandOutput, HostError};
use crate::base::Timestamp;

/// Why a program is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum End {
    /// Its main process ended by itself.
    Exited,
    /// It ran longer than its limit.
    TimedOut {
        /// The limit.
        limit_ms: u64,
    },
    /// It was told to end.
    Cancelled,
    /// It was tied to an engine that is gone.
    Orphaned,
    /// It could not be started.
    NotStarted {
        /// The system's error number, where it gave one.
        errno: Option<i32>,
    },
    /// Another supervisor owns the attempt; nothing was started.
    Refused,
}

/// The record of an end, in `exit.json` and in the last frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ExitRecord {
    pub(super) program: String,
    pub(super) end: End,
    pub(super) exit_code: Option<i32>,
    pub(super) signal: Option<i32>,
    pub(super) stdout_cut: u64,
    pub(super) stderr_cut: u64,
    /// Processes still alive: left alone after success, not ended in time otherwise.
    pub(super) survivors: Vec<u32>,
    /// Whether every process that was to end is known to be gone.
    pub(super) confirmed: bool,
    /// The wall clock at the end.
    pub(super) ended_at: Timestamp,
}

impl ExitRecord {
    /// A record of something that never ran.
    pub(super) fn without_process(program: &str, end: End) -> Self {
        Self {
            program: program.to_owned(),
            end,
            exit_code: None,
            signal: None,
            stdout_cut: 0,
            stderr_cut: 0,
            survivors: Vec::new(),
            confirmed: true,
            ended_at: crate::base::clock::now(),
        }
    }

    pub(super) fn output(&self, stdout: Vec<u8>, stderr: Vec<u8>) -> CommandOutput {
        CommandOutput {
            exit_code: self.exit_code,
            signal: self.signal,
            stdout,
            stdout_cut: self.stdout_cut,
            stderr,
            stderr_cut: self.stderr_cut,
            survivors: self.survivors.clone(),
        }
    }

    /// Gives the result as a host reports it.
    pub(super) fn result(self, output: CommandOutput) -> Result<CommandOutput, HostError> {
        let Self { program, confirmed, .. } = self;
        match self.end {
            End::Exited => Ok(output),
            End::TimedOut { limit_ms } => Err(HostError::Timeout { program, limit: Duration::from_millis(limit_ms) }),
            End::Cancelled | End::Orphaned => Err(HostError::Cancelled { program, confirmed }),
            End::NotStarted { errno } => Err(HostError::Spawn { program, source: start_error(errno) }),
            End::Refused => Err(HostError::Spawn {
                program,
                source: io::Error::new(io::ErrorKind::AlreadyExists, "the attempt was started before"),
            }),
        }
    }
}

fn start_error(errno: Option<i32>) -> io::Error {
    errno.map_or_else(|| io::Error::other("the supervisor could not prepare it"), io::Error::from_raw_os_error)
}

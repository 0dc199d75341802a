//! Exit codes, frozen: scripts and pagers rely on them.

use crate::action::ActionError;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Succeeded.
    Success = 0,
    /// A bug in this program.
    Bug = 1,
    /// Wrong usage, or an unknown run.
    Usage = 2,
    /// The runbook or its configuration is invalid.
    Invalid = 3,
    /// A check or guard refused before the first step; nothing was changed.
    Refused = 4,
    /// Succeeded with exceptions.
    Exceptions = 5,
    /// The run failed.
    Failed = 10,
    /// The run failed and an outcome is unknown.
    FailedUnknown = 11,
    /// The run was cancelled.
    Cancelled = 12,
    /// The run is suspended and waits for a person.
    Suspended = 13,
    /// Another run holds the lock.
    Locked = 14,
    /// The journal cannot be written or is corrupt, or an audit found a break.
    Journal = 15,
    /// A drill missed its objective or measured none.
    Objective = 16,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A command's failure: what is said on standard error, and the code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// The fact; empty when everything was said already.
    pub message: String,
    /// The causes below it.
    pub causes: Vec<String>,
    /// What to do next.
    pub help: Option<String>,
}

impl Failure {
    /// A failure with one fact.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), causes: Vec::new(), help: None }
    }

    /// Everything was said already.
    #[must_use]
    pub fn said(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    /// Adds the chain of an error.
    #[must_use]
    pub fn because(mut self, cause: &(dyn std::error::Error + 'static)) -> Self {
        let mut next = Some(cause);
        while let Some(error) = next {
            self.causes.push(error.to_string());
            next = error.source();
        }
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The fact with its causes, on one line.
    #[must_use]
    pub fn in_full(&self) -> String {
        std::iter::once(&self.message).chain(&self.causes).cloned().collect::<Vec<_>>().join(": ")
    }

    /// Writes the failure to standard error.
    pub fn print(&self) {
        if self.message.is_empty() {
            return;
        }
        tell!("error: {}", self.message);
        for cause in &self.causes {
            tell!("  caused by: {cause}");
        }
        if let Some(help) = &self.help {
            tell!("  help: {help}");
        }
    }
}

/// An error on one line, with what caused it.
pub fn told(error: &ActionError) -> String {
    let info = error.info();
    std::iter::once(&info.message).chain(&info.causes).cloned().collect::<Vec<_>>().join(": ")
}

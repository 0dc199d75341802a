//! The traits of the engine's edge. Actions may not import this room.

mod entrance;

use std::time::{Duration, Instant};

use crate::action::BoxFuture;
use crate::base::clock::{self, Timestamp};
use crate::base::{Digest, EventSeq, RunId};
use crate::event::{CancelLevel, Event, EventKind, ProgressUpdate};

pub use entrance::{Entered, Entrance, Entry};

/// Where events become durable.
pub trait Journal: Send {
    /// Appends events to the buffer of the current round and returns them numbered and chained.
    ///
    /// # Errors
    /// Fails when the journal cannot be written; the run stops.
    fn append(&mut self, at: Timestamp, kinds: Vec<EventKind>) -> Result<Vec<Event>, JournalError>;
    /// Makes everything appended so far durable. One call per round of the engine.
    ///
    /// # Errors
    /// Fails when durability cannot be promised; the run stops.
    fn sync(&mut self) -> Result<(), JournalError>;
}

/// The journal cannot be written or does not hold together. Exit code 15.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Writing or syncing failed.
    #[error("the journal of run `{run}` cannot be written")]
    Write {
        /// The run.
        run: RunId,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A complete line does not have the hash it must have.
    #[error("the journal of run `{run}` is corrupt at event {seq}: {what}")]
    Corrupt {
        /// The run.
        run: RunId,
        /// The number the line should have.
        seq: EventSeq,
        /// What is wrong.
        what: String,
    },
    /// The journal belongs to another plan.
    #[error("the journal of run `{run}` does not belong to its plan: expected {expected}, found {found}")]
    OtherPlan {
        /// The run.
        run: RunId,
        /// The digest of `plan.json`.
        expected: Digest,
        /// What the first line says.
        found: Digest,
    },
    /// A file of the run cannot be read.
    #[error("`{}` cannot be read", path.display())]
    Read {
        /// The file.
        path: std::path::PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// `plan.json` is not the plan of a run.
    #[error("`{}` is not a plan that this version can read: {what}", path.display())]
    Plan {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl JournalError {
    /// Whether who asks may not read what was asked for: that says nothing against it.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        match self {
            Self::Read { source, .. } => source.kind() == std::io::ErrorKind::PermissionDenied,
            Self::Write { .. } | Self::Corrupt { .. } | Self::OtherPlan { .. } | Self::Plan { .. } => false,
        }
    }
}

/// Takes durable events in order, once each, and lossy progress.
///
/// A sink that fails is detached by its caller; it never stops a run.
pub trait Sink: Send {
    /// Takes a durable event.
    ///
    /// # Errors
    /// Fails when the reporter cannot go on.
    fn event(&mut self, event: &Event) -> Result<(), SinkError>;
    /// Takes progress. May be dropped under load.
    fn progress(&mut self, update: &ProgressUpdate);
    /// Called a few times a second so that clocks on the screen move.
    fn tick(&mut self, now: Timestamp) {
        let _ = now;
    }
    /// Whether it writes to the terminal, so that it is detached when the terminal is gone.
    fn needs_terminal(&self) -> bool {
        false
    }
    /// Called once after the last event.
    fn close(&mut self) {}
}

/// A reporter cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("a reporter cannot go on")]
pub struct SinkError(#[from] pub std::io::Error);

/// Time, so that tests need not wait.
pub trait Clock: Send + Sync {
    /// The wall clock.
    fn now(&self) -> Timestamp;
    /// The monotonic clock.
    fn monotonic(&self) -> Instant;
    /// Waits.
    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()>;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        clock::now()
    }
    fn monotonic(&self) -> Instant {
        clock::monotonic()
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// What an operator or a signal asks of a live run.
#[derive(Debug, Clone, PartialEq)]
pub enum ControlRequest {
    /// End the run.
    Cancel {
        /// Who asks.
        actor: crate::event::Actor,
        /// How hard.
        level: CancelLevel,
        /// Why.
        reason: String,
    },
    /// Act on the run or on one of its steps.
    Act {
        /// Names the request, so that one delivered twice acts once.
        request: String,
        /// Who asks.
        actor: crate::event::Actor,
        /// What is to be done.
        verb: crate::event::OperatorVerb,
        /// To which step.
        step: Option<crate::base::StepId>,
        /// Why.
        reason: String,
    },
    /// Answer what a step asks.
    Answer {
        /// The step.
        step: crate::base::StepId,
        /// The answer; its `request` names the request.
        answer: Box<crate::event::HumanAnswer>,
    },
    /// The third signal: leave at once, write nothing more.
    Abandon,
    /// The terminal is gone: detach reporters that write to it.
    Detach,
}

/// Where requests to a live run come from.
pub trait Control: Send {
    /// Waits for the next request; pends for ever when none can come. Cancel-safe.
    fn next(&mut self) -> BoxFuture<'_, ControlRequest>;
}

/// Names that only one run of this machine may hold at a time.
pub trait Locks: Send + Sync {
    /// Takes a lock or tells who holds it. The lock is free again when the guard is dropped or the process ends.
    ///
    /// # Errors
    /// Fails with the holder when it is taken.
    fn acquire(&self, name: &str, run: &RunId) -> Result<Box<dyn LockGuard>, LockError>;
}

/// Holds a lock until dropped.
pub trait LockGuard: Send {
    /// The lock's name.
    fn name(&self) -> &str;
    /// The run that held it before and died without letting go of it.
    fn over(&self) -> Option<&str> {
        None
    }
    /// Lets go in order. A guard that is merely dropped leaves the name of its holder behind, as a death does.
    fn release(self: Box<Self>);
}

/// A lock cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another run holds it. Exit code 14.
    #[error("`{name}` is locked by run `{holder}` (process {pid})")]
    Held {
        /// The lock.
        name: String,
        /// The run that holds it.
        holder: String,
        /// Its engine's process.
        pid: u32,
    },
    /// The lock file cannot be used.
    #[error("the lock `{name}` cannot be taken")]
    File {
        /// The lock.
        name: String,
        /// The system's answer.
        source: std::io::Error,
    },
}

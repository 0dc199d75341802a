//! What the engine is given to act with. The program wires it from hosts, stores, secrets and folders.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::action::{ActionError, BoxFuture, CheckContext, Interrupted, Reporter, RunContext};
use crate::base::secret::SecretText;
use crate::base::{Attempt, StepId};
use crate::plan::PlannedStep;

/// The engine's hands. Nothing here is called before the event that announces it is durable.
pub trait Capabilities: Send + Sync {
    /// Gives what one attempt may hold.
    ///
    /// # Errors
    /// Fails when the host or the attempt's folder cannot be had; nothing has been done then.
    fn bind(&self, binding: Binding) -> Result<RunContext, ActionError>;
    /// Gives what a check or a recovery may hold: reading handles.
    ///
    /// # Errors
    /// Fails when the host cannot be had.
    fn read(&self, step: &PlannedStep, timing: Timing) -> Result<CheckContext, ActionError>;
    /// The folder of an attempt: `attempts/<step>/<n>` of the run. Not created by this call.
    fn attempt_dir(&self, step: &StepId, attempt: Attempt) -> PathBuf;
    /// Gives the value of a declared secret.
    ///
    /// # Errors
    /// Fails when no provider answers.
    fn secret(&self, name: &str) -> Result<SecretText, ActionError>;
    /// Replaces every secret value known so far, in any of its forms.
    fn redact<'a>(&self, text: &'a str) -> Cow<'a, str>;
    /// Runs an author's script that tells whether an interrupted attempt happened.
    fn probe<'a>(
        &'a self,
        step: &'a PlannedStep,
        cut: &'a Interrupted,
        script: &'a str,
    ) -> BoxFuture<'a, Result<ProbeAnswer, ActionError>>;
}

/// What [`Capabilities::bind`] has to know.
pub struct Binding {
    /// What the handles are for.
    pub purpose: Purpose,
    /// The step.
    pub step: StepId,
    /// The attempt.
    pub attempt: Attempt,
    /// Its idempotency key.
    pub key: String,
    /// The host's name.
    pub host: String,
    /// The attempt's timeout, for messages.
    pub timeout: Option<Duration>,
    /// How the attempt is told to end.
    pub leash: Leash,
    /// Takes progress and notes.
    pub reporter: Arc<dyn Reporter>,
}

/// What handles are for, which decides what is done about the attempt's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A new attempt: its folder must not exist and is created.
    Attempt,
    /// An attempt that outlived its engine: its folder exists and is kept.
    Reattach,
    /// Work beside the attempts (a precondition, removing what a step registered): a fresh folder of its own.
    Aside,
}

/// When a check is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timing {
    /// Before the first step: what earlier steps change cannot be judged.
    Ahead,
    /// Right before the step.
    Due,
}

/// What a probe says of an interrupted attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeAnswer {
    /// It happened: exit code 0.
    Happened,
    /// It did not: exit code 1.
    DidNot,
    /// It cannot tell: anything else.
    Unclear(String),
}

/// How an attempt is told to end.
#[derive(Debug, Clone, Default)]
pub struct Leash {
    /// Fires when the attempt is to end and gets its grace.
    pub cancel: CancellationToken,
    /// Fires when everything of the attempt is to be killed at once. `cancel` has fired then, too.
    pub kill: CancellationToken,
}

impl Leash {
    /// Tells the attempt to end.
    pub fn pull(&self, level: crate::event::CancelLevel) {
        self.cancel.cancel();
        match level {
            crate::event::CancelLevel::Graceful => {}
            crate::event::CancelLevel::Now => self.kill.cancel(),
        }
    }
}

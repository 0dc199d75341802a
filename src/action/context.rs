//! What an action is given.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{ActionError, Erasures, Foreseen, Host, Mode, ReadHost, ReadStore, Store};
use crate::base::secret::SecretText;
use crate::base::{Attempt, RunId, StepId, Timestamp};
use crate::event::Progress;
use crate::language::inventory::Inventory;

/// What `effects` may know: pure data, computed at bind.
pub struct PlanContext<'a> {
    /// The inventory as the run's environment sees it; scratch databases have their scratch places.
    pub inventory: &'a Inventory,
    /// The mode.
    pub mode: Mode,
    /// The run's own folder for scratch files.
    pub scratch: &'a Path,
    /// The step's host.
    pub host: &'a str,
}

/// Gives secret values by name.
pub trait Secrets: Send + Sync {
    /// Gives the value of a declared secret.
    ///
    /// # Errors
    /// Fails when no provider of the secret answers; the message names the providers, never a value.
    fn get(&self, name: &str) -> Result<SecretText, ActionError>;
}

/// No secrets at all: for stores that need none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSecrets;

impl Secrets for NoSecrets {
    fn get(&self, name: &str) -> Result<SecretText, ActionError> {
        Err(ActionError::fatal(format!("the secret `{name}` cannot be had here")))
    }
}

/// Takes what an action has to say while it runs.
pub trait Reporter: Send + Sync {
    /// Shows progress; lossy.
    fn progress(&self, progress: Progress);
    /// Keeps a fact in the journal, in order with the step's other events.
    fn note(&self, message: String, data: Value);
    /// Registers something the run creates, durably, before it is created. Returns when it is synced.
    fn register(&self, resource: String, data: Value) -> super::BoxFuture<'_, Result<(), ActionError>>;
    /// Says that a registered resource is gone.
    fn removed(&self, resource: String);
}

/// What every context tells about the run.
#[derive(Clone)]
pub struct Surroundings {
    /// The run.
    pub run: RunId,
    /// The run whose steps these are: of an undo the run that is undone, of one that goes on from an earlier run that one,
    /// else the run itself.
    pub steps_of: RunId,
    /// The mode.
    pub mode: Mode,
    /// The environment's name.
    pub environment: String,
    /// The inventory as the run's environment sees it.
    pub inventory: Arc<Inventory>,
    /// The run's own folder for scratch files (exists only for a drill or when a step needs it).
    pub scratch: PathBuf,
    /// The incident, or the start of the run.
    pub incident_at: Timestamp,
    /// When the run began whose steps these are: of an undo, the run that is undone.
    pub began_at: Timestamp,
    /// The secrets.
    pub secrets: Arc<dyn Secrets>,
    /// What must be forgotten, as the state folder has it.
    pub erasures: Arc<dyn Erasures>,
}

/// Opens stores of the inventory by name.
pub type Stores<S> = Arc<dyn Fn(&str) -> Result<Arc<S>, ActionError> + Send + Sync>;

/// What a check and a recovery may hold: reading handles.
pub struct CheckContext {
    /// The run.
    pub about: Surroundings,
    /// The step's host.
    pub host: Arc<dyn ReadHost>,
    /// Opens a store of the inventory for reading.
    pub stores: Stores<dyn ReadStore>,
    /// Whether earlier steps have not run yet, so that only what they do not change may be judged.
    pub ahead: bool,
    /// With `ahead`: the stores that steps before this one write to. What lacks in them may be there when it starts.
    pub changed_stores: BTreeSet<String>,
    /// With `ahead`: outputs that are to be expected of the steps before this one, and of this one.
    pub foreseen: Foreseen,
    /// With `ahead`: the actions of steps before this one. What one of them makes may be there when it starts.
    pub actions_before: BTreeSet<String>,
}

impl CheckContext {
    /// Opens a store of the inventory for reading.
    ///
    /// # Errors
    /// Fails when the store cannot be opened.
    pub fn store(&self, name: &str) -> Result<Arc<dyn ReadStore>, ActionError> {
        (self.stores)(name)
    }

    /// Whether a step before this one may still bring what a store lacks.
    #[must_use]
    pub fn may_still_change(&self, store: &str) -> bool {
        self.ahead && self.changed_stores.contains(store)
    }

    /// Whether a step before this one, which has not run yet, is of an action.
    #[must_use]
    pub fn comes_after(&self, action: &str) -> bool {
        self.ahead && self.actions_before.contains(action)
    }
}

/// What one attempt may hold: writing handles.
pub struct RunContext {
    /// The run.
    pub about: Surroundings,
    /// The step.
    pub step: StepId,
    /// The attempt.
    pub attempt: Attempt,
    /// The same for every attempt of this step in this run.
    pub key: String,
    /// The step's host, bound to this attempt.
    pub host: Arc<dyn Host>,
    /// Opens a store of the inventory.
    pub stores: Stores<dyn Store>,
    /// Takes progress and notes.
    pub reporter: Arc<dyn Reporter>,
    /// Told when the attempt is to end.
    pub cancel: CancellationToken,
    /// The attempt's timeout, for messages; the engine enforces it.
    pub timeout: Option<Duration>,
    /// The attempt's own folder, exists and is empty at the start.
    pub attempt_dir: PathBuf,
}

impl RunContext {
    /// Opens a store of the inventory.
    ///
    /// # Errors
    /// Fails when the store cannot be opened or is read-only here.
    pub fn store(&self, name: &str) -> Result<Arc<dyn Store>, ActionError> {
        (self.stores)(name)
    }

    /// The idempotency key: the same intent, the same key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// An attempt that was running when an engine died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interrupted {
    /// The step.
    pub step: StepId,
    /// The attempt.
    pub attempt: Attempt,
    /// Its idempotency key.
    pub key: String,
    /// When it started.
    pub started_at: Timestamp,
    /// Its folder.
    pub attempt_dir: PathBuf,
}

//! What the engine acts with, put together from hosts, stores, secrets and the run's folder.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::stores::OpenedStores;
use crate::action::{
    ActionError, BoxFuture, CheckContext, CommandSpec, Foreseen, Interrupted, ReadStore, RunContext, Secrets, Store,
    Stores, Surroundings,
};
use crate::base::redact::Redactor;
use crate::base::secret::SecretText;
use crate::base::{Attempt, StepId};
use crate::engine::{Binding, Capabilities, ProbeAnswer, Purpose, Timing};
use crate::host::{self, AttemptBinding, HostSettings};
use crate::journal::erasure::ErasureLedger;
use crate::plan::{BoundPlan, PlannedStep};
use crate::vault::Vault;

/// The engine's hands on this machine.
pub struct LocalCapabilities {
    about: Surroundings,
    attempts: PathBuf,
    settings: HostSettings,
    vault: Arc<Vault>,
    redactor: Mutex<(usize, Arc<Redactor>)>,
    opened: Arc<OpenedStores>,
}

impl LocalCapabilities {
    /// Puts the hands together for one run. `attempts` is the run's folder of attempts, `state` the state root.
    #[must_use]
    pub fn new(
        plan: &BoundPlan,
        (attempts, state): (PathBuf, &Path),
        settings: HostSettings,
        vault: Arc<Vault>,
    ) -> Self {
        let secrets: Arc<dyn Secrets> = Arc::clone(&vault) as Arc<dyn Secrets>;
        let about = Surroundings {
            run: plan.run.clone(),
            steps_of: plan.origin.as_ref().map_or(&plan.run, |origin| &origin.run).clone(),
            mode: plan.mode,
            environment: plan.environment.clone(),
            inventory: Arc::new(plan.inventory.clone()),
            scratch: plan.scratch.clone(),
            incident_at: plan.incident_at.unwrap_or(plan.started_at),
            began_at: plan.origin.as_ref().and_then(|origin| origin.started_at).unwrap_or(plan.started_at),
            secrets,
            erasures: Arc::new(ErasureLedger::below(state)),
        };
        let redactor = Mutex::new((0, Arc::new(Redactor::default())));
        let opened = Arc::new(OpenedStores::new(&about, &plan.environment));
        Self { about, attempts, settings, vault, redactor, opened }
    }

    /// The same hands with another folder: for work that is no step's attempt.
    #[must_use]
    pub fn beside(&self, attempts: PathBuf) -> Self {
        let redactor = Mutex::new((0, Arc::new(Redactor::default())));
        let (settings, vault) = (self.settings.clone(), Arc::clone(&self.vault));
        Self { about: self.about.clone(), attempts, settings, vault, redactor, opened: Arc::clone(&self.opened) }
    }

    /// Masks everything known to be secret by now; made anew only when a secret was fetched since.
    fn redactor(&self) -> Arc<Redactor> {
        let mut known = self.redactor.lock().unwrap_or_else(PoisonError::into_inner);
        let values = self.vault.values().len();
        if known.0 != values {
            *known = (values, self.vault.redactor());
        }
        Arc::clone(&known.1)
    }

    fn settings(&self) -> HostSettings {
        HostSettings { redactor: self.redactor(), ..self.settings.clone() }
    }

    /// Gives reading handles of a host.
    ///
    /// # Errors
    /// Fails when the host cannot be had.
    pub fn read_on(&self, host: &str, timing: Timing) -> Result<CheckContext, ActionError> {
        let host = host::reader(host, &self.settings())
            .map_err(|error| ActionError::fatal("the step's host cannot be reached").because(&error))?;
        let opened = Arc::clone(&self.opened);
        let stores = Arc::new(move |name: &str| -> Result<Arc<dyn ReadStore>, ActionError> { opened.reading(name) });
        Ok(CheckContext {
            about: self.about.clone(),
            host,
            stores,
            ahead: timing == Timing::Ahead,
            changed_stores: BTreeSet::new(),
            foreseen: Foreseen::default(),
            actions_before: BTreeSet::new(),
        })
    }

    fn stores(&self) -> Stores<dyn Store> {
        let opened = Arc::clone(&self.opened);
        Arc::new(move |name| opened.writing(name))
    }
}

impl Capabilities for LocalCapabilities {
    fn bind(&self, binding: Binding) -> Result<RunContext, ActionError> {
        let dir = folder(self.attempt_dir(&binding.step, binding.attempt), binding.purpose)?;
        let attempt = AttemptBinding {
            dir: dir.clone(),
            cancel: binding.leash.cancel.clone(),
            kill: binding.leash.kill.clone(),
            reporter: Arc::clone(&binding.reporter),
            redactor: self.redactor(),
        };
        let host = host::bind(&binding.host, &self.settings(), attempt)
            .map_err(|error| ActionError::fatal("the step's host cannot be reached").because(&error))?;
        Ok(RunContext {
            about: self.about.clone(),
            step: binding.step,
            attempt: binding.attempt,
            key: binding.key,
            host,
            stores: self.stores(),
            reporter: binding.reporter,
            cancel: binding.leash.cancel,
            timeout: binding.timeout,
            attempt_dir: dir,
        })
    }

    fn read(&self, step: &PlannedStep, timing: Timing) -> Result<CheckContext, ActionError> {
        self.read_on(&step.host, timing)
    }

    fn attempt_dir(&self, step: &StepId, attempt: Attempt) -> PathBuf {
        self.attempts.join(step.folder()).join(attempt.to_string())
    }

    fn secret(&self, name: &str) -> Result<SecretText, ActionError> {
        self.vault.get(name)
    }

    fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.redactor().text(text) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(clean) => Cow::Owned(clean),
        }
    }

    fn probe<'a>(
        &'a self,
        step: &'a PlannedStep,
        cut: &'a Interrupted,
        script: &'a str,
    ) -> BoxFuture<'a, Result<ProbeAnswer, ActionError>> {
        Box::pin(async move {
            let host = host::reader(&step.host, &self.settings())
                .map_err(|error| ActionError::fatal("the step's host cannot be reached").because(&error))?;
            let spec = CommandSpec::new("bash")
                .args(["--noprofile", "--norc", "-euo", "pipefail", "-c", script])
                .env("RUNBOOK_STEP", cut.step.as_str())
                .env("RUNBOOK_ATTEMPT_DIR", cut.attempt_dir.to_string_lossy());
            let output = host
                .probe(spec)
                .await
                .map_err(|error| ActionError::retryable("the probe cannot be run").because(&error))?;
            Ok(match output.exit_code {
                Some(0) => ProbeAnswer::Happened,
                Some(1) => ProbeAnswer::DidNot,
                _ => ProbeAnswer::Unclear(output.tail(3).join("; ")),
            })
        })
    }
}

/// Makes the folder that a purpose asks for. Work beside the attempts gets a fresh one: `aside-1`, `aside-2` …
fn folder(attempt: PathBuf, purpose: Purpose) -> Result<PathBuf, ActionError> {
    let failed = |error: std::io::Error| {
        ActionError::fatal(format!("the attempt's folder `{}` cannot be created", attempt.display())).because(&error)
    };
    let step = attempt.parent().unwrap_or(&attempt);
    match purpose {
        Purpose::Reattach => {}
        Purpose::Attempt => {
            std::fs::create_dir_all(step).map_err(failed)?;
            std::fs::create_dir(&attempt).map_err(failed)?;
        }
        Purpose::Aside => {
            std::fs::create_dir_all(step).map_err(failed)?;
            for number in 1..u32::MAX {
                let aside = step.join(format!("aside-{number}"));
                match std::fs::create_dir(&aside) {
                    Ok(()) => return Ok(aside),
                    Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(failed(error)),
                }
            }
        }
    }
    Ok(attempt)
}

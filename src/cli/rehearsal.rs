//! Level 2 of a dry run: the engine itself, with hands that only read and a journal that is never written.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;

use super::capabilities::LocalCapabilities;
use super::{Exit, Failure, invoke, wiring};
use crate::action::{ActionError, BoxFuture, CheckContext, Interrupted, Registry, RunContext, Store};
use crate::base::secret::SecretText;
use crate::base::{Attempt, Digest, RunId, StepId};
use crate::engine::{
    Binding, Capabilities, Cast, Engine, EngineError, Presence, ProbeAnswer, Rehearsal, Start, Timing,
};
use crate::event::{Actor, CancelLevel, ErrorInfo, SkipReason};
use crate::host::ReadingHost;
use crate::journal::MemoryJournal;
use crate::plan::{BoundPlan, PlannedStep, Section};
use crate::port::{Control, ControlRequest, LockError, LockGuard, Locks, SystemClock};
use crate::state::{RunState, StepEnd, StepState, StepStatus};
use crate::store::{ReadingStore, Why};

/// What a rehearsal showed of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// It was made, and succeeded.
    Proved,
    /// It would be skipped, by a condition that nothing else decides.
    WouldSkip,
    /// It would fail now.
    Refused(String),
    /// It was not made, or what it showed proves nothing: why.
    Unproved(String),
}

/// What a rehearsal showed.
#[derive(Debug, Default)]
pub struct Rehearsed {
    /// Of each step.
    pub steps: BTreeMap<StepId, Shown>,
    /// What steps that were made gave.
    pub outputs: BTreeMap<StepId, Value>,
}

/// A rehearsal changes nothing, so it keeps nobody out: every lock is free to it, and none is taken in the world.
struct OwnWorld;

impl Locks for OwnWorld {
    fn acquire(&self, name: &str, _: &RunId) -> Result<Box<dyn LockGuard>, LockError> {
        Ok(Box::new(OwnLock(name.to_owned())))
    }
}

struct OwnLock(String);

impl LockGuard for OwnLock {
    fn name(&self) -> &str {
        &self.0
    }

    fn release(self: Box<Self>) {}
}

/// Rehearses a plan. Steps that are `refused` already are not made.
pub fn rehearse(
    plan: &BoundPlan,
    registry: &Registry,
    hands: &Arc<LocalCapabilities>,
    refused: &BTreeSet<StepId>,
) -> Result<Rehearsed, Failure> {
    let rehearsal = Rehearsal::of(plan, refused);
    let rehearsed = Arc::new(rehearsal.plan(plan));
    let header = invoke::header(&rehearsed, Digest::default());
    let (journal, registry) = (MemoryJournal::new(plan.run.clone(), Digest::default()), rehearsal.registry(registry));
    let hands: Arc<dyn Capabilities> = Arc::new(ReadingHands::new(Arc::clone(hands))?);
    let ran = wiring::block_on_worker(async move {
        let engine = Engine {
            plan: rehearsed,
            registry,
            journal: Box::new(journal),
            sinks: Vec::new(),
            clock: Arc::new(SystemClock),
            control: Box::new(Interrupt),
            capabilities: hands,
            locks: Arc::new(OwnWorld),
            presence: Presence::Nobody,
            entrance: None,
        };
        engine.run(Start::Fresh(Box::new(header))).await
    })?;
    let ending = ran.map_err(|error| failure(&error))?;
    if ending.state.cancel.is_some() {
        return Err(Failure::new(Exit::Cancelled, "the dry run was interrupted; nothing was written"));
    }
    Ok(shown(plan, &rehearsal, &ending.state))
}

fn failure(error: &EngineError) -> Failure {
    let failure = Failure::new(invoke::exit_of(error.exit_code()), format!("the steps cannot be rehearsed: {error}"));
    match std::error::Error::source(error) {
        Some(source) => failure.because(source),
        None => failure,
    }
}

fn shown(plan: &BoundPlan, rehearsal: &Rehearsal, state: &RunState) -> Rehearsed {
    let mut told = Rehearsed::default();
    let nothing = StepState::default();
    for step in &plan.steps {
        if step.section == Section::Undo {
            let why = "it is made only when what its step did is to be reversed";
            told.steps.insert(step.id.clone(), Shown::Unproved(why.to_owned()));
            continue;
        }
        let Some(part) = rehearsal.part(&step.id) else { continue };
        let seen = state.steps.get(&step.id).unwrap_or(&nothing);
        let what = match (&part.cast, &part.rests_on) {
            (Cast::Made, None) => of_made(seen),
            (Cast::Made, Some(other)) => match of_made(seen) {
                Shown::Refused(why) => {
                    Shown::Unproved(format!("{why}; `{other}` was not made, so this proves nothing"))
                }
                proved @ (Shown::Proved | Shown::WouldSkip | Shown::Unproved(_)) => proved,
            },
            (Cast::Sampled(why), rests_on) => of_sampled(why, rests_on.as_ref(), seen),
        };
        if let (Shown::Proved, Some(output)) = (&what, &seen.output) {
            told.outputs.insert(step.id.clone(), output.clone());
        }
        told.steps.insert(step.id.clone(), what);
    }
    told
}

fn of_made(seen: &StepState) -> Shown {
    match seen.status.end() {
        Some(StepEnd::Succeeded) => Shown::Proved,
        Some(StepEnd::Failed | StepEnd::Unknown | StepEnd::Cancelled) => Shown::Refused(error_of(seen)),
        Some(StepEnd::Skipped) if matches!(seen.skipped, Some(SkipReason::When)) => Shown::WouldSkip,
        Some(StepEnd::Skipped) | None => Shown::Unproved("it was not reached: a step before it failed".to_owned()),
    }
}

fn of_sampled(why: &str, rests_on: Option<&StepId>, seen: &StepState) -> Shown {
    match (seen.status, rests_on) {
        (StepStatus::Failed, None) => Shown::Refused(error_of(seen)),
        (StepStatus::Failed, Some(_)) => Shown::Unproved(format!("{why}; with samples: {}", error_of(seen))),
        (StepStatus::Skipped, None) if matches!(seen.skipped, Some(SkipReason::When)) => Shown::WouldSkip,
        (StepStatus::Skipped, Some(_)) if matches!(seen.skipped, Some(SkipReason::When)) => {
            Shown::Unproved(format!("{why}; with samples its condition is false"))
        }
        (StepStatus::Succeeded, _) => Shown::Unproved(why.to_owned()),
        (_, _) => Shown::Unproved("it was not reached: a step before it failed".to_owned()),
    }
}

fn error_of(seen: &StepState) -> String {
    let chain = |error: &ErrorInfo| {
        std::iter::once(&error.message).chain(&error.causes).cloned().collect::<Vec<_>>().join(": ")
    };
    seen.error.as_ref().map_or_else(|| "it did not end".to_owned(), chain)
}

/// The first interrupt ends everything.
struct Interrupt;

impl Control for Interrupt {
    fn next(&mut self) -> BoxFuture<'_, ControlRequest> {
        Box::pin(async {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
            let actor = Actor { name: "signal".to_owned(), from: "SIGINT".to_owned() };
            ControlRequest::Cancel { actor, level: CancelLevel::Now, reason: "SIGINT received".to_owned() }
        })
    }
}

/// Hands that hold no writing handle.
struct ReadingHands {
    local: Arc<LocalCapabilities>,
    /// What a step that reads unpacks meanwhile; gone with the rehearsal.
    scratch: TempDir,
}

impl ReadingHands {
    fn new(local: Arc<LocalCapabilities>) -> Result<Self, Failure> {
        let scratch = tempfile::Builder::new().prefix("runbook-dry-run-").tempdir();
        let scratch =
            scratch.map_err(|error| Failure::new(Exit::Refused, "no temporary folder can be made").because(&error))?;
        Ok(Self { local, scratch })
    }
}

impl Capabilities for ReadingHands {
    fn bind(&self, binding: Binding) -> Result<RunContext, ActionError> {
        let cx = self.local.read_on(&binding.host, Timing::Due)?;
        let folder = self.attempt_dir(&binding.step, binding.attempt);
        std::fs::create_dir_all(&folder)
            .map_err(|error| ActionError::retryable("a temporary folder cannot be made").because(&error))?;
        let stores = cx.stores;
        Ok(RunContext {
            about: cx.about,
            step: binding.step,
            attempt: binding.attempt,
            key: binding.key,
            host: Arc::new(ReadingHost::new(cx.host, folder.clone())),
            stores: Arc::new(move |name| {
                Ok(Arc::new(ReadingStore::over(stores(name)?, Why::Rehearsal)) as Arc<dyn Store>)
            }),
            reporter: binding.reporter,
            cancel: binding.leash.cancel,
            timeout: binding.timeout,
            attempt_dir: folder,
        })
    }

    fn read(&self, step: &PlannedStep, timing: Timing) -> Result<CheckContext, ActionError> {
        self.local.read(step, timing)
    }

    fn attempt_dir(&self, step: &StepId, attempt: Attempt) -> PathBuf {
        self.scratch.path().join(step.folder()).join(attempt.to_string())
    }

    /// A step that is made has all its secrets; for the others any text will do.
    fn secret(&self, name: &str) -> Result<SecretText, ActionError> {
        self.local.secret(name).or_else(|_| Ok(SecretText::new("a sample of a secret".to_owned())))
    }

    fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.local.redact(text)
    }

    fn probe<'a>(
        &'a self,
        _: &'a PlannedStep,
        _: &'a Interrupted,
        _: &'a str,
    ) -> BoxFuture<'a, Result<ProbeAnswer, ActionError>> {
        Box::pin(async { Err(ActionError::fatal("a rehearsal has nothing to recover")) })
    }
}

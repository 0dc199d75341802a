//! `runbook resume RUN --with FILE`: the rest of a run follows another plan, what has begun stays as it was.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::args::{InventoryArgs, Subject};
use super::prepare::{self, Prepared, RunIdentity};
use super::{Exit, Failure, confirm, drill, earlier, wiring};
use crate::action::Mode;
use crate::base::StepId;
use crate::event::EventKind;
use crate::journal::{RunDir, RunLock};
use crate::plan::{BoundPlan, Limits};
use crate::state::{RunState, StepStatus};

/// The file that the rest of a run follows.
#[derive(Debug, Clone)]
pub struct Amendment {
    /// The runbook: a path or a name.
    pub runbook: String,
    /// Its inventory.
    pub inventory: InventoryArgs,
    /// Variables given.
    pub var: Vec<String>,
    /// The word given with `--confirm`.
    pub confirm: Option<String>,
}

impl Amendment {
    /// Binds the file to what the run was started with, puts the plan into its folder and gives it with the event
    /// that makes it count.
    ///
    /// # Errors
    /// Refuses (exit 4) when a step that has begun would have been decided otherwise.
    pub fn apply(
        &self,
        (old, state): (&BoundPlan, &RunState),
        dir: &RunDir,
        lock: &RunLock,
    ) -> Result<(BoundPlan, EventKind), Failure> {
        demand_open(old, state)?;
        let new = self.bind(old)?;
        demand_kept((old, &new), state)?;
        let mut rest = new.clone();
        rest.steps.retain(|step| state.status(&step.id) == StepStatus::Pending);
        if new.mode == Mode::Real {
            confirm::demand(&rest, self.confirm.as_deref(), &[])?;
        }
        let (file, digest) = dir.amend(&new, lock).map_err(|error| wiring::journal_failure(&error))?;
        let changed = changed(old, &new);
        Ok((new, EventKind::PlanAmended { actor: wiring::actor(), plan: digest, file, changed }))
    }

    fn bind(&self, old: &BoundPlan) -> Result<BoundPlan, Failure> {
        let prepared = prepare::load_runbook(&self.runbook, &self.inventory)?;
        prepared.demand_sound()?;
        let subject = self.subject(old);
        let identity = identity(&prepared, old);
        let mut new = prepared.bind_in(&subject, &identity, old.environment.clone())?;
        if new.mode == Mode::Drill {
            drill::demand_harmless(&prepared, &subject, &identity, &new)?;
        }
        // What was begun under the old locks is still under way.
        let locks: BTreeSet<String> = new.locks.iter().chain(&old.locks).cloned().collect();
        new.locks = locks.into_iter().collect();
        new.limits = Limits { ..old.limits };
        new.undo.clone_from(&old.undo);
        new.origin.clone_from(&old.origin);
        Ok(new)
    }

    fn subject(&self, old: &BoundPlan) -> Subject {
        Subject {
            runbook: self.runbook.clone(),
            environment: Some(old.environment.clone()),
            param: Vec::new(),
            params_file: None::<PathBuf>,
            var: self.var.clone(),
            inventory: self.inventory.clone(),
            max_parallel: None,
        }
    }
}

/// The run as it was started: its parameters as far as the file still knows them.
fn identity(prepared: &Prepared, old: &BoundPlan) -> RunIdentity {
    let known = |name: &String| prepared.plan.runbook.params.iter().any(|(param, _)| param.value == *name);
    let given = old.params.iter().filter(|(name, value)| !value.is_null() && known(name));
    RunIdentity {
        run: old.run.clone(),
        mode: old.mode,
        now: old.started_at,
        scratch: old.scratch.clone(),
        params: given.map(|(name, value)| (name.clone(), value.clone())).collect(),
        actor: old.actor.clone(),
    }
}

/// Stops (exit 4) where another plan makes no sense.
fn demand_open(old: &BoundPlan, state: &RunState) -> Result<(), Failure> {
    let run = &old.run;
    if state.finished.is_some() {
        return Err(Failure::new(Exit::Refused, format!("run `{run}` has ended, so there is no rest to amend"))
            .help("start a new run, with `--from STEP --of RUN` to keep what is done; nothing was changed"));
    }
    if state.header.is_none() {
        return Err(Failure::new(Exit::Refused, format!("run `{run}` has not begun, so there is nothing to keep"))
            .help("start a new run; nothing was changed"));
    }
    if old.undo != crate::plan::UndoPolicy::Never && old.undo != crate::plan::UndoPolicy::OnFailure {
        return Err(Failure::new(Exit::Refused, format!("run `{run}` undoes another one, by the plan of that one"))
            .help("resume it without `--with`; nothing was changed"));
    }
    Ok(())
}

/// Stops (exit 4) with every step that has begun and that the new plan leaves out or decides otherwise.
fn demand_kept((old, new): (&BoundPlan, &BoundPlan), state: &RunState) -> Result<(), Failure> {
    let begun = state.steps.iter().filter(|(_, known)| known.status != StepStatus::Pending).map(|(id, _)| id);
    let mut broken = BTreeSet::new();
    for id in begun {
        let Some(before) = earlier::planned(old, id) else { continue };
        match earlier::planned(new, id) {
            Some(after) if after.fingerprint == before.fingerprint => continue,
            Some(_) => broken.insert(format!("step `{}` has begun, and the file now says something else", before.id)),
            None => broken.insert(format!("step `{}` has begun, and the file does not have it any more", before.id)),
        };
    }
    if broken.is_empty() {
        return Ok(());
    }
    for what in &broken {
        tell!("refused: {what}");
    }
    Err(Failure::new(Exit::Refused, "what has begun cannot be changed any more; nothing was changed")
        .help("keep these steps as they were, or start a new run with `--from STEP --of RUN` once this one has ended"))
}

/// The steps that are new, gone or decided otherwise, in the order of the new plan.
fn changed(old: &BoundPlan, new: &BoundPlan) -> Vec<StepId> {
    let gone = old.steps.iter().filter(|step| new.step(&step.id).is_none());
    let differs = |id: &StepId, fingerprint| old.step(id).is_none_or(|step| step.fingerprint != fingerprint);
    let other = new.steps.iter().filter(|step| differs(&step.id, step.fingerprint));
    other.chain(gone).map(|step| step.id.clone()).collect()
}

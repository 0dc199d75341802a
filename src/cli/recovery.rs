//! Which real recovery of a database is open, by the history of runs.
//!
//! It is open from its first destroying attempt on until a later step `backup.unfreeze` says that it is over, whatever
//! became of its run: what a failed one left behind may have to be tried again from the same backups.

use serde::Serialize;

use super::{Failure, wiring};
use crate::action::{Access, Mode, Target};
use crate::base::{RunId, Timestamp};
use crate::event::Outcome;
use crate::journal::{RunDir, RunStatus, RunSummary, Runs};
use crate::plan::{BoundPlan, PlannedStep, lock_of_database};
use crate::state::{RunState, StepEnd};

/// The action that says that a recovery is over.
const UNFREEZE: &str = "backup.unfreeze";
/// Actions that replace a whole server by a backup.
const RECOVERIES: [&str; 2] = ["postgres.recover", "pgbackrest.restore"];

/// A recovery that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Open {
    /// Its run.
    pub run: RunId,
    /// The database, by the name that run gave it.
    pub database: String,
    /// When it began.
    pub since: Option<Timestamp>,
    /// What became of the run.
    pub status: RunStatus,
}

/// Finds the recovery of the database under a lock that is open, other than that of the run `besides`.
///
/// # Errors
/// Fails when the history of runs cannot be read.
pub fn open(runs: &Runs, lock: &str, besides: Option<&RunId>) -> Result<Option<Open>, Failure> {
    let mut ids = runs.ids().map_err(wiring::runs_failure)?;
    ids.retain(|id| Some(id) != besides);
    ids.sort();
    for id in ids.iter().rev() {
        let dir = runs.dir(id);
        let Ok((plan, _)) = dir.plan() else { continue };
        if plan.mode != Mode::Real || !concerns(&plan, lock) {
            continue;
        }
        match standing(&dir, &plan, lock) {
            Standing::Open { since, status } => {
                let database = named(&plan, lock).unwrap_or_default();
                return Ok(Some(Open { run: id.clone(), database, since, status }));
            }
            Standing::Lifted => return Ok(None),
            Standing::Nothing => {}
        }
    }
    Ok(None)
}

/// Tells whether a run replaces the database under a lock, or says that its recovery is over.
pub fn concerns(plan: &BoundPlan, lock: &str) -> bool {
    plan.steps.iter().any(|step| replaces(plan, step, lock) || lifts(plan, step, lock))
}

fn named(plan: &BoundPlan, lock: &str) -> Option<String> {
    let mut entries = plan.inventory.databases.iter();
    entries.find(|(_, entry)| lock_of_database(entry) == lock).map(|(name, _)| name.clone())
}

fn is_under(plan: &BoundPlan, name: &str, lock: &str) -> bool {
    // A plan that was frozen without its inventory's entry goes by its locks alone.
    match plan.inventory.databases.get(name) {
        Some(entry) => lock_of_database(entry) == lock,
        None => plan.locks.iter().any(|known| known == lock),
    }
}

fn replaces(plan: &BoundPlan, step: &PlannedStep, lock: &str) -> bool {
    step.effects.targets.iter().any(|(access, target)| match target {
        Target::Database { name } => *access == Access::Destroy && is_under(plan, name, lock),
        Target::Path { .. }
        | Target::Port { .. }
        | Target::Service { .. }
        | Target::Store { .. }
        | Target::Url { .. } => false,
    })
}

fn lifts(plan: &BoundPlan, step: &PlannedStep, lock: &str) -> bool {
    step.uses == UNFREEZE && step.effects.holds.iter().any(|name| is_under(plan, name, lock))
}

/// What a run left behind.
enum Standing {
    /// A recovery that nobody said is over.
    Open { since: Option<Timestamp>, status: RunStatus },
    /// Somebody said that it is over.
    Lifted,
    /// Nothing was replaced.
    Nothing,
}

fn standing(dir: &RunDir, plan: &BoundPlan, lock: &str) -> Standing {
    let status = RunSummary::of(dir).status;
    let state = dir.read().ok().and_then(|history| RunState::fold(&history.events).ok());
    let Some(state) = state else { return Standing::Open { since: None, status } };
    let lifted = plan.steps.iter().filter(|step| lifts(plan, step, lock)).filter_map(|step| ended_well(&state, step));
    let lifted = lifted.max();
    let replacing = || plan.steps.iter().filter(|step| replaces(plan, step, lock));
    let mut begun: Vec<Timestamp> = replacing().filter_map(|step| begun_at(&state, step)).collect();
    begun.sort();
    let last = begun.last().copied();
    let since = begun.first().copied().or(state.started_at);
    let recovers = replacing().any(|step| RECOVERIES.contains(&step.uses.as_str()) && begun_at(&state, step).is_some());
    if lifted.is_some_and(|lifted| last.is_none_or(|last| lifted >= last)) {
        return Standing::Lifted;
    }
    let is_open = match &status {
        RunStatus::Live | RunStatus::Suspended | RunStatus::Interrupted | RunStatus::Damaged { .. } => {
            replacing().next().is_some()
        }
        RunStatus::NeverStarted => false,
        RunStatus::Finished { outcome: Outcome::FailedUnknown, .. } => last.is_some(),
        RunStatus::Finished { .. } => recovers,
    };
    if is_open { Standing::Open { since, status } } else { Standing::Nothing }
}

fn ended_well(state: &RunState, step: &PlannedStep) -> Option<Timestamp> {
    let known = state.steps.get(&step.id)?;
    known.ended_at.filter(|_| known.status.end() == Some(StepEnd::Succeeded))
}

fn begun_at(state: &RunState, step: &PlannedStep) -> Option<Timestamp> {
    let known = state.steps.get(&step.id)?;
    known.started_at.filter(|_| !known.attempts.is_empty())
}

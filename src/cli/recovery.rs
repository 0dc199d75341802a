//! Which real recovery of a database is open, by the history of runs.
//!
//! It is open from its first destroying attempt on until a later step `backup.unfreeze` says that it is over, whatever
//! became of its run: what a failed one left behind may have to be tried again from the same backups. So is a restore of
//! less than a server, from a dump for example, that did not come to its end; one that did is over by itself, and so are
//! those before it that were to bring the same back and failed. A recovery that was undone, so that the old server is
//! back on its own data, has replaced nothing and is over, too.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::{Failure, undone, wiring};
use crate::action::{Access, Mode, Target};
use crate::base::{RunId, Timestamp};
use crate::event::{OriginPurpose, Outcome};
use crate::journal::{RunDir, RunStatus, RunSummary, Runs};
use crate::plan::{BoundPlan, INCIDENT_AT, PlannedStep, Section, lock_of_database};
use crate::state::{RunState, StepEnd};

/// The action that says that a recovery is over.
const UNFREEZE: &str = "backup.unfreeze";
/// Actions that replace a whole server by a backup.
const RECOVERIES: [&str; 2] = ["postgres.recover", "pgbackrest.restore"];

/// Actions that replace a part of it by what a backup holds, or bring a backup into its place.
const RESTORES: [&str; 3] = ["postgres.restore_base", "postgres.restore_dump", "postgres.restore_table"];

/// Parameters that say which state comes back, when it was missed, and what else helps: not what is replaced by it.
const OF_THE_STATE: [&str; 9] =
    [INCIDENT_AT, "backup", "before", "orphans", "recover_to", "recover_to_lsn", "timeline", "wal_folder", "wal_store"];

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
    let order = runs.order();
    let mut left_open: Vec<(Open, Option<Timestamp>, Option<Part>)> = Vec::new();
    let mut lifted: Vec<(RunId, Timestamp)> = Vec::new();
    let mut restored: Vec<(RunId, Part, Timestamp)> = Vec::new();
    let mut given_back: Vec<RunId> = Vec::new();
    for id in &ids {
        let dir = runs.dir(id);
        let Ok((plan, _)) = dir.plan() else { continue };
        if plan.mode != Mode::Real || !concerns(&plan, lock) {
            continue;
        }
        given_back.extend(undoing(runs, &dir, &plan));
        match standing(&dir, &plan, lock) {
            RecoveryEvidence::Open { since, last, status } => {
                let database = named(&plan, lock).unwrap_or_default();
                let part = Part::of(&plan).filter(|_| has_ended(&status));
                left_open.push((Open { run: id.clone(), database, since, status }, last, part));
            }
            RecoveryEvidence::Lifted(at) => lifted.push((id.clone(), at)),
            RecoveryEvidence::Restored(at) => restored.extend(Part::of(&plan).map(|part| (id.clone(), part, at))),
            RecoveryEvidence::Nothing => {}
        }
    }
    // A run may be resumed after a later one ended: what counts is when it replaced something, where that is known. What began
    // when it was over came after it whatever the clock was set to.
    let is_over = |(open, last, part): &(Open, Option<Timestamp>, Option<Part>)| {
        // Nor does what was over when it began say anything of it.
        let follows = |run: &RunId, at: Timestamp| {
            !order.began_after_end(&open.run, run)
                && (order.began_after_end(run, &open.run) || last.is_some_and(|last| at >= last))
        };
        let again = |(run, other, at): &(RunId, Part, Timestamp)| part.as_ref() == Some(other) && follows(run, *at);
        let lifts =
            |(run, at): &(RunId, Timestamp)| follows(run, *at) || (last.is_none() && order.is_later(run, &open.run));
        given_back.contains(&open.run) || lifted.iter().any(lifts) || restored.iter().any(again)
    };
    Ok(left_open.into_iter().find(|one| !is_over(one)).map(|(open, ..)| open))
}

/// The newest run that has brought the whole server under a lock back, and went well.
pub fn newest_that_went_well(runs: &Runs, lock: &str) -> Option<RunId> {
    runs.ids().ok()?.into_iter().find(|id| {
        let dir = runs.dir(id);
        let RunStatus::Finished { outcome, .. } = RunSummary::of(&dir).status else { return false };
        let Ok((plan, _)) = dir.plan() else { return false };
        let replaced = || plan.steps.iter().filter(|step| is_recovery(step) && replaces(&plan, step, lock));
        if plan.mode != Mode::Real || !went_well(outcome) || replaced().next().is_none() {
            return false;
        }
        let state = dir.read().ok().and_then(|history| RunState::fold(&history.events).ok());
        state.is_some_and(|state| replaced().any(|step| ended_well(&state, step).is_some()))
    })
}

/// The run whose recovery a run has undone.
fn undoing(runs: &Runs, dir: &RunDir, plan: &BoundPlan) -> Option<RunId> {
    plan.steps.iter().find(|step| step.section == Section::Undo && step.uses == undone::START)?;
    let state = RunState::fold(&dir.read().ok()?.events).ok()?;
    undone::recovery(runs, plan, &state)
}

/// What a run brings back that replaces less than a server. Two that are alike replace the same, whatever state they
/// bring it back to.
#[derive(Debug, PartialEq)]
struct Part {
    runbook: String,
    environment: String,
    params: BTreeMap<String, Value>,
}

impl Part {
    /// What a plan brings back; `None` where that is a whole server.
    fn of(plan: &BoundPlan) -> Option<Self> {
        let undoes = plan.origin.as_ref().is_some_and(|origin| origin.purpose == OriginPurpose::Undo);
        if undoes || recovers(plan) {
            return None;
        }
        let mut params = plan.params.clone();
        params.retain(|name, _| !OF_THE_STATE.contains(&name.as_str()));
        Some(Self { runbook: plan.name.clone(), environment: plan.environment.clone(), params })
    }
}

/// Whether a run is over and nobody can go on with it.
fn has_ended(status: &RunStatus) -> bool {
    match status {
        RunStatus::Finished { .. } => true,
        RunStatus::Live
        | RunStatus::Suspended
        | RunStatus::Interrupted
        | RunStatus::NeverStarted
        | RunStatus::Unread { .. }
        | RunStatus::Damaged { .. } => false,
    }
}

/// Names the runs whose plans cannot be read, so that nobody can tell what they replace.
///
/// # Errors
/// Fails when the history of runs cannot be read.
pub fn unreadable(runs: &Runs) -> Result<Vec<RunId>, Failure> {
    let mut ids = runs.ids().map_err(wiring::runs_failure)?;
    ids.retain(|id| runs.dir(id).plan().is_err());
    ids.sort();
    Ok(ids)
}

/// Tells whether a run replaces the database under a lock, or says that its recovery is over.
pub fn concerns(plan: &BoundPlan, lock: &str) -> bool {
    plan.steps.iter().any(|step| replaces(plan, step, lock) || lifts(plan, step, lock))
}

/// Tells whether a run brings a whole server back from a backup.
pub fn recovers(plan: &BoundPlan) -> bool {
    plan.steps.iter().any(is_recovery)
}

fn is_recovery(step: &PlannedStep) -> bool {
    RECOVERIES.contains(&step.uses.as_str())
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
enum RecoveryEvidence {
    /// A recovery that nobody said is over, and when its last replacing attempt began.
    Open { since: Option<Timestamp>, last: Option<Timestamp>, status: RunStatus },
    /// Somebody said then that it is over.
    Lifted(Timestamp),
    /// A part of the server was brought back then, and the run went well.
    Restored(Timestamp),
    /// Nothing was replaced.
    Nothing,
}

fn standing(dir: &RunDir, plan: &BoundPlan, lock: &str) -> RecoveryEvidence {
    let status = RunSummary::of(dir).status;
    let state = dir.read().ok().and_then(|history| RunState::fold(&history.events).ok());
    let Some(state) = state else { return RecoveryEvidence::Open { since: None, last: None, status } };
    let lifted = plan.steps.iter().filter(|step| lifts(plan, step, lock)).filter_map(|step| ended_well(&state, step));
    let lifted = lifted.max();
    let replacing = || plan.steps.iter().filter(|step| replaces(plan, step, lock));
    let begun = || replacing().flat_map(|step| begun_at(&state, step));
    let last = begun().max();
    let since = begun().min().or(state.started_at);
    let recovers =
        replacing().filter(|step| is_recovery(step)).flat_map(|step| begun_at(&state, step)).next().is_some();
    if let Some(lifted) = lifted.filter(|lifted| last.is_none_or(|last| *lifted >= last)) {
        return RecoveryEvidence::Lifted(lifted);
    }
    let is_open = match &status {
        RunStatus::Live
        | RunStatus::Suspended
        | RunStatus::Interrupted
        | RunStatus::Unread { .. }
        | RunStatus::Damaged { .. } => replacing().next().is_some(),
        RunStatus::NeverStarted => false,
        RunStatus::Finished { outcome: Outcome::FailedUnknown, .. } => last.is_some(),
        RunStatus::Finished { outcome, .. } => {
            let restores = replacing().any(|step| RESTORES.contains(&step.uses.as_str()));
            let left_off =
                replacing().any(|step| begun_at(&state, step).next().is_some() && ended_well(&state, step).is_none());
            recovers || (restores && last.is_some() && (left_off || !went_well(*outcome)))
        }
    };
    if is_open {
        return RecoveryEvidence::Open { since, last, status };
    }
    restored(&status, &state, replacing()).map_or(RecoveryEvidence::Nothing, RecoveryEvidence::Restored)
}

/// When the last part of a server was brought back by a run that went well, and brought all of them back.
fn restored<'a>(
    status: &RunStatus,
    state: &RunState,
    replacing: impl Iterator<Item = &'a PlannedStep>,
) -> Option<Timestamp> {
    let RunStatus::Finished { outcome, .. } = status else { return None };
    let parts = replacing.filter(|step| RESTORES.contains(&step.uses.as_str()));
    let ended: Option<Vec<Timestamp>> = parts.map(|step| ended_well(state, step)).collect();
    ended.filter(|_| went_well(*outcome))?.into_iter().max()
}

/// Whether a run came to its end.
fn went_well(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Succeeded | Outcome::SucceededWithExceptions | Outcome::ObjectiveMissed | Outcome::Inconclusive => {
            true
        }
        Outcome::Failed | Outcome::FailedUnknown | Outcome::Cancelled => false,
    }
}

fn ended_well(state: &RunState, step: &PlannedStep) -> Option<Timestamp> {
    let known = state.steps.get(&step.id)?;
    known.ended_at.filter(|_| known.status.end() == Some(StepEnd::Succeeded))
}

/// When the attempts of a step began.
fn begun_at(state: &RunState, step: &PlannedStep) -> impl Iterator<Item = Timestamp> {
    state.steps.get(&step.id).into_iter().flat_map(|known| known.attempts.iter().map(|attempt| attempt.started_at))
}

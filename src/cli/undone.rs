//! A recovery that was undone: the old server is back on its own data, so that nothing was replaced and nothing has to
//! stay frozen for another try.

use std::path::PathBuf;

use super::again::Again;
use super::{Failure, attest, wiring};
use crate::action::{Access, Mode, Target};
use crate::actions::postgres::recovery::recover::RecoverOutput;
use crate::actions::postgres::recovery::start::StartOutput;
use crate::base::{RunId, clock};
use crate::catalog::CatalogError;
use crate::catalog::attest::Lifted;
use crate::catalog::freeze::thaw_of;
use crate::event::OriginPurpose;
use crate::journal::Runs;
use crate::plan::{BoundPlan, PlannedStep, Section};
use crate::state::{RunState, StepEnd};

/// The action that starts a server again, and the one that stopped it.
pub const START: &str = "postgres.start";
const STOP: &str = "postgres.stop";
/// The action that moves the old data aside and recovers.
const RECOVER: &str = "postgres.recover";
/// The same of what pgBackRest has.
const RESTORE: &str = "pgbackrest.restore";
/// What its note of the old data says where that is.
const KEPT: &str = "kept";

/// The run whose recovery a run has undone, itself perhaps; `None` where the old server is not known to be back on its
/// own data, or where that was moved aside, given up, or replaced for good.
pub fn recovery(runs: &Runs, plan: &BoundPlan, state: &RunState) -> Option<RunId> {
    let started = plan.steps.iter().filter(|step| step.section == Section::Undo && step.uses == START);
    let outputs = started.filter_map(|step| state.steps.get(&step.id)?.output.clone());
    let mut outputs = outputs.filter_map(|output| serde_json::from_value::<StartOutput>(output).ok());
    if !outputs.any(|output| output.original) {
        return None;
    }
    let origin = plan.origin.as_ref().filter(|origin| origin.purpose == OriginPurpose::Undo);
    let Some(origin) = origin else { return replaced_nothing(plan, state).then(|| plan.run.clone()) };
    let dir = runs.dir(&origin.run);
    let (plan, _) = dir.plan().ok()?;
    let state = RunState::fold(&dir.read().ok()?.events).ok()?;
    replaced_nothing(&plan, &state).then(|| origin.run.clone())
}

/// A recovery that came to its end: no undo takes it back.
pub struct Replaced {
    /// The database.
    pub database: String,
    /// Where the data from before was kept, if it was.
    pub kept: Option<PathBuf>,
}

/// The recoveries of a run that have put a server on other data.
pub fn replaced_for_good(plan: &BoundPlan, state: &RunState) -> Vec<Replaced> {
    let is_recovery = |step: &&PlannedStep| [RECOVER, RESTORE].contains(&step.uses.as_str());
    let recovers = plan.steps.iter().filter(|step| step.section == Section::Body).filter(is_recovery);
    let ended = recovers.filter_map(|step| state.steps.get(&step.id)).filter(|known| !known.marked_done);
    let outputs =
        ended.filter(|known| known.status.end() == Some(StepEnd::Succeeded)).filter_map(|known| known.output.clone());
    let outputs = outputs.filter_map(|output| serde_json::from_value::<RecoverOutput>(output).ok());
    let live = outputs.filter(|output| plan.mode == Mode::Real && output.instance.side.is_none());
    live.map(|output| Replaced { database: output.instance.database, kept: output.kept }).collect()
}

impl Replaced {
    /// Says it, with where the data from before is.
    pub fn tell(&self, again: &Again) {
        let Self { database, kept } = self;
        tell!("warning: a recovery has no undo: `{database}` stays on the data that it was recovered to");
        let state = again.line(["restore", database, "--timeline", "NUMBER"]);
        let archived = format!("`{state}`, with the timeline from before, brings back what its archived WAL has");
        match kept {
            Some(kept) => tell!(
                "  help: the data from before lies in `{}`, with its WAL: remove nothing of it; with the server stopped it can be moved \
                 back into its place; or {archived}",
                kept.display()
            ),
            None => tell!("  help: {archived}"),
        }
    }
}

/// Whether an attempt of a step was ever made.
pub fn has_begun(state: &RunState, step: &PlannedStep) -> bool {
    state.steps.get(&step.id).is_some_and(|known| !known.attempts.is_empty())
}

/// Whether a run meant to recover a server and had not come so far as to touch its data.
fn replaced_nothing(plan: &BoundPlan, state: &RunState) -> bool {
    let ended_well = |step: &PlannedStep| {
        state.steps.get(&step.id).is_some_and(|known| known.status.end() == Some(StepEnd::Succeeded))
    };
    // What was moved aside is noted as soon as it is.
    let moved = |step: &PlannedStep| {
        let known = state.steps.get(&step.id);
        known.is_some_and(|known| known.notes.iter().any(|(_, _, data)| data.get(KEPT).is_some()))
    };
    let touches = |step: &&PlannedStep| {
        let destroys = step.effects.targets.iter().any(|(access, _)| *access == Access::Destroy);
        match step.uses.as_str() {
            RECOVER => ended_well(step) || moved(step),
            START | STOP => false,
            _ => destroys && has_begun(state, step),
        }
    };
    plan.steps.iter().any(|step| step.uses == RECOVER) && !plan.steps.iter().any(|step| touches(&step))
}

/// Whether an undo of a run starts the server again that it stopped, on its own data, so that its freeze is lifted with it.
pub fn gives_back(plan: &BoundPlan, state: &RunState) -> bool {
    let starts = plan.steps.iter().any(|step| step.section == Section::Undo && step.uses == START);
    plan.mode == Mode::Real && starts && state.finished.is_some() && replaced_nothing(plan, state)
}

/// Whether what a run had frozen is lifted with its end.
pub fn is_given_back(runs: &Runs, plan: &BoundPlan, state: &RunState) -> bool {
    recovery(runs, plan, state).is_some() || only_staged(plan, state)
}

/// Whether a run that has ended had frozen what it was to recover from, and stopped and replaced nothing.
fn only_staged(plan: &BoundPlan, state: &RunState) -> bool {
    let touches = |step: &&PlannedStep| matches!(step.uses.as_str(), RECOVER | STOP);
    plan.mode == Mode::Real
        && replaced_nothing(plan, state)
        && !plan.steps.iter().filter(touches).any(|step| has_begun(state, step))
}

/// Lifts the freeze that an undone recovery has put on the stores; says what is left for somebody to do.
pub fn lift(runs: &Runs, plan: &BoundPlan, state: &RunState) {
    let (run, why) = match recovery(runs, plan, state) {
        Some(run) => (run, "the recovery was undone: the old server is back on its own data"),
        None if only_staged(plan, state) => (plan.run.clone(), "the run ended before it stopped or replaced anything"),
        None => return,
    };
    let reason = why.to_owned();
    let lifted = Lifted { by: format!("run {}", plan.run), reason, at: clock::now() };
    for (store, prefix) in places(plan) {
        let thawed = match plan.inventory.stores.get(&store) {
            Some(entry) if entry.read_only => continue,
            Some(entry) => attest::opening(plan, &store, entry).and_then(|place| {
                let store = place.open_existing().map_err(|error| error.to_string())?;
                let thawed = wiring::block_on(async { thaw_of(&*store, &prefix, run.as_str(), &lifted).await });
                let thawed = thawed.map_err(|failure: Failure| failure.message)?;
                thawed.map_err(|error: CatalogError| attest::chain(&error))
            }),
            None => continue,
        };
        match thawed {
            Ok(true) => {
                tell!("the freeze of `{prefix}` in `{store}` for run {run} is lifted: {why}");
            }
            Ok(false) => {}
            Err(why) => {
                tell!(
                    "warning: `{prefix}` in `{store}` stays frozen for run {run}, though {reason}: {why}",
                    reason = lifted.reason
                );
                tell!("  help: `runbook run lift-freeze` lifts it when the store answers");
            }
        }
    }
}

/// Where the recoveries of a plan freeze what they rest on.
fn places(plan: &BoundPlan) -> Vec<(String, String)> {
    let steps = plan.steps.iter().filter(|step| step.uses == RECOVER);
    let targets = steps.flat_map(|step| &step.effects.targets);
    let mut names: Vec<&String> = targets
        .filter_map(|(access, target)| match target {
            Target::Database { name } if *access == Access::Destroy => Some(name),
            Target::Database { .. }
            | Target::Path { .. }
            | Target::Port { .. }
            | Target::Service { .. }
            | Target::Store { .. }
            | Target::Url { .. } => None,
        })
        .collect();
    names.dedup();
    let entries = names.into_iter().filter_map(|name| plan.inventory.databases.get_key_value(name));
    let places = entries.flat_map(|(name, entry)| {
        let prefix = entry.prefix.as_ref().unwrap_or(name);
        entry.keeping().into_iter().map(move |store| (store.to_owned(), prefix.clone()))
    });
    places.collect()
}

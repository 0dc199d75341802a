//! What a run takes from an earlier one: the ends of its steps, in the order in which they came.

use std::collections::BTreeSet;

use super::{Exit, Failure, invoke, operate, wiring};
use crate::base::{RunId, StepId};
use crate::engine::may_have_run;
use crate::event::{EventKind, OriginPurpose, RunOrigin, SeededEnd};
use crate::journal::{RunDir, Runs, Verb};
use crate::plan::{BoundPlan, PlannedStep, Section};
use crate::state::{RunState, StepEnd, StepState, StepStatus};

/// A run as its folder tells it.
pub struct Earlier {
    /// Its folder.
    pub dir: RunDir,
    /// The plan it followed last.
    pub plan: BoundPlan,
    /// Where it stands.
    pub state: RunState,
}

impl Earlier {
    /// Reads a run.
    pub fn read(dir: RunDir) -> Result<Self, Failure> {
        let (plan, _) = dir.plan().map_err(|error| wiring::journal_failure(&error))?;
        let history = dir.read().map_err(|error| wiring::journal_failure(&error))?;
        let state = invoke::fold(&history.events)?;
        Ok(Self { dir, plan, state })
    }

    /// Stops (exit 4) unless the run is over: one that can still go on tells nothing that holds.
    pub fn demand_finished(&self) -> Result<(), Failure> {
        if self.state.finished.is_some() {
            return Ok(());
        }
        let run = self.dir.id();
        let live = self.dir.is_live().map_err(wiring::runs_failure)?;
        Err(if live {
            Failure::new(Exit::Refused, format!("run `{run}` is still going on; nothing was changed"))
                .help(format!("`runbook show {run} --follow` follows it, `runbook cancel {run}` ends it"))
        } else {
            let is_cancelled =
                operate::kept(&self.dir, &self.state)?.iter().any(|verb| matches!(verb, Verb::Cancel { .. }));
            let help = match is_cancelled {
                true => {
                    format!("a `cancel` of it is kept: `runbook resume {run}` carries it out and runs its `finally`")
                }
                false => {
                    format!(
                        "`runbook resume {run}` goes on with it; `{}` first ends it",
                        self.plan.with_reason(format!("runbook cancel {run}"))
                    )
                }
            };
            Failure::new(Exit::Refused, format!("run `{run}` has not ended; nothing was changed")).help(help)
        })
    }

    /// The step as the plan has it; of an instance, the one it is an instance of.
    pub fn planned(&self, id: &StepId) -> Option<&PlannedStep> {
        planned(&self.plan, id)
    }
}

/// The step as a plan has it; of an instance, the one it is an instance of.
pub fn planned<'a>(plan: &'a BoundPlan, id: &StepId) -> Option<&'a PlannedStep> {
    plan.step(id).or_else(|| plan.step(&id.of_instance()?))
}

/// Names the runs that undo a run, oldest first: each with its folder.
pub fn undoings(runs: &Runs, of: &RunId) -> Result<Vec<RunDir>, Failure> {
    let later = runs.ids().map_err(wiring::runs_failure)?.into_iter().take_while(|id| id != of);
    let undoes = |dir: &RunDir| {
        let origin = dir.header().and_then(|header| header.origin);
        origin.is_some_and(|origin| origin.run == *of && origin.purpose == OriginPurpose::Undo)
    };
    let mut found: Vec<RunDir> = later.map(|id| runs.dir(&id)).filter(undoes).collect();
    found.reverse();
    Ok(found)
}

/// Everything that the run of a plan takes from its origin, as it stands now.
///
/// # Errors
/// Refuses (exit 4) when a later run has undone what this one would undo.
pub fn seeds(runs: &Runs, plan: &BoundPlan, origin: &RunOrigin) -> Result<Vec<EventKind>, Failure> {
    let earlier = Earlier::read(runs.dir(&origin.run))?;
    match (origin.purpose, &origin.step) {
        (OriginPurpose::Undo, _) => {
            let (order, own) = (runs.order(), &plan.run);
            let others = undoings(runs, &origin.run)?.into_iter().filter(|dir| dir.id() != own);
            // A run that is still to be created comes after all.
            let is_there = runs.dir(own).path().is_dir();
            let (after, before): (Vec<RunDir>, Vec<RunDir>) =
                others.partition(|dir| is_there && order.is_later(dir.id(), own));
            if let Some(later) = after.first() {
                let message = format!("run `{}` has undone run `{}` since", later.id(), origin.run);
                return Err(Failure::new(Exit::Refused, message).help("nothing was changed"));
            }
            to_undo(&earlier, before)
        }
        (OriginPurpose::Seed, Some(step)) => Ok(super::restart::seeds(&earlier, plan, step)),
        (OriginPurpose::Seed, None) => Ok(Vec::new()),
        (OriginPurpose::Reap, _) => Ok(super::reap::seeds(&wiring::leases(runs)?, plan, &origin.run)),
    }
}

/// Every end of a run's body, and what was undone of it already: in the run itself or by others since.
pub fn to_undo(earlier: &Earlier, undoings: Vec<RunDir>) -> Result<Vec<EventKind>, Failure> {
    let is_body = |id: &StepId, _: &StepState| earlier.planned(id).is_some_and(|step| step.section == Section::Body);
    let mut seeds = ends(earlier, is_body);
    let mut undone = BTreeSet::new();
    undone_in(earlier, &mut undone, &mut seeds);
    for dir in undoings {
        undone_in(&Earlier::read(dir)?, &mut undone, &mut seeds);
    }
    Ok(seeds)
}

/// Adds what was undone in a run.
fn undone_in(run: &Earlier, undone: &mut BTreeSet<StepId>, seeds: &mut Vec<EventKind>) {
    let done = |id: &StepId, step: &StepState| id.undone().is_some() && step.status == StepStatus::Succeeded;
    let mut found: Vec<_> = run.state.steps.iter().filter(|(id, step)| done(id, step)).collect();
    found.sort_by_key(|(_, step)| step.ended_seq);
    for (id, step) in found {
        if undone.insert(id.clone()) {
            seeds.push(seed(run, id, step));
        }
    }
}

/// The ends of steps in the order in which they came, each group opened before its first member.
pub fn ends(earlier: &Earlier, keep: impl Fn(&StepId, &StepState) -> bool) -> Vec<EventKind> {
    let ended = |step: &StepState| step.status.is_terminal();
    let kept = earlier.state.steps.iter().filter(|(id, step)| ended(step) && keep(id, step));
    let mut kept: Vec<_> = kept.collect();
    kept.sort_by_key(|(_, step)| step.ended_seq);
    let (mut seeds, mut opened) = (Vec::new(), BTreeSet::new());
    for (id, step) in kept {
        open_groups(earlier, id, &mut opened, &mut seeds);
        seeds.push(seed(earlier, id, step));
    }
    seeds
}

/// Opens what a step is a member of, the outermost first.
fn open_groups(earlier: &Earlier, id: &StepId, opened: &mut BTreeSet<StepId>, seeds: &mut Vec<EventKind>) {
    let Some(group) = id.of_instance().or_else(|| id.parent()) else { return };
    open_groups(earlier, &group, opened, seeds);
    if let (Some(known), true) = (earlier.state.steps.get(&group), opened.insert(group.clone())) {
        seeds.push(EventKind::GroupOpened { step: group, instances: known.instances.clone() });
    }
}

fn seed(earlier: &Earlier, id: &StepId, step: &StepState) -> EventKind {
    EventKind::StepSeeded {
        step: id.clone(),
        of: step.seeded_from.clone().unwrap_or_else(|| earlier.dir.id().clone()),
        end: end(step),
        output: step.output.clone().unwrap_or_default(),
    }
}

/// What counts later is whether a step may have done something.
fn end(step: &StepState) -> SeededEnd {
    if !may_have_run(step) {
        return SeededEnd::Skipped;
    }
    match step.status.end() {
        Some(StepEnd::Succeeded) => SeededEnd::Succeeded,
        Some(StepEnd::Unknown) => SeededEnd::Unknown,
        Some(StepEnd::Cancelled) => SeededEnd::Cancelled,
        // What an operator left out after it had begun may have done something, too.
        Some(StepEnd::Failed | StepEnd::Skipped) => SeededEnd::Failed,
        None => SeededEnd::Skipped,
    }
}

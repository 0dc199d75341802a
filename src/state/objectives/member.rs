//! The members of groups, as far as figures and outcomes care for them.

use std::collections::BTreeSet;

use crate::base::StepId;
use crate::event::SkipReason;
use crate::language::runbook::OnFailure;
use crate::plan::{BoundPlan, PlannedStep, Section, StepKind};
use crate::state::{RunState, StepState};

/// Gives the instances that a fan-out came to, or what reverses them, with what is known of each.
pub(super) fn instances<'a>(
    step: &'a PlannedStep,
    state: &'a RunState,
) -> impl Iterator<Item = (StepId, Option<&'a StepState>)> {
    let undone = step.id.undone().filter(|_| step.section == Section::Undo);
    let reverses = undone.is_some();
    let opened = state.steps.get(undone.as_ref().unwrap_or(&step.id));
    let instances = opened.map_or(&[][..], |opened| &opened.instances);
    instances.iter().map(move |instance| {
        let id = if reverses { instance.step.undo() } else { instance.step.clone() };
        let known = state.steps.get(&id);
        (id, known)
    })
}

/// The sub-runbooks on whose steps the run's success does not depend: tolerated ones, those whose `when` was false,
/// those that are made in any case, and what lies in such a one.
pub(super) fn excused<'a>(plan: &'a BoundPlan, state: &RunState) -> BTreeSet<&'a StepId> {
    let mut excused = BTreeSet::new();
    // A group stands in the plan before the groups in it.
    for group in plan.steps.iter().filter(|step| step.kind == StepKind::Runbook) {
        let refused = state.steps.get(&group.id).is_some_and(|known| known.skipped == Some(SkipReason::When));
        let tolerated = group.on_failure == OnFailure::Continue;
        if refused || tolerated || group.always || is_excused(group, &excused) {
            excused.insert(&group.id);
        }
    }
    excused
}

/// Tells whether a step is in such a sub-runbook, or runs in any case in its own.
pub(super) fn is_excused(step: &PlannedStep, excused: &BTreeSet<&StepId>) -> bool {
    let in_excused = step.group.as_ref().is_some_and(|group| excused.contains(group));
    step.section == Section::Body && (step.always || in_excused)
}

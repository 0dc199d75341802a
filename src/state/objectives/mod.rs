//! What a run measured against its objectives, from its plan and its state alone.
//!
//! Pure: no clock, no I/O. Start with [`figures`] and [`outcome`]; [`warnings_due`] is asked while
//! the run goes on.

mod damage;
mod figures;
mod lacking;
mod loss;
mod member;
mod outcome;
mod path;
mod split;
#[cfg(test)]
mod tests;
mod unproven;
mod warning;

pub use damage::{DamagedCopy, damaged};
pub use figures::figures;
pub use lacking::{LackingStore, lacking};
pub use outcome::{end, exceptions, exit_code, left_behind, outcome};
pub use path::critical_path;
pub use unproven::unproven;
pub use warning::warnings_due;

use crate::event::SkipReason;
use crate::language::runbook::OnFailure;
use crate::plan::{BoundPlan, PlannedStep, Section, UndoPolicy};
use crate::state::{RunState, StepState};

/// Tells whether the run's success depends on the step as far as the step itself says: a body step whose failure is
/// not tolerated and whose `when` was not false; what is around it may excuse it. Of a run that undoes an earlier one,
/// it is what there is to undo.
#[must_use]
pub fn is_required(plan: &BoundPlan, step: &PlannedStep, state: &RunState) -> bool {
    may_be_required(plan, step) && asked_for(state.steps.get(&step.id))
}

fn may_be_required(plan: &BoundPlan, step: &PlannedStep) -> bool {
    step.section == required_section(plan) && step.on_failure != OnFailure::Continue
}

fn asked_for(known: Option<&StepState>) -> bool {
    let skipped = known.and_then(|known| known.skipped.as_ref());
    // What became of a sub-runbook that was not opened stands at the step that stands for it.
    !matches!(skipped, Some(SkipReason::When | SkipReason::NothingToUndo | SkipReason::Group))
}

/// The section that a run is for.
#[must_use]
pub fn required_section(plan: &BoundPlan) -> Section {
    match plan.undo {
        UndoPolicy::Never | UndoPolicy::OnFailure => Section::Body,
        UndoPolicy::Now { .. } => Section::Undo,
    }
}

/// Gives the required steps in the order of the plan, with what is known of each.
fn required<'a>(
    plan: &'a BoundPlan,
    state: &'a RunState,
) -> impl Iterator<Item = (&'a PlannedStep, Option<&'a StepState>)> {
    let excused = member::excused(plan, state);
    let required = move |step: &&PlannedStep| may_be_required(plan, step) && !member::is_excused(step, &excused);
    let ends = plan.steps.iter().filter(required).flat_map(|step| {
        // The ends of a fan-out's instances are in its own; what reverses them has no other end.
        let undone = member::instances(step, state).filter(|_| step.section == Section::Undo);
        std::iter::once((step, state.steps.get(&step.id))).chain(undone.map(move |(_, known)| (step, known)))
    });
    ends.filter(|(_, known)| asked_for(*known))
}

//! What a run measured against its objectives, from its plan and its state alone.
//!
//! Pure: no clock, no I/O. Start with [`figures`] and [`outcome`]; [`warnings_due`] is asked while
//! the run goes on.

mod figures;
mod loss;
mod outcome;
mod path;
mod split;
#[cfg(test)]
mod tests;
mod warning;

pub use figures::figures;
pub use outcome::{end, exceptions, exit_code, left_behind, outcome};
pub use path::critical_path;
pub use warning::warnings_due;

use crate::event::SkipReason;
use crate::language::runbook::OnFailure;
use crate::plan::{BoundPlan, PlannedStep, Section, UndoPolicy};
use crate::state::{RunState, StepState, StepStatus};

/// Tells whether the run's success depends on the step: a body step whose failure is not tolerated
/// and whose `when` was not false. Of a run that undoes an earlier one, it is what there is to undo.
#[must_use]
pub fn is_required(plan: &BoundPlan, step: &PlannedStep, state: &RunState) -> bool {
    let skipped = state.steps.get(&step.id).and_then(|known| known.skipped.as_ref());
    let not_asked_for = matches!(skipped, Some(SkipReason::When | SkipReason::NothingToUndo));
    step.section == required_section(plan) && step.on_failure != OnFailure::Continue && !not_asked_for
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
    plan.steps.iter().filter(|step| is_required(plan, step, state)).map(|step| (step, state.steps.get(&step.id)))
}

fn status(state: &RunState, step: &PlannedStep) -> StepStatus {
    state.steps.get(&step.id).map_or(StepStatus::Pending, |step| step.status)
}

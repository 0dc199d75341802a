//! What a run measured against its objectives, from its plan and its state alone.
//!
//! Pure: no clock, no I/O. Start with [`figures`] and [`outcome`]; [`warnings_due`] is asked while
//! the run goes on.

mod figures;
mod loss;
mod member;
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
use crate::plan::{BoundPlan, PlannedStep, Section};
use crate::state::{RunState, StepState, StepStatus};

/// Tells whether the run's success depends on the step as far as the step itself says: a body step whose failure is
/// not tolerated and whose `when` was not false. What is around it may excuse it.
#[must_use]
pub fn is_required(step: &PlannedStep, state: &RunState) -> bool {
    let refused_by_when = state.steps.get(&step.id).is_some_and(|s| s.skipped == Some(SkipReason::When));
    step.section == Section::Body && step.on_failure != OnFailure::Continue && !refused_by_when
}

/// Gives the required steps in the order of the plan, with what is known of each.
fn required<'a>(
    plan: &'a BoundPlan,
    state: &'a RunState,
) -> impl Iterator<Item = (&'a PlannedStep, Option<&'a StepState>)> {
    let excused = member::excused(plan, state);
    let required =
        plan.steps.iter().filter(move |step| is_required(step, state) && !member::is_excused(step, &excused));
    required.map(|step| (step, state.steps.get(&step.id)))
}

fn status(state: &RunState, step: &PlannedStep) -> StepStatus {
    state.steps.get(&step.id).map_or(StepStatus::Pending, |step| step.status)
}

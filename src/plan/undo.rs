//! The `undo` of a step as a step of its own: what the file leaves out is that of the step it reverses.

use crate::language::runbook::Step;

/// What follows the id of a step in the id of the step that reverses it, as `base::StepId` has it.
const UNDO: &str = ".undo";

/// Gives the step that reverses `of`, if the file says how.
pub(super) fn of(step: &Step) -> Option<Step> {
    let mut undo = step.undo.as_deref()?.clone();
    let own_name = !undo.name.is_empty() && undo.name != undo.id.value && undo.name != step.name;
    undo.id.value = format!("{}{UNDO}", step.id.value);
    if !own_name {
        undo.name = format!("undo of {}", step.name);
    }
    undo.phase.clone_from(&step.phase);
    undo.modes.clone_from(&step.modes);
    Some(undo)
}

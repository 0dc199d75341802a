//! The `undo` of a step as a step of its own: in the phase and the modes of the step it reverses.

use crate::language::runbook::Step;

/// Gives the step that reverses another one, if the file says how.
pub(super) fn of(step: &Step) -> Option<Step> {
    let mut undo = step.undo.as_deref()?.clone();
    undo.phase.clone_from(&step.phase);
    undo.modes.clone_from(&step.modes);
    Some(undo)
}

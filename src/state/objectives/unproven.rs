//! What steps say was not put to the test: a drill that had nothing to bring back proves no way back.

use crate::state::{RunState, StepStatus};

/// Why a run that succeeded proves nothing of what it was for, as its steps say by the member `unproven` of their
/// outputs; empty where nothing stands against it.
#[must_use]
pub fn unproven(state: &RunState) -> Vec<String> {
    let succeeded = state.steps.values().filter(|known| known.status == StepStatus::Succeeded);
    let said = succeeded.filter_map(|known| known.output.as_ref()?.get("unproven")?.as_array());
    said.flatten().filter_map(|why| why.as_str().map(str::to_owned)).collect()
}

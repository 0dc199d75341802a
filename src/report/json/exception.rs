//! Exceptions in the document.

use schemars::JsonSchema;
use serde::Serialize;

use crate::base::StepId;
use crate::event::ExceptionKind;
use crate::report::remark::remarks;
use crate::state::RunState;

/// Something that makes a run less than a plain success.
#[derive(Serialize, JsonSchema)]
pub(super) struct ExceptionReport {
    /// The step.
    step: StepId,
    /// What.
    kind: ExceptionKind,
    /// Who did it, where a person did.
    by: Option<String>,
    /// Why, in that person's words.
    reason: Option<String>,
}

/// Gives each exception with who caused it.
pub(super) fn exceptions(state: &RunState) -> Vec<ExceptionReport> {
    let told = remarks(state).into_iter();
    told.map(|remark| ExceptionReport { step: remark.step, kind: remark.kind, by: remark.by, reason: remark.reason })
        .collect()
}

//! Objectives and exceptions in the document.

use schemars::JsonSchema;
use serde::Serialize;

use crate::base::StepId;
use crate::event::{ExceptionKind, ObjectiveKind};
use crate::plan::BoundPlan;
use crate::report::remark::remarks;
use crate::state::RunState;

/// An objective and what came of it.
#[derive(Serialize, JsonSchema)]
pub(super) struct VerdictReport {
    /// Which.
    objective: ObjectiveKind,
    /// What was wanted.
    target_ms: Option<u64>,
    /// What was measured; null when nothing was.
    measured_ms: Option<u64>,
    /// Whether it was met; null when nothing was measured or wanted.
    met: Option<bool>,
}

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

/// Gives each objective that was set or measured.
pub(super) fn verdicts(plan: &BoundPlan, state: &RunState) -> Vec<VerdictReport> {
    let figures = state.finished.as_ref().map(|(_, _, figures)| figures);
    let of_plan = |span: Option<crate::base::units::Span>| span.and_then(|span| u64::try_from(span.0.as_millis()).ok());
    let rto = (ObjectiveKind::Rto, of_plan(plan.objectives.rto), figures.and_then(|figures| figures.rto_ms));
    let lost = figures.and_then(|figures| figures.rpo.as_ref()).map(|loss| loss.unwanted_ms);
    let rpo = (ObjectiveKind::Rpo, of_plan(plan.objectives.rpo), lost);
    let stated = |(objective, target_ms, measured_ms): (ObjectiveKind, Option<u64>, Option<u64>)| {
        let met = measured_ms.zip(target_ms).map(|(measured, target)| measured <= target);
        (target_ms.is_some() || measured_ms.is_some()).then_some(VerdictReport {
            objective,
            target_ms,
            measured_ms,
            met,
        })
    };
    [rto, rpo].into_iter().filter_map(stated).collect()
}

/// Gives each exception with who caused it.
pub(super) fn exceptions(state: &RunState) -> Vec<ExceptionReport> {
    let told = remarks(state).into_iter();
    told.map(|remark| ExceptionReport { step: remark.step, kind: remark.kind, by: remark.by, reason: remark.reason })
        .collect()
}

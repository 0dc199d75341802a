//! The figures of a run.

use std::time::Duration;

use super::{loss, outcome, path, required, split};
use crate::base::Timestamp;
use crate::base::clock::between;
use crate::event::{Figures, PhaseFigure};
use crate::language::runbook::{Objectives, Phase};
use crate::plan::{BoundPlan, Section};
use crate::state::{RunState, StepEnd, StepStatus};

/// Measures a run that ended, or stands, at `ended_at`.
///
/// The recovery time is given only when every required step came to its end in success: a service
/// that is not back has no recovery time. Machine, retry, lock, human and waiting time add up to the time from
/// the incident (else the start of the run) to the end of the last required step (else `ended_at`).
#[must_use]
pub fn figures(plan: &BoundPlan, state: &RunState, ended_at: Timestamp) -> Figures {
    let started_at = state.started_at.unwrap_or(plan.started_at);
    let recovered_at = recovered_at(plan, state);
    let origin = plan.incident_at.unwrap_or(started_at);
    // What undoes an earlier run recovers nothing, so it is held against no objective,
    // and the loss that the earlier one measured is not what there is now.
    let (objectives, rpo) = match super::required_section(plan) {
        Section::Undo => (Objectives::default(), None),
        Section::Body | Section::Finally => (plan.objectives, loss::verdict(plan, state)),
    };
    let split = split::split(plan, state, origin, recovered_at.unwrap_or(ended_at));
    Figures {
        run_ms: millis(between(started_at, ended_at)),
        rto_ms: rto(plan, state).map(millis),
        rto_target_ms: objectives.rto.map(|span| millis(span.0)),
        rpo,
        rpo_target_ms: objectives.rpo.map(|span| millis(span.0)),
        machine_ms: millis(split.machine),
        retry_ms: millis(split.retry),
        lock_ms: millis(split.lock),
        human_ms: millis(split.human),
        waiting_ms: millis(split.total)
            .saturating_sub(millis(split.machine) + millis(split.retry) + millis(split.lock) + millis(split.human)),
        critical_path: path::critical_path(plan, state),
        phases: plan.phases.iter().filter_map(|phase| phase_figure(plan, state, phase, ended_at)).collect(),
        exceptions: outcome::exceptions(plan, state),
    }
}

/// Gives the recovery time: from the incident to the end of the last required step.
pub(super) fn rto(plan: &BoundPlan, state: &RunState) -> Option<Duration> {
    Some(between(plan.incident_at?, recovered_at(plan, state)?))
}

/// Gives the moment the last required step ended, once all of them did and none failed.
pub(super) fn recovered_at(plan: &BoundPlan, state: &RunState) -> Option<Timestamp> {
    let mut last = None;
    for (_, step) in required(plan, state) {
        let step = step?;
        match step.status.end() {
            Some(StepEnd::Succeeded) => last = last.max(step.ended_at),
            // What was to be done and never ran brought nothing back, even where the run counts as a success.
            Some(StepEnd::Skipped | StepEnd::Failed | StepEnd::Cancelled | StepEnd::Unknown) | None => return None,
        }
    }
    last
}

fn phase_figure(plan: &BoundPlan, state: &RunState, phase: &Phase, ended_at: Timestamp) -> Option<PhaseFigure> {
    let worked = plan
        .steps
        .iter()
        .filter(|step| step.phase.as_deref() == Some(&phase.id))
        .filter(|step| step.section != Section::Undo || super::required_section(plan) == Section::Undo)
        .filter_map(|step| state.steps.get(&step.id))
        .filter(|step| step.status != StepStatus::Skipped);
    let mut bounds: Option<(Timestamp, Timestamp)> = None;
    for step in worked {
        let Some(start) = step.started_at else { continue };
        let end = step.ended_at.unwrap_or(ended_at).max(start);
        bounds = Some(bounds.map_or((start, end), |(first, last)| (first.min(start), last.max(end))));
    }
    let (start, end) = bounds?;
    Some(PhaseFigure {
        phase: phase.id.clone(),
        elapsed_ms: millis(between(start, end)),
        budget_ms: phase.budget.map(|span| millis(span.0)),
    })
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

//! How a run ended, and what made a success one with exceptions.

use super::damage::damaged;
use super::lacking::lacking;
use super::member::{excused, instances, is_excused};
use super::unproven::unproven;
use super::{figures, loss, required};
use crate::base::StepId;
use crate::base::mode::Mode;
use crate::event::{ExceptionKind, OnTimeout, Outcome, SkipReason};
use crate::language::runbook::OnFailure;
use crate::plan::{BoundPlan, Section};
use crate::state::{RunState, StepEnd, StepState, StepStatus};

/// Judges a run whose body is settled, and gives the code its process ends with.
///
/// Asked before `finally` has run, it gives the body's outcome. An unknown effect outweighs a
/// failure, a failure outweighs a cancel, and only a success is measured against the objectives.
#[must_use]
pub fn outcome(plan: &BoundPlan, state: &RunState) -> (Outcome, u8) {
    let outcome = judge(plan, state);
    (outcome, exit_code(outcome))
}

/// Judges a run in which nothing is left to do: a success that left something behind is one with exceptions.
#[must_use]
pub fn end(plan: &BoundPlan, state: &RunState) -> (Outcome, u8) {
    let outcome = match judge(plan, state) {
        Outcome::Succeeded if !state.resources.is_empty() => Outcome::SucceededWithExceptions,
        other => other,
    };
    (outcome, exit_code(outcome))
}

/// Lists the steps whose resources are still there; at the end of a run each is an exception.
#[must_use]
pub fn left_behind(state: &RunState) -> Vec<(StepId, ExceptionKind)> {
    state.resources.values().map(|known| (known.step.clone(), ExceptionKind::LeftBehind)).collect()
}

/// Gives the exit code of an outcome.
#[must_use]
pub fn exit_code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Succeeded => 0,
        Outcome::SucceededWithExceptions => 5,
        Outcome::Failed => 10,
        Outcome::FailedUnknown => 11,
        Outcome::Cancelled => 12,
        Outcome::ObjectiveMissed | Outcome::Inconclusive => 16,
    }
}

fn judge(plan: &BoundPlan, state: &RunState) -> Outcome {
    let mut failed = false;
    let mut cancelled = false;
    for step in required(plan, state).map(|(_, step)| step).chain(undone_instances(plan, state)) {
        let skipped = step.and_then(|step| step.skipped.as_ref());
        match step.and_then(|step| step.status.end()) {
            Some(StepEnd::Unknown) => return Outcome::FailedUnknown,
            Some(StepEnd::Failed) => failed = true,
            Some(StepEnd::Cancelled) => cancelled = true,
            Some(StepEnd::Skipped) => match skipped {
                Some(SkipReason::Cancelled) => cancelled = true,
                Some(SkipReason::Aborted | SkipReason::UndoStopped) => failed = true,
                Some(
                    SkipReason::When
                    | SkipReason::Need { .. }
                    | SkipReason::ByHand
                    | SkipReason::NothingToUndo
                    | SkipReason::Group,
                )
                | None => {}
            },
            Some(StepEnd::Succeeded) => {}
            // Not settled: a success is not claimed.
            None => match &state.cancel {
                Some(_) => cancelled = true,
                None => failed = true,
            },
        }
    }
    if failed && !only_aborted_by_cancel(plan, state) {
        return Outcome::Failed;
    }
    if cancelled || failed {
        return Outcome::Cancelled;
    }
    success(plan, state)
}

/// What a run that undoes an earlier one makes for the instances of a fan-out, which no frozen plan holds.
fn undone_instances<'a>(plan: &'a BoundPlan, state: &'a RunState) -> impl Iterator<Item = Option<&'a StepState>> {
    let is_required = |id: &StepId| {
        let step = id.undone().and_then(|of| of.of_instance()).and_then(|group| plan.step(&group.undo()));
        step.is_some_and(|step| step.on_failure != OnFailure::Continue)
    };
    let wanted = super::required_section(plan) == Section::Undo;
    state.steps.iter().filter(move |(id, _)| wanted && is_required(id)).map(|(_, step)| Some(step))
}

/// Tells whether steps were given up for a cancel alone: no required step failed itself.
fn only_aborted_by_cancel(plan: &BoundPlan, state: &RunState) -> bool {
    state.cancel.is_some()
        && required(plan, state).all(|(_, known)| known.is_none_or(|known| known.status != StepStatus::Failed))
}

fn success(plan: &BoundPlan, state: &RunState) -> Outcome {
    if plan.mode == Mode::Drill && super::required_section(plan) == Section::Body {
        let rto_missed = match (plan.objectives.rto, figures::rto(plan, state)) {
            (Some(target), Some(measured)) => measured > target.0,
            (Some(_) | None, None) | (None, Some(_)) => false,
        };
        if rto_missed {
            return Outcome::ObjectiveMissed;
        }
        if let Some(target) = plan.objectives.rpo {
            match loss::verdict(plan, state) {
                Some(loss) if u128::from(loss.unwanted_ms) > target.0.as_millis() => return Outcome::ObjectiveMissed,
                Some(_) => {}
                None => return Outcome::Inconclusive,
            }
        }
        if !unproven(state).is_empty() {
            return Outcome::Inconclusive;
        }
    }
    if exceptions(plan, state).is_empty() { Outcome::Succeeded } else { Outcome::SucceededWithExceptions }
}

/// Lists what makes a success one with exceptions, in the order of the plan, instances after their fan-out.
#[must_use]
pub fn exceptions(plan: &BoundPlan, state: &RunState) -> Vec<(StepId, ExceptionKind)> {
    let excused = excused(plan, state);
    let mut found = Vec::new();
    for step in &plan.steps {
        let tolerated = match step.section {
            Section::Body | Section::Undo if step.section != super::required_section(plan) => None,
            Section::Body | Section::Undo if super::is_required(plan, step, state) && !is_excused(step, &excused) => {
                None
            }
            Section::Body | Section::Undo => Some(ExceptionKind::Tolerated),
            Section::Finally => Some(ExceptionKind::Finally),
        };
        let itself = (step.id.clone(), state.steps.get(&step.id));
        let all = std::iter::once(itself).chain(instances(step, state));
        found.extend(all.filter_map(|(id, known)| Some((id, exception(known?, tolerated)?))));
    }
    found
}

/// An approval that not everybody gave who should have.
fn unattended(step: &StepState) -> Option<ExceptionKind> {
    let question = step.question.as_ref().filter(|_| step.status == StepStatus::Succeeded)?;
    if step.answers.iter().any(|(_, answer)| answer.break_glass.is_some()) {
        return Some(ExceptionKind::BrokeGlass);
    }
    (step.expired && question.on_timeout == OnTimeout::Continue).then_some(ExceptionKind::Unapproved)
}

fn exception(known: &StepState, tolerated: Option<ExceptionKind>) -> Option<ExceptionKind> {
    if known.marked_done {
        return Some(ExceptionKind::MarkedDone);
    }
    if let Some(kind) = unattended(known) {
        return Some(kind);
    }
    match known.status.end() {
        Some(StepEnd::Failed | StepEnd::Unknown | StepEnd::Cancelled) => tolerated,
        Some(StepEnd::Skipped) => match known.skipped {
            Some(SkipReason::Need { .. }) => Some(ExceptionKind::Skipped),
            Some(SkipReason::Aborted | SkipReason::Cancelled) => tolerated,
            Some(SkipReason::ByHand) => Some(ExceptionKind::LeftOut),
            Some(SkipReason::When | SkipReason::NothingToUndo | SkipReason::UndoStopped | SkipReason::Group) | None => {
                None
            }
        },
        Some(StepEnd::Succeeded) if !damaged(known).is_empty() => Some(ExceptionKind::DamagedCopy),
        Some(StepEnd::Succeeded) => (!lacking(known).is_empty()).then_some(ExceptionKind::LackingCopy),
        None => None,
    }
}

//! The table of legal transitions: which event a step takes where it stands, and where it goes.

use super::StepStatus;
use crate::base::{Attempt, StepId};
use crate::event::{EventKind, RecoverDecision, SeededEnd, SkipReason};

use StepStatus::{
    Asking, Cancelled, Checked, Failed, Held, Open, Pending, Resolved, Running, Skipped, Succeeded, Unknown, Waiting,
};

const ANY: &[StepStatus] =
    &[Pending, Resolved, Checked, Running, Waiting, Open, Asking, Held, Succeeded, Failed, Skipped, Cancelled, Unknown];

/// One row of the table of legal transitions.
pub(super) struct StepMove<'a> {
    pub(super) step: &'a StepId,
    pub(super) what: &'static str,
    pub(super) from: &'static [StepStatus],
    /// Where the step goes; `None` = it stays.
    pub(super) to: Option<StepStatus>,
}

impl<'a> StepMove<'a> {
    pub(super) fn of(kind: &'a EventKind) -> Option<Self> {
        let (step, what, from, to): (_, _, &[StepStatus], _) = match kind {
            EventKind::StepResolved { step, .. } => (step, "step_resolved", &[Pending, Waiting], Some(Resolved)),
            EventKind::StepChecked { step, .. } => (step, "step_checked", &[Resolved], Some(Checked)),
            EventKind::AttemptStarted { step, .. } => {
                (step, "attempt_started", &[Resolved, Checked, Waiting], Some(Running))
            }
            EventKind::AttemptFailed { step, .. } => (step, "attempt_failed", &[Running], Some(Waiting)),
            EventKind::AttemptAdopted { step, .. } => (step, "attempt_adopted", &[Running], None),
            EventKind::AttemptRecovered { step, decision, .. } => {
                let to = match decision {
                    RecoverDecision::Rerun => Some(Waiting),
                    RecoverDecision::Adopt { .. } | RecoverDecision::Ask => None,
                };
                (step, "attempt_recovered", &[Running], to)
            }
            EventKind::StepSucceeded { step, attempt: Attempt(0), .. } => {
                (step, "step_succeeded", &[Pending, Resolved, Checked, Running, Waiting, Asking, Held], Some(Succeeded))
            }
            EventKind::StepSucceeded { step, .. } => {
                (step, "step_succeeded", &[Running, Open, Asking], Some(Succeeded))
            }
            EventKind::StepFailed { step, .. } => {
                (step, "step_failed", &[Pending, Resolved, Checked, Running, Waiting, Open, Asking], Some(Failed))
            }
            EventKind::StepUnknown { step, .. } => {
                (step, "step_unknown", &[Running, Waiting, Open, Held], Some(Unknown))
            }
            EventKind::StepSkipped { step, why: SkipReason::ByHand } => {
                (step, "step_skipped", &[Pending, Resolved, Checked, Running, Waiting, Asking, Held], Some(Skipped))
            }
            EventKind::StepSkipped { step, .. } => {
                (step, "step_skipped", &[Pending, Resolved, Checked, Waiting], Some(Skipped))
            }
            EventKind::StepCancelled { step, .. } => {
                (step, "step_cancelled", &[Resolved, Checked, Running, Waiting, Open, Asking, Held], Some(Cancelled))
            }
            EventKind::GroupOpened { step, .. } => {
                (step, "group_opened", &[Pending, Resolved, Checked, Waiting], Some(Open))
            }
            EventKind::StepSeeded { step, end, .. } => {
                let to = match end {
                    SeededEnd::Succeeded => Succeeded,
                    SeededEnd::Failed => Failed,
                    SeededEnd::Unknown => Unknown,
                    SeededEnd::Cancelled => Cancelled,
                    SeededEnd::Skipped => Skipped,
                };
                (step, "step_seeded", &[Pending, Open], Some(to))
            }
            EventKind::StepHeld { step, .. } => {
                (step, "step_held", &[Pending, Resolved, Checked, Running, Waiting, Asking], Some(Held))
            }
            EventKind::StepReleased { step } => (step, "step_released", &[Held, Waiting], Some(Waiting)),
            EventKind::StepAsked { step, .. } => (step, "step_asked", &[Resolved, Checked], Some(Asking)),
            EventKind::StepAnswered { step, .. } => (step, "step_answered", &[Asking], None),
            EventKind::StepExpired { step, .. } => (step, "step_expired", &[Asking], None),
            EventKind::StepStalled { step, .. } => (step, "step_stalled", &[Running], None),
            EventKind::StepNoted { step, .. } => (step, "step_noted", ANY, None),
            EventKind::RunStarted(_)
            | EventKind::RunResumed { .. }
            | EventKind::TailCut { .. }
            | EventKind::ResourceRegistered { .. }
            | EventKind::ResourceRemoved { .. }
            | EventKind::ObjectiveWarning { .. }
            | EventKind::CancelRequested { .. }
            | EventKind::LockAwaited { .. }
            | EventKind::LockTaken { .. }
            | EventKind::OperatorActed { .. }
            | EventKind::OperatorRefused { .. }
            | EventKind::PlanAmended { .. }
            | EventKind::RunSuspended { .. }
            | EventKind::RunFinished { .. }
            | EventKind::Unknown => return None,
        };
        Some(Self { step, what, from, to })
    }
}

/// Gives the step whose state an event changes.
#[must_use]
pub fn subject(kind: &EventKind) -> Option<&StepId> {
    StepMove::of(kind).map(|row| row.step)
}

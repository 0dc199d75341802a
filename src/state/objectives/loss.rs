//! The loss of data, as a recovering step reported it.

use serde::Deserialize;
use serde_json::Value;

use super::figures::{millis, recovered_at};
use crate::base::clock::between;
use crate::base::{StepId, Timestamp};
use crate::event::{Coverage, LossVerdict};
use crate::plan::BoundPlan;
use crate::state::{RunState, StepState, StepStatus, UndoState};

/// The `loss` member of a step's output.
#[derive(Deserialize)]
struct ReportedLoss {
    coverage: Coverage,
    #[serde(default)]
    newest_commit_at: Option<Timestamp>,
    #[serde(default)]
    chosen_target_at: Option<Timestamp>,
    /// Everything before it is there, though the newest commit may be older.
    #[serde(default)]
    complete_until: Option<Timestamp>,
}

/// Judges the loss; the worst where several steps measured one, `None` where none did.
///
/// A target chosen before the incident moves the reference: what lies after it was given up on
/// purpose and is the chosen loss, not the unwanted one. Of one at the incident or after it that is nothing; what was committed
/// since is given up all the same. The output names the target as `chosen_target_at`; where it does not, the step's argument
/// `target_time` counts, unless it lies behind the incident: a recovery to behind the last commit brings all back.
pub(super) fn verdict(plan: &BoundPlan, state: &RunState) -> Option<LossVerdict> {
    let incident_at = plan.incident_at.unwrap_or(plan.started_at);
    plan.steps
        .iter()
        .filter_map(|step| {
            let known = state.steps.get(&step.id).filter(|known| known.status == StepStatus::Succeeded)?;
            // What was given up came back with what took the step back.
            if known.undo == Some(UndoState::Undone) {
                return None;
            }
            let beside = is_copy(known);
            // What a copy has is back only where all was done that was to bring it back.
            if beside && (plan.objectives.rpo.is_none() || recovered_at(plan, state).is_none()) {
                return None;
            }
            Some(LossVerdict { beside, ..judge(&step.id, known, incident_at)? })
        })
        .reduce(|worst, next| if next.unwanted_ms > worst.unwanted_ms { next } else { worst })
}

/// Whether a step opened a copy beside the live database: nothing is lost by looking at an old one.
fn is_copy(known: &StepState) -> bool {
    let side = known.output.as_ref().and_then(|output| output.get("instance")?.get("side"));
    side.is_some_and(|side| !side.is_null())
}

fn judge(step: &StepId, known: &StepState, incident_at: Timestamp) -> Option<LossVerdict> {
    let output = known.output.as_ref()?;
    let loss = ReportedLoss::deserialize(output.get("loss")?).ok()?;
    let time = |values: &Value, key: &str| values.get(key).and_then(|at| Timestamp::deserialize(at).ok());
    let asked = || known.with.as_ref().and_then(|with| time(with, "target_time"));
    let before = || asked().filter(|target| *target < incident_at);
    let told = loss.chosen_target_at.or_else(|| time(output, "chosen_target_at"));
    let chosen = told.map(|target| target.min(incident_at)).or_else(before);
    let reference = chosen.unwrap_or(incident_at);
    let unwanted_ms = match loss.coverage {
        Coverage::ToLastFlushed => 0,
        Coverage::NewestCommit | Coverage::WrittenBeside => {
            millis(between(loss.complete_until.or(loss.newest_commit_at)?, reference))
        }
    };
    Some(LossVerdict {
        unwanted_ms,
        chosen_ms: chosen.map(|target| millis(between(target, incident_at))),
        coverage: loss.coverage,
        step: step.clone(),
        beside: false,
    })
}

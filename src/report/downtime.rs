//! What a run stopped, and nothing of it started again; and what it left in recovery, where nothing can be written.

use serde_json::Value;

use super::phrase::one_line;
use crate::base::StepId;
use crate::base::mode::Mode;
use crate::engine::may_have_run;
use crate::event::Outcome;
use crate::plan::{BoundPlan, PlannedStep, Section};
use crate::state::{RunState, StepState, StepStatus, UndoState};

/// What stops something, what of it that is, and what has it run again.
const STOPS: [(&str, &str, &[&str]); 2] = [
    ("postgres.stop", "the server", &["postgres.start", "postgres.recover", "pgbackrest.restore"]),
    ("service.stop", "what uses the database", &["service.start"]),
];

/// What leaves a server in recovery, and what opens it.
const RECOVERS: &str = "postgres.recover";

/// Something that nobody can use, or may not be able to.
pub(super) struct Down {
    /// The step that left it so.
    step: StepId,
    /// What it is: `the server of `orders``.
    what: String,
    /// How it stands.
    how: How,
}

enum How {
    /// The step has stopped it.
    Stopped,
    /// The step was cut off while it stopped it.
    CutOff,
    /// The step left it in recovery.
    Waits,
}

impl Down {
    /// Says it in a line.
    pub(super) fn words(&self) -> String {
        let Self { step, what, how } = self;
        match how {
            // Who looks at the run later may have started it by hand meanwhile.
            How::Stopped => {
                format!(
                    "DOWN, unless somebody started it since: {what} was stopped by `{step}`, and nothing of this run started it again"
                )
            }
            How::CutOff => format!("MAY BE DOWN: `{step}` was cut off while it stopped {what}"),
            How::Waits => {
                format!(
                    "READ-ONLY: {what} waits in recovery since `{step}`, and nothing of this run opened it; `runbook status` says how to go on"
                )
            }
        }
    }
}

/// Gives what a real run that did not succeed leaves stopped, in the order of the plan.
pub(super) fn left_down(plan: &BoundPlan, state: &RunState) -> Vec<Down> {
    let has_failed = match state.finished.as_ref().map(|(outcome, _, _)| *outcome) {
        Some(Outcome::Failed | Outcome::FailedUnknown | Outcome::Cancelled) => true,
        Some(
            Outcome::Succeeded | Outcome::SucceededWithExceptions | Outcome::ObjectiveMissed | Outcome::Inconclusive,
        )
        | None => false,
    };
    if !has_failed || plan.mode != Mode::Real {
        return Vec::new();
    }
    let stopped = plan.section(Section::Body).filter_map(|step| down((plan, state), step));
    stopped.chain(waiting(plan, state)).collect()
}

/// The server that the last recovery of a run left waiting.
fn waiting(plan: &BoundPlan, state: &RunState) -> Option<Down> {
    let recovered = plan.section(Section::Body).filter(|step| step.uses == RECOVERS).filter_map(|step| {
        let known = state.steps.get(&step.id).filter(|known| known.status == StepStatus::Succeeded)?;
        Some((step, known))
    });
    let (step, known) = recovered.max_by_key(|(_, known)| known.ended_seq)?;
    let waits = known.output.as_ref()?.get("state")?.as_str()? == "paused";
    let subject = subject(known)?;
    (waits && known.undo != Some(UndoState::Undone)).then(|| Down {
        step: step.id.clone(),
        what: format!("the server of `{}`", one_line(subject)),
        how: How::Waits,
    })
}

fn down((plan, state): (&BoundPlan, &RunState), step: &PlannedStep) -> Option<Down> {
    let (_, what, starts) = STOPS.iter().find(|(stop, _, _)| *stop == step.uses)?;
    let known = state.steps.get(&step.id).filter(|known| may_have_run(known))?;
    let is_known = known.status == StepStatus::Succeeded;
    let subject = subject(known)?;
    let is_up = plan.steps.iter().filter(|other| starts.contains(&other.uses.as_str())).any(|other| {
        let other = state.steps.get(&other.id);
        other.is_some_and(|other| {
            let has_ended = other.status == StepStatus::Succeeded && other.ended_seq > known.ended_seq;
            has_ended && self::subject(other) == Some(subject)
        })
    });
    if known.undo == Some(UndoState::Undone) || is_up || (is_known && !has_stopped(known.output.as_ref())) {
        return None;
    }
    let how = if is_known { How::Stopped } else { How::CutOff };
    Some(Down { step: step.id.clone(), what: format!("{what} of `{}`", one_line(subject)), how })
}

/// The database or service that a step is about.
fn subject(known: &StepState) -> Option<&str> {
    let with = known.with.as_ref()?;
    ["database", "services_of", "service"].iter().find_map(|name| with.get(name)?.as_str())
}

/// Whether the outputs of a stop say that something ran before.
fn has_stopped(output: Option<&Value>) -> bool {
    let Some(output) = output else { return true };
    let services = output.get("services").and_then(Value::as_array);
    let of_services = services.map(|all| all.iter().any(|one| one.get("before") != one.get("after")));
    of_services.or(output.get("stopped").and_then(Value::as_bool)).unwrap_or(true)
}

//! What a run stopped, and nothing of it started again; and what it left in recovery, where nothing can be written.

use std::collections::BTreeMap;

use serde_json::Value;

use super::phrase::one_line;
use crate::base::mode::Mode;
use crate::base::{EventSeq, StepId};
use crate::engine::may_have_run;
use crate::event::Outcome;
use crate::plan::{BoundPlan, PlannedStep, Section};
use crate::state::{RunState, StepState, StepStatus, UndoState};

/// What stops a server.
const STOPS_SERVER: &str = "postgres.stop";
/// What stops something, what of it that is, and what has it run again.
const STOPS: [(&str, &str, &[&str]); 2] = [
    (STOPS_SERVER, "the server", &["postgres.start", "postgres.recover", "postgres.promote", "pgbackrest.restore"]),
    ("service.stop", "what uses the database", &["service.start"]),
];

/// What leaves a server in recovery, or opens it.
const RECOVERS: [&str; 2] = ["postgres.recover", "postgres.promote"];

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
    /// It waited in recovery, and the step that was to open it did not come to its end.
    MayBeOpen,
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
                    "READ-ONLY, unless somebody opened it since: {what} waits in recovery since `{step}`, and nothing of this run \
                     opened it; `runbook status` says how to go on"
                )
            }
            How::MayBeOpen => {
                format!(
                    "MAY BE OPEN: {what} waited in recovery, and `{step}`, which was to open it, did not come to its end: it may take \
                     writes on a new timeline; `runbook status` says how it stands"
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
    let stopped = standing(plan, state).into_iter().map(|stop| Down {
        step: stop.step.clone(),
        what: format!("{} of `{}`", stop.what, one_line(stop.subject)),
        how: if stop.is_known { How::Stopped } else { How::CutOff },
    });
    stopped.chain(waiting(plan, state)).collect()
}

/// The servers that the recoveries of a run left waiting, or perhaps open.
fn waiting(plan: &BoundPlan, state: &RunState) -> Vec<Down> {
    let mut left: BTreeMap<&str, Option<Down>> = BTreeMap::new();
    for step in plan.section(Section::Body).filter(|step| RECOVERS.contains(&step.uses.as_str())) {
        let Some(known) = state.steps.get(&step.id).filter(|known| may_have_run(known)) else { continue };
        let Some(subject) = subject(known) else { continue };
        let waited = left.get(subject).is_some_and(Option::is_some);
        let how = match known.status {
            _ if known.undo == Some(UndoState::Undone) => None,
            StepStatus::Succeeded => is_paused(known).then_some(How::Waits),
            // One that failed before it did anything left it as it was, and nobody here can tell.
            _ => waited.then_some(How::MayBeOpen),
        };
        let what = format!("the server of `{}`", one_line(subject));
        left.insert(subject, how.map(|how| Down { step: step.id.clone(), what, how }));
    }
    left.into_values().flatten().collect()
}

/// Whether the outputs of a recovery say that its server waits.
fn is_paused(known: &StepState) -> bool {
    let state = known.output.as_ref().and_then(|output| output.get("state")?.as_str());
    state == Some("paused")
}

/// A step that stopped something, or was cut off while it did, and after which nothing started it again.
struct Stop<'a> {
    step: &'a StepId,
    uses: &'static str,
    what: &'static str,
    subject: &'a str,
    /// Whether the step came to its end.
    is_known: bool,
    at: EventSeq,
}

/// The stops of a run that stand, in the order they were made; of a `for_each`, those of its instances.
fn standing<'a>(plan: &BoundPlan, state: &'a RunState) -> Vec<Stop<'a>> {
    let stops = state.steps.iter().filter_map(|(id, known)| {
        let planned = plan.planned(id).filter(|step| step.section == Section::Body && id.undone().is_none())?;
        let (uses, what, starts) = *STOPS.iter().find(|(stop, _, _)| *stop == planned.uses)?;
        let is_known = known.status == StepStatus::Succeeded;
        let subject = subject(known)?;
        // One that has no end was cut off: nothing of the run came after it.
        let at = if known.status.end().is_some() { known.ended_seq } else { EventSeq(u64::MAX) };
        let has_run = may_have_run(known) || !known.attempts.is_empty();
        let is_up = || {
            state.steps.iter().any(|(id, other)| {
                let is_start = || plan.planned(id).is_some_and(|step| starts.contains(&step.uses.as_str()));
                let has_ended = other.status == StepStatus::Succeeded && other.ended_seq > at;
                has_ended && self::subject(other) == Some(subject) && is_start()
            })
        };
        let stands = has_run
            && known.undo != Some(UndoState::Undone)
            && (!is_known || has_stopped(known.output.as_ref()))
            && !is_up();
        stands.then_some(Stop { step: id, uses, what, subject, is_known, at })
    });
    let mut stops: Vec<_> = stops.collect();
    stops.sort_by_key(|stop| stop.at);
    stops
}

/// Tells whether a run has stopped the server of a database, or may have, and nothing of it started it again.
#[must_use]
pub fn leaves_stopped(plan: &BoundPlan, state: &RunState, database: &str) -> bool {
    standing(plan, state).iter().any(|stop| stop.uses == STOPS_SERVER && stop.subject == database)
}

/// Tells whether a step stops a database's server, or has it run.
#[must_use]
pub fn moves_a_server(step: &PlannedStep) -> bool {
    let of_server = STOPS.iter().find(|(stop, _, _)| *stop == STOPS_SERVER);
    of_server.is_some_and(|(stop, _, starts)| *stop == step.uses || starts.contains(&step.uses.as_str()))
}

/// Tells whether a run has stopped the server of a database, or may have, or has started it. A stop that found nothing
/// running, and a start that failed, left it as an earlier run did.
#[must_use]
pub fn moves_server(plan: &BoundPlan, state: &RunState, database: &str) -> bool {
    state.steps.iter().any(|(id, known)| {
        let Some(step) = plan.planned(id).filter(|step| moves_a_server(step)) else { return false };
        let is_known = known.status == StepStatus::Succeeded;
        let has_moved = match step.uses == STOPS_SERVER {
            true => !is_known || has_stopped(known.output.as_ref()),
            false => is_known,
        };
        has_moved && !known.attempts.is_empty() && subject(known) == Some(database)
    })
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

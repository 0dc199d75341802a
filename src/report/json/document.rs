//! The document.

use std::collections::BTreeMap;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::Serialize;
use serde_json::Value;

use super::step::{StepReport, step};
use super::verdict::{ExceptionReport, VerdictReport, exceptions, verdicts};
use crate::base::mode::Mode;
use crate::base::{Digest, RunId, StepId, Timestamp};
use crate::event::{Actor, Figures, Outcome, RunOrigin};
use crate::plan::BoundPlan;
use crate::report::roster::{Counts, roster, totals};
use crate::report::{mask_value, outcome_sentence};
use crate::state::{Amendment, LockTake, LockWait, OperatorAct, RunState};

/// The version of this document.
const FORMAT: u32 = 1;

/// A run, as far as its journal tells. Durations end in `_ms`; secrets stand as `***name***`.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "Report of a run")]
struct RunReport {
    /// The version of this document.
    format: u32,
    /// The run's id.
    run: RunId,
    /// The runbook's name.
    runbook: String,
    /// What the runbook says of itself.
    description: String,
    /// Who answers for it.
    owner: String,
    /// Evidence tags.
    controls: Vec<String>,
    /// Real, drill or dry run.
    mode: Mode,
    /// The environment's name.
    environment: String,
    /// Whether that environment is protected.
    protected: bool,
    /// Who started it.
    actor: Actor,
    /// When it began.
    started_at: Timestamp,
    /// When it ended; null while it has not.
    ended_at: Option<Timestamp>,
    /// When service was lost, where the runbook says it.
    incident_at: Option<Timestamp>,
    /// How it ended or stands, in one sentence.
    sentence: String,
    /// How it ended; null while it has not.
    outcome: Option<Outcome>,
    /// The code its process ended with.
    exit_code: Option<u8>,
    /// What was measured.
    figures: Option<Figures>,
    /// Each objective with what came of it.
    verdicts: Vec<VerdictReport>,
    /// What makes it less than a plain success, with who did it and why.
    exceptions: Vec<ExceptionReport>,
    /// Values of the parameters.
    params: BTreeMap<String, Value>,
    /// How often another engine took over.
    resumes: u32,
    /// The earlier run that it takes finished steps from, or undoes.
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<RunOrigin>,
    /// How many steps stand where; groups are not counted, their members are.
    counts: Counts,
    /// Who paused it, while it is paused.
    paused: Option<PauseReport>,
    /// Every step in the order of the plan, each group followed by its members.
    steps: Vec<StepReport>,
    /// What operators asked of the live run, done and refused.
    operator_acts: Vec<OperatorAct>,
    /// Plans that replaced the one before.
    amendments: Vec<Amendment>,
    /// Locks that were taken, and those that are waited for.
    locks: LockReport,
    /// What the run created for itself and could not remove.
    left_behind: Vec<LeftBehind>,
    /// Where the evidence is.
    audit: Audit,
}

/// A pause that goes on.
#[derive(Serialize, JsonSchema)]
struct PauseReport {
    /// Who.
    actor: Actor,
    /// Why.
    reason: String,
}

/// Locks.
#[derive(Serialize, JsonSchema)]
struct LockReport {
    /// Taken, in order.
    taken: Vec<LockTake>,
    /// Waited for now.
    awaited: Vec<LockWait>,
}

/// Something that should be gone.
#[derive(Serialize, JsonSchema)]
struct LeftBehind {
    /// Its key.
    resource: String,
    /// The step that made it.
    step: StepId,
}

/// The end of the journal that the report was made of.
#[derive(Serialize, JsonSchema)]
struct Audit {
    /// How many events it has.
    events: u64,
    /// The hash of the last one.
    last_hash: Option<Digest>,
    /// SHA-256 of the plan.
    plan: Option<Digest>,
    /// The program's version.
    version: Option<String>,
}

/// Writes the document, indented, with secrets as `***name***`.
///
/// # Errors
/// Fails when a value cannot be written as JSON.
pub fn render(plan: &BoundPlan, state: &RunState) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(&mask_value(&serde_json::to_value(report(plan, state))?))
}

/// The JSON schema of the document.
#[must_use]
pub fn schema() -> Value {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<RunReport>().to_value()
}

fn report(plan: &BoundPlan, state: &RunState) -> RunReport {
    let entries = roster(plan, state);
    let finished = state.finished.as_ref();
    let left = state.resources.iter();
    RunReport {
        format: FORMAT,
        run: plan.run.clone(),
        runbook: plan.name.clone(),
        description: plan.description.clone(),
        owner: plan.owner.clone(),
        controls: plan.controls.clone(),
        mode: plan.mode,
        environment: plan.environment.clone(),
        protected: plan.protected,
        actor: plan.actor.clone(),
        started_at: state.started_at.unwrap_or(plan.started_at),
        ended_at: finished.and(state.last_at),
        incident_at: plan.incident_at,
        sentence: outcome_sentence(plan, state),
        outcome: finished.map(|(outcome, _, _)| *outcome),
        exit_code: finished.map(|(_, code, _)| *code),
        figures: finished.map(|(_, _, figures)| figures.clone()),
        verdicts: verdicts(plan, state),
        exceptions: exceptions(state),
        params: plan.params.clone(),
        resumes: state.resumes,
        origin: plan.origin.clone(),
        counts: totals(&entries),
        paused: state.paused.clone().map(|(actor, reason)| PauseReport { actor, reason }),
        steps: entries.iter().map(step).collect(),
        operator_acts: state.acts.operators.clone(),
        amendments: state.acts.amendments.clone(),
        locks: LockReport { taken: state.acts.locks.clone(), awaited: state.awaited_locks().cloned().collect() },
        left_behind: left
            .map(|(resource, known)| LeftBehind { resource: resource.clone(), step: known.step.clone() })
            .collect(),
        audit: Audit {
            events: state.last_seq.0,
            last_hash: state.last_hash,
            plan: state.header.as_ref().map(|header| header.plan),
            version: state.header.as_ref().map(|header| header.version.clone()),
        },
    }
}

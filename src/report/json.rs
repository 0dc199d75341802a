//! One JSON document of a run.

use serde::Serialize;
use serde_json::Value;

use super::{mask_value, outcome_sentence};
use crate::base::mode::Mode;
use crate::base::{Digest, RunId, Timestamp};
use crate::event::{Actor, Figures, Outcome, RunOrigin, Verdicts};
use crate::plan::{BoundPlan, Section};
use crate::state::{RunState, StepState};

/// The version of this document.
const FORMAT: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    run: &'a RunId,
    runbook: &'a str,
    description: &'a str,
    owner: &'a str,
    controls: &'a [String],
    mode: Mode,
    environment: &'a str,
    protected: bool,
    actor: &'a Actor,
    started_at: Timestamp,
    ended_at: Option<Timestamp>,
    incident_at: Option<Timestamp>,
    sentence: String,
    outcome: Option<Outcome>,
    exit_code: Option<u8>,
    figures: Option<&'a Figures>,
    verdict: Option<Verdicts>,
    params: Value,
    resumes: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<&'a RunOrigin>,
    left_behind: Vec<&'a str>,
    steps: Vec<Step<'a>>,
    audit: Audit,
}

#[derive(Serialize)]
struct Step<'a> {
    id: &'a str,
    name: &'a str,
    section: Section,
    phase: Option<&'a str>,
    uses: &'a str,
    effects: &'a crate::action::Effects,
    #[serde(flatten)]
    state: StepState,
}

#[derive(Serialize)]
struct Audit {
    events: u64,
    last_hash: Option<Digest>,
    plan: Option<Digest>,
}

/// Writes the document, indented, with secrets as `***name***`.
///
/// # Errors
/// Fails when a value cannot be written as JSON.
pub fn render(plan: &BoundPlan, state: &RunState) -> Result<String, serde_json::Error> {
    let document = Document {
        format: FORMAT,
        run: &plan.run,
        runbook: &plan.name,
        description: &plan.description,
        owner: &plan.owner,
        controls: &plan.controls,
        mode: plan.mode,
        environment: &plan.environment,
        protected: plan.protected,
        actor: &plan.actor,
        started_at: state.started_at.unwrap_or(plan.started_at),
        ended_at: state.finished.is_some().then_some(state.last_at).flatten(),
        incident_at: plan.incident_at,
        sentence: outcome_sentence(plan, state),
        outcome: state.finished.as_ref().map(|(outcome, _, _)| *outcome),
        exit_code: state.finished.as_ref().map(|(_, code, _)| *code),
        figures: state.finished.as_ref().map(|(_, _, figures)| figures),
        verdict: state.finished.as_ref().map(|(_, _, figures)| figures.verdict()),
        params: serde_json::to_value(&plan.params)?,
        resumes: state.resumes,
        origin: plan.origin.as_ref(),
        left_behind: state.resources.keys().map(String::as_str).collect(),
        steps: plan.steps.iter().map(|step| describe(step, state)).collect(),
        audit: Audit {
            events: state.last_seq.0,
            last_hash: state.last_hash,
            plan: state.header.as_ref().map(|header| header.plan),
        },
    };
    serde_json::to_string_pretty(&mask_value(&serde_json::to_value(&document)?))
}

fn describe<'a>(step: &'a crate::plan::PlannedStep, state: &RunState) -> Step<'a> {
    Step {
        id: step.id.as_str(),
        name: &step.name,
        section: step.section,
        phase: step.phase.as_deref(),
        uses: &step.uses,
        effects: &step.effects,
        state: state.steps.get(&step.id).cloned().unwrap_or_default(),
    }
}

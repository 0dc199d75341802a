//! What past runs of a runbook tell about how long its steps take: the one place that forecasts ask.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Failure, wiring};
use crate::base::StepId;
use crate::event::{Event, EventKind};
use crate::language::template::{TextKind, references};
use crate::plan::{BoundPlan, Forecast, History, PlannedStep, Sample, forecast};

/// How many runs are looked at, newest first.
const MOST_RUNS: usize = 200;

/// Forecasts a run. `outputs` are those of steps that were made already, by which the size of others is known.
pub fn forecast_of(plan: &BoundPlan, outputs: &BTreeMap<StepId, Value>) -> Result<Forecast, Failure> {
    Ok(forecast(plan, &from_history(plan)?, &sizes(plan, outputs)))
}

/// Collects how long steps took in past successful runs of the same name.
fn from_history(plan: &BoundPlan) -> Result<History, Failure> {
    let mut history = History::default();
    let Some(runs) = wiring::existing_runs()? else { return Ok(history) };
    for id in runs.ids().map_err(wiring::runs_failure)?.into_iter().take(MOST_RUNS) {
        let dir = runs.dir(&id);
        let Ok(past) = dir.read() else { continue };
        if counts(plan, &past.events) {
            history.runs += 1;
            collect(plan, &past.events, &mut history.samples);
        }
    }
    Ok(history)
}

fn counts(plan: &BoundPlan, events: &[Event]) -> bool {
    let first = events.first().map(|event| &event.kind);
    let last = events.last().map(|event| &event.kind);
    matches!(first, Some(EventKind::RunStarted(header)) if header.name == plan.name)
        && matches!(last, Some(EventKind::RunFinished { exit_code: 0 | 5 | 16, .. }))
}

fn collect(plan: &BoundPlan, events: &[Event], into: &mut BTreeMap<StepId, Vec<Sample>>) {
    let mut outputs = BTreeMap::new();
    let mut took = Vec::new();
    for event in events {
        if let EventKind::StepSucceeded { step, output, elapsed_ms, .. } = &event.kind {
            outputs.insert(step.clone(), output.clone());
            took.push((step.clone(), *elapsed_ms));
        }
    }
    let sizes = sizes(plan, &outputs);
    for (step, elapsed_ms) in took {
        let bytes = sizes.get(&step).copied();
        into.entry(step).or_default().push(Sample { elapsed_ms, bytes });
    }
}

/// How much each step has to do: the `size_bytes` of the steps whose outputs it takes, in every run by the same rule.
fn sizes(plan: &BoundPlan, outputs: &BTreeMap<StepId, Value>) -> BTreeMap<StepId, u64> {
    let size = |step: &PlannedStep| {
        let mut read = Vec::new();
        named(&step.with, &mut read);
        let sizes = read.iter().filter_map(|id| outputs.get(id)?.get("size_bytes")?.as_u64());
        sizes.max().map(|size| (step.id.clone(), size))
    };
    plan.steps.iter().filter_map(size).collect()
}

/// The steps whose outputs stand in a value.
pub fn named(value: &Value, into: &mut Vec<StepId>) {
    match value {
        Value::String(text) => {
            let references = references(text, TextKind::Template).unwrap_or_default();
            let ids = references.into_iter().filter(|r| r.path.first().is_some_and(|root| root == "steps"));
            into.extend(ids.filter_map(|reference| reference.path.get(1)?.parse().ok()));
        }
        Value::Array(items) => items.iter().for_each(|item| named(item, into)),
        Value::Object(members) => members.values().for_each(|member| named(member, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

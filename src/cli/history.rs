//! What past runs of a runbook tell about how long its steps take: the one place that forecasts ask.

use std::collections::BTreeMap;

use serde_json::Value;

use super::runs::index_failure;
use super::{Failure, wiring};
use crate::base::StepId;
use crate::journal::{Index, StepSample, bytes_of};
use crate::language::template::{TextKind, references};
use crate::plan::{BoundPlan, Forecast, History, PlannedStep, Sample, ThisTime, forecast};

/// Forecasts a run. `outputs` are those of steps that were made already, by which the size of others is known; `waits`
/// is how long steps must wait for something archived, in milliseconds, as their checks found.
pub fn forecast_of(
    plan: &BoundPlan,
    outputs: &BTreeMap<StepId, Value>,
    waits: BTreeMap<StepId, u64>,
) -> Result<Forecast, Failure> {
    let moved = outputs.iter().filter_map(|(step, output)| Some((step.clone(), bytes_of(output)?))).collect();
    let now = ThisTime { sizes: sizes(plan, &moved), waits };
    Ok(forecast(plan, &from_history(plan, &moved)?, &now))
}

/// Collects how long steps took in past successful runs of the same name about the same database. What a step had to do is
/// told by the same steps as this time: by those whose outputs are known.
fn from_history(plan: &BoundPlan, known: &BTreeMap<StepId, u64>) -> Result<History, Failure> {
    let mut history = History::default();
    let Some(runs) = wiring::existing_runs()? else { return Ok(history) };
    // A dry run writes nothing, and neither does a look at a plan.
    let index = Index::read(&runs).map_err(index_failure)?;
    let past = index.samples(&plan.name, plan.subject()).map_err(index_failure)?;
    history.runs = past.len();
    for run in past {
        let told = run.iter().filter(|(step, _)| known.contains_key(*step));
        let moved = told.filter_map(|(step, sample)| Some((step.clone(), sample.bytes?))).collect();
        let sizes = sizes(plan, &moved);
        for (step, StepSample { elapsed_ms, .. }) in run {
            let bytes = sizes.get(&step).copied();
            history.samples.entry(step).or_default().push(Sample { elapsed_ms, bytes });
        }
    }
    Ok(history)
}

/// How much each step has to do: what the steps moved whose outputs it takes, in every run by the same rule.
fn sizes(plan: &BoundPlan, moved: &BTreeMap<StepId, u64>) -> BTreeMap<StepId, u64> {
    let size = |step: &PlannedStep| {
        let mut read = Vec::new();
        named(&step.with, &mut read);
        read.iter().filter_map(|id| moved.get(id)).max().map(|size| (step.id.clone(), *size))
    };
    plan.steps.iter().filter_map(size).collect()
}

/// The steps whose outputs stand in a value.
fn named(value: &Value, into: &mut Vec<StepId>) {
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
